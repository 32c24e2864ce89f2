import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Kysely, Migrator, sql } from 'kysely'
import { expect, test } from 'vitest'
import { openStore } from '../../src/store/open-store.ts'
import { MIGRATIONS } from '../../src/store/schema.ts'
import { sqliteDialect } from '../../src/store/sqlite.ts'

test('a database from before forges were told keeps its runs, and none of the old ones is told now', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'penstock-migration-'))
  const path = join(dir, 'penstock.db')
  const old = new Kysely<unknown>({ dialect: sqliteDialect(path) })
  const { '001_start': first } = MIGRATIONS
  if (first === undefined) throw new Error('the first migration is gone')
  await new Migrator({ db: old, provider: { getMigrations: async () => ({ '001_start': first }) } }).migrateToLatest()
  const trigger = JSON.stringify({
    kind: 'push',
    repo: 'acme/web',
    change: { commit: 'c', ref: 'r' },
    requestedBy: 'a',
  })
  await sql`insert into runs (number, id, repo, ref, commit_id, trigger, status, try, created_at)
    values (1, 'acme/web#1', 'acme/web', 'r', 'c', ${trigger}, 'succeeded', 1, 0)`.execute(old)
  await sql`insert into meanings (repo, meaning, run_number) values ('acme/web', 'push r - c', 1)`.execute(old)
  await sql`insert into branches (repo, ref, commit_id, seen_at) values ('acme/web', 'r', 'c', 0)`.execute(old)
  await old.destroy()

  const store = await openStore({ url: `sqlite:${path}` })

  try {
    expect(await store.runs.byNumber(1)).toMatchObject({ id: 'acme/web#1', status: 'succeeded', secrets: 'repository' })
    expect(await store.reports.changed(9)).toEqual([])
    const again = await store.deliveries.record(
      { source: 'git', id: 'again', bodyDigest: 'x', event: 'push' },
      { kind: 'push', repo: 'acme/web', change: { commit: 'c', ref: 'r', before: 'b' }, requestedBy: 'a' },
    )
    expect(again).toMatchObject({ kind: 'duplicate', by: 'meaning', run: { number: 1 } })
  } finally {
    await store.close()
    await rm(dir, { recursive: true })
  }
})
