import { sql, type Transaction } from 'kysely'
import type { DesiredState, Rank, Reported } from '../core/report/types.ts'
import { isOlder } from '../core/report/types.ts'
import type { Database } from './database.ts'
import { fromJson } from './database.ts'
import { OPEN_STATUSES } from './events.ts'
import type { Schema } from './schema.ts'
import type { BroughtState, ClaimedState, Reports, StateKey } from './types.ts'

type Row = Schema['forge_states']
type Key = Pick<Row, 'repo' | 'subject' | 'kind' | 'name'>

/** A new state does not wait longer than this for what an earlier one had to wait for. */
const LONGEST_WAIT_MS = 15_000
/**
 * So long a request may still take effect after its answer failed to come, or after its sender was killed: what is sent
 * within that time is sent once more after it. Longer than any sender waits for an answer.
 */
const DOUBT_MS = 20_000

export function createReports(database: Database): Reports {
  return {
    changed: (limit, without = []) =>
      database.read((db) => {
        const changed = db
          .selectFrom('runs')
          .select(['id', 'repo', 'ref', 'number', 'version'])
          .whereRef('version', '>', 'reported')
          .orderBy('number')
          .limit(limit)
        return (without.length > 0 ? changed.where('id', 'not in', without) : changed).execute()
      }),

    record: (run, states) =>
      database.write(async ({ db, now }) => {
        for (const state of states) {
          const rank = { weight: state.weight, run: run.number, version: run.version }
          await desire(db, now, { repo: state.repo ?? run.repo, ...keyOf(state) }, rank, state)
        }
        await db
          .updateTable('runs')
          .set({ reported: run.version })
          .where('id', '=', run.id)
          .where('reported', '<', run.version)
          .execute()
      }),

    async take(limit, claimMs) {
      // Most looks find nothing: those take no turn among the writers.
      const now = database.now()
      const [due] = await database.read((db) => dueStates(db, now, 1))
      if (due === undefined) return []
      return database.write(async ({ db, now }) => {
        const rows = await dueStates(db, now, limit)
        for (const row of rows) {
          // Not given back: whoever had it may have been killed, or stopped, with a request on its way.
          if (row.claimed_until !== 0) row.doubt_until = now + DOUBT_MS
          row.claim += 1
          row.tries += 1
          await change(db, row, {
            claim: row.claim,
            tries: row.tries,
            claimed_until: now + claimMs,
            doubt_until: row.doubt_until,
          })
        }
        return rows.map((row) => toClaimed(row, now))
      })
    },

    sent: (claimed, remote) =>
      database.write(async ({ db, now }) => {
        const row = await find(db, claimed.key)
        if (row === undefined) return
        const known = remote !== undefined && row.identity === claimed.identity ? { remote } : {}
        if (row.claim !== claimed.claim) {
          // Another has sent meanwhile, and nobody knows whose request came last: the newest goes out again.
          await change(db, row, { ...known, ...again(row, now), sent_revision: 0 })
          return
        }
        const isCertain = claimed.takenAt >= row.doubt_until
        await change(db, row, {
          ...known,
          claimed_until: 0,
          tries: 0,
          error: null,
          ...(isCertain
            ? { sent_revision: claimed.revision, due_at: now }
            : { due_at: row.revision > claimed.revision ? now : row.doubt_until }),
        })
      }),

    failed: (claimed, { error, delayMs, isDoubtful, givesUp = false }) =>
      database.write(async ({ db, now }) => {
        const row = await find(db, claimed.key)
        if (row === undefined) return
        if (row.claim !== claimed.claim) {
          if (isDoubtful) await change(db, row, { ...again(row, now), sent_revision: 0 })
          return
        }
        await change(db, row, {
          error,
          claimed_until: 0,
          due_at: now + delayMs,
          ...(isDoubtful ? { doubt_until: now + DOUBT_MS } : {}),
          ...(givesUp ? { sent_revision: claimed.revision, tries: 0 } : {}),
        })
      }),

    pause: (repo, ms) =>
      database.write(async ({ db, now }) => {
        const until = now + ms
        await db
          .insertInto('forge_pauses')
          .values({ repo, until })
          .onConflict((conflict) =>
            conflict.column('repo').doUpdateSet({ until }).where('forge_pauses.until', '<', until),
          )
          .execute()
      }),

    unsent: () =>
      database.read(async (db) => {
        const rows = await unsentStates(db).orderBy('due_at').execute()
        return rows.map((row) => ({
          repo: row.repo,
          ...toState(row),
          tries: row.tries,
          ...(row.error === null ? {} : { error: row.error }),
        }))
      }),

    brought: (repo, { endedSince, after, commits }) =>
      database.read(async (db) => {
        const brought = db
          .selectFrom('forge_states as state')
          .innerJoin('runs', 'runs.number', 'state.run_number')
          .where('state.repo', '=', repo)
          .where('kind', 'in', ['status', 'deployment'])
          .whereRef('sent_revision', '=', 'revision')
          // What was given up has its error.
          .where('error', 'is', null)
          .where('claimed_until', '=', 0)
          .where((e) => e.or([e('status', 'in', OPEN_STATUSES), e('finished_at', '>=', endedSince)]))
          // A success for a deployment makes the forge call all earlier ones of the environment inactive.
          .where(({ not, exists, selectFrom }) =>
            not(
              exists(
                selectFrom('forge_states as later')
                  .select(sql`1`.as('one'))
                  .where('state.kind', '=', 'deployment')
                  .where('later.kind', '=', 'deployment')
                  .whereRef('later.repo', '=', 'state.repo')
                  .whereRef('later.name', '=', 'state.name')
                  .whereRef('later.run_number', '>', 'state.run_number'),
              ),
            ),
          )
        const subjects = await brought
          .select('subject')
          .distinct()
          .where('subject', '>', after)
          .orderBy('subject')
          .limit(commits)
          .execute()
        if (subjects.length === 0) return []
        const named = subjects.map(({ subject }) => subject)
        const rows = await brought
          .selectAll('state')
          .where('subject', 'in', named)
          .orderBy('subject')
          .orderBy('kind')
          .orderBy('name')
          .execute()
        return rows.map(toBrought)
      }),

    sendAgain: ({ key, revision, claim }) =>
      database.write(async ({ db, now }) => {
        const row = await find(db, key)
        const isAsSeen = row?.revision === revision && row.claim === claim
        if (!isAsSeen || row.sent_revision !== revision || row.claimed_until !== 0) return false
        await change(db, row, { sent_revision: 0, due_at: now, wanted_at: now })
        return true
      }),

    forget: (repo, endedBefore, limit) =>
      database.write(async ({ db }) => {
        const old = await db
          .selectFrom('forge_states')
          .innerJoin('runs', 'runs.number', 'forge_states.run_number')
          .select(['forge_states.repo', 'subject', 'kind', 'name'])
          .where('forge_states.repo', '=', repo)
          .where('claimed_until', '=', 0)
          .where('status', 'not in', OPEN_STATUSES)
          .where('finished_at', '<', endedBefore)
          // What it has come to has been worked out, and would not come here again.
          .whereRef('reported', '>=', 'runs.version')
          .limit(limit)
          .execute()
        for (const key of old) await remove(db, key)
        return old.length
      }),
  }
}

function keyOf({ subject, kind, name }: DesiredState) {
  return { subject, kind, name }
}

/** Makes it the state to show, unless a state of higher rank is there. The same content again is no new revision. */
async function desire(
  db: Transaction<Schema>,
  now: number,
  key: Key,
  rank: Rank,
  { kind, content }: Reported,
): Promise<void> {
  const text = JSON.stringify({ kind, content })
  const identity = 'identity' in content ? content.identity : ''
  const row = await find(db, key)
  if (row === undefined) {
    await db
      .insertInto('forge_states')
      .values({
        ...key,
        weight: rank.weight,
        run_number: rank.run,
        version: rank.version,
        identity,
        content: text,
        revision: 1,
        wanted_at: now,
        sent_revision: 0,
        due_at: now,
        tries: 0,
        claim: 0,
        claimed_until: 0,
        doubt_until: 0,
        remote: null,
        error: null,
      })
      .execute()
    return
  }
  if (isOlder(rank, { weight: row.weight, run: row.run_number, version: row.version })) return
  const ranked = { weight: rank.weight, run_number: rank.run, version: rank.version }
  if (row.content === text) return change(db, row, ranked)
  await change(db, row, {
    ...ranked,
    identity,
    content: text,
    revision: row.revision + 1,
    wanted_at: now,
    due_at: row.tries > 0 ? Math.min(row.due_at, now + LONGEST_WAIT_MS) : now,
    ...(row.identity === identity ? {} : { remote: null }),
  })
}

function again(row: Row, now: number) {
  const doubt_until = Math.max(row.doubt_until, now + DOUBT_MS)
  return { doubt_until, due_at: Math.min(row.due_at, now) }
}

function unsentStates(db: Transaction<Schema>) {
  return db.selectFrom('forge_states').selectAll().whereRef('sent_revision', '<', 'revision')
}

function dueStates(db: Transaction<Schema>, now: number, limit: number): Promise<Row[]> {
  return unsentStates(db)
    .where('due_at', '<=', now)
    .where('claimed_until', '<=', now)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('forge_pauses')
            .select(sql`1`.as('one'))
            .whereRef('forge_pauses.repo', '=', 'forge_states.repo')
            .where('until', '>', now),
        ),
      ),
    )
    .orderBy('due_at')
    .limit(limit)
    .execute()
}

function find(db: Transaction<Schema>, key: Key): Promise<Row | undefined> {
  return db
    .selectFrom('forge_states')
    .selectAll()
    .where('repo', '=', key.repo)
    .where('subject', '=', key.subject)
    .where('kind', '=', key.kind)
    .where('name', '=', key.name)
    .executeTakeFirst()
}

async function change(db: Transaction<Schema>, key: Key, values: Partial<Row>): Promise<void> {
  await db
    .updateTable('forge_states')
    .set(values)
    .where('repo', '=', key.repo)
    .where('subject', '=', key.subject)
    .where('kind', '=', key.kind)
    .where('name', '=', key.name)
    .execute()
}

async function remove(db: Transaction<Schema>, key: Key): Promise<void> {
  await db
    .deleteFrom('forge_states')
    .where('repo', '=', key.repo)
    .where('subject', '=', key.subject)
    .where('kind', '=', key.kind)
    .where('name', '=', key.name)
    .execute()
}

function toState(row: Row): DesiredState {
  const { subject, name, weight } = row
  return { ...fromJson<Reported>(row.content), subject, name, weight }
}

function toKey({ repo, subject, kind, name }: Row): StateKey {
  return { repo, subject, kind: kind as Reported['kind'], name }
}

function toBrought(row: Row): BroughtState {
  return {
    key: toKey(row),
    reported: fromJson<Reported>(row.content),
    revision: row.revision,
    claim: row.claim,
    run: row.run_number,
    ...(row.remote === null ? {} : { remote: row.remote }),
  }
}

function toClaimed(row: Row, takenAt: number): ClaimedState {
  const { identity, revision, claim, tries } = row
  return {
    key: toKey(row),
    reported: fromJson<Reported>(row.content),
    identity,
    revision,
    claim,
    tries,
    wantedAt: row.wanted_at,
    takenAt,
    ...(row.remote === null ? {} : { known: row.remote }),
  }
}
