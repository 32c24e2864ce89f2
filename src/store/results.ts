import type { Database } from './database.ts'
import { fromJson } from './database.ts'
import { deliverablesOf } from './runs.ts'
import type { Results, TestCase } from './types.ts'

/** Rows of one insert: six values each, within the limits of both databases. */
const BATCH = 500

export function createResults(database: Database): Results {
  return {
    put: (job, cases) =>
      database.write(async ({ db }) => {
        const { run, stage, attempt } = job
        await db
          .deleteFrom('results')
          .where('run', '=', run)
          .where('stage', '=', stage)
          .where('job', '=', job.job)
          .where('attempt', '=', attempt)
          .execute()
        const rows = cases.map((one, idx) => ({
          run,
          stage,
          job: job.job,
          attempt,
          idx,
          test_case: JSON.stringify(one),
        }))
        for (let from = 0; from < rows.length; from += BATCH) {
          await db
            .insertInto('results')
            .values(rows.slice(from, from + BATCH))
            .execute()
        }
      }),

    ofRun: (run) =>
      database.read(async (db) => {
        const rows = await db
          .selectFrom('results')
          .selectAll()
          .where('run', '=', run)
          .orderBy('stage')
          .orderBy('job')
          .orderBy('attempt')
          .orderBy('idx')
          .execute()
        return rows.map((row) => ({
          ...fromJson<TestCase>(row.test_case),
          stage: row.stage,
          job: row.job,
          attempt: row.attempt,
        }))
      }),

    deliverables: (run) => database.read((db) => deliverablesOf(db, run)),
  }
}
