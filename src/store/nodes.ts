import type { Database } from './database.ts'
import type { Nodes } from './types.ts'

export function createNodes(database: Database): Nodes {
  return {
    seen: (id, hostname) =>
      database.write(async ({ db, now }) => {
        await db
          .insertInto('nodes')
          .values({ id, hostname, seen_at: now })
          .onConflict((conflict) => conflict.column('id').doUpdateSet({ hostname, seen_at: now }))
          .execute()
      }),
    list: () =>
      database.read(async (db) => {
        const rows = await db.selectFrom('nodes').selectAll().orderBy('id').execute()
        return rows.map((row) => ({ id: row.id, hostname: row.hostname, seenAt: row.seen_at }))
      }),
  }
}
