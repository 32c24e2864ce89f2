import type { Database } from './database.ts'
import { fromJson, recordAudit } from './database.ts'
import type { Audit } from './types.ts'

export function createAudit(database: Database): Audit {
  return {
    record: (entry) => database.write((tx) => recordAudit(tx, entry)),
    list: (query) =>
      database.read(async (db) => {
        const rows = await db
          .selectFrom('audit')
          .selectAll()
          .where('id', '>', query.after ?? 0)
          .orderBy('id')
          .limit(query.limit)
          .execute()
        return rows.map(({ detail, ...row }) => (detail === null ? row : { ...row, detail: fromJson<unknown>(detail) }))
      }),
  }
}
