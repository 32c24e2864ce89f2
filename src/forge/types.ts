import type { Access, Role } from '../core/admission.ts'
import type { BranchHead, FastForward, Source } from '../git/mirrors.ts'

export type { BranchHead, FastForward, Source }

/**
 * A repository at a forge. What every forge can do is always there; a group that a forge lacks is absent. Every call asks
 * the forge (nothing here is a fact from a payload), may be repeated, and throws `ForgeBusy` when the forge asks to wait,
 * `ForgeAnswerUnusable` when its answer is not what its API promises, and the client's own error otherwise.
 */
export interface Forge {
  /** Where commits are fetched from, with a credential that is good for some minutes: ask each time. */
  source(): Promise<Source>
  /** Moves a branch to a commit, only forward. Repeatable. */
  fastForward(branch: string, commit: string): Promise<FastForward>
  /** The commit that a branch has now; undefined: no such branch. */
  branchTip(branch: string): Promise<string | undefined>
  /** Every branch with its commit. */
  readonly branchHeads?: () => Promise<readonly BranchHead[]>
  /** The newest move of a branch, and who made it; undefined: the forge does not tell. */
  readonly lastMove?: (branch: string) => Promise<Move | undefined>
  readonly branches?: Branches
  readonly pullRequests?: PullRequests
  readonly comments?: Comments
  readonly people?: People
  readonly pushes?: Pushes
  readonly statuses?: Statuses
  readonly checks?: Checks
  readonly verdicts?: Verdicts
  readonly deployments?: Deployments
  readonly deliveries?: FailedDeliveries
  /** What the repository's settings at the forge need, and how to mend what is missing. */
  readonly check?: () => Promise<readonly Finding[]>
}

export interface Move {
  /** Absent: the branch was made by it. */
  readonly before?: string
  /** Absent: the branch was removed by it. */
  readonly after?: string
  /** Login; absent: the account is gone. */
  readonly by?: string
  /** Milliseconds since 1970. */
  readonly at: number
}

export interface Branches {
  /** A new branch at a commit that the forge has. One that is there at another commit is left alone. */
  create(
    branch: string,
    commit: string,
  ): Promise<{ readonly kind: 'made' | 'already' } | { readonly kind: 'taken'; readonly at: string }>
  /** No branch of that name is as good as one that was removed. */
  remove(branch: string): Promise<void>
}

export interface PullRequest {
  readonly number: number
  readonly state: 'open' | 'closed'
  readonly merged: boolean
  readonly draft: boolean
  readonly title: string
  /** Login; absent: the account is gone. */
  readonly author?: string
  readonly labels: readonly string[]
  readonly head: {
    readonly commit: string
    /** Short name of the branch. */
    readonly branch: string
    /** Absent: that repository is gone. */
    readonly repo?: string
  }
  readonly base: { readonly branch: string; readonly commit: string }
  /** The head lives in another repository, or in one that is gone: whoever wrote it may have no access here. */
  readonly fork: boolean
  readonly url: string
}

export interface NewPullRequest {
  readonly head: string
  readonly base: string
  readonly title: string
  readonly body: string
}

export interface PullRequests {
  /** All that are open, oldest first; with `base` only those into that branch. */
  open(filter?: { readonly base?: string }): Promise<readonly PullRequest[]>
  /** Undefined: no such pull request. */
  get(number: number): Promise<PullRequest | undefined>
  /** The last word of each person that stands; comments do not take a word back. */
  reviews(number: number): Promise<readonly Review[]>
  /** Who put that label there, the last time; undefined: nobody did. */
  labeled(number: number, label: string): Promise<Labeled | undefined>
  /** Title and text of the one that is open from `head` into `base` are brought up to date, or a new one is opened. */
  put(pull: NewPullRequest): Promise<PullRequest>
  close(number: number): Promise<void>
}

export interface Review {
  readonly by: string
  readonly state: 'approved' | 'changes_requested' | 'dismissed'
  /** The head at that time; absent where the forge does not say. */
  readonly commit?: string
}

export interface Labeled {
  /** The same as long as nobody takes the label away and puts it there again. */
  readonly id: string
  readonly by: string
}

export interface Comments {
  /**
   * One comment per marker on a pull request, brought up to date. The marker is kept in the text, unseen; only a comment
   * of our own account is taken for ours.
   */
  upsert(pullRequest: number, marker: string, body: string): Promise<{ readonly id: string }>
  /** An answer of its own. A repetition makes a second one. */
  add(pullRequest: number, body: string): Promise<{ readonly id: string }>
  /** Undefined: it is gone, or never was. */
  get(id: string): Promise<Comment | undefined>
}

export interface Comment {
  readonly id: string
  readonly by?: string
  readonly body: string
  readonly pullRequest: number
  /** Somebody changed the text after it was first written. */
  readonly edited: boolean
  /** When it was written, and last changed, by the forge's clock; absent where the forge does not say. */
  readonly at?: number
  readonly changedAt?: number
}

export { ACCESS, type Access, type Role } from '../core/admission.ts'

export interface People {
  /** What a login may do in this repository now. An unknown login may do nothing. */
  access(login: string): Promise<Access>
  /** The same in the forge's own words, for rules that tell maintainers apart: who may write, and who may do all. */
  role(login: string): Promise<Role>
}

export interface Pushes {
  /**
   * Logins of who moved any branch to one of these commits, as the forge authenticated them. Only so far back as the
   * forge tells, and as one can read in some answers.
   */
  pushersOf(commits: readonly string[]): Promise<readonly string[]>
}

export type StatusState = 'pending' | 'success' | 'failure' | 'error'

export interface CommitStatus {
  readonly commit: string
  readonly context: string
  readonly state: StatusState
  /** Cut to what the forge takes. */
  readonly description: string
  readonly url?: string
}

export interface Statuses {
  /** The newest of a context stands. */
  set(status: CommitStatus): Promise<void>
  /** What stands for each context of a commit. */
  of(commit: string): Promise<readonly CommitStatus[]>
  /** Whether that is what `set` makes of it here. Absent: the same state, and the description as far as it is not cut. */
  readonly isShownAs?: (wanted: CommitStatus, there: CommitStatus) => boolean
}

/** `absent`: the forge turned out to lack this. It is said once in the log; statuses carry the rest. */
export type Put = { readonly kind: 'put'; readonly id: string } | { readonly kind: 'absent' }

export type CheckConclusion = 'success' | 'failure' | 'neutral' | 'cancelled' | 'skipped' | 'timed_out'

export interface Annotation {
  readonly path: string
  readonly line: number
  readonly endLine?: number
  readonly level: 'notice' | 'warning' | 'failure'
  readonly title?: string
  readonly message: string
}

export interface Check {
  readonly commit: string
  readonly name: string
  /** Ours, at most one check of a commit has it: a repetition finds what is there by it. */
  readonly key: string
  readonly state: 'queued' | 'running' | CheckConclusion
  readonly title: string
  readonly summary: string
  readonly text?: string
  readonly url?: string
  /** Given with the state that ends the check, all at once: they are sent in batches of what the forge takes. */
  readonly annotations?: readonly Annotation[]
  /** Buttons; a click comes back as a delivery with the id. At most three. */
  readonly actions?: readonly { readonly id: string; readonly label: string; readonly description: string }[]
}

export interface Checks {
  put(check: Check): Promise<Put>
}

/** What a check says of a commit, whosever it is. */
export interface Verdict {
  readonly name: string
  readonly state: 'pending' | 'success' | 'failure'
}

export interface Verdicts {
  /** The newest of each check of a commit. None, where the forge turned out to lack checks. */
  of(commit: string): Promise<readonly Verdict[]>
}

export type DeploymentState = 'queued' | 'in_progress' | 'success' | 'failure' | 'error' | 'inactive'

export interface Deployment {
  readonly commit: string
  readonly environment: string
  /** Ours; a repetition finds what is there by it. */
  readonly key: string
  readonly production: boolean
  readonly description: string
}

export interface Deployments {
  put(deployment: Deployment): Promise<Put>
  /** The state that stands is not sent a second time. */
  setState(
    id: string,
    state: {
      readonly state: DeploymentState
      readonly description: string
      readonly logUrl?: string
      /** Where the environment answers. */
      readonly url?: string
    },
  ): Promise<void>
  /** The state that stands; undefined: none yet. */
  stateOf(id: string): Promise<DeploymentState | undefined>
  /** Whether that is what `setState` makes of it here. Absent: the same state. */
  readonly isShownAs?: (wanted: DeploymentState, there: DeploymentState) => boolean
}

export interface FailedDelivery {
  readonly id: string
  /** The same for a delivery and its redeliveries. */
  readonly guid: string
  readonly event: string
  /** Milliseconds since 1970. */
  readonly at: number
  /** The status that we answered with; 0: none came. */
  readonly answer: number
}

export interface FailedDeliveries {
  /** Those since a time of which no try has arrived, oldest first, one for each guid. */
  list(since: number): Promise<readonly FailedDelivery[]>
  /** Asks the forge to send it again; when it comes is the forge's business. */
  redeliver(id: string): Promise<void>
}

/** One line of `penstock forge check`. */
export interface Finding {
  readonly about: 'access' | 'permission' | 'webhook' | 'branch'
  readonly name: string
  /** `unknown`: what we may ask does not tell. */
  readonly state: 'present' | 'missing' | 'unknown'
  /** `needed`: without it something does not work. `advised`: without it something is less safe or less shown. */
  readonly weight: 'needed' | 'advised'
  /** What it is for. */
  readonly why: string
  /** What to do; only where something is to be done. */
  readonly mend?: string
}

/** The forge asks us to wait. */
export class ForgeBusy extends Error {
  override readonly name = 'ForgeBusy'
  readonly retryAfterMs: number
  constructor(message: string, retryAfterMs: number, cause: unknown) {
    super(message, { cause })
    this.retryAfterMs = retryAfterMs
  }
}

/** The forge answered with something that its API does not promise: a proxy's page, half an answer. */
export class ForgeAnswerUnusable extends Error {
  override readonly name = 'ForgeAnswerUnusable'
}
