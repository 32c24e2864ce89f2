import type { Transaction } from 'kysely'
import type { PoolRequest } from '../core/plan.ts'
import { computeGrants, inTurn, isPossible } from '../core/pool/grants.ts'
import { hasLabels } from '../core/pool/labels.ts'
import type { PoolUnit, Wanted } from '../core/pool/state.ts'
import { JOB_SLOTS } from '../core/pool/state.ts'
import type { Database, Writing } from './database.ts'
import { fromJson } from './database.ts'
import type { Schema } from './schema.ts'
import type { AcquireResult, LeaseRow, Leases, UnitRow, WaiterRow } from './types.ts'

/** Pools of this name are environments: they need no entry in the operator's file. */
const ENVIRONMENT_POOL = 'env:'
const ENVIRONMENT_UNIT = 'environment'

/** Everything about pools as it is within one transaction. */
interface Tables {
  readonly units: readonly Unit[]
  readonly requests: readonly Request[]
}

interface Unit extends Omit<Schema['units'], 'labels' | 'properties'> {
  readonly labels: readonly string[]
  readonly properties: Readonly<Record<string, string>>
  readonly lease?: Schema['leases']
}

interface Request extends Omit<Schema['requests'], 'requests'> {
  readonly requests: readonly PoolRequest[]
}

export function createLeases(database: Database): Leases {
  return {
    configure: (pools) => database.write((tx) => configure(tx, pools)),
    setJobSlots: (count) =>
      database.write(async (tx) => {
        await tx.db.updateTable('units').set({ gone: 1 }).where('pool', '=', JOB_SLOTS).execute()
        for (let unit = 1; unit <= count; unit++) await putUnit(tx.db, JOB_SLOTS, String(unit), NOTHING_SAID)
        await grant(tx)
      }),

    acquire: (request) => database.write((tx) => acquire(tx, request)),

    extend: (holder, ttlMs) =>
      database.write(async ({ db, now }) => {
        const { numUpdatedRows } = await db
          .updateTable('leases')
          .set({ expires_at: now + ttlMs })
          .where('holder', '=', holder)
          .executeTakeFirst()
        return numUpdatedRows > 0n
      }),

    release: (...holders) =>
      database.write(async (tx) => {
        await end(tx.db, holders)
        await grant(tx)
      }),

    releaseRun: (run) =>
      database.write(async (tx) => {
        await tx.db.deleteFrom('leases').where('run', '=', run).execute()
        await tx.db.deleteFrom('requests').where('run', '=', run).execute()
        await grant(tx)
      }),

    quarantine: (pool, unit, reason) =>
      database.write(async (tx) => {
        await tx.db
          .updateTable('units')
          .set({ quarantined: reason ?? null })
          .where('pool', '=', pool)
          .where('unit', '=', unit)
          .execute()
        await grant(tx)
      }),

    ofHolder: (holder) =>
      database.read(async (db) => {
        const { units } = await readTables(db)
        return leasesOf(units, holder)
      }),

    list: () =>
      database.read(async (db) => {
        const tables = await readTables(db)
        return {
          units: tables.units.filter((unit) => unit.gone === 0 || unit.lease !== undefined).map(toUnitRow),
          waiters: waitersInTurn(tables).map((request) => toWaiterRow(tables, request)),
        }
      }),

    expire: (graceMs) =>
      database.write(async (tx) => {
        const expired = await tx.db
          .selectFrom('leases')
          .select('holder')
          .distinct()
          .where('expires_at', '<=', tx.now - graceMs)
          .orderBy('holder')
          .execute()
        const holders = expired.map((row) => row.holder)
        if (holders.length === 0) return []
        await end(tx.db, holders)
        await grant(tx)
        return holders
      }),
  }
}

async function configure(tx: Writing, pools: Parameters<Leases['configure']>[0]): Promise<void> {
  const { db } = tx
  await db
    .updateTable('units')
    .set({ gone: 1 })
    .where('pool', 'not like', `${ENVIRONMENT_POOL}%`)
    .where('pool', '!=', JOB_SLOTS)
    .execute()
  for (const pool of pools) {
    for (const unit of pool.units) await putUnit(db, pool.name, unit.name, unit)
  }
  await grant(tx)
  // Who waits for what is no longer there has to hear that nothing will come.
  const { units, requests } = await readTables(db)
  const there = units.filter((unit) => unit.gone === 0)
  for (const request of requests) {
    if (request.state !== 'waiting' || isPossible(toWanted(request.requests, there), there)) continue
    await wake(tx, request, `impossible/${request.holder}/${tx.now}`)
  }
}

const NOTHING_SAID = { labels: [], properties: {} }

async function putUnit(
  db: Transaction<Schema>,
  pool: string,
  unit: string,
  said: { readonly labels: readonly string[]; readonly properties: Readonly<Record<string, string>> },
): Promise<void> {
  const now = { labels: JSON.stringify(said.labels), properties: JSON.stringify(said.properties), gone: 0 }
  await db
    .insertInto('units')
    .values({ pool, unit, fence: 0, quarantined: null, ...now })
    // The fence stays: it must not fall when a unit is taken out and put back.
    .onConflict((conflict) => conflict.columns(['pool', 'unit']).doUpdateSet(now))
    .execute()
}

async function acquire(tx: Writing, input: Parameters<Leases['acquire']>[0]): Promise<AcquireResult> {
  const { db, now } = tx
  const { holder } = input
  let tables = await readTables(db)
  const known = tables.requests.find((one) => one.holder === holder)
  if (known?.state === 'superseded') return { kind: 'superseded', by: known.superseded_by ?? 'a newer request' }
  if (known?.state === 'granted') return { kind: 'granted', leases: leasesOf(tables.units, holder) }

  const requests = known?.requests ?? input.requests
  await ensureEnvironments(db, requests)
  tables = await readTables(db)
  const there = tables.units.filter((unit) => unit.gone === 0)
  if (!isPossible(toWanted(requests, there), there)) {
    await end(db, [holder])
    await grant(tx)
    return { kind: 'impossible', sentence: impossibleSentence(requests, there) }
  }

  if (known === undefined) {
    if (input.predecessor !== undefined) await end(db, earlierHolders(tables.requests, input.predecessor, holder))
    if (input.supersedes !== undefined) {
      const later = await laterCandidate(db, tables.requests, input)
      if (later !== undefined) return { kind: 'superseded', by: later }
      const older = tables.requests.filter((one) => one.state === 'waiting' && one.supersedes === input.supersedes)
      for (const request of older) {
        await db
          .updateTable('requests')
          .set({ state: 'superseded', superseded_by: holder })
          .where('holder', '=', request.holder)
          .execute()
        await wake(tx, request, `superseded/${request.holder}/${holder}`)
      }
    }
    const last = Math.max(0, ...tables.requests.map((one) => one.seq))
    await db
      .insertInto('requests')
      .values({
        holder,
        run: input.run,
        workflow_id: input.workflowId,
        requests: JSON.stringify(requests),
        priority: input.priority,
        ttl_ms: input.ttlMs,
        supersedes: input.supersedes ?? null,
        state: 'waiting',
        superseded_by: null,
        seq: last + 1,
        since: now,
      })
      .execute()
  }
  await grant(tx, holder)

  tables = await readTables(db)
  const leases = leasesOf(tables.units, holder)
  if (leases.length > 0) return { kind: 'granted', leases }
  const own = tables.requests.find((one) => one.holder === holder)
  if (own === undefined) throw new Error(`the request of ${holder} vanished within its own transaction`)
  const { position, sentence } = toWaiterRow(tables, own)
  return { kind: 'queued', position, holders: holdersFor(tables, requests), sentence }
}

/**
 * Who waits for it or has it for a push that was made later, by the forge's time: an old push whose delivery came late does
 * not overtake a newer one.
 */
async function laterCandidate(
  db: Transaction<Schema>,
  requests: readonly Request[],
  { run, supersedes }: Parameters<Leases['acquire']>[0],
): Promise<string | undefined> {
  const others = requests.filter((one) => one.supersedes === supersedes && one.state !== 'superseded')
  if (others.length === 0) return undefined
  const pushes = await db
    .selectFrom('runs')
    .innerJoin('meanings', 'meanings.run_number', 'runs.number')
    .select(['runs.id', 'at'])
    .where('runs.id', 'in', [run, ...others.map((one) => one.run)])
    .execute()
  const pushedAt = (id: string) => pushes.find((push) => push.id === id)?.at ?? undefined
  const own = pushedAt(run)
  return own === undefined ? undefined : others.find((one) => (pushedAt(one.run) ?? own) > own)?.holder
}

/** `a/1` is earlier than `a/2`; a prefix that ends in `/` means all attempts before this holder's. */
function earlierHolders(requests: readonly Request[], predecessor: string, holder: string): readonly string[] {
  const number = (id: string) => Number(id.slice(predecessor.length))
  return requests
    .map((one) => one.holder)
    .filter((one) => {
      if (one === holder) return false
      if (!predecessor.endsWith('/')) return one === predecessor
      // A late call of an earlier attempt must not end a later one.
      return one.startsWith(predecessor) && !(number(one) > number(holder))
    })
}

async function ensureEnvironments(db: Transaction<Schema>, requests: readonly PoolRequest[]): Promise<void> {
  for (const { pool } of requests) {
    if (!pool.startsWith(ENVIRONMENT_POOL)) continue
    const there = await db.selectFrom('units').select('unit').where('pool', '=', pool).limit(1).executeTakeFirst()
    if (there !== undefined) continue
    await db
      .insertInto('units')
      .values({ pool, unit: ENVIRONMENT_UNIT, labels: '[]', properties: '{}', fence: 0, gone: 0, quarantined: null })
      .execute()
  }
}

async function end(db: Transaction<Schema>, holders: readonly string[]): Promise<void> {
  for (const holder of holders) {
    await db.deleteFrom('leases').where('holder', '=', holder).execute()
    await db.deleteFrom('requests').where('holder', '=', holder).execute()
  }
}

/** Gives out what can be given, and wakes who got something, except the caller. */
async function grant(tx: Writing, caller?: string): Promise<void> {
  const { db } = tx
  const { units, requests } = await readTables(db)
  const waiting = requests.filter((one) => one.state === 'waiting')
  if (waiting.length === 0) return
  const grants = computeGrants(
    {
      units: units.filter((unit) => unit.gone === 0).map(toPoolUnit),
      waiting: waiting.map(({ holder, run, requests, priority, since, seq, ttl_ms }) => ({
        holder,
        group: run,
        wanted: toWanted(requests, units),
        priority,
        since,
        seq,
        ttlMs: ttl_ms,
      })),
      shares: {},
    },
    tx.now,
  )
  for (const { holder, units } of grants) {
    const request = waiting.find((one) => one.holder === holder)
    if (request === undefined) continue
    await db.updateTable('requests').set({ state: 'granted' }).where('holder', '=', holder).execute()
    for (const { pool, unit, fence, since, expiresAt } of units) {
      await db
        .insertInto('leases')
        .values({ pool, unit, holder, run: request.run, fence, since, expires_at: expiresAt })
        .execute()
      await db.updateTable('units').set({ fence }).where('pool', '=', pool).where('unit', '=', unit).execute()
    }
    const first = units[0]
    if (holder === caller || first === undefined) continue
    // A unit's fence names the grant: a holder that was granted, expired and asked again is woken again.
    await wake(tx, request, `granted/${holder}/${first.pool}/${first.unit}/${first.fence}`)
  }
}

function toPoolUnit({ pool, unit, labels, fence, lease, quarantined }: Unit): PoolUnit {
  return {
    pool,
    unit,
    capacity: 1,
    fence,
    isOpen: quarantined === null,
    isReturning: false,
    holders: lease === undefined ? [] : [{ holder: lease.holder, group: lease.run, mode: 'exclusive' }],
    resetCostMs: 0,
    versatility: labels.length,
  }
}

function toWanted(requests: readonly PoolRequest[], units: readonly Unit[]): readonly Wanted[] {
  return requests.map((request) => ({
    pool: request.pool,
    count: request.count,
    mode: 'exclusive',
    fits: units.filter((unit) => fits(request, unit)).map((unit) => unit.unit),
  }))
}

function fits({ pool, labels }: Pick<PoolRequest, 'pool' | 'labels'>, unit: Unit): boolean {
  return pool === unit.pool && hasLabels(unit.labels, labels)
}

async function wake(tx: Writing, request: Request, key: string): Promise<void> {
  await tx.put(key, { kind: 'signal', workflowId: request.workflow_id, signal: 'granted', args: [] })
}

async function readTables(db: Transaction<Schema>): Promise<Tables> {
  const leases = await db.selectFrom('leases').selectAll().execute()
  const held = new Map(leases.map((lease) => [JSON.stringify([lease.pool, lease.unit]), lease]))
  const units = await db.selectFrom('units').selectAll().orderBy('pool').orderBy('unit').execute()
  const requests = await db.selectFrom('requests').selectAll().orderBy('seq').execute()
  return {
    units: units.map((row) => {
      const lease = held.get(JSON.stringify([row.pool, row.unit]))
      return {
        ...row,
        labels: fromJson<readonly string[]>(row.labels),
        properties: fromJson<Record<string, string>>(row.properties),
        ...(lease === undefined ? {} : { lease }),
      }
    }),
    requests: requests.map((row) => ({ ...row, requests: fromJson<readonly PoolRequest[]>(row.requests) })),
  }
}

function waitersInTurn({ requests }: Tables): readonly Request[] {
  return inTurn(requests.filter((one) => one.state === 'waiting'))
}

function leasesOf(units: readonly Unit[], holder: string): readonly LeaseRow[] {
  return units.flatMap((unit) => (unit.lease?.holder === holder ? [toLeaseRow(unit, unit.lease)] : []))
}

/** Leases of the units that the requests could use. */
function holdersFor({ units }: Tables, requests: readonly PoolRequest[]): readonly LeaseRow[] {
  return units.flatMap((unit) =>
    unit.lease !== undefined && requests.some((one) => fits(one, unit)) ? [toLeaseRow(unit, unit.lease)] : [],
  )
}

function toLeaseRow(unit: Unit, lease: Schema['leases']): LeaseRow {
  return {
    pool: lease.pool,
    unit: lease.unit,
    fence: lease.fence,
    holder: lease.holder,
    since: lease.since,
    expiresAt: lease.expires_at,
    properties: unit.properties,
  }
}

function toUnitRow(unit: Unit): UnitRow {
  return {
    pool: unit.pool,
    unit: unit.unit,
    labels: unit.labels,
    properties: unit.properties,
    ...(unit.lease === undefined ? {} : { lease: toLeaseRow(unit, unit.lease) }),
    ...(unit.quarantined === null ? {} : { quarantined: unit.quarantined }),
  }
}

/** `position` counts those who want of the same pools, from 1. */
function toWaiterRow(tables: Tables, request: Request): WaiterRow {
  const pools = new Set(request.requests.map((one) => one.pool))
  const rivals = waitersInTurn(tables).filter((one) => one.requests.some(({ pool }) => pools.has(pool)))
  const position = rivals.findIndex((one) => one.holder === request.holder) + 1
  return {
    holder: request.holder,
    run: request.run,
    requests: request.requests,
    position,
    since: request.since,
    sentence: waitingSentence(tables, request.requests, position),
  }
}

function waitingSentence(tables: Tables, requests: readonly PoolRequest[], position: number): string {
  const holders = [...new Set(holdersFor(tables, requests).map((lease) => lease.holder))]
  const isSlot = requests.every((one) => one.pool === JOB_SLOTS)
  const taken = isSlot ? `all ${holders.length} job slots are taken` : `held by ${holders.join(', ')}`
  const broken = tables.units.filter(
    (unit) => unit.quarantined !== null && unit.lease === undefined && requests.some((one) => fits(one, unit)),
  )
  return [
    `waits for ${describe(requests)}`,
    ...(holders.length > 0 ? [taken] : []),
    ...(position > 1 ? [`${position - 1} ahead in the queue`] : []),
    ...broken.map((unit) => `${unit.unit} is quarantined: ${unit.quarantined}`),
  ].join('; ')
}

function impossibleSentence(requests: readonly PoolRequest[], units: readonly Unit[]): string {
  const there = requests.map(({ pool, labels }) => {
    const all = units.filter((unit) => unit.pool === pool)
    if (all.length === 0) return `there is no pool "${pool}"`
    const fitting = all.filter((unit) => fits({ pool, labels }, unit)).length
    return `pool "${pool}" has ${all.length} in all${labels.length > 0 ? `, ${fitting} with these labels` : ''}`
  })
  return `no units can ever serve ${describe(requests)}: ${[...new Set(there)].join('; ')}`
}

function describe(requests: readonly PoolRequest[]): string {
  return requests
    .map(({ pool, count, labels }) => {
      if (pool.startsWith(ENVIRONMENT_POOL)) return `environment ${pool.slice(ENVIRONMENT_POOL.length)}`
      if (pool === JOB_SLOTS) return 'a job slot'
      return `${count} of pool "${pool}"${labels.length > 0 ? ` with ${labels.join(', ')}` : ''}`
    })
    .join(' and ')
}
