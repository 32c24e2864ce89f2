import type { IncomingMessage, ServerResponse } from 'node:http'
import type { z } from 'zod'
import type { RoutePermission } from './caller.ts'
import { ProblemError, problem } from './problem.ts'

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'

/** What a handler is told: all checked, nothing raw but the headers. */
export interface Asked {
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  readonly header: (name: string) => string | undefined
  /** Name of the authenticated person; `worker` on internal routes. */
  readonly by: string
  /** Parsed by the route's `body`. */
  readonly body: unknown
  /** Where the route takes bytes. */
  readonly bytes: Buffer
}

export type Reply =
  | {
      readonly kind: 'json'
      readonly status: number
      readonly body: unknown
      readonly headers?: Readonly<Record<string, string>>
    }
  | { readonly kind: 'none' }
  | {
      readonly kind: 'stream'
      readonly status: number
      readonly type: string
      readonly headers: Readonly<Record<string, string>>
      /** Aborted when the client is gone or may no longer read. */
      write(response: ServerResponse, signal: AbortSignal): Promise<void>
    }

export interface Route {
  readonly method: Method
  /** From the root; parameters as `:name`. */
  readonly path: string
  readonly permission: RoutePermission
  /** One sentence, for the reference. */
  readonly summary: string
  /** Query parameters and what they mean, for the reference. Others are refused. */
  readonly query?: Readonly<Record<string, string>>
  readonly body?:
    | { readonly kind: 'json'; readonly schema: z.ZodType }
    | { readonly kind: 'bytes'; readonly max: number }
  handle(asked: Asked, request: IncomingMessage): Promise<Reply>
  /** Somebody known whose roles do not give the permission has asked; `body`: undefined where it is none that fits. */
  onRefused?(by: string, params: Readonly<Record<string, string>>, body: unknown): Promise<void>
}

export function json(body: unknown, status = 200, headers?: Readonly<Record<string, string>>): Reply {
  return { kind: 'json', status, body, ...(headers === undefined ? {} : { headers }) }
}

export const NOTHING: Reply = { kind: 'none' }

/** One answer for all that is not there or must not be seen. */
export function notFound(): ProblemError {
  return new ProblemError(problem(404, 'there is nothing here, or nothing that you may see'))
}

export function invalid(errors: readonly { readonly pointer: string; readonly detail: string }[]): ProblemError {
  return new ProblemError(problem(422, errors.map((one) => `${one.pointer}: ${one.detail}`).join('; '), { errors }))
}

const WHOLE = /^(?:0|[1-9][0-9]{0,14})$/

/** A whole number, or undefined for any other text. */
export function wholeNumber(text: string | null | undefined): number | undefined {
  return text !== null && text !== undefined && WHOLE.test(text) ? Number(text) : undefined
}

/** A number in the query, between limits. @throws ProblemError 422 */
export function numberIn(
  query: URLSearchParams,
  name: string,
  { least, most, otherwise }: { readonly least: number; readonly most: number; readonly otherwise: number },
): number {
  const text = query.get(name)
  if (text === null) return otherwise
  const value = wholeNumber(text)
  if (value === undefined || value < least || value > most) {
    throw invalid([{ pointer: `?${name}`, detail: `must be a whole number from ${least} to ${most}` }])
  }
  return value
}

const RFC3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$/

/** A time in the query, as milliseconds since 1970; undefined where it is not said. @throws ProblemError 422 */
export function timeIn(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name)
  if (text === null) return undefined
  const ms = wholeNumber(text) ?? (RFC3339.test(text) ? Date.parse(text) : Number.NaN)
  if (Number.isFinite(ms)) return ms
  throw invalid([
    { pointer: `?${name}`, detail: 'must be a time such as 2026-01-31T12:00:00Z, or milliseconds since 1970' },
  ])
}
