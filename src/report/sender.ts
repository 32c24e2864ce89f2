import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { ReportPort } from '../core/report/types.ts'
import type { ClaimedState, Reports } from '../store/types.ts'
import { readFailure } from './failure.ts'

export interface Sender {
  /** Sends what is due now, and resolves when each is answered or given up for this time. Returns how many there were. */
  once(): Promise<number>
}

/** At once: GitHub frowns upon more, and a forge that hangs holds only these. */
const BATCH = 8
/** Longer than an adapter waits for its forge. What has no answer by then is tried again. */
const ANSWER_MS = 18_000
/** Longer than any answer is waited for: only a killed sender lets a claim expire. */
const CLAIM_MS = 25_000
const FIRST_DELAY_MS = 500
/** So that a forge is up to date within a minute of its return. */
const LONGEST_DELAY_MS = 15_000
/** A commit that the forge has not seen yet, a permission that the operator has yet to give. */
const REFUSED_DELAY_MS = 5 * 60_000
const FIRST_REFUSALS = 3
const REFUSED_FOR_MS = 24 * 3_600_000

/** Brings what is desired to the forges: the newest state of each key, until it is there. Never throws for a forge. */
export function createSender(deps: {
  readonly reports: Reports
  readonly portOf: (repo: string) => ReportPort | undefined
  readonly clock: () => number
  readonly log: Logger
}): Sender {
  const { reports, portOf, clock, log } = deps

  async function send(claimed: ClaimedState): Promise<void> {
    const { repo, kind, name, subject } = claimed.key
    try {
      const remote = await withinTime(call(portOf(repo), claimed))
      await reports.sent(claimed, remote)
    } catch (err) {
      const failure = readFailure(err, clock())
      log.warn({ err, repo, kind, name, subject, tries: claimed.tries }, 'a forge has not taken a state')
      if (failure.kind === 'limited') await reports.pause(repo, failure.waitMs ?? LONGEST_DELAY_MS)
      const isOld = clock() - claimed.wantedAt > REFUSED_FOR_MS
      await reports.failed(claimed, {
        error: err instanceof Error ? err.message : String(err),
        delayMs: delayOf(claimed.tries, failure),
        isDoubtful: failure.kind === 'again',
        givesUp: failure.kind === 'refused' && isOld,
      })
    }
  }

  return {
    async once() {
      const claimed = await reports.take(BATCH, CLAIM_MS)
      await Promise.all(claimed.map(send))
      return claimed.length
    },
  }
}

function delayOf(tries: number, failure: ReturnType<typeof readFailure>): number {
  if (failure.kind === 'refused' && tries > FIRST_REFUSALS) return REFUSED_DELAY_MS
  const delay = Math.min(FIRST_DELAY_MS * 2 ** Math.min(tries, 10), LONGEST_DELAY_MS)
  // A pause for the whole repository holds a limited one back.
  return failure.kind === 'again' ? Math.max(delay, failure.waitMs ?? 0) : Math.min(delay, LONGEST_DELAY_MS)
}

/** A forge that no longer has such a thing is told nothing. */
async function call(port: ReportPort | undefined, { reported, known }: ClaimedState): Promise<string | undefined> {
  switch (reported.kind) {
    case 'status':
      await port?.setStatus?.(reported.content)
      return undefined
    case 'check':
      return port?.setCheck?.(reported.content, known)
    case 'comment':
      return port?.upsertComment?.(reported.content, known)
    case 'deployment':
      return port?.setDeployment?.(reported.content, known)
  }
}

async function withinTime<T>(work: Promise<T>): Promise<T> {
  const timer = new AbortController()
  const late = sleep(ANSWER_MS, undefined, { signal: timer.signal, ref: false }).then(() => {
    throw new Error(`no answer within ${ANSWER_MS / 1000} s`)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    timer.abort()
    late.catch(() => {})
  }
}
