import { isOutcome, type Outcome } from './outcome.ts'
import { toCode } from './report/text.ts'

/** The status that says whether a commit goes before the tip of the candidate branch. */
export const UP_TO_DATE = 'penstock/up-to-date'

/** Contexts of statuses, and names of checks, that are ours. */
const OWN = 'penstock'

/** A pull request as the forge has it now, as far as a merge depends on it. */
export interface MergedPull {
  readonly state: 'open' | 'closed'
  readonly merged: boolean
  readonly draft: boolean
  readonly author?: string
  readonly labels: readonly string[]
  readonly head: { readonly commit: string }
  readonly base: { readonly branch: string }
}

export interface Wish {
  /** The head that was to be merged. */
  readonly commit: string
  readonly by: string
  readonly channel: string
}

export type End = { readonly state: 'merged' | 'ended'; readonly why: string }

/** The label as it is written on the pull request: GitHub takes `Ship` and `ship` for one. */
export function labelOn(pull: { readonly labels: readonly string[] }, label: string | undefined): string | undefined {
  return pull.labels.find((one) => one.toLowerCase() === label?.toLowerCase())
}

/** What the pull request alone tells: whether the wish has come to its end. */
export function endOf(
  wish: Wish,
  pull: MergedPull | undefined,
  rules: { readonly candidate: string; readonly label: string | undefined },
): End | undefined {
  const { candidate, label } = rules
  const ended = (why: string): End => ({ state: 'ended', why })
  if (pull === undefined) return ended('there is no such pull request any more')
  if (pull.merged) return { state: 'merged', why: 'the pull request is merged' }
  if (pull.state === 'closed') return ended('the pull request was closed')
  if (pull.head.commit !== wish.commit) {
    return ended(
      `the merge was asked for at ${short(wish.commit)}, and the head is now ${short(pull.head.commit)}: ${again(wish)}`,
    )
  }
  if (pull.base.branch !== candidate) {
    return ended(`only what goes into ${toCode(candidate)} is merged so, not into ${toCode(pull.base.branch)}`)
  }
  if (wish.channel === 'label' && labelOn(pull, label) === undefined) {
    return ended('the label was taken away')
  }
  return undefined
}

/** Undefined: the commit goes before the tip, which a fast-forward needs. */
export function behindOf(behind: number, candidate: string): string | undefined {
  if (behind === 0) return undefined
  return `${behind} ${behind === 1 ? 'commit' : 'commits'} behind ${candidate}`
}

export interface MergeFacts {
  readonly pull: MergedPull
  /** The last word of each person that stands; what somebody who may not write says counts neither way. */
  readonly reviews: readonly {
    readonly by: string
    readonly state: 'approved' | 'changes_requested' | 'dismissed'
    readonly commit?: string
    readonly mayWrite: boolean
  }[]
  /** Who pushed the head, as far as we were told. */
  readonly pushers: readonly string[]
  /** Our run of the head for this pull request; its stages. */
  readonly run?: { readonly number: number; readonly status: string; readonly stages: readonly string[] }
  /** What stands at the forge for the head: statuses and checks. */
  readonly verdicts: readonly { readonly name: string; readonly state: 'pending' | 'success' | 'failure' | 'error' }[]
}

/** All that a merge still waits for, a sentence each. None: now. */
export function missingFor({ pull, reviews, pushers, run, verdicts }: MergeFacts): readonly string[] {
  return [
    ...(pull.draft ? ['that it is no draft any more'] : []),
    ...missingReview(pull, reviews, pushers),
    ...missingRun(run),
    ...verdicts
      .filter(({ name, state }) => state !== 'success' && isAsked(name, run?.stages ?? []))
      .map(({ name, state }) => `${toCode(name)}, which is ${state === 'pending' ? 'not there yet' : `at ${state}`}`),
  ]
}

function missingReview(
  { head, author }: MergedPull,
  reviews: MergeFacts['reviews'],
  pushers: readonly string[],
): readonly string[] {
  const wanted = reviews.filter(({ state, mayWrite }) => mayWrite && state === 'changes_requested')
  const approved = reviews.some(
    ({ by, state, commit, mayWrite }) =>
      // An approval says of which commit it is: it is none of what came later.
      mayWrite && state === 'approved' && commit === head.commit && !isOneOf(by, [author, ...pushers]),
  )
  const others = [...new Set([author, ...pushers])].filter((one) => one !== undefined).map(toCode)
  const than = others.length === 0 ? '' : `, other than ${others.join(' and ')}, whose commits these are`
  return [
    ...(approved ? [] : [`an approval of ${short(head.commit)} by somebody with write access${than}`]),
    ...wanted.map(({ by }) => `that ${toCode(by)} no longer asks for changes`),
  ]
}

function missingRun(run: MergeFacts['run']): readonly string[] {
  if (run === undefined) return ['a run of this commit']
  if (!isOutcome(run.status)) return [`the end of run ${run.number}`]
  const passed: readonly Outcome[] = ['succeeded', 'skipped']
  return passed.includes(run.status) ? [] : [`that run ${run.number} succeeds, which is ${run.status}: retry it`]
}

/**
 * Of our own only the stages of the run count, which its forge may hear of later than we know it: what else we said of the
 * commit was said of another run.
 */
function isAsked(name: string, stages: readonly string[]): boolean {
  if (name === OWN) return false
  if (!name.startsWith(`${OWN}/`)) return true
  return name !== UP_TO_DATE && stages.includes(name.slice(OWN.length + 1))
}

function isOneOf(login: string, others: readonly (string | undefined)[]): boolean {
  return others.some((one) => one?.toLowerCase() === login.toLowerCase())
}

export function again({ channel }: Pick<Wish, 'channel'>): string {
  return channel === 'label' ? 'take the label away and put it there again, or `/merge`' : '`/merge` again'
}

export function short(commit: string): string {
  return commit.slice(0, 12)
}
