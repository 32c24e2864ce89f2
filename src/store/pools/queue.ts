import type { Transaction } from 'kysely'
import { parseJobId } from '../../core/ids.ts'
import type { PoolRequest } from '../../core/plan.ts'
import { computeGrants, isPossible } from '../../core/pool/grants.ts'
import type { Writing } from '../database.ts'
import { nextId } from '../database.ts'
import type { AcquireResult, Leases } from '../pool-types.ts'
import type { Schema } from '../schema.ts'
import { impossibleSentence, toWaiterRow } from './sentences.ts'
import {
  ENVIRONMENT_POOL,
  ENVIRONMENT_UNIT,
  holdersFor,
  isHandedOver,
  type Lease,
  leasesOf,
  type Request,
  readTables,
  sharesOf,
  stateOf,
  type Tables,
  unitsOf,
  wantedOf,
} from './tables.ts'

export type NewRequest = Parameters<Leases['acquire']>[0]

/** Whether these units could serve all requests together, if nobody else held one and all of them worked. */
export function canEverServe(tables: Tables, requests: readonly PoolRequest[]): boolean {
  return isPossible(wantedOf(tables)(requests), unitsOf(tables), sharesOf(tables))
}

export async function acquire(tx: Writing, input: NewRequest): Promise<AcquireResult> {
  const { db } = tx
  const { holder } = input
  let tables = await readTables(db)
  const known = tables.requests.find((one) => one.holder === holder)
  if (known?.state === 'superseded') return { kind: 'superseded', by: known.superseded_by ?? 'a newer request' }
  if (known?.state === 'granted') {
    const leases = leasesOf(tables.units, holder)
    const revoked = leases.find((one) => one.revoked !== undefined)?.revoked
    return revoked === undefined ? { kind: 'granted', leases } : { kind: 'impossible', sentence: revoked }
  }

  const ended = await outcomeOf(db, holder)
  if (ended !== undefined) {
    // A call that was on its way when the attempt ended, or a Temporal whose memory is older than this.
    await leave(tx, tables, [holder], {})
    await grant(tx)
    return { kind: 'impossible', sentence: `${holder} has ended already: ${ended}` }
  }
  const requests = known?.requests ?? input.requests
  if (await ensureEnvironments(db, requests)) tables = await readTables(db)
  if (!canEverServe(tables, requests)) {
    await leave(tx, tables, [holder], {})
    await grant(tx)
    return { kind: 'impossible', sentence: impossibleSentence(requests, present(tables)) }
  }

  if (known === undefined) {
    if (input.predecessor !== undefined) {
      await leave(tx, tables, earlierHolders(tables.requests, input.predecessor, holder), {})
    }
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
    await insertRequest(tx, tables.requests, { ...input, requests })
  }
  tables = await grant(tx, holder)
  const leases = leasesOf(tables.units, holder)
  if (leases.length > 0) return { kind: 'granted', leases }
  const own = tables.requests.find((one) => one.holder === holder)
  if (own === undefined) throw new Error(`the request of ${holder} vanished within its own transaction`)
  const { position, sentence } = toWaiterRow(tables, own)
  return { kind: 'queued', position, holders: holdersFor(tables, requests), sentence }
}

/** How the attempt of a job ended; undefined: it has not, or the holder is none. */
async function outcomeOf(db: Transaction<Schema>, holder: string): Promise<string | undefined> {
  const key = parseJobId(holder.replace(/:slot$/, ''))
  if (key === undefined) return undefined
  const row = await db
    .selectFrom('attempts')
    .select('outcome')
    .where('run', '=', key.run)
    .where('stage', '=', key.stage)
    .where('job', '=', key.job)
    .where('step', '=', -1)
    .where('attempt', '=', key.attempt)
    .executeTakeFirst()
  return row?.outcome ?? undefined
}

export async function insertRequest(tx: Writing, others: readonly Request[], input: NewRequest): Promise<void> {
  await tx.db
    .insertInto('requests')
    .values({
      holder: input.holder,
      run: input.run,
      workflow_id: input.workflowId,
      requests: JSON.stringify(input.requests),
      priority: input.priority,
      ttl_ms: input.ttlMs,
      supersedes: input.supersedes ?? null,
      state: 'waiting',
      superseded_by: null,
      seq: Math.max(0, ...others.map((one) => one.seq)) + 1,
      // Age is by this: a clock that was set back must not let anybody overtake.
      since: Math.max(tx.now, ...others.map((one) => one.since)),
      party: input.party,
      work: input.work ?? null,
    })
    .execute()
}

/**
 * Who waits for it or has it for a push that was made later, by the forge's time: an old push whose delivery came late does
 * not overtake a newer one.
 */
async function laterCandidate(
  db: Transaction<Schema>,
  requests: readonly Request[],
  { run, supersedes }: NewRequest,
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
  const number = (id: string) =>
    /^\d+$/.test(id.slice(predecessor.length)) ? Number(id.slice(predecessor.length)) : Infinity
  return requests
    .map((one) => one.holder)
    .filter((one) => {
      if (one === holder) return false
      if (!predecessor.endsWith('/')) return one === predecessor
      // A late call of an earlier attempt must not end a later one.
      return one.startsWith(predecessor) && !(number(one) > number(holder))
    })
}

/** Whether one was made. */
async function ensureEnvironments(db: Transaction<Schema>, requests: readonly PoolRequest[]): Promise<boolean> {
  let isMade = false
  for (const { pool } of requests) {
    if (!pool.startsWith(ENVIRONMENT_POOL)) continue
    const there = await db.selectFrom('units').select('unit').where('pool', '=', pool).limit(1).executeTakeFirst()
    if (there !== undefined) continue
    await db
      .insertInto('units')
      .values({ ...NEW_UNIT, pool, unit: ENVIRONMENT_UNIT })
      .execute()
    isMade = true
  }
  return isMade
}

export const NEW_UNIT = {
  ...{ labels: '[]', properties: '{}', fence: 0, gone: 0, quarantined: null, notes: null, capacity: 1, reset_cost: 0 },
  ...{ source: 'file', phase: 'ready', failures: 0, tries: 0, due_at: 0, stranded: 0 },
  ...{ last_reset: null, last_probe: null },
  ...{ service: 'in_service', service_by: null, service_reason: null },
} as const satisfies Partial<Schema['units']>

// -------------------------------------------------------------------- the end of a lease

/**
 * Their requests leave the queue. Their leases end at once where nothing of theirs can still be at work: no container was
 * ever heard of, or it is proved gone; otherwise they stay until that is proved.
 */
export async function leave(
  tx: Writing,
  tables: Pick<Tables, 'pools' | 'units'>,
  holders: readonly string[],
  how: { readonly isGone?: boolean; readonly outcome?: string },
): Promise<void> {
  if (holders.length === 0) return
  const leaving = new Set(holders)
  for (const holder of leaving) {
    await tx.db.deleteFrom('requests').where('holder', '=', holder).execute()
  }
  for (const unit of tables.units) {
    const ending = unit.leases.filter((lease) => leaving.has(lease.holder))
    if (ending.length === 0) continue
    const staying = new Set(unit.leases)
    for (const lease of ending) {
      if (how.isGone || lease.node === null || !isHandedOver(lease.pool)) {
        await finish(tx, lease, how.outcome ?? lease.outcome)
        staying.delete(lease)
      } else if (lease.ended_at === null) {
        await tx.db
          .updateTable('leases')
          .set({ ended_at: tx.now, outcome: how.outcome ?? null })
          .where('pool', '=', lease.pool)
          .where('unit', '=', lease.unit)
          .where('holder', '=', lease.holder)
          .execute()
      }
    }
    if (staying.size === 0) await handOver(tx, tables, unit.pool, unit.unit)
  }
}

async function finish({ db, now }: Writing, lease: Lease, outcome: string | null): Promise<void> {
  const { pool, unit, holder, party, work, asked_at, since } = lease
  await db.deleteFrom('leases').where('pool', '=', pool).where('unit', '=', unit).where('holder', '=', holder).execute()
  if (!isHandedOver(pool)) return
  const id = await nextId(db, 'holds', 'id')
  await db
    .insertInto('holds')
    .values({ id, pool, unit, holder, party, work, asked_at, since, ended_at: now, outcome })
    .execute()
}

/** Nobody holds the unit any more: what has to be done before the next one does. */
async function handOver(
  tx: Writing,
  { pools, units }: Pick<Tables, 'pools' | 'units'>,
  pool: string,
  unit: string,
): Promise<void> {
  if (!isHandedOver(pool)) return
  const known = units.find((one) => one.pool === pool && one.unit === unit)
  if (known?.service === 'draining') {
    await changeUnit(tx, pool, unit, { service: 'maintenance' })
  }
  const settings = pools.get(pool)
  // Of a pool that is out of the file nobody knows what a unit needs before the next holder: should it come back, all of it.
  const phase = settings === undefined ? 'resetting' : firstPhase(settings)
  if (phase !== 'ready') await startCare(tx, pool, unit, phase)
}

export async function changeUnit(
  { db }: Writing,
  pool: string,
  unit: string,
  to: Partial<Schema['units']>,
): Promise<void> {
  await db.updateTable('units').set(to).where('pool', '=', pool).where('unit', '=', unit).execute()
}

export function firstPhase(
  settings: { readonly reset?: unknown; readonly probe?: unknown } | undefined,
): 'ready' | 'resetting' | 'probing' {
  if (settings?.reset !== undefined) return 'resetting'
  return settings?.probe === undefined ? 'ready' : 'probing'
}

export async function startCare(
  tx: Writing,
  pool: string,
  unit: string,
  phase: Exclude<Schema['units']['phase'], 'ready'>,
): Promise<void> {
  await tx.db
    .updateTable('units')
    .set((e) => ({ phase, failures: 0, stranded: 0, tries: e('tries', '+', 1), due_at: tx.now }))
    .where('pool', '=', pool)
    .where('unit', '=', unit)
    .execute()
  const { tries } = await tx.db
    .selectFrom('units')
    .select('tries')
    .where('pool', '=', pool)
    .where('unit', '=', unit)
    .executeTakeFirstOrThrow()
  await tx.put(`care/${pool}/${unit}/${tries}`, { kind: 'care', pool, unit })
}

// -------------------------------------------------------------------- grants

/** Gives out what can be given, and wakes who got something, except the caller. Returns how things are then. */
export async function grant(tx: Writing, caller?: string): Promise<Tables> {
  const { db, now } = tx
  const tables = await readTables(db)
  const waiting = tables.requests.filter((one) => one.state === 'waiting')
  const grants = waiting.length === 0 ? [] : computeGrants(stateOf(tables), now)
  if (grants.length === 0) return tables
  for (const { holder, units } of grants) {
    const request = waiting.find((one) => one.holder === holder)
    if (request === undefined) continue
    await db.updateTable('requests').set({ state: 'granted' }).where('holder', '=', holder).execute()
    for (const { pool, unit, mode, fence, since, expiresAt } of units) {
      const longest = tables.pools.get(pool)?.maxHoldMs ?? Number.POSITIVE_INFINITY
      await db
        .insertInto('leases')
        .values({
          ...{ pool, unit, holder, run: request.run, fence, since, mode },
          ...{ party: request.party, work: request.work, asked_at: request.since },
          expires_at: Math.min(expiresAt, since + longest),
          ...{ node: null, heard_at: null, ended_at: null, outcome: null, revoked: null, warned: 0, silent: 0 },
        })
        .execute()
      await changeUnit(tx, pool, unit, { fence })
    }
    const first = units[0]
    if (holder === caller || first === undefined) continue
    // A unit's fence names the grant: a holder that was granted, expired and asked again is woken again.
    await wake(tx, request, `granted/${holder}/${first.pool}/${first.unit}/${first.fence}`)
  }
  return readTables(db)
}

export async function wake(tx: Writing, request: Pick<Request, 'workflow_id'>, key: string): Promise<void> {
  // People have no workflow: they look, or are told by a channel.
  if (request.workflow_id === '') return
  await tx.put(key, { kind: 'signal', workflowId: request.workflow_id, signal: 'granted', args: [] })
}

/** Who waits for what is not there and will not come has to hear it: the question is asked anew. */
export async function judgeAnew(tx: Writing): Promise<void> {
  const tables = await grant(tx)
  for (const request of tables.requests) {
    if (request.state !== 'waiting' || canEverServe(tables, request.requests)) continue
    await wake(tx, request, `impossible/${request.holder}/${tx.now}`)
    // Nobody asks again for a person.
    if (request.workflow_id !== '') continue
    await leave(tx, tables, [request.holder], {})
    await tx.db
      .updateTable('reservations')
      .set({ ended_at: tx.now, why: impossibleSentence(request.requests, present(tables)) })
      .where('id', '=', reservationOf(request.holder) ?? '')
      .where('ended_at', 'is', null)
      .execute()
  }
}

/** Without units that nobody has any more. */
export function present(tables: Tables): Tables {
  return { ...tables, units: tables.units.filter((unit) => unit.gone === 0) }
}

/** `person:ada/7f3c` */
export function personHolder(person: string, id: string): string {
  return `person:${person}/${id}`
}

export function reservationOf(holder: string): string | undefined {
  return /^person:[^/]+\/(.+)$/.exec(holder)?.[1]
}
