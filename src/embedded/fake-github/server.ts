import { createHash, createVerify } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text as textOf } from 'node:stream/consumers'
import { createFaults, type Fault, strike } from './faults.ts'
import { refsOf, serveRepository } from './repositories.ts'
import { commitRoutes } from './routes/commits.ts'
import { pullRoutes } from './routes/pulls.ts'
import { refRoutes } from './routes/refs.ts'
import { type FakeRoute, Refusal, type Reply } from './routes/route.ts'
import { reaches, settingsRoutes } from './routes/settings.ts'
import type { Caller, User } from './state.ts'
import { createWorld, type World, type WorldOptions } from './world.ts'

export interface Exchange {
  readonly method: string
  /** As GitHub's description writes it; undefined: a call that this GitHub does not know. */
  readonly template: string | undefined
  readonly path: string
  readonly query: URLSearchParams
  readonly authorization: string | undefined
  readonly requestBody: unknown
  readonly status: number
  readonly responseBody: unknown
  /** Answered otherwise than GitHub would: by a fault, or by a server that offers less. */
  readonly bent: boolean
  /** The client had it already. */
  readonly notModified: boolean
}

/** A server that speaks GitHub's API but offers less. */
export interface Lesser {
  /** Calls that it does not have. */
  readonly without?: (template: string) => boolean
  /** Changes answers: fields left out, another success code. */
  readonly reshape?: (template: string, reply: Reply) => Reply
}

export interface FakeGithubOptions {
  readonly dir: string
  /** A free one unless said. */
  readonly port?: number
  readonly clock?: () => number
  /** 100, as GitHub has it, unless said. */
  readonly maxPage?: number
  readonly lesser?: Lesser
  readonly onExchange?: (exchange: Exchange) => void
  readonly onPayload?: WorldOptions['onPayload']
}

export interface FakeGithub {
  /** Address of the API, and of the repositories: `<url>/<owner>/<name>.git`. */
  readonly url: string
  readonly world: World
  fault(fault: Fault): void
  clearFaults(): void
  stop(): Promise<void>
}

const ROUTES: readonly FakeRoute[] = [...refRoutes, ...pullRoutes, ...commitRoutes, ...settingsRoutes]
const MATCHERS = ROUTES.map((route) => ({ route, pattern: patternOf(route.template) }))

/** Scopes of a classic token of which one gives the permission. */
const SCOPES: Readonly<Record<string, readonly string[]>> = {
  metadata: ['repo', 'public_repo', 'repo:status', 'repo_deployment', 'read:repo_hook', 'admin:repo_hook'],
  statuses: ['repo', 'public_repo', 'repo:status'],
  deployments: ['repo', 'public_repo', 'repo_deployment'],
  repository_hooks: ['read:repo_hook', 'write:repo_hook', 'admin:repo_hook'],
}

/** A GitHub for tests and for the sample: its API, its webhooks, and its git over http, on one port. */
export async function startFakeGithub(options: FakeGithubOptions): Promise<FakeGithub> {
  const { dir, port = 0, clock = Date.now, maxPage = 100, lesser = {}, onExchange, onPayload } = options
  const faults = createFaults()
  const server = createServer((request, response) => {
    serve(request, response).catch((err: unknown) => {
      if (!response.headersSent) response.writeHead(500, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ message: String(err) }))
    })
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const world = createWorld({ dir, root: url, clock, maxPage, onPayload })

  return {
    url,
    world,
    fault: (fault) => faults.add(fault),
    clearFaults: () => faults.clear(),
    async stop() {
      await world.webhooks.settled()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = 'GET', headers } = request
    const { pathname, searchParams: query } = new URL(request.url ?? '/', url)
    if (/^\/[^/]+\/[^/]+\.git\//.test(pathname)) return serveGit(pathname, request, response)

    const found = MATCHERS.map(({ route, pattern }) => ({ route, match: pattern.exec(pathname) })).find(
      (one) => one.route.method === method && one.match !== null,
    )
    const template = found?.route.template
    const fault = faults.take(`${method} ${template ?? pathname}`)
    const text = await textOf(request)
    const exchange = {
      ...{ method, template, path: pathname, query, authorization: headers.authorization },
      requestBody: text === '' ? undefined : (JSON.parse(text) as unknown),
    }
    if (fault !== undefined && fault.after !== true && (await strike(fault, response))) {
      onExchange?.({ ...exchange, status: 0, responseBody: undefined, bent: true, notModified: false })
      return
    }
    const lacking = template !== undefined && lesser.without?.(`${method} ${template}`) === true
    const plain = lacking
      ? refused(new Refusal(404, 'Not Found'))
      : await replyTo(found?.route, found?.match?.groups ?? {}, { query, body: exchange.requestBody, headers })
    const reply = template === undefined ? plain : (lesser.reshape?.(`${method} ${template}`, plain) ?? plain)
    const answer = answerOf(reply, method, headers['if-none-match'])
    const bent = lacking || reply !== plain
    const notModified = answer.status === 304
    onExchange?.({ ...exchange, status: reply.status, responseBody: reply.body, bent, notModified })
    if (fault?.after === true && (await strike(fault, response))) return
    response.writeHead(answer.status, answer.headers).end(answer.text)
  }

  async function replyTo(
    route: FakeRoute | undefined,
    params: Readonly<Record<string, string>>,
    { query, body, headers }: { query: URLSearchParams; body: unknown; headers: IncomingMessage['headers'] },
  ): Promise<Reply> {
    try {
      const caller = callerOf(headers.authorization)
      if (caller === undefined) throw new Refusal(401, 'Bad credentials')
      if (route === undefined) throw new Refusal(404, 'Not Found')
      const decoded = Object.fromEntries(Object.entries(params).map(([key, value]) => [key, decodeURIComponent(value)]))
      checkNeeds(route, caller, decoded)
      const reply = await route.handle({ world, params: decoded, query, body, caller, user: userOf(caller) })
      const scopes = caller.kind === 'person' ? caller.scopes : undefined
      return scopes === undefined
        ? reply
        : { ...reply, headers: { ...reply.headers, 'x-oauth-scopes': scopes.join(', ') } }
    } catch (err) {
      if (err instanceof Refusal) return refused(err)
      throw err
    }
  }

  function callerOf(authorization: string | undefined): Caller | undefined {
    const [, kind = '', value = ''] = /^(\S+) (.+)$/.exec(authorization ?? '') ?? []
    if (kind.toLowerCase() === 'basic') {
      return world.tokens.get(
        Buffer.from(value, 'base64')
          .toString()
          .replace(/^[^:]*:/, ''),
      )
    }
    const app = world.app()
    if (value.split('.').length === 3 && app !== undefined) {
      return isSignedByApp(value, app.publicKey, app.id) ? { kind: 'app', app } : undefined
    }
    return world.tokens.get(value)
  }

  function isSignedByApp(jwt: string, publicKey: string, id: number): boolean {
    const [head = '', claims = '', signature = ''] = jwt.split('.')
    if (!createVerify('RSA-SHA256').update(`${head}.${claims}`).verify(publicKey, signature, 'base64url')) return false
    const { iat, exp, iss } = JSON.parse(Buffer.from(claims, 'base64url').toString()) as Record<string, number>
    const now = clock() / 1000
    return String(iss) === String(id) && Number(iat) <= now && Number(exp) > now && Number(exp) <= now + 600
  }

  function checkNeeds({ needs, method }: FakeRoute, caller: Caller, params: Readonly<Record<string, string>>): void {
    if (needs === 'app') {
      if (caller.kind !== 'app') throw new Refusal(401, 'A JSON web token could not be decoded')
      return
    }
    if (caller.kind === 'app') throw new Refusal(403, 'Resource not accessible by integration')
    if (needs === 'anyone') return
    const { permission, level } = needs
    const repo = world.find(`${params.owner}/${params.repo}`)
    if (repo === undefined) throw new Refusal(404, 'Not Found')
    if (caller.kind === 'installation') {
      const reads = !repo.private && level === 'read' && permission === 'metadata'
      if (!caller.repositories.includes(repo.fullName) && !reads) throw new Refusal(404, 'Not Found')
      if (!reads && !reaches(caller.permissions[permission], level)) {
        throw new Refusal(403, 'Resource not accessible by integration')
      }
      return
    }
    const own = world.levelOf(repo, caller.user.login)
    if (own === undefined) throw new Refusal(404, 'Not Found')
    const isAdminsOnly = permission === 'administration' || permission === 'repository_hooks'
    if (isAdminsOnly && own !== 'admin') throw new Refusal(404, 'Not Found')
    if (permission === 'checks' && method !== 'GET') throw new Refusal(403, 'You must authenticate via a GitHub App.')
    if (level === 'write' && own === 'read') throw new Refusal(403, 'Must have push access to the repository.')
    const scopes = SCOPES[permission] ?? ['repo', 'public_repo']
    if (caller.scopes !== undefined && !scopes.some((one) => caller.scopes?.includes(one))) {
      throw new Refusal(isAdminsOnly ? 404 : 403, 'Resource not accessible by personal access token')
    }
  }

  async function serveGit(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, owner = '', name = ''] = /^\/([^/]+)\/([^/]+)\.git\//.exec(path) ?? []
    const caller = callerOf(request.headers.authorization)
    const repo = world.find(`${owner}/${name}`)
    const isPush = path.endsWith('/git-receive-pack') || request.url?.endsWith('service=git-receive-pack') === true
    const user = caller === undefined || caller.kind === 'app' ? undefined : userOf(caller)
    const level = repo && (user === undefined ? (repo.private ? undefined : 'read') : world.levelOf(repo, user.login))
    if (repo === undefined || level === undefined || (isPush && (user === undefined || level === 'read'))) {
      response.writeHead(user === undefined ? 401 : 404, { 'www-authenticate': 'Basic realm="GitHub"' }).end()
      return
    }
    const before = await refsOf(repo.dir)
    await serveRepository({ root: dir, path, user: user?.login }, request, response, async () => {
      if (isPush && user !== undefined) await world.refsChanged(repo, before, user)
    })
  }
}

function userOf(caller: Caller): User {
  return caller.kind === 'app' ? caller.app.bot : caller.user
}

function refused({ status, message, errors }: Refusal): Reply {
  const documentation_url = 'https://docs.github.com/rest'
  const body = { message, documentation_url, ...(status === 422 && errors.length > 0 ? { errors } : {}) }
  return { status, body: { ...body, ...(status === 422 ? {} : { status: String(status) }) } }
}

/** What goes over the wire: a list that the client has already is not sent again. */
function answerOf({ status, body, headers }: Reply, method: string, known: string | undefined) {
  if (body === undefined) return { status, headers, text: undefined }
  const text = JSON.stringify(body)
  const type = { 'content-type': 'application/json; charset=utf-8' }
  if (method !== 'GET' || status !== 200) return { status, headers: { ...type, ...headers }, text }
  const etag = `"${createHash('sha256').update(text).update(nextOf(headers, text)).digest('hex')}"`
  if (known === etag) return { status: 304, headers: { etag }, text: undefined }
  return { status, headers: { ...type, etag, ...headers }, text }
}

/** The last part of a ref may have slashes, written plainly or encoded. */
function patternOf(template: string): RegExp {
  const parts = template.replace(/\{(\w+)\}/g, (_, name: string) =>
    name === 'ref' && template.endsWith('{ref}') ? `(?<${name}>.+)` : `(?<${name}>[^/]+)`,
  )
  return new RegExp(`^${parts}$`)
}

/** Pages of less than ten, which GitHub never has, tell of the next one by their ETag; GitHub's do not. */
function nextOf(headers: Reply['headers'], text: string): string {
  const body: unknown = JSON.parse(text)
  return Array.isArray(body) && body.length < 10 ? (headers?.link ?? '') : ''
}
