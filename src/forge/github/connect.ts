import { createHash } from 'node:crypto'
import { createAppAuth } from '@octokit/auth-app'
import { retry } from '@octokit/plugin-retry'
import { throttling } from '@octokit/plugin-throttling'
import { Octokit } from '@octokit/rest'
import { z } from 'zod'
import { headersOf, isStatus, read } from '../answers.ts'
import { deadline } from '../deadline.ts'
import { ForgeBusy } from '../types.ts'
import { answerFromBefore } from './conditional.ts'
import { leastOf } from './permissions.ts'

export type GithubAccess =
  | { readonly kind: 'token'; readonly token: string }
  | { readonly kind: 'app'; readonly id: string; readonly privateKey: string; readonly installation?: number }

export interface ConnectOptions {
  /** `acme/web` */
  readonly repo: string
  readonly api: string
  readonly access: GithubAccess
}

/** What the files beside this one use: one identity at one repository. */
export interface Connection {
  readonly at: { readonly owner: string; readonly repo: string }
  readonly access: GithubAccess['kind']
  /** As the installation, or as the token's owner. */
  readonly octokit: Octokit
  /** As the App itself: its webhook and what it was granted. Absent with a token. */
  readonly app?: Octokit
  /** A token for git over https; an App's is good for an hour, and renewed before. */
  gitToken(): Promise<string>
  /** The account that our comments and statuses are by. */
  login(): Promise<string>
}

const REQUEST_MS = 15_000
/** What an activity's own retry would wait anyway; a longer wait is the caller's decision. */
const PATIENCE_S = 3
/** As long as a token lasts: what an owner grants later is used after that. */
const INSTALLATION_MS = 3_600_000
/** GitHub asks for a second between changes, and for more between those that notify people. Elsewhere 429 tells. */
const PACED = /^https:\/\/(?:api\.github\.com|api\.[^/]+\.ghe\.com)(?:\/|$)/

const Client = Octokit.plugin(throttling, retry)

export function connect({ repo: fullName, api, access }: ConnectOptions): Connection {
  const [owner = '', repo = ''] = fullName.split('/')
  const at = { owner, repo }
  const common = {
    baseUrl: api,
    // A failure rises to the caller, who logs it once.
    log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
    request: { fetch: fetchHere },
    retry: { retries: 1 },
    throttle: throttleOf(api, access),
  }
  if (access.kind === 'token') {
    const octokit = prepared(new Client({ ...common, auth: access.token }))
    return {
      at,
      access: 'token',
      octokit,
      gitToken: async () => access.token,
      login: kept(
        Number.POSITIVE_INFINITY,
        async () => read(Account, await octokit.rest.users.getAuthenticated()).login,
      ),
    }
  }

  const credentials = { appId: access.id, privateKey: access.privateKey }
  const app = prepared(new Client({ ...common, authStrategy: createAppAuth, auth: credentials }))
  const installation = kept(INSTALLATION_MS, async () => {
    const { installation: installation_id } = access
    return read(
      Installation,
      installation_id === undefined
        ? await app.rest.apps.getRepoInstallation(at)
        : await app.rest.apps.getInstallation({ installation_id }),
    )
  })
  const authenticate = createAppAuth({ ...credentials, request: app.request })
  /** Kept by the library until shortly before it ends. For this repository only, and for no more than is used. */
  const token = async (): Promise<string> => {
    const { id: installationId, permissions } = await installation()
    const limits = { installationId, repositoryNames: [repo], permissions: leastOf(permissions) }
    return (await authenticate({ type: 'installation', ...limits })).token
  }
  const octokit = prepared(new Client(common))
  octokit.hook.before('request', async (options) => {
    options.headers.authorization = `token ${await token()}`
  })
  return {
    at,
    access: 'app',
    octokit,
    app,
    gitToken: token,
    login: kept(
      Number.POSITIVE_INFINITY,
      async () => `${read(AppItself, await app.rest.apps.getAuthenticated()).slug}[bot]`,
    ),
  }
}

const Account = z.object({ login: z.string().min(1) })
const Installation = z.object({ id: z.int().positive(), permissions: z.record(z.string(), z.string()) })
const AppItself = z.object({ slug: z.string().min(1) })

/** Another host would get the token: a redirect is an error. */
function fetchHere(url: string, init: RequestInit): Promise<Response> {
  const late = AbortSignal.timeout(REQUEST_MS)
  const signal = init.signal ? AbortSignal.any([late, init.signal]) : late
  return fetch(url, { ...init, redirect: 'error', signal })
}

function prepared(octokit: Octokit): Octokit {
  octokit.hook.before('request', (options) => {
    // Here, because the request itself is begun by whoever makes room in the client's queue.
    const signal = deadline()
    // A copy: what is set in the object that is here is set for all later requests, too.
    options.request = {
      ...options.request,
      // What changes something is repeated by those who first look whether it was done.
      ...(options.method === 'GET' ? {} : { retries: 0 }),
      ...(signal === undefined ? {} : { signal }),
    }
  })
  answerFromBefore(octokit)
  octokit.hook.error('request', (err) => {
    const wait = waitOf(err)
    if (wait !== undefined) throw new ForgeBusy(`GitHub asks to wait for ${Math.ceil(wait / 1000)} s`, wait, err)
    throw err
  })
  return octokit
}

function throttleOf(api: string, access: GithubAccess) {
  const shortWait = (retryAfter: number, _options: unknown, _octokit: unknown, retryCount: number): boolean =>
    retryAfter <= PATIENCE_S && retryCount === 0
  const identity = access.kind === 'token' ? access.token : `${access.id}/${access.installation ?? ''}`
  return {
    // The limits are an account's, not a repository's: all repositories of one identity keep one pace.
    id: createHash('sha256').update(`${api} ${identity}`).digest('hex'),
    onRateLimit: shortWait,
    onSecondaryRateLimit: shortWait,
    ...(PACED.test(api) ? {} : { write: AT_ONCE, notifications: AT_ONCE }),
  }
}

// biome-ignore lint/suspicious/noExplicitAny: stands in for a class of which the plugin uses these two methods.
const AT_ONCE: any = { key: () => ({ schedule: (_options: unknown, run: () => unknown) => run() }) }

const DEFAULT_WAIT_MS = 60_000

/** How long GitHub wants us to wait, by the headers of a 403 or 429; undefined: it is no matter of waiting. */
function waitOf(err: unknown): number | undefined {
  if (!isStatus(err, 403) && !isStatus(err, 429)) return undefined
  const headers = headersOf(err)
  const after = Number(headers['retry-after'])
  if (headers['retry-after'] !== undefined) return Number.isFinite(after) ? after * 1000 : DEFAULT_WAIT_MS
  if (headers['x-ratelimit-remaining'] === '0') {
    const reset = Number(headers['x-ratelimit-reset'])
    return Number.isFinite(reset) ? Math.max(1000, reset * 1000 - Date.now()) : DEFAULT_WAIT_MS
  }
  return isStatus(err, 429) || isSecondaryLimit(err) ? DEFAULT_WAIT_MS : undefined
}

/** One that names no time: GitHub gives it no code, only the link to its documentation tells it from a missing permission. */
function isSecondaryLimit(err: unknown): boolean {
  const response = err instanceof Error && 'response' in err ? err.response : undefined
  const data = (response as { data?: { documentation_url?: unknown } } | undefined)?.data
  return /rate-limit/.test(String(data?.documentation_url ?? ''))
}

/** Asked again after a while; a failure is not kept. */
function kept<T>(ms: number, ask: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined
  let until = 0
  return () => {
    if (performance.now() > until) answer = undefined
    if (answer === undefined) until = performance.now() + ms
    answer ??= ask().catch((err: unknown) => {
      answer = undefined
      throw err
    })
    return answer
  }
}

function quiet(): void {}
