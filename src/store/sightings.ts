import type { Database, Writing } from './database.ts'
import type { PullHead, Sightings } from './types.ts'

/** So that no query has more parameters than SQLite takes. */
const AT_ONCE = 400

export function createSightings(database: Database): Sightings {
  return {
    of: (repo) =>
      database.read(async (db) => {
        const begun = await db.selectFrom('sweeps').select('since').where('repo', '=', repo).executeTakeFirst()
        if (begun === undefined) return undefined
        const rows = await db
          .selectFrom('branches')
          .select(['ref', 'commit_id', 'seen_at'])
          .where('repo', '=', repo)
          .where('ref', 'like', 'refs/heads/%')
          .execute()
        return rows.map(({ ref, commit_id, seen_at }) => ({
          ref,
          seenAt: seen_at,
          ...(commit_id === null ? {} : { commit: commit_id }),
        }))
      }),

    begin: (repo, sights) =>
      database.write(async ({ db, now }) => {
        const { numInsertedOrUpdatedRows: isFirst } = await db
          .insertInto('sweeps')
          .values({ repo, since: now })
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirstOrThrow()
        if (!isFirst) return
        for (const { ref, commit } of sights) {
          await db
            .insertInto('branches')
            .values({ repo, ref, commit_id: commit, seen_at: now, at: null, looked: 1 })
            // What a delivery has told stands.
            .onConflict((conflict) => conflict.doNothing())
            .execute()
        }
      }),

    untold: (repo, pulls) =>
      database.read(async (db) => {
        const untold: PullHead[] = []
        for (let from = 0; from < pulls.length; from += AT_ONCE) {
          const some = pulls.slice(from, from + AT_ONCE)
          const meanings = await db
            .selectFrom('meanings')
            .select('meaning')
            .where('repo', '=', repo)
            .where('meaning', 'in', some.map(meaningOf))
            .execute()
          const seen = await db
            .selectFrom('branches')
            .select(['ref', 'commit_id'])
            .where('repo', '=', repo)
            .where('ref', 'in', some.map(refOf))
            .execute()
          const told = new Set(meanings.map(({ meaning }) => meaning))
          const at = new Map(seen.map(({ ref, commit_id }) => [ref, commit_id]))
          untold.push(...some.filter((pull) => !told.has(meaningOf(pull)) && at.get(refOf(pull)) !== pull.commit))
        }
        return untold
      }),

    sawPull: (repo, pull) => database.write((tx) => see(tx, repo, pull)),
  }
}

async function see({ db, now }: Writing, repo: string, pull: PullHead): Promise<void> {
  const values = { commit_id: pull.commit, seen_at: now, at: null, looked: 1 }
  await db
    .insertInto('branches')
    .values({ repo, ref: refOf(pull), ...values })
    .onConflict((conflict) => conflict.columns(['repo', 'ref']).doUpdateSet(values))
    .execute()
}

function refOf({ number }: PullHead): string {
  return `refs/pull/${number}/head`
}

/** As a delivery of it is known. */
export function meaningOf({ number, commit }: PullHead): string {
  return `pull_request ${number} ${commit}`
}
