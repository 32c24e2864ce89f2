import type { DatabaseConfig } from './types.ts'

/** The address as the store wants it: `sqlite:/path/file.db` or `postgres://…`. May hold a password. */
export function databaseUrl(database: DatabaseConfig): string {
  return database.kind === 'sqlite' ? `sqlite:${database.path}` : database.url.reveal()
}
