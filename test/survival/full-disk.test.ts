import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { BASE_IMAGES } from '../../src/embedded/images.ts'
import { type System, startSystem } from '../helpers/system.ts'

/** A disk of its own: nobody else's may be filled. */
let disk: string
let system: System
const usual = process.env.TMPDIR

beforeAll(async () => {
  disk = mkdtempSync(join(tmpdir(), 'pst-disk-'))
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1g', 'tmpfs', disk])
  process.env.TMPDIR = disk
  system = await startSystem()
}, 240_000)
afterAll(async () => {
  await system?.dispose()
  if (usual === undefined) delete process.env.TMPDIR
  else process.env.TMPDIR = usual
  if (disk === undefined) return
  execFileSync('umount', ['--lazy', disk])
  rmSync(disk, { recursive: true, force: true })
}, 90_000)

/** To the last byte. */
function fill(file: string): void {
  const fd = openSync(file, 'w')
  for (const size of [1 << 20, 1 << 12, 1]) {
    try {
      while (writeSync(fd, Buffer.alloc(size)) === size);
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== 'ENOSPC') throw err
    }
  }
  closeSync(fd)
}

async function ask(method: string, path: string, body?: object) {
  const answer = await fetch(`${system.url}${path}`, {
    method,
    headers: { authorization: `Bearer ${system.tokens.olga}`, 'content-type': 'application/json' },
    signal: AbortSignal.timeout(20_000),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: answer.status, body: (await answer.json()) as unknown }
}

test('with the disk full, what is read is answered, what is to be written is refused, and nothing ends', async () => {
  const after = await system.commit({ '.penstock.yml': `image: ${BASE_IMAGES.base}\ntest: "true"\n` })
  const before = system.embedded.supervisor.running()
  const push = { branch: 'master', after, id: 'full-disk' }
  const refused = { status: 503, title: 'Not available', detail: 'the disk of the server is full' }

  fill(join(disk, 'filler'))
  for (let round = 0; round < 5; round++) {
    expect(await ask('GET', '/api/v1/runs')).toEqual({ status: 200, body: { runs: [] } })
    const { status, body } = await ask('POST', '/api/v1/tokens', { person: 'ada', expiresInDays: 1 })
    expect([status, body]).toEqual([503, refused])
    const delivered = await system.deliver(push)
    expect(delivered.headers.get('content-type')).toMatch(/^application\/problem\+json/)
    expect([delivered.status, await delivered.json()]).toEqual([503, refused])
  }
  rmSync(join(disk, 'filler'))

  const { run } = (await (await system.deliver(push)).json()) as { run: number }
  expect(await system.ended(run, 120)).toMatchObject({ status: 'succeeded' })
  expect(system.embedded.supervisor.running().filter(({ name }) => name === 'server')).toEqual(
    before.filter(({ name }) => name === 'server'),
  )
}, 240_000)
