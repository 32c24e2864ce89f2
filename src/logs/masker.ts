import { type Automaton, buildAutomaton } from './automaton.ts'
import { needlesOf, type SecretValue } from './needles.ts'

export interface Masked {
  readonly out: Buffer
  /**
   * Raw bytes that all output so far accounts for. No secret, whole or begun, stands across it: a new masker that starts
   * with the raw byte there goes on exactly as this one does.
   */
  readonly rawEnd: number
}

/** Masks one stream. What it holds back can still become a secret; everything else comes out with the push it came in. */
export interface Masker {
  /** Keeps no reference to `chunk`. `out` may share its memory. */
  push(chunk: Buffer): Masked
  /** What was held back: the stream has ended, so it is no secret. */
  flush(): Masked
}

export const MASK = '***'

/** Prepares the search once for many streams; each starts at the raw offset given. */
export function compileMasker(secrets: readonly SecretValue[]): (rawStart?: number) => Masker {
  const needles = needlesOf(secrets)
  if (needles.length === 0) return passThrough
  const automaton = buildAutomaton(needles)
  return (rawStart = 0) => maskerOf(automaton, rawStart)
}

export function createMasker(secrets: readonly SecretValue[], rawStart = 0): Masker {
  return compileMasker(secrets)(rawStart)
}

/** For texts that come whole. */
export function createTextMasker(secrets: readonly SecretValue[]): (text: string) => string {
  const masker = compileMasker(secrets)
  return (text) => {
    const stream = masker()
    return Buffer.concat([stream.push(Buffer.from(text)).out, stream.flush().out]).toString()
  }
}

function passThrough(rawStart = 0): Masker {
  let rawEnd = rawStart
  return {
    push(chunk) {
      rawEnd += chunk.length
      return { out: chunk, rawEnd }
    },
    flush: () => ({ out: NOTHING, rawEnd }),
  }
}

const NOTHING = Buffer.alloc(0)
const MASK_BYTES = Buffer.from(MASK)

interface Interval {
  start: number
  end: number
}

function maskerOf(automaton: Automaton, rawStart: number): Masker {
  /** Raw bytes from where a secret may have begun. */
  let held: Buffer = NOTHING
  let heldAt = rawStart
  /** Found, not put out yet, because what is held may make it longer; in raw offsets, starts before `heldAt`. */
  let growing: Interval | undefined
  let rawEnd = rawStart

  function advance(chunk: Buffer, ended: boolean): Masked {
    const buffer = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    const intervals: Interval[] = growing ? [{ start: growing.start - heldAt, end: growing.end - heldAt }] : []
    const undecided = scan(automaton, buffer, intervals)
    const settled = ended ? buffer.length : undecided
    const last = intervals.at(-1)
    growing = undefined
    let until = settled
    for (let i = intervals.length - 1; i >= 0; i--) {
      const interval = intervals[i]
      if (!interval || interval.end <= settled) break
      // At most one stands across: intervals do not overlap, and none found starts after what is undecided ends.
      if (interval.start < settled) {
        growing = { start: heldAt + interval.start, end: heldAt + interval.end }
        until = interval.start
      }
      intervals.length = i
    }
    const out = last ? replaced(buffer, intervals, until) : buffer.subarray(0, until)
    rawEnd = heldAt + until
    held = settled === buffer.length ? NOTHING : Buffer.from(buffer.subarray(settled))
    heldAt += settled
    return { out, rawEnd }
  }

  return { push: (chunk) => advance(chunk, false), flush: () => advance(NOTHING, true) }
}

/** Adds every needle in the buffer to the intervals, merged; returns from where a needle may go on beyond the end. */
function scan(automaton: Automaton, buffer: Buffer, intervals: Interval[]): number {
  const { table, columns, reportsFrom, reports, width, open } = automaton
  const length = buffer.length
  let undecided = length
  let state = 0
  for (let i = 0; i < length; i++) {
    state = table[state + (columns[buffer[i] as number] as number)] as number
    if (state < reportsFrom) continue
    for (const id of reports[state / width] ?? []) {
      const needle = automaton.needles[id] as Buffer
      const known = automaton.prefix[id] as number
      const start = i + 1 - known
      const end = start + needle.length
      const top = intervals.at(-1)
      if (top && start >= top.start && end <= top.end) continue
      const seen = Math.min(end, length)
      if (needle.length > known && !continues(buffer, needle, { start, known, seen })) continue
      if (end > length) undecided = Math.min(undecided, start)
      else include(intervals, start, end)
    }
  }
  return Math.min(undecided, length - (open[state / width] as number))
}

function continues(
  buffer: Buffer,
  needle: Buffer,
  { start, known, seen }: { readonly start: number; readonly known: number; readonly seen: number },
): boolean {
  if (start + known >= seen) return true
  // Most chance hits differ at the next byte; that costs no call.
  if (buffer[start + known] !== needle[known]) return false
  return buffer.compare(needle, known, seen - start, start + known, seen) === 0
}

/**
 * Needles are found in the order in which their beginnings end, so a new one reaches beyond the start of all before it,
 * and overlaps the last if it overlaps any.
 */
function include(intervals: Interval[], start: number, end: number): void {
  const merged = { start, end }
  for (let top = intervals.at(-1); top && merged.start < top.end; top = intervals.at(-1)) {
    merged.start = Math.min(merged.start, top.start)
    merged.end = Math.max(merged.end, top.end)
    intervals.pop()
  }
  intervals.push(merged)
}

function replaced(buffer: Buffer, intervals: readonly Interval[], until: number): Buffer {
  const parts: Buffer[] = []
  let at = 0
  for (const { start, end } of intervals) {
    if (start > at) parts.push(buffer.subarray(at, start))
    parts.push(MASK_BYTES)
    at = end
  }
  if (until > at) parts.push(buffer.subarray(at, until))
  return Buffer.concat(parts)
}
