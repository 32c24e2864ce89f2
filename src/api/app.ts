import type { Server } from 'node:http'
import { createServer } from 'node:http'
import express, { type Express, type Request, type RequestHandler, type Response } from 'express'
import { JsonRefused, parseJson } from '../forge/json.ts'
import { createBodyReader } from '../webhook/body.ts'
import { createWebhookRouter } from '../webhook/router.ts'
import { createAuthenticator, may, unauthenticated } from './caller.ts'
import type { ApiDeps } from './deps.ts'
import { internalRoutes } from './internal.ts'
import { ProblemError, problem, sendProblem } from './problem.ts'
import { publicRoutes } from './public.ts'
import { type Asked, invalid, notFound, type Route } from './route.ts'

const MAX_JSON = 64 * 1024
/** Bodies of node workers: events and log pieces. */
const MAX_INTERNAL_JSON = 4 * 1024 * 1024
const BODY_MS = 30_000
const MAX_IN_FLIGHT = 128 * 1024 * 1024
/** A revoked token closes an open stream within 5 s. */
const RECHECK_MS = 3000

const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cache-Control': 'no-store',
}

const HANDLERS = { GET: 'get', POST: 'post', PUT: 'put', DELETE: 'delete' } as const

/** Every route of the HTTP interface with the permission it asks for. What is not in this table is not served. */
export function routeTable(deps: ApiDeps): readonly Route[] {
  return [...publicRoutes(deps), ...internalRoutes(deps)]
}

/** The server's HTTP interface: deliveries, the API, and what node workers ask for. */
export function createApp(deps: ApiDeps): Express {
  const { config, store, log } = deps
  const authenticator = createAuthenticator({ config, people: store.people, clock: deps.clock })
  const readers = new Map<number, ReturnType<typeof createBodyReader>>()
  const readerOf = (maxBytes: number) => {
    const reader =
      readers.get(maxBytes) ?? createBodyReader({ maxBytes, timeoutMs: BODY_MS, maxInFlight: MAX_IN_FLIGHT })
    readers.set(maxBytes, reader)
    return reader
  }

  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.enable('case sensitive routing')
  // The address of a client is the peer's: no proxy header is believed.
  app.set('trust proxy', false)
  app.use((request, response, next) => {
    response.set(SECURITY_HEADERS)
    if (isOddPath(request.url)) {
      return sendProblem(
        response,
        problem(400, 'the path must be written plainly: no `//`, `;`, `\\`, `.` or `..` in it'),
      )
    }
    next()
  })
  app.use(createWebhookRouter({ config, store, log }))

  const table = routeTable(deps)
  // Before routing: an unknown path tells a stranger nothing, either.
  app.use(['/api', '/internal'], guard(authenticate))
  for (const route of table) {
    app[HANDLERS[route.method]](route.path, guard(serve(route)))
  }
  for (const path of new Set(table.map((route) => route.path))) {
    const allowed = table.filter((route) => route.path === path).map((route) => route.method)
    app.all(path, (request, response) => {
      sendProblem(response, problem(405, `${request.method} is not possible here`), { Allow: allowed.join(', ') })
    })
  }
  deps.mount?.(app)
  app.use((_request, response) => sendProblem(response, notFound().problem))
  app.use(onError)
  return app

  async function authenticate(request: Request, response: Response, next: () => void): Promise<void> {
    const path = request.originalUrl.split('?')[0]
    const isOpen = table.some((route) => route.permission === 'open' && route.path === path)
    if (!isOpen) {
      const caller = await authenticator.callerOf({
        authorization: request.get('authorization'),
        address: request.socket.remoteAddress ?? '',
      })
      if (caller.kind === 'nobody') throw unauthenticated('a token is needed: `Authorization: Bearer pst_…`')
      if ((caller.kind === 'worker') !== request.baseUrl.startsWith('/internal')) {
        throw unauthenticated('this token is for another part of the interface')
      }
      response.locals.caller = caller
    }
    next()
  }

  function serve(route: Route) {
    return async (request: Request, response: Response): Promise<void> => {
      const caller = response.locals.caller ?? { kind: 'nobody' }
      if (!may(caller, route.permission)) {
        if (caller.kind === 'person') {
          const params = Object.entries(request.params).map(([key, value]) => [key, String(value)])
          if (route.onRefused !== undefined)
            await route.onRefused(caller.name, Object.fromEntries(params), await bodyOfRefused(route, request))
        }
        throw new ProblemError(
          problem(403, `this needs the permission "${route.permission}", which none of your roles gives`),
        )
      }
      const query = new URLSearchParams(request.originalUrl.split('?')[1] ?? '')
      checkQuery(route, query)
      const { body, bytes } = await readBody(route, request)
      const asked: Asked = {
        params: Object.fromEntries(Object.entries(request.params).map(([key, value]) => [key, String(value)])),
        query,
        header: (name) => request.get(name),
        by: caller.kind === 'person' ? caller.name : caller.kind,
        body,
        bytes,
      }
      const reply = await route.handle(asked, request)
      switch (reply.kind) {
        case 'none':
          response.status(204).end()
          return
        case 'json':
          response
            .status(reply.status)
            .set(reply.headers ?? {})
            .json(reply.body)
          return
        case 'stream':
          await stream(route, request, response, reply)
      }
    }
  }

  async function stream(
    route: Route,
    request: Request,
    response: Response,
    reply: Extract<Awaited<ReturnType<Route['handle']>>, { kind: 'stream' }>,
  ): Promise<void> {
    const gone = new AbortController()
    response.on('close', () => gone.abort())
    const recheck = setInterval(() => {
      authenticator.stillMay(request.get('authorization'), route.permission).then(
        (allowed) => {
          if (!allowed) response.destroy()
        },
        (err: unknown) => log.warn({ err }, 'the token of an open stream could not be checked'),
      )
    }, RECHECK_MS)
    try {
      response.status(reply.status).set({ 'Content-Type': reply.type, 'X-Accel-Buffering': 'no', ...reply.headers })
      response.flushHeaders()
      await reply.write(response, gone.signal)
      response.end()
    } finally {
      clearInterval(recheck)
      gone.abort()
    }
  }

  /** What is wrong with it is nothing that a refusal waits for. */
  async function bodyOfRefused(route: Route, request: Request): Promise<unknown> {
    try {
      return (await readBody(route, request)).body
    } catch (err) {
      if (err instanceof ProblemError || err instanceof JsonRefused) return undefined
      throw err
    }
  }

  async function readBody(route: Route, request: Request): Promise<{ body: unknown; bytes: Buffer }> {
    const { body } = route
    if (body === undefined) return { body: undefined, bytes: Buffer.alloc(0) }
    const wanted = body.kind === 'json' ? 'application/json' : 'application/octet-stream'
    const isEmpty =
      request.get('content-length') === '0' ||
      (request.get('content-length') === undefined && request.get('transfer-encoding') === undefined)
    if (!isEmpty && request.get('content-type')?.split(';')[0]?.trim().toLowerCase() !== wanted) {
      throw new ProblemError(problem(415, `the body must be ${wanted}`))
    }
    const max = body.kind === 'bytes' ? body.max : route.permission === 'worker' ? MAX_INTERNAL_JSON : MAX_JSON
    const read = await readerOf(max)(request)
    if (read.kind === 'too_large') throw new ProblemError(problem(413, `the body has at most ${max} bytes`))
    if (read.kind === 'too_slow') throw new ProblemError(problem(408, `the body did not come within ${BODY_MS} ms`))
    if (read.kind === 'too_many')
      throw new ProblemError(problem(503, 'too many bodies are being read'), { 'Retry-After': '1' })
    if (read.kind === 'broken') throw new ProblemError(problem(400, 'the body broke off'))
    if (body.kind === 'bytes') return { body: undefined, bytes: read.bytes }
    const value = read.bytes.length === 0 ? {} : parseJson(read.bytes)
    const parsed = body.schema.safeParse(value)
    if (parsed.success) return { body: parsed.data, bytes: read.bytes }
    throw invalid(
      parsed.error.issues.flatMap((issue) => {
        const pointer = `/${issue.path.map(String).join('/')}`
        if (issue.code !== 'unrecognized_keys') return [{ pointer, detail: issue.message }]
        return issue.keys.map((key) => ({
          pointer: pointer === '/' ? `/${key}` : `${pointer}/${key}`,
          detail: 'unknown key',
        }))
      }),
    )
  }

  function guard(handle: (request: Request, response: Response, next: () => void) => Promise<void>): RequestHandler {
    return (request, response, next) => {
      handle(request, response, next).catch((err: unknown) => onError(err, request, response, next))
    }
  }

  // express knows a handler of errors by its four parameters.
  function onError(err: unknown, request: Request, response: Response, _next: unknown): void {
    if (err instanceof ProblemError) sendProblem(response, err.problem, err.headers)
    else if (err instanceof JsonRefused) sendProblem(response, problem(400, err.message))
    // express: a path that cannot be decoded.
    else if (err instanceof URIError) sendProblem(response, problem(400, 'the path is not well encoded'))
    else {
      log.error({ err, method: request.method, path: request.path }, 'a request could not be served')
      if (isDiskFull(err))
        sendProblem(response, problem(503, 'the disk of the server is full'), { 'Retry-After': '30' })
      else sendProblem(response, problem(500, 'the server could not do this; its log says why'))
    }
  }
}

/** As SQLite, PostgreSQL and the file system say it. */
const DISK_FULL = new Set(['SQLITE_FULL', '53100', 'ENOSPC', 'EDQUOT'])

function isDiskFull(err: unknown): boolean {
  return err instanceof Error && 'code' in err && typeof err.code === 'string' && DISK_FULL.has(err.code)
}

function checkQuery(route: Route, query: URLSearchParams): void {
  const known = Object.keys(route.query ?? {})
  const errors = [...new Set(query.keys())]
    .filter((name) => !known.includes(name) || query.getAll(name).length > 1)
    .slice(0, 20)
    .map((name) => ({
      pointer: `?${name.slice(0, 100)}`,
      detail: known.includes(name) ? 'must be given once' : `unknown; known here: ${known.join(', ') || 'none'}`,
    }))
  if (errors.length > 0) throw invalid(errors)
}

/** Forms of a path that one reader takes for another path than the next. */
function isOddPath(url: string): boolean {
  const path = url.split('?')[0] ?? ''
  return /\/\/|[;\\]|%00|%5c|(?:^|\/)(?:\.|%2e){1,2}(?:\/|$)/i.test(path) || !isDecodable(path)
}

/** The router throws at what is not, and its own page tells a stranger where we are installed. */
function isDecodable(path: string): boolean {
  try {
    decodeURIComponent(path)
    return true
  } catch (err) {
    if (err instanceof URIError) return false
    throw err
  }
}

const HEADERS_MS = 10_000
/** Longer than the idle time after which load balancers and clients close. */
const KEEP_ALIVE_MS = 65_000

/** The node server for the app, with limits on how slowly one may send. */
export function createHttpServer(app: Express): Server {
  const server = createServer(
    {
      headersTimeout: HEADERS_MS,
      requestTimeout: 60_000,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: 1000,
    },
    app,
  )
  server.maxRequestsPerSocket = 0
  return server
}
