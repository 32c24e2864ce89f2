import type { JobKey, LogKey } from '../core/ids.ts'
import { type LogCursor, LogMoved, type ServerPort } from './types.ts'

/** The server refused for good (4xx): repeating the same call cannot help. */
export class ServerRefused extends Error {
  override readonly name = 'ServerRefused'
  readonly status: number
  constructor(call: string, status: number, detail: string) {
    super(`the server refused ${call} with ${status}: ${detail}`)
    this.status = status
  }
}

/** The server could not be reached, or could not do its work, for as long as this client goes on trying. */
export class ServerUnavailable extends Error {
  override readonly name = 'ServerUnavailable'
}

export interface ServerClientOptions {
  /** `http://127.0.0.1:7410` */
  readonly url: string
  /** The worker token. */
  readonly token: string
  /** How long one call goes on trying; a restart of the server must not be seen. */
  readonly patienceMs?: number
}

const PATIENCE_MS = 60_000
/** One try: the largest body is a megabyte of log. */
const TRY_MS = 30_000
const FIRST_DELAY_MS = 50
const LONGEST_DELAY_MS = 2000

/** The server as a node's worker sees it. Every call is repeated by itself while the server is away. */
export function createServerClient({ url, token, patienceMs = PATIENCE_MS }: ServerClientOptions): ServerPort {
  const base = `${url.replace(/\/+$/, '')}/internal/v1`

  async function call(method: 'GET' | 'POST', path: string, body?: Body): Promise<unknown> {
    const name = path.split('?')[0] ?? path
    const deadline = performance.now() + patienceMs
    for (let delay = FIRST_DELAY_MS; ; delay = Math.min(delay * 2, LONGEST_DELAY_MS)) {
      let problem: unknown
      try {
        const response = await fetch(`${base}${path}`, {
          method,
          headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'content-type': body.type }) },
          ...(body === undefined ? {} : { body: body.bytes }),
          redirect: 'error',
          signal: AbortSignal.timeout(TRY_MS),
        })
        const text = await response.text()
        if (response.ok) return text === '' ? undefined : (JSON.parse(text) as unknown)
        if (response.status === 409) throw new LogMoved(moved(text))
        if (response.status < 500 && response.status !== 429)
          throw new ServerRefused(name, response.status, text.slice(0, 500))
        problem = new Error(`answer ${response.status}`)
      } catch (err) {
        // Reached and refused: final. Everything else (no connection, cut off, too slow) is the server being away.
        if (err instanceof LogMoved || err instanceof ServerRefused) throw err
        problem = err
      }
      if (performance.now() + delay > deadline) {
        throw new ServerUnavailable(`the server did not do ${name} within ${patienceMs} ms`, { cause: problem })
      }
      await new Promise((resolve) => setTimeout(resolve, delay))
    }
  }

  return {
    async alive(node) {
      return (await call('POST', '/alive', json(node))) as Awaited<ReturnType<ServerPort['alive']>>
    },
    async secrets(job) {
      return (await call('GET', `/secrets?${jobQuery(job)}`)) as Awaited<ReturnType<ServerPort['secrets']>>
    },
    async logState(log) {
      return (await call('GET', `/log?${logQuery(log)}`)) as LogCursor
    },
    async appendLog(log, { at, rawEnd, secretsVersion, bytes }) {
      const query = logQuery(log)
      query.set('at', String(at))
      query.set('rawEnd', String(rawEnd))
      query.set('secretsVersion', secretsVersion)
      return (await call('POST', `/log?${query}`, octets(bytes))) as LogCursor
    },
    async finishLog(log, end) {
      await call('POST', `/log/end?${logQuery(log)}`, json(end))
    },
    async events(run, appends) {
      await call('POST', '/events', json({ run, appends }))
    },
    async junit(job, file, bytes) {
      const query = jobQuery(job)
      query.set('file', file)
      return ((await call('POST', `/junit?${query}`, octets(bytes))) as { cases: number }).cases
    },
    async artifact(bytes) {
      return ((await call('POST', '/artifacts', octets(bytes))) as { digest: string }).digest
    },
    async holdsUnits(job, node) {
      const query = jobQuery(job)
      query.set('node', node)
      return ((await call('POST', `/leases?${query}`)) as { held: boolean }).held
    },
    async proveGone(job) {
      await call('POST', `/leases/gone?${jobQuery(job)}`)
    },
  }
}

interface Body {
  readonly type: string
  readonly bytes: string | Uint8Array<ArrayBuffer>
}

function json(value: unknown): Body {
  return { type: 'application/json', bytes: JSON.stringify(value) }
}

function octets(bytes: Buffer): Body {
  return { type: 'application/octet-stream', bytes: new Uint8Array(bytes) }
}

function jobQuery({ run, stage, job, attempt }: JobKey): URLSearchParams {
  return new URLSearchParams({ run, stage, job, attempt: String(attempt) })
}

function logQuery(log: LogKey): URLSearchParams {
  const query = jobQuery(log)
  query.set('step', String(log.step))
  return query
}

function moved(text: string): LogCursor {
  return (JSON.parse(text) as { cursor: LogCursor }).cursor
}
