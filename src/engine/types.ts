import type { JobKey } from '../core/ids.ts'
import type { Job, Segment } from '../core/plan.ts'

/**
 * The manager's side: what can be asked of any Swarm manager. Every verb is idempotent; none throws for "already
 * there" or "already gone". What Docker refuses for good is an `EngineRefused`; anything else rises with its cause.
 */
export interface Cluster {
  /** Image reference as it must be given to a service: pinned (`name@sha256:…` or an image id). Cached for a minute. */
  resolveImage(image: string): Promise<string>
  /** The run's own network (Swarm-scope bridge), made or adopted. */
  ensureNetwork(run: string): Promise<void>
  /** Swarm secrets of the job attempt, made or adopted. Values never appear in names, labels or errors. */
  ensureSecrets(job: JobKey, values: readonly { readonly name: string; readonly value: string }[]): Promise<void>
  /** The service of one segment, made or adopted. `node`: pin to this node id (later segments of a job). */
  startSegment(request: StartSegment): Promise<void>
  /** Where its task is. Never waits. */
  placement(job: JobKey, segment: number): Promise<Placement>
  /** Whether any node could ever satisfy constraints and reservations, with the sentence why not. */
  canPlace(
    job: Pick<Job, 'constraints' | 'resources'>,
  ): Promise<{ readonly kind: 'yes' } | { readonly kind: 'no'; readonly sentence: string }>
  /** Removes all services and secrets of the job attempt (running containers get SIGTERM first). */
  removeJob(job: JobKey): Promise<void>
  removeNetwork(run: string): Promise<void>
  /** Everything labelled as this instance's: runs that own services, networks, secrets. For the sweep. */
  ownedRuns(): Promise<readonly string[]>
  /** Removes whatever of the run is left. */
  removeRun(run: string): Promise<void>
  nodes(): Promise<readonly ClusterNode[]>
  /** Sets or clears the label by which jobs choose nodes with a live worker. Changes nothing if it is so already. */
  setWorkerAlive(nodeId: string, alive: boolean): Promise<void>
}

/** Small work on Swarm that belongs to no run: one container, without a checkout. */
export interface Errands {
  /**
   * Waits for its end and removes what was made for it. By `id` it is made once: whoever calls again while it runs waits for
   * the same container. What Docker refuses for good is an `EngineRefused`. `unreachable`: it may still run, on a node that
   * does not answer; nothing is removed, and whoever calls again goes on with it.
   */
  run(errand: Errand, signal: AbortSignal): Promise<ErrandEnd>
  /**
   * Stops its container, and removes what was made for it when the container has ended. Answers why that is not proved;
   * undefined: nothing of it runs any more.
   */
  remove(id: string): Promise<Extract<ErrandEnd, { readonly kind: 'unreachable' }> | undefined>
  /** All of this instance. */
  owned(): Promise<readonly string[]>
}

export interface Errand {
  readonly id: string
  readonly image: string
  /** Commands of the image's own shell; the first that fails ends it. */
  readonly run: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Files under `/run/secrets`, with `<NAME>_FILE` set. */
  readonly secrets: readonly { readonly name: string; readonly value: string }[]
  readonly constraints: readonly string[]
  /** From the moment its service was made. */
  readonly timeoutMs: number
}

export type ErrandEnd =
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly why: string }
  | { readonly kind: 'unreachable'; readonly why: string }

export interface ClusterNode {
  readonly id: string
  readonly hostname: string
  readonly ready: boolean
  readonly workerAlive: boolean
}

export interface StartSegment {
  readonly key: JobKey
  readonly job: Job
  readonly segment: number
  /** Pinned reference from `resolveImage`. */
  readonly image: string
  readonly node?: string
}

export type Placement =
  | { readonly kind: 'absent' }
  /** Not yet assigned; Swarm's own reason if it has one. */
  | { readonly kind: 'pending'; readonly reason?: string }
  | { readonly kind: 'assigned'; readonly node: string; readonly hostname: string; readonly container?: string }
  /** The task never ran: image missing, mount refused, ... */
  | { readonly kind: 'rejected'; readonly reason: string }
  /** The node is down or gone (state of the node beside the desired state of the task). */
  | { readonly kind: 'lost'; readonly node: string; readonly reason: string }
  | {
      readonly kind: 'ended'
      readonly node: string
      readonly hostname: string
      readonly container?: string
      readonly exitCode?: number
      readonly reason?: string
    }

/**
 * The node's side: works beside one Docker engine, on the files of its volumes. A worker that takes over from a dead one
 * calls the same verbs with the same keys and gets the same container, files and offsets.
 */
export interface NodeEngine {
  /** Once at the worker's start: the shared read-only helper volume (static busybox and the wrapper). */
  prepareNode(): Promise<void>
  nodeId(): Promise<{ readonly id: string; readonly hostname: string }>
  /** Makes or adopts workspace and control volume; returns where the workspace's files are on this machine. */
  prepareVolumes(key: JobKey, segment: number): Promise<{ readonly workspace: string }>
  /** Writes what the wrapper needs (steps, variables, limits). Must be called before `openGate`. Repeatable until then. */
  writeSegment(request: WriteSegment): Promise<void>
  /**
   * Lets the container go on from its gate; waits for the container to come to it. Repeatable: a gate that was opened
   * stays open. Ends with `ended` if the container ended before it came to the gate.
   */
  openGate(key: JobKey, segment: number, signal: AbortSignal): Promise<'opened' | 'ended'>
  /** What the wrapper has written so far. Cheap; for polling (with `waitForChange`). */
  observe(key: JobKey, segment: number): Promise<SegmentState>
  /** Bytes of a step's raw log from `offset`, at most `limit`; empty at the present end. Tampering is an error. */
  readLog(key: JobKey, segment: number, step: number, offset: number, limit: number): Promise<Buffer>
  /** Resolves when files may have changed, or after `maxMs`. */
  waitForChange(key: JobKey, segment: number, maxMs: number, signal: AbortSignal): Promise<void>
  /** How the container ended, from the engine; undefined while it runs or has not been created. */
  ended(key: JobKey, segment: number): Promise<ContainerEnd | undefined>
  /** SIGTERM to the steps; SIGKILL after `graceMs`. Resolves when the container has ended (or never was). */
  stop(key: JobKey, segment: number, graceMs: number): Promise<void>
  /** Removes this job attempt's containers and volumes on this node. Never follows a link. */
  removeVolumes(key: JobKey): Promise<void>
  /**
   * Removes volumes and containers that do not run of this instance, whose run is not open. `openRuns` is asked after it
   * was seen what there is: what belongs to a run that begins meanwhile is not among it. Returns what was removed.
   */
  sweep(openRuns: () => Promise<ReadonlySet<string>>): Promise<readonly string[]>
  /** A regular file under the workspace, opened without following links; after the container has ended. */
  readWorkspaceFiles(
    key: JobKey,
    patterns: readonly string[],
    limits: { readonly files: number; readonly bytes: number },
  ): Promise<readonly { readonly path: string; readonly bytes: Buffer }[]>
}

export interface WriteSegment {
  readonly key: JobKey
  readonly segment: number
  readonly content: Segment
  /** Index within the job of the segment's first step. */
  readonly firstStep: number
  readonly env: Readonly<Record<string, string>>
  /** Secret names that become variables, read by the wrapper from `/run/secrets/<name>`. */
  readonly secretEnv: readonly string[]
  readonly workdir: string
  /** Seconds for all steps of the segment. */
  readonly timeoutSeconds: number
  /** From SIGTERM to SIGKILL when a time limit is hit. */
  readonly graceSeconds: number
  /** JSON of the units that the job holds: the file that `CI_POOLS_FILE` names. */
  readonly units?: string
}

/** As the wrapper's files have it. `index` counts within the job. */
export interface StepState {
  readonly index: number
  readonly started: boolean
  /** Raw bytes in the log file now. */
  readonly logBytes: number
  readonly end?: StepEnd
}

export interface StepEnd {
  readonly exitCode: number
  readonly timedOut: boolean
  /** Bytes that came through the step's pipe; more than the file has if writes failed. */
  readonly pipeBytes: number
  /** sha256 (hex) of the log file's first `fileBytes` bytes. */
  readonly sha256: string
  readonly fileBytes: number
  /** A write to the log failed (disk full), as the wrapper saw it. */
  readonly writeError?: string
}

export interface SegmentState {
  readonly gate: 'absent' | 'waiting' | 'open'
  readonly steps: readonly StepState[]
  /** The wrapper has finished its last step (or stopped after a failed one). */
  readonly finished: boolean
  /** SIGTERM reached the wrapper: `stop`, the removal of the service, or a Docker engine that shuts down. */
  readonly stopped: boolean
  /** Something that the container must not do was seen (a file replaced, shrunk, turned into a link). */
  readonly tampered?: string
}

export type ContainerEnd =
  | { readonly kind: 'exited'; readonly code: number; readonly memoryKill: boolean }
  /** Killed by the returning daemon, removed by a stopped one, vanished: not the user's doing. */
  | { readonly kind: 'lost'; readonly reason: string }

/** Docker refused for good: repeating the same call cannot help. */
export class EngineRefused extends Error {
  override readonly name = 'EngineRefused'
}
