/** What a forge is to show of runs: plain data, each piece a whole state and no change, so that it may be sent twice. */

export type StatusState = 'pending' | 'success' | 'failure' | 'error'

/** A commit status: the newest of a context stands. */
export interface StatusReport {
  readonly commit: string
  /** `penstock/test` */
  readonly context: string
  readonly state: StatusState
  /** One line, at most 140 characters. */
  readonly description: string
  readonly url: string
}

export interface Annotation {
  /** Within the repository. */
  readonly path: string
  /** From 1. */
  readonly line: number
  /** One line. */
  readonly title: string
  readonly message: string
}

/** A button beside the check. What it does comes back as a delivery with `identifier` and the check's `identity`. */
export interface CheckAction {
  readonly label: string
  readonly description: string
  readonly identifier: 'retry'
}

export type CheckState =
  | { readonly kind: 'queued' }
  | { readonly kind: 'running' }
  | { readonly kind: 'ended'; readonly conclusion: 'success' | 'failure' | 'canceled' }

/** One check a try. `title` is one line, `summary` and `text` are Markdown. */
export interface CheckReport {
  readonly commit: string
  readonly name: string
  /** `acme/web#42/2`: of the try; what GitHub calls the external id. */
  readonly identity: string
  readonly state: CheckState
  readonly title: string
  readonly summary: string
  readonly text?: string
  readonly annotations: readonly Annotation[]
  readonly actions: readonly CheckAction[]
  readonly url: string
}

/** The one comment of Penstock under a pull request. */
export interface CommentReport {
  readonly pullRequest: number
  /** One comment per marker. The forge keeps it in the text, unseen: by it, and its author, the comment is found again. */
  readonly marker: string
  /** Markdown, without the marker. */
  readonly body: string
}

export interface DeploymentReport {
  readonly commit: string
  readonly environment: string
  /** `acme/web#42/staging`: of the deployment that is made once and then gets statuses. */
  readonly identity: string
  readonly state: 'queued' | 'running' | 'success' | 'failure' | 'error'
  /** One line, at most 140 characters. */
  readonly description: string
  readonly url: string
  /** Where the environment is reached. */
  readonly address?: string
}

/**
 * What a forge shows for us. Each may be absent: the rest is shown all the same. Each call is repeatable, resolves only
 * once the forge's answer says that it has taken the state, and throws otherwise, with the `status` and `response.headers`
 * of the answer if there was one, or with `retryAfterMs` if the forge asks to be left alone; either within 15 s, and nothing of it is sent later. An adapter that finds its forge to lack a thing says so in the log, once, and resolves
 * with nothing.
 *
 * What a call resolves with is handed to the next one for the same thing as `known`. Without it (the first call, or an
 * answer that was lost) the adapter looks for what is there, by `identity` or `marker`, before it makes another.
 */
export interface ReportPort {
  readonly setStatus?: (status: StatusReport) => Promise<void>
  readonly setCheck?: (check: CheckReport, known?: string) => Promise<string | undefined>
  readonly upsertComment?: (comment: CommentReport, known?: string) => Promise<string | undefined>
  readonly setDeployment?: (deployment: DeploymentReport, known?: string) => Promise<string | undefined>
}

/**
 * Which of two states for one key is to be shown: compared number by number.
 * - weight: a run that has the stage beats one that leaves it out, and one with a sign-off beats one without;
 * - run: of those the newest run stands;
 * - version: of one run what was seen last. It grows with every change of the run, over all tries.
 */
export interface Rank {
  readonly weight: number
  readonly run: number
  readonly version: number
}

export function isOlder(one: Rank, other: Rank): boolean {
  if (one.weight !== other.weight) return one.weight < other.weight
  if (one.run !== other.run) return one.run < other.run
  return one.version < other.version
}

export type Reported =
  | { readonly kind: 'status'; readonly content: StatusReport }
  | { readonly kind: 'check'; readonly content: CheckReport }
  | { readonly kind: 'comment'; readonly content: CommentReport }
  | { readonly kind: 'deployment'; readonly content: DeploymentReport }

/** What one key of a forge is to show. */
export type DesiredState = Reported & {
  /** Absent: the run's own. */
  readonly repo?: string
  /** The commit, or `pull/12`. */
  readonly subject: string
  /** The context, the check's name, the environment; unique with `subject` and `kind`. */
  readonly name: string
  readonly weight: number
}
