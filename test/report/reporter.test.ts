import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Trigger } from '../../src/core/change.ts'
import type { RunEvent } from '../../src/core/events.ts'
import type { CheckReport, CommentReport, ReportPort } from '../../src/core/report/types.ts'
import { createReporter, type ReporterDeps } from '../../src/report/reporter.ts'
import { createSender } from '../../src/report/sender.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { RunRow, Store } from '../../src/store/types.ts'
import { plan } from '../core/report/runs.ts'

const REPO = 'acme/web'
const COMMIT = 'c'.repeat(40)
const LOG = pino({ level: 'silent' })

let now = 1_800_000_000_000
let store: Store
/** What the forge shows, by context. */
let shown: Record<string, string>
let checks: CheckReport[]
let comments: CommentReport[]
let port: ReportPort | undefined
let deliveries = 0

beforeEach(async () => {
  store = await openStore({ url: 'sqlite::memory:', clock: () => now })
  shown = {}
  checks = []
  comments = []
  port = {
    setStatus: async ({ context, state, description }) => {
      shown[context] = `${state}: ${description}`
    },
    setCheck: async (check) => `${checks.push(check)}`,
    upsertComment: async (comment) => `${comments.push(comment)}`,
  }
})
afterEach(() => store.close())

function reporter(over: Partial<ReporterDeps> = {}) {
  return createReporter({
    store,
    portOf: () => port,
    urlOf: (run) => `https://ci.example/runs/${run}`,
    testersOf: () => ['tess', 'theo'],
    addressesOf: () => ({}),
    tailOf: async () => ['the last line'],
    mask: (_, text) => text.replaceAll('hunter2', '***'),
    clock: () => now,
    log: LOG,
    ...over,
  })
}

test('a run against a candidate of another repository is shown there, and nowhere on its own commit', async () => {
  const upstream = { repo: 'acme/api', run: 'acme/api#7', commit: 'a'.repeat(40), deliverables: [] }
  const change = { commit: COMMIT, ref: 'refs/penstock/upstream/acme/api/7', upstream }
  const told: string[] = []
  const there: ReportPort = {
    setStatus: async ({ commit, context, state, description }) => {
      told.push(`${commit.slice(0, 3)} ${context} ${state}: ${description}`)
    },
  }
  const portOf = (repo: string) => (repo === 'acme/api' ? there : undefined)
  await store.deliveries.record(
    { source: 'upstream', id: '1', event: 'upstream', bodyDigest: 'd' },
    { kind: 'upstream', repo: REPO, requestedBy: 'acme/api#7', change },
  )
  const one = reporter({ portOf })
  const sender = createSender({ reports: store.reports, portOf, clock: () => now, log: LOG })
  await one.once()
  await sender.once()
  await store.events.append('acme/web#1', 'end', [{ type: 'run.finished.v1', try: 1, outcome: 'failed' }])
  await one.once()
  now += 1_000
  await sender.once()

  expect(told).toEqual([
    'aaa penstock/dependents/acme/web pending: run 1 of acme/web: queued',
    'aaa penstock/dependents/acme/web failure: run 1 of acme/web: failed',
  ])
})

/** Both duties, as the control worker has them. */
async function duties(one = reporter()): Promise<void> {
  await one.once()
  const sender = createSender({ reports: store.reports, portOf: () => port, clock: () => now, log: LOG })
  while ((await sender.once()) > 0);
}

async function newRun(kind: Trigger['kind'], ref: string, pullRequest?: number): Promise<RunRow> {
  deliveries += 1
  const change = {
    commit: COMMIT,
    ref,
    ...(pullRequest ? { pullRequest: { number: pullRequest, base: 'master' } } : {}),
  }
  const recorded = await store.deliveries.record(
    { source: 'test', id: String(deliveries), bodyDigest: 'b', event: kind },
    { kind, repo: REPO, change, requestedBy: 'ada' },
  )
  if (recorded.kind !== 'run') throw new Error(`no run: ${recorded.kind}`)
  return recorded.run
}

let appends = 0
async function happens(run: RunRow, ...events: RunEvent[]): Promise<void> {
  appends += 1
  await store.events.append(run.id, String(appends), events)
}

const started = (stage: string, attempt = 1): RunEvent => ({ type: 'stage.started.v1', stage, attempt })
const finished = (stage: string, outcome: 'succeeded' | 'failed', attempt = 1): RunEvent => ({
  type: 'stage.finished.v1',
  stage,
  attempt,
  outcome,
})
const over = (outcome: 'succeeded' | 'failed', number = 1): RunEvent => ({
  type: 'run.finished.v1',
  try: number,
  outcome,
})

test('a forge sees a run as it goes on, whoever reports it', async () => {
  const run = await newRun('push', 'refs/heads/x')
  await duties()
  const queued = shown
  shown = {}
  await store.runs.setPlan(run.id, plan(['test'], ['e2e']))
  await happens(run, { type: 'run.started.v1', try: 1 }, started('test'))
  await duties()
  const running = shown
  shown = {}
  await happens(run, finished('test', 'succeeded'), over('succeeded'))
  await duties(reporter())

  expect(queued).toEqual({ 'penstock/run': 'pending: queued' })
  expect(running).toEqual({
    'penstock/run': 'pending: test: runs: 0 of 2 jobs have ended',
    'penstock/test': 'pending: runs: 0 of 2 jobs have ended',
    'penstock/e2e': 'success: runs once master has it',
  })
  expect(shown).toEqual({ 'penstock/run': 'success: passed: test', 'penstock/test': 'success: 2 jobs passed' })
})

test('a run that waits for an environment names who holds it', async () => {
  const run = await newRun('push', 'refs/heads/master')
  await store.runs.setPlan(run.id, plan(['staging']))
  await store.leases.acquire({
    holder: `${REPO}#11@staging`,
    run: `${REPO}#11`,
    workflowId: `${REPO}#11`,
    requests: [{ pool: `env:${REPO}/staging`, count: 1, labels: [] }],
    priority: 0,
    ttlMs: 1_000_000,
    party: REPO,
  })
  await happens(run, { type: 'run.started.v1', try: 1 }, started('staging'))
  await duties()

  // No event: the sentence alone.
  await store.runs.setStatus(run.id, 'waiting', {
    stage: 'staging',
    waiting: { kind: 'environment', sentence: 'waits for environment acme/web/staging' },
  })
  await duties()

  expect(shown['penstock/staging']).toBe('pending: waits for staging, held by run 11')
})

describe('of two runs of one commit', () => {
  test('the newest owns what both have, whichever ends last', async () => {
    const push = await newRun('push', 'refs/heads/x')
    const pull = await newRun('pull_request', 'refs/heads/x', 7)
    for (const run of [push, pull]) {
      await store.runs.setPlan(run.id, plan(['test']))
      await happens(run, { type: 'run.started.v1', try: 1 }, started('test'))
    }
    await happens(pull, finished('test', 'succeeded'), over('succeeded'))
    await duties()
    await happens(push, finished('test', 'failed'), over('failed'))
    await duties()

    expect(shown['penstock/test']).toBe('success: 2 jobs passed')
  })

  test('the one that has the stage owns it, and the sign-off is not covered by a later run without one', async () => {
    const candidate = await newRun('push', 'refs/heads/master')
    await store.runs.setPlan(candidate.id, plan(['e2e', 'signoff']))
    await happens(
      candidate,
      { type: 'run.started.v1', try: 1 },
      started('e2e'),
      finished('e2e', 'failed'),
      over('failed'),
    )
    await duties()
    const pull = await newRun('pull_request', 'refs/heads/master', 7)
    await store.runs.setPlan(pull.id, plan(['test'], ['e2e']))
    await happens(
      pull,
      { type: 'run.started.v1', try: 1 },
      started('test'),
      finished('test', 'succeeded'),
      over('succeeded'),
    )
    await duties()

    expect(shown).toMatchObject({
      'penstock/e2e': 'failure: failed',
      'penstock/signoff': 'failure: did not start: e2e failed',
      'penstock/run': 'failure: failed',
      'penstock/test': 'success: 2 jobs passed',
    })
  })

  test('a retry turns what failed to pending, and then to what it comes to', async () => {
    const run = await newRun('push', 'refs/heads/x')
    await store.runs.setPlan(run.id, plan(['test']))
    await happens(run, { type: 'run.started.v1', try: 1 }, started('test'), finished('test', 'failed'), over('failed'))
    await duties()
    const failed = shown['penstock/test']
    await store.runs.retry(run.id, 1, 'ada')
    await duties()
    const again = shown['penstock/test']
    await happens(
      run,
      { type: 'run.started.v1', try: 2 },
      started('test', 2),
      finished('test', 'succeeded', 2),
      over('succeeded', 2),
    )
    await duties()

    expect([failed, again, shown['penstock/test']]).toEqual([
      'failure: failed',
      'pending: queued',
      'success: 2 jobs passed',
    ])
    expect(checks.map(({ identity }) => identity.split('/').at(-1))).toEqual(['1', '2', '2'])
  })
})

test('a failure is shown with its tests, the end of its log, and without secrets', async () => {
  const run = await newRun('pull_request', 'refs/heads/x', 7)
  await store.runs.setPlan(run.id, plan(['test']))
  const job = { stage: 'test', job: 'unit', attempt: 1 }
  const step = { ...job, step: 0, name: 'pytest' }
  await happens(run, { type: 'run.started.v1', try: 1 }, started('test'), { type: 'job.started.v1', ...job })
  await store.results.put({ run: run.id, ...job }, [
    { suite: 's', name: 'adds', result: 'failed', file: 'a.py', line: 3, message: 'password hunter2' },
    { suite: 's', name: 'subtracts', result: 'passed' },
  ])
  await happens(
    run,
    { type: 'step.finished.v1', ...step, outcome: 'failed', exitCode: 1 },
    { type: 'job.finished.v1', ...job, outcome: 'failed' },
    finished('test', 'failed'),
    over('failed'),
  )

  await duties()

  expect(shown['penstock/test']).toBe('failure: 1 test failed: adds')
  expect(checks.at(-1)?.annotations).toEqual([{ path: 'a.py', line: 3, title: 'unit: adds', message: 'password ***' }])
  expect(checks.at(-1)?.text).toContain('the last line')
  expect(comments.at(-1)).toMatchObject({ pullRequest: 7, body: expect.stringContaining('**1 of 2 tests failed**') })
})

test('a wrong spec is pointed at by its lines', async () => {
  const run = await newRun('push', 'refs/heads/x')
  const diagnostic = { code: 'unknown-key', file: '.penstock.yml', line: 3, column: 1, message: 'unknown key' }
  await happens(run, { type: 'spec.refused.v1', diagnostics: [diagnostic] }, over('failed'))

  await duties()

  expect(checks.at(-1)?.annotations).toMatchObject([{ path: '.penstock.yml', line: 3 }])
})

describe('a forge that lacks something', () => {
  test('is told the rest', async () => {
    port = { ...(port?.setStatus ? { setStatus: port.setStatus } : {}) }
    await newRun('pull_request', 'refs/heads/x', 7)

    await duties()

    expect(shown).toEqual({ 'penstock/run': 'pending: queued' })
    expect(await store.reports.unsent()).toEqual([])
  })

  test('and that shows nothing is told nothing', async () => {
    port = undefined
    await newRun('push', 'refs/heads/x')

    await duties()

    expect(await store.reports.changed(9)).toEqual([])
    expect(await store.reports.unsent()).toEqual([])
  })
})

test('a run that cannot be reported keeps no other back, and is tried again later', async () => {
  const bad = await newRun('push', 'refs/heads/bad')
  await newRun('push', 'refs/heads/good')
  let isBroken = true
  const one = reporter({
    urlOf: (run) => {
      if (isBroken && run === bad.number) throw new Error('broken')
      return ''
    },
  })

  await one.once()
  const left = await store.reports.changed(9)
  isBroken = false
  now += 10_000
  await one.once()

  expect(left.map(({ number }) => number)).toEqual([bad.number])
  expect(await store.reports.changed(9)).toEqual([])
})

test('a manual test shows who may answer, where and with what, until it has ended', async () => {
  const run = await newRun('push', 'refs/heads/master')
  await store.runs.setPlan(run.id, plan(['test'], ['e2e']))
  await happens(run, { type: 'run.started.v1', try: 1 }, started('e2e'))
  const key = { run: run.id, stage: 'e2e', job: 'manual', attempt: 1 }
  const manual = { checklist: [{ name: 'Log in', required: true, line: 4 }], by: ['role:approver'], expiresSeconds: 60 }
  const subject = { commit: COMMIT, specDigest: 'spec', deliverables: [] }
  const may = ['tess', 'theo']
  await store.sessions.open({ key, manual, subject, units: [], may, url: 'http://hunter2.staging' })
  await duties()
  const asked = checks.at(-1)?.summary
  await happens(run, finished('e2e', 'failed'), over('failed'))
  await duties()

  expect(asked).toContain('`penstock session answer 1 ITEM passed`')
  expect(asked).toContain('against `http://***.staging`')
  expect(asked).toContain('May test: `tess, theo`')
  expect(shown['penstock/run']).toContain('failure')
  expect(checks.at(-1)?.summary).not.toContain('penstock session answer')
})
