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
  /** Why it does not count: the item is open again. */
  readonly void?: string
}

/** Why something that was answered before is asked again: of one item, or of all of them. */
export interface AskedAgain {
  readonly item?: number
  readonly why: string
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

/** By the rights of now: the answers of whoever may not test (any more) are void. */
export function judgeAnswers(answers: readonly ItemAnswer[], may: readonly string[]): readonly ItemAnswer[] {
  return answers.map((one) =>
    one.void !== undefined || may.includes(one.by) ? one : { ...one, void: `${one.by} may not test here now` },
  )
}

/** The answer that stands for each item that has one: the last, unless that is void. No earlier one takes its place. */
export function standingAnswers(answers: readonly ItemAnswer[]): ReadonlyMap<number, ItemAnswer> {
  return new Map([...lastAnswers(answers)].filter(([, one]) => one.void === undefined))
}

function lastAnswers(answers: readonly ItemAnswer[]): ReadonlyMap<number, ItemAnswer> {
  return new Map(answers.map((one) => [one.item, one]))
}

/** What somebody said of each item that is open again, and why that does not count. */
export function voidAnswers(answers: readonly ItemAnswer[]): readonly AskedAgain[] {
  return [...lastAnswers(answers).values()].flatMap((one) =>
    one.void === undefined ? [] : [{ item: one.item, why: `${one.result} by ${one.by}: ${one.void}` }],
  )
}

/** Required items without an answer that counts. */
export function missingItems({ checklist, answers }: Pick<SessionFacts, 'checklist' | 'answers'>): readonly string[] {
  const standing = standingAnswers(answers)
  return checklist.filter((item, index) => item.required && !standing.has(index + 1)).map(({ name }) => name)
}

/**
 * Why the session cannot be finished yet. What somebody said and does not count keeps it open also where the item is
 * not required: it may have failed.
 */
export function whyUnfinished({ checklist, answers }: Pick<SessionFacts, 'checklist' | 'answers'>): string | undefined {
  const last = lastAnswers(answers)
  const missing = checklist.filter((item, index) => item.required && !last.has(index + 1)).map(({ name }) => name)
  const again = voidAnswers(answers).map(
    ({ item = 0, why }) => `${nameList([checklist[item - 1]?.name ?? ''])} (${why})`,
  )
  const parts = [
    ...(missing.length > 0 ? [`these items have no answer yet: ${nameList(missing)}`] : []),
    ...(again.length > 0 ? [`these are to be answered again: ${again.join(', ')}`] : []),
  ]
  return parts.length === 0 ? undefined : parts.join('; ')
}

/**
 * What a retry need not ask again: what passed in the newest earlier attempt, as long as both are about the same bytes,
 * and whoever said so may test now. And why the rest is asked again.
 */
export function keptAnswers(
  earlier: { readonly attempt: number; readonly subject: SessionSubject; readonly answers: readonly ItemAnswer[] },
  subject: SessionSubject,
  may: readonly string[],
): { readonly kept: readonly ItemAnswer[]; readonly askedAgain: readonly AskedAgain[] } {
  const { attempt, answers } = earlier
  if (answers.length === 0) return { kept: [], askedAgain: [] }
  const changes = subjectChanges(earlier.subject, subject)
  if (changes.length > 0)
    return { kept: [], askedAgain: [{ why: `no answer of attempt ${attempt} is kept: ${changes.join('; ')}` }] }
  const last = [...lastAnswers(judgeAnswers(answers, may)).values()].sort((one, other) => one.item - other.item)
  const isKept = (one: ItemAnswer) => one.result === 'passed' && one.void === undefined
  return {
    kept: last.filter(isKept).map((one) => ({ ...one, keptFrom: one.keptFrom ?? attempt })),
    askedAgain: last
      .filter((one) => !isKept(one))
      .map(({ item, result, by, keptFrom = attempt, void: why }) => ({
        item,
        why: `${result} by ${by} in attempt ${keptFrom}${why === undefined ? '' : `: ${why}`}`,
      })),
  }
}

/** What is another than it was, a sentence each. */
function subjectChanges(before: SessionSubject, now: SessionSubject): readonly string[] {
  const added = now.deliverables.filter((one) => !before.deliverables.includes(one))
  const gone = before.deliverables.filter((one) => !now.deliverables.includes(one))
  const named = (text: string) => text.slice(0, text.indexOf('='))
  return [
    ...(before.commit === now.commit ? [] : [`the commit was ${before.commit} and is ${now.commit}`]),
    ...(before.specDigest === now.specDigest ? [] : ['the spec is another one']),
    ...gone.map((one) => {
      const next = added.find((other) => named(other) === named(one))
      return next === undefined ? `the deliverable ${one} is gone` : `the deliverable ${one} is ${next} now`
    }),
    ...added
      .filter((one) => gone.every((other) => named(other) !== named(one)))
      .map((one) => `the deliverable ${one} is new`),
  ]
}

/** Why a file of this size cannot be added to what is there. */
export function evidenceProblem(
  evidence: readonly { readonly size: number; readonly gone?: unknown }[],
  size: number,
): string | undefined {
  const there = evidence.filter(({ gone }) => gone === undefined)
  const bytes = there.reduce((sum, one) => sum + one.size, size)
  if (there.length < SESSION_LIMITS.evidence && bytes <= SESSION_LIMITS.evidenceBytes) return undefined
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
  const last = lastAnswers(session.answers)
  return session.checklist.map((item, index) => {
    const said = last.get(index + 1)
    const answer = said?.void === undefined ? said : undefined
    const unproven = item.required ? 'errored' : 'skipped'
    return {
      suite,
      name: item.name,
      file,
      line: item.line,
      result: answer && answer.result !== 'blocked' ? answer.result : unproven,
      message: said ? toMessage(said) : 'nobody answered it',
    }
  })
}

function toMessage({ by, result, comment, void: why }: ItemAnswer): string {
  const isVoid = why === undefined ? '' : ` (does not count: ${why})`
  return `${result} by ${by}${isVoid}${comment === undefined ? '' : `: ${comment}`}`
}
