import { z } from 'zod'
import { invalid } from './route.ts'

const CHANNELS = ['api', 'cli', 'web'] as const

/** By what a person came here, for the audit. */
export const Channel = z.enum(CHANNELS).default('api')

/** Where a request has no body to say it in. */
export const CHANNEL_QUERY = { channel: CHANNELS.join(', ') } as const

/** @throws ProblemError 422 */
export function channelIn(query: URLSearchParams): z.infer<typeof Channel> {
  const { data, success } = Channel.safeParse(query.get('channel') ?? undefined)
  if (success) return data
  throw invalid([{ pointer: '?channel', detail: `must be one of ${CHANNELS.join(', ')}` }])
}

/** What people write to each other: lines that act on no terminal. PostgreSQL has no text with a NUL. */
export const Said = z
  .string()
  .max(2000, 'at most 2000 characters')
  .regex(/^[^\p{Cc}]*(?:[\n\t\r][^\p{Cc}]*)*$/u, 'no control characters but line ends')

export const Why = Said.regex(/\S/, 'must say why')
