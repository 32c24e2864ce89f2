/** The commit and ref a run is about. */
export interface Change {
  /** Full commit id, 40 or 64 hex digits. */
  readonly commit: string
  /** Full ref, for example `refs/heads/master`. */
  readonly ref: string
  /** The commit the ref had before; absent for a new ref. */
  readonly before?: string
  /** First line of the commit message; untrusted text. */
  readonly title?: string
  /** Person names (or forge logins) as the forge authenticated them; untrusted where the forge cannot know. */
  readonly author?: string
  readonly pusher?: string
  /** For a pull request: its number and the branch it wants to go to. */
  readonly pullRequest?: { readonly number: number; readonly base: string }
  /** For a run that tests this commit against another repository's candidate. */
  readonly upstream?: Upstream
}

/** The candidate that a dependent repository is tested against. */
export interface Upstream {
  readonly repo: string
  /** The candidate's run: `acme/api#42`. */
  readonly run: string
  readonly commit: string
  /** Where the candidate answers, if it was deployed. */
  readonly url?: string
  readonly deliverables: readonly { readonly name: string; readonly reference: string }[]
}

/** The forge-neutral reason for a run. */
export type TriggerKind = 'push' | 'pull_request' | 'manual' | 'promotion' | 'upstream'

export interface Trigger {
  readonly kind: TriggerKind
  /** Repository name as the operator's file has it, for example `acme/web`. */
  readonly repo: string
  readonly change: Change
  /** Who asked (a person's name, or the delivery's source). */
  readonly requestedBy: string
}

/** What a branch means in the branching model; names are configurable per repository. */
export type BranchRole = 'candidate' | 'production' | 'feature'

export interface BranchNames {
  readonly candidate: string
  readonly production: string
}

export function branchRole(ref: string, names: BranchNames): BranchRole {
  if (ref === `refs/heads/${names.candidate}`) return 'candidate'
  if (ref === `refs/heads/${names.production}`) return 'production'
  return 'feature'
}

const UPSTREAM = 'refs/penstock/upstream/'

/** No branch of the dependent: what its released tip is tested against says nothing about any branch of its own. */
export function upstreamRef(run: string): string {
  return `${UPSTREAM}${run.replace('#', '/')}`
}

export function isUpstreamRef(ref: string): boolean {
  return ref.startsWith(UPSTREAM)
}

export function branchName(ref: string): string {
  return ref.startsWith('refs/heads/') ? ref.slice('refs/heads/'.length) : ref
}

const FULL_COMMIT = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/
/** git's "no commit": all zeros, as a push that creates or deletes a branch has it. */
const NO_COMMIT = /^0+$/

export function isFullCommit(value: string): boolean {
  return FULL_COMMIT.test(value) && !NO_COMMIT.test(value)
}
