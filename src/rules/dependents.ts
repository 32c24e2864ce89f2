import { createHash } from 'node:crypto'
import type { Logger } from 'pino'
import type { RepositoryConfig } from '../config/types.ts'
import { type Admitted, admit, factsOfRun } from '../core/admission.ts'
import { type Trigger, type Upstream, upstreamRef } from '../core/change.ts'
import type { RunEvent } from '../core/events.ts'
import { isOutcome } from '../core/outcome.ts'
import { isStageDone } from '../core/progress.ts'
import { dependentContext } from '../core/report/project.ts'
import { PENSTOCK } from '../core/superseded.ts'
import type { Forge } from '../forge/types.ts'
import { type Mirrors, NotAFile } from '../git/mirrors.ts'
import { parseSpec, SPEC_FILE } from '../spec/parse.ts'
import type { Spec } from '../spec/spec.ts'
import type { RunDetail, RunRow, Store } from '../store/types.ts'
import type { Kept, Rule } from './types.ts'

type Follows = Spec['follows']
type Dependents = Extract<RunEvent, { type: 'dependents.started.v1' }>['dependents']

/** Of a branch's runs, newest first: an older candidate that has ended has long started what it would. */
const LOOKED_AT = 20
/** However many newer ones wait behind it, a candidate that is open may still come to stand. */
const OPEN_LOOKED_AT = 1_000
/** A candidate without a gate may have ended before it was seen. */
const RECENT_MS = 10 * 60_000
const OPEN = ['queued', 'running', 'waiting'] as const

export interface DependentsDeps {
  readonly store: Pick<Store, 'runs' | 'events' | 'deliveries'>
  readonly repositories: Readonly<Record<string, RepositoryConfig>>
  readonly forges: (repository: RepositoryConfig) => Forge
  readonly mirrors: Mirrors
  readonly clock: () => number
  readonly log: Logger
}

/**
 * Each candidate starts a run of the released tip of every repository whose released spec follows its branch, once it
 * stands where they can reach it. What becomes of the candidate flows down to them.
 */
export function createDependentsRule(deps: DependentsDeps): Rule {
  const { store, forges, mirrors, clock, log } = deps
  const repositories = Object.values(deps.repositories)
  /** By repository and commit: a commit's spec does not change. */
  const known = new Map<string, Follows>()
  /** Tries of candidates whose dependents have been started: not looked at again by this process. */
  const started = new Set<string>()

  async function review(kept: Kept): Promise<void> {
    await startDependents(kept)
    await followUpstreams(kept.repository)
  }

  // ------------------------------------------------------------------ from the candidate down

  async function startDependents(kept: Kept): Promise<void> {
    const { name: repo, branches } = kept.repository
    if (repositories.length < 2) return
    const ref = `refs/heads/${branches.candidate}`
    const lists = OPEN.map((status) => store.runs.list({ repo, ref, status, limit: OPEN_LOOKED_AT }))
    const runs = await Promise.all([store.runs.list({ repo, ref, limit: LOOKED_AT }), ...lists])
    for (const run of new Map(runs.flat().map((one) => [one.id, one])).values()) {
      const attempt = `${run.id}/${run.try}`
      if (started.has(attempt) || !mayStart(run)) continue
      const detail = await store.runs.get(repo, run.number)
      if (detail === undefined || !stands(detail)) continue
      const events = await store.events.of(run.id)
      const [known] = events.flatMap(({ event }) => (event.type === 'dependents.started.v1' ? [event] : []))
      if (known === undefined) await start(kept, detail)
      else await resume(run, known.dependents)
      started.add(attempt)
    }
  }

  function mayStart({ status, finishedAt = 0 }: RunRow): boolean {
    return !isOutcome(status) || (status === 'succeeded' && clock() - finishedAt < RECENT_MS)
  }

  async function start(kept: Kept, run: RunDetail): Promise<void> {
    const { repository, forge } = kept
    const { blocking, most } = repository.dependents
    const followers = await followersOf(repository)
    const first = (one: Follower) => (blocking.includes(one.repository.name) ? 0 : 1)
    followers.sort((a, b) => first(a) - first(b) || (a.repository.name < b.repository.name ? -1 : 1))
    const dependents: Dependents[number][] = []
    let runs = 0
    for (const one of followers) {
      const { name } = one.repository
      let refused = one.refused
      if (refused === undefined && runs >= most) refused = `a candidate of ${repository.name} may start ${most} runs`
      if (refused !== undefined || one.tip === undefined) {
        dependents.push({ repo: name, refused: refused ?? 'nothing is released' })
        await forge.statuses?.set({
          commit: run.change.commit,
          context: dependentContext(name),
          state: 'error',
          description: `not started: ${refused ?? 'nothing is released'}`,
        })
        continue
      }
      runs++
      const admission = admit('dependent', factsOfRun(run))
      if (admission.kind === 'refused') throw new Error(`${run.id}: ${admission.sentence}`)
      const upstream = upstreamOf(repository, run)
      dependents.push({ repo: name, run: await startOne(one.repository, one.tip, upstream, admission) })
    }
    await store.events.append(run.id, 'dependents/started', [{ type: 'dependents.started.v1', dependents }])
    if (dependents.length > 0) log.info({ run: run.id, dependents }, 'dependents of a candidate were started')
  }

  /** A candidate that is tried again has those back that went down with its earlier try; what they came to stands. */
  async function resume(upstream: RunRow, dependents: Dependents): Promise<void> {
    for (const { repo, run: number } of dependents) {
      const run = number === undefined ? undefined : await store.runs.get(repo, number)
      if (run?.status !== 'canceled' || run.cancel?.by !== PENSTOCK) continue
      if (run.cancel.reason.startsWith(wentDown(upstream.id))) await store.runs.retry(run.id, run.try, upstream.id)
    }
  }

  async function startOne(
    dependent: RepositoryConfig,
    tip: string,
    upstream: Upstream,
    admission: Admitted,
  ): Promise<number> {
    const trigger: Trigger = {
      kind: 'upstream',
      repo: dependent.name,
      requestedBy: upstream.run,
      change: {
        commit: tip,
        ref: upstreamRef(upstream.run),
        title: `${upstream.run} at ${upstream.commit.slice(0, 12)}`,
        upstream,
      },
    }
    const id = `${upstream.run}/${dependent.name}`
    const bodyDigest = createHash('sha256').update(id).digest('hex')
    const delivery = { source: 'upstream', id, event: 'upstream', bodyDigest }
    const recorded = await store.deliveries.record(delivery, trigger, admission)
    if (recorded.kind !== 'run' && recorded.kind !== 'duplicate') throw new Error(`${id} was ${recorded.kind}`)
    if (recorded.run === undefined) throw new Error(`${id} has no run`)
    return recorded.run.number
  }

  // ------------------------------------------------------------------ who follows whom

  interface Follower {
    readonly repository: RepositoryConfig
    readonly tip?: string
    readonly refused?: string
  }

  /** A repository that blocks and cannot be asked holds everything up; of any other it is only said. */
  async function followersOf(upstream: RepositoryConfig): Promise<Follower[]> {
    const released = new Map<string, Released>()
    const followers: Follower[] = []
    for (const repository of repositories) {
      const mustAnswer = repository === upstream || upstream.dependents.blocking.includes(repository.name)
      try {
        released.set(repository.name, await releasedOf(repository))
      } catch (err) {
        if (mustAnswer && repository !== upstream) throw err
        log.warn({ err, repo: repository.name }, 'whom a repository follows cannot be read')
      }
    }
    for (const repository of repositories) {
      const { tip, follows = [] } = released.get(repository.name) ?? {}
      if (repository === upstream || !follows.some((one) => isMeant(one, upstream))) continue
      const cycle = pathBetween(upstream.name, repository.name, released)
      if (cycle !== undefined) {
        const refused = `a cycle: ${[repository.name, ...cycle].join(' follows ')}`
        followers.push({ repository, refused })
      } else followers.push({ repository, ...(tip === undefined ? {} : { tip }) })
    }
    return followers
  }

  interface Released {
    readonly tip?: string
    readonly follows?: Follows
  }

  async function releasedOf(repository: RepositoryConfig): Promise<Released> {
    const forge = forges(repository)
    const tip = await forge.branchTip(repository.branches.production)
    if (tip === undefined) return {}
    const key = `${repository.name}@${tip}`
    const follows = known.get(key) ?? (await readFollows(repository, forge, tip))
    known.set(key, follows)
    return { tip, follows }
  }

  async function readFollows({ name }: RepositoryConfig, forge: Forge, tip: string): Promise<Follows> {
    await mirrors.ensure(name, await forge.source(), tip)
    try {
      const spec = parseSpec(await mirrors.readFile(name, tip, SPEC_FILE), SPEC_FILE)
      return spec.kind === 'ok' ? spec.spec.follows : []
    } catch (err) {
      if (err instanceof NotAFile) return []
      throw err
    }
  }

  // ------------------------------------------------------------------ from the dependent up

  /** What becomes of a candidate becomes of the runs that test against it. */
  async function followUpstreams({ name: repo }: RepositoryConfig): Promise<void> {
    for (const status of OPEN) {
      for (const run of await store.runs.list({ repo, status, limit: 200 })) {
        const { upstream } = run.change
        if (upstream === undefined) continue
        const why = await endOf(run, upstream)
        if (why !== undefined) await store.runs.requestCancel(run.id, PENSTOCK, why)
      }
    }
  }

  async function endOf(run: RunRow, upstream: Upstream): Promise<string | undefined> {
    const limit = deps.repositories[upstream.repo]?.dependents.timeoutMs
    if (limit !== undefined && clock() - run.createdAt > limit)
      return `it took longer than the ${Math.round(limit / 60_000)} min that ${upstream.repo} gives its dependents`
    const number = Number(upstream.run.slice(upstream.run.lastIndexOf('#') + 1))
    const candidate = await store.runs.get(upstream.repo, number)
    if (candidate === undefined || !isOutcome(candidate.status) || candidate.status === 'succeeded') return undefined
    return `${wentDown(upstream.run)}${candidate.status}${candidate.reason ? `: ${candidate.reason}` : ''}`.slice(
      0,
      500,
    )
  }

  return { name: 'dependents', review }
}

/** Built and, where there is a place to try it, deployed there: what follows it can reach it. */
function stands({ plan, progress }: RunDetail): boolean {
  if (plan === undefined) return false
  const end = plan.stages.findIndex(({ kind, name }) => kind === 'gate' || name === 'e2e')
  const before = end === -1 ? plan.stages : plan.stages.slice(0, end)
  return before.every((stage) => isStageDone(progress, stage))
}

function wentDown(upstream: string): string {
  return `${upstream} was `
}

function upstreamOf(repository: RepositoryConfig, { id, change, plan, progress }: RunDetail): Upstream {
  const deployed = plan?.stages.find((stage) => stage.kind === 'deploy')
  const url = deployed?.kind === 'deploy' ? repository.environments[deployed.environment]?.url : undefined
  return {
    repo: repository.name,
    run: id,
    commit: change.commit,
    ...(url === undefined ? {} : { url }),
    deliverables: progress.deliverables.map(({ name, reference }) => ({ name, reference })),
  }
}

function isMeant({ repo, branch }: Follows[number], upstream: RepositoryConfig): boolean {
  const isBranch = branch === undefined || branch === upstream.branches.candidate
  return isBranch && repo.toLowerCase() === upstream.name.toLowerCase()
}

/** Along who follows whom, from one to the other; undefined: there is no way. */
function pathBetween(
  from: string,
  to: string,
  released: ReadonlyMap<string, { readonly follows?: Follows }>,
): readonly string[] | undefined {
  const ways: (readonly string[])[] = [[from]]
  const seen = new Set([from])
  for (const way of ways) {
    const last = way.at(-1) ?? from
    if (last === to) return way
    for (const { repo } of released.get(last)?.follows ?? []) {
      const next = [...released.keys()].find((one) => one.toLowerCase() === repo.toLowerCase())
      if (next === undefined || seen.has(next)) continue
      seen.add(next)
      ways.push([...way, next])
    }
  }
  return undefined
}
