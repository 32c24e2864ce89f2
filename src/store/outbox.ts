import type { Database } from './database.ts'
import { fromJson } from './database.ts'
import type { Schema } from './schema.ts'
import type { Outbox, OutboxMessage, OutboxRow } from './types.ts'

export function createOutbox(database: Database): Outbox {
  return {
    put: (key, message) => database.write((tx) => tx.put(key, message)),

    async take(limit, leaseMs) {
      // Most looks find nothing: those take no turn among the writers.
      const now = database.now()
      const due = await database.read((db) =>
        db
          .selectFrom('outbox')
          .select('id')
          .where('done_at', 'is', null)
          .where('due_at', '<=', now)
          .limit(1)
          .executeTakeFirst(),
      )
      if (due === undefined) return []
      return database.write(async ({ db, now }) => {
        const rows = await db
          .selectFrom('outbox')
          .selectAll()
          .where('done_at', 'is', null)
          .where('due_at', '<=', now)
          .orderBy('id')
          .limit(limit)
          .execute()
        if (rows.length > 0) {
          await db
            .updateTable('outbox')
            .set((e) => ({ due_at: now + leaseMs, tries: e('tries', '+', 1) }))
            .where(
              'id',
              'in',
              rows.map((row) => row.id),
            )
            .execute()
        }
        return rows.map((row) => toOutboxRow({ ...row, tries: row.tries + 1 }))
      })
    },

    done: (id) =>
      database.write(async ({ db, now }) => {
        // The row stays: its key must not be put a second time.
        await db.updateTable('outbox').set({ done_at: now }).where('id', '=', id).where('done_at', 'is', null).execute()
      }),

    failed: (id, error, delayMs) =>
      database.write(async ({ db, now }) => {
        await db
          .updateTable('outbox')
          .set({ error, due_at: now + delayMs })
          .where('id', '=', id)
          .where('done_at', 'is', null)
          .execute()
      }),

    pending: () =>
      database.read(async (db) => {
        const rows = await db.selectFrom('outbox').selectAll().where('done_at', 'is', null).orderBy('id').execute()
        return rows.map(toOutboxRow)
      }),

    onPut: (listener) => database.onPut(listener),
  }
}

function toOutboxRow(row: Schema['outbox']): OutboxRow {
  return { id: row.id, message: fromJson<OutboxMessage>(row.message), tries: row.tries, createdAt: row.created_at }
}
