import { createHash } from 'node:crypto'
import { approverIn, approversOf, excludedOf, operatorsOf, resolveApprovers, votersAtForge } from '../config/people.ts'
import type { Config, RepositoryConfig } from '../config/types.ts'
import type { Role } from '../core/admission.ts'
import { type ApprovalGroup, type GateRules, groupsOf, rulesChange } from '../core/approval.ts'
import { parseRunId } from '../core/ids.ts'
import type { Plan } from '../core/plan.ts'
import type { GateRow } from '../store/types.ts'

/** A forge that takes longer is one that cannot be asked now. */
const ASK_MS = 10_000
/** What each permission of a forge is good for. */
const HOLDERS: Readonly<Record<string, readonly Role[]>> = {
  write: ['write', 'maintain', 'admin'],
  maintain: ['maintain', 'admin'],
  admin: ['admin'],
}

export interface RightsDeps {
  readonly config: Config
  /** What the repository's forge says now that a login may do in it; undefined: it cannot be asked such a thing. */
  readonly roleOf: (repository: RepositoryConfig, login: string) => Promise<Role | undefined>
}

export type Rights = ReturnType<typeof createRights>

/** Who may answer a gate at this moment, as the operator's file has it and the forge says. */
export function createRights({ config, roleOf }: RightsDeps) {
  function repositoryOf(name: string): RepositoryConfig | undefined {
    return Object.hasOwn(config.repositories, name) ? config.repositories[name] : undefined
  }

  /** What operator and spec ask for now, without the people; undefined: the environment has no gate. */
  function writtenFor(repo: string, environment: string, plan: Plan | undefined): readonly ApprovalGroup[] | undefined {
    const gate = repositoryOf(repo)?.environments[environment]?.gate
    if (gate === undefined) return undefined
    const stage = plan?.stages.find((one) => one.kind === 'gate' && one.environment === environment)
    const added = stage?.kind === 'gate' ? (stage.approvals ?? []) : []
    return [
      ...gate.approvals.map((one) => ({ ...one, members: [] })),
      ...added.map((one) => ({ ...one, members: [], source: 'spec' as const })),
    ]
  }

  /** @param among whom to ask the forge about; everybody who may vote, unless said */
  async function filled(
    repo: string,
    groups: readonly ApprovalGroup[],
    among?: readonly string[],
  ): Promise<readonly ApprovalGroup[]> {
    const repository = repositoryOf(repo)
    const asked = new Map<string, Promise<Role | undefined>>()
    const roleIn = (place: RepositoryConfig, login: string) => {
      const known = asked.get(login) ?? within(ASK_MS, () => roleOf(place, login))
      asked.set(login, known)
      return known
    }
    return Promise.all(
      groups.map(async ({ unasked: _, ...group }): Promise<ApprovalGroup> => {
        const members = new Set(resolveApprovers(config, group.from))
        const wanted = group.from.flatMap((one) => HOLDERS[forgePermission(one) ?? ''] ?? [])
        if (wanted.length === 0 || repository === undefined) return { ...group, members: [...members].sort() }
        const { kind } = repository.forge
        const candidates = votersAtForge(config, repository).filter(({ name }) => among?.includes(name) ?? true)
        try {
          const roles = await Promise.all(candidates.map(({ login }) => roleIn(repository, login)))
          if (candidates.length > 0 && roles.every((one) => one === undefined))
            throw new Error('it tells no permissions')
          for (const [index, { name }] of candidates.entries()) {
            const role = roles[index]
            if (role !== undefined && wanted.includes(role)) members.add(name)
          }
          return { ...group, members: [...members].sort() }
        } catch (err) {
          // Whatever it is that the forge cannot do: nobody counts by it, and people are told.
          const why = err instanceof Error ? err.message : String(err)
          return { ...group, members: [...members].sort(), unasked: `${kind} cannot be asked who that is: ${why}` }
        }
      }),
    )
  }

  return {
    filled,
    /** Why the gate of this environment opens no way to the production branch; undefined: it is the one that guards it. */
    notProduction(repo: string, environment: string): string | undefined {
      const production = repositoryOf(repo)?.productionEnvironment
      if (production === environment) return undefined
      if (production === undefined) return `no environment of ${repo} has a gate any more`
      return `the production branch of ${repo} is guarded by the gate of ${production}, not by that of ${environment}`
    },
    /** Who may pass a gate alone. */
    get operators() {
      return operatorsOf(config)
    },
    writtenFor,

    /** The rules of a gate with who has the right now; whoever else would have it among `among` only. */
    async now(
      gate: Pick<GateRow, 'run' | 'environment' | 'rules' | 'votes'>,
      among?: readonly string[],
    ): Promise<GateRules> {
      const { rules, environment } = gate
      const repo = parseRunId(gate.run)?.repo ?? ''
      const environmentNow = repositoryOf(repo)?.environments[environment]
      const voters = gate.votes.filter((one) => one.counts).map(({ by }) => by)
      const whom = among && [...among, ...voters]
      const { window: _, ...rest } = rules
      const window = environmentNow?.gate?.window
      // Somebody who wrote it may have come into the operator's file since.
      const excluded = [...new Set([...rules.excluded, ...peopleOf(config, rules.identities ?? [])])].sort()
      const common = { ...rest, excluded, ...(window === undefined ? {} : { window }) }
      if (rules.groups === undefined) {
        const current = approversOf(config, repo, environment)
        return { ...common, approvers: rules.approvers.filter((one) => current.includes(one)) }
      }
      // What the operator no longer asks anybody of, nobody is asked by a gate that was opened before.
      const asked = new Set(environmentNow?.gate?.approvals.flatMap(({ from }) => from))
      const groups = await filled(
        repo,
        rules.groups.map((one) =>
          one.source === 'spec' ? one : { ...one, from: one.from.filter((each) => asked.has(each)) },
        ),
        whom,
      )
      return {
        ...common,
        approvers: [...new Set(groups.flatMap(({ members }) => members))].sort(),
        groups: groups.map((one, index) => ({ ...one, from: rules.groups?.[index]?.from ?? one.from })),
      }
    },

    /** How what is asked for now differs from what the gate was opened with; undefined: it does not. */
    change(gate: Pick<GateRow, 'run' | 'environment' | 'rules'>, plan: Plan | undefined): string | undefined {
      const groups = writtenFor(parseRunId(gate.run)?.repo ?? '', gate.environment, plan)
      if (groups === undefined)
        return `rules: ${groupsOf(gate.rules).length} group(s) → none: the environment has no gate any more`
      return rulesChange(gate.rules, { ...gate.rules, groups, quorum: quorumOf(groups) })
    },
  }
}

/** The same as long as nothing of the operator's file says otherwise who passes which gate, and when. */
export function rulesDigest({ people, teams, repositories }: Config): string {
  const gates = Object.values(repositories).map(({ name, environments, productionEnvironment }) => [
    name,
    productionEnvironment,
    Object.values(environments).map((one) => [one.name, one.gate]),
  ])
  const who = Object.values(people).map(({ name, roles, email, github, gitea, gitlab, git }) => [
    name,
    roles,
    email,
    github,
    gitea,
    gitlab,
    git,
  ])
  return createHash('sha256')
    .update(JSON.stringify([who, teams, gates]))
    .digest('hex')
}

/** People whom these names, logins and addresses belong to: they wrote or pushed what is to be released. */
export function peopleOf(config: Config, identities: readonly string[]): readonly string[] {
  return [...new Set(identities.flatMap((author) => excludedOf(config, { author })))].sort()
}

export function quorumOf(groups: readonly { readonly count: number }[]): number {
  return groups.reduce((sum, { count }) => sum + count, 0)
}

function forgePermission(entry: string): string | undefined {
  const { kind, name } = approverIn(entry)
  return kind === 'forge' ? name : undefined
}

async function within<T>(ms: number, ask: () => Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms / 1000} s`)), ms)
  })
  try {
    return await Promise.race([ask(), late])
  } finally {
    clearTimeout(timer)
  }
}
