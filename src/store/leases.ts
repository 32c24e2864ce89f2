import { expectedStarts, type HoldHistory } from '../core/pool/expected-start.ts'
import { ranks } from '../core/pool/percentiles.ts'
import { JOB_SLOTS } from '../core/pool/state.ts'
import type { Database, Writing } from './database.ts'
import { fromJson, recordAudit } from './database.ts'
import { appendEvents } from './events.ts'
import type { CareResult, HoldRow, Leases, PoolRow, UnitRow } from './pool-types.ts'
import { acquire, grant, leave, NEW_UNIT, reservationOf } from './pools/queue.ts'
import { toWaiterRow, waitersInTurn, whyClosed } from './pools/sentences.ts'
import {
  ENVIRONMENT_POOL,
  isHandedOver,
  type Lease,
  leasesOf,
  readTables,
  readUnits,
  stateOf,
  type Tables,
  toLeaseRow,
  type Unit,
} from './pools/tables.ts'
import type { Schema } from './schema.ts'

export function createLeases(database: Database): Leases {
  return {
    setJobSlots: (count) =>
      database.write(async (tx) => {
        await tx.db.updateTable('units').set({ gone: 1 }).where('pool', '=', JOB_SLOTS).execute()
        for (let unit = 1; unit <= count; unit++) {
          await tx.db
            .insertInto('units')
            .values({ ...NEW_UNIT, pool: JOB_SLOTS, unit: String(unit) })
            .onConflict((conflict) => conflict.columns(['pool', 'unit']).doUpdateSet({ gone: 0 }))
            .execute()
        }
        await grant(tx)
      }),

    acquire: (request) => database.write((tx) => acquire(tx, request)),

    heard: (holder, node) =>
      database.write(async (tx) => {
        const { db, now } = tx
        const leases = await db.selectFrom('leases').selectAll().where('holder', '=', holder).execute()
        const isHeld = leases.length > 0 && leases.every((one) => one.ended_at === null && one.revoked === null)
        if (!isHeld) return false
        await db.updateTable('leases').set({ node, heard_at: now, silent: 0 }).where('holder', '=', holder).execute()
        if (leases.some((one) => one.silent === 1)) await grant(tx)
        return true
      }),

    release: (holders, how = {}) =>
      database.write(async (tx) => {
        // Of those who wait nothing is needed here, and they may be many.
        await leave(tx, await readUnits(tx.db), holders, how)
        await grant(tx)
      }),

    releaseRun: (run) =>
      database.write(async (tx) => {
        const tables = await readTables(tx.db)
        const holders = [
          ...tables.requests.filter((one) => one.run === run).map((one) => one.holder),
          ...tables.units.flatMap(({ leases }) => leases.filter((one) => one.run === run).map((one) => one.holder)),
        ]
        await leave(tx, tables, holders, {})
        await grant(tx)
      }),

    unproved: () =>
      database.read(async (db) => {
        const rows = await db
          .selectFrom('leases')
          .select(['holder', 'node', 'ended_at'])
          .where('ended_at', 'is not', null)
          .where('node', 'is not', null)
          .orderBy('holder')
          .execute()
        const each = new Map(rows.map((row) => [row.holder, row]))
        return [...each.values()].map(({ holder, node, ended_at }) => ({
          holder,
          node: node ?? '',
          endedAt: ended_at ?? 0,
        }))
      }),

    revoked: () =>
      database.read(async (db) => {
        const rows = await db
          .selectFrom('leases')
          .select(['holder', 'revoked'])
          .where('revoked', 'is not', null)
          .where('ended_at', 'is', null)
          .orderBy('holder')
          .execute()
        const each = new Map(rows.map((row) => [row.holder, row.revoked ?? '']))
        return [...each].map(([holder, reason]) => ({ holder, reason }))
      }),

    proveGone: (holder) =>
      database.write(async (tx) => {
        const tables = await readTables(tx.db)
        const isEnded = tables.units.some(({ leases }) =>
          leases.some((one) => one.holder === holder && one.ended_at !== null),
        )
        if (!isEnded) return
        await leave(tx, tables, [holder], { isGone: true })
        await grant(tx)
      }),

    ofHolder: (holder) => database.read(async (db) => leasesOf((await readTables(db)).units, holder)),

    holders: () =>
      database.read(async (db) => {
        const held = await db.selectFrom('leases').select(['holder', 'run']).distinct().execute()
        const wanted = await db.selectFrom('requests').select(['holder', 'run']).execute()
        return [...new Map([...held, ...wanted].map((one) => [one.holder, one])).values()]
      }),

    list: () =>
      database.read(async (db) => {
        const tables = await readTables(db)
        const order = waitersInTurn(tables)
        return { ...toInventory(tables), waiters: order.map((request) => toWaiterRow(tables, request, order)) }
      }),

    inventory: () => database.read(async (db) => toInventory(await readTables(db))),

    async watch(settings) {
      // Most of the time nobody holds anything: that takes no turn among the writers.
      const held = await database.read((db) =>
        db
          .selectFrom('leases')
          .select('holder')
          .where('pool', '!=', JOB_SLOTS)
          .where('pool', 'not like', `${ENVIRONMENT_POOL}%`)
          .limit(1)
          .executeTakeFirst(),
      )
      return held === undefined ? [] : database.write((tx) => watch(tx, settings))
    },

    expectedStarts: () =>
      database.read(async (db) => {
        const tables = await readTables(db)
        const state = stateOf(tables)
        const waiting = state.waiting.filter(({ wanted }) => wanted.some(({ pool }) => isHandedOver(pool)))
        if (waiting.length === 0) return {}
        const lengths = new Map<string, HoldHistory | undefined>()
        for (const pool of tables.pools.keys()) {
          const rows = await db
            .selectFrom('holds')
            .select(['since', 'ended_at'])
            .where('pool', '=', pool)
            .orderBy('ended_at', 'desc')
            .limit(HOLDS_LOOKED_AT)
            .execute()
          lengths.set(pool, historyOf(rows.map((row) => row.ended_at - row.since)))
        }
        const leases = tables.units.flatMap((unit) => unit.leases)
        const starts = expectedStarts({
          state: { ...state, waiting },
          now: database.now(),
          since: (holder) => leases.find((one) => one.holder === holder)?.since ?? database.now(),
          // Who holds of several pools is through when the longest of them is.
          holds: (_holder, pools) => longest(pools.map((pool) => lengths.get(pool))),
        })
        return Object.fromEntries(starts)
      }),

    history: (pool, limit) =>
      database.read(async (db) => {
        const rows = await db
          .selectFrom('holds')
          .selectAll()
          .where('pool', '=', pool)
          .orderBy('ended_at', 'desc')
          .orderBy('id', 'desc')
          .limit(limit)
          .execute()
        return rows.map(toHoldRow)
      }),

    async pruneHistory() {
      // Most of the time there is nothing to do: that takes no turn among the writers.
      const old = database.now() - HOLDS_KEPT_MS
      const pools = await database.read((db) =>
        db
          .selectFrom('holds')
          .select((e) => ['pool', e.fn.countAll().as('count'), e.fn.min('ended_at').as('oldest')])
          .groupBy('pool')
          .execute(),
      )
      for (const { pool, count, oldest } of pools) {
        if (Number(count) < HOLDS_KEPT + HOLDS_TOO_MANY && Number(oldest) >= old) continue
        await database.write(async ({ db }) => {
          const last = await db
            .selectFrom('holds')
            .select(['ended_at', 'id'])
            .where('pool', '=', pool)
            .orderBy('ended_at', 'desc')
            .orderBy('id', 'desc')
            .offset(HOLDS_KEPT - 1)
            .limit(1)
            .executeTakeFirst()
          await db
            .deleteFrom('holds')
            .where('pool', '=', pool)
            .where((e) =>
              e.or([
                e('ended_at', '<', Math.max(old, last?.ended_at ?? old)),
                ...(last === undefined ? [] : [e.and([e('ended_at', '=', last.ended_at), e('id', '<', last.id)])]),
              ]),
            )
            .execute()
        })
      }
    },
  }
}

/** What is said of a pool's past looks at no more than this, and at nothing older. */
const HOLDS_KEPT = 1000
const HOLDS_KEPT_MS = 365 * 86_400_000
/** So many more may be there, so that not every job is followed by a deletion. */
const HOLDS_TOO_MANY = 100

/** So many of the newest say how long a unit is held. */
const HOLDS_LOOKED_AT = 200

function historyOf(lengths: readonly number[]): HoldHistory | undefined {
  const ranked = ranks(lengths, [0.1, 0.5, 0.9])
  return ranked && { low: ranked[0], middle: ranked[1], high: ranked[2] }
}

function longest(histories: readonly (HoldHistory | undefined)[]): HoldHistory | undefined {
  let found: HoldHistory | undefined
  for (const one of histories) {
    if (one === undefined) return undefined
    if (found === undefined || one.high > found.high) found = one
  }
  return found
}

async function watch(
  tx: Writing,
  { upSince, graceMs, silentMs }: Parameters<Leases['watch']>[0],
): Promise<Awaited<ReturnType<Leases['watch']>>> {
  const { now } = tx
  if (now - upSince < graceMs) return []
  const seen: { holder: string; what: 'silent' | 'warned' | 'revoked' }[] = []
  const tables = await readTables(tx.db)
  const expired = new Set<string>()
  for (const unit of tables.units) {
    if (!isHandedOver(unit.pool)) continue
    const warnMs = tables.pools.get(unit.pool)?.warnMs ?? 0
    for (const lease of unit.leases) {
      if (lease.ended_at !== null) continue
      const { holder } = lease
      if (lease.silent === 0 && lease.heard_at !== null && now - Math.max(lease.heard_at, upSince) > silentMs) {
        await change(tx, lease, { silent: 1 })
        seen.push({ holder, what: 'silent' })
      }
      if (now >= lease.expires_at) {
        if (reservationOf(holder) !== undefined) expired.add(holder)
        else if (lease.revoked === null) {
          const minutes = Math.round((lease.expires_at - lease.since) / 60_000)
          await revoke(tx, lease, `it held ${lease.pool}/${lease.unit} for ${minutes} min, the longest that is allowed`)
          seen.push({ holder, what: 'revoked' })
        }
      } else if (lease.warned === 0 && now >= lease.expires_at - warnMs) {
        await change(tx, lease, { warned: 1 })
        await warn(tx, lease)
        seen.push({ holder, what: 'warned' })
      }
    }
  }
  if (expired.size > 0) {
    await expire(tx, tables, [...expired])
    await grant(tx)
  }
  return [...seen, ...[...expired].map((holder) => ({ holder, what: 'expired' }) as const)]
}

async function change({ db }: Writing, lease: Lease, to: Partial<Lease>): Promise<void> {
  await db
    .updateTable('leases')
    .set(to)
    .where('pool', '=', lease.pool)
    .where('unit', '=', lease.unit)
    .where('holder', '=', lease.holder)
    .execute()
}

/** The holder's workflow is told, and stops; until then, and until its container is gone, the unit stays with it. */
export async function revoke(tx: Writing, lease: Lease, reason: string): Promise<void> {
  await change(tx, lease, { revoked: reason })
  const { pool, unit, holder, run, fence } = lease
  if (run !== '') {
    await appendEvents(tx, run, `revoked/${pool}/${unit}/${fence}`, [
      { type: 'lease.revoked.v1', pool, unit, holder, reason },
    ])
  }
  await tx.put(`revoked/${pool}/${unit}/${fence}`, {
    kind: 'signal',
    workflowId: holder,
    signal: 'revoked',
    args: [reason],
  })
}

async function warn(tx: Writing, { pool, unit, holder, run, fence, expires_at }: Lease): Promise<void> {
  const until = new Date(expires_at).toISOString()
  if (run === '') {
    const detail = { expiresAt: until }
    await recordAudit(tx, { by: 'penstock', channel: 'timer', action: 'lease.warned', on: holder, detail })
    return
  }
  await appendEvents(tx, run, `warned/${pool}/${unit}/${fence}`, [
    { type: 'lease.warned.v1', pool, unit, holder, until: expires_at },
  ])
}

/** All at once: who shares a unit must not count as still being there. */
async function expire(tx: Writing, tables: Tables, holders: readonly string[]): Promise<void> {
  await leave(tx, tables, holders, { isGone: true })
  for (const holder of holders) {
    await tx.db
      .updateTable('reservations')
      .set({ ended_at: tx.now, why: 'its time was over' })
      .where('id', '=', reservationOf(holder) ?? '')
      .where('ended_at', 'is', null)
      .execute()
    await recordAudit(tx, { by: 'penstock', channel: 'timer', action: 'lease.expired', on: holder })
  }
}

function toInventory({ pools, units }: Tables): {
  readonly pools: readonly PoolRow[]
  readonly units: readonly UnitRow[]
} {
  return {
    pools: [...pools].map(([pool, settings]): PoolRow => ({ pool, ...settings })),
    units: units.filter((unit) => unit.gone === 0 || unit.leases.length > 0).map(toUnitRow),
  }
}

function toUnitRow(unit: Unit): UnitRow {
  const { pool, labels, properties, capacity, source, phase, notes, service, service_by, service_reason } = unit
  const closed = service === 'in_service' && phase === 'ready' ? whyClosed(unit)[0] : undefined
  const quarantined = unit.quarantined ?? closed?.replace(/^.* is quarantined: /, '')
  return {
    ...{ pool, unit: unit.unit, labels, properties, capacity, source, phase },
    resetCostMs: unit.reset_cost,
    ...(notes === null ? {} : { notes }),
    leases: unit.leases.map((lease) => toLeaseRow(unit, lease)),
    ...(quarantined === undefined ? {} : { quarantined }),
    ...(unit.last_reset === null ? {} : { lastReset: fromJson<CareResult>(unit.last_reset) }),
    ...(unit.last_probe === null ? {} : { lastProbe: fromJson<CareResult>(unit.last_probe) }),
    service: {
      kind: service,
      ...(service_by === null ? {} : { by: service_by }),
      ...(service_reason === null ? {} : { reason: service_reason }),
    },
  }
}

function toHoldRow(row: Schema['holds']): HoldRow {
  const { pool, unit, holder, party, work, since, outcome } = row
  return {
    ...{ pool, unit, holder, party, since },
    askedAt: row.asked_at,
    endedAt: row.ended_at,
    ...(work === null ? {} : { work }),
    ...(outcome === null ? {} : { outcome }),
  }
}
