import { LONGEST_RESERVATION_MS } from '../core/pool/settings.ts'
import type { Database, Writing } from './database.ts'
import { recordAudit } from './database.ts'
import { revoke } from './leases.ts'
import type { Actor, Refusal, ReservationRow, Reservations } from './pool-types.ts'
import {
  canEverServe,
  changeUnit,
  grant,
  insertRequest,
  leave,
  personHolder,
  present,
  reservationOf,
} from './pools/queue.ts'
import { impossibleSentence, toWaiterRow } from './pools/sentences.ts'
import { heldOf, leasesOf, readTables, type Tables } from './pools/tables.ts'
import type { Schema } from './schema.ts'
import { findUnit, noPool, noUnit, refused } from './units.ts'

type Row = Schema['reservations']

/** Whoever takes a unit from somebody is the next to get it. */
const TAKER = 1_000

export function createReservations(database: Database): Reservations {
  /** A change of one's own reservation, or of anybody's by who may: that is asked before. */
  function change(
    by: Actor,
    id: string,
    action: string,
    detail: object,
    act: (tx: Writing, tables: Tables, row: Row) => Promise<Refusal | undefined>,
  ): Promise<ReservationRow | Refusal> {
    return database.write(async (tx) => {
      const row = await find(tx, id)
      if (row === undefined) return refused(`there is no reservation ${id}`)
      const refusal = await act(tx, await readTables(tx.db), row)
      if (refusal !== undefined) return refusal
      await recordAudit(tx, { by: by.person, channel: by.channel, action, on: `reservation/${id}`, detail })
      return shown(tx, id)
    })
  }

  return {
    ask: (by, { id, request, forMs, note, priority }) =>
      database.write(async (tx) => {
        if ((await find(tx, id)) !== undefined) return shown(tx, id)
        const tables = await readTables(tx.db)
        const settings = tables.pools.get(request.pool)
        if (settings === undefined) return noPool(tables, request.pool)
        const longest = settings.maxHoldMs ?? LONGEST_RESERVATION_MS
        if (forMs > longest) return tooLong(request.pool, longest)
        if (!canEverServe(tables, [request])) return refused(impossibleSentence([request], present(tables)))
        await insert(tx, by, { id, pool: request.pool, forMs, ...(note === undefined ? {} : { note }) })
        await insertRequest(tx, tables.requests, {
          holder: personHolder(by.person, id),
          ...{ run: '', workflowId: '', requests: [request] },
          priority: priority ?? 0,
          ttlMs: forMs,
          party: `person:${by.person}`,
        })
        const detail = { request, forMs, note }
        await audit(tx, by, 'reservation.asked', id, detail)
        await grant(tx)
        return shown(tx, id)
      }),

    get: (id) => database.read(async (db) => toRow(await readTables(db), await find({ db }, id))),

    open: () =>
      database.read(async (db) => {
        const rows = await db
          .selectFrom('reservations')
          .selectAll()
          .where('ended_at', 'is', null)
          .orderBy('asked_at')
          .orderBy('id')
          .execute()
        const tables = await readTables(db)
        return rows.flatMap((row) => toRow(tables, row) ?? [])
      }),

    extend: (by, id, forMs) =>
      change(by, id, 'reservation.extended', { forMs }, async (tx, tables, row) => {
        const leases = leasesOf(tables.units, personHolder(row.person, id))
        const [first] = leases
        if (row.ended_at !== null || first === undefined) return refused(`reservation ${id} holds nothing`)
        const until = tx.now + forMs
        const longest = tables.pools.get(row.pool)?.maxHoldMs ?? LONGEST_RESERVATION_MS
        if (until > first.since + longest) return tooLong(row.pool, longest)
        if (first.revoked !== undefined) return refused(`it was taken back: ${first.revoked}`)
        await tx.db
          .updateTable('leases')
          .set({ expires_at: until, warned: 0 })
          .where('holder', '=', personHolder(row.person, id))
          .execute()
        return undefined
      }),

    giveBack: (by, id) =>
      change(by, id, 'reservation.returned', {}, async (tx, tables, row) => {
        if (row.ended_at !== null) return undefined
        await leave(tx, tables, [personHolder(row.person, id)], { isGone: true })
        const why = by.person === row.person ? 'given back' : `ended by ${by.person}`
        await close(tx, id, why)
        await grant(tx)
        return undefined
      }),

    handOver: (by, id, to) =>
      change(by, id, 'reservation.handed_over', { to }, async (tx, tables, row) => {
        if (row.person === to) return undefined
        const from = personHolder(row.person, id)
        if (row.ended_at !== null || leasesOf(tables.units, from).length === 0)
          return refused(`reservation ${id} holds nothing`)
        const share = tables.pools.get(row.pool)?.share
        const theirs = heldOf(tables, row.pool, `person:${to}`)
        const handed = leasesOf(tables.units, from).length
        if (share !== undefined && theirs + handed > share)
          return refused(
            `${to} would hold ${theirs + handed} of pool "${row.pool}", and nobody may hold more than ${share}`,
          )
        const holder = personHolder(to, id)
        const party = `person:${to}`
        for (const unit of tables.units) {
          if (!unit.leases.some((lease) => lease.holder === from)) continue
          const fence = unit.fence + 1
          await tx.db
            .updateTable('leases')
            .set({ holder, party, fence })
            .where('pool', '=', unit.pool)
            .where('unit', '=', unit.unit)
            .where('holder', '=', from)
            .execute()
          await changeUnit(tx, unit.pool, unit.unit, { fence })
        }
        await tx.db.updateTable('requests').set({ holder, party }).where('holder', '=', from).execute()
        await tx.db.updateTable('reservations').set({ person: to }).where('id', '=', id).execute()
        // What counted to the share of one counts to the other's now.
        await grant(tx)
        return undefined
      }),

    take: (by, { id, pool, unit, reason, forMs }) =>
      database.write(async (tx) => {
        if ((await find(tx, id)) !== undefined) return shown(tx, id)
        const tables = await readTables(tx.db)
        const known = findUnit(tables, pool, unit)
        if (known === undefined) return noUnit(tables, pool, unit)
        const longest = tables.pools.get(pool)?.maxHoldMs ?? LONGEST_RESERVATION_MS
        if (forMs > longest) return tooLong(pool, longest)
        const share = tables.pools.get(pool)?.share
        const own = heldOf(tables, pool, `person:${by.person}`)
        if (share !== undefined && own + 1 > share)
          return refused(
            `you hold ${own} of pool "${pool}", and nobody may hold more than ${share}: give one back first`,
          )
        const why = `${pool}/${unit} was taken by ${by.person}: ${reason}`
        const victims = known.leases.filter((one) => one.ended_at === null).map(({ holder }) => holder)
        const people: string[] = []
        for (const lease of known.leases) {
          if (lease.ended_at !== null || lease.revoked !== null) continue
          const reservation = reservationOf(lease.holder)
          if (reservation === undefined) await revoke(tx, lease, why)
          else {
            people.push(lease.holder)
            await close(tx, reservation, why)
          }
        }
        await leave(tx, tables, people, { isGone: true })
        await insert(tx, by, { id, pool, forMs, note: reason })
        await insertRequest(tx, tables.requests, {
          holder: personHolder(by.person, id),
          ...{ run: '', workflowId: '', priority: TAKER, ttlMs: forMs, party: `person:${by.person}` },
          requests: [{ pool, count: 1, labels: [], where: `unit == ${JSON.stringify(unit)}` }],
        })
        await audit(tx, by, 'unit.taken', id, { pool, unit, reason, victims })
        await grant(tx)
        return shown(tx, id)
      }),
  }
}

function find({ db }: Pick<Writing, 'db'>, id: string): Promise<Row | undefined> {
  return db.selectFrom('reservations').selectAll().where('id', '=', id).executeTakeFirst()
}

async function insert(
  tx: Writing,
  by: Actor,
  {
    id,
    pool,
    forMs,
    note,
  }: { readonly id: string; readonly pool: string; readonly forMs: number; readonly note?: string },
): Promise<void> {
  await tx.db
    .insertInto('reservations')
    .values({
      ...{ id, pool, person: by.person, note: note ?? null, for_ms: forMs },
      ...{ asked_at: tx.now, ended_at: null, why: null },
    })
    .execute()
}

async function close({ db, now }: Writing, id: string, why: string): Promise<void> {
  await db
    .updateTable('reservations')
    .set({ ended_at: now, why })
    .where('id', '=', id)
    .where('ended_at', 'is', null)
    .execute()
}

function audit(tx: Writing, { person, channel }: Actor, action: string, id: string, detail: object): Promise<void> {
  return recordAudit(tx, { by: person, channel, action, on: `reservation/${id}`, detail })
}

async function shown(tx: Writing, id: string): Promise<ReservationRow> {
  const row = toRow(await readTables(tx.db), await find(tx, id))
  if (row === undefined) throw new Error(`reservation ${id} vanished within its own transaction`)
  return row
}

function toRow(tables: Tables, row: Row | undefined): ReservationRow | undefined {
  if (row === undefined) return undefined
  const holder = personHolder(row.person, row.id)
  const request = tables.requests.find((one) => one.holder === holder)
  const leases = leasesOf(tables.units, holder)
  const place = request?.state === 'waiting' ? toWaiterRow(tables, request) : undefined
  return {
    ...{ id: row.id, person: row.person, pool: row.pool, requests: request?.requests ?? [], leases },
    ...{ askedAt: row.asked_at, forMs: row.for_ms },
    state: row.ended_at !== null ? 'ended' : leases.length > 0 ? 'held' : 'waiting',
    ...(row.note === null ? {} : { note: row.note }),
    ...(place === undefined ? {} : { position: place.position, sentence: place.sentence }),
    ...(row.ended_at === null ? {} : { endedAt: row.ended_at }),
    ...(row.why === null ? {} : { why: row.why }),
  }
}

function tooLong(pool: string, longest: number): Refusal {
  return refused(`pool "${pool}" lets nobody hold a unit longer than ${Math.round(longest / 60_000)} minutes`)
}
