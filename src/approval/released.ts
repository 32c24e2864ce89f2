import { approversOf, excludedOf, operatorsOf } from '../config/people.ts'
import type { Config } from '../config/types.ts'
import { verdictOf } from '../core/approval.ts'
import { fieldVariables } from '../core/form.ts'
import type { GateRow, RunDetail } from '../store/types.ts'

/**
 * Why what was approved may not be released now; undefined: it may. Judged by the rights of this moment: whoever may no
 * longer approve has not approved, however long ago that was.
 */
export function whyNotReleased(config: Config, run: RunDetail, gate: GateRow | undefined): string | undefined {
  if (gate?.state !== 'approved') return `the gate is ${gate?.state ?? 'not there'}, not approved`
  const { subject, rules, environment } = gate
  if (subject.commit !== run.change.commit) return 'the gate was approved for another commit'
  if (subject.specDigest !== run.plan?.specDigest) return 'the gate was approved for another spec'
  const built = run.progress.deliverables.map((one) => `${one.name}=${one.digest}`).sort()
  if (JSON.stringify(built) !== JSON.stringify([...subject.deliverables].sort()))
    return 'the gate was approved for other deliverables'
  const now = approversOf(config, run.repo, environment)
  const counted = gate.votes.filter((one) => one.counts)
  const operators = operatorsOf(config)
  const valid = counted.filter(({ by, breakGlass }) =>
    breakGlass
      ? operators.includes(by) && (rules.breakGlassByAuthor || !rules.excluded.includes(by))
      : now.includes(by) && !rules.excluded.includes(by),
  )
  // Before it expired: it was decided then.
  if (verdictOf(rules, valid, gate.decidedAt ?? gate.openedAt, gate.objections).kind === 'approved') return undefined
  const lost = [...new Set(counted.filter((one) => !valid.includes(one)).map(({ by }) => by))]
  return `the approval no longer holds: ${lost.join(', ') || 'nobody'} may not approve any more`
}

/** People whom these names, logins and addresses belong to: they wrote or pushed what is to be released. */
export function peopleOf(config: Config, identities: readonly string[]): readonly string[] {
  return [...new Set(identities.flatMap((author) => excludedOf(config, { author })))].sort()
}

/** What was filled in at an approved gate, as variables of the jobs after it: of several approvals the last stands. */
export function gateVariables(gate: GateRow): Readonly<Record<string, string>> {
  if (gate.state !== 'approved') return {}
  const last = gate.votes.findLast((one) => one.counts && one.answer === 'approve')
  return fieldVariables(last?.fields ?? {})
}
