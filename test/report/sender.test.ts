import type { ServerResponse } from 'node:http'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { DesiredState, ReportPort, StatusState } from '../../src/core/report/types.ts'
import { createGithubForge } from '../../src/forge/github/forge.ts'
import { createSender, type Sender } from '../../src/report/sender.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { Store } from '../../src/store/types.ts'
import { answering, cutting, type FakeForge, startFakeForge } from './fake-forge.ts'

const REPO = 'acme/web'
const CONTEXT = 'penstock/test'
const LOG = pino({ level: 'silent' })
/** As often as the control worker looks. */
const STEP_MS = 500
const START = 1_800_000_000_000

let now = START
let store: Store
let forge: FakeForge
let version = 0

beforeEach(async () => {
  now = START
  version = 0
  store = await openStore({ url: 'sqlite::memory:', clock: () => now })
  forge = await startFakeForge(() => now)
})
afterEach(async () => {
  await forge.close()
  await store.close()
})

const sender = (port: ReportPort | undefined = forge.port): Sender =>
  createSender({ reports: store.reports, portOf: () => port, clock: () => now, log: LOG })

async function desire(state: StatusState): Promise<void> {
  version += 1
  const content = { commit: 'c', context: CONTEXT, state, description: state, url: '' }
  const desired: DesiredState = { kind: 'status', subject: 'c', name: CONTEXT, weight: 2, content }
  await store.reports.record({ id: `${REPO}#1`, repo: REPO, number: 1, version }, [desired])
}

async function pass(ms: number, one = sender()): Promise<void> {
  for (const end = now + ms; now < end; now += STEP_MS) await one.once()
}

describe('a forge that was out of order shows the newest state within a minute', () => {
  const limited = { 'content-type': 'application/json' }
  const secondary = JSON.stringify({
    documentation_url: 'https://docs.github.com/rest/overview/rate-limits-for-the-rest-api',
  })

  test.each([
    ['503', answering(503), 40_000],
    ['429 that asks for 20 s', answering(429, { 'retry-after': '20' }), 40_000],
    ['403 of a secondary limit that asks for 30 s', answering(403, { 'retry-after': '30' }), 40_000],
    ['403 of a secondary limit that asks for nothing', answering(403, limited, secondary), 40_000],
    ['a cut answer', cutting, 40_000],
    ['wrong bytes', answering(200, { 'content-type': 'text/html' }, '<html>sign in</html>'), 40_000],
    ['an answer to something else', answering(201, limited, '{"state":"pending"}'), 40_000],
    ['404, as long as it does not know the commit', answering(404), 2_000],
  ])(
    'after %s',
    async (_, fault, faultMs) => {
      forge.fault = fault
      await desire('pending')
      await pass(3_000)
      await desire('success')
      await pass(faultMs)
      forge.fault = undefined

      // GitHub's own minute counts from its last refusal.
      await pass(60_000 + STEP_MS)

      expect(forge.shown(CONTEXT)).toBe('success')
    },
    30_000,
  )

  test('and after a long time, too: the pauses do not grow beyond 15 s', async () => {
    forge.fault = answering(502)
    await desire('success')
    await pass(10 * 60_000)
    const gaps = forge.requests.slice(1).map(({ at }, i) => at - (forge.requests[i]?.at ?? 0))

    expect(Math.max(...gaps)).toBeLessThanOrEqual(15_000 + STEP_MS)
    expect(gaps.length).toBeLessThan(60)
  }, 60_000)
})

test.each([
  ['503', answering(503)],
  ['429', answering(429, { 'retry-after': '20' })],
  ['403 of a secondary limit', answering(403, { 'retry-after': '20' })],
  ['a connection that is cut', (response: ServerResponse) => response.destroy()],
])("what GitHub's client throws after %s is understood", async (_, fault) => {
  const github = createGithubForge({
    ...{ repo: REPO, api: forge.url, url: `${forge.url}/${REPO}.git`, hook: 'http://ci.test/hooks/github' },
    access: { kind: 'token', token: 'ghp_token' },
    branches: { candidate: 'master', production: 'production' },
    log: { warn: () => {} },
    clock: () => now,
  })
  const one = sender({ setStatus: async (status) => github.statuses?.set(status) })
  forge.fault = fault
  await desire('pending')
  await pass(10_000, one)
  const [unsent] = await store.reports.unsent()
  forge.fault = undefined
  await pass(40_000, one)

  expect(unsent?.tries).toBeGreaterThan(0)
  expect(forge.shown(CONTEXT)).toBe('pending')
})

test.each([
  ['retry-after of 429', answering(429, { 'retry-after': '20' }), 20_000],
  ['retry-after of 403', answering(403, { 'retry-after': '20' }), 20_000],
  ['retry-after of 503', answering(503, { 'retry-after': '20' }), 20_000],
  [
    'the reset of a limit that is used up',
    answering(403, { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': String(START / 1000 + 20) }),
    20_000,
  ],
])('%s is waited for', async (_, fault, asked) => {
  forge.fault = fault
  await desire('pending')

  await pass(asked + 2_000)

  const [first, second] = forge.requests
  expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(asked - STEP_MS)
})

test('what an adapter was asked to wait is waited for, for the whole repository', async () => {
  const asked: number[] = []
  const busy = async () => {
    asked.push(now)
    throw Object.assign(new Error('asks to wait'), { retryAfterMs: 20_000 })
  }
  await desire('pending')

  await pass(22_000, sender({ setStatus: busy }))

  expect(asked).toEqual([START, START + 20_000])
})

test('what a forge refuses is asked now and then, and given up after a day', async () => {
  forge.fault = answering(422)
  await desire('pending')
  await pass(20_000)
  const atFirst = forge.requests.length
  now += 25 * 3_600_000
  await sender().once()
  now += 25 * 3_600_000
  await sender().once()

  expect(atFirst).toBeLessThanOrEqual(5)
  expect(forge.requests).toHaveLength(atFirst + 1)
  expect(await store.reports.unsent()).toEqual([])
})

test('a send never throws, and one that fails keeps nothing else back', async () => {
  const port: ReportPort = {
    setStatus: async () => {
      throw new Error('out of order')
    },
    upsertComment: async () => 'comment-1',
  }
  const comment = { pullRequest: 7, marker: '', body: '' }
  await desire('pending')
  await store.reports.record({ id: `${REPO}#1`, repo: REPO, number: 1, version: 1 }, [
    { kind: 'comment', subject: 'pull/7', name: 'penstock', weight: 2, content: comment },
  ])

  const sent = await sender(port).once()

  expect(sent).toBe(2)
  expect(await store.reports.unsent()).toMatchObject([{ kind: 'status', error: 'out of order' }])
})

test('a forge that lacks a thing by now is not waited for', async () => {
  await desire('pending')

  await sender({}).once()

  expect(await store.reports.unsent()).toEqual([])
})
