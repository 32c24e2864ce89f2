import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { RepositoryConfig } from '../config/types.ts'
import type { Forge } from '../forge/types.ts'
import { isLimited, readFailure } from '../report/failure.ts'
import type { NoticeRow, Notices } from '../store/types.ts'
import type { Kept, Rule } from './types.ts'

export interface Attendant {
  /**
   * Deals with what forges have told. Returns how much there was, and of how many repositories something was under way: 0 is
   * that there is nothing more. Never throws for a forge.
   */
  once(): Promise<number>
  /**
   * Has every rule look at every repository, whatever was told, but for those whose forge asked to be left alone, and those
   * that are still looked at since before.
   */
  review(): Promise<void>
}

interface Patience {
  readonly onceMs: number
  readonly reviewMs: number
}

const BATCH = 50
/** Longer than dealing with a whole batch takes: only after a kill does somebody else take over. */
const LEASE_MS = 5 * 60_000
/** After this the others are gone on with; what is slow goes on beside them. */
const PATIENCE: Patience = { onceMs: 5_000, reviewMs: 30_000 }
const FIRST_DELAY_MS = 1_000
const LONGEST_DELAY_MS = 60_000
/** After so long a forge will not answer any more; the reviews make good what was missed. */
const GIVEN_UP_MS = 24 * 3_600_000

export function createAttendant(deps: {
  readonly notices: Notices
  readonly repositories: Readonly<Record<string, RepositoryConfig>>
  readonly forges: (repository: RepositoryConfig) => Forge
  readonly rules: readonly Rule[]
  readonly patience?: Patience
  readonly clock: () => number
  readonly log: Logger
}): Attendant {
  const { notices, repositories, forges, rules, patience = PATIENCE, clock, log } = deps

  /** Until when a forge wants to be left alone, by repository. */
  const quietUntil = new Map<string, number>()

  function quietMs(repo: string): number {
    return Math.max((quietUntil.get(repo) ?? 0) - clock(), 0)
  }

  function noteLimit(repo: string, err: unknown): void {
    const { kind, waitMs = 0 } = readFailure(err, clock())
    if (kind === 'limited') quietUntil.set(repo, clock() + waitMs)
  }

  function keptOf(repo: string): Kept | undefined {
    const repository = Object.hasOwn(repositories, repo) ? repositories[repo] : undefined
    return repository === undefined ? undefined : { repository, forge: forges(repository) }
  }

  async function attend(row: NoticeRow): Promise<void> {
    const kept = keptOf(row.repo)
    if (kept === undefined) return notices.done(row.id, 'the repository is no longer in the operator’s file')
    const quiet = quietMs(row.repo)
    if (quiet > 0) return notices.failed(row.id, 'the forge asked to be left alone', quiet)
    try {
      const done: string[] = []
      const failures: unknown[] = []
      for (const rule of rules) {
        try {
          const what = await rule.attend?.(kept, row.notice)
          if (what !== undefined) done.push(what)
        } catch (err) {
          // What one rule cannot do yet keeps no other from its own.
          if (isLimited(err)) throw err
          failures.push(err)
        }
      }
      if (failures.length === 1) throw failures[0]
      if (failures.length > 1) throw new AggregateError(failures, failures.map(String).join('; '))
      const outcome = done.join('; ') || 'nothing was to be done'
      log.info({ repo: row.repo, notice: row.notice, outcome }, 'news of a forge was dealt with')
      await notices.done(row.id, outcome)
    } catch (err) {
      noteLimit(row.repo, err)
      await postpone(row, err)
    }
  }

  async function postpone({ id, repo, notice, tries, receivedAt }: NoticeRow, err: unknown): Promise<void> {
    const why = err instanceof Error ? err.message : String(err)
    if (clock() - receivedAt > GIVEN_UP_MS) {
      log.error({ err, repo, notice, tries }, 'news of a forge was given up')
      return notices.done(id, `given up: ${why}`)
    }
    log.warn({ err, repo, notice, tries }, 'news of a forge could not be dealt with yet')
    const delay = Math.min(FIRST_DELAY_MS * 2 ** Math.min(tries, 10), LONGEST_DELAY_MS)
    const failure = readFailure(err, clock())
    await notices.failed(id, why, failure.kind === 'refused' ? delay : Math.max(delay, failure.waitMs ?? 0))
  }

  async function look(repo: string): Promise<void> {
    const kept = keptOf(repo)
    if (kept === undefined) return
    for (const rule of rules) {
      if (quietMs(repo) > 0) return
      try {
        await rule.review?.(kept)
      } catch (err) {
        noteLimit(repo, err)
        log.warn({ err, repo, rule: rule.name }, 'a rule could not be looked after; it is tried again')
      }
    }
  }

  const [attending, reviewing] = [createLanes(log), createLanes(log)]

  return {
    async once() {
      const busy = attending.busy()
      const rows = await notices.take(BATCH, LEASE_MS, busy)
      for (const repo of new Set(rows.map((row) => row.repo))) {
        attending.begin(repo, async () => {
          // In the order of their arrival.
          for (const row of rows) if (row.repo === repo) await attend(row)
        })
      }
      await attending.ended(patience.onceMs)
      return rows.length + busy.length
    },
    async review() {
      const busy = reviewing.busy()
      for (const repo of Object.keys(repositories)) if (!busy.includes(repo)) reviewing.begin(repo, () => look(repo))
      await reviewing.ended(patience.reviewMs)
    },
  }
}

/** One thing at a time for a repository, and a forge that hangs holds up its own repository only. */
function createLanes(log: Logger) {
  const lanes = new Map<string, Promise<void>>()
  return {
    busy: () => [...lanes.keys()],
    begin(repo: string, work: () => Promise<void>): void {
      const ended = work()
        .catch((err: unknown) => log.warn({ err, repo }, 'a repository could not be looked after'))
        .finally(() => lanes.delete(repo))
      lanes.set(repo, ended)
    },
    /** All of them, or so much time. */
    async ended(ms: number): Promise<void> {
      const enough = new AbortController()
      const late = sleep(ms, undefined, { signal: enough.signal }).catch(() => undefined)
      await Promise.race([Promise.all(lanes.values()), late])
      enough.abort()
    },
  }
}
