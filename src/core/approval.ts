import { type FieldProblem, type FieldValues, type Form, fillIn, type Matches, problemSentence } from './form.ts'

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

/** The operator's rules for an environment's gate, as they were when the gate opened. */
export interface GateRules {
  /** Who may answer: people, and roles or groups resolved to people at the moment of a vote. */
  readonly approvers: readonly string[]
  /** How many different people must approve. At least 1. */
  readonly quorum: number
  /** People whose vote never counts: author and pusher of the change. */
  readonly excluded: readonly string[]
  /** Milliseconds since 1970; the gate is expired from then on. */
  readonly expiresAt?: number
  /** What whoever approves fills in. */
  readonly form?: Form
  /** Somebody who is excluded may yet pass the gate by break-glass. */
  readonly breakGlassByAuthor?: boolean
}

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
  /** `missing` is 0 where enough have approved and somebody objects. */
  | { readonly kind: 'open'; readonly approvals: number; readonly missing: number }
  | { readonly kind: 'approved' }
  | { readonly kind: 'rejected'; readonly by: string }
  | { readonly kind: 'expired' }

/** The verdict over the votes that count, in the order they were given: one rejection rejects, one person counts once. */
export function verdictOf(
  rules: GateRules,
  votes: readonly CountedVote[],
  now: number,
  objections: readonly Objection[] = [],
): Verdict {
  const approvals = new Set<string>()
  for (const vote of votes) {
    if (vote.answer === 'reject') return { kind: 'rejected', by: vote.by }
    if (vote.breakGlass) return { kind: 'approved' }
    approvals.add(vote.by)
    if (approvals.size >= rules.quorum && objections.length === 0) return { kind: 'approved' }
  }
  if (rules.expiresAt !== undefined && now >= rules.expiresAt) return { kind: 'expired' }
  return { kind: 'open', approvals: approvals.size, missing: Math.max(0, rules.quorum - approvals.size) }
}

/** How an open gate stands: who has approved, who else may, what is missing. */
export interface Standing {
  readonly approvals: readonly string[]
  /** Who may approve and has not. */
  readonly may: readonly string[]
  readonly missing: number
  /** Why it can never be approved as it stands: too few may. */
  readonly shortage?: string
}

export function standingOf(rules: GateRules, votes: readonly CountedVote[]): Standing {
  const approvals = [...new Set(votes.filter((one) => one.answer === 'approve').map((one) => one.by))]
  const may = rules.approvers.filter((one) => !rules.excluded.includes(one) && !approvals.includes(one))
  const missing = Math.max(0, rules.quorum - approvals.length)
  if (may.length >= missing) return { approvals, may, missing }
  const who = `${may.length === 0 ? 'nobody else' : `only ${may.join(', ')}`} may approve`
  const excluded = rules.excluded.filter((one) => rules.approvers.includes(one))
  const why = excluded.length === 0 ? '' : `: ${excluded.join(', ')} wrote or pushed what is to be released`
  return { approvals, may, missing, shortage: `${who}${why}; the operator's file must name more approvers` }
}

/** What an open gate waits for, in one sentence. */
export function gateSentence(gate: {
  readonly environment: string
  readonly rules: GateRules
  readonly votes: readonly CountedVote[]
  readonly objections: readonly Objection[]
}): string {
  const { approvals, may, missing, shortage } = standingOf(gate.rules, gate.votes)
  const count = `${approvals.length} of ${gate.rules.quorum} approval(s) for ${gate.environment}`
  const held = gate.objections.map(({ by, why }) => `held by ${by}, who ${why}`)
  const who = shortage ?? (missing > 0 ? `may approve: ${may.join(', ')}` : undefined)
  return [count, ...held, ...(who === undefined ? [] : [who])].join('; ')
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
  readonly answer: Answer
  readonly now: number
  /** What was filled in, as it came. */
  readonly fields?: FieldValues
  readonly matches: Matches
  /** It is to pass the gate whoever else should approve; `operators` are those who may do that. */
  readonly breakGlass?: { readonly operators: readonly string[]; readonly reason: string | undefined }
}

export type Judgement =
  /** `values`: what was filled in, with defaults. */
  | { readonly counts: true; readonly by: string; readonly values: FieldValues }
  /** `problems`: of the fields, each. */
  | { readonly counts: false; readonly why: string; readonly problems?: readonly FieldProblem[] }

/** Whether a vote counts, and if not the sentence that says why and what would. */
export function judgeVote(facts: VoteFacts): Judgement {
  const no = (why: string) => ({ counts: false, why }) as const
  if (facts.state !== 'open') return no(`the gate is ${facts.state}; no further vote is taken`)
  if (facts.rules.expiresAt !== undefined && facts.now >= facts.rules.expiresAt) return no('the gate has expired')
  const by = facts.authenticated ?? (facts.trustSignals ? facts.claimedBy : undefined)
  if (by === undefined) return no(TOKEN_PROBLEMS[facts.tokenProblem ?? 'missing'])
  const why = facts.breakGlass === undefined ? whyNotVote(facts, by) : whyNotBreak(facts, facts.breakGlass)
  if (why !== undefined) return no(why)
  const isPartial = facts.answer === 'reject' || facts.breakGlass !== undefined
  const filledIn = fillIn(facts.rules.form, facts.fields ?? {}, facts.matches, isPartial)
  if (filledIn.kind === 'fine') return { counts: true, by, values: filledIn.values }
  return { counts: false, why: problemSentence(filledIn.problems), problems: filledIn.problems }
}

function whyNotVote(facts: VoteFacts, by: string): string | undefined {
  if (facts.rules.excluded.includes(by))
    return `${by} wrote or pushed this change and cannot approve it; another approver must`
  if (!facts.rules.approvers.includes(by)) {
    return `${by} is not an approver of this environment; approvers: ${facts.rules.approvers.join(', ') || 'none'}`
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
