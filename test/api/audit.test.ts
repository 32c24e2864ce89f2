import { execFile } from 'node:child_process'
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { GateRow } from '../../src/store/types.ts'
import { gateOn, sendVotes } from './gate.ts'
import { type Running, startServer } from './server.ts'

let server: Running
let dir: string
beforeEach(async () => {
  server = await startServer()
  dir = await mkdtemp(join(tmpdir(), 'pst-audit-'))
})
afterEach(async () => {
  await server.stop()
  await rm(dir, { recursive: true })
})

async function exported(query = ''): Promise<string> {
  const { status, body, headers } = await server.ask('ops', 'GET', `/api/v1/audit/export${query}`)
  expect(status).toBe(200)
  // It names no JSON document, so that nobody waits for its end.
  expect(headers.get('content-type')).toContain('application/x-ndjson')
  return typeof body === 'string' ? body : JSON.stringify(body)
}

const entriesOf = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { id?: number; action?: string; on?: string; end?: unknown })

/** What somebody does who has the export, Node.js, and nothing of us. */
async function verify(text: string) {
  await copyFile('examples/verify-audit.mjs', join(dir, 'verify.mjs'))
  await writeFile(join(dir, 'audit.jsonl'), text)
  const ran = promisify(execFile)(process.execPath, ['verify.mjs', 'audit.jsonl'], { cwd: dir, env: {} })
  const { stdout, stderr, code } = await ran.then(
    (one) => ({ ...one, code: 0 }),
    (err: { stdout: string; stderr: string; code: number }) => err,
  )
  return { code, problems: stderr, gates: entriesOf(stdout) as unknown as Record<string, unknown>[] }
}

describe('an export of the audit', () => {
  test('alone says who approved what, and a script without us verifies it', async () => {
    const { run, path, subject } = await gateOn(server, { quorum: 2 })
    await server.ask('ops', 'POST', `${path}/approve`, {})
    await server.ask('ben', 'POST', `${path}/approve`, { comment: 'seen on staging' })
    await sendVotes(server)
    await server.ask('cyd', 'POST', `${path}/approve`, { channel: 'cli' })
    await sendVotes(server)

    const { code, gates, problems } = await verify(await exported())

    expect(problems).toBe('')
    expect(code).toBe(0)
    expect(gates).toEqual([
      expect.objectContaining({
        gate: `${run.id}/approval/1`,
        state: 'approved',
        commit: subject.commit,
        specDigest: subject.specDigest,
        deliverables: subject.deliverables,
        votes: [
          expect.objectContaining({ by: 'ben', proof: 'session', channel: 'api', comment: 'seen on staging' }),
          expect.objectContaining({ by: 'cyd', proof: 'session', channel: 'cli' }),
        ],
      }),
    ])
  })

  test('holds where somebody approves late what had its approvals in time, and waited for its hours', async () => {
    const day = (inDays: number) => new Date(server.now() + inDays * 86_400_000).toISOString().slice(0, 10)
    const freeze = { zone: 'UTC', from: day(-1), to: day(5), reason: 'fair' }
    const expiresAt = server.now() + 1_000
    const { run, path } = await gateOn(server, { expiresAt, window: { freezes: [freeze] } })
    await server.ask('ben', 'POST', `${path}/approve`, {})
    await sendVotes(server)
    server.now(2_000)
    await server.ask('cyd', 'POST', `${path}/approve`, {})
    expect(await sendVotes(server)).toEqual([expect.objectContaining({ counts: true })])
    server.now(10 * 86_400_000)
    const { id, rules } = (await server.store.gates.get(run.id, 'approval')) as GateRow
    await server.store.gates.settle({ gate: id, rules })
    const text = await exported()

    expect(await verify(text)).toMatchObject({ code: 0, problems: '', gates: [{ state: 'approved' }] })
    const isVote = (line: string) => line.includes('"gate.vote"') && line.includes('"ben"')
    const lines = text.split('\n').map((line) => (isVote(line) ? line.replace(/"at":\d+/, `"at":${expiresAt}`) : line))
    const late = await verify(lines.join('\n'))
    expect(late.problems).toContain('voted too late')
  })

  test.each([
    [
      'an approval of somebody who pushed it',
      (text: string) => text.replaceAll('"excluded":[]', '"excluded":["ben"]'),
      'ben wrote or pushed it',
    ],
    ['a vote on another commit', (text: string) => inVote(text, /a{39}/, 'b'.repeat(39)), 'voted on something else'],
    ['a vote that is missing', (text: string) => without(text, '"counts":true'), '0 of 1 approvals'],
    ['an end that is missing', (text: string) => without(text, '"end"'), 'was cut off'],
  ])('that was tampered with is seen: %s', async (_, tamper, problem) => {
    const { path } = await gateOn(server)
    await server.ask('ben', 'POST', `${path}/approve`, {})
    await sendVotes(server)

    const { code, problems } = await verify(tamper(await exported()))

    expect(code).toBe(1)
    expect(problems).toContain(problem)
  })

  test('comes in pages that nobody sees, in order, and ends though entries are still recorded', async () => {
    for (let n = 0; n < 1200; n++) await server.store.audit.record({ by: 'ada', channel: 'api', action: 'x', on: 'y' })

    const entries = entriesOf(await exported('?after=10'))

    expect(entries.slice(0, -1).map(({ id }) => id)).toEqual(Array.from({ length: 1190 }, (_, n) => n + 11))
    expect(entries.at(-1)).toEqual({ end: { entries: 1190, last: 1200 } })
  })

  test('may be of one run, and of a time', async () => {
    const first = await gateOn(server)
    server.now(60_000)
    const at = server.now()
    const second = await gateOn(server)

    const ofRun = entriesOf(await exported(`?run=${first.run.number}`))
    const later = entriesOf(await exported(`?from=${new Date(at).toISOString()}`))
    const earlier = entriesOf(await exported(`?until=${at}`))

    expect(ofRun.map(({ on }) => on).slice(0, -1)).toEqual([`${first.run.id}/approval/1`])
    expect(later.map(({ on }) => on).slice(0, -1)).toEqual([`${second.run.id}/approval/1`])
    expect(earlier.map(({ on }) => on).slice(0, -1)).toEqual([`${first.run.id}/approval/1`])
    expect((await server.ask('ops', 'GET', '/api/v1/audit/export?from=soon')).status).toBe(422)
    expect((await server.ask('ben', 'GET', '/api/v1/audit/export')).status).toBe(403)
  })
})

function without(text: string, part: string): string {
  return text
    .split('\n')
    .filter((line) => !line.includes(part))
    .join('\n')
}

function inVote(text: string, part: RegExp, by: string): string {
  const lines = text.split('\n')
  return lines.map((line) => (line.includes('"counts":true') ? line.replace(part, by) : line)).join('\n')
}
