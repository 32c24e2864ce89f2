import { type CountedVote, type GateRules, type GateState, groupsText, type Objection, standingOf } from './approval.ts'
import type { Dependent } from './dependents.ts'
import { cut, toCode } from './report/text.ts'

/** All that the pull request of a promotion tells of. Names, titles and comments are anybody's text. */
export interface Promotion {
  readonly run: { readonly number: number; readonly url: string }
  readonly commit: string
  readonly base: string
  readonly environment: string
  readonly gate: {
    readonly state: GateState
    readonly rules: GateRules
    readonly votes: readonly (CountedVote & {
      readonly counts: boolean
      readonly comment?: string
      readonly why?: string
    })[]
    readonly objections: readonly Objection[]
    readonly reminded?: { readonly count: number; readonly at: number }
  }
  readonly changes: {
    readonly commits: readonly { readonly commit: string; readonly title: string; readonly author: string }[]
    readonly count: number
    readonly behind: number
  }
  readonly tests: readonly {
    readonly stage: string
    readonly passed: number
    readonly failed: number
    readonly skipped: number
  }[]
  readonly deliverables: readonly { readonly name: string; readonly digest: string }[]
  /** What tests against it, as it stands. */
  readonly dependents: readonly (Dependent & { readonly status?: string; readonly url?: string })[]
  /** How it ended; absent while the gate is open. */
  readonly end?: string
}

const COMMITS_SHOWN = 50
const DELIVERABLES_SHOWN = 50
const VOTES_SHOWN = 50
const DEPENDENTS_SHOWN = 50
const CHARACTERS = 200
const SHORT = 12

/** Title and text: the same for the same promotion, so that they are written only when something has changed. */
export function promotionText(promotion: Promotion): { readonly title: string; readonly body: string } {
  const { run, commit, base, environment, end } = promotion
  const head = `Run [${run.number}](${run.url}) asks for ${toCode(commit.slice(0, SHORT))} to become ${toCode(base)} and to be deployed to ${toCode(environment)}.`
  const body = [
    head,
    ...(end === undefined ? [] : [`**${end}**`]),
    ['### Sign-off', '', ...signOff(promotion)].join('\n'),
    ['### Changes since the last release', '', ...changes(promotion)].join('\n'),
    ['### Tests', '', ...tests(promotion)].join('\n'),
    ...(promotion.dependents.length === 0
      ? []
      : [['### Dependent repositories', '', ...dependents(promotion)].join('\n')]),
    ...(promotion.deliverables.length === 0 ? [] : [['### Deliverables', '', ...deliverables(promotion)].join('\n')]),
    'Penstock keeps this pull request and its branch, and fast-forwards when the sign-off is complete: do not merge it, and do not push to it.',
  ]
  return { title: `Release ${commit.slice(0, SHORT)} to ${base} (run ${run.number})`, body: body.join('\n\n') }
}

function signOff({ gate, end, run }: Promotion): readonly string[] {
  const counted = gate.votes.filter((one) => one.counts)
  const standing = standingOf(gate.rules, counted)
  const { approvals, may, missing, shortage } = standing
  const groups = groupsText(standing)
  const { quorum, excluded, expiresAt } = gate.rules
  const count = `${quorum - missing} of ${quorum} approval(s)`
  const lines = [`- ${count}${approvals.length > 0 ? `: ${names(approvals)}` : ''}`]
  if (groups !== undefined) lines.push(`- ${toCode(groups)}`)
  for (const { by, answer, counts, comment, why } of gate.votes.slice(-VOTES_SHOWN)) {
    if (!counts)
      lines.push(`- ${toCode(by)} said ${answer}, which does not count: ${toCode(cut(why ?? '', CHARACTERS))}`)
    else if (comment !== undefined) lines.push(`- ${toCode(by)} (${answer}): ${toCode(cut(comment, CHARACTERS))}`)
  }
  if (gate.state !== 'open' || end !== undefined) return lines
  for (const { by, why } of gate.objections) lines.push(`- **held** by ${toCode(by)}, who ${why}`)
  if (shortage !== undefined) lines.push(`- ⚠️ **It cannot be approved as it stands:** ${toCode(shortage)}`)
  else if (missing > 0) lines.push(`- ${missing} missing; may approve: ${names(may)}`)
  if (excluded.length > 0) lines.push(`- may not, because they wrote or pushed what is in it: ${names(excluded)}`)
  const { reminded } = gate
  if (reminded !== undefined && missing > 0)
    lines.push(
      `- **reminded** ${reminded.count} time(s), last ${new Date(reminded.at).toISOString()}: still asked: ${names(may)}`,
    )
  if (expiresAt !== undefined) lines.push(`- expires ${new Date(expiresAt).toISOString()}`)
  return [
    ...lines,
    '',
    `Approve with a review of this pull request or the comment \`/approve\`; end it with the comment \`/reject REASON\`; a review that requests changes holds it. Or: \`penstock approve ${run.number}\`.`,
  ]
}

function changes({ changes: { commits, count, behind }, base }: Promotion): readonly string[] {
  const shown = commits.slice(0, COMMITS_SHOWN)
  const more = count - shown.length
  return [
    ...(behind > 0
      ? [`⚠️ ${toCode(base)} has ${behind} commit(s) that are not in here: the promotion will be refused.`, '']
      : []),
    ...shown.map(
      ({ commit, title, author }) =>
        `- ${toCode(commit.slice(0, SHORT))} ${toCode(cut(title, CHARACTERS))}, ${toCode(cut(author, CHARACTERS))}`,
    ),
    ...(more > 0 ? [`- and ${more} more`] : []),
  ]
}

function tests({ tests: stages }: Promotion): readonly string[] {
  if (stages.length === 0) return ['No test results were reported; every stage before the sign-off has passed.']
  return stages.map(({ stage, passed, failed, skipped }) => {
    const parts = [
      `${passed} passed`,
      ...(failed > 0 ? [`${failed} failed`] : []),
      ...(skipped > 0 ? [`${skipped} skipped`] : []),
    ]
    return `- ${toCode(stage)}: ${parts.join(', ')}`
  })
}

function dependents({ dependents: all }: Promotion): readonly string[] {
  const shown = all.slice(0, DEPENDENTS_SHOWN)
  const lines = shown.map(({ repo, isBlocking, run, refused, status, url }) => {
    const weight = isBlocking ? 'must pass' : 'advisory'
    const state =
      run === undefined ? (refused ?? 'not started yet') : `${status ?? 'gone'}, run ${url ? `[${run}](${url})` : run}`
    const text = run === undefined ? toCode(cut(state, CHARACTERS)) : state
    return `- ${toCode(repo)} (${weight}): ${text}`
  })
  return all.length > shown.length ? [...lines, `- and ${all.length - shown.length} more`] : lines
}

function deliverables({ deliverables: all }: Promotion): readonly string[] {
  const shown = all.slice(0, DELIVERABLES_SHOWN)
  const lines = shown.map(({ name, digest }) => `- ${toCode(name)} ${toCode(cut(digest, CHARACTERS))}`)
  return all.length > shown.length ? [...lines, `- and ${all.length - shown.length} more`] : lines
}

function names(people: readonly string[]): string {
  return people.length === 0 ? 'nobody' : people.map(toCode).join(', ')
}
