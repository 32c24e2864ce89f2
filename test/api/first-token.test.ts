import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { writeFirstToken } from '../../src/api/first-token.ts'
import { type Running, startServer } from './server.ts'

let server: Running
let dir: string

beforeEach(async () => {
  server = await startServer()
  dir = await mkdtemp(path.join(tmpdir(), 'pst-first-'))
})
afterEach(async () => {
  await server.stop()
  await rm(dir, { recursive: true, force: true })
})

function write(people = server.config.people) {
  const config = { ...server.config, people, dataDir: dir }
  return writeFirstToken({ config, store: server.store, log: pino({ level: 'silent' }) })
}

test('whoever owns the data directory has a token of the first admin, with which others are made', async () => {
  await write()

  const file = path.join(dir, 'cli.json')
  const { url, token } = JSON.parse(await readFile(file, 'utf8')) as { url: string; token: string }
  const made = await fetch(`${server.url}/api/v1/tokens`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ person: 'ben', expiresInDays: 1 }),
  })
  expect(made.status).toBe(201)
  expect(url).toBe(server.config.server.url)
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  const audit = await server.store.audit.list({ limit: 9 })
  expect(audit).toContainEqual(expect.objectContaining({ by: 'penstock', action: 'token.created' }))
})

test('one that was revoked does not come back by a restart; one whose file was removed does', async () => {
  await write()
  const [first] = await server.store.people.tokens()
  await server.store.people.revokeToken(first?.id ?? '')

  await write()
  const afterRestart = await server.store.people.tokens()
  await rm(path.join(dir, 'cli.json'))
  await write()

  expect(afterRestart).toEqual([])
  expect(await server.store.people.tokens()).toHaveLength(1)
})

test('where nobody is admin there is none', async () => {
  await write({})

  expect(await server.store.people.tokens()).toEqual([])
})
