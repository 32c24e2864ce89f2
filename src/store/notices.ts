import type { Transaction } from 'kysely'
import type { Notice } from '../core/notice.ts'
import type { Database, Writing } from './database.ts'
import { fromJson, nextId } from './database.ts'
import type { Schema } from './schema.ts'
import type { NoticeRow, Notices } from './types.ts'

export function createNotices(database: Database): Notices {
  return {
    async take(limit, leaseMs, except = []) {
      // Most looks find nothing: those take no turn among the writers.
      const now = database.now()
      const [due] = await database.read((db) => dueNotices(db, now, 1, except))
      if (due === undefined) return []
      return database.write(async ({ db, now }) => {
        const rows = await dueNotices(db, now, limit, except)
        for (const row of rows) {
          row.tries += 1
          await db
            .updateTable('notices')
            .set({ due_at: now + leaseMs, tries: row.tries })
            .where('id', '=', row.id)
            .execute()
        }
        return rows.map(toNoticeRow)
      })
    },

    done: (id, outcome) =>
      database.write(async ({ db, now }) => {
        await db
          .updateTable('notices')
          .set({ done_at: now, outcome })
          .where('id', '=', id)
          .where('done_at', 'is', null)
          .execute()
      }),

    failed: (id, error, delayMs) =>
      database.write(async ({ db, now }) => {
        await db
          .updateTable('notices')
          .set({ error, due_at: now + delayMs })
          .where('id', '=', id)
          .where('done_at', 'is', null)
          .execute()
      }),

    pending: () =>
      database.read(async (db) => {
        const rows = await db.selectFrom('notices').selectAll().where('done_at', 'is', null).orderBy('id').execute()
        return rows.map(toNoticeRow)
      }),
  }
}

/** Returns its id. */
export async function keepNotice({ db, now }: Writing, repo: string, notice: Notice): Promise<number> {
  const id = await nextId(db, 'notices', 'id')
  await db
    .insertInto('notices')
    .values({
      id,
      repo,
      notice: JSON.stringify(notice),
      received_at: now,
      due_at: now,
      tries: 0,
      done_at: null,
      outcome: null,
      error: null,
    })
    .execute()
  return id
}

function dueNotices(db: Transaction<Schema>, now: number, limit: number, except: readonly string[]) {
  const due = db.selectFrom('notices').selectAll().where('done_at', 'is', null).where('due_at', '<=', now)
  const others = except.length === 0 ? due : due.where('repo', 'not in', except)
  return others.orderBy('id').limit(limit).execute()
}

function toNoticeRow(row: Schema['notices']): NoticeRow {
  const { id, repo, tries } = row
  return { id, repo, notice: fromJson<Notice>(row.notice), tries, receivedAt: row.received_at }
}
