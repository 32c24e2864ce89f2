import type { Transaction } from 'kysely'
import type { Database } from './database.ts'
import type { Schema } from './schema.ts'
import type { BallotRow, PromotionRow, Promotions } from './types.ts'

export function createPromotions(database: Database): Promotions {
  return {
    begin: (input) =>
      database.write(async ({ db, now }) => {
        await db
          .insertInto('promotions')
          .values({ ...input, pull: null, written: null, revision: 1, begun_at: now, ended_at: null })
          .onConflict((conflict) =>
            conflict
              .column('gate')
              .doUpdateSet((e) => ({ revision: e('promotions.revision', '+', 1), ended_at: null })),
          )
          .execute()
        const row = await db
          .selectFrom('promotions')
          .selectAll()
          .where('gate', '=', input.gate)
          .executeTakeFirstOrThrow()
        return toPromotionRow(row)
      }),

    wrote: (gate, pull, written) =>
      database.write(async ({ db }) => {
        await db.updateTable('promotions').set({ pull, written }).where('gate', '=', gate).execute()
      }),

    end: ({ gate, revision }) =>
      database.write(async ({ db, now }) => {
        await db
          .updateTable('promotions')
          .set({ ended_at: now })
          .where('gate', '=', gate)
          .where('revision', '=', revision)
          .execute()
      }),

    unended: (repo) =>
      database.read(async (db) => {
        const rows = await db
          .selectFrom('promotions')
          .selectAll()
          .where('repo', '=', repo)
          .where('ended_at', 'is', null)
          .orderBy('begun_at')
          .orderBy('gate')
          .execute()
        return rows.map(toPromotionRow)
      }),

    ofPull: (repo, pull) =>
      database.read(async (db) => {
        const row = await db
          .selectFrom('promotions')
          .selectAll()
          .where('repo', '=', repo)
          .where('pull', '=', pull)
          .orderBy('begun_at', 'desc')
          .limit(1)
          .executeTakeFirst()
        return row && toPromotionRow(row)
      }),

    ballot: (repo, key) => database.read((db) => ballotOf(db, repo, key)),

    judged: (repo, key, gate, why) =>
      database.write(async ({ db, now }) => {
        await db
          .insertInto('ballots')
          .values({ repo, key, gate, why: why ?? null, at: now, done_at: null })
          .onConflict((conflict) => conflict.columns(['repo', 'key']).doNothing())
          .execute()
        return (await ballotOf(db, repo, key)) ?? { gate, done: false }
      }),

    settled: (repo, key) =>
      database.write(async ({ db, now }) => {
        await db.updateTable('ballots').set({ done_at: now }).where('repo', '=', repo).where('key', '=', key).execute()
      }),

    hold: (repo, branch, holder, ms) =>
      database.write(async ({ db, now }) => {
        const held = await db
          .selectFrom('branch_holds')
          .selectAll()
          .where('repo', '=', repo)
          .where('branch', '=', branch)
          .executeTakeFirst()
        if (held !== undefined && held.holder !== holder && held.until > now) return held.holder
        await db
          .insertInto('branch_holds')
          .values({ repo, branch, holder, until: now + ms })
          .onConflict((conflict) => conflict.columns(['repo', 'branch']).doUpdateSet({ holder, until: now + ms }))
          .execute()
        return undefined
      }),

    release: (repo, branch, holder) =>
      database.write(async ({ db }) => {
        await db
          .deleteFrom('branch_holds')
          .where('repo', '=', repo)
          .where('branch', '=', branch)
          .where('holder', '=', holder)
          .execute()
      }),
  }
}

async function ballotOf(db: Transaction<Schema>, repo: string, key: string): Promise<BallotRow | undefined> {
  const row = await db
    .selectFrom('ballots')
    .selectAll()
    .where('repo', '=', repo)
    .where('key', '=', key)
    .executeTakeFirst()
  if (row === undefined) return undefined
  return { gate: row.gate, done: row.done_at !== null, ...(row.why === null ? {} : { why: row.why }) }
}

function toPromotionRow({ gate, repo, branch, base, pull, written, revision }: Schema['promotions']): PromotionRow {
  return {
    ...{ gate, repo, branch, base, revision },
    ...(pull === null ? {} : { pull }),
    ...(written === null ? {} : { written }),
  }
}
