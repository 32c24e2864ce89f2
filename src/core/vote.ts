import { readFields } from './form.ts'
import type { VoteSignal } from './run-contract.ts'

/** As long as the API takes them; what is longer is cut, because a signal cannot be refused. */
const LONGEST = { who: 200, comment: 2000, channel: 50, token: 200 } as const

/**
 * What a vote signal carried. Anybody who reaches Temporal can send anything, so only text counts, and of that only so
 * much; the rest is as if it were not there.
 */
export function readVote(payload: unknown): VoteSignal {
  const given = typeof payload === 'object' && payload !== null ? (payload as Record<string, unknown>) : {}
  const text = (name: keyof typeof LONGEST) => {
    const value = Object.hasOwn(given, name) ? given[name] : undefined
    return typeof value === 'string' && value !== '' ? value.slice(0, LONGEST[name]).replaceAll('\0', '') : undefined
  }
  const [comment, channel, token] = [text('comment'), text('channel'), text('token')]
  const fields = Object.hasOwn(given, 'fields') ? readFields(given.fields) : undefined
  return {
    who: text('who') ?? '',
    ...(comment === undefined ? {} : { comment }),
    ...(channel === undefined ? {} : { channel }),
    ...(token === undefined ? {} : { token }),
    ...(fields === undefined ? {} : { fields }),
    ...(Object.hasOwn(given, 'breakGlass') && given.breakGlass === true ? { breakGlass: true } : {}),
  }
}
