import type { Change } from '../core/change.ts'
import { permissionsOf } from './roles.ts'
import type { Config, PersonConfig, RepositoryConfig } from './types.ts'

/** The people who may answer the environment's gate now, roles resolved; sorted. Empty where there is no gate. */
export function approversOf(config: Config, repo: string, environment: string): readonly string[] {
  const gate = config.repositories[repo]?.environments[environment]?.gate
  return resolveApprovers(config.people, gate?.approvers ?? [])
}

/** The people who may answer in a manual test session now, as its spec names them; sorted. */
export function testersOf(config: Config, by: readonly string[]): readonly string[] {
  return resolveApprovers(config.people, by)
}

export function resolveApprovers(people: Config['people'], approvers: readonly string[]): readonly string[] {
  const names = new Set<string>()
  for (const entry of approvers) {
    const role = entry.startsWith('role:') ? entry.slice('role:'.length) : undefined
    for (const person of Object.values(people)) {
      if (role === undefined ? person.name === entry : person.roles.some((one) => one === role)) names.add(person.name)
    }
  }
  return [...names].sort()
}

/** The people who may pass a gate alone; sorted. */
export function operatorsOf({ people }: Pick<Config, 'people'>): readonly string[] {
  const those = Object.values(people).filter(({ roles }) => permissionsOf(roles).has('override'))
  return those.map(({ name }) => name).sort()
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

/** `Ada Lovelace <ada@example.org>` names three: the whole, the name, the address. */
function spellings(identity: string): readonly string[] {
  const whole = identity.trim().toLowerCase()
  const open = whole.indexOf('<')
  if (open < 0 || !whole.endsWith('>')) return [whole]
  return [whole, whole.slice(0, open).trim(), whole.slice(open + 1, -1).trim()]
}
