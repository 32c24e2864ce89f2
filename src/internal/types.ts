import type { RunEvent } from '../core/events.ts'
import type { JobKey, LogKey } from '../core/ids.ts'

/**
 * All that a node's worker may ask of the server: by HTTP, authenticated by the worker token. It needs no database and
 * no shared disk. Every call is repeatable.
 */
export interface ServerPort {
  /**
   * The node's worker lives; at least every 5 s. The server labels the node so that Swarm places jobs there, and
   * answers with the ids of the runs that are open (queued, running, waiting): whatever else is on the node is swept.
   */
  alive(node: { readonly id: string; readonly hostname: string }): Promise<{
    readonly liveRuns: readonly string[]
    /** Ended jobs that were on this node: their units wait for the proof that nothing of them runs any more. */
    readonly unproved: readonly JobKey[]
  }>
  /** The values of the secrets of a job's run that may appear in its output; `version` changes when one of them does. */
  secrets(job: JobKey): Promise<{
    readonly version: string
    readonly values: readonly { readonly name: string; readonly value: string }[]
  }>
  /** Where to go on with a step's log. */
  logState(log: LogKey): Promise<LogCursor>
  /**
   * Appends masked bytes. Refused (LogMoved) if `at` is not the cursor's `stored`: a second worker wrote meanwhile, or
   * this one's answer was lost; read `logState` and go on from there.
   */
  appendLog(log: LogKey, append: LogAppend): Promise<LogCursor>
  /** Closes the log with what was proven; repeatable with the same proof. */
  finishLog(log: LogKey, end: LogEnd): Promise<void>
  /** Events of a run, in order, each append once by its key; all of them or none. */
  events(run: string, appends: readonly EventAppend[]): Promise<void>
  /** A job's JUnit file: parsed, limited and stored by the server. Returns how many cases it holds. */
  junit(job: JobKey, file: string, bytes: Buffer): Promise<number>
  /** Keeps a file by its content. Returns its digest, `sha256:<hex>`. */
  artifact(bytes: Buffer): Promise<string>
  /** The job's container is alive on this node, or about to begin; `false`: it no longer holds its units, and must not go on. */
  holdsUnits(job: JobKey, node: string): Promise<boolean>
  /** Nothing of an ended job runs on its node any more. */
  proveGone(job: JobKey): Promise<void>
}

export interface EventAppend {
  readonly key: string
  readonly events: readonly RunEvent[]
}

export interface LogCursor {
  /** Bytes of the step's raw log that are accounted for. */
  readonly raw: number
  /** Bytes in the store. */
  readonly stored: number
  /** Set of secrets that the last append was masked with. */
  readonly secretsVersion?: string
  readonly finished: boolean
}

export interface LogAppend {
  /** The `stored` this follows. */
  readonly at: number
  /** Raw bytes accounted for after this append: a boundary that no secret straddles. */
  readonly rawEnd: number
  readonly secretsVersion: string
  readonly bytes: Buffer
}

export interface LogEnd {
  /** sha256 (hex) of the raw log and its length, as read by this worker from the start. */
  readonly rawBytes: number
  /** `complete`, or why not. */
  readonly proof:
    | { readonly kind: 'complete' }
    | { readonly kind: 'gap'; readonly reason: string; readonly missingBytes?: number }
}

/** The append does not follow the store's end. */
export class LogMoved extends Error {
  override readonly name = 'LogMoved'
  readonly cursor: LogCursor
  constructor(cursor: LogCursor) {
    super(`the log stands at ${cursor.stored} stored, ${cursor.raw} raw bytes`)
    this.cursor = cursor
  }
}
