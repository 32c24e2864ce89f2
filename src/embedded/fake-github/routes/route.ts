import { z } from 'zod'
import type { Caller, Repo, User } from '../state.ts'
import type { World } from '../world.ts'

export interface Asked {
  readonly world: World
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  readonly body: unknown
  readonly caller: Caller
  /** Whom what is done is by. */
  readonly user: User
}

export interface Reply {
  readonly status: number
  readonly body: unknown
  readonly headers?: Readonly<Record<string, string>>
}

/** A permission by GitHub's name, for the repository in the path; `app`: only the App itself. */
export type Needs = { readonly permission: string; readonly level: 'read' | 'write' } | 'app' | 'anyone'

export interface FakeRoute {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  /** As in GitHub's description. */
  readonly template: string
  readonly needs: Needs
  handle(asked: Asked): Reply | Promise<Reply>
}

/** Ends a request as GitHub does: with a message, for 422 with errors. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly status: number
  readonly errors: readonly unknown[]
  constructor(status: number, message: string, errors: readonly unknown[] = []) {
    super(message)
    this.status = status
    this.errors = errors
  }
}

export function ok(body: unknown, status = 200): Reply {
  return { status, body }
}

/** @throws Refusal 422 */
export function parse<T>(schema: z.ZodType<T>, { body }: Asked): T {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data
  throw new Refusal(422, z.prettifyError(parsed.error))
}

/** @throws Refusal 404 */
export function repoOf({ world, params }: Asked): Repo {
  return there(world.find(`${params.owner}/${params.repo}`))
}

/** @throws Refusal 404 */
export function there<T>(one: T | undefined): T {
  if (one === undefined) throw new Refusal(404, 'Not Found')
  return one
}

/** One page of a list, with the address of the next in the header `link`. */
export function page(
  asked: Asked,
  path: string,
  all: readonly unknown[],
  wrap = (items: readonly unknown[]): unknown => items,
): Reply {
  const size = Math.min(asked.world.maxPage, Number(asked.query.get('per_page') ?? 30))
  const number = Number(asked.query.get('page') ?? 1)
  const items = all.slice((number - 1) * size, number * size)
  if (number * size >= all.length) return ok(wrap(items))
  const query = new URLSearchParams(asked.query)
  query.set('page', String(number + 1))
  return { status: 200, body: wrap(items), headers: { link: `<${asked.world.root}${path}?${query}>; rel="next"` } }
}
