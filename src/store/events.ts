import type { Transaction } from 'kysely'
import type { RunEvent } from '../core/events.ts'
import { jobId } from '../core/ids.ts'
import type { Outcome } from '../core/outcome.ts'
import type { Deliverable, Plan } from '../core/plan.ts'
import type { Database, Writing } from './database.ts'
import { fromJson } from './database.ts'
import type { Schema } from './schema.ts'
import type { EventRow, Events } from './types.ts'

/** Statuses of a run that has not ended. */
export const OPEN_STATUSES = ['queued', 'running', 'waiting'] as const

export function createEvents(database: Database): Events {
  return {
    append: (run, key, events) => database.write((tx) => appendEvents(tx, run, key, events)),
    appendAll: (run, appends) =>
      database.write(async (tx) => {
        for (const { key, events } of appends) await appendEvents(tx, run, key, events)
      }),
    of: (run, afterSeq = 0) =>
      database.read(async (db) => {
        const rows = await db
          .selectFrom('events')
          .selectAll()
          .where('run', '=', run)
          .where('seq', '>', afterSeq)
          .orderBy('seq')
          .execute()
        return rows.map(toEventRow)
      }),
    since: (position, limit) =>
      database.read(async (db) => {
        const rows = await db
          .selectFrom('events')
          .selectAll()
          .where('position', '>', position)
          .orderBy('position')
          .limit(limit)
          .execute()
        return rows.map(toEventRow)
      }),
  }
}

function toEventRow(row: Schema['events']): EventRow {
  return {
    run: row.run,
    number: row.number,
    seq: row.seq,
    position: row.position,
    at: row.at,
    event: fromJson<RunEvent>(row.event),
  }
}

export async function appendEvents(tx: Writing, run: string, key: string, events: readonly RunEvent[]): Promise<void> {
  const { db, now } = tx
  const owner = await db.selectFrom('runs').select('number').where('id', '=', run).executeTakeFirst()
  if (owner === undefined) throw new Error(`the run ${run} is unknown: no events can be appended`)
  const seen = await db
    .selectFrom('events')
    .select('seq')
    .where('run', '=', run)
    .where('append_key', '=', key)
    .limit(1)
    .executeTakeFirst()
  if (seen !== undefined) return

  let seq = await last(
    db
      .selectFrom('events')
      .where('run', '=', run)
      .select((e) => e.fn.max('seq').as('last')),
  )
  let position = await last(db.selectFrom('events').select((e) => e.fn.max('position').as('last')))
  for (const event of events) {
    seq += 1
    position += 1
    await db
      .insertInto('events')
      .values({
        position,
        run,
        number: owner.number,
        seq,
        append_key: key,
        at: now,
        event: JSON.stringify(event),
      })
      .execute()
    await derive(db, run, event, now, position)
  }
  await db
    .updateTable('runs')
    .set((e) => ({ version: e('version', '+', 1) }))
    .where('id', '=', run)
    .execute()
}

async function last(query: { executeTakeFirstOrThrow(): Promise<{ last: number | null }> }): Promise<number> {
  return (await query.executeTakeFirstOrThrow()).last ?? 0
}

async function derive(
  db: Transaction<Schema>,
  run: string,
  event: RunEvent,
  at: number,
  position: number,
): Promise<void> {
  switch (event.type) {
    case 'run.started.v1':
      await db
        .updateTable('runs')
        .set((e) => ({ status: 'running', started_at: e.fn.coalesce('started_at', e.val(at)) }))
        .where('id', '=', run)
        .where('try', '=', event.try)
        .where('status', 'in', OPEN_STATUSES)
        .execute()
      return
    case 'run.finished.v1':
      // An earlier try that reports late, or a second report, changes nothing.
      await db
        .updateTable('runs')
        .set({ status: event.outcome, reason: event.reason ?? null, waiting: null, finished_at: at })
        .where('id', '=', run)
        .where('try', '=', event.try)
        .where('status', 'in', OPEN_STATUSES)
        .execute()
      await endSessions(db, run, at)
      return
    case 'run.cancel_requested.v1':
      await endSessions(db, run, at)
      return
    case 'stage.started.v1':
      await start(db, { run, ...event }, {}, at, position)
      await db.updateTable('runs').set({ stage: event.stage }).where('id', '=', run).execute()
      return
    case 'stage.finished.v1':
      await finish(db, { run, ...event }, event, at, position)
      return
    case 'job.started.v1':
      await start(db, { run, ...event }, {}, at, position)
      return
    case 'job.placed.v1':
      await start(db, { run, ...event }, {}, at, position)
      await attemptRows(db, { run, ...event })
        .set({
          node: event.node,
          service: event.service,
          ...(event.container === undefined ? {} : { container: event.container }),
        })
        .execute()
      return
    case 'job.finished.v1':
      await finish(db, { run, ...event }, event, at, position)
      await endSessions(db, run, at, jobId({ run, ...event }))
      return
    case 'step.started.v1':
      await start(db, { run, ...event }, event, at, position)
      return
    case 'step.finished.v1':
      await finish(db, { run, ...event }, event, at, position)
      return
    case 'deliverable.built.v1': {
      const owner = await db.selectFrom('runs').select(['try', 'plan']).where('id', '=', run).executeTakeFirstOrThrow()
      const { name, digest, reference } = event
      const kind = event.kind ?? plannedKind(owner.plan, name)
      await db
        .insertInto('deliverables')
        .values({ run, name, try: owner.try, kind, digest, reference })
        .onConflict((conflict) => conflict.doNothing())
        .execute()
      return
    }
    default:
      return
  }
}

/** Nobody is left to take an answer. */
async function endSessions(db: Transaction<Schema>, run: string, at: number, id?: string): Promise<void> {
  const open = db.updateTable('manual_sessions').where('run', '=', run).where('ended_at', 'is', null)
  await (id === undefined ? open : open.where('id', '=', id)).set({ state: 'ended', ended_at: at }).execute()
}

function plannedKind(plan: string | null, name: string): Deliverable['kind'] {
  const stages = plan === null ? [] : fromJson<Plan>(plan).stages
  const planned = stages.flatMap((stage) => (stage.kind === 'deliver' ? stage.deliverables : []))
  return planned.find((one) => one.name === name)?.kind ?? 'image'
}

interface AttemptId {
  readonly run: string
  readonly stage: string
  readonly job?: string
  readonly step?: number
  readonly attempt: number
}

function toAttemptKey(id: AttemptId) {
  return { run: id.run, stage: id.stage, job: id.job ?? '', step: id.step ?? -1, attempt: id.attempt }
}

/** Updates one attempt as long as it has not ended: an outcome never changes afterwards. */
function attemptRows(db: Transaction<Schema>, id: AttemptId) {
  const key = toAttemptKey(id)
  return db
    .updateTable('attempts')
    .where('run', '=', key.run)
    .where('stage', '=', key.stage)
    .where('job', '=', key.job)
    .where('step', '=', key.step)
    .where('attempt', '=', key.attempt)
    .where('outcome', 'is', null)
}

async function start(
  db: Transaction<Schema>,
  id: AttemptId,
  named: { readonly name?: string },
  at: number,
  position: number,
): Promise<void> {
  await db
    .insertInto('attempts')
    .values({
      ...toAttemptKey(id),
      name: named.name ?? null,
      outcome: null,
      exit_code: null,
      reason: null,
      node: null,
      service: null,
      container: null,
      started_at: at,
      finished_at: null,
      log: null,
      position,
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
}

async function finish(
  db: Transaction<Schema>,
  id: AttemptId,
  end: { readonly outcome: Outcome; readonly reason?: string; readonly exitCode?: number; readonly name?: string },
  at: number,
  position: number,
): Promise<void> {
  // What was skipped ends without having started.
  await start(db, id, end, at, position)
  await attemptRows(db, id)
    .set({ outcome: end.outcome, reason: end.reason ?? null, exit_code: end.exitCode ?? null, finished_at: at })
    .execute()
}
