import type { Dialect } from 'kysely'
import { PostgresDialect } from 'kysely'
import pg from 'pg'

/** Connections of one process: writers take turns anyway, so these are for readers. */
const POOL_SIZE = 8
const INT8 = 20
const NUMERIC = 1700

export function postgresDialect(url: string, onIdleError: (err: Error) => void): Dialect {
  const pool = new pg.Pool({
    connectionString: url,
    max: POOL_SIZE,
    // Times and counters stay far below 2^53; `count(*)` and `bigint` come as text by default.
    types: {
      getTypeParser: (oid: number, format?: 'text' | 'binary') =>
        (oid === INT8 || oid === NUMERIC) && format !== 'binary'
          ? Number
          : pg.types.getTypeParser(oid, format as 'text'),
    } as pg.CustomTypesConfig,
  })
  // Without a listener the loss of an idle connection would end the process; the next query opens a new one.
  pool.on('error', onIdleError)
  return new PostgresDialect({ pool })
}

const SERIALIZATION_FAILURE = '40001'
const DEADLOCK = '40P01'

/** The transaction was rolled back and may simply be run again. */
export function isRolledBack(err: unknown): boolean {
  return err instanceof Error && 'code' in err && (err.code === SERIALIZATION_FAILURE || err.code === DEADLOCK)
}
