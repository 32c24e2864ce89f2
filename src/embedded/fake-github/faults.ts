import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

/** What goes wrong. With `after`, the request has had its effect, and only the answer is lost. */
export type Fault = {
  /** Which requests; all unless said. The template is as in GitHub's description: `PATCH /repos/{owner}/{repo}/git/refs/{ref}`. */
  readonly on?: (template: string) => boolean
  /** How many requests; 1 unless said. */
  readonly times?: number
  readonly after?: boolean
} & (
  | { readonly kind: 'status'; readonly status: number }
  /** 429, or 403 with the wording of a secondary limit; `retry-after` says for how long, if it is said. */
  | { readonly kind: 'too_many'; readonly retryAfter: number }
  | { readonly kind: 'secondary_limit'; readonly retryAfter?: number }
  | { readonly kind: 'slow'; readonly ms: number }
  | { readonly kind: 'cut' }
  | { readonly kind: 'wrong_bytes' }
)

const DOCS = 'https://docs.github.com/rest'

export function createFaults() {
  let pending: { readonly fault: Fault; left: number }[] = []
  return {
    add(fault: Fault): void {
      pending.push({ fault, left: fault.times ?? 1 })
    },
    clear(): void {
      pending = []
    },
    /** The fault that this request meets, counted. */
    take(template: string): Fault | undefined {
      const met = pending.find(({ fault, left }) => left > 0 && (fault.on?.(template) ?? true))
      if (met === undefined) return undefined
      met.left -= 1
      return met.fault
    },
  }
}

/** True: the answer is given (or never will be). */
export async function strike(fault: Fault, response: ServerResponse): Promise<boolean> {
  const answer = (status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): true => {
    response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...headers })
    response.end(JSON.stringify(body))
    return true
  }
  switch (fault.kind) {
    case 'status':
      return answer(fault.status, { message: 'Server Error', documentation_url: DOCS })
    case 'too_many':
      return answer(429, { message: 'Too many requests' }, { 'retry-after': String(fault.retryAfter) })
    case 'secondary_limit': {
      const message = 'You have exceeded a secondary rate limit. Please wait a few minutes before you try again.'
      const documentation_url = `${DOCS}/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits`
      const after = fault.retryAfter === undefined ? {} : { 'retry-after': String(fault.retryAfter) }
      return answer(403, { message, documentation_url }, after)
    }
    case 'slow':
      await sleep(fault.ms)
      return false
    case 'cut':
      response.socket?.destroy()
      return true
    case 'wrong_bytes':
      response.writeHead(200, { 'content-type': 'application/json; charset=utf-8' })
      response.end('<html><body>Whoa there!</body></html>')
      return true
  }
}
