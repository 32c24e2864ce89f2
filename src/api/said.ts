import { z } from 'zod'

/** By what a person came here, for the audit. */
export const Channel = z.enum(['api', 'cli', 'web']).default('api')

/** What people write to each other: lines that act on no terminal. PostgreSQL has no text with a NUL. */
export const Said = z
  .string()
  .max(2000, 'at most 2000 characters')
  .regex(/^[^\p{Cc}]*(?:[\n\t\r][^\p{Cc}]*)*$/u, 'no control characters but line ends')

export const Why = Said.regex(/\S/, 'must say why')
