import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { runCli } from '../../src/cli/program.ts'
import { sessionSubject } from '../../src/core/session.ts'
import { parseJUnit } from '../../src/results/junit.ts'
import { type Running, startServer } from '../api/server.ts'

let server: Running
let dir: string

beforeEach(async () => {
  server = await startServer()
  dir = await mkdtemp(path.join(tmpdir(), 'pst-session-'))
})
afterEach(async () => {
  await server.stop()
  await rm(dir, { recursive: true, force: true })
})

async function cli(person: string, ...args: string[]) {
  let out = ''
  let err = ''
  let code = 0
  await runCli(['session', ...args], {
    env: { PENSTOCK_URL: server.url, PENSTOCK_TOKEN: await server.token(person) },
    terminal: {
      out: (text) => {
        out += text
      },
      err: (text) => {
        err += text
      },
      exit: (value) => {
        code = value
      },
    },
    isTty: false,
    raw: (bytes) => {
      out += Buffer.from(bytes).toString()
    },
    now: () => server.now(),
  })
  return { out, err, code }
}

async function session(jobs: readonly string[] = ['manual']): Promise<string> {
  const run = await server.run()
  for (const job of jobs) {
    await server.store.sessions.open({
      key: { run: run.id, stage: 'e2e', job, attempt: 1 },
      manual: {
        checklist: [
          { name: 'Log in', instructions: 'Use a *phone*.\u001b[2J', required: true, line: 4 },
          { name: 'Export', required: true, line: 5 },
        ],
        by: ['role:approver'],
        expiresSeconds: 3600,
      },
      subject: sessionSubject(run.change.commit, 'spec', []),
      may: ['ben', 'cyd'],
      environment: 'staging',
      url: 'http://staging.test',
      units: [
        { pool: 'rig', unit: 'rig-1', properties: { arch: 'arm64' }, expiresAt: server.now() + 1_800_000 },
        { pool: 'desk', unit: 'd1', properties: {}, expiresAt: server.now() + 9_000_000 },
      ],
    })
  }
  return String(run.number)
}

test('a tester goes from the list to the end of a session, with a file that shows what was seen', async () => {
  const run = await session()
  const file = path.join(dir, 'phone.txt')
  await writeFile(file, 'a picture')

  const list = await cli('ben', 'list')
  await cli('ben', 'join', run)
  const shown = await cli('ben', 'show', run)
  const answered = await cli('ben', 'answer', run, 'Log in', 'failed', '--comment', 'no button', '--evidence', file)
  const early = await cli('ben', 'finish', run)
  await cli('cyd', 'answer', run, '2', 'passed')
  const paused = await cli('cyd', 'pause', run, '--reason', 'lunch')
  await cli('cyd', 'resume', run)
  const handed = await cli('ben', 'hand-over', run, '--to', 'cyd')
  const evidence = await cli('ben', 'evidence', run, '1')
  const finished = await cli('cyd', 'finish', run)
  const junit = await cli('eve', 'junit', run)

  expect(list.out).toContain('0/2')
  expect(shown.out).toBe(`acme/web#${run}/e2e/manual/1: open, expires in 60 min
against staging: http://staging.test
leased rig/rig-1 (for 30 min more): arch=arm64
leased desk/d1
testing: ben
may test: ben, cyd

  1. Log in: open
      Use a *phone*.\\u{1b}[2J
  2. Export: open
`)
  expect(answered.out).toContain('1. Log in: failed by ben\n')
  expect(answered.out).toContain('“no button”\n      file 1: phone.txt (9 bytes)\n')
  expect(early).toMatchObject({ code: 2, err: 'these items have no answer yet: "Export"\n' })
  expect(paused.out).toContain('nobody else can have rig/rig-1, desk/d1 meanwhile')
  expect(handed.out).toContain('testing: ben (handed over to cyd), cyd')
  expect(evidence.out).toBe('a picture')
  expect(finished.out).toContain('manual/1: finished\n')
  expect(parseJUnit(Buffer.from(junit.out)).cases.map(({ result }) => result)).toEqual(['failed', 'passed'])
  const channels = (await server.store.audit.list({ limit: 100 }))
    .filter(({ by, action }) => by !== 'penstock' && action.startsWith('session.'))
    .map(({ channel }) => channel)
  expect(new Set(channels)).toEqual(new Set(['cli']))
})

test('a file is deleted by whoever attached it, and by an operator, who says why, also of an attempt that has ended', async () => {
  const run = await session()
  const file = path.join(dir, 'phone.png')
  await writeFile(file, 'a picture')
  await cli('ben', 'answer', run, '1', 'passed', '--evidence', file)
  await cli('ben', 'answer', run, '2', 'failed', '--evidence', file)

  const own = await cli('ben', 'delete-evidence', run, '1')
  await cli('ben', 'finish', run)
  const late = await cli('ben', 'delete-evidence', run, '2')
  const other = await cli('cyd', 'delete-evidence', run, '2', '--reason', 'private')
  const missing = await cli('ops', 'delete-evidence', run, '2', '--reason', 'a customer is in it', '--attempt', '7')
  const operator = await cli('ops', 'delete-evidence', run, '2', '--reason', 'a customer is in it', '--attempt', '1')

  expect(own.out).toContain('      file 1: phone.png (deleted by ben)\n')
  expect(late).toMatchObject({ code: 2, err: 'the session is finished; an operator can delete it\n' })
  expect(other).toMatchObject({ code: 4, err: 'the file is that of ben; only ben, or an operator, can delete it\n' })
  expect(missing.err).toContain('has no session in attempt 7')
  expect(operator.out).toContain('      file 2: phone.png (deleted by ops: a customer is in it)\n')
})

test('what no longer counts is shown as open, with the reason', async () => {
  const run = await session()
  await cli('cyd', 'answer', run, '1', 'passed')
  delete (server.config.people as Record<string, unknown>).cyd

  const shown = await cli('ben', 'show', run)
  const list = await cli('ben', 'list')

  expect(shown.out).toContain('  1. Log in: open\n')
  expect(shown.out).toContain('      asked again: passed by cyd: cyd may not test here now\n')
  expect(list.out).toContain('0/2')
})

test('who may not test is told who may, and which item or session is meant is asked for by its names', async () => {
  const run = await session()
  const several = await session(['phones', 'tablets'])

  expect(await cli('eve', 'join', run)).toMatchObject({ code: 4, err: 'eve may not test here; may test: ben, cyd\n' })
  expect((await cli('ben', 'answer', run, 'Login', 'passed')).err).toContain('it has 1 Log in, 2 Export')
  expect((await cli('ben', 'answer', run, '1', 'good')).err).toContain('passed, failed, blocked')
  expect((await cli('ben', 'join', several)).err).toContain('name one with --job: phones, tablets')
  expect(JSON.parse((await cli('ben', 'join', several, '--job', 'tablets', '--json')).out)).toMatchObject({
    job: 'tablets',
    testers: [{ person: 'ben' }],
  })
})
