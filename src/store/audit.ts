import { type ExpressionBuilder, sql } from 'kysely'
import type { Database } from './database.ts'
import { fromJson, recordAudit } from './database.ts'
import type { Schema } from './schema.ts'
import type { Audit, AuditRow } from './types.ts'

export function createAudit(database: Database): Audit {
  return {
    record: (entry) => database.write((tx) => recordAudit(tx, entry)),
    list: (query) =>
      database.read(async (db) => {
        const { run, from, until, upTo } = query
        let select = db
          .selectFrom('audit')
          .selectAll()
          .where('id', '>', query.after ?? 0)
        if (upTo !== undefined) select = select.where('id', '<=', upTo)
        if (from !== undefined) select = select.where('at', '>=', from)
        if (until !== undefined) select = select.where('at', '<', until)
        if (run !== undefined) select = select.where((e) => isAbout(e, run))
        return (await select.orderBy('id').limit(query.limit).execute()).map(toAuditRow)
      }),
    last: () =>
      database.read(async (db) => {
        const { last } = await db
          .selectFrom('audit')
          .select((e) => e.fn.max('id').as('last'))
          .executeTakeFirstOrThrow()
        return Number(last ?? 0)
      }),
  }
}

/** The run itself, or anything of it: `acme/web#42/signoff/1`. */
function isAbout(e: ExpressionBuilder<Schema, 'audit'>, run: string) {
  const within = `${run}/`
  return e.or([e('on', '=', run), e(sql<string>`substr(${e.ref('on')}, 1, ${sql.lit(within.length)})`, '=', within)])
}

function toAuditRow({ detail, ...row }: Schema['audit']): AuditRow {
  return detail === null ? row : { ...row, detail: fromJson<unknown>(detail) }
}
