import { createHash, timingSafeEqual } from 'node:crypto'
import { type Permission, permissionsOf } from '../config/roles.ts'
import type { Config } from '../config/types.ts'
import type { People } from '../store/types.ts'
import { ProblemError, problem } from './problem.ts'

export type RoutePermission = Permission | 'open' | 'worker'

export type Caller =
  | { readonly kind: 'nobody' }
  | { readonly kind: 'worker' }
  | { readonly kind: 'person'; readonly name: string; readonly permissions: ReadonlySet<Permission> }

export interface CallerDeps {
  readonly config: Config
  readonly people: People
  readonly clock: () => number
}

export interface Credentials {
  readonly authorization: string | undefined
  readonly address: string
}

const WINDOW_MS = 60_000
const MAX_BAD = 10
const MAX_ADDRESSES = 10_000
const MAX_GOOD = 1000
const TOKEN = /^Bearer ([A-Za-z0-9._~+/=-]{8,512})$/

/**
 * Tells who asks, from the token alone. Ten tokens a minute from one address may be wrong; after that only tokens that
 * were right before are looked at, so that guessing stops and nobody else does.
 */
export function createAuthenticator({ config, people, clock }: CallerDeps) {
  const bad = new Map<string, number[]>()
  const good = new Set<string>()

  async function personOf(token: string): Promise<Caller | undefined> {
    const name = await people.personOf(token)
    const person = name === undefined ? undefined : config.people[name]
    // A person who was taken out of the operator's file may do nothing more, whatever their token.
    return person && { kind: 'person', name: person.name, permissions: permissionsOf(person.roles) }
  }

  function recentBad(address: string): number[] {
    const now = clock()
    const recent = (bad.get(address) ?? []).filter((at) => at > now - WINDOW_MS)
    if (recent.length === 0) bad.delete(address)
    else bad.set(address, recent)
    return recent
  }

  function noteBad(address: string): void {
    const recent = [...recentBad(address), clock()]
    bad.delete(address)
    bad.set(address, recent)
    const oldest = bad.keys().next().value
    if (bad.size > MAX_ADDRESSES && oldest !== undefined) bad.delete(oldest)
  }

  return {
    /** @throws ProblemError 401 or 429 */
    async callerOf({ authorization, address }: Credentials): Promise<Caller> {
      if (authorization === undefined) return { kind: 'nobody' }
      const token = TOKEN.exec(authorization)?.[1]
      const key = token === undefined ? '' : createHash('sha256').update(token).digest('base64')
      const recent = recentBad(address)
      if (recent.length >= MAX_BAD && !good.has(key)) {
        const wait = Math.ceil(((recent[0] ?? 0) + WINDOW_MS - clock()) / 1000)
        throw new ProblemError(problem(429, 'too many wrong tokens came from this address'), {
          'Retry-After': String(Math.max(1, wait)),
        })
      }
      if (token !== undefined && isWorkerToken(token)) return { kind: 'worker' }
      const caller = token === undefined ? undefined : await personOf(token)
      if (caller === undefined) {
        good.delete(key)
        noteBad(address)
        throw unauthenticated('the token is unknown, expired or revoked')
      }
      good.delete(key)
      good.add(key)
      const oldest = good.values().next().value
      if (good.size > MAX_GOOD && oldest !== undefined) good.delete(oldest)
      return caller
    },

    /** Whether the token still gives the permission: for streams, which outlive a revocation otherwise. */
    async stillMay(authorization: string | undefined, permission: RoutePermission): Promise<boolean> {
      const token = TOKEN.exec(authorization ?? '')?.[1]
      const caller = token === undefined ? undefined : await personOf(token)
      return caller !== undefined && may(caller, permission)
    },
  }

  function isWorkerToken(token: string): boolean {
    if (config.workerToken === undefined) return false
    const digest = (text: string) => createHash('sha256').update(text).digest()
    return timingSafeEqual(digest(token), digest(config.workerToken.reveal()))
  }
}

export function may(caller: Caller, permission: RoutePermission): boolean {
  switch (permission) {
    case 'open':
      return true
    case 'worker':
      return caller.kind === 'worker'
    default:
      return caller.kind === 'person' && caller.permissions.has(permission)
  }
}

export function unauthenticated(detail: string): ProblemError {
  return new ProblemError(problem(401, detail), { 'WWW-Authenticate': 'Bearer realm="penstock"' })
}
