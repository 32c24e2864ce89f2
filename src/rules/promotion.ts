import { createHash } from 'node:crypto'
import type { Logger } from 'pino'
import type { Ballots } from '../approval/ballots.ts'
import type { RepositoryConfig } from '../config/types.ts'
import { dependentsOf } from '../core/dependents.ts'
import { parseRunId, promotionBranch } from '../core/ids.ts'
import { isOutcome } from '../core/outcome.ts'
import { type Promotion, promotionText } from '../core/promotion.ts'
import { toCode } from '../core/report/text.ts'
import type { Branches, PullRequest, PullRequests } from '../forge/types.ts'
import type { Difference, Mirrors } from '../git/mirrors.ts'
import { isLimited } from '../report/failure.ts'
import type { GateRow, PromotionRow, RunDetail, Store } from '../store/types.ts'
import { createPromotionVotes } from './promotion-votes.ts'
import type { Kept, Rule } from './types.ts'

export interface PromotionDeps {
  readonly store: Pick<Store, 'events' | 'gates' | 'runs' | 'promotions' | 'results'>
  readonly ballots: Ballots
  readonly mirrors: Pick<Mirrors, 'ensure' | 'between'>
  /** The person of the operator's file with this login at the repository's forge. */
  readonly personOf: (login: string, repository: Kept['repository']) => string | undefined
  /** Takes a repository's secrets out of what is told. */
  readonly mask: (repo: string, text: string) => string
  /** Where a run is shown. */
  readonly urlOf: (run: number) => string
  readonly clock: () => number
  readonly log: Logger
}

/** More than the text shows. */
const COMMITS_READ = 51
/** A forge sees by itself, and soon, that what a pull request asked for is there. */
const MERGE_SEEN_MS = 60_000

/** A kept repository at a forge that has branches and pull requests. */
interface At extends Kept {
  readonly branches: Branches
  readonly pulls: PullRequests
}

/**
 * For each open gate before a promotion there is a pull request from a branch of its own, at exactly the commit, into the
 * branch of production; and none where the gate has ended. What people say there is taken as their vote.
 */
export function createPromotionRule(deps: PromotionDeps): Rule {
  const { promotions, gates, runs, results, events } = deps.store
  const votes = createPromotionVotes(deps)
  const known = new Map<string, { readonly between: string; readonly changes: Difference }>()

  async function keep(kept: Kept): Promise<void> {
    const { branches, pullRequests: pulls } = kept.forge
    if (branches === undefined || pulls === undefined) return
    const at = { ...kept, branches, pulls }
    const repo = kept.repository.name
    const waiting = (await gates.waiting()).filter(({ run }) => parseRunId(run)?.repo === repo)
    const isOpen = new Set(waiting.map(({ id }) => id))
    const failures: unknown[] = []
    const tried = async (act: () => Promise<void>) =>
      act().catch((err: unknown) => {
        if (isLimited(err)) throw err
        failures.push(err)
      })
    // First what has ended: a run that comes to its gate again has the same branch.
    for (const row of await promotions.unended(repo)) if (!isOpen.has(row.gate)) await tried(() => end(at, row))
    const rows = await promotions.unended(repo)
    for (const gate of waiting) {
      const row = rows.find((one) => one.gate === gate.id)
      const branch = promotionBranch(parseRunId(gate.run)?.number ?? 0)
      if (rows.some((one) => one !== row && one.branch === branch)) continue
      await tried(() => show(at, gate, row))
    }
    if (failures.length > 0) throw new AggregateError(failures, `promotions of ${repo} could not be looked after`)
  }

  // ------------------------------------------------------------------ while the gate is open

  async function show(at: At, gate: GateRow, row: PromotionRow | undefined): Promise<void> {
    const { forge, pulls, repository } = at
    const run = await runOf(gate)
    const base = run && baseOf(run)
    if (run === undefined || base === undefined) return
    const { commit } = gate.subject
    const tip = await forge.branchTip(base)
    // A pull request needs a branch to go to, and something that is new there.
    if (tip === undefined) return
    const changes = await changesOf(at, gate, tip)
    if (changes.count === 0) return
    const text = textOf(await told(at, run, gate, base, changes))
    const pull = row?.pull === undefined ? undefined : await pulls.get(row.pull)
    const branch = promotionBranch(run.number)
    const isThere = (await forge.branchTip(branch)) === commit
    const isRight = pull?.state === 'open' && pull.head.commit === commit && pull.base.branch === base
    let number = pull?.number
    if (!isThere || !isRight || row?.written !== text.digest) {
      // Before anything is made: whoever comes after a kill finds what is to be removed.
      await promotions.begin({ gate: gate.id, repo: repository.name, branch, base })
      if (!isThere) await makeBranch(at, branch, commit)
      if (pull?.state === 'open' && pull.base.branch !== base) await pulls.close(pull.number)
      number = (await pulls.put({ head: branch, base, title: text.title, body: text.body })).number
      await promotions.wrote(gate.id, number, text.digest)
    }
    if (number !== undefined) await votes.reviews(at, gate, number)
  }

  /** The branch is Penstock's: what somebody else has put there was not what the gate is about. */
  async function makeBranch({ branches, repository }: At, branch: string, commit: string): Promise<void> {
    const made = await branches.create(branch, commit)
    if (made.kind !== 'taken') return
    deps.log.warn({ repo: repository.name, branch, at: made.at }, 'a branch of a promotion was moved; it is put back')
    await branches.remove(branch)
    await branches.create(branch, commit)
  }

  async function changesOf({ forge, repository }: Kept, gate: GateRow, tip: string): Promise<Difference> {
    const { commit } = gate.subject
    const between = `${tip}..${commit}`
    const before = known.get(gate.id)
    if (before?.between === between) return before.changes
    const source = await forge.source()
    await deps.mirrors.ensure(repository.name, source, tip)
    await deps.mirrors.ensure(repository.name, source, commit)
    const changes = await deps.mirrors.between(repository.name, tip, commit, COMMITS_READ)
    known.set(gate.id, { between, changes })
    return changes
  }

  async function told(
    { repository }: Kept,
    run: RunDetail,
    gate: GateRow,
    base: string,
    changes: Difference,
  ): Promise<Promotion> {
    const mask = (text: string) => deps.mask(run.repo, text)
    return {
      run: { number: run.number, url: deps.urlOf(run.number) },
      commit: gate.subject.commit,
      base,
      environment: gate.environment,
      gate: {
        ...gate,
        votes: gate.votes.map(({ comment, ...vote }) => ({
          ...vote,
          ...(comment === undefined ? {} : { comment: mask(comment) }),
        })),
      },
      changes: {
        ...changes,
        commits: changes.commits.map((one) => ({ ...one, title: mask(one.title), author: mask(one.author) })),
      },
      tests: await testsOf(run),
      deliverables: run.progress.deliverables,
      dependents: await dependentsNow(run, repository),
    }
  }

  async function dependentsNow({ id }: RunDetail, { name, dependents }: RepositoryConfig) {
    const happened = (await events.of(id)).map(({ event }) => event)
    return Promise.all(
      dependentsOf(happened, { name, blocking: dependents.blocking }).map(async (dependent) => {
        const run = dependent.run === undefined ? undefined : await runs.get(dependent.repo, dependent.run)
        return run === undefined ? dependent : { ...dependent, status: run.status, url: deps.urlOf(run.number) }
      }),
    )
  }

  async function testsOf({ id, progress }: RunDetail): Promise<Promotion['tests']> {
    const stages = new Map<string, { passed: number; failed: number; skipped: number }>()
    for (const { stage, job, attempt, result } of await results.ofRun(id)) {
      if (progress.stages[stage]?.jobs[job]?.attempt !== attempt) continue
      const counts = stages.get(stage) ?? { passed: 0, failed: 0, skipped: 0 }
      stages.set(stage, counts)
      counts[result === 'errored' ? 'failed' : result] += 1
    }
    return [...stages].map(([stage, counts]) => ({ stage, ...counts }))
  }

  // ------------------------------------------------------------------ when it has ended

  async function end(at: At, row: PromotionRow): Promise<void> {
    const { forge, branches, pulls } = at
    const gate = await gateOf(row)
    const run = gate && (await runOf(gate))
    const how = gate && run && howItEnded(gate, run)
    const pull = row.pull === undefined ? undefined : await pulls.get(row.pull)
    if (gate !== undefined && run !== undefined && how !== undefined) {
      if (pull?.state === 'open') await say(at, row, pull, run, gate, how.text)
      if (how.kind === 'under way') return
      if (pull?.state === 'open' && how.kind === 'promoted' && deps.clock() - how.at < MERGE_SEEN_MS) return
    }
    // Also one whose number was never recorded, and one that was opened again.
    for (const { number, head, fork } of await pulls.open()) {
      if (head.branch === row.branch && !fork) await pulls.close(number)
    }
    if ((await forge.branchTip(row.branch)) !== undefined) await branches.remove(row.branch)
    known.delete(row.gate)
    await promotions.end(row)
  }

  /** The last words of a pull request that is still open. */
  async function say(at: At, row: PromotionRow, pull: PullRequest, run: RunDetail, gate: GateRow, end: string) {
    const changes = known.get(gate.id)?.changes ?? (await changesOf(at, gate, pull.base.commit))
    const text = textOf({ ...(await told(at, run, gate, row.base, changes)), end })
    if (row.written === text.digest || pull.base.branch !== row.base) return
    const { number } = await at.pulls.put({ head: row.branch, base: row.base, title: text.title, body: text.body })
    await promotions.wrote(row.gate, number, text.digest)
  }

  async function gateOf({ gate }: PromotionRow): Promise<GateRow | undefined> {
    // `<run>/<name>/<version>`
    const run = gate.split('/').slice(0, -2).join('/')
    return (await gates.ofRun(run)).find(({ id }) => id === gate)
  }

  async function runOf({ run }: GateRow): Promise<RunDetail | undefined> {
    const id = parseRunId(run)
    return id && runs.get(id.repo, id.number)
  }

  return {
    name: 'promotion',
    async attend(kept, notice) {
      if (notice.kind !== 'comment' && notice.kind !== 'review' && notice.kind !== 'pull_request') return undefined
      const number = notice.kind === 'pull_request' ? notice.number : notice.pullRequest
      const row = await promotions.ofPull(kept.repository.name, number)
      if (row === undefined) return undefined
      if (notice.kind === 'comment') {
        const gate = await gateOf(row)
        return gate && votes.comment(kept, gate, notice)
      }
      await keep(kept)
      return `the promotion of ${row.gate} was looked at`
    },
    review: keep,
  }
}

type Ending =
  | { readonly kind: 'under way' | 'ended'; readonly text: string }
  | { readonly kind: 'promoted'; readonly text: string; readonly at: number }

function howItEnded(gate: GateRow, run: RunDetail): Ending {
  const counted = gate.votes.filter((one) => one.counts)
  const ended = (text: string): Ending => ({ kind: 'ended', text })
  switch (gate.state) {
    case 'rejected': {
      const by = counted.find((one) => one.answer === 'reject')
      return ended(`Rejected by ${toCode(by?.by ?? '?')}. Nothing is released.`)
    }
    case 'expired':
      return ended('The sign-off has expired. Nothing is released.')
    case 'voided':
      return ended('What was to be released has changed; this sign-off is void.')
    case 'open':
      return ended(`Run ${run.number} has ended (${run.status}) before the sign-off. Nothing is released.`)
    case 'approved': {
      const promotion = run.plan?.stages.find(({ kind }) => kind === 'promote')
      const stage = run.attempts.findLast((one) => one.stage === promotion?.name && one.job === undefined)
      const by = [...new Set(counted.map((one) => toCode(one.by)))].join(', ')
      if (stage?.outcome === 'succeeded') {
        return { kind: 'promoted', text: `Approved by ${by}, and released.`, at: stage.finishedAt ?? 0 }
      }
      if (!isOutcome(run.status)) return { kind: 'under way', text: `Approved by ${by}; the branch is being moved.` }
      return ended(`Approved by ${by}, but run ${run.number} has ${run.status}: nothing is released.`)
    }
  }
}

function baseOf({ plan }: RunDetail): string | undefined {
  const stage = plan?.stages.find(({ kind }) => kind === 'promote')
  return stage?.kind === 'promote' ? stage.branch : undefined
}

function textOf(promotion: Promotion) {
  const { title, body } = promotionText(promotion)
  return { title, body, digest: createHash('sha256').update(`${title}\n${body}`).digest('hex') }
}
