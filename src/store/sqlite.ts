import { setTimeout as sleep } from 'node:timers/promises'
import type {
  CompiledQuery,
  DatabaseConnection,
  Dialect,
  DialectAdapter,
  Driver,
  Kysely,
  QueryCompiler,
  QueryResult,
  TransactionSettings,
} from 'kysely'
import { SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from 'kysely'
import Database from 'libsql'

/**
 * How long a writer waits for the other processes' writers before it gives up. A disk that is slow to sync makes every
 * commit slow, and who waits is not served in turn: ten seconds were seen to be too short.
 */
const MOST_STATEMENTS = 500
const BUSY_LIMIT_MS = 30_000
/**
 * SQLite itself waits synchronously, which stops this process; so it may only wait this long, and the rest is waited
 * without blocking. A writer in this same process could never finish while we block.
 */
const BUSY_TIMEOUT_MS = 10

/**
 * Kysely on `libsql`: one connection a process, WAL, write transactions that begin immediate (a deferred one fails
 * with SQLITE_BUSY in the middle when it turns from reading to writing), and SQLITE_BUSY waited for.
 */
export function sqliteDialect(path: string): Dialect {
  return {
    createDriver: () => new LibsqlDriver(path),
    createQueryCompiler: (): QueryCompiler => new SqliteQueryCompiler(),
    createAdapter: (): DialectAdapter => new TransactionalDdl(),
    createIntrospector: (db: Kysely<unknown>) => new SqliteIntrospector(db),
  }
}

/** SQLite's DDL is transactional: two processes that migrate at once then wait for each other. */
class TransactionalDdl extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true
  }
}

class LibsqlDriver implements Driver {
  readonly #path: string
  #connection: LibsqlConnection | undefined
  #queue: Promise<void> = Promise.resolve()
  #free: (() => void) | undefined

  constructor(path: string) {
    this.#path = path
  }

  async init(): Promise<void> {
    const connection = new LibsqlConnection(new Database(this.#path))
    // Changing the journal mode needs the file for itself and ignores the busy timeout: the connection retries.
    await connection.exec(`pragma busy_timeout = ${BUSY_TIMEOUT_MS}`)
    await connection.exec('pragma journal_mode = wal')
    // WAL alone survives SIGKILL; FULL also survives power loss. Costs about 0.6 ms a commit on an SSD (NORMAL: 0.06).
    await connection.exec('pragma synchronous = full')
    await connection.exec('pragma foreign_keys = on')
    this.#connection = connection
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    const before = this.#queue
    let free: (() => void) | undefined
    this.#queue = new Promise((resolve) => {
      free = resolve
    })
    await before
    this.#free = free
    if (this.#connection === undefined) throw new Error('the database is closed')
    return this.#connection
  }

  async releaseConnection(): Promise<void> {
    this.#free?.()
  }

  async beginTransaction(_connection: DatabaseConnection, settings: TransactionSettings): Promise<void> {
    await this.#open().exec(settings.accessMode === 'read only' ? 'begin' : 'begin immediate')
  }

  async commitTransaction(): Promise<void> {
    await this.#open().exec('commit')
  }

  async rollbackTransaction(): Promise<void> {
    // Some errors (a full disk) make SQLite roll back by itself.
    if (this.#open().inTransaction) await this.#open().exec('rollback')
  }

  async destroy(): Promise<void> {
    this.#connection?.close()
    this.#connection = undefined
  }

  #open(): LibsqlConnection {
    if (this.#connection === undefined) throw new Error('the database is closed')
    return this.#connection
  }
}

class LibsqlConnection implements DatabaseConnection {
  readonly #db: Database.Database
  readonly #statements = new Map<string, Database.Statement>()

  constructor(db: Database.Database) {
    this.#db = db
  }

  get inTransaction(): boolean {
    return this.#db.inTransaction
  }

  async exec(sql: string): Promise<void> {
    await this.#patiently(() => this.#db.exec(sql))
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    return this.#patiently(() => {
      const statement = this.#prepare(query.sql)
      if (statement.reader) return { rows: statement.all(query.parameters as unknown[]) as R[] }
      const { changes } = statement.run(query.parameters as unknown[])
      return { rows: [], numAffectedRows: BigInt(changes) }
    })
  }

  /** Kysely writes the same few statements again and again; preparing one costs as much as running it. */
  #prepare(sql: string): Database.Statement {
    const known = this.#statements.get(sql)
    if (known !== undefined) return known
    if (this.#statements.size >= MOST_STATEMENTS) this.#statements.clear()
    const statement = this.#db.prepare(sql)
    this.#statements.set(sql, statement)
    return statement
  }

  // biome-ignore lint/correctness/useYield: the interface asks for a generator, and nothing here streams.
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('streaming is not supported')
  }

  close(): void {
    this.#db.close()
  }

  async #patiently<T>(act: () => T): Promise<T> {
    const limit = performance.now() + BUSY_LIMIT_MS
    for (;;) {
      try {
        return act()
      } catch (err) {
        // Within a transaction a repeated statement would see another state: the whole transaction has to fail.
        if (!isBusy(err) || this.#db.inTransaction || performance.now() > limit) throw err
      }
      await sleep(1 + Math.random() * 15)
    }
  }
}

export function isBusy(err: unknown): boolean {
  return err instanceof Error && 'code' in err && typeof err.code === 'string' && err.code.startsWith('SQLITE_BUSY')
}
