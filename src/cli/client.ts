import { readFileSync } from 'node:fs'
import path from 'node:path'

/** What the server answered instead of doing it. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly status: number
  readonly problem: unknown
  constructor(status: number, message: string, problem: unknown) {
    super(message)
    this.status = status
    this.problem = problem
  }
}

/** The server cannot be reached, or nobody said where it is. */
export class NoServer extends Error {
  override readonly name = 'NoServer'
}

/** An answer broke off, or nothing came of it for so long that it was given up: what is missing can be asked for again. */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost'
  /** Nothing was wrong: the other side had nothing to say for some minutes. */
  readonly silence: boolean
  constructor(url: string, cause: unknown) {
    super(`the connection to ${url} was lost`, { cause })
    this.silence = codeOf(cause) === 'UND_ERR_BODY_TIMEOUT'
  }
}

export interface ApiClient {
  get<T>(path: string): Promise<T>
  post<T>(path: string, body?: unknown): Promise<T>
  /** Bytes as they are. */
  upload<T>(path: string, bytes: Uint8Array): Promise<T>
  put<T>(path: string, body: unknown): Promise<T>
  /** Without a body: that it came by the command line, and why, is said in the query. */
  remove(path: string, why?: string): Promise<void>
  /** A body as it comes. @throws ConnectionLost when it breaks off */
  stream(path: string, headers?: Readonly<Record<string, string>>): AsyncIterable<Uint8Array>
}

export type Variables = Readonly<Record<string, string | undefined>>

/** Where the server is and who asks: `PENSTOCK_URL` and `PENSTOCK_TOKEN`, else `cli.json` in the data directory. */
export function findServer(env: Variables): { readonly url: string; readonly token: string } {
  const tokenFile = env.PENSTOCK_TOKEN_FILE
  const token = env.PENSTOCK_TOKEN?.trim() || (tokenFile ? readFileSync(tokenFile, 'utf8').trim() : undefined)
  const url = env.PENSTOCK_URL
  if (url && token) return { url, token }
  const file = path.resolve(env.PENSTOCK_DATA || '.penstock', 'cli.json')
  let saved: { url?: string; token?: string }
  try {
    saved = JSON.parse(readFileSync(file, 'utf8')) as typeof saved
  } catch (cause) {
    throw new NoServer(`set PENSTOCK_URL and PENSTOCK_TOKEN: there is no server's address in ${file}`, { cause })
  }
  const found = { url: url || saved.url, token: token || saved.token }
  if (!found.url || !found.token) throw new NoServer(`${file} must hold url and token`)
  return { url: found.url, token: found.token }
}

export function createApiClient({ url, token }: { readonly url: string; readonly token: string }): ApiClient {
  // Such a header could not even be sent.
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new NoServer('the token has blanks, line ends or other characters that none has')
  const base = `${url.replace(/\/+$/, '')}/api/v1`

  async function ask(
    method: string,
    where: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Response> {
    const isBytes = body instanceof Uint8Array
    const type = isBytes ? 'application/octet-stream' : 'application/json'
    const sent = isBytes ? Buffer.from(body) : JSON.stringify(body)
    let response: Response
    try {
      response = await fetch(`${base}${where}`, {
        method,
        redirect: 'error',
        headers: {
          authorization: `Bearer ${token}`,
          ...headers,
          ...(body === undefined ? {} : { 'content-type': type }),
        },
        ...(body === undefined ? {} : { body: sent }),
      })
    } catch (cause) {
      throw new NoServer(`no server answers at ${url}`, { cause })
    }
    if (response.ok) return response
    const text = await response.text()
    const problem = parse(text)
    const detail =
      typeof problem === 'object' && problem !== null && 'detail' in problem
        ? String(problem.detail)
        : text.slice(0, 500)
    throw new ApiError(response.status, detail || `the server answered ${response.status}`, problem)
  }

  async function json(response: Response): Promise<unknown> {
    let text: string
    try {
      text = await response.text()
    } catch (cause) {
      throw new ConnectionLost(url, cause)
    }
    const value = parse(text)
    if (value === undefined) throw new NoServer(`what answers at ${url} is no Penstock server: it sent no JSON`)
    return value
  }

  return {
    async get<T>(where: string) {
      return (await json(await ask('GET', where))) as T
    },
    async post<T>(where: string, body: unknown = {}) {
      return (await json(await ask('POST', where, body))) as T
    },
    async upload<T>(where: string, bytes: Uint8Array) {
      return (await json(await ask('POST', where, bytes))) as T
    },
    async put<T>(where: string, body: unknown) {
      return (await json(await ask('PUT', where, body))) as T
    },
    async remove(where, why) {
      const query = new URLSearchParams({ ...(why === undefined ? {} : { reason: why }), channel: 'cli' })
      await ask('DELETE', `${where}?${query}`)
    },
    async *stream(where, headers) {
      const response = await ask('GET', where, undefined, headers)
      try {
        if (response.body) yield* response.body
      } catch (cause) {
        throw new ConnectionLost(url, cause)
      }
    },
  }
}

/** What undici says under the error of `fetch`. */
function codeOf(err: unknown): unknown {
  const cause = err instanceof Error ? err.cause : undefined
  return typeof cause === 'object' && cause !== null && 'code' in cause ? cause.code : undefined
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    // Not from our server (a proxy's page): the text itself is shown.
    return undefined
  }
}
