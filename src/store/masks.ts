import type { Database } from './database.ts'
import type { Masks } from './types.ts'

export function createMasks(database: Database): Masks {
  return {
    keep: ({ job, run, version, sealed }) =>
      database.write(async ({ db }) => {
        await db
          .insertInto('masks')
          .values({ job, run, version, sealed })
          .onConflict((conflict) => conflict.columns(['job', 'version']).doNothing())
          .execute()
      }),

    of: (job) =>
      database.read(async (db) => {
        const rows = await db.selectFrom('masks').select('sealed').where('job', '=', job).orderBy('version').execute()
        return rows.map(({ sealed }) => sealed)
      }),

    runs: () =>
      database.read(async (db) => {
        const rows = await db.selectFrom('masks').select('run').distinct().orderBy('run').execute()
        return rows.map(({ run }) => run)
      }),

    forget: (run) =>
      database.write(async ({ db }) => {
        await db.deleteFrom('masks').where('run', '=', run).execute()
      }),
  }
}
