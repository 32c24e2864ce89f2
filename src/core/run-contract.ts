import type { Answer, OnExpiry } from './approval.ts'
import type { Change, TriggerKind } from './change.ts'
import type { RunEvent, Waiting } from './events.ts'
import type { FieldValues } from './form.ts'
import type { JobKey } from './ids.ts'
import type { Outcome } from './outcome.ts'
import type { Deliverable, Job, Plan, PoolRequest, Segment } from './plan.ts'
import type { Progress } from './progress.ts'

/** What crosses Temporal between workflows and activities: small, plain JSON. */

export interface RunInput {
  /** `acme/web#42` */
  readonly run: string
  readonly try: number
}

/** All a try needs to know to begin; the same answer for the same try, whenever asked. */
export type Begun =
  | {
      readonly kind: 'begun'
      readonly repo: string
      readonly number: number
      readonly branch: string
      readonly commit: string
      readonly plan: Plan
      readonly progress: Progress
      readonly context: RunContext
    }
  /** Nothing can be started: the spec is wrong (failed), it cannot be had (errored), or the run is not allowed (failed). */
  | {
      readonly kind: 'refused'
      readonly outcome: Outcome
      readonly reason: string
      readonly branch: string
      readonly commit: string
      readonly repo: string
      readonly number: number
    }

/** What every job of the run is told. */
export interface RunContext {
  readonly change: Change
  readonly trigger: TriggerKind
  /** Address by environment name. */
  readonly environmentUrls: Readonly<Record<string, string>>
  /** What to do with a constraint that no node can meet. */
  readonly unplaceable: 'fail' | 'wait'
  /** What people filled in at the gate before. */
  readonly gateVariables?: Readonly<Record<string, string>>
}

export interface JobInput {
  readonly key: JobKey
  readonly repo: string
  readonly job: Job
  readonly context: RunContext
  /** The environment that the stage exercises or deploys to. */
  readonly environment?: string
  /** Files of the workspace to keep as what the job delivers: a glob. */
  readonly collect?: string
  readonly deliverables: readonly Deliverable[]
}

export interface JobResult {
  readonly outcome: Outcome
  readonly reason?: string
  /** The infrastructure lost the attempt after it may have started: another attempt is the spec's decision. */
  readonly lost: boolean
  /** Node the attempt was on. */
  readonly node?: string
  readonly collected?: Collected
}

/** What a job delivers: `digest` is that of a list of its files in the format of `sha256sum`, kept as an artifact, too. */
export interface Collected {
  readonly digest: string
  readonly paths: readonly string[]
}

/** How an attempt ended. */
export interface JobEnd {
  readonly outcome: Outcome
  readonly reason?: string
}

export type JobStart =
  /** The attempt is known to have ended: Temporal's memory is older than the database's. */
  | ({ readonly kind: 'ended' } & JobEnd)
  | { readonly kind: 'refused'; readonly outcome: Outcome; readonly reason: string }
  /** All slots are taken: nothing was started. A `granted` signal says when to ask again. */
  | { readonly kind: 'queued'; readonly sentence: string }
  | JobPlacement

export type JobPlacement =
  | { readonly kind: 'pending'; readonly reason?: string }
  | { readonly kind: 'placed'; readonly node: string; readonly hostname: string }
  | { readonly kind: 'rejected'; readonly reason: string }
  | { readonly kind: 'lost'; readonly node: string; readonly reason: string }

export interface SegmentInput {
  readonly key: JobKey
  readonly repo: string
  readonly commit: string
  readonly segment: number
  readonly content: Segment
  readonly firstStep: number
  readonly env: Readonly<Record<string, string>>
  readonly secretEnv: readonly string[]
  readonly workdir: string
  readonly timeoutSeconds: number
  readonly memoryLimit: number
  readonly junit: readonly string[]
  readonly collect?: string
  /** The units that the job holds, as JSON: it must not go on without them. */
  readonly units?: string
  /** Last segment of the job: reports are read after it. */
  readonly last: boolean
}

export type SegmentResult =
  | {
      readonly kind: 'ended'
      readonly outcome: Outcome
      readonly reason?: string
      readonly lost: boolean
      readonly collected?: Collected
    }
  /** The container has not come to its gate yet; ask where its task is and call again. */
  | { readonly kind: 'not_started' }

export type PoolAnswer =
  | {
      readonly kind: 'granted'
      readonly env: Readonly<Record<string, string>>
      /** The units and what is known of them, as JSON. */
      readonly document?: string
    }
  /** `lookInMs`: nothing tells of its end before that. */
  | { readonly kind: 'queued'; readonly sentence: string; readonly lookInMs?: number }
  | { readonly kind: 'superseded'; readonly by: string }
  | { readonly kind: 'impossible'; readonly sentence: string }

export interface VoteSignal {
  readonly who: string
  readonly comment?: string
  readonly channel?: string
  /** Single-use vote token; without one the vote is recorded and does not count. */
  readonly token?: string
  /** What was filled in, by name of the field. */
  readonly fields?: FieldValues
  /** An operator passes the gate alone; the comment is the reason. */
  readonly breakGlass?: boolean
}

export interface GateAnswer {
  readonly kind: 'open' | 'approved' | 'rejected' | 'expired'
  /** Which opening of the gate this is about; absent: there is none, or an earlier release has not said. */
  readonly id?: string
  /** "1 of 2 approvals; may approve: ben, eve". */
  readonly sentence: string
  /** Absent: it does not expire as it stands. */
  readonly expiresAt?: number
  /** How long that is by the clock of who answers: another's may be elsewhere. */
  readonly expiresInMs?: number
  /** When to look at it again though nothing has come, by the same clock: a reminder, or a window that opens. */
  readonly lookInMs?: number
  /** What becomes of the run if it has expired; absent: it has failed. */
  readonly onExpiry?: OnExpiry
  /** Approved: what was filled in, as variables of later jobs. */
  readonly variables?: Readonly<Record<string, string>>
  /** Approved by break-glass: the sentence that says so for ever. */
  readonly broken?: string
}

export type SessionAnswer =
  | { readonly kind: 'open'; readonly sentence: string; readonly expiresAt: number }
  | ({ readonly kind: 'ended' } & JobEnd)
export interface UnitKey {
  readonly pool: string
  readonly unit: string
}

export type CareStep =
  | { readonly kind: 'again' | 'nothing'; readonly sentence: string }
  | { readonly kind: 'wait'; readonly ms: number; readonly sentence: string }

/** Activities on the control queue. All are repeatable: each write is keyed by run and purpose. */
export interface ControlActivities {
  beginTry(input: RunInput): Promise<Begun>
  append(input: { readonly run: string; readonly key: string; readonly events: readonly RunEvent[] }): Promise<void>
  showWaiting(input: { readonly run: string; readonly stage?: string; readonly waiting?: Waiting }): Promise<void>
  finishTry(input: RunInput & { readonly outcome: Outcome; readonly reason?: string }): Promise<void>
  cancelReason(input: { readonly run: string }): Promise<string>

  acquireEnvironment(input: {
    readonly run: string
    readonly repo: string
    readonly environment: string
  }): Promise<PoolAnswer>
  /** The supersession of a waiting candidate: cancels its run, naming the newer one. */
  supersede(input: { readonly run: string; readonly by: string }): Promise<void>
  /** Whether the environment still shows exactly these digests, put there by this run. */
  isDeployed(input: {
    readonly run: string
    readonly repo: string
    readonly environment: string
    readonly deliverable: string
  }): Promise<boolean>

  acquirePools(input: { readonly key: JobKey; readonly requests: readonly PoolRequest[] }): Promise<PoolAnswer>
  /** Does what is to be done for a unit that is handed over: one try of its reset or probe. */
  careForUnit(key: UnitKey): Promise<CareStep>
  /** Takes a slot for the job, and starts its first segment when it has one. */
  startJob(input: JobInput): Promise<JobStart>
  startSegment(
    input: JobInput & { readonly segment: number; readonly node: string },
  ): Promise<Exclude<JobStart, { readonly kind: 'queued' }>>
  placement(input: { readonly key: JobKey; readonly segment: number }): Promise<JobPlacement>
  /** Resolves when the task is no longer pending, or after `seconds`. Heartbeats. */
  awaitPlacement(input: {
    readonly key: JobKey
    readonly segment: number
    readonly seconds: number
  }): Promise<JobPlacement>
  /** Records the end of an attempt; the first record stands, and is the answer. */
  endJob(
    input: {
      readonly key: JobKey
      /** Nothing of it runs any more: its units can be handed over. */
      readonly isGone?: boolean
    } & JobEnd,
  ): Promise<JobEnd | undefined>
  removeJob(input: { readonly key: JobKey }): Promise<void>

  /** Opens the session of a job that people do, or looks at how it stands; records its results when it has ended. */
  openSession(input: JobInput): Promise<SessionAnswer>

  /** The network of the run's jobs, once they are gone; made again when a job needs it. */
  removeNetwork(input: { readonly run: string }): Promise<void>

  /** A node with a live worker, for work that needs Docker but no Swarm service (image builds). */
  chooseBuildNode(input: { readonly run: string }): Promise<{ readonly node: string; readonly hostname: string }>
  deploy(input: {
    readonly run: string
    readonly try: number
    readonly repo: string
    readonly commit: string
    readonly environment: string
    readonly deliverable: Deliverable
  }): Promise<{ readonly outcome: Outcome; readonly reason?: string }>

  openGate(input: {
    readonly run: string
    readonly repo: string
    readonly gate: string
    readonly environment: string
    readonly deliverables: readonly Deliverable[]
    readonly specDigest: string
  }): Promise<GateAnswer>
  castVote(input: {
    readonly run: string
    readonly gate: string
    readonly key: string
    readonly answer: Answer
    readonly vote: VoteSignal
    /** Which opening of the gate the run stood at when it came; null: none. Absent: that is not known. */
    readonly about?: string | null
  }): Promise<GateAnswer>
  expireGate(input: { readonly run: string; readonly gate: string }): Promise<GateAnswer>
  promote(input: {
    readonly run: string
    readonly gate: string
    readonly branch: string
  }): Promise<{ readonly outcome: Outcome; readonly reason?: string }>
}

/** Activities on a node's own queue. */
export interface NodeActivities {
  runSegment(input: SegmentInput): Promise<SegmentResult>
  /** Ends what is left of the job's containers here. Resolves when nothing of it runs any more. */
  endContainers(input: { readonly key: JobKey; readonly segments: number }): Promise<void>
  removeVolumes(input: { readonly key: JobKey }): Promise<void>
  buildImage(input: {
    readonly key: JobKey
    readonly repo: string
    readonly commit: string
    readonly name: string
    readonly context: string
    readonly dockerfile: string
    readonly to?: string
  }): Promise<{ readonly outcome: Outcome; readonly reason?: string; readonly deliverable?: Deliverable }>
}
