/** What a failed send means for the next one. */
export interface Failure {
  readonly kind: /** The forge or the way to it is out of order; the request may yet take effect. */
    | 'again'
    /** The forge takes nothing from us for a while. */
    | 'limited'
    /** The forge does not take this; it did nothing. */
    | 'refused'
  /** What the forge asked to wait. */
  readonly waitMs?: number
}

/** GitHub's rule where a secondary limit names no time. */
const LIMIT_WITHOUT_TIME_MS = 60_000
/** What a broken clock or a hostile answer could ask for. */
const LONGEST_ASKED_MS = 3_600_000

/**
 * By `retryAfterMs`, where the forge's adapter has understood that it is to wait; else by status and headers of the answer,
 * as octokit's errors carry them. Without an answer it may have been taken.
 */
export function readFailure(err: unknown, now: number): Failure {
  const asked = numberAt(err, 'retryAfterMs')
  if (asked !== undefined) return { kind: 'limited', waitMs: bounded(asked) }
  const status = numberAt(err, 'status')
  const headers = recordAt(recordAt(err, 'response'), 'headers')
  if (status === undefined || status < 400 || status >= 500 || status === 408) return again(headers, now)
  if (status === 429) return { kind: 'limited', waitMs: askedMs(headers, now) ?? LIMIT_WITHOUT_TIME_MS }
  if (status === 403) {
    const waitMs = askedMs(headers, now)
    if (waitMs !== undefined) return { kind: 'limited', waitMs }
    if (isSecondaryLimit(err)) return { kind: 'limited', waitMs: LIMIT_WITHOUT_TIME_MS }
  }
  return { kind: 'refused' }
}

/** Whoever does one thing after the other stops here: each of the rest would make it worse. */
export function isLimited(err: unknown): boolean {
  return readFailure(err, 0).kind === 'limited'
}

function again(headers: Record<string, unknown> | undefined, now: number): Failure {
  const waitMs = askedMs(headers, now)
  return waitMs === undefined ? { kind: 'again' } : { kind: 'again', waitMs }
}

function askedMs(headers: Record<string, unknown> | undefined, now: number): number | undefined {
  const after = headers?.['retry-after']
  if (after !== undefined) {
    const seconds = Number(after)
    const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(String(after)) - now
    if (Number.isFinite(ms)) return bounded(ms)
  }
  if (String(headers?.['x-ratelimit-remaining']) !== '0') return undefined
  const reset = Number(headers?.['x-ratelimit-reset'])
  return Number.isFinite(reset) ? bounded(reset * 1000 - now) : LIMIT_WITHOUT_TIME_MS
}

function bounded(ms: number): number {
  return Math.min(Math.max(ms, 1_000), LONGEST_ASKED_MS)
}

/** GitHub's answer carries no code for it: only the link to its documentation tells it from a missing permission. */
function isSecondaryLimit(err: unknown): boolean {
  const data = recordAt(recordAt(err, 'response'), 'data')
  return /rate-limit/.test(String(data?.documentation_url ?? ''))
}

function recordAt(value: unknown, name: string): Record<string, unknown> | undefined {
  const found = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined
  return typeof found === 'object' && found !== null ? (found as Record<string, unknown>) : undefined
}

function numberAt(value: unknown, name: string): number | undefined {
  const found = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined
  return typeof found === 'number' ? found : undefined
}
