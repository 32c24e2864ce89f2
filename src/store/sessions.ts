import type { Transaction } from 'kysely'
import type { RunEvent } from '../core/events.ts'
import { type JobKey, jobId } from '../core/ids.ts'
import { isOutcome } from '../core/outcome.ts'
import type { ManualTest } from '../core/plan.ts'
import {
  type AskedAgain,
  evidenceProblem,
  type ItemAnswer,
  type ItemResult,
  judgeAnswers,
  keptAnswers,
  missingItems,
  SESSION_LIMITS,
  type SessionState,
  type SessionSubject,
  sessionEnd,
  sessionSentence,
  standingAnswers,
  whyUnfinished,
} from '../core/session.ts'
import type { Database, Writing } from './database.ts'
import { fromJson, recordAudit } from './database.ts'
import { appendEvents, OPEN_STATUSES } from './events.ts'
import type { Schema } from './schema.ts'
import type { EvidenceRow, SessionActor, SessionChange, SessionRow, Sessions, SessionUnit } from './types.ts'

type Session = Schema['manual_sessions']
/** What distinguishes one change of a session from the others in its audit and its events. */
type Doing = { readonly action: string; readonly detail?: unknown; readonly event: SessionNews }
type SessionNews =
  Extract<RunEvent, { type: `session.${string}` }> extends infer E
    ? E extends unknown
      ? Omit<E, 'stage' | 'job' | 'attempt'>
      : never
    : never

/** A change: what it does beside its record, or why nothing is to be done. */
type Act = (
  tx: Writing,
  session: SessionRow,
) => Promise<
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'refused'; readonly why: string }
  | ({ readonly kind: 'changed' } & Doing)
>

const UNCHANGED = { kind: 'unchanged' } as const

export function createSessions(database: Database): Sessions {
  return {
    open: (input) => database.write((tx) => open(tx, input)),
    get: (key) => database.read(async (db) => (await readSessions(db, [await rowOf(db, jobId(key))]))[0]),

    ofRun: (run) =>
      database.read(async (db) => {
        const rows = await db
          .selectFrom('manual_sessions')
          .selectAll()
          .where('run', '=', run)
          .orderBy('opened_at')
          .orderBy('id')
          .execute()
        return readSessions(db, rows)
      }),

    waiting: () =>
      database.read(async (db) => {
        const rows = await db
          .selectFrom('manual_sessions')
          .innerJoin('runs', 'runs.id', 'manual_sessions.run')
          .selectAll('manual_sessions')
          .where('manual_sessions.ended_at', 'is', null)
          .where('runs.status', 'in', OPEN_STATUSES)
          .orderBy('manual_sessions.opened_at')
          .orderBy('manual_sessions.id')
          .execute()
        return readSessions(db, rows)
      }),

    join: (key, actor) =>
      change(database, key, actor, async (tx, session) => {
        if (isTesting(session, actor.by)) return UNCHANGED
        await join(tx, key, actor.by)
        return { kind: 'changed', action: 'session.joined', event: { type: 'session.joined.v1', by: actor.by } }
      }),

    answer: (key, actor, { item, result, comment }) =>
      change(database, key, actor, async (tx, session) => {
        const { name } = itemOf(session, item)
        if (session.paused) return refusedPaused(session)
        const { by } = actor
        const before = standingAnswers(session.answers).get(item)
        // The same answer sent twice is one; what an earlier attempt has left is given anew.
        const isSame = before?.by === by && before.result === result && before.comment === comment
        if (isSame && before.keptFrom === undefined) return UNCHANGED
        if (!isTesting(session, by)) await join(tx, key, by)
        await insertAnswer(tx, key, session.answers.length + 1, {
          item,
          result,
          by,
          at: tx.now,
          ...(comment === undefined ? {} : { comment }),
        })
        return {
          kind: 'changed',
          action: 'session.answered',
          detail: { item: name, result, comment, before: before?.result, beforeBy: before?.by },
          event: { type: 'session.answered.v1', by, item: name, result },
        }
      }),

    attach: (key, actor, file) =>
      change(database, key, actor, async (tx, session) => {
        const { item, name, digest, size } = file
        const about = itemOf(session, item).name
        if (session.paused) return refusedPaused(session)
        if (session.evidence.some((one) => isSameFile(one, file) && one.gone === undefined)) return UNCHANGED
        const why = evidenceProblem(session.evidence, size)
        if (why !== undefined) return { kind: 'refused', why }
        const { by } = actor
        if (!isTesting(session, by)) await join(tx, key, by)
        await insertEvidence(tx, key, { id: session.evidence.length + 1, ...file, by, at: tx.now })
        return {
          kind: 'changed',
          action: 'session.evidence',
          detail: { item: about, name, digest, size },
          event: { type: 'session.evidence_added.v1', by, item: about, digest },
        }
      }),

    deleteEvidence: (key, actor, file) => database.write((tx) => deleteEvidence(tx, key, actor, file)),

    goneEvidence: (of) =>
      database.read(async (db) => {
        const gone = db.selectFrom('manual_evidence as one').select('one.digest').distinct()
        const rows = await (of === undefined ? gone : gone.where('one.digest', 'in', of))
          .where('one.gone', 'is not', null)
          .where(({ not, exists, selectFrom }) =>
            not(
              exists(
                selectFrom('manual_evidence as other')
                  .select('other.seq')
                  .whereRef('other.digest', '=', 'one.digest')
                  .where('other.gone', 'is', null),
              ),
            ),
          )
          .execute()
        return rows.map(({ digest }) => digest)
      }),

    pause: (key, actor, reason) =>
      change(database, key, actor, async (tx, session) => {
        const { by } = actor
        if (session.paused?.by === by && session.paused.reason === reason) return UNCHANGED
        if (session.paused) return refusedPaused(session)
        await update(tx, key, { state: 'paused', paused: JSON.stringify({ by, reason }) })
        return {
          kind: 'changed',
          action: 'session.paused',
          detail: { reason },
          event: { type: 'session.paused.v1', by, reason },
        }
      }),

    resume: (key, actor) =>
      change(database, key, actor, async (tx, session) => {
        if (!session.paused) return UNCHANGED
        await update(tx, key, { state: 'open', paused: null })
        return { kind: 'changed', action: 'session.resumed', event: { type: 'session.resumed.v1', by: actor.by } }
      }),

    handOver: (key, actor, to) =>
      change(database, key, actor, async (tx, session) => {
        const { by } = actor
        const own = session.testers.find((one) => one.person === by)
        if (own?.handedTo === to && isTesting(session, to)) return UNCHANGED
        if (!isTesting(session, by))
          return { kind: 'refused', why: `${by} has not joined this session: there is nothing to hand over` }
        if (!isTesting(session, to)) await join(tx, key, to)
        await tx.db
          .updateTable('manual_testers')
          .set({ until: tx.now, handed_to: to })
          .where('session', '=', jobId(key))
          .where('person', '=', by)
          .execute()
        return {
          kind: 'changed',
          action: 'session.handed_over',
          detail: { to },
          event: { type: 'session.handed_over.v1', by, to },
        }
      }),

    finish: (key, actor, may) =>
      change(
        database,
        key,
        actor,
        async (tx, session) => {
          if (session.state === 'finished') return UNCHANGED
          if (session.paused) return refusedPaused(session)
          const why = whyUnfinished({ ...session, answers: judgeAnswers(session.answers, may) })
          if (why !== undefined) return { kind: 'refused', why }
          const { by } = actor
          const end = sessionEnd({ ...session, state: 'finished' })
          const outcome = end?.outcome ?? 'failed'
          await update(tx, key, { state: 'finished', ended_at: tx.now, ended_by: by })
          return {
            kind: 'changed',
            action: 'session.finished',
            detail: end,
            event: { type: 'session.finished.v1', by, outcome },
          }
        },
        { isEnd: true },
      ),

    expire: (key, may) =>
      database.write(async (tx) => {
        const session = await sessionOf(tx.db, key)
        if (session === undefined || session.endedAt !== undefined || tx.now < session.expiresAt) return session
        await update(tx, key, { state: 'expired', ended_at: tx.now })
        const answers = judgeAnswers(session.answers, may)
        for (const [index, { void: why }] of answers.entries()) {
          if (why === undefined) continue
          await tx.db
            .updateTable('manual_answers')
            .set({ void_why: why })
            .where('session', '=', jobId(key))
            .where('seq', '=', index + 1)
            .execute()
        }
        await record(
          tx,
          key,
          session,
          { by: 'penstock', channel: 'timer' },
          {
            action: 'session.expired',
            detail: { missing: missingItems({ ...session, answers }) },
            event: { type: 'session.expired.v1' },
          },
        )
        return sessionOf(tx.db, key)
      }),
  }
}

async function open(tx: Writing, input: Parameters<Sessions['open']>[0]): Promise<SessionRow> {
  const { key, manual, subject, units, may } = input
  const known = await sessionOf(tx.db, key)
  if (known !== undefined) return known
  const { run, stage, job, attempt } = key
  const earlier = await tx.db
    .selectFrom('manual_sessions')
    .selectAll()
    .where('run', '=', run)
    .where('stage', '=', stage)
    .where('job', '=', job)
    .where('attempt', '<', attempt)
    .orderBy('attempt', 'desc')
    .limit(1)
    .executeTakeFirst()
  const [before] = await readSessions(tx.db, [earlier])
  const { kept, askedAgain } =
    before === undefined
      ? { kept: [], askedAgain: [] }
      : keptAnswers({ ...before, attempt: before.key.attempt }, subject, may)
  await tx.db
    .insertInto('manual_sessions')
    .values({
      id: jobId(key),
      run,
      stage,
      job,
      attempt,
      environment: input.environment ?? null,
      url: input.url ?? null,
      by: JSON.stringify(manual.by),
      checklist: JSON.stringify(manual.checklist),
      subject: JSON.stringify(subject),
      units: JSON.stringify(units),
      state: 'open',
      paused: null,
      asked_again: JSON.stringify(askedAgain),
      revision: 0,
      opened_at: tx.now,
      expires_at: tx.now + manual.expiresSeconds * 1000,
      ended_at: null,
      ended_by: null,
    })
    .execute()
  for (const [index, answer] of kept.entries()) await insertAnswer(tx, key, index + 1, answer)
  const items = new Set(kept.map(({ item }) => item))
  const evidence = before?.evidence.filter(({ item, gone }) => items.has(item) && gone === undefined) ?? []
  for (const [index, file] of evidence.entries()) await insertEvidence(tx, key, { ...file, id: index + 1 })
  await appendEvents(tx, run, `${jobId(key)}:started`, [{ type: 'job.started.v1', stage, job, attempt }])
  const session = await sessionOf(tx.db, key)
  if (session === undefined) throw new Error(`the session ${jobId(key)} is not there after it was opened`)
  await record(
    tx,
    key,
    session,
    { by: 'penstock', channel: 'workflow' },
    {
      action: 'session.opened',
      detail: { subject, kept: kept.length, askedAgain },
      event: { type: 'session.opened.v1', items: manual.checklist.length, kept: kept.length },
    },
  )
  return session
}

async function deleteEvidence(
  tx: Writing,
  key: JobKey,
  actor: Parameters<Sessions['deleteEvidence']>[1],
  { id, why }: Parameters<Sessions['deleteEvidence']>[2],
): Promise<SessionChange> {
  const session = await sessionOf(tx.db, key)
  const file = session?.evidence.find((one) => one.id === id)
  if (session === undefined || file === undefined) throw new Error(`the session ${jobId(key)} has no file ${id}`)
  if (file.gone !== undefined) return { kind: 'done', session }
  const attempts = (await ofJob(tx.db, key)).flatMap(({ key: { attempt }, evidence }) =>
    evidence.some((one) => isSameFile(one, file) && one.gone === undefined) ? [attempt] : [],
  )
  if (!actor.isOperator) {
    const refused = (reason: string) => ({ kind: 'refused', why: `${reason}; an operator can delete it` }) as const
    if (file.by !== actor.by) return refused(`the file is that of ${file.by}`)
    const closed = await whyClosed(tx, session, true)
    if (closed !== undefined) return refused(closed)
    const other = attempts.find((attempt) => attempt !== key.attempt)
    if (other !== undefined) return refused(`it was attached in attempt ${other}, which has ended`)
  }
  const { by } = actor
  const gone = JSON.stringify({ by, at: tx.now, ...(why === undefined ? {} : { why }) })
  await tx.db
    .updateTable('manual_evidence')
    .set({ gone })
    .where(
      'session',
      'in',
      attempts.map((attempt) => jobId({ ...key, attempt })),
    )
    .where('item', '=', file.item)
    .where('name', '=', file.name)
    .where('digest', '=', file.digest)
    .where('gone', 'is', null)
    .execute()
  const { name, digest, size } = file
  const about = itemOf(session, file.item).name
  await record(tx, key, session, actor, {
    action: 'session.evidence_deleted',
    detail: { item: about, name, digest, size, attachedBy: file.by, attachedAt: file.at, attempts, why },
    event: { type: 'session.evidence_deleted.v1', by, item: about, digest },
  })
  return { kind: 'done', session: (await sessionOf(tx.db, key)) ?? session }
}

function isSameFile(one: FileId, other: FileId): boolean {
  return one.item === other.item && one.name === other.name && one.digest === other.digest
}

type FileId = Pick<EvidenceRow, 'item' | 'name' | 'digest'>

/** The sessions of the job, one an attempt. */
async function ofJob(db: Transaction<Schema>, { run, stage, job }: JobKey): Promise<readonly SessionRow[]> {
  const rows = await db
    .selectFrom('manual_sessions')
    .selectAll()
    .where('run', '=', run)
    .where('stage', '=', stage)
    .where('job', '=', job)
    .orderBy('attempt')
    .execute()
  return readSessions(db, rows)
}

/** One change by one person, unless the session takes none any more. */
function change(
  database: Database,
  key: JobKey,
  actor: SessionActor,
  act: Act,
  { isEnd = false }: { readonly isEnd?: boolean } = {},
): Promise<SessionChange> {
  return database.write(async (tx): Promise<SessionChange> => {
    const session = await sessionOf(tx.db, key)
    if (session === undefined) throw new Error(`there is no session ${jobId(key)}`)
    const isDone = isEnd && session.state === 'finished'
    const why = isDone ? undefined : await whyClosed(tx, session, isEnd)
    if (why !== undefined) return { kind: 'refused', why }
    const done = await act(tx, session)
    if (done.kind === 'refused') return done
    if (done.kind === 'changed') await record(tx, key, session, actor, done)
    return { kind: 'done', session: (await sessionOf(tx.db, key)) ?? session }
  })
}

/** Why nothing can be done in it any more. */
async function whyClosed({ db, now }: Writing, session: SessionRow, isEnd: boolean): Promise<string | undefined> {
  const { run } = session.key
  const row = await db.selectFrom('runs').select(['status', 'cancel']).where('id', '=', run).executeTakeFirstOrThrow()
  if (isOutcome(row.status)) return `run ${run} has ended: ${row.status}`
  if (row.cancel !== null) return `run ${run} is being canceled`
  if (session.state !== 'open' && session.state !== 'paused') return `the session is ${session.state}`
  if (now >= session.expiresAt) return 'the session has expired'
  if (isEnd) return undefined
  const { revision } = await db
    .selectFrom('manual_sessions')
    .select('revision')
    .where('id', '=', jobId(session.key))
    .executeTakeFirstOrThrow()
  return revision >= SESSION_LIMITS.changes
    ? `a session takes at most ${SESSION_LIMITS.changes} changes; it can only be finished now`
    : undefined
}

/** Event, audit and signal of what was just done, and the sentence that is shown from now on. */
async function record(
  tx: Writing,
  key: JobKey,
  before: SessionRow,
  { by, channel }: SessionActor,
  { action, detail, event }: Doing,
): Promise<void> {
  const id = jobId(key)
  const { revision } = await tx.db
    .updateTable('manual_sessions')
    .set((e) => ({ revision: e('revision', '+', 1) }))
    .where('id', '=', id)
    .returning('revision')
    .executeTakeFirstOrThrow()
  const { run, stage, job, attempt } = key
  const now = (await sessionOf(tx.db, key)) ?? before
  const waits: RunEvent[] =
    now.endedAt === undefined
      ? [{ type: 'job.waiting.v1', stage, job, attempt, waitingFor: { kind: 'session', sentence: sentenceOf(now) } }]
      : []
  await appendEvents(tx, run, `${id}/session/${revision}`, [{ ...event, stage, job, attempt } as RunEvent, ...waits])
  await recordAudit(tx, { by, channel, action, on: id, ...(detail === undefined ? {} : { detail }) })
  // The database decides; the workflow is only told to look. That of a session which had ended has nothing to look at.
  if (before.endedAt !== undefined) return
  await tx.put(`session/${id}/${revision}`, { kind: 'signal', workflowId: id, signal: 'granted', args: [] })
}

function sentenceOf(session: SessionRow): string {
  const { state, checklist, answers, paused } = session
  const testers = session.testers.filter((one) => one.until === undefined).map(({ person }) => person)
  return sessionSentence({ state, checklist, answers, testers, ...(paused === undefined ? {} : { paused }) })
}

function itemOf(session: SessionRow, item: number): ManualTest['checklist'][number] {
  const found = session.checklist[item - 1]
  if (found === undefined) throw new Error(`the session ${jobId(session.key)} has no item ${item}`)
  return found
}

function isTesting(session: SessionRow, person: string): boolean {
  return session.testers.some((one) => one.person === person && one.until === undefined)
}

function refusedPaused({ paused }: SessionRow) {
  const why = `the session was paused by ${paused?.by}: ${paused?.reason}; resume it first`
  return { kind: 'refused', why } as const
}

async function join({ db, now }: Writing, key: JobKey, person: string): Promise<void> {
  await db
    .insertInto('manual_testers')
    .values({ session: jobId(key), person, since: now, until: null, handed_to: null })
    .onConflict((conflict) =>
      conflict.columns(['session', 'person']).doUpdateSet({ since: now, until: null, handed_to: null }),
    )
    .execute()
}

async function update({ db }: Writing, key: JobKey, values: Partial<Session>): Promise<void> {
  await db.updateTable('manual_sessions').set(values).where('id', '=', jobId(key)).execute()
}

async function insertAnswer({ db }: Writing, key: JobKey, seq: number, answer: ItemAnswer): Promise<void> {
  const { item, result, by, comment, at, keptFrom } = answer
  await db
    .insertInto('manual_answers')
    .values({
      session: jobId(key),
      seq,
      item,
      result,
      by,
      comment: comment ?? null,
      at,
      kept_from: keptFrom ?? null,
      void_why: null,
    })
    .execute()
}

async function insertEvidence({ db }: Writing, key: JobKey, { id, gone: _gone, ...file }: EvidenceRow): Promise<void> {
  await db
    .insertInto('manual_evidence')
    .values({ session: jobId(key), seq: id, ...file, gone: null })
    .execute()
}

function rowOf(db: Transaction<Schema>, id: string): Promise<Session | undefined> {
  return db.selectFrom('manual_sessions').selectAll().where('id', '=', id).executeTakeFirst()
}

async function sessionOf(db: Transaction<Schema>, key: JobKey): Promise<SessionRow | undefined> {
  return (await readSessions(db, [await rowOf(db, jobId(key))]))[0]
}

/** Sessions of one query: within SQLite's limit of variables. */
const BATCH = 500

async function readSessions(
  db: Transaction<Schema>,
  rows: readonly (Session | undefined)[],
): Promise<readonly SessionRow[]> {
  const sessions = rows.filter((row) => row !== undefined)
  const read: SessionRow[] = []
  for (let from = 0; from < sessions.length; from += BATCH) {
    const batch = sessions.slice(from, from + BATCH)
    const ids = batch.map(({ id }) => id)
    const testers = await db
      .selectFrom('manual_testers')
      .selectAll()
      .where('session', 'in', ids)
      .orderBy('since')
      .orderBy('person')
      .execute()
    const answers = await db
      .selectFrom('manual_answers')
      .selectAll()
      .where('session', 'in', ids)
      .orderBy('seq')
      .execute()
    const evidence = await db
      .selectFrom('manual_evidence')
      .selectAll()
      .where('session', 'in', ids)
      .orderBy('seq')
      .execute()
    const of = <Row extends { session: string }>(all: readonly Row[], id: string) =>
      all.filter((one) => one.session === id)
    for (const row of batch)
      read.push(toSessionRow(row, of(testers, row.id), of(answers, row.id), of(evidence, row.id)))
  }
  return read
}

function toSessionRow(
  row: Session,
  testers: readonly Schema['manual_testers'][],
  answers: readonly Schema['manual_answers'][],
  evidence: readonly Schema['manual_evidence'][],
): SessionRow {
  const { run, stage, job, attempt } = row
  return {
    key: { run, stage, job, attempt },
    by: fromJson<ManualTest['by']>(row.by),
    checklist: fromJson<ManualTest['checklist']>(row.checklist),
    subject: fromJson<SessionSubject>(row.subject),
    units: fromJson<readonly SessionUnit[]>(row.units),
    state: row.state as SessionState,
    openedAt: row.opened_at,
    expiresAt: row.expires_at,
    testers: testers.map(({ person, since, until, handed_to }) => ({
      person,
      since,
      ...(until === null ? {} : { until }),
      ...(handed_to === null ? {} : { handedTo: handed_to }),
    })),
    askedAgain: fromJson<readonly AskedAgain[]>(row.asked_again),
    answers: answers.map(({ item, result, by, comment, at, kept_from, void_why }) => ({
      item,
      result: result as ItemResult,
      by,
      at,
      ...(comment === null ? {} : { comment }),
      ...(kept_from === null ? {} : { keptFrom: kept_from }),
      ...(void_why === null ? {} : { void: void_why }),
    })),
    evidence: evidence.map(({ seq, item, name, digest, size, by, at, gone }) => ({
      id: seq,
      item,
      name,
      digest,
      size,
      by,
      at,
      ...(gone === null ? {} : { gone: fromJson<NonNullable<EvidenceRow['gone']>>(gone) }),
    })),
    ...(row.environment === null ? {} : { environment: row.environment }),
    ...(row.url === null ? {} : { url: row.url }),
    ...(row.paused === null ? {} : { paused: fromJson<NonNullable<SessionRow['paused']>>(row.paused) }),
    ...(row.ended_at === null ? {} : { endedAt: row.ended_at }),
    ...(row.ended_by === null ? {} : { endedBy: row.ended_by }),
  }
}
