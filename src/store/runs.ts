import type { Transaction } from 'kysely'
import type { Admitted } from '../core/admission.ts'
import type { Subject } from '../core/approval.ts'
import type { Trigger } from '../core/change.ts'
import type { RunEvent, Waiting } from '../core/events.ts'
import { runId } from '../core/ids.ts'
import type { Outcome } from '../core/outcome.ts'
import { OUTCOMES } from '../core/outcome.ts'
import type { Deliverable, Plan } from '../core/plan.ts'
import type { Progress, StageProgress } from '../core/progress.ts'
import type { Database, Writing } from './database.ts'
import { fromJson, recordAudit } from './database.ts'
import { appendEvents, OPEN_STATUSES } from './events.ts'
import { keepNotice } from './notices.ts'
import type { Schema } from './schema.ts'
import type { Approval, AttemptRow, LogProof, RunDetail, RunRow, RunStatus, Runs } from './types.ts'

interface Request {
  readonly by: string
  readonly reason: string
}

/** Nobody has looked at whose code it is: then it is anybody's. */
const NOT_ASKED: Admitted = { kind: 'starts', secrets: 'none', privileged: false }

export function createRuns(database: Database): Runs {
  const find = (where: { readonly number: number; readonly repo?: string }) =>
    database.read(async (db) => {
      const row = await db.selectFrom('runs').selectAll().where('number', '=', where.number).executeTakeFirst()
      if (row === undefined || (where.repo !== undefined && row.repo !== where.repo)) return undefined
      return toDetail(db, row)
    })

  return {
    get: (repo, number) => find({ repo, number }),
    byNumber: (number) => find({ number }),

    list: (query) =>
      database.read(async (db) => {
        let rows = db.selectFrom('runs').selectAll().orderBy('number', 'desc').limit(query.limit)
        if (query.before !== undefined) rows = rows.where('number', '<', query.before)
        if (query.repo !== undefined) rows = rows.where('repo', '=', query.repo)
        if (query.status !== undefined) rows = rows.where('status', '=', query.status)
        if (query.ref !== undefined) rows = rows.where('ref', '=', query.ref)
        if (query.commit !== undefined) rows = rows.where('commit_id', '=', query.commit)
        return (await rows.execute()).map(toRunRow)
      }),

    peopleBehind: (repo, commits) =>
      database.read(async (db) => {
        if (commits.length === 0) return []
        const rows = await db
          .selectFrom('runs')
          .select('trigger')
          .where('repo', '=', repo)
          .where('commit_id', 'in', commits)
          .execute()
        return rows.map(({ trigger }) => {
          const { author, pusher } = fromJson<Trigger>(trigger).change
          return { ...(author === undefined ? {} : { author }), ...(pusher === undefined ? {} : { pusher }) }
        })
      }),

    open: () =>
      database.read(async (db) => {
        const rows = await db
          .selectFrom('runs')
          .selectAll()
          .where('status', 'in', OPEN_STATUSES)
          .where('held', 'is', null)
          .orderBy('number')
          .execute()
        return rows.map(toRunRow)
      }),

    setPlan: (id, plan) =>
      database.write(async ({ db }) => {
        await db
          .updateTable('runs')
          .set({ plan: JSON.stringify(plan), spec_digest: plan.specDigest })
          .where('id', '=', id)
          .execute()
      }),

    recordLog: (log, proof) =>
      database.write(async ({ db }) => {
        const step = db
          .selectFrom('attempts')
          .select('log')
          .where('run', '=', log.run)
          .where('stage', '=', log.stage)
          .where('job', '=', log.job)
          .where('step', '=', log.step)
          .where('attempt', '=', log.attempt)
        const known = await step.executeTakeFirst()
        if (known?.log && fromJson<LogProof>(known.log).kind === 'complete') return
        const { numUpdatedRows } = await db
          .updateTable('attempts')
          .set({ log: JSON.stringify(proof) })
          .where('run', '=', log.run)
          .where('stage', '=', log.stage)
          .where('job', '=', log.job)
          .where('step', '=', log.step)
          .where('attempt', '=', log.attempt)
          .executeTakeFirstOrThrow()
        if (numUpdatedRows === 0n)
          throw new Error(`step ${log.step} of ${log.run}/${log.stage}/${log.job} has not begun`)
      }),

    setStatus: (id, status, detail) =>
      database.write(async ({ db, now }) => {
        await db
          .updateTable('runs')
          .set((e) => ({
            version: e('version', '+', 1),
            status,
            waiting: detail.waiting === undefined ? null : JSON.stringify(detail.waiting),
            reason: detail.reason ?? null,
            ...(detail.stage === undefined ? {} : { stage: detail.stage }),
            ...(isOutcome(status) ? { finished_at: now } : {}),
          }))
          .where('id', '=', id)
          .where('status', 'in', OPEN_STATUSES)
          .execute()
      }),

    retry: (id, fromTry, by, cause) =>
      database.write(async (tx) => {
        const run = await tx.db.selectFrom('runs').selectAll().where('id', '=', id).executeTakeFirst()
        if (run === undefined) return { kind: 'refused', why: 'unknown' }
        if (run.try !== fromTry || (cause !== undefined && (await isDone(tx.db, id, cause))))
          return { kind: 'refused', why: 'alreadyRetried' }
        if (!isOutcome(run.status)) return { kind: 'refused', why: 'not_ended' }
        if (run.status === 'succeeded') return { kind: 'refused', why: 'succeeded' }
        // A run that was canceled while it waited for somebody is not let in by trying it again.
        if (run.held !== null) return { kind: 'refused', why: 'held' }
        return { kind: 'retried', try: await startAgain(tx, run, by, cause) }
      }),

    admit: (id, commit, by, channel) =>
      database.write(async (tx) => {
        const run = await tx.db.selectFrom('runs').selectAll().where('id', '=', id).executeTakeFirst()
        if (run === undefined) return 'unknown'
        if (run.commit_id !== commit) return 'another_commit'
        if (run.held === null) return 'not_held'
        await tx.db
          .updateTable('runs')
          .set({ held: null, approval: JSON.stringify({ by, channel } satisfies Approval) })
          .where('id', '=', id)
          .execute()
        await appendEvents(tx, id, 'admitted', [{ type: 'run.admitted.v1', commit, by, channel }])
        await recordAudit(tx, { by, channel, action: 'run.admit', on: id, detail: { commit } })
        // Whoever keeps the pull request up says there that it was let in.
        const { change } = fromJson<Trigger>(run.trigger)
        if (change.pullRequest)
          await keepNotice(tx, run.repo, { kind: 'pull_request', number: change.pullRequest.number })
        if (isOutcome(run.status)) await startAgain(tx, run, by)
        else {
          const started = { status: 'queued', waiting: null }
          await tx.db.updateTable('runs').set(started).where('id', '=', id).execute()
          await tx.put(startKey(id, run.try), { kind: 'start', run: id, try: run.try, retry: false })
        }
        return 'admitted'
      }),

    requestCancel: (id, by, reason) =>
      database.write(async (tx) => {
        const run = await tx.db.selectFrom('runs').selectAll().where('id', '=', id).executeTakeFirst()
        if (run === undefined || isOutcome(run.status)) return false
        if (run.cancel !== null) return true
        await tx.db
          .updateTable('runs')
          .set({ cancel: JSON.stringify({ by, reason } satisfies Request) })
          .where('id', '=', id)
          .execute()
        await appendEvents(tx, id, `cancel/${run.try}`, [{ type: 'run.cancel_requested.v1', by, reason }])
        await recordAudit(tx, { by, channel: 'api', action: 'run.cancel', on: id, detail: { reason, try: run.try } })
        if (run.held !== null) {
          // Nothing of it was ever started, so there is nobody to tell.
          const finished = { type: 'run.finished.v1', try: run.try, outcome: 'canceled' } as const
          await appendEvents(tx, id, `try/${run.try}/finished`, [
            { ...finished, reason: `canceled by ${by}: ${reason}` },
          ])
          return true
        }
        await tx.put(cancelKey(id, run.try), { kind: 'cancel', run: id })
        return true
      }),

    releases: (repo, branch, most) =>
      database.read(async (db) => {
        const rows = await db
          .selectFrom('runs')
          .innerJoin('events', 'events.run', 'runs.id')
          .select('runs.commit_id')
          .where('runs.repo', '=', repo)
          .where('events.append_key', '=', `promoted/${branch}`)
          .orderBy('events.position', 'desc')
          .limit(most)
          .execute()
        return rows.map((row) => row.commit_id)
      }),

    releasedCandidate: (repo, ref, commit) =>
      database.read(async (db) => {
        const rows = await db
          .selectFrom('runs')
          .selectAll()
          .where('repo', '=', repo)
          .where('ref', '=', ref)
          .where('commit_id', '=', commit)
          .where('status', 'in', ['succeeded', 'running', 'waiting'])
          .orderBy('number', 'desc')
          .execute()
        for (const row of rows) {
          if (fromJson<Trigger>(row.trigger).kind === 'pull_request') continue
          const detail = await toDetail(db, row)
          if (await isReleased(db, detail)) return detail
        }
        return undefined
      }),
  }
}

/** Every gate of the run is approved (and there is one), for this commit and for the deliverables it has now. */
async function isReleased(db: Transaction<Schema>, run: RunDetail): Promise<boolean> {
  const gates = await db.selectFrom('gates').selectAll().where('run', '=', run.id).orderBy('version', 'desc').execute()
  const current = new Map<string, Schema['gates']>()
  for (const gate of gates) if (!current.has(gate.name)) current.set(gate.name, gate)
  const digests = new Set(run.progress.deliverables.map((one) => `${one.name}=${one.digest}`))
  return (
    current.size > 0 &&
    [...current.values()].every((gate) => {
      const subject = fromJson<Subject>(gate.subject)
      return (
        gate.state === 'approved' &&
        subject.commit === run.change.commit &&
        subject.deliverables.every((one) => digests.has(one))
      )
    })
  )
}

const startKey = (run: string, attempt: number) => `start/${run}/${attempt}`
const cancelKey = (run: string, attempt: number) => `cancel/${run}/${attempt}`

function isOutcome(status: string): status is Outcome {
  return (OUTCOMES as readonly string[]).includes(status)
}

/** A new try of a run that has ended. What it may ask for stays as it was when the run was made. */
async function startAgain(tx: Writing, run: Schema['runs'], by: string, cause?: string): Promise<number> {
  const { id } = run
  const next = run.try + 1
  await tx.db
    .updateTable('runs')
    .set({
      try: next,
      status: 'queued',
      reason: null,
      waiting: null,
      stage: null,
      cancel: null,
      finished_at: null,
    })
    .where('id', '=', id)
    .execute()
  // A cancel that has not been delivered was meant for the try that has ended.
  await tx.db
    .updateTable('outbox')
    .set({ done_at: tx.now })
    .where('message_key', '=', cancelKey(id, run.try))
    .where('done_at', 'is', null)
    .execute()
  await appendEvents(tx, id, `retry/${next}`, [
    { type: 'run.retried.v1', try: next, by, ...(cause === undefined ? {} : { cause }) },
  ])
  await recordAudit(tx, { by, channel: 'api', action: 'run.retry', on: id, detail: { try: next } })
  await tx.put(startKey(id, next), { kind: 'start', run: id, try: next, retry: true })
  return next
}

async function isDone(db: Transaction<Schema>, run: string, cause: string): Promise<boolean> {
  const rows = await db
    .selectFrom('events')
    .select('event')
    .where('run', '=', run)
    .where('append_key', 'like', 'retry/%')
    .execute()
  return rows.some((row) => {
    const event = fromJson<RunEvent>(row.event)
    return event.type === 'run.retried.v1' && event.cause === cause
  })
}

/**
 * A new run: number, try 1, event and, unless it is held, the order to start it, within the transaction of what caused
 * it. What it may ask for is decided here, once.
 */
export async function insertRun(tx: Writing, trigger: Trigger, admission = NOT_ASKED): Promise<RunRow> {
  const { last } = await tx.db
    .selectFrom('runs')
    .select((e) => e.fn.max('number').as('last'))
    .executeTakeFirstOrThrow()
  const number = (last ?? 0) + 1
  const held = admission.kind === 'waits' ? admission.sentence : null
  const row: Schema['runs'] = {
    number,
    id: runId(trigger.repo, number),
    repo: trigger.repo,
    ref: trigger.change.ref,
    commit_id: trigger.change.commit,
    trigger: JSON.stringify(trigger),
    status: held === null ? 'queued' : 'waiting',
    reason: null,
    try: 1,
    stage: null,
    waiting: held === null ? null : JSON.stringify({ kind: 'admission', sentence: held } satisfies Waiting),
    plan: null,
    spec_digest: null,
    cancel: null,
    override: null,
    created_at: tx.now,
    started_at: null,
    finished_at: null,
    version: 0,
    reported: 0,
    secrets: admission.secrets,
    held,
    approval: null,
    broken: null,
  }
  await tx.db.insertInto('runs').values(row).execute()
  const reason = `${trigger.kind} ${trigger.change.ref}`
  await appendEvents(tx, row.id, 'queued', [{ type: 'run.queued.v1', by: trigger.requestedBy, reason }])
  if (held === null) await tx.put(startKey(row.id, 1), { kind: 'start', run: row.id, try: 1, retry: false })
  else await appendEvents(tx, row.id, 'held', [{ type: 'run.held.v1', sentence: held }])
  return toRunRow(row)
}

export function toRunRow(row: Schema['runs']): RunRow {
  const trigger = fromJson<Trigger>(row.trigger)
  return {
    repo: row.repo,
    number: row.number,
    id: row.id,
    trigger,
    change: trigger.change,
    status: row.status as RunStatus,
    try: row.try,
    createdAt: row.created_at,
    secrets: row.secrets,
    ...(row.held === null ? {} : { held: row.held }),
    ...(row.approval === null ? {} : { approval: fromJson<Approval>(row.approval) }),
    ...(row.broken === null ? {} : { broken: fromJson<NonNullable<RunRow['broken']>>(row.broken) }),
    ...(row.reason === null ? {} : { reason: row.reason }),
    ...(row.stage === null ? {} : { stage: row.stage }),
    ...(row.waiting === null ? {} : { waiting: fromJson<Waiting>(row.waiting) }),
    ...(row.spec_digest === null ? {} : { specDigest: row.spec_digest }),
    ...(row.started_at === null ? {} : { startedAt: row.started_at }),
    ...(row.finished_at === null ? {} : { finishedAt: row.finished_at }),
  }
}

async function toDetail(db: Transaction<Schema>, row: Schema['runs']): Promise<RunDetail> {
  const rows = await db.selectFrom('attempts').selectAll().where('run', '=', row.id).orderBy('position').execute()
  const attempts = rows.map(toAttemptRow)
  return {
    ...toRunRow(row),
    progress: progressOf(attempts, await deliverablesOf(db, row.id)),
    attempts,
    ...(row.plan === null ? {} : { plan: fromJson<Plan>(row.plan) }),
    ...(row.cancel === null ? {} : { cancel: fromJson<Request>(row.cancel) }),
    ...(row.override === null ? {} : { override: fromJson<Request>(row.override) }),
  }
}

function toAttemptRow(row: Schema['attempts']): AttemptRow {
  return {
    stage: row.stage,
    attempt: row.attempt,
    startedAt: row.started_at,
    ...(row.job === '' ? {} : { job: row.job }),
    ...(row.step === -1 ? {} : { step: row.step }),
    ...(row.name === null ? {} : { name: row.name }),
    ...(row.outcome === null ? {} : { outcome: row.outcome as Outcome }),
    ...(row.exit_code === null ? {} : { exitCode: row.exit_code }),
    ...(row.reason === null ? {} : { reason: row.reason }),
    ...(row.node === null ? {} : { node: row.node }),
    ...(row.service === null ? {} : { service: row.service }),
    ...(row.container === null ? {} : { container: row.container }),
    ...(row.finished_at === null ? {} : { finishedAt: row.finished_at }),
    ...(row.log === null ? {} : { log: fromJson<LogProof>(row.log) }),
  }
}

interface StageRows {
  newest?: AttemptRow
  readonly jobs: Map<string, AttemptRow>
}

/** Over all tries: the newest attempt of each stage and job. */
export function progressOf(attempts: readonly AttemptRow[], deliverables: readonly Deliverable[]): Progress {
  const stages = new Map<string, StageRows>()
  for (const row of attempts) {
    if (row.step !== undefined) continue
    const stage: StageRows = stages.get(row.stage) ?? { jobs: new Map() }
    stages.set(row.stage, stage)
    if (row.job === undefined) stage.newest = newer(stage.newest, row)
    else stage.jobs.set(row.job, newer(stage.jobs.get(row.job), row))
  }
  const entries: [string, StageProgress][] = []
  for (const [name, { newest, jobs }] of stages) {
    entries.push([name, { ...made(newest), jobs: Object.fromEntries([...jobs].map(([job, row]) => [job, made(row)])) }])
  }
  return { stages: Object.fromEntries(entries), deliverables }
}

function newer(one: AttemptRow | undefined, other: AttemptRow): AttemptRow {
  return one !== undefined && one.attempt > other.attempt ? one : other
}

function made(row: AttemptRow | undefined): { readonly attempt: number; readonly outcome?: Outcome } {
  return { attempt: row?.attempt ?? 1, ...(row?.outcome === undefined ? {} : { outcome: row.outcome }) }
}

export async function deliverablesOf(db: Transaction<Schema>, run: string): Promise<readonly Deliverable[]> {
  const rows = await db
    .selectFrom('deliverables')
    .selectAll()
    .where('run', '=', run)
    .orderBy('name')
    .orderBy('try')
    .execute()
  const newest = new Map(rows.map((row) => [row.name, row]))
  return [...newest.values()].map(({ name, kind, digest, reference }) => ({
    name,
    kind: kind as Deliverable['kind'],
    digest,
    reference,
  }))
}
