import { operatorsOf } from '../config/people.ts'
import type { Config, RepositoryConfig } from '../config/types.ts'
import { type GateRules, judgeVote, OVERRIDE } from '../core/approval.ts'
import type { GateRow, RunRow, Store } from '../store/types.ts'
import type { Authors } from './authors.ts'
import { peopleOf, type Rights } from './rights.ts'

type Gates = Pick<Store['gates'], 'rejection' | 'ofRun'>

/** An override stands above the gate of production: for whoever gives it the rules are those of break-glass there. */
export function overrideRules(config: Config, repository: RepositoryConfig, authors: Authors): GateRules {
  const { identities, note } = authors
  const gate = repository.environments[overrideOf(repository)]?.gate
  return {
    ...{ approvers: [], quorum: 1, excluded: peopleOf(config, identities), identities },
    ...(note === undefined ? {} : { note }),
    ...(gate?.breakGlassByAuthor ? { breakGlassByAuthor: true } : {}),
  }
}

/** The environment that it opens. */
export function overrideOf({ productionEnvironment, branches }: RepositoryConfig): string {
  return productionEnvironment ?? branches.production
}

/** Why this person may not let the run pass now; undefined: they may. */
export async function whyNotOverride(
  gates: Gates,
  run: Pick<RunRow, 'repo' | 'change'>,
  asked: { readonly config: Config; readonly rules: GateRules; readonly by: string; readonly reason: string },
): Promise<string | undefined> {
  const { config, rules, by, reason } = asked
  const judged = judgeVote({
    ...{ state: 'open', rules, authenticated: by, claimedBy: by, trustSignals: false, votes: [], answer: 'approve' },
    ...{ now: 0, matches: () => false, breakGlass: { operators: operatorsOf(config), reason } },
  })
  return judged.counts ? whyRejected(gates, run) : judged.why
}

/** Why no override lets this run pass, as things stand now; undefined: one does. */
export async function whyNotOverridden(
  gates: Gates,
  rights: Rights,
  run: Pick<RunRow, 'id' | 'number' | 'repo' | 'change'>,
): Promise<string | undefined> {
  const all = (await gates.ofRun(run.id)).filter(({ name }) => name === OVERRIDE)
  const how = `An operator can let it pass: penstock run override ${run.number} --reason "..."`
  if (all.length === 0) return how
  const rejected = await whyRejected(gates, run)
  if (rejected !== undefined) return rejected
  const standing = await Promise.all(all.map((one) => stands(rights, one)))
  if (standing.includes(true)) return undefined
  return `The override of ${all.map(byOf).join(', ')} does not hold: whoever gave it is no operator, or wrote or pushed it. ${how}`
}

async function stands(rights: Rights, gate: GateRow): Promise<boolean> {
  const { excluded, breakGlassByAuthor } = await rights.now(gate, [])
  const by = byOf(gate)
  return rights.operators.includes(by) && (breakGlassByAuthor === true || !excluded.includes(by))
}

function byOf({ broken }: GateRow): string {
  return broken?.by ?? ''
}

/** As with break-glass: what people have said no to is not let pass by one alone. */
async function whyRejected(gates: Gates, { repo, change }: Pick<RunRow, 'repo' | 'change'>) {
  const gate = await gates.rejection(repo, change.commit)
  if (gate === undefined) return undefined
  const by = gate.votes.findLast((one) => one.counts && one.answer === 'reject')?.by ?? 'somebody'
  return `${change.commit.slice(0, 12)} was rejected by ${by} at ${gate.name} of ${gate.run}: push a new commit`
}
