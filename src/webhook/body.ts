import type { IncomingMessage } from 'node:http'

export type Body =
  | { readonly kind: 'read'; readonly bytes: Buffer }
  | { readonly kind: 'too_large' }
  | { readonly kind: 'too_slow' }
  | { readonly kind: 'too_many' }
  | { readonly kind: 'broken' }

export interface BodyLimits {
  readonly maxBytes: number
  readonly timeoutMs: number
  /** Bytes of all bodies that are being read at one time. */
  readonly maxInFlight: number
}

/** GitHub's own cap is 25 MiB, and it gives up after 10 s. */
export const BODY_LIMITS: BodyLimits = { maxBytes: 25 * 1024 * 1024, timeoutMs: 10_000, maxInFlight: 64 * 1024 * 1024 }

/** After a refusal: how long a sender may go on before the connection is cut, so that it can read the answer. */
const LINGER_MS = 2000

/** Reads the bytes as they were sent; what is over a limit is refused while it comes, never held. */
export function createBodyReader(limits: BodyLimits) {
  let inFlight = 0

  return function readBody(request: IncomingMessage): Promise<Body> {
    const declared = Number(request.headers['content-length'] ?? 0)
    if (declared > limits.maxBytes) return Promise.resolve(refuse(request, 'too_large'))
    if (inFlight + declared > limits.maxInFlight) return Promise.resolve(refuse(request, 'too_many'))

    return new Promise((resolve) => {
      const chunks: Buffer[] = []
      let size = 0
      const finish = (body: Body): void => {
        clearTimeout(timer)
        inFlight -= size
        request.off('data', onData).off('end', onEnd).off('error', onBroken).off('close', onBroken)
        resolve(body)
      }
      const onData = (chunk: Buffer): void => {
        size += chunk.length
        inFlight += chunk.length
        if (size > limits.maxBytes) finish(refuse(request, 'too_large'))
        else if (inFlight > limits.maxInFlight) finish(refuse(request, 'too_many'))
        else chunks.push(chunk)
      }
      const onEnd = (): void => finish({ kind: 'read', bytes: Buffer.concat(chunks, size) })
      const onBroken = (): void => finish({ kind: 'broken' })
      const timer = setTimeout(() => finish(refuse(request, 'too_slow')), limits.timeoutMs)
      request.on('data', onData).on('end', onEnd).on('error', onBroken).on('close', onBroken)
    })
  }
}

function refuse(request: IncomingMessage, kind: 'too_large' | 'too_slow' | 'too_many'): Body {
  const cut = setTimeout(() => request.socket.destroy(), LINGER_MS)
  cut.unref()
  request
    .on('error', () => clearTimeout(cut))
    .on('end', () => clearTimeout(cut))
    .resume()
  return { kind }
}
