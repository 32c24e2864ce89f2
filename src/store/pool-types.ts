import type { PoolRequest } from '../core/plan.ts'
import type { ExpectedStart } from '../core/pool/expected-start.ts'
import type { PoolSettings, Properties, UnitSettings } from '../core/pool/settings.ts'
import type { Mode } from '../core/pool/state.ts'

/** What the store says of pools, units, leases and who waits for them. Times are milliseconds since 1970. */

export type AcquireResult =
  | { readonly kind: 'granted'; readonly leases: readonly LeaseRow[] }
  | {
      readonly kind: 'queued'
      readonly position: number
      readonly holders: readonly LeaseRow[]
      readonly sentence: string
    }
  /** Environments: a newer candidate took this one's place in the queue. */
  | { readonly kind: 'superseded'; readonly by: string }
  /** No unit can ever satisfy it. */
  | { readonly kind: 'impossible'; readonly sentence: string }

export interface LeaseRow {
  readonly pool: string
  readonly unit: string
  /** Grows with every grant of this unit, never falls. */
  readonly fence: number
  readonly holder: string
  /** '': a person. */
  readonly run: string
  readonly mode: Mode
  readonly since: number
  /** When the holder must have given it back. */
  readonly expiresAt: number
  readonly properties: Properties
  /** The holder has ended; its container is not proved gone yet. */
  readonly endedAt?: number
  /** Why the holder has to stop. */
  readonly revoked?: string
}

export type Service = 'in_service' | 'draining' | 'maintenance'

/** How the newest reset or probe that ended did so. */
export interface CareResult {
  readonly at: number
  readonly outcome: 'passed' | 'failed'
}

export interface UnitRow extends UnitSettings {
  readonly pool: string
  readonly unit: string
  readonly leases: readonly LeaseRow[]
  /** `file`: from the operator's file, which alone may change it. */
  readonly source: 'file' | 'api'
  /** `resetting`, `probing`: on its way to the next holder; `clearing`: cleared, and free when nothing of these runs any more. */
  readonly phase: 'ready' | 'resetting' | 'probing' | 'clearing'
  /** Why it is not given on, until its probe passes or a person clears it. */
  readonly quarantined?: string
  readonly lastReset?: CareResult
  readonly lastProbe?: CareResult
  readonly service: { readonly kind: Service; readonly by?: string; readonly reason?: string }
}

export interface PoolRow extends PoolSettings {
  readonly pool: string
  readonly source: 'file' | 'api'
}

export interface WaiterRow {
  readonly holder: string
  readonly run: string
  readonly requests: readonly PoolRequest[]
  readonly priority: number
  /** Counts those who want of the same pools, from 1. */
  readonly position: number
  readonly since: number
  /** Leases of the units that would do. */
  readonly holders: readonly LeaseRow[]
  readonly sentence: string
}

export interface PoolsView {
  readonly pools: readonly PoolRow[]
  readonly units: readonly UnitRow[]
  readonly waiters: readonly WaiterRow[]
}

export interface Leases {
  /** How many jobs of this installation may run at once, on all nodes together. Idempotent. Fewer than before: running ones end first. */
  setJobSlots(count: number): Promise<void>
  /**
   * Idempotent by `holder` (a job id, or a run id for environments): inserts the request once, computes grants over all
   * waiting requests by the pure function in core, and puts a `granted` signal to each newly granted holder's workflow
   * into the outbox. `supersedes`: waiting requests with the same key, older, are superseded (environments).
   * `predecessor`: leases and requests of this holder prefix (an earlier attempt) end first.
   */
  acquire(request: {
    readonly holder: string
    readonly run: string
    /** Workflow to signal when granted; '': nobody. */
    readonly workflowId: string
    readonly requests: readonly PoolRequest[]
    readonly priority: number
    /** The longest it may be held; a pool may set less. */
    readonly ttlMs: number
    /** The repository whose share it counts to. */
    readonly party: string
    /** Of the job, the same in every run: for statistics. */
    readonly work?: string
    readonly supersedes?: string
    readonly predecessor?: string
  }): Promise<AcquireResult>
  /**
   * The holder's container is alive on this node, or about to begin there. `false`: it no longer holds what it was granted,
   * and must not go on.
   */
  heard(holder: string, node: string): Promise<boolean>
  /**
   * Ends what the holder has and wants, and gives out what that frees. A unit of a pool whose container was heard of stays
   * held until it is proved gone (`isGone`, or `proveGone` later). Idempotent.
   */
  release(holders: readonly string[], how?: { readonly isGone?: boolean; readonly outcome?: string }): Promise<void>
  /** The same for every lease and request of the run. Idempotent. */
  releaseRun(run: string): Promise<void>
  /** Holders that have ended and whose containers are not proved gone, with the node they were on. */
  unproved(): Promise<readonly { readonly holder: string; readonly node: string; readonly endedAt: number }[]>
  /** Jobs that have lost what they hold, and why: they have not ended yet. */
  revoked(): Promise<readonly { readonly holder: string; readonly reason: string }[]>
  /** Nothing of the holder runs any more: what it held is handed over. */
  proveGone(holder: string): Promise<void>
  ofHolder(holder: string): Promise<readonly LeaseRow[]>
  /** Everybody who holds or wants something, with the run; '' for people. */
  holders(): Promise<readonly { readonly holder: string; readonly run: string }[]>
  list(): Promise<PoolsView>
  /** The same without who waits, which costs most. */
  inventory(): Promise<Pick<PoolsView, 'pools' | 'units'>>
  /**
   * What time does to leases: a holder whose node was silent for `silentMs` keeps its units, which are given to nobody else
   * meanwhile; one that comes to the end of its time is warned, and stopped (jobs) or ended (people). Nothing of it before
   * `upSince` + `graceMs`: that the server was down is nobody's fault. Idempotent.
   */
  watch(settings: {
    readonly upSince: number
    readonly graceMs: number
    readonly silentMs: number
  }): Promise<readonly { readonly holder: string; readonly what: 'silent' | 'warned' | 'revoked' | 'expired' }[]>
  /** When each that waits will start, by holder, as the history has it; absent where it says nothing. */
  expectedStarts(): Promise<Readonly<Record<string, ExpectedStart>>>
  /** What has been held and is no more, newest first; of each pool the newest 1000 of a year. */
  history(pool: string, limit: number): Promise<readonly HoldRow[]>
  /** Forgets what `history` has no more. Idempotent. */
  pruneHistory(): Promise<void>
}

export interface HoldRow {
  readonly pool: string
  readonly unit: string
  readonly holder: string
  readonly party: string
  readonly work?: string
  readonly askedAt: number
  readonly since: number
  readonly endedAt: number
  readonly outcome?: string
}

/** A try of the reset or probe of a unit; `clearing`: what is left of both is to be ended. */
export interface CareTask {
  readonly pool: string
  readonly unit: string
  readonly phase: 'resetting' | 'probing' | 'clearing'
  /** Grows with every try: names what is made for it. */
  readonly number: number
  readonly settings: PoolSettings
  readonly properties: Properties
  /** Of the last holder. */
  readonly fence: number
}

export type CareTry = Pick<CareTask, 'pool' | 'unit' | 'number'>

export type Care =
  | ({ readonly kind: 'try' } & CareTask)
  | { readonly kind: 'wait'; readonly ms: number }
  /** It is ready, held, or gone. */
  | { readonly kind: 'nothing' }

export type Refusal = { readonly kind: 'refused'; readonly why: string }

export interface Units {
  /** Makes the tables fit the operator's file; leases of units that are gone end with their holders. All who wait are judged anew. */
  configure(
    pools: readonly (PoolSettings & {
      readonly name: string
      readonly units: readonly (UnitSettings & { readonly name: string })[]
    })[],
  ): Promise<void>
  /** A pool or unit that people keep by the API. Refused for what the operator's file has. */
  putPool(by: Actor, pool: string, settings: PoolSettings): Promise<Refusal | undefined>
  putUnit(by: Actor, pool: string, unit: string, settings: UnitSettings): Promise<Refusal | undefined>
  /** Out of use: who holds it keeps it to the end. */
  removeUnit(by: Actor, pool: string, unit: string): Promise<Refusal | undefined>
  /** With its units; refused while somebody holds one. All who wait are judged anew. */
  removePool(by: Actor, pool: string): Promise<Refusal | undefined>
  /** `draining`: given to nobody more, and in maintenance once its holders are through. */
  setService(by: Actor, pool: string, unit: string, service: Service, reason: string): Promise<Refusal | undefined>
  /**
   * A person vouches for it, whatever reset and probe or the silence of a node said: free again, as soon as nothing of its
   * reset or probe runs any more. Where that cannot be reached and is shown so, it is taken for gone.
   */
  clear(by: Actor, pool: string, unit: string, reason: string): Promise<Refusal | undefined>
  /** Units that are on their way to the next holder. */
  caredFor(): Promise<readonly { readonly pool: string; readonly unit: string }[]>
  /** What is to be done for the unit now. */
  care(pool: string, unit: string): Promise<Care>
  /** How a try ended; anything but the unit's present try changes nothing. */
  cared(task: CareTry, failure: string | undefined): Promise<void>
  /** Whether the try is still the unit's present one, and not put off. */
  isWanted(task: CareTry): Promise<boolean>
  /** The container of the try cannot be reached: quarantined, saying so, until it is known to have ended. */
  strand(task: CareTry, why: string): Promise<void>
}

export interface Actor {
  readonly person: string
  readonly channel: string
}

export interface ReservationRow {
  readonly id: string
  readonly person: string
  readonly pool: string
  readonly requests: readonly PoolRequest[]
  readonly note?: string
  readonly askedAt: number
  readonly forMs: number
  readonly state: 'waiting' | 'held' | 'ended'
  readonly position?: number
  /** Why it waits. */
  readonly sentence?: string
  readonly leases: readonly LeaseRow[]
  readonly endedAt?: number
  readonly why?: string
}

/** People hold units by the same queue as jobs. Every change is in the audit. */
export interface Reservations {
  /** Idempotent by `id`. */
  ask(
    by: Actor,
    wish: {
      readonly id: string
      readonly request: PoolRequest
      readonly forMs: number
      readonly note?: string
      readonly priority?: number
    },
  ): Promise<ReservationRow | Refusal>
  get(id: string): Promise<ReservationRow | undefined>
  /** Those that wait or hold, oldest first. */
  open(): Promise<readonly ReservationRow[]>
  /** For so long from now, within what the pool allows from the grant on. */
  extend(by: Actor, id: string, forMs: number): Promise<ReservationRow | Refusal>
  /** Idempotent. */
  giveBack(by: Actor, id: string): Promise<ReservationRow | Refusal>
  /** The units become another person's, under a new fencing number, without going back to the pool. */
  handOver(by: Actor, id: string, to: string): Promise<ReservationRow | Refusal>
  /**
   * Takes a unit from whoever holds it, who is told why and stops; the taker is next. The unit goes through its hand-over as
   * always. Idempotent by `id`.
   */
  take(
    by: Actor,
    wish: {
      readonly id: string
      readonly pool: string
      readonly unit: string
      readonly reason: string
      readonly forMs: number
    },
  ): Promise<ReservationRow | Refusal>
}
