/**
 * The pool of what every job needs: room on the nodes. A job without a slot has no container, network or volume. Docker
 * has about 30 bridge networks a node, and a node that runs everything at once finishes nothing.
 */
export const JOB_SLOTS = 'slots:jobs'

/** `exclusive`: nobody else on the unit. `shared`: one of the unit's places. */
export type Mode = 'shared' | 'exclusive'

/** All units and all waiting requests of an installation at one moment; plain data. */
export interface PoolState {
  readonly units: readonly PoolUnit[]
  readonly waiting: readonly WaitingRequest[]
  /** Most units of a pool that one group may hold at once, by pool. */
  readonly shares: Readonly<Record<string, number>>
}

export interface PoolUnit {
  readonly pool: string
  /** Unique in its pool. */
  readonly unit: string
  /** How many may hold it at once; 1: it has one holder, however it is asked for. */
  readonly capacity: number
  /** Of the newest grant; 0 for a unit never granted. */
  readonly fence: number
  /** May be given on: in service, not quarantined, not being handed over. */
  readonly isOpen: boolean
  /**
   * Not open, but will be by itself, as it is only being handed over. Who waits for it keeps back what else he needs
   * meanwhile; with units that are reset after every holder, a request for all of them would otherwise never be served.
   */
  readonly isReturning: boolean
  readonly holders: readonly Holding[]
  /** Among units that can do as much, the one that is cheaper to reset goes first. */
  readonly resetCostMs: number
  /** How much it can do: units with little go first, those with much stay for who needs them. */
  readonly versatility: number
}

export interface Holding {
  readonly holder: string
  readonly group: string
  readonly mode: Mode
}

export interface Wanted {
  readonly pool: string
  readonly count: number
  readonly mode: Mode
  /** Names of all units of the pool that would do, whether they work now or not. */
  readonly fits: readonly string[]
}

export interface WaitingRequest {
  readonly holder: string
  /** Repository or person: whose share it counts to. */
  readonly group: string
  /** All of it at once or nothing; no unit twice. */
  readonly wanted: readonly Wanted[]
  /** Higher goes first, until the other has waited longer: see `inTurn`. */
  readonly priority: number
  /** Milliseconds since 1970; never falls with `seq`. */
  readonly since: number
  /** Unique. */
  readonly seq: number
  readonly ttlMs: number
}

export interface Grant {
  readonly holder: string
  readonly units: readonly {
    readonly pool: string
    readonly unit: string
    readonly mode: Mode
    readonly fence: number
    readonly since: number
    readonly expiresAt: number
  }[]
}
