import { createHash } from 'node:crypto'
import type { Logger } from 'pino'
import { admit, ON_A_BRANCH } from '../core/admission.ts'
import type { Trigger } from '../core/change.ts'
import { branchName } from '../core/change.ts'
import { isPromotionBranch } from '../core/ids.ts'
import type { Forge, Move } from '../forge/types.ts'
import { isLimited } from '../report/failure.ts'
import type { Deliveries, KnownBranch, NewDelivery, PullHead, Sight, Sightings } from '../store/types.ts'
import { createPace } from './pace.ts'
import type { Kept, Rule } from './types.ts'

interface Deps {
  readonly deliveries: Deliveries
  readonly sightings: Sightings
  readonly clock: () => number
  readonly log: Logger
}

const EVERY_MS = 60_000
/** GitHub sends nothing again that is older. */
const SENT_AGAIN_MS = 3 * 24 * 3_600_000
/** For clocks that differ, and for a delivery whose answer the forge still waits for. */
const OVERLAP_MS = 10 * 60_000
/** A delivery that fails again and again is asked for less and less often. */
const LONGEST_DELAY_MS = 3_600_000
/** What a delivery tells better (who pushed, from where) is left to it for so long. */
const ON_ITS_WAY_MS = 45_000
/** Branches on which GitHub's merge queue makes its commits: it asks for these itself. */
const MERGE_QUEUE = 'refs/heads/gh-readonly-queue/'

/** Has the forge send again what did not arrive, whatever it was. */
export function createLostDeliveryRule({ clock, log }: Pick<Deps, 'clock' | 'log'>): Rule {
  const pace = createPace({ everyMs: EVERY_MS, clock })
  const lookedSince = new Map<string, number>()
  /** By repository, and by the id that a delivery shares with its repetitions. */
  const asked = new Map<string, Map<string, { readonly tries: number; readonly due: number }>>()

  async function look({ repository: { name: repo }, forge }: Kept): Promise<void> {
    if (forge.deliveries === undefined) return
    const began = clock()
    const lost = await forge.deliveries.list(lookedSince.get(repo) ?? began - SENT_AGAIN_MS)
    // Refused for what it is: the same bytes will be refused again.
    const worth = lost.filter(({ answer }) => answer < 400 || answer >= 500 || answer === 408 || answer === 429)
    const before = asked.get(repo)
    const now = new Map<string, { readonly tries: number; readonly due: number }>()
    asked.set(repo, now)
    const failures: unknown[] = []
    for (const { id, guid, event, answer } of worth) {
      const { tries = 0, due = 0 } = before?.get(guid) ?? {}
      if (began < due) {
        now.set(guid, { tries, due })
        continue
      }
      now.set(guid, { tries: tries + 1, due: began + Math.min(EVERY_MS * 2 ** tries, LONGEST_DELAY_MS) })
      try {
        await forge.deliveries.redeliver(id)
        log.warn({ repo, delivery: guid, event, answer, tries }, 'a delivery that did not arrive is asked for again')
      } catch (err) {
        if (isLimited(err)) throw err
        failures.push(err)
      }
    }
    // As long as one of them has not arrived, it is looked for.
    lookedSince.set(repo, Math.min(began - OVERLAP_MS, ...worth.map(({ at }) => at)))
    if (failures.length > 0) throw new AggregateError(failures, `${failures.length} deliveries could not be asked for`)
  }

  return { name: 'lost deliveries', review: (kept) => pace(kept.repository.name, () => look(kept)) }
}

/**
 * Makes good the pushes and deletions that nobody told of. At the first sight of a repository nothing is made good: what
 * is there is taken as seen. Only a branch's newest commit counts; what it has passed meanwhile is gone by.
 */
export function createUntoldBranchRule({ deliveries, sightings, clock, log }: Deps): Rule {
  const pace = createPace({ everyMs: EVERY_MS, clock })
  /** Since when something is seen at the forge that no delivery has told of, by repository, ref and commit. */
  const noticed = new Map<string, Map<string, number>>()

  async function look({ repository: { name: repo }, forge }: Kept): Promise<void> {
    if (forge.branchHeads === undefined) return
    // Before the forge is asked: what is told while it answers makes its answer an old one.
    const known = await sightings.of(repo)
    const heads = (await forge.branchHeads()).map(({ branch, commit }) => ({ ref: `refs/heads/${branch}`, commit }))
    if (known === undefined) {
      const pulls = (await forge.pullRequests?.open()) ?? []
      const ofPulls = pulls.map(({ number, head }) => ({ ref: `refs/pull/${number}/head`, commit: head.commit }))
      await sightings.begin(repo, [...heads, ...ofPulls])
      log.info({ repo, branches: heads.length, pullRequests: pulls.length }, 'a repository was seen for the first time')
      return
    }
    const since = noticed.get(repo)
    const now = new Map<string, number>()
    noticed.set(repo, now)
    for (const difference of differences(known, heads)) {
      const key = `${difference.ref} ${difference.commit ?? ''}`
      const at = since?.get(key) ?? clock()
      now.set(key, at)
      if (clock() - at >= ON_ITS_WAY_MS) await makeGood(repo, forge, difference)
    }
  }

  async function makeGood(repo: string, forge: Forge, { ref, commit, known }: Difference): Promise<void> {
    const last = await forge.lastMove?.(branchName(ref))
    // It may have moved since the list was made; then the next look is the one that counts.
    const move = last?.after === commit ? last : undefined
    const delivery = deliveryOf(repo, { ref, commit, known }, move)
    if (commit === undefined) {
      const { kind } = await deliveries.recordBranchDeleted(delivery, repo, ref, { kind: 'branch', ref }, known?.commit)
      log.warn({ repo, ref, kind }, 'a branch is gone from the forge, which nobody told of')
      return
    }
    const trigger = triggerOf(repo, { ref, commit, known }, move)
    const admission = admit('push', ON_A_BRANCH)
    if (admission.kind === 'refused') return
    const recorded = await deliveries.record(delivery, trigger, admission, { kind: 'branch', ref })
    const run = 'run' in recorded ? recorded.run?.id : undefined
    log.warn({ repo, ref, commit, kind: recorded.kind, run }, 'a push was found at the forge, which nobody told of')
  }

  return { name: 'untold pushes', review: (kept) => pace(kept.repository.name, () => look(kept)) }
}

/** Has every rule look at the heads of open pull requests that nobody told of. Whether they run is for those to say. */
export function createUntoldPullRequestRule({ deliveries, sightings, clock, log }: Deps): Rule {
  const pace = createPace({ everyMs: EVERY_MS, clock })

  async function look({ repository: { name: repo }, forge }: Kept): Promise<void> {
    if (forge.pullRequests === undefined || (await sightings.of(repo)) === undefined) return
    const open = await forge.pullRequests.open()
    // Its own promotions Penstock looks after whatever is told.
    const others = open.filter(({ head, fork }) => fork || !isPromotionBranch(`refs/heads/${head.branch}`))
    const heads = others.map(({ number, head }): PullHead => ({ number, commit: head.commit }))
    for (const pull of await sightings.untold(repo, heads)) {
      const { number, commit } = pull
      const delivery = { source: 'sweep', ...named('pull_request', `${repo}/pull/${number}/${commit}`), repo }
      await deliveries.recordNotice(delivery, repo, { kind: 'pull_request', number })
      await sightings.sawPull(repo, pull)
      log.warn({ repo, pullRequest: number, commit }, 'a head of a pull request was found, which nobody told of')
    }
  }

  return { name: 'untold pull requests', review: (kept) => pace(kept.repository.name, () => look(kept)) }
}

interface Difference {
  readonly ref: string
  /** Absent: it is gone. */
  readonly commit?: string | undefined
  readonly known: KnownBranch | undefined
}

function differences(known: readonly KnownBranch[], heads: readonly Sight[]): readonly Difference[] {
  const before = new Map(known.map((one) => [one.ref, one]))
  const there = new Set(heads.map(({ ref }) => ref))
  const moved = heads
    .filter(({ ref, commit }) => before.get(ref)?.commit !== commit)
    .map(({ ref, commit }) => ({ ref, commit, known: before.get(ref) }))
  const gone = known
    .filter(({ ref, commit }) => commit !== undefined && !there.has(ref))
    .map((one) => ({ ref: one.ref, known: one }))
  return [...moved, ...gone].filter(({ ref }) => !isPromotionBranch(ref) && !ref.startsWith(MERGE_QUEUE))
}

function triggerOf(repo: string, { ref, commit = '', known }: Difference, move: Move | undefined): Trigger {
  const before = move === undefined ? known?.commit : move.before
  return {
    kind: 'push',
    repo,
    requestedBy: move?.by ?? 'sweep',
    change: {
      commit,
      ref,
      ...(before === undefined ? {} : { before }),
      ...(move?.by === undefined ? {} : { pusher: move.by }),
    },
  }
}

/** The same for everybody who knew the branch as this and sees it there. */
function deliveryOf(repo: string, { ref, commit, known }: Difference, move: Move | undefined): NewDelivery {
  return {
    source: 'sweep',
    ...named('push', `${repo}/${ref}/${known?.seenAt ?? ''}/${commit ?? ''}`),
    repo,
    seen: { known, isMoveKnown: move !== undefined },
    ...(move === undefined ? {} : { at: move.at }),
  }
}

function named(event: string, id: string) {
  return { event, id, bodyDigest: createHash('sha256').update(id).digest('hex') }
}
