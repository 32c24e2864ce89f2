import { type FieldProblem, type FieldValues, type Form, fillIn, type Matches, problemSentence } from './form.ts'
import { type Closed, closedAt, type Window } from './window.ts'

/** What an approval is about; a vote holds only for exactly this. */
export interface Subject {
  readonly run: string
  readonly gate: string
  readonly environment: string
  readonly commit: string
  readonly specDigest: string
  /** `name=sha256:…`, sorted. */
  readonly deliverables: readonly string[]
}

export type Answer = 'approve' | 'reject'

/** So many of these people must approve. */
export interface ApprovalGroup {
  /** As it is written: `ada`, `team:qa`, `role:approver`, `forge:write`. */
  readonly from: readonly string[]
  /** At least 1. */
  readonly count: number
  /** The people that this stands for. */
  readonly members: readonly string[]
  /** The spec asks for it, beside what the operator asks for. */
  readonly source?: 'spec'
  /** Why it cannot be said now who else belongs to it. */
  readonly unasked?: string
}

/** What becomes of a run whose gate nobody has answered in time. None of it approves. */
export const EXPIRIES = ['fail', 'cancel', 'skip'] as const
export type OnExpiry = (typeof EXPIRIES)[number]

/** The rules for an environment's gate, as they were when the gate was last looked at. */
export interface GateRules {
  /** Who may answer: everybody of any group. */
  readonly approvers: readonly string[]
  /** How many different people must approve, in all groups together. At least 1. */
  readonly quorum: number
  /** People whose vote never counts: whoever wrote or pushed what is to be released. */
  readonly excluded: readonly string[]
  /** Names, logins and addresses of those, as commits and the forge have them: of some the operator's file may know later whose they are. */
  readonly identities?: readonly string[]
  /** What could not be told of whom it excludes, for people. */
  readonly note?: string
  /** Milliseconds since 1970; the gate is expired from then on, unless enough have approved. */
  readonly expiresAt?: number
  /** What whoever approves fills in. */
  readonly form?: Form
  /** Somebody who is excluded may yet pass the gate by break-glass. */
  readonly breakGlassByAuthor?: boolean
  /** Absent in gates of earlier versions: one group, of `approvers`. */
  readonly groups?: readonly ApprovalGroup[]
  readonly onExpiry?: OnExpiry
  /** When who is still asked is reminded: milliseconds since 1970, ascending. */
  readonly reminders?: readonly number[]
  /** When the gate may be passed; votes are taken at any time. */
  readonly window?: Window
}

/** The gate of a run of the production branch that an operator has let pass, though its commit was not signed off. */
export const OVERRIDE = 'override'

export type GateState = 'open' | 'approved' | 'rejected' | 'expired' | 'voided'

export interface CountedVote {
  readonly by: string
  readonly answer: Answer
  /** An operator's: it passes the gate alone. */
  readonly breakGlass?: boolean
}

/**
 * What proved who voted: a session of API or command line, a login at the forge, a vote token that was sent by hand,
 * the operator's file by trusting whoever reaches Temporal, or nothing.
 */
export type Proof = 'session' | 'forge' | 'token' | 'trusted_signal' | 'nobody'

/** What somebody holds against an approval. While it stands the gate stays open, however many approve. */
export interface Objection {
  readonly by: string
  readonly why: string
}

export type Verdict =
  /** `missing` is 0 where enough have approved, and somebody objects or the gate is `closed` by its window. */
  | { readonly kind: 'open'; readonly approvals: number; readonly missing: number; readonly closed?: Closed }
  | { readonly kind: 'approved' }
  | { readonly kind: 'rejected'; readonly by: string }
  | { readonly kind: 'expired' }

export function groupsOf({ groups, approvers, quorum }: GateRules): readonly ApprovalGroup[] {
  return groups ?? [{ from: approvers, count: quorum, members: approvers }]
}

/**
 * Who fills which group's places: as many places as these people can fill, each person one. By augmenting paths, so that
 * neither the order of people nor that of groups changes how many it is.
 */
export function placesOf(rules: GateRules, people: Iterable<string>): readonly (readonly string[])[] {
  const groups = groupsOf(rules)
  const places: string[][] = groups.map(() => [])
  const place = (person: string, seen: Set<number>): boolean => {
    for (const [index, { members, count }] of groups.entries()) {
      if (seen.has(index) || !members.includes(person)) continue
      seen.add(index)
      const held = places[index] ?? []
      if (held.length < count) {
        held.push(person)
        return true
      }
      // Somebody of this group may fill a place of another one instead.
      for (const [at, other] of held.entries()) {
        if (!place(other, seen)) continue
        held[at] = person
        return true
      }
    }
    return false
  }
  for (const person of [...new Set(people)].sort()) if (!rules.excluded.includes(person)) place(person, new Set())
  return places
}

function filled(rules: GateRules, people: Iterable<string>): number {
  return placesOf(rules, people).reduce((sum, held) => sum + held.length, 0)
}

function approversIn(votes: readonly CountedVote[]): readonly string[] {
  return [...new Set(votes.filter(({ answer }) => answer === 'approve').map(({ by }) => by))].sort()
}

/**
 * The verdict over the votes that count, in whatever order they were given: one rejection rejects, one person fills one
 * place. Outside its window nothing is approved, and what has its approvals and waits for the window does not expire; nor
 * does what would have them if a forge that cannot be asked now said what it said before.
 */
export function verdictOf(
  rules: GateRules,
  votes: readonly CountedVote[],
  now: number,
  objections: readonly Objection[] = [],
): Verdict {
  const rejection = votes.find(({ answer }) => answer === 'reject')
  if (rejection !== undefined) return { kind: 'rejected', by: rejection.by }
  // An operator's own: neither quorum nor window holds it.
  if (votes.some(({ breakGlass }) => breakGlass)) return { kind: 'approved' }
  const approvals = filled(rules, approversIn(votes))
  const missing = Math.max(0, rules.quorum - approvals)
  if (missing === 0 && objections.length === 0) {
    const closed = closedAt(rules.window, now)
    return closed === undefined ? { kind: 'approved' } : { kind: 'open', approvals, missing, closed }
  }
  if (!isTimeOver(rules, now)) return { kind: 'open', approvals, missing }
  // That a forge cannot be asked takes nobody's approval away: it is waited for.
  const isHeld = objections.length === 0 && filled(atBest(rules, votes), approversIn(votes)) >= rules.quorum
  return isHeld ? { kind: 'open', approvals, missing } : { kind: 'expired' }
}

function isTimeOver({ expiresAt }: GateRules, now: number): boolean {
  return expiresAt !== undefined && now >= expiresAt
}

/** As if the forges that cannot be asked named everybody whose approval has counted. */
function atBest(rules: GateRules, votes: readonly CountedVote[]): GateRules {
  const counted = approversIn(votes)
  const groups = groupsOf(rules).map((one) =>
    one.unasked === undefined ? one : { ...one, members: [...new Set([...one.members, ...counted])] },
  )
  return { ...rules, groups }
}

/** How an open gate stands: who has approved, who else may, what is missing. */
export interface Standing {
  readonly approvals: readonly string[]
  /** Who has not approved, and whose approval would fill a place. */
  readonly may: readonly string[]
  readonly missing: number
  /** Why it can never be approved as it stands: too few may. */
  readonly shortage?: string
  readonly groups: readonly {
    readonly from: readonly string[]
    readonly count: number
    readonly approvals: readonly string[]
    readonly source?: 'spec'
    readonly unasked?: string
  }[]
}

export function standingOf(rules: GateRules, votes: readonly CountedVote[]): Standing {
  const approvals = approversIn(votes).filter((one) => rules.approvers.includes(one))
  const places = placesOf(rules, approvals)
  const count = filled(rules, approvals)
  const missing = Math.max(0, rules.quorum - count)
  const others = rules.approvers.filter((one) => !rules.excluded.includes(one) && !approvals.includes(one))
  const may = missing === 0 ? others : others.filter((one) => filled(rules, [...approvals, one]) > count)
  const all = groupsOf(rules)
  const groups = all.map(({ members: _, ...group }, index) => ({ ...group, approvals: places[index] ?? [] }))
  const standing = { approvals, may, missing, groups }
  // Whom a forge would name nobody knows while it cannot be asked.
  const isUnknown = all.some(({ unasked }) => unasked !== undefined)
  if (isUnknown || count + missing <= filled(rules, [...approvals, ...others])) return standing
  const who = `${may.length === 0 ? 'nobody else' : `only ${may.join(', ')}`} may approve`
  const excluded = rules.excluded.filter((one) => rules.approvers.includes(one))
  const why = excluded.length === 0 ? '' : `: ${excluded.join(', ')} wrote or pushed what is to be released`
  const most = placesOf(rules, [...approvals, ...others])
  const short = all.filter(({ count }, index) => (most[index]?.length ?? 0) < count)
  const where = all.length === 1 ? '' : ` (${short.map((one) => `${one.count} of ${nameOf(one)}`).join(', ')})`
  return { ...standing, shortage: `${who}${where}${why}; the operator's file must name more approvers` }
}

export function nameOf({ from, source }: Pick<ApprovalGroup, 'from' | 'source'>): string {
  return `${from.join(' or ')}${source === undefined ? '' : ' (asked for by the spec)'}`
}

/** `team:qa 0 of 1, role:approver or ada 1 of 2`; nothing where there is but one group. */
export function groupsText({ groups }: Pick<Standing, 'groups'>): string | undefined {
  if (groups.length < 2) return undefined
  return groups.map((one) => `${nameOf(one)} ${one.approvals.length} of ${one.count}`).join(', ')
}

/** What an open gate waits for, in one sentence. */
export function gateSentence(gate: {
  readonly environment: string
  readonly rules: GateRules
  readonly votes: readonly CountedVote[]
  readonly objections: readonly Objection[]
  readonly closed?: Closed
}): string {
  const standing = standingOf(gate.rules, gate.votes)
  const { may, missing, shortage, groups } = standing
  const parts = groupsText(standing)
  const count = `${gate.rules.quorum - missing} of ${gate.rules.quorum} approval(s) for ${gate.environment}${parts ? ` (${parts})` : ''}`
  const held = gate.objections.map(({ by, why }) => `held by ${by}, who ${why}`)
  const closed = gate.closed && missing === 0 ? [`enough, and waits ${gate.closed.why}`] : []
  const who = shortage ?? (missing > 0 ? `may approve: ${may.join(', ')}` : undefined)
  const unasked = groups.flatMap((one) => (one.unasked === undefined ? [] : [`${nameOf(one)}: ${one.unasked}`]))
  const note = gate.rules.note === undefined ? [] : [gate.rules.note]
  return [count, ...held, ...closed, ...(who === undefined ? [] : [who]), ...unasked, ...note].join('; ')
}

/**
 * How what the operator and the spec ask for differs from what a gate was opened with; undefined: it does not. Who belongs
 * to a team, a role or a forge's permission is read when a vote is judged, and is no difference.
 */
export function rulesChange(before: GateRules, now: GateRules): string | undefined {
  const change = `rules: ${rulesText(before)} → ${rulesText(now)}`
  if (before.groups === undefined || now.groups === undefined) {
    const isAsBefore = before.quorum === now.quorum && (now.groups?.length ?? 1) === 1
    return isAsBefore ? undefined : change
  }
  const written = ({ groups = [] }: GateRules) =>
    JSON.stringify(groups.map(({ from, count, source }) => [[...from].sort(), count, source ?? 'operator']))
  return written(before) === written(now) ? undefined : change
}

function rulesText(rules: GateRules): string {
  return groupsOf(rules)
    .map((one) => `${one.count} of ${nameOf(one)}`)
    .join(' and ')
}

const SHORT = 12

/** What differs between what a gate was about and what it would be about now, shortened for people; empty: nothing. */
export function subjectChanges(before: Subject, now: Subject): readonly string[] {
  const short = (text: string) => (text.length > SHORT ? text.slice(0, SHORT) : text)
  const simple = (['run', 'gate', 'environment', 'commit', 'specDigest'] as const).flatMap((key) =>
    before[key] === now[key]
      ? []
      : [`${key === 'specDigest' ? 'spec' : key}: ${short(before[key])} → ${short(now[key])}`],
  )
  const digests = ({ deliverables }: Subject) =>
    new Map(deliverables.map((one) => [one.slice(0, one.indexOf('=')), one.slice(one.indexOf('=') + 1)]))
  const [old, fresh] = [digests(before), digests(now)]
  const digest = (text: string | undefined) => (text === undefined ? 'none' : short(text.replace(/^sha256:/, '')))
  const built = [...new Set([...old.keys(), ...fresh.keys()])]
    .sort()
    .filter((name) => old.get(name) !== fresh.get(name))
    .map((name) => `deliverable ${name}: ${digest(old.get(name))} → ${digest(fresh.get(name))}`)
  return [...simple, ...built]
}

/** What a run says for ever whose gate was passed so. */
export function brokenSentence(gate: string, { by, reason }: { readonly by: string; readonly reason: string }): string {
  return `${gate} was passed by break-glass by ${by}: ${reason}`
}

export interface VoteFacts {
  readonly state: GateState
  readonly rules: GateRules
  /** Whose token it carried; absent: no valid token, or one for another subject. */
  readonly authenticated?: string
  readonly claimedBy: string
  readonly tokenProblem?: 'missing' | 'unknown' | 'used' | 'other_subject' | 'expired'
  readonly trustSignals: boolean
  readonly votes: readonly CountedVote[]
  readonly objections?: readonly Objection[]
  readonly answer: Answer
  readonly now: number
  /** What was filled in, as it came. */
  readonly fields?: FieldValues
  readonly matches: Matches
  /** It is to pass the gate whoever else should approve; `operators` are those who may do that. */
  readonly breakGlass?: { readonly operators: readonly string[]; readonly reason: string | undefined }
  /** What has changed since the gate, or the gate of the token, was opened. */
  readonly voided?: string
  /** What was approved is being released, or has been. */
  readonly isMoving?: boolean
  /** When the vote was taken from whoever gave it, who has been proved then; as `now`. */
  readonly sentAt?: number
  /** Why it cannot be about what the gate is about now, if nobody is proven to have been shown that. */
  readonly untimely?: string
}

export type Judgement =
  /** `values`: what was filled in, with defaults. */
  | { readonly counts: true; readonly by: string; readonly values: FieldValues }
  /** `problems`: of the fields, each. */
  | { readonly counts: false; readonly why: string; readonly problems?: readonly FieldProblem[] }

/** Whether a vote counts, and if not the sentence that says why and what would. */
export function judgeVote(facts: VoteFacts): Judgement {
  const no = (why: string) => ({ counts: false, why }) as const
  const changed = facts.voided === undefined ? '' : ` (${facts.voided})`
  const over = whyOver(facts, changed)
  if (over !== undefined) return no(over)
  const by = facts.authenticated ?? (facts.trustSignals ? facts.claimedBy : undefined)
  if (by === undefined) return no(`${TOKEN_PROBLEMS[facts.tokenProblem ?? 'missing']}${changed}`)
  if (facts.authenticated === undefined && facts.untimely !== undefined) return no(facts.untimely)
  const why = facts.breakGlass === undefined ? whyNotVote(facts, by) : whyNotBreak(facts, facts.breakGlass)
  if (why !== undefined) return no(why)
  const isPartial = facts.answer === 'reject' || facts.breakGlass !== undefined
  const filledIn = fillIn(facts.rules.form, facts.fields ?? {}, facts.matches, isPartial)
  if (filledIn.kind === 'fine') return { counts: true, by, values: filledIn.values }
  return { counts: false, why: problemSentence(filledIn.problems), problems: filledIn.problems }
}

/** Why no vote of this kind is taken any more, whoever gives it. */
function whyOver(facts: VoteFacts, changed: string): string | undefined {
  if (facts.state === 'approved') return whyDecided(facts)
  if (facts.state !== 'open') return `the gate is ${facts.state}${changed}; no further vote is taken`
  const verdict = verdictOf(facts.rules, facts.votes, facts.now, facts.objections)
  if (verdict.kind === 'expired') return 'the gate has expired'
  const isLate = verdict.kind === 'open' && verdict.missing > 0 && isTimeOver(facts.rules, facts.now)
  return isLate && facts.answer === 'approve'
    ? 'the time of the gate is over; whether those who approved in time still may is asked of the forge'
    : undefined
}

/**
 * A gate is decided once. But what is approved and waits for its window may be rejected as long as it waits, and an operator
 * need not wait. Undefined: so it is.
 */
function whyDecided({ answer, breakGlass, isMoving, rules, votes, now, sentAt }: VoteFacts): string | undefined {
  if (isMoving)
    return 'the gate is approved, and what it is about is being released, or is already; no further vote is taken'
  const isBroken = votes.some((one) => one.breakGlass)
  if (isBroken) return 'the gate was passed by break-glass already'
  // A rejection that was taken while it waited has come too late for nobody but the messenger.
  const closed = closedAt(rules.window, answer === 'reject' ? (sentAt ?? now) : now)
  if (breakGlass === undefined) {
    if (closed === undefined) return 'the gate is approved; no further vote is taken'
    if (answer === 'reject') return undefined
    return `the gate is approved and waits ${closed.why}; it needs no further approval`
  }
  return closed === undefined ? 'the gate is approved and waits for no window; there is no glass to break' : undefined
}

function whyNotVote(facts: VoteFacts, by: string): string | undefined {
  if (facts.rules.excluded.includes(by))
    return `${by} wrote or pushed this change and cannot approve it; another approver must`
  if (!facts.rules.approvers.includes(by)) {
    const unasked = groupsOf(facts.rules).flatMap((one) => (one.unasked ? [`; ${nameOf(one)}: ${one.unasked}`] : []))
    const approvers = facts.rules.approvers.join(', ') || 'none'
    return `${by} is not an approver of this environment; approvers: ${approvers}${unasked.join('')}`
  }
  if (facts.votes.some((vote) => vote.by === by && vote.answer === facts.answer))
    return `${by} has already voted; one person counts once`
  return undefined
}

/** Nobody's claim is enough here, wherever signals are trusted. */
function whyNotBreak(
  { authenticated: by, answer, rules }: VoteFacts,
  { operators, reason }: NonNullable<VoteFacts['breakGlass']>,
): string | undefined {
  if (by === undefined) return 'who breaks the glass must be known: use API or CLI; a signal is never trusted with it'
  if (answer !== 'approve') return 'break-glass only passes a gate; reject it as any approver does'
  if (!operators.includes(by))
    return `${by} may not break the glass; only operators may: ${operators.join(', ') || 'none'}`
  if (rules.excluded.includes(by) && rules.breakGlassByAuthor !== true) {
    return `${by} wrote or pushed this change and may not break the glass for it; another operator must, or the operator's file allows it with break_glass_by_author`
  }
  return reason?.trim() ? undefined : 'break-glass needs a reason'
}

const TOKEN_PROBLEMS: Readonly<Record<NonNullable<VoteFacts['tokenProblem']>, string>> = {
  missing: 'a signal alone proves nobody: ask for a vote token with `penstock vote-token RUN`, or vote by API or CLI',
  unknown: 'the vote token is not one of ours; ask for a new one with `penstock vote-token RUN`',
  used: 'the vote token was used before; each is good for one vote',
  other_subject: 'the vote token was made for another commit, spec or deliverable; look at the run again and vote anew',
  expired: 'the vote token has expired; ask for a new one',
}
