import { setTimeout as sleep } from 'node:timers/promises'
import type { Transaction } from 'kysely'
import { Kysely, Migrator, sql } from 'kysely'
import { isRolledBack, postgresDialect } from './postgres.ts'
import type { Schema } from './schema.ts'
import { MIGRATIONS } from './schema.ts'
import { isBusy, sqliteDialect } from './sqlite.ts'
import type { OutboxMessage } from './types.ts'

export interface StoreLog {
  warn(fields: Record<string, unknown>, message: string): void
}

/** One write transaction: all of it happens, or nothing. */
export interface Writing {
  readonly db: Transaction<Schema>
  readonly now: number
  /** Into the outbox, once by key. */
  put(key: string, message: OutboxMessage): Promise<void>
}

export interface Database {
  read<T>(query: (db: Transaction<Schema>) => Promise<T>): Promise<T>
  write<T>(act: (tx: Writing) => Promise<T>): Promise<T>
  onPut(listener: () => void): void
  now(): number
  readonly log: StoreLog | undefined
  close(): Promise<void>
}

export interface DatabaseOptions {
  /** `sqlite:/path/file.db` or `postgres://…` */
  readonly url: string
  readonly clock: () => number
  readonly log?: StoreLog | undefined
}

/** Any number will do, as long as every Penstock process takes the same. */
const WRITERS_LOCK = 7_201_944_031
const MIGRATION_LIMIT_MS = 30_000
const ROLLBACK_RETRIES = 5

/** Bounds how long one transaction keeps the other processes waiting. */
const MOST_TOGETHER = 20

interface Waiting {
  /** Does it, and gives what tells the one who asked; called again if the first time was taken back. */
  readonly prepare: (tx: Writing) => Promise<() => void>
  readonly reject: (err: unknown) => void
}

export async function openDatabase(options: DatabaseOptions): Promise<Database> {
  const { clock, log } = options
  const { dialect, postgres } = dialectOf(options.url, log)
  const kysely = new Kysely<Schema>({ dialect })
  const listeners: (() => void)[] = []
  try {
    await migrate(kysely)
  } catch (err) {
    await kysely.destroy()
    throw err
  }

  const waiting: Waiting[] = []
  let isDraining = false

  /** In the order asked for. What is asked for at the same moment shares one commit, which is what a write costs. */
  function inTurn<T>(act: (tx: Writing) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      waiting.push({
        prepare: async (tx) => {
          const result = await act(tx)
          return () => resolve(result)
        },
        reject,
      })
      void drain()
    })
  }

  /** Every failure goes to the one who asked, so it throws nothing itself. */
  async function drain(): Promise<void> {
    if (isDraining) return
    isDraining = true
    while (waiting.length > 0) {
      // SQLite works without ever giving way: what has arrived meanwhile is heard here.
      await new Promise(setImmediate)
      const batch = waiting.splice(0, MOST_TOGETHER)
      if (batch.length > 1 && (await together(batch))) continue
      for (const one of batch) {
        try {
          const settle = await once(one.prepare)
          settle()
        } catch (err) {
          one.reject(err)
        }
      }
    }
    isDraining = false
  }

  /** `false`: nothing of it happened. One that fails takes nothing of the others with it. */
  async function together(batch: readonly Waiting[]): Promise<boolean> {
    try {
      const settles = await once(async (tx) => {
        const each: (() => void)[] = []
        for (const one of batch) {
          await sql`savepoint one`.execute(tx.db)
          try {
            each.push(await one.prepare(tx))
          } catch (err) {
            await sql`rollback to one`.execute(tx.db)
            each.push(() => one.reject(err))
          }
          await sql`release one`.execute(tx.db)
        }
        return each
      })
      for (const settle of settles) settle()
      return true
    } catch (err) {
      log?.warn({ err, count: batch.length }, 'writes that were to share a transaction are made one by one')
      return false
    }
  }

  async function once<T>(act: (tx: Writing) => Promise<T>): Promise<T> {
    let filled = false
    const result = await kysely.transaction().execute(async (db) => {
      // Writers take turns, as they do in SQLite: numbers then have no gaps, and events become visible to readers in
      // the order of their positions. Held until the commit.
      if (postgres) await sql`select pg_advisory_xact_lock(${sql.lit(WRITERS_LOCK)})`.execute(db)
      const now = clock()
      return act({
        db,
        now,
        async put(key, message) {
          const put = await putMessage(db, now, key, message)
          filled ||= put
        },
      })
    })
    // After the commit: a dispatcher that looks earlier would find nothing.
    if (filled) for (const listener of listeners) listener()
    return result
  }

  return {
    now: clock,
    log,
    async read(query) {
      const transaction = kysely.transaction().setAccessMode('read only')
      return (postgres ? transaction.setIsolationLevel('repeatable read') : transaction).execute(query)
    },
    async write(act) {
      if (!postgres) return inTurn(act)
      for (let retry = 1; ; retry++) {
        try {
          return await once(act)
        } catch (err) {
          if (!isRolledBack(err) || retry > ROLLBACK_RETRIES) throw err
          log?.warn({ err, retry }, 'the database rolled a transaction back; it is run again')
          await sleep(Math.random() * 20 * retry)
        }
      }
    },
    onPut(listener) {
      listeners.push(listener)
    },
    close: () => kysely.destroy(),
  }
}

function dialectOf(url: string, log: StoreLog | undefined) {
  if (url.startsWith('sqlite:') && url.length > 'sqlite:'.length) {
    return { dialect: sqliteDialect(url.slice('sqlite:'.length)), postgres: false }
  }
  if (/^postgres(ql)?:\/\//.test(url)) {
    const onIdleError = (err: Error) => log?.warn({ err }, 'an idle database connection was lost')
    return { dialect: postgresDialect(url, onIdleError), postgres: true }
  }
  // The url may carry a password: it is not repeated.
  throw new Error('the database url must be `sqlite:/path/to/file.db` or `postgres://user@host/name`')
}

async function migrate(kysely: Kysely<Schema>): Promise<void> {
  const migrator = new Migrator({ db: kysely, provider: { getMigrations: async () => ({ ...MIGRATIONS }) } })
  const limit = performance.now() + MIGRATION_LIMIT_MS
  for (;;) {
    const { error } = await migrator.migrateToLatest()
    if (error === undefined) return
    // Another process migrates at this moment.
    if (!(isBusy(error) || isRolledBack(error)) || performance.now() > limit) {
      throw new Error('the database could not be brought to the current schema', { cause: error })
    }
    await sleep(5 + Math.random() * 30)
  }
}

/** `false`: the key was there already. */
async function putMessage(db: Transaction<Schema>, now: number, key: string, message: OutboxMessage): Promise<boolean> {
  const known = await db.selectFrom('outbox').select('id').where('message_key', '=', key).executeTakeFirst()
  if (known !== undefined) return false
  await db
    .insertInto('outbox')
    .values({
      id: await nextId(db, 'outbox', 'id'),
      message_key: key,
      message: JSON.stringify(message),
      tries: 0,
      created_at: now,
      due_at: now,
      done_at: null,
      error: null,
    })
    .execute()
  return true
}

/** The next number without a gap; only within a write transaction, and only for rows that are never deleted. */
export async function nextId(
  db: Transaction<Schema>,
  table: 'outbox' | 'audit' | 'holds' | 'deployments' | 'notices' | 'merges',
  column: 'id',
): Promise<number> {
  const { last } = await db
    .selectFrom(table)
    .select((e) => e.fn.max(column).as('last'))
    .executeTakeFirstOrThrow()
  return Number(last ?? 0) + 1
}

export async function recordAudit(
  tx: Writing,
  entry: { by: string; channel: string; action: string; on: string; detail?: unknown },
): Promise<void> {
  await tx.db
    .insertInto('audit')
    .values({
      id: await nextId(tx.db, 'audit', 'id'),
      at: tx.now,
      by: entry.by,
      channel: entry.channel,
      action: entry.action,
      on: entry.on,
      detail: entry.detail === undefined ? null : JSON.stringify(entry.detail),
    })
    .execute()
}

/** A JSON column back to what was written: the store is its only writer. */
export function fromJson<T>(text: string): T {
  return JSON.parse(text) as T
}
