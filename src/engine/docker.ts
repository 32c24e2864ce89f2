import Docker from 'dockerode'
import { EngineRefused } from './types.ts'

/** The one place where a connection to Docker is made: `DOCKER_HOST` and its siblings, else the default socket. */
export function connectDocker(env: Readonly<Record<string, string | undefined>>): Docker {
  const host = env.DOCKER_HOST
  if (host === undefined || host === '') return new Docker({ socketPath: '/var/run/docker.sock' })
  if (host.startsWith('unix://')) return new Docker({ socketPath: host.slice('unix://'.length) })
  const url = new URL(host.replace(/^tcp:/, 'http:'))
  const protocol = url.protocol === 'https:' ? 'https' : 'http'
  return new Docker({ protocol, host: url.hostname, port: Number(url.port || (protocol === 'https' ? 2376 : 2375)) })
}

export function statusOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('statusCode' in error)) return undefined
  return typeof error.statusCode === 'number' ? error.statusCode : undefined
}

/** Docker's own sentence, without dockerode's prefix. */
export function dockerMessage(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'json' in error) {
    const { json } = error
    if (typeof json === 'object' && json !== null && 'message' in json && typeof json.message === 'string')
      return json.message
  }
  return error instanceof Error ? error.message : String(error)
}

export function isNotFound(error: unknown): boolean {
  return statusOf(error) === 404
}

/** Docker says "already exists" with 409; "in use" too. */
export function isConflict(error: unknown): boolean {
  return statusOf(error) === 409
}

export async function orAbsent<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise
  } catch (error) {
    if (isNotFound(error)) return undefined
    throw error
  }
}

/** A request that Docker calls malformed will never be accepted: 400 becomes `EngineRefused`, the rest rises. */
export async function refusedForGood<T>(what: string, promise: Promise<T>): Promise<T> {
  try {
    return await promise
  } catch (error) {
    if (statusOf(error) === 400) throw new EngineRefused(`${what}: ${dockerMessage(error)}`, { cause: error })
    throw error
  }
}

export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason)
      return
    }
    const onAbort = () => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/**
 * Repeats a removal until Docker takes it: things stay "in use" for a moment after their container has ended. Already
 * gone is done; after `limitMs` the last refusal rises.
 */
export async function removeWithin(limitMs: number, remove: () => Promise<unknown>): Promise<void> {
  const deadline = performance.now() + limitMs
  for (let pause = 20; ; pause = Math.min(pause * 2, 500)) {
    try {
      await remove()
      return
    } catch (error) {
      if (isNotFound(error)) return
      if (performance.now() >= deadline) throw error
    }
    await sleep(pause)
  }
}

/** Docker's `filters` for "all of these labels". */
export function byLabels(labels: Readonly<Record<string, string>>): { label: string[] } {
  return { label: Object.entries(labels).map(([name, value]) => `${name}=${value}`) }
}
