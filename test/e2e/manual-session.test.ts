import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { LABELS } from '../../src/core/ids.ts'
import { BASE_IMAGES } from '../../src/embedded/images.ts'
import { nothingLeft } from '../helpers/survival.ts'
import { type System, startSystem } from '../helpers/system.ts'

let system: System
let dir: string
beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'penstock-session-'))
  system = await startSystem({
    repository: `    environments:
      staging: { url: "http://staging.example" }`,
    config: `pools:
  phone: { units: { p1: { properties: { os: android } } } }`,
  })
}, 240_000)
afterAll(async () => {
  await system?.dispose()
  await rm(dir, { recursive: true, force: true })
}, 60_000)

/** The example of the document, on an image that is here. */
const PAGE = readFileSync(new URL('../../docs/manual-tests.md', import.meta.url), 'utf8')
const SPEC = (/^```yaml\n([\s\S]*?)^```$/m.exec(PAGE)?.[1] ?? '').replace('python:3.12-slim', BASE_IMAGES.base)

interface Session {
  readonly attempt: number
  readonly state: string
  readonly url?: string
  readonly units: readonly unknown[]
  readonly checklist: readonly { readonly answer: { readonly by: string; readonly keptFrom?: number } | null }[]
}

/** The command line, as a tester uses it. */
async function penstock(as: keyof System['tokens'], ...args: string[]): Promise<Session> {
  const { stdout, stderr, exitCode } = await execa(
    process.execPath,
    ['dist/src/cli/main.js', 'session', ...args, '--json'],
    { env: { PENSTOCK_URL: system.url, PENSTOCK_TOKEN: system.tokens[as] }, reject: false },
  )
  if (exitCode !== 0) throw new Error(`${args.join(' ')}: ${stderr}`)
  return JSON.parse(stdout) as Session
}

function opened(number: number, attempt: number): Promise<Session> {
  return system.until(`the session of attempt ${attempt}`, async () => {
    const { sessions } = await system.call<{ sessions: Session[] }>('GET', `/runs/${number}/sessions`)
    return sessions.find((one) => one.attempt === attempt && one.state === 'open')
  })
}

async function ofRunInDocker(number: number): Promise<string[]> {
  const kinds = [
    ['ps', '-a'],
    ['service', 'ls'],
    ['network', 'ls'],
    ['volume', 'ls'],
  ] as const
  const filters = ['--filter', `label=${LABELS.run}=acme/web#${number}`]
  const lists = await Promise.all(kinds.map((kind) => execa('docker', [...kind, '-q', ...filters])))
  return lists.flatMap(({ stdout }) => stdout.split('\n').filter((line) => line !== ''))
}

async function holders(): Promise<string[]> {
  const { units } = await system.call<{ units: { pool: string; leases: { holder: string }[] }[] }>('GET', '/pools')
  return units.filter(({ pool }) => pool === 'phone').flatMap(({ leases }) => leases.map(({ holder }) => holder))
}

it('an item fails, the retry asks only for that one, and the run passes; nothing is lost to a kill meanwhile', async () => {
  const number = await system.push({ '.penstock.yml': SPEC })
  const id = `acme/web#${number}`
  const first = await opened(number, 1)

  expect(first).toMatchObject({
    url: 'http://staging.example',
    units: [{ pool: 'phone', unit: 'p1', properties: { os: 'android' } }],
  })
  expect(await holders()).toEqual([`${id}/e2e/manual/1`])
  // While people are at it, nothing of the run is in Docker, and it holds no job slot.
  await system.until('nothing of the run in Docker', async () => (await ofRunInDocker(number)).length === 0)

  const picture = path.join(dir, 'phone.png')
  await writeFile(picture, 'a picture')
  const run = String(number)
  await penstock('tess', 'answer', run, '1', 'passed', '--evidence', picture)
  system.kill('control')
  await penstock('theo', 'answer', run, 'Export a report', 'failed', '--comment', 'the total is wrong')
  await penstock('theo', 'finish', run)
  system.kill('control')
  const failed = await system.ended(number, 90)

  expect(failed).toMatchObject({ status: 'failed', reason: 'e2e: manual: failed "Export a report"' })
  expect(await holders()).toEqual([])
  await system.call('POST', `/runs/${number}/retry`, { body: {} })
  const second = await opened(number, 2)
  expect(second.checklist).toMatchObject([
    { answer: { result: 'passed', by: 'tess', keptFrom: 1 } },
    { answer: null },
    { answer: null },
  ])
  expect(second.checklist[0]).toMatchObject({ evidence: [{ name: 'phone.png' }] })

  await penstock('theo', 'answer', run, '2', 'passed')
  await penstock('theo', 'finish', run)
  const passed = await system.ended(number)

  expect(passed.status).toBe('succeeded')
  const attempts = passed.attempts.filter(({ stage, step }) => stage === 'e2e' && step === undefined)
  expect(attempts.filter(({ job }) => job === 'browser')).toHaveLength(1)
  expect(attempts.filter(({ job }) => job === 'manual').map(({ outcome }) => outcome)).toEqual(['failed', 'succeeded'])
  const { results } = await system.call<{ results: object[] }>('GET', `/runs/${number}/results`)
  expect(results).toMatchObject([
    { job: 'manual', attempt: 1, name: 'Log in on a phone', result: 'passed', file: '.penstock.yml', line: 10 },
    { job: 'manual', attempt: 1, name: 'Export a report', result: 'failed', line: 11 },
    { job: 'manual', attempt: 1, name: 'Print in color', result: 'skipped' },
    { job: 'manual', attempt: 2, name: 'Log in on a phone', result: 'passed' },
    { job: 'manual', attempt: 2, name: 'Export a report', result: 'passed' },
    { job: 'manual', attempt: 2, name: 'Print in color', result: 'skipped' },
  ])
  await nothingLeft(system)
}, 240_000)

it('a run that is canceled ends its session at once and gives the units back', async () => {
  const number = await system.push({ '.penstock.yml': SPEC })
  await opened(number, 1)

  await system.call('POST', `/runs/${number}/cancel`, { body: { reason: 'wrong branch' } })
  const late = penstock('tess', 'answer', String(number), '1', 'passed')

  await expect(late).rejects.toThrow(/is being canceled|has ended/)
  expect((await system.ended(number)).status).toBe('canceled')
  await system.until('the phone to be free', async () => (await holders()).length === 0)
}, 120_000)

it('what nobody tests in time has failed, saying what is missing', async () => {
  const text = 'test:\n  manual: { checklist: [Try it], by: tess, expires: 2s }\n'
  const number = await system.push({ '.penstock.yml': text }, 'feature')

  expect(await system.ended(number)).toMatchObject({
    status: 'failed',
    reason: 'test: manual: expired without an answer to "Try it"',
  })
}, 90_000)

it('a session that nobody of the operator’s file may answer is not opened', async () => {
  const text = 'test:\n  manual: { checklist: [Try it], by: [qa] }\n'
  const number = await system.push({ '.penstock.yml': text }, 'nobody')

  expect(await system.ended(number)).toMatchObject({
    status: 'failed',
    reason: 'test: manual: nobody may test: the operator\'s file has no person for "qa"',
  })
}, 90_000)
