import { placesOf } from '../core/approval.ts'
import { isZone, minutesOf, spanOf, type Window, wallOf } from '../core/window.ts'
import { durationMs } from './duration.ts'
import { approverIn, mayVote, resolveApprovers, votersAtForge } from './people.ts'
import { nearest } from './positions.ts'
import { permissionsOf } from './roles.ts'
import type { OperatorFile } from './schema.ts'
import { type Config, type EnvironmentGate, type RepositoryConfig, ROLES, type WrittenGroup } from './types.ts'

type Written = OperatorFile['repositories'][string]['environments'][string]
type People = Pick<Config, 'people' | 'teams'>
type Place = Pick<RepositoryConfig, 'forge'>
/** At a path below the environment, or at one of its keys. */
type Report = (path: readonly PropertyKey[], message: string, key?: string) => void

const DEFAULT_EXPIRY_MS = 7 * 86_400_000
const FORGE_PERMISSIONS = ['write', 'maintain', 'admin']
const RULES = [
  ...(['quorum', 'expires', 'on_expiry', 'reminders', 'hours', 'freezes'] as const),
  ...(['form', 'break_glass_by_author'] as const),
]

/** The gate of an environment as it is written; undefined: it has none. */
export function resolveGate(
  people: People,
  place: Place,
  written: Written,
  report: Report,
): Omit<EnvironmentGate, 'form' | 'breakGlassByAuthor'> | undefined {
  const { approvers, approvals, quorum, hours } = written
  if (approvers === undefined && approvals === undefined) {
    for (const rule of RULES)
      if (written[rule] !== undefined) report([], 'says nothing without approvers; name them', rule)
    return undefined
  }
  if (approvals !== undefined) {
    for (const key of ['approvers', 'quorum'] as const)
      if (written[key] !== undefined) report([], 'is the short form of `approvals`; write one of the two', key)
  }
  const groups: readonly WrittenGroup[] = approvals ?? [{ from: approvers ?? [], count: quorum ?? 1 }]
  for (const [index, { from }] of groups.entries()) {
    for (const [entry, one] of from.entries()) {
      const path = approvals === undefined ? ['approvers', entry] : ['approvals', index, 'from', entry]
      const problem = approverProblem(people, place, one)
      if (problem !== undefined) report(path, problem)
    }
  }
  const least = shortageOf(people, place, groups)
  if (least !== undefined)
    report([approvals !== undefined ? 'approvals' : quorum === undefined ? 'approvers' : 'quorum'], least)

  const expiresMs = written.expires === undefined ? DEFAULT_EXPIRY_MS : durationMs(written.expires)
  const remindersMs = [...new Set((written.reminders ?? []).map(durationMs))].sort((a, b) => a - b)
  for (const [index, one] of (written.reminders ?? []).entries()) {
    if (durationMs(one) >= expiresMs)
      report(
        ['reminders', index],
        `after ${one} the gate has expired (${written.expires ?? '7d, unless `expires` says more'})`,
      )
  }
  if (hours !== undefined) {
    zoneProblem(hours.zone, ['hours', 'zone'], report)
    if (minutesOf(hours.from) >= minutesOf(hours.to))
      report(['hours', 'to'], `must be later than from, which is ${hours.from}`)
  }
  const freezes = (written.freezes ?? []).flatMap((freeze, index): Window['freezes'] => {
    const zone = freeze.zone ?? hours?.zone
    if (zone === undefined) {
      report(['freezes', index], 'has no time zone: say `zone`, or `hours` with one')
      return []
    }
    if (freeze.zone !== undefined) zoneProblem(freeze.zone, ['freezes', index, 'zone'], report)
    for (const end of ['from', 'to'] as const)
      if (Number.isNaN(wallOf(freeze[end]))) report(['freezes', index, end], `no calendar has ${freeze[end]}`)
    const { from, to, reason } = freeze
    if (!isZone(zone) || Number.isNaN(wallOf(from) + wallOf(to))) return []
    const { start, end } = spanOf({ zone, from, to })
    if (start >= end) report(['freezes', index, 'to'], `must be later than from, which is ${from}`)
    return [{ zone, from, to, reason }]
  })
  return {
    approvals: groups,
    expiresMs,
    onExpiry: written.on_expiry ?? 'fail',
    remindersMs,
    ...(hours === undefined && freezes.length === 0
      ? {}
      : { window: { ...(hours === undefined ? {} : { hours }), freezes } }),
  }
}

/** Why these groups could not be filled by the people of the file, whatever a forge says of them; undefined: they could. */
export function shortageOf(people: People, place: Place, groups: readonly WrittenGroup[]): string | undefined {
  const resolved = groups.map(({ from, count }) => {
    const isForge = from.some((one) => approverIn(one).kind === 'forge')
    const atForge = isForge ? votersAtForge(people, place).map(({ name }) => name) : []
    return { from, count, members: [...new Set([...resolveApprovers(people, from), ...atForge])].sort() }
  })
  const approvers = [...new Set(resolved.flatMap(({ members }) => members))].sort()
  const quorum = groups.reduce((sum, { count }) => sum + count, 0)
  const places = placesOf({ approvers, quorum, excluded: [], groups: resolved }, approvers)
  const most = places.reduce((sum, held) => sum + held.length, 0)
  if (most >= quorum) return undefined
  const [only] = resolved
  if (resolved.length === 1 && only !== undefined)
    return `${quorum} approvals are asked for, but only ${most} people may give one (${approvers.join(', ') || 'nobody'})`
  const short = resolved.findIndex(({ count }, index) => (places[index]?.length ?? 0) < count)
  const { from = [], count = 0, members = [] } = resolved[short] ?? {}
  const alone = members.length < count ? '' : ', and they are needed for the other groups, too; a person counts once'
  return `${count} of ${from.join(' or ')} are asked for, but only ${members.join(', ') || 'nobody'} may approve for it${alone}`
}

/** What is wrong with an entry of `from`; undefined: nothing. */
export function approverProblem({ people, teams }: People, { forge }: Place, entry: string): string | undefined {
  const { kind, name } = approverIn(entry)
  switch (kind) {
    case 'role': {
      const known = ROLES.find((one) => one === name)
      if (known === undefined) return `"${name}" is not a role${suggestion(name, ROLES)}`
      return permissionsOf([known]).has('vote') ? undefined : `people with only the role "${name}" may not vote`
    }
    case 'team': {
      const members = Object.hasOwn(teams, name) ? teams[name] : undefined
      if (members === undefined) return `"${name}" is not among the teams${suggestion(name, Object.keys(teams))}`
      const voters = members.map((one) => people[one]).filter((one) => one !== undefined && mayVote(one))
      return voters.length > 0 ? undefined : `nobody of team "${name}" has a role that may vote; add "approver" to one`
    }
    case 'forge': {
      if (!FORGE_PERMISSIONS.includes(name))
        return `"${name}" is no permission of a forge${suggestion(name, FORGE_PERMISSIONS)}`
      if (forge.kind !== 'git' && forge.access !== undefined) return undefined
      return 'the forge of this repository cannot be asked who has a permission: it is plain git, or without a token'
    }
    case 'person': {
      const person = Object.hasOwn(people, name) ? people[name] : undefined
      if (person === undefined) return `"${name}" is not among the people${suggestion(name, Object.keys(people))}`
      return mayVote(person) ? undefined : `"${name}" has no role that may vote; add "approver"`
    }
  }
}

function zoneProblem(zone: string, path: readonly PropertyKey[], report: Report): void {
  if (isZone(zone)) return
  const guess = nearest(zone, Intl.supportedValuesOf('timeZone'))
  const hint = guess === undefined ? '; an IANA name such as Europe/Berlin, or UTC, is' : `; did you mean "${guess}"?`
  report(path, `"${zone}" is not a time zone${hint}`)
}

export function suggestion(word: string, known: readonly string[]): string {
  const guess = nearest(word, known)
  return guess === undefined ? `; known: ${known.join(', ') || 'none'}` : `; did you mean "${guess}"?`
}
