import { chmodSync, existsSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Logger } from 'pino'
import { permissionsOf } from '../config/roles.ts'
import type { Config } from '../config/types.ts'
import type { Store } from '../store/types.ts'

/** As long as a token can be good for. */
const VALID_MS = 365 * 86_400_000

/**
 * Tokens are made by people who have one already: the first belongs to whoever owns the data directory, who could read
 * the database as well. It stands where the command line looks for it. Made once: a file that is there is left alone,
 * whatever became of its token, and one that was removed is written anew at the next start.
 */
export async function writeFirstToken({
  config,
  store,
  log,
}: {
  readonly config: Config
  readonly store: Pick<Store, 'people' | 'audit'>
  readonly log: Logger
}): Promise<void> {
  const file = path.join(config.dataDir, 'cli.json')
  if (existsSync(file)) return
  const admin = Object.values(config.people).find(({ roles }) => permissionsOf(roles).has('tokens'))
  if (admin === undefined) {
    log.warn('nobody in the operator’s file is admin: there is no first token, and nobody can make one')
    return
  }
  const { token, row } = await store.people.createToken(admin.name, VALID_MS)
  await store.audit.record({
    by: 'penstock',
    channel: 'start',
    action: 'token.created',
    on: admin.name,
    detail: { id: row.id, file },
  })
  const beside = `${file}.${process.pid}`
  writeFileSync(beside, `${JSON.stringify({ url: config.server.url, token }, null, 2)}\n`, { mode: 0o600 })
  // The mode above is that of a new file only.
  chmodSync(beside, 0o600)
  renameSync(beside, file)
  log.info({ person: admin.name, file }, 'the first token was written')
}
