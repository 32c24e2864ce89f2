import type { Change } from '../core/change.ts'
import { permissionsOf } from './roles.ts'
import type { Config, PersonConfig, RepositoryConfig } from './types.ts'

/** The people who may answer the environment's gate now, without those whom only a forge can name; sorted. */
export function approversOf(config: Config, repo: string, environment: string): readonly string[] {
  const gate = config.repositories[repo]?.environments[environment]?.gate
  return resolveApprovers(config, gate?.approvals.flatMap(({ from }) => from) ?? [])
}

/**
 * The people who may answer in a manual test session now, as its spec names them; sorted. Whoever writes a spec need not
 * know which names are people: one that is nobody's may be a team's.
 */
export function testersOf(config: Pick<Config, 'people' | 'teams'>, by: readonly string[]): readonly string[] {
  const { people, teams } = config
  const isTeam = (name: string) => !Object.hasOwn(people, name) && Object.hasOwn(teams, name)
  return resolvePeople(
    config,
    by.map((one) => (isTeam(one) ? `team:${one}` : one)),
  ).map(({ name }) => name)
}

/** People, teams and roles as people; whoever has no role that may vote is nobody's approver. */
export function resolveApprovers(config: Pick<Config, 'people' | 'teams'>, from: readonly string[]): readonly string[] {
  return resolvePeople(config, from)
    .filter(mayVote)
    .map(({ name }) => name)
}

function resolvePeople(
  { people, teams }: Pick<Config, 'people' | 'teams'>,
  from: readonly string[],
): readonly PersonConfig[] {
  const entries = from.map(approverIn)
  return Object.values(people)
    .filter((person) =>
      entries.some(({ kind, name }) => {
        switch (kind) {
          case 'person':
            return person.name === name
          case 'role':
            return person.roles.some((one) => one === name)
          case 'team':
            return Object.hasOwn(teams, name) && teams[name]?.includes(person.name)
          default:
            return false
        }
      }),
    )
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** The people who may pass a gate alone; sorted. */
export function operatorsOf({ people }: Pick<Config, 'people'>): readonly string[] {
  const those = Object.values(people).filter(({ roles }) => permissionsOf(roles).has('override'))
  return those.map(({ name }) => name).sort()
}

/** What an entry of `from` names. */
export function approverIn(entry: string): {
  readonly kind: 'person' | 'team' | 'role' | 'forge'
  readonly name: string
} {
  const [, kind, name = ''] = /^(team|role|forge):(.*)$/.exec(entry) ?? []
  return kind === 'team' || kind === 'role' || kind === 'forge' ? { kind, name } : { kind: 'person', name: entry }
}

export function mayVote({ roles }: Pick<PersonConfig, 'roles'>): boolean {
  return permissionsOf(roles).has('vote')
}

/** Everybody who may vote and has a login at the forge of the repository: whom it may be asked about. */
export function votersAtForge(
  { people }: Pick<Config, 'people'>,
  { forge: { kind } }: Pick<RepositoryConfig, 'forge'>,
): readonly { readonly name: string; readonly login: string }[] {
  return Object.values(people).flatMap((one) => {
    const login = one[kind]
    return login === undefined || !mayVote(one) ? [] : [{ name: one.name, login }]
  })
}

/** The people who wrote or pushed the change, known by name, forge login or e-mail; sorted. Their vote never counts. */
export function excludedOf(config: Config, change: Pick<Change, 'author' | 'pusher'>): readonly string[] {
  const names = new Set<string>()
  for (const identity of [change.author, change.pusher]) {
    if (identity === undefined) continue
    for (const candidate of spellings(identity)) {
      for (const person of Object.values(config.people)) {
        const known = [person.name, ...loginsOf(person), ...person.email]
        if (known.some((one) => one.toLowerCase() === candidate)) names.add(person.name)
      }
    }
  }
  return [...names].sort()
}

/** The person with this login at the repository's forge: the same login elsewhere may be somebody else's. */
export function personOf(
  { people }: Pick<Config, 'people'>,
  { forge: { kind } }: Pick<RepositoryConfig, 'forge'>,
  login: string,
): string | undefined {
  return Object.values(people).find((one) => one[kind]?.toLowerCase() === login.toLowerCase())?.name
}

function loginsOf({ github, gitea, gitlab, git }: PersonConfig): readonly string[] {
  return [github, gitea, gitlab, git].filter((login) => login !== undefined)
}

/** GitHub's own address of whoever hides theirs: `583231+ada-l@users.noreply.github.com`. */
const HIDDEN = /^(?:\d+\+)?([a-z\d-]+)@users\.noreply\.github\.com$/

/** `Ada Lovelace <ada@example.org>` names three: the whole, the name, the address; and a login where that tells one. */
function spellings(identity: string): readonly string[] {
  const whole = identity.trim().toLowerCase()
  const open = whole.indexOf('<')
  if (open < 0 || !whole.endsWith('>')) return [whole]
  const address = whole.slice(open + 1, -1).trim()
  const login = HIDDEN.exec(address)?.[1]
  return [whole, whole.slice(0, open).trim(), address, ...(login === undefined ? [] : [login])]
}
