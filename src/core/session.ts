import type { Outcome } from './outcome.ts'
import type { ChecklistItem, Deliverable } from './plan.ts'

/** A manual test session: people go through the checklist of a job. What comes of it is decided here. */

export const ITEM_RESULTS = ['passed', 'failed', 'blocked'] as const
export type ItemResult = (typeof ITEM_RESULTS)[number]

export type SessionState =
  | 'open'
  /** Nobody answers for now. Units stay leased, and the time to expiry goes on. */
  | 'paused'
  | 'finished'
  | 'expired'
  /** Its job or run has ended otherwise: canceled, superseded. */
  | 'ended'

/** What the answers are about: a retry keeps them only where all of it is the same. */
export interface SessionSubject {
  readonly commit: string
  readonly specDigest: string
  /** `name=sha256:…`, sorted. */
  readonly deliverables: readonly string[]
}

export interface ItemAnswer {
  /** Place of the item in the checklist, from 1. */
  readonly item: number
  readonly result: ItemResult
  readonly by: string
  readonly comment?: string
  readonly at: number
  /** The attempt of the job in which it was given, if that was an earlier one. */
  readonly keptFrom?: number
}

/** As far as its end is judged by it. */
export interface SessionFacts {
  readonly state: SessionState
  readonly checklist: readonly ChecklistItem[]
  /** In the order in which they were given. */
  readonly answers: readonly ItemAnswer[]
}

/** Bounds of one session; what would go beyond is refused. */
export const SESSION_LIMITS = {
  /** Answers, files, pauses, …: each wakes the job's workflow, whose history has an end. */
  changes: 2_000,
  evidence: 200,
  evidenceBytes: 500 * 1024 * 1024,
} as const

/** More names than a reason has room for. */
const NAMED = 5

export function sessionSubject(
  commit: string,
  specDigest: string,
  deliverables: readonly Pick<Deliverable, 'name' | 'digest'>[],
): SessionSubject {
  return { commit, specDigest, deliverables: deliverables.map(({ name, digest }) => `${name}=${digest}`).sort() }
}

/** The answer that stands for each item that has one: the last. */
export function standingAnswers(answers: readonly ItemAnswer[]): ReadonlyMap<number, ItemAnswer> {
  return new Map(answers.map((one) => [one.item, one]))
}

/** Items without which the session cannot be finished. */
export function missingItems({ checklist, answers }: Pick<SessionFacts, 'checklist' | 'answers'>): readonly string[] {
  const standing = standingAnswers(answers)
  return checklist.filter((item, index) => item.required && !standing.has(index + 1)).map(({ name }) => name)
}

/**
 * What a retry need not ask again: what passed in the newest earlier attempt, as long as both are about the same bytes.
 */
export function keptAnswers(
  earlier: { readonly attempt: number; readonly subject: SessionSubject; readonly answers: readonly ItemAnswer[] },
  subject: SessionSubject,
): readonly ItemAnswer[] {
  if (canonical(earlier.subject) !== canonical(subject)) return []
  return [...standingAnswers(earlier.answers).values()]
    .filter(({ result }) => result === 'passed')
    .map((one) => ({ ...one, keptFrom: one.keptFrom ?? earlier.attempt }))
    .sort((one, other) => one.item - other.item)
}

function canonical({ commit, specDigest, deliverables }: SessionSubject): string {
  return JSON.stringify([commit, specDigest, [...deliverables].sort()])
}

/** Why a file of this size cannot be added to what is there. */
export function evidenceProblem(evidence: readonly { readonly size: number }[], size: number): string | undefined {
  const bytes = evidence.reduce((sum, one) => sum + one.size, size)
  if (evidence.length < SESSION_LIMITS.evidence && bytes <= SESSION_LIMITS.evidenceBytes) return undefined
  return `a session takes at most ${SESSION_LIMITS.evidence} files and ${SESSION_LIMITS.evidenceBytes} bytes of evidence`
}

/** How the job ends by it; undefined while people are at it. */
export function sessionEnd(session: SessionFacts): { readonly outcome: Outcome; readonly reason?: string } | undefined {
  const { state, checklist, answers } = session
  if (state === 'open' || state === 'paused') return undefined
  if (state === 'ended') return { outcome: 'canceled', reason: 'the session ended with its run' }
  const standing = standingAnswers(answers)
  const withResult = (result: ItemResult, among: (item: ChecklistItem) => boolean = () => true) =>
    checklist.filter((item, index) => among(item) && standing.get(index + 1)?.result === result).map(({ name }) => name)
  const missing = missingItems(session)
  const parts = [
    said('failed', withResult('failed')),
    said(
      'blocked',
      withResult('blocked', (item) => item.required),
    ),
    ...(state === 'expired'
      ? [missing.length > 0 ? said('expired without an answer to', missing) : 'expired before it was finished']
      : []),
  ].filter((part) => part !== '')
  return parts.length === 0 ? { outcome: 'succeeded' } : { outcome: 'failed', reason: parts.join('; ') }
}

function said(what: string, names: readonly string[]): string {
  if (names.length === 0) return ''
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : ''
  return `${what} ${nameList(names.slice(0, NAMED))}${more}`
}

/** `"Log in", "Export"`: names of items are anybody's text. */
export function nameList(names: readonly string[]): string {
  return names.map((name) => `"${name}"`).join(', ')
}

/** What an open session waits for, in one sentence. */
export function sessionSentence(
  session: SessionFacts & {
    readonly testers: readonly string[]
    readonly paused?: { readonly by: string; readonly reason: string }
  },
): string {
  const { checklist, answers, testers, paused } = session
  const standing = standingAnswers(answers)
  const failed = [...standing.values()].filter(({ result }) => result !== 'passed').length
  const count = `${standing.size} of ${checklist.length} item${checklist.length === 1 ? '' : 's'} answered`
  const bad = failed > 0 ? `, ${failed} not passed` : ''
  const who = testers.length > 0 ? `testing: ${testers.join(', ')}` : 'nobody has joined yet'
  const held = paused ? [`paused by ${paused.by}: ${paused.reason}`] : []
  return [`waits for testers: ${count}${bad}`, ...held, who].join('; ')
}

/** An item as a test case; the field names are those of the result store. */
export interface ItemCase {
  readonly suite: string
  readonly name: string
  readonly file: string
  readonly line: number
  readonly result: 'passed' | 'failed' | 'errored' | 'skipped'
  /** Who said so, and what they wrote. */
  readonly message: string
}

/**
 * A required item that was blocked, or that nobody answered before the session expired, is `errored`: it fails the job,
 * and the code was not shown to be wrong. The same of an optional item is `skipped`.
 */
export function sessionCases(session: SessionFacts, suite: string, file: string): readonly ItemCase[] {
  const standing = standingAnswers(session.answers)
  return session.checklist.map((item, index) => {
    const answer = standing.get(index + 1)
    const unproven = item.required ? 'errored' : 'skipped'
    return {
      suite,
      name: item.name,
      file,
      line: item.line,
      result: answer && answer.result !== 'blocked' ? answer.result : unproven,
      message: answer ? toMessage(answer) : 'nobody answered it',
    }
  })
}

function toMessage({ by, result, comment }: ItemAnswer): string {
  return `${result} by ${by}${comment === undefined ? '' : `: ${comment}`}`
}
