import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Kysely, sql } from 'kysely'
import { afterAll, afterEach, beforeEach, describe } from 'vitest'
import type { Admitted } from '../../src/core/admission.ts'
import type { Trigger } from '../../src/core/change.ts'
import { openStore } from '../../src/store/open-store.ts'
import { postgresDialect } from '../../src/store/postgres.ts'
import { sqliteDialect } from '../../src/store/sqlite.ts'
import type { NewDelivery, RunRow, Store } from '../../src/store/types.ts'
import { startPostgres } from '../helpers/postgres.ts'

export interface Lab {
  readonly store: Store
  readonly url: string
  /** The store's time: the tests move it. */
  readonly clock: { now: number }
  /** Another store on the same database, as another process has it. */
  another(): Promise<Store>
}

/** The same suite on every database; each test has a new one. */
export async function onEveryDatabase(suite: (lab: () => Lab) => void): Promise<void> {
  describe('on SQLite', () => {
    suite(
      useLab(async () => {
        const dir = await mkdtemp(join(tmpdir(), 'penstock-store-'))
        return { url: `sqlite:${join(dir, 'penstock.db')}`, remove: () => rm(dir, { recursive: true }) }
      }),
    )
  })

  const postgres = await startPostgres()
  if (typeof postgres === 'string') {
    describe.skip(`on PostgreSQL: ${postgres}`, () => suite(useLab(() => Promise.reject(new Error(postgres)))))
    return
  }
  describe('on PostgreSQL', () => {
    afterAll(() => postgres.stop())
    suite(useLab(async () => ({ url: await postgres.createDatabase(), remove: async () => {} })))
  })
}

function useLab(create: () => Promise<{ readonly url: string; remove(): Promise<void> }>): () => Lab {
  let lab: Lab | undefined
  let leave = async () => {}
  beforeEach(async () => {
    const { url, remove } = await create()
    const clock = { now: 1_800_000_000_000 }
    const stores: Store[] = []
    const open = async () => {
      const store = await openStore({ url, clock: () => clock.now })
      stores.push(store)
      return store
    }
    lab = { store: await open(), url, clock, another: open }
    leave = async () => {
      for (const store of stores) await store.close()
      await remove()
    }
  })
  afterEach(() => leave())
  return () => {
    if (lab === undefined) throw new Error('only within a test')
    return lab
  }
}

export const commit = (digit: string) => digit.repeat(40)

let deliveries = 0

export function delivery(over: Partial<NewDelivery> = {}): NewDelivery {
  deliveries += 1
  return { source: 'github', id: `delivery-${deliveries}`, bodyDigest: 'b0d1', event: 'push', ...over }
}

export function push(after: string, before?: string, ref = 'refs/heads/master'): Trigger {
  const change = { commit: commit(after), ref, ...(before === undefined ? {} : { before: commit(before) }) }
  return { kind: 'push', repo: 'acme/web', change, requestedBy: 'github' }
}

/** A run for a commit that nothing else has pushed. */
export async function newRun(store: Store, trigger: Trigger = push('a'), admission?: Admitted): Promise<RunRow> {
  const recorded = await store.deliveries.record(delivery(), trigger, admission)
  if (recorded.kind !== 'run') throw new Error(`expected a run, got ${JSON.stringify(recorded)}`)
  return recorded.run
}

/** What somebody does who reaches the database beside us. */
export async function execute(url: string, statement: string): Promise<void> {
  const dialect = url.startsWith('sqlite:')
    ? sqliteDialect(url.slice('sqlite:'.length))
    : postgresDialect(url, () => {})
  const db = new Kysely<unknown>({ dialect })
  try {
    await sql.raw(statement).execute(db)
  } finally {
    await db.destroy()
  }
}
