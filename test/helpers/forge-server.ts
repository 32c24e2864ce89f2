import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text as textOf } from 'node:stream/consumers'
import type { z } from 'zod'
import { createFaults, type Fault, strike } from '../../src/embedded/fake-github/faults.ts'
import { refsOf, serveRepository } from '../../src/embedded/fake-github/repositories.ts'
import type { Repo, User } from '../../src/embedded/fake-github/state.ts'
import { createWorld, type World } from '../../src/embedded/fake-github/world.ts'
import type { Held } from './openapi.ts'

/** A forge whose API is another than GitHub's, over the same world: repositories, people and what they do there. */

export interface Asked {
  readonly world: World
  /** Decoded. */
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  readonly body: unknown
  readonly user: User
}

export interface Reply {
  readonly status: number
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

export interface ApiRoute {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** As in the forge's own description. */
  readonly template: string
  /** What one must be allowed in the repository; `read` unless said. */
  readonly needs?: 'read' | 'write' | 'admin'
  handle(asked: Asked): Reply | Promise<Reply>
}

export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export function ok(body: unknown, status = 200): Reply {
  return { status, body }
}

export function there<T>(one: T | undefined, what = 'Not Found'): T {
  if (one === undefined) throw new Refusal(404, what)
  return one
}

export function parse<T>(schema: z.ZodType<T>, { body }: Asked): T {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data
  throw new Refusal(422, JSON.stringify(parsed.error.issues))
}

/** A delivery as this forge sends it; undefined: it sends none for this. */
export interface Delivery {
  readonly headers: Readonly<Record<string, string>>
  readonly body: unknown
}

export interface ForgeServerOptions {
  /** Where the API begins: `/api/v1`. */
  readonly prefix: string
  readonly routes: readonly ApiRoute[]
  readonly problemsOf: (exchange: Held) => readonly string[]
  /** The token in an `Authorization` header of this forge, or undefined. */
  readonly tokenOf: (authorization: string) => string | undefined
  /** The repository that a call is about. */
  readonly repoOf: (world: World, params: Readonly<Record<string, string>>) => Repo | undefined
  /** In the forge's own words what has happened, which the world tells as GitHub does. */
  readonly deliveryOf: (told: Told) => Delivery | undefined
  /** The headers that prove where the body is from. */
  readonly prove: (body: string, secret: string) => Readonly<Record<string, string>>
  readonly maxPage?: number
}

export interface Told {
  readonly world: World
  readonly repo: Repo
  readonly event: string
  // biome-ignore lint/suspicious/noExplicitAny: a payload of GitHub's, of which each forge takes what it needs.
  readonly payload: any
}

export interface ForgeServer {
  /** Of the server; the API is below it, and the repositories: `<url>/<owner>/<name>.git`. */
  readonly url: string
  readonly world: World
  readonly exchanges: readonly Held[]
  fault(fault: Fault): void
  /** Sends what happens in the repository to there. */
  hook(fullName: string, hook: { readonly url: string; readonly secret: string }): void
  /** @throws if a request or an answer was not as the forge's own description has it */
  stop(): Promise<void>
}

const INSIDE = '/-/told'

export async function startForgeServer(options: ForgeServerOptions): Promise<ForgeServer> {
  const { prefix, routes, problemsOf, tokenOf, repoOf, deliveryOf, prove, maxPage = 50 } = options
  const dir = await mkdtemp(join(tmpdir(), 'pst-forge-server-'))
  const faults = createFaults()
  const exchanges: Held[] = []
  const problems: string[] = []
  const hooks = new Map<string, { readonly url: string; readonly secret: string }>()
  const matchers = routes.map((route) => ({ route, pattern: patternOf(route.template) }))
  const server = createServer((request, response) => {
    serve(request, response).catch((err: unknown) => {
      problems.push(`it broke: ${err}`)
      if (!response.headersSent) response.writeHead(500, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ message: String(err) }))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const world = createWorld({ dir, root: url, clock: Date.now, maxPage })

  return {
    url,
    world,
    exchanges,
    fault: (fault) => faults.add(fault),
    hook(fullName, hook) {
      hooks.set(fullName, hook)
      world.addWebhook(fullName, { url: `${url}${INSIDE}`, secret: 'inside', events: ['*'] })
    },
    async stop() {
      await world.webhooks.settled()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await rm(dir, { recursive: true, force: true })
      if (problems.length > 0) throw new Error(`not as the forge has it:\n${[...new Set(problems)].join('\n')}`)
    },
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = 'GET', headers } = request
    const { pathname, searchParams: query } = new URL(request.url ?? '/', url)
    if (pathname === INSIDE) return passOn(request, response)
    if (/\.git\//.test(pathname)) return serveGit(pathname, request, response)

    const path = pathname.startsWith(prefix) ? pathname.slice(prefix.length) : pathname
    // The first that fits: those with a word in a place stand before those with any word there.
    const met = matchers
      .map(({ route, pattern }) => ({ route, match: pattern.exec(path) }))
      .find((one) => one.route.method === method && one.match !== null)
    const template = met?.route.template
    const fault = faults.take(`${method} ${template ?? path}`)
    const text = await textOf(request)
    const requestBody = text === '' ? undefined : (JSON.parse(text) as unknown)
    if (fault !== undefined && fault.after !== true && (await strike(fault, response))) return
    const reply = await replyTo(met, { query, body: requestBody, authorization: headers.authorization })
    const held = {
      method,
      template,
      path,
      query,
      requestBody,
      status: reply.status,
      responseBody: reply.body,
      bent: false,
    }
    exchanges.push(held)
    problems.push(...problemsOf(held))
    if (fault?.after === true && (await strike(fault, response))) return
    response.writeHead(reply.status, { 'content-type': 'application/json', ...reply.headers })
    response.end(reply.body === undefined ? undefined : JSON.stringify(reply.body))
  }

  async function replyTo(
    met: { readonly route: ApiRoute; readonly match: RegExpExecArray | null } | undefined,
    { query, body, authorization }: { query: URLSearchParams; body: unknown; authorization: string | undefined },
  ): Promise<Reply> {
    try {
      const user = userOf(tokenOf(authorization ?? ''))
      if (user === undefined) throw new Refusal(401, 'invalid token')
      if (met === undefined) throw new Refusal(404, 'no such call')
      const params = Object.fromEntries(
        Object.entries(met.match?.groups ?? {}).map(([key, value]) => [key, decodeURIComponent(value)]),
      )
      if (met.route.template.startsWith('/repos/') || met.route.template.includes('/projects/')) {
        const level = levelOf(there(repoOf(world, params)), user)
        if (level < LEVELS.indexOf(met.route.needs ?? 'read')) throw new Refusal(level < 0 ? 404 : 403, 'not allowed')
      }
      return await met.route.handle({ world, params, query, body, user })
    } catch (err) {
      if (err instanceof Refusal) return { status: err.status, body: { message: err.message, url } }
      throw err
    }
  }

  function levelOf(repo: Repo, user: User): number {
    const level = world.levelOf(repo, user.login)
    return level === undefined ? -1 : LEVELS.indexOf(level)
  }

  function userOf(token: string | undefined): User | undefined {
    const caller = token === undefined ? undefined : world.tokens.get(token)
    return caller === undefined || caller.kind === 'app' ? undefined : caller.user
  }

  async function serveGit(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, name = ''] = /^\/(.+)\.git\//.exec(path) ?? []
    const repo = world.find(name)
    const [, basic = ''] = /^Basic (.+)$/.exec(request.headers.authorization ?? '') ?? []
    const user = userOf(
      Buffer.from(basic, 'base64')
        .toString()
        .replace(/^[^:]*:/, ''),
    )
    const isPush = path.endsWith('/git-receive-pack') || request.url?.endsWith('service=git-receive-pack') === true
    const level = repo === undefined ? -1 : user === undefined ? (repo.private ? -1 : 0) : levelOf(repo, user)
    if (repo === undefined || level < (isPush ? 1 : 0) || (isPush && user === undefined)) {
      response.writeHead(user === undefined ? 401 : 404, { 'www-authenticate': 'Basic realm="forge"' }).end()
      return
    }
    const before = await refsOf(repo.dir)
    await serveRepository({ root: dir, path, user: user?.login }, request, response, async () => {
      if (isPush && user !== undefined) await world.refsChanged(repo, before, user)
    })
  }

  /** The world tells as GitHub would; from here it goes on as this forge tells it. */
  async function passOn(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const payload = JSON.parse(await textOf(request)) as Told['payload']
    const repo = world.repo(payload.repository.full_name)
    const delivery = deliveryOf({ world, repo, event: String(request.headers['x-github-event']), payload })
    const hook = hooks.get(repo.fullName)
    if (delivery !== undefined && hook !== undefined) {
      const body = JSON.stringify(delivery.body)
      const answer = await fetch(hook.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...prove(body, hook.secret), ...delivery.headers },
        body,
      })
      if (!answer.ok) problems.push(`delivery ${JSON.stringify(delivery.headers)}: ${await answer.text()}`)
      else await answer.arrayBuffer()
    }
    response.writeHead(204).end()
  }
}

const LEVELS = ['read', 'write', 'admin']

/** One page of a list; `headers` tells of the whole as the forge does. */
export function pageOf(
  { query, world }: Asked,
  all: readonly unknown[],
  size: 'limit' | 'per_page',
  headers: (whole: { readonly total: number; readonly next: number | undefined }) => Readonly<Record<string, string>>,
): Reply {
  const most = Math.min(world.maxPage, Number(query.get(size) ?? world.maxPage))
  const number = Number(query.get('page') ?? 1)
  const next = number * most < all.length ? number + 1 : undefined
  const body = all.slice((number - 1) * most, number * most)
  return { status: 200, body, headers: headers({ total: all.length, next }) }
}

export function newId(): string {
  return randomUUID()
}

/** A branch at the end may have slashes, written plainly or encoded. */
function patternOf(template: string): RegExp {
  const parts = template.replace(/\{(\w+)\}/g, (_, name: string) =>
    name === 'branch' && template.endsWith('{branch}') ? `(?<${name}>.+)` : `(?<${name}>[^/]+)`,
  )
  return new RegExp(`^${parts}$`)
}
