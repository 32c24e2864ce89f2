import { permissionsOf } from '../config/roles.ts'
import type { Config } from '../config/types.ts'
import { commandIn } from '../core/command.ts'
import { again, behindOf, type End, endOf, labelOn, type MergeFacts, missingFor, short } from '../core/merge.ts'
import type { Notice } from '../core/notice.ts'
import { oneLine, toCode } from '../core/report/text.ts'
import type { PullRequest } from '../forge/types.ts'
import type { Mirrors } from '../git/mirrors.ts'
import { isLimited } from '../report/failure.ts'
import type { MergeRow, Merges, Runs, TakenMerge } from '../store/types.ts'
import type { Kept, Rule } from './types.ts'

/** Longer than one wish takes: only after a kill does somebody else take it over. */
const LEASE_MS = 60_000
/** The forge has rules of its own; what it refuses is not asked for all the time. */
const REFUSED_DELAY_MS = 30_000
const FIRST_DELAY_MS = 1_000
const LONGEST_DELAY_MS = 60_000
/** A forge that takes no comment for so long will not take one any more. */
const UNTOLD_MS = 24 * 3_600_000
/** Runs of one commit. */
const LOOKED_AT = 50

export interface MergeDeps {
  readonly merges: Merges
  readonly runs: Runs
  readonly mirrors: Mirrors
  readonly people: Config['people']
  readonly clock: () => number
}

type Judged =
  | { readonly kind: 'end'; readonly end: End }
  | { readonly kind: 'wait'; readonly missing: readonly string[] }
  | { readonly kind: 'merge' }

/**
 * What somebody who may write wants merged goes into the candidate branch as soon as the rules hold: by fast-forward, so
 * that what was tested and approved is what is there, commit for commit.
 */
export function createMergeRule({ merges, runs, mirrors, people, clock }: MergeDeps): Rule {
  // ---------------------------------------------------------------- wishes

  async function askedByComment(kept: Kept, notice: Extract<Notice, { kind: 'comment' }>): Promise<string | undefined> {
    const comment = await kept.forge.comments?.get(notice.comment)
    if (comment === undefined || commandIn(comment.body)?.kind !== 'merge') return undefined
    // Those who read it may have read something else.
    if (comment.edited) return `comment ${comment.id} was changed later, and does not count`
    const pull = await kept.forge.pullRequests?.get(comment.pullRequest)
    if (pull === undefined || comment.by === undefined) return undefined
    if (!(await mayWrite(kept.forge, comment.by))) {
      // No wish, which would have another's join it and be lost with it; and one answer, however often it is said.
      const text = endedText(comment, { state: 'ended', why: mayNot(comment.by) })
      await kept.forge.comments?.upsert(pull.number, `merge-no/${comment.by.toLowerCase()}`, text)
      return `${comment.by} may not write here`
    }
    await ask(kept, pull, { key: `comment/${comment.id}`, by: comment.by, channel: 'comment' })
    return undefined
  }

  async function askedByLabel(kept: Kept, pull: PullRequest): Promise<void> {
    const label = labelOn(pull, kept.repository.mergeLabel)
    if (label === undefined || pull.state === 'closed') return
    const labeled = await kept.forge.pullRequests?.labeled(pull.number, label)
    if (labeled === undefined) return
    // The label that is still there after a new head, or after an end, asks for nothing new.
    await ask(kept, pull, { key: `label/${labeled.id}`, by: labeled.by, channel: 'label' })
  }

  const ask = (
    { repository }: Kept,
    { number, head }: PullRequest,
    asked: { key: string; by: string; channel: string },
  ) => merges.ask({ ...asked, repo: repository.name, pullRequest: number, commit: head.commit })

  // ---------------------------------------------------------------- what becomes of one

  /** Undefined: somebody else sees to it. */
  async function pursue(kept: Kept, id: number): Promise<string | undefined> {
    const taken = await merges.take(id, LEASE_MS)
    if (taken === undefined) return undefined
    try {
      return taken.state === 'waiting' ? await advance(kept, taken) : await conclude(kept, taken, endOfRow(taken))
    } catch (err) {
      if (taken.endedAt !== undefined && clock() - taken.endedAt > UNTOLD_MS) await merges.done(taken)
      const delayMs = Math.min(FIRST_DELAY_MS * 2 ** Math.min(taken.tries, 10), LONGEST_DELAY_MS)
      await merges.release(taken, { kind: 'failed', delayMs })
      throw err
    }
  }

  async function advance(kept: Kept, taken: TakenMerge): Promise<string> {
    const { candidate } = kept.repository.branches
    const judged = await judge(kept, taken)
    if (judged.kind === 'end') return conclude(kept, taken, judged.end)
    if (judged.kind === 'wait') return wait(kept, taken, judged.missing, 0)
    const moved = await kept.forge.fastForward(candidate, taken.commit)
    switch (moved.kind) {
      case 'moved':
      case 'already':
        return conclude(kept, taken, { state: 'merged', why: `${candidate} is at ${short(taken.commit)}` })
      case 'refused': {
        const late = moved.at === undefined ? undefined : await behind(kept, taken, moved.at)
        if (late !== undefined) return conclude(kept, taken, late)
        return wait(kept, taken, [`that the forge lets it happen: ${toCode(moved.why)}`], REFUSED_DELAY_MS)
      }
    }
  }

  async function judge(kept: Kept, wish: MergeRow): Promise<Judged> {
    const { repository, forge } = kept
    const { candidate } = repository.branches
    const pull = await forge.pullRequests?.get(wish.pullRequest)
    const end = endOf(wish, pull, { candidate, label: repository.mergeLabel })
    if (pull === undefined || end !== undefined)
      return { kind: 'end', end: end ?? { state: 'ended', why: 'it is gone' } }
    if (!(await mayMerge(kept, wish))) {
      return { kind: 'end', end: { state: 'ended', why: mayNot(wish.by) } }
    }
    const tip = await forge.branchTip(candidate)
    if (tip === undefined) return { kind: 'wait', missing: [`a branch ${toCode(candidate)}`] }
    const late = await behind(kept, wish, tip)
    if (late !== undefined) return { kind: 'end', end: late }
    const missing = missingFor(await factsOf(kept, pull))
    return missing.length === 0 ? { kind: 'merge' } : { kind: 'wait', missing }
  }

  /** Without a rebase, which makes another commit, it can never be merged by fast-forward. */
  async function behind({ repository, forge }: Kept, wish: MergeRow, tip: string): Promise<End | undefined> {
    const { name, branches } = repository
    const distance = await mirrors.distance(name, await forge.source(), wish.commit, tip)
    if (distance.ahead === 0) return { state: 'merged', why: `${branches.candidate} has ${short(wish.commit)}` }
    const late = behindOf(distance.behind, branches.candidate)
    return late === undefined ? undefined : { state: 'ended', why: `${late}: rebase, then ${again(wish)}` }
  }

  async function factsOf({ repository, forge }: Kept, pull: PullRequest): Promise<MergeFacts> {
    const { commit } = pull.head
    const [reviews, move, statuses, checks, known] = await Promise.all([
      forge.pullRequests?.reviews(pull.number),
      // No delivery may have told of it. Of a branch of another repository the forge says nothing here.
      pull.fork ? undefined : forge.lastMove?.(pull.head.branch),
      forge.statuses?.of(commit),
      forge.verdicts?.of(commit),
      runs.list({ repo: repository.name, commit, limit: LOOKED_AT }),
    ])
    const run = known.find(({ trigger, change }) => isOf(pull.number, trigger.kind, change.pullRequest?.number))
    const detail = run && (await runs.get(repository.name, run.number))
    return {
      pull,
      reviews: await Promise.all(
        (reviews ?? []).map(async (review) => ({ ...review, mayWrite: await mayWrite(forge, review.by) })),
      ),
      pushers: [
        ...known.flatMap(({ trigger, change }) =>
          trigger.kind === 'push' && change.pusher !== undefined ? [change.pusher] : [],
        ),
        ...(move?.after === commit && move.by !== undefined ? [move.by] : []),
      ],
      verdicts: [...(statuses ?? []).map(({ context, state }) => ({ name: context, state })), ...(checks ?? [])],
      ...(run === undefined
        ? {}
        : {
            run: {
              number: run.number,
              status: run.status,
              stages: (detail?.plan?.stages ?? []).map(({ name }) => name),
            },
          }),
    }
  }

  /** Asked at the moment of merging: who has left since merges nothing. */
  async function mayMerge({ repository, forge }: Kept, { by, channel }: MergeRow): Promise<boolean> {
    if (channel !== 'api' && channel !== 'cli') return mayWrite(forge, by)
    const person = Object.hasOwn(people, by) ? people[by] : undefined
    if (person === undefined) return false
    const login = person[repository.forge.kind]
    if (login !== undefined) return mayWrite(forge, login)
    // No account at the forge that could be asked: then only who may overrule the rules.
    return permissionsOf(person.roles).has('override')
  }

  // ---------------------------------------------------------------- what is said

  async function wait(kept: Kept, taken: TakenMerge, missing: readonly string[], delayMs: number): Promise<string> {
    await say(kept, taken, '', waitingText(taken, kept.repository.branches.candidate, missing))
    await merges.release(taken, { kind: 'waits', delayMs })
    return `the merge of pull request ${taken.pullRequest} waits for ${missing.join('; ')}`
  }

  /** First recorded, then said: whoever is killed between the two leaves it to the next to say it. */
  async function conclude(kept: Kept, taken: TakenMerge, end: End): Promise<string> {
    await merges.end(taken, end.state === 'merged' ? 'merged' : 'ended', end.why)
    if (end.state === 'merged') await say(kept, taken, '', mergedText(taken, end))
    // A comment of its own: of a change to an old one nobody is told.
    else await say(kept, taken, taken.told === undefined ? '' : '-end', endedText(taken, end))
    await merges.done(taken)
    return `pull request ${taken.pullRequest} is ${end.state === 'merged' ? 'merged' : 'not merged'}: ${end.why}`
  }

  async function say({ forge }: Kept, taken: TakenMerge, part: string, text: string): Promise<void> {
    if (taken.told === text) return
    await forge.comments?.upsert(taken.pullRequest, `merge-${taken.id}${part}`, text)
    if (part === '') await merges.told(taken, text)
  }

  // ---------------------------------------------------------------- when

  async function pursueAll(kept: Kept, pullRequest?: number): Promise<string | undefined> {
    const said: string[] = []
    const failures: unknown[] = []
    for (const { id } of await merges.open(kept.repository.name, pullRequest)) {
      try {
        const what = await pursue(kept, id)
        if (what !== undefined) said.push(what)
      } catch (err) {
        if (isLimited(err)) throw err
        failures.push(err)
      }
    }
    if (failures.length === 1) throw failures[0]
    if (failures.length > 1) throw new AggregateError(failures, `${failures.length} merges could not be looked after`)
    return said.join('; ') || undefined
  }

  return {
    name: 'merge',
    async attend(kept, notice) {
      if (kept.forge.pullRequests === undefined) return undefined
      switch (notice.kind) {
        case 'comment':
          return (await askedByComment(kept, notice)) ?? pursueAll(kept, notice.pullRequest)
        case 'pull_request': {
          const pull = await kept.forge.pullRequests.get(notice.number)
          if (pull !== undefined) await askedByLabel(kept, pull)
          return pursueAll(kept, notice.number)
        }
        case 'review':
          return pursueAll(kept, notice.pullRequest)
        case 'branch':
          return notice.ref === `refs/heads/${kept.repository.branches.candidate}` ? pursueAll(kept) : undefined
        default:
          return undefined
      }
    },
    async review(kept) {
      const { pullRequests } = kept.forge
      const { mergeLabel, branches } = kept.repository
      if (pullRequests === undefined) return
      if (mergeLabel !== undefined) {
        for (const pull of await pullRequests.open({ base: branches.candidate })) await askedByLabel(kept, pull)
      }
      await pursueAll(kept)
    },
  }
}

async function mayWrite(forge: Kept['forge'], login: string): Promise<boolean> {
  const access = await forge.people?.access(login)
  return access === 'write' || access === 'admin'
}

function isOf(number: number, kind: string, of: number | undefined): boolean {
  return kind === 'pull_request' && of === number
}

function endOfRow({ state, why = '' }: MergeRow): End {
  return { state: state === 'merged' ? 'merged' : 'ended', why }
}

function waitingText(wish: MergeRow, candidate: string, missing: readonly string[]): string {
  return [
    `⏳ **Merge** of ${short(wish.commit)} into ${toCode(candidate)}, asked for by ${toCode(wish.by)}. Still missing:`,
    '',
    ...missing.map((one) => `- ${oneLine(one)}`),
    '',
    `It is merged by fast-forward as soon as all is there. A new commit voids this; then ${again(wish)}.`,
  ].join('\n')
}

function mergedText(wish: MergeRow, { why }: End): string {
  return `✅ **Merged**, as ${toCode(wish.by)} asked: ${why}.`
}

function endedText({ by = '?' }: { readonly by?: string }, { why }: End): string {
  return `❌ **Not merged**, as ${toCode(by)} had asked: ${why}.`
}

function mayNot(login: string): string {
  return `${toCode(login)} may not write to this repository`
}
