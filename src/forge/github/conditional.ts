import type { Octokit } from '@octokit/rest'
import { isStatus } from '../answers.ts'

/** Enough for the open pull requests and branches of one repository. */
const MAX_KEPT = 200

/**
 * Questions that were asked before are asked with the ETag of the last answer. "Not modified" costs nothing of the rate
 * limit, and is answered here with what was said before.
 */
export function answerFromBefore(octokit: Octokit): void {
  const kept = new Map<string, { readonly etag: string; readonly response: unknown }>()
  octokit.hook.wrap('request', async (request, options) => {
    if (options.method !== 'GET') return request(options)
    const { url } = octokit.request.endpoint(options)
    const known = kept.get(url)
    if (known !== undefined) options.headers['if-none-match'] = known.etag
    try {
      const response = await request(options)
      const { etag } = response.headers
      kept.delete(url)
      if (etag !== undefined && !mayGrow(response)) kept.set(url, { etag, response: copyOf(response) })
      const oldest = kept.keys().next().value
      if (kept.size > MAX_KEPT && oldest !== undefined) kept.delete(oldest)
      return response
    } catch (err) {
      if (known === undefined || !isStatus(err, 304)) throw err
      return copyOf(known.response as Awaited<ReturnType<typeof request>>)
    }
  })
}

/** Whoever gets a page of a list takes out of it what is no item: that must not be taken out of what is kept. */
function copyOf<T extends { readonly data: unknown }>(response: T): T {
  return { ...response, data: structuredClone(response.data) }
}

/**
 * A full page stays as it is when another comes after it: "not modified" would hide that one. Servers fill theirs with 30,
 * 50 or 100.
 */
function mayGrow({ data, headers }: { readonly data: unknown; readonly headers: { readonly link?: string } }): boolean {
  if (headers.link?.includes('rel="next"')) return false
  const lists: unknown[] = Array.isArray(data) ? [data] : Object.values(data ?? {})
  return lists.some((one) => Array.isArray(one) && one.length > 0 && one.length % 10 === 0)
}
