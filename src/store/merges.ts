import type { Database, Writing } from './database.ts'
import { nextId, recordAudit } from './database.ts'
import { keepNotice } from './notices.ts'
import type { Schema } from './schema.ts'
import type { MergeRow, MergeState, Merges, NewMerge, TakenMerge } from './types.ts'

type Row = Schema['merges']

export function createMerges(database: Database): Merges {
  /** Of the one who has it now; whoever had it before changes nothing. */
  const change = ({ db }: Writing, { id, claim }: TakenMerge, values: Partial<Row>) =>
    db
      .updateTable('merges')
      .set(values)
      .where('id', '=', id)
      .where('claim', '=', claim)
      .where('done_at', 'is', null)
      .executeTakeFirst()

  return {
    ask: (merge, { wake = false } = {}) =>
      database.write(async (tx) => {
        const known = await tx.db
          .selectFrom('merges')
          .selectAll()
          .where('repo', '=', merge.repo)
          .where('ask_key', '=', merge.key)
          .executeTakeFirst()
        if (known !== undefined) return toMergeRow(known)
        const row = await insert(tx, merge)
        if (wake) await keepNotice(tx, merge.repo, { kind: 'pull_request', number: merge.pullRequest })
        return toMergeRow(row)
      }),

    open: (repo, pullRequest) =>
      database.read(async (db) => {
        const open = db.selectFrom('merges').selectAll().where('done_at', 'is', null).where('repo', '=', repo)
        const rows = pullRequest === undefined ? open : open.where('pull_request', '=', pullRequest)
        return (await rows.orderBy('id').execute()).map(toMergeRow)
      }),

    list: ({ limit, repo }) =>
      database.read(async (db) => {
        const all = db.selectFrom('merges').selectAll().orderBy('id', 'desc').limit(limit)
        return (await (repo === undefined ? all : all.where('repo', '=', repo)).execute()).map(toMergeRow)
      }),

    take: (id, leaseMs) =>
      database.write(async ({ db, now }) => {
        const row = await db
          .selectFrom('merges')
          .selectAll()
          .where('id', '=', id)
          .where('done_at', 'is', null)
          .where('due_at', '<=', now)
          .where('claimed_until', '<=', now)
          .executeTakeFirst()
        if (row === undefined) return undefined
        const [claim, tries] = [row.claim + 1, row.tries + 1]
        await db
          .updateTable('merges')
          .set({ claim, tries, claimed_until: now + leaseMs })
          .where('id', '=', id)
          .execute()
        return { ...toMergeRow(row), claim, tries }
      }),

    told: (taken, text) =>
      database.write(async (tx) => {
        await change(tx, taken, { told: text })
      }),

    end: (taken, state, why) =>
      database.write(async (tx) => {
        const { by, channel, repo, pullRequest, commit } = taken
        if (taken.state !== 'waiting') return
        const { numUpdatedRows } = await change(tx, taken, { state, why, ended_at: tx.now })
        if (numUpdatedRows === 0n || state !== 'merged') return
        const detail = { commit, why }
        await recordAudit(tx, { by, channel, action: 'pull.merge', on: `${repo}/pull/${pullRequest}`, detail })
      }),

    release: (taken, { kind, delayMs }) =>
      database.write(async (tx) => {
        const tries = kind === 'waits' ? 0 : taken.tries
        await change(tx, taken, { claimed_until: 0, due_at: tx.now + delayMs, tries })
      }),

    done: (taken) =>
      database.write(async (tx) => {
        await change(tx, taken, { done_at: tx.now })
      }),
  }
}

async function insert(tx: Writing, merge: NewMerge): Promise<Row> {
  const { key, repo, pullRequest, commit, by, channel } = merge
  const other = await tx.db
    .selectFrom('merges')
    .select('id')
    .where('repo', '=', repo)
    .where('pull_request', '=', pullRequest)
    .where('commit_id', '=', commit)
    .where('state', '=', 'waiting')
    .executeTakeFirst()
  const isFirst = other === undefined
  const row: Row = {
    ...{ id: await nextId(tx.db, 'merges', 'id'), repo, pull_request: pullRequest, commit_id: commit, ask_key: key },
    ...{ by, channel, asked_at: tx.now, state: isFirst ? 'waiting' : 'joined', why: null, told: null },
    ...{ ended_at: isFirst ? null : tx.now, done_at: isFirst ? null : tx.now },
    ...{ due_at: tx.now, tries: 0, claim: 0, claimed_until: 0 },
  }
  await tx.db.insertInto('merges').values(row).execute()
  const detail = { commit, key }
  await recordAudit(tx, { by, channel, action: 'pull.merge_asked', on: `${repo}/pull/${pullRequest}`, detail })
  return row
}

function toMergeRow(row: Row): MergeRow {
  return {
    id: row.id,
    repo: row.repo,
    pullRequest: row.pull_request,
    commit: row.commit_id,
    by: row.by,
    channel: row.channel,
    askedAt: row.asked_at,
    state: row.state as MergeState,
    ...(row.why === null ? {} : { why: row.why }),
    ...(row.ended_at === null ? {} : { endedAt: row.ended_at }),
    ...(row.told === null ? {} : { told: row.told }),
  }
}
