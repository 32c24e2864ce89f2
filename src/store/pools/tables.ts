import type { Transaction } from 'kysely'
import type { PoolRequest } from '../../core/plan.ts'
import { hasLabels } from '../../core/pool/labels.ts'
import type { PoolSettings, Properties } from '../../core/pool/settings.ts'
import { JOB_SLOTS, type PoolState, type Wanted } from '../../core/pool/state.ts'
import { evaluateWhere } from '../../pools/where.ts'
import { fromJson } from '../database.ts'
import type { LeaseRow } from '../pool-types.ts'
import type { Schema } from '../schema.ts'

/** Pools of this name are environments: they need no entry in the operator's file. */
export const ENVIRONMENT_POOL = 'env:'
export const ENVIRONMENT_UNIT = 'environment'

/** Everything about pools as it is within one transaction. */
export interface Tables {
  readonly pools: ReadonlyMap<string, Pool>
  /** Also those that are gone and those that somebody still holds. */
  readonly units: readonly Unit[]
  readonly requests: readonly Request[]
}

export interface Pool extends PoolSettings {
  readonly source: 'file' | 'api'
}

export type Lease = Schema['leases']

export interface Unit extends Omit<Schema['units'], 'labels' | 'properties'> {
  readonly labels: readonly string[]
  readonly properties: Properties
  readonly leases: readonly Lease[]
}

export interface Request extends Omit<Schema['requests'], 'requests'> {
  readonly requests: readonly PoolRequest[]
}

/** A pool whose units go from hand to hand: no environment, and no room on the nodes. */
export function isHandedOver(pool: string): boolean {
  return pool !== JOB_SLOTS && !pool.startsWith(ENVIRONMENT_POOL)
}

export async function readTables(db: Transaction<Schema>): Promise<Tables> {
  const rows = await db.selectFrom('requests').selectAll().orderBy('seq').execute()
  // Many who wait want the same.
  const known = new Map<string, readonly PoolRequest[]>()
  const requests = rows.map((row) => {
    const wanted = known.get(row.requests) ?? fromJson<readonly PoolRequest[]>(row.requests)
    known.set(row.requests, wanted)
    return { ...row, requests: wanted }
  })
  return { ...(await readUnits(db)), requests }
}

export async function readUnits(db: Transaction<Schema>): Promise<Pick<Tables, 'pools' | 'units'>> {
  const pools = await db.selectFrom('pools').selectAll().where('gone', '=', 0).execute()
  const known = new Set(pools.map(({ pool }) => pool))
  const leases = await db.selectFrom('leases').selectAll().orderBy('since').orderBy('holder').execute()
  const held = new Map<string, Lease[]>()
  for (const lease of leases) {
    const key = JSON.stringify([lease.pool, lease.unit])
    held.set(key, [...(held.get(key) ?? []), lease])
  }
  const units = await db.selectFrom('units').selectAll().orderBy('pool').orderBy('unit').execute()
  return {
    pools: new Map(pools.map(({ pool, settings, source }) => [pool, { ...fromJson<PoolSettings>(settings), source }])),
    units: units.map((row) => ({
      ...row,
      // A unit that people have added to a pool of the operator's file goes with it.
      gone: isHandedOver(row.pool) && !known.has(row.pool) ? 1 : row.gone,
      labels: fromJson<readonly string[]>(row.labels),
      properties: fromJson<Properties>(row.properties),
      leases: held.get(JSON.stringify([row.pool, row.unit])) ?? [],
    })),
  }
}

/** Whether the unit is what the request asks for; whether it is free is another question. */
export function fits(request: PoolRequest, unit: Pick<Unit, 'pool' | 'unit' | 'labels' | 'properties'>): boolean {
  return (
    request.pool === unit.pool &&
    hasLabels(unit.labels, request.labels) &&
    (request.where === undefined || evaluateWhere(request.where, unit).fits)
  )
}

/** Of many requests alike: each kind is compared with the units once. */
export function wantedOf(tables: Pick<Tables, 'units'>): (requests: readonly PoolRequest[]) => readonly Wanted[] {
  const known = new Map<string, readonly string[]>()
  return (requests) =>
    requests.map((request) => {
      const { pool, count, labels, where, mode = 'exclusive' } = request
      const kind = JSON.stringify([pool, labels, where])
      let names = known.get(kind)
      if (names === undefined) {
        names = tables.units.filter((unit) => unit.gone === 0 && fits(request, unit)).map(({ unit }) => unit)
        known.set(kind, names)
      }
      return { pool, count, mode, fits: names }
    })
}

/** What core decides on. */
export function stateOf(tables: Tables): PoolState {
  const wanted = wantedOf(tables)
  const held = new Map<string, string[]>()
  for (const { pool, unit, leases } of tables.units) {
    for (const { holder } of leases) held.set(`${pool} ${holder}`, [...(held.get(`${pool} ${holder}`) ?? []), unit])
  }
  return {
    units: unitsOf(tables),
    waiting: tables.requests
      .filter((one) => one.state === 'waiting')
      .map(({ holder, requests, priority, since, seq, ttl_ms, party }) => ({
        ...{ holder, priority, since, seq, ttlMs: ttl_ms, group: party },
        // Not again the unit that it has not been proved gone from.
        wanted: wanted(requests).map((one) => ({ ...one, fits: without(one.fits, held.get(`${one.pool} ${holder}`)) })),
      })),
    shares: sharesOf(tables),
  }
}

/** The same list where nothing is taken out: core compares lists that are the same once. */
function without(names: readonly string[], out: readonly string[] | undefined): readonly string[] {
  return out === undefined ? names : names.filter((one) => !out.includes(one))
}

export function unitsOf({ units }: Pick<Tables, 'units'>): PoolState['units'] {
  return units
    .filter((unit) => unit.gone === 0)
    .map((unit) => ({
      ...{ pool: unit.pool, unit: unit.unit, capacity: unit.capacity, fence: unit.fence },
      isOpen: isOpen(unit),
      isReturning: isReturning(unit),
      holders: unit.leases.map(({ holder, party, mode }) => ({ holder, group: party, mode })),
      resetCostMs: unit.reset_cost,
      versatility: unit.labels.length + Object.keys(unit.properties).length,
    }))
}

export function sharesOf({ pools }: Pick<Tables, 'pools'>): PoolState['shares'] {
  return Object.fromEntries([...pools].flatMap(([pool, { share }]) => (share === undefined ? [] : [[pool, share]])))
}

/** How many places of a pool count to the share of a repository or person. */
export function heldOf({ units }: Pick<Tables, 'units'>, pool: string, party: string): number {
  const leases = units.flatMap((unit) => (unit.pool === pool ? unit.leases : []))
  return leases.filter((lease) => lease.party === party).length
}

/** Whether it may be given on, as soon as somebody gives it back. */
function isOpen({ phase, quarantined, service, leases }: Unit): boolean {
  return phase === 'ready' && quarantined === null && service === 'in_service' && leases.every(isHeard)
}

/** Not yet, but by itself soon: it is reset or probed. */
function isReturning({ phase, quarantined, service, leases }: Unit): boolean {
  const isHandedOver = phase !== 'ready' && quarantined === null
  return isHandedOver && service === 'in_service' && leases.every(isHeard)
}

/** Its holder lives, or may: who is silent, or has ended and is not proved gone, may be at work there for as long as it likes. */
function isHeard({ silent, ended_at }: Lease): boolean {
  return silent === 0 && ended_at === null
}

export function toLeaseRow(unit: Unit, lease: Lease): LeaseRow {
  const { pool, fence, holder, run, mode, since } = lease
  return {
    ...{ pool, unit: lease.unit, fence, holder, run, mode, since },
    expiresAt: lease.expires_at,
    properties: unit.properties,
    ...(lease.ended_at === null ? {} : { endedAt: lease.ended_at }),
    ...(lease.revoked === null ? {} : { revoked: lease.revoked }),
  }
}

export function leasesOf(units: readonly Unit[], holder: string): readonly LeaseRow[] {
  return units.flatMap((unit) =>
    unit.leases
      .filter((lease) => lease.holder === holder && lease.ended_at === null)
      .map((one) => toLeaseRow(unit, one)),
  )
}

/** Leases of the units that the requests could use. */
export function holdersFor({ units }: Pick<Tables, 'units'>, requests: readonly PoolRequest[]): readonly LeaseRow[] {
  return units.flatMap((unit) =>
    unit.leases.length > 0 && requests.some((one) => fits(one, unit))
      ? unit.leases.map((lease) => toLeaseRow(unit, lease))
      : [],
  )
}
