import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { createMirrors } from '../../src/git/mirrors.ts'
import { serveGit } from '../../src/git/serve.ts'

let dir: string
let server: Server

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'pst-serve-'))
})
afterEach(() => {
  server.close()
  rmSync(dir, { recursive: true, force: true })
})

it('gives a commit of the server’s mirror to a worker that authenticates, and to nobody else', async () => {
  const work = join(dir, 'work')
  mkdirSync(work)
  const run = (...args: string[]) => execFileSync('git', args, { cwd: work }).toString().trim()
  run('init', '-q')
  writeFileSync(join(work, 'a.txt'), 'one')
  run('add', '-A')
  run('-c', 'user.name=Ada', '-c', 'user.email=a@example.org', 'commit', '-qm', 'x')
  const commit = run('rev-parse', 'HEAD')
  const here = createMirrors({ dir: join(dir, 'here') })
  const mirror = await here.ensure('acme/web', { url: work }, commit)
  server = createServer((request, response) => {
    if (request.headers.authorization !== 'Bearer good') return void response.writeHead(401).end()
    const path = new URL(request.url ?? '/', 'http://x').pathname.replace('/git/', '')
    serveGit(mirror, path, request, response).catch(() => response.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/git`
  const there = createMirrors({ dir: join(dir, 'there') })

  await there.ensure('acme/web', { url, auth: 'Authorization: Bearer good' }, commit)

  expect((await there.readFile('acme/web', commit, 'a.txt')).toString()).toBe('one')
  const stranger = createMirrors({ dir: join(dir, 'stranger') })
  await expect(stranger.ensure('acme/web', { url, auth: 'Authorization: Bearer bad' }, commit)).rejects.toThrow()
})
