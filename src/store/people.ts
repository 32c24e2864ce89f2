import { createHash, randomBytes, randomUUID } from 'node:crypto'
import type { Database } from './database.ts'
import type { Schema } from './schema.ts'
import type { People, TokenRow } from './types.ts'

/** How exact `lastUsedAt` is: a write for every request would be too much. */
const LAST_USED_STEP_MS = 60_000

export function createPeople(database: Database): People {
  return {
    createToken: (person, validMs) =>
      database.write(async ({ db, now }) => {
        const token = `pst_${randomBytes(32).toString('base64url')}`
        const row: Schema['tokens'] = {
          id: randomUUID(),
          person,
          hash: sha256(token),
          created_at: now,
          expires_at: now + validMs,
          last_used_at: null,
          revoked_at: null,
        }
        await db.insertInto('tokens').values(row).execute()
        return { token, row: toTokenRow(row) }
      }),

    async personOf(token) {
      const now = database.now()
      const row = await database.read((db) =>
        db
          .selectFrom('tokens')
          .selectAll()
          // Compared as a hash by the index: the time it takes tells nothing about the token.
          .where('hash', '=', sha256(token))
          .where('revoked_at', 'is', null)
          .where('expires_at', '>', now)
          .executeTakeFirst(),
      )
      if (row === undefined) return undefined
      if (row.last_used_at === null || row.last_used_at + LAST_USED_STEP_MS <= now) {
        const noted = database.write(async (tx) => {
          await tx.db.updateTable('tokens').set({ last_used_at: tx.now }).where('id', '=', row.id).execute()
        })
        // Whoever only reads is answered also while nothing can be written.
        await noted.catch((err: unknown) => database.log?.warn({ err }, 'the use of a token was not noted'))
      }
      return row.person
    },

    revokeToken: (id) =>
      database.write(async ({ db, now }) => {
        const token = await db
          .updateTable('tokens')
          .set({ revoked_at: now })
          .where('id', '=', id)
          .where('revoked_at', 'is', null)
          .returning('person')
          .executeTakeFirst()
        if (token === undefined) return false
        // Whoever had it may have made vote tokens of it: they end with it, and an honest voter asks for another.
        await db
          .updateTable('vote_tokens')
          .set({ expires_at: now })
          .where('person', '=', token.person)
          .where('used_at', 'is', null)
          .where('expires_at', '>', now)
          .execute()
        return true
      }),

    tokens: (person) =>
      database.read(async (db) => {
        let rows = db
          .selectFrom('tokens')
          .selectAll()
          .where('revoked_at', 'is', null)
          .orderBy('created_at')
          .orderBy('id')
        if (person !== undefined) rows = rows.where('person', '=', person)
        return (await rows.execute()).map(toTokenRow)
      }),
  }
}

function toTokenRow(row: Schema['tokens']): TokenRow {
  return {
    id: row.id,
    person: row.person,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    ...(row.last_used_at === null ? {} : { lastUsedAt: row.last_used_at }),
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
