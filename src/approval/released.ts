import { type GateRules, subjectChanges, verdictOf } from '../core/approval.ts'
import { fieldVariables } from '../core/form.ts'
import { type Closed, closedAt } from '../core/window.ts'
import type { GateRow, RunDetail, VoteRow } from '../store/types.ts'
import type { Rights } from './rights.ts'

export interface NotReleased {
  readonly why: string
  /** It may be later, without anybody doing anything: a window is closed, or a forge cannot be asked. */
  readonly isPassing: boolean
  readonly closed?: Closed
}

/**
 * Why what was approved may not be released now; undefined: it may. Judged by the rights, rules and hours of this moment:
 * whoever may no longer approve has not approved, however long ago that was.
 */
export async function whyNotReleased(
  rights: Rights,
  run: RunDetail,
  gate: GateRow | undefined,
  now: number,
): Promise<NotReleased | undefined> {
  const not = (why: string): NotReleased => ({ why, isPassing: false })
  if (gate?.state !== 'approved') return not(`the gate is ${gate?.state ?? 'not there'}, not approved`)
  // Whichever gate the spec of its time named: what guards production is the operator's word of today.
  const elsewhere = rights.notProduction(run.repo, gate.environment)
  if (elsewhere !== undefined) return not(elsewhere)
  const { subject } = gate
  const built = run.progress.deliverables.map((one) => `${one.name}=${one.digest}`).sort()
  const specDigest = run.plan?.specDigest ?? ''
  const changes = subjectChanges(subject, { ...subject, commit: run.change.commit, specDigest, deliverables: built })
  if (changes.length > 0) return not(`the gate was approved for something else: ${changes.join('; ')}`)
  const change = rights.change(gate, run.plan)
  if (change !== undefined) return not(`the gate was approved by other ${change}; retry the run to ask anew`)
  const counted = gate.votes.filter((one) => one.counts)
  const { window, ...rules } = await rights.now(gate, [])
  const valid = counted.filter((one) =>
    one.breakGlass
      ? mayBreak(rights, rules, one)
      : rules.approvers.includes(one.by) && !rules.excluded.includes(one.by),
  )
  // Before it expired: it was decided then.
  if (verdictOf(rules, valid, gate.decidedAt ?? gate.openedAt, gate.objections).kind !== 'approved') {
    const lost = [...new Set(counted.filter((one) => !valid.includes(one)).map(({ by }) => by))]
    const unasked = (rules.groups ?? []).flatMap((one) => (one.unasked === undefined ? [] : [one.unasked]))
    if (unasked.length > 0)
      return { why: `whether the approval still holds cannot be told: ${unasked.join('; ')}`, isPassing: true }
    return not(`the approval no longer holds: ${lost.join(', ') || 'nobody'} may not approve any more`)
  }
  // Whoever broke the glass had a reason not to wait.
  const closed = valid.some(({ breakGlass }) => breakGlass) ? undefined : closedAt(window, now)
  return closed && { why: `what is approved for ${gate.environment} waits ${closed.why}`, isPassing: true, closed }
}

/** Somebody who may do that now has passed the gate by break-glass: its window holds nothing up. */
export function isBrokenNow(rights: Pick<Rights, 'operators'>, rules: GateRules, votes: readonly VoteRow[]): boolean {
  return votes.some((one) => one.counts && one.breakGlass && mayBreak(rights, rules, one))
}

function mayBreak(
  { operators }: Pick<Rights, 'operators'>,
  { breakGlassByAuthor, excluded }: GateRules,
  { by }: Pick<VoteRow, 'by'>,
): boolean {
  return operators.includes(by) && (breakGlassByAuthor === true || !excluded.includes(by))
}

/**
 * What was filled in at an approved gate, as variables of the jobs after it: of several approvals the last stands, of those
 * that were enough, and over it what whoever broke the glass has filled in. Whoever had lost the right when it was decided
 * has decided nothing.
 */
export function gateVariables(gate: GateRow): Readonly<Record<string, string>> {
  if (gate.state !== 'approved') return {}
  const { approvers, excluded } = gate.rules
  const approvals = gate.votes.filter((one) => one.counts && one.answer === 'approve')
  const last = approvals.findLast((one) => !one.breakGlass && approvers.includes(one.by) && !excluded.includes(one.by))
  const broken = approvals.findLast((one) => one.breakGlass)
  return fieldVariables({ ...last?.fields, ...broken?.fields })
}
