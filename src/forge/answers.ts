import type { z } from 'zod'
import { ForgeAnswerUnusable } from './types.ts'

/**
 * The fields that we use of an answer.
 *
 * @throws ForgeAnswerUnusable
 */
export function read<T>(schema: z.ZodType<T>, { data, url }: { readonly data: unknown; readonly url: string }): T {
  const parsed = schema.safeParse(data)
  if (parsed.success) return parsed.data
  const fields = [...new Set(parsed.error.issues.map((issue) => issue.path.join('.') || 'the whole'))].slice(0, 10)
  throw new ForgeAnswerUnusable(`the answer of ${url.split('?')[0]} is not as the API has it: see ${fields.join(', ')}`)
}

export function isStatus(err: unknown, ...statuses: readonly number[]): boolean {
  return err instanceof Error && 'status' in err && statuses.includes(Number(err.status))
}

export function headersOf(err: unknown): Readonly<Record<string, string | number | undefined>> {
  const response = err instanceof Error && 'response' in err ? err.response : undefined
  return (response as { headers?: Record<string, string> } | undefined)?.headers ?? {}
}

const WORDS = 300

/** What the server said of it, for people. */
export function messageOf(err: unknown): string {
  const response = err instanceof Error && 'response' in err ? err.response : undefined
  const { message } = (response as { data?: { message?: unknown } } | undefined)?.data ?? {}
  return typeof message === 'string' ? message.slice(0, WORDS) : 'it does not say why'
}

/** `undefined` for what is not there. */
export async function found<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked
  } catch (err) {
    if (isStatus(err, 404)) return undefined
    throw err
  }
}
