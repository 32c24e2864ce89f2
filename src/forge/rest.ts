import { deadline } from './deadline.ts'
import { ForgeAnswerUnusable, ForgeBusy } from './types.ts'

/** What a forge answered. `data`: the JSON of the body; undefined: there was none. */
export interface Answer {
  readonly status: number
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly data: unknown
}

/** The forge said no. In the form in which octokit says it, so that both are judged alike. */
export class ForgeRefused extends Error {
  override readonly name = 'ForgeRefused'
  readonly status: number
  readonly response: { readonly headers: Answer['headers']; readonly data: unknown }
  constructor(message: string, { status, headers, data }: Answer) {
    super(message)
    this.status = status
    this.response = { headers, data }
  }
}

export type Query = Readonly<Record<string, string | number | undefined>>

/**
 * A forge's API over http, for forges that have no client of their own here. Within the deadline of whoever asks. Throws
 * `ForgeRefused` for an answer of 400 and more, `ForgeBusy` where the forge asks to wait, `ForgeAnswerUnusable` for what
 * is no JSON; what `fetch` throws rises.
 */
export interface Rest {
  get(path: string, query?: Query): Promise<Answer>
  send(method: 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: object): Promise<Answer>
  /** All pages of a list, one after the other. */
  pages(path: string, query?: Query): AsyncGenerator<Answer>
}

export interface RestOptions {
  /** As people call it. */
  readonly name: string
  readonly api: string
  readonly authorization: string
  /** How the forge calls the size of a page. */
  readonly pageSize: 'limit' | 'per_page'
}

const REQUEST_MS = 15_000
const DEFAULT_WAIT_MS = 60_000
const PAGE = 100
/** A server that gives the same page again and again would be asked for ever. */
const MOST_PAGES = 500

export function createRest({ name, api, authorization, pageSize }: RestOptions): Rest {
  const root = api.replace(/\/+$/, '')

  async function ask(method: string, path: string, query: Query, body?: object): Promise<Answer> {
    const url = `${root}${path}${search(query)}`
    const late = AbortSignal.timeout(REQUEST_MS)
    const given = deadline()
    const response = await fetch(url, {
      method,
      headers: {
        accept: 'application/json',
        authorization,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      // Another host would get the token: a redirect is an error.
      redirect: 'error',
      signal: given === undefined ? late : AbortSignal.any([late, given]),
    })
    const text = await response.text()
    const headers = Object.fromEntries(response.headers)
    const parsed = parse(text)
    const answer = { status: response.status, url, headers, data: parsed?.value }
    if (response.status === 429) {
      const wait = waitOf(headers)
      const refused = new ForgeRefused(`${name} answered 429`, answer)
      throw new ForgeBusy(`${name} asks to wait for ${Math.ceil(wait / 1000)} s`, wait, refused)
    }
    if (response.status >= 400) {
      throw new ForgeRefused(
        `${name} answered ${response.status}: ${method} ${root}${path}${said(answer.data)}`,
        answer,
      )
    }
    if (parsed === undefined) throw new ForgeAnswerUnusable(`the answer of ${root}${path} is not JSON`)
    return answer
  }

  return {
    get: (path, query = {}) => ask('GET', path, query),
    send: (method, path, body) => ask(method, path, {}, body),
    async *pages(path, query = {}) {
      let seen = 0
      for (let page = 1; page <= MOST_PAGES; page++) {
        const answer = await ask('GET', path, { ...query, [pageSize]: PAGE, page })
        if (!Array.isArray(answer.data)) throw new ForgeAnswerUnusable(`the answer of ${root}${path} is not a list`)
        seen += answer.data.length
        yield answer
        if (answer.data.length === 0 || isLast(answer.headers, seen)) return
      }
      throw new ForgeAnswerUnusable(`the list ${root}${path} has no end`)
    },
  }
}

/** By what the forge says of the whole; where it says nothing, only an empty page is the last. */
function isLast(headers: Answer['headers'], seen: number): boolean {
  const next = headers['x-next-page']
  if (next !== undefined) return next === ''
  const total = headers['x-total-count']
  return total !== undefined && seen >= Number(total)
}

function search(query: Query): string {
  const given = new URLSearchParams()
  for (const [key, value] of Object.entries(query)) if (value !== undefined) given.append(key, String(value))
  return given.size === 0 ? '' : `?${given}`
}

function parse(text: string): { readonly value: unknown } | undefined {
  if (text.trim() === '') return { value: undefined }
  try {
    return { value: JSON.parse(text) as unknown }
  } catch {
    // A proxy's page, half an answer: what it is worth depends on the status.
    return undefined
  }
}

/** What the forge says of its refusal, for the log. */
function said(data: unknown): string {
  if (typeof data !== 'object' || data === null) return ''
  const { message, error } = data as { readonly message?: unknown; readonly error?: unknown }
  const words = message ?? error
  return words === undefined ? '' : `: ${(typeof words === 'string' ? words : JSON.stringify(words)).slice(0, 300)}`
}

function waitOf(headers: Answer['headers']): number {
  const after = headers['retry-after']
  const seconds = Number(after)
  if (after !== undefined && Number.isFinite(seconds)) return Math.max(1, seconds) * 1000
  const reset = Number(headers['ratelimit-reset'])
  return Number.isFinite(reset) ? Math.max(1000, reset * 1000 - Date.now()) : DEFAULT_WAIT_MS
}
