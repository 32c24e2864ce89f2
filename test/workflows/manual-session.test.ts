import { Worker } from '@temporalio/worker'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import type { ManualTest } from '../../src/core/plan.ts'
import type { SessionAnswer } from '../../src/core/run-contract.ts'
import { granted } from '../../workflows/messages.ts'
import { type FakeRun, segments } from '../helpers/fake-activities.ts'
import { aPlan, jobNamed, jobsStage, type Stand, startStand } from '../helpers/workflows.ts'

let stand: Stand
beforeAll(async () => {
  stand = await startStand()
}, 240_000)
afterAll(() => stand?.stop(), 60_000)

const LONG = 60_000
const DAY_MS = 86_400_000
vi.setConfig({ testTimeout: LONG })

const MANUAL: ManualTest = {
  checklist: [{ name: 'Log in', required: true, line: 3 }],
  by: ['tess'],
  expiresSeconds: 604_800,
}
const SESSION = jobNamed('manual', { segments: [], manual: MANUAL })
const OPEN: SessionAnswer = { kind: 'open', sentence: 'may test: tess', expiresAt: Date.now() + 7 * DAY_MS }

/** The database: what the session is now, whoever asks. */
function aSession(answer: SessionAnswer = OPEN) {
  const database = { answer }
  return { database, openSession: async () => database.answer }
}

async function until(what: string, look: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = performance.now() + LONG
  while (performance.now() < deadline) {
    if (await look()) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`waited too long for ${what}`)
}

const looked = (run: FakeRun, times: number) =>
  until(`${times} looks at the session`, () => run.asked('openSession').length >= times)

function wake(run: FakeRun, attempt = 1): Promise<void> {
  return stand.client.workflow.getHandle(`${run.id}/e2e/manual/${attempt}`).signal(granted)
}

it('people are waited for with nothing in hand but the units that were leased for them', async () => {
  const { database, openSession } = aSession()
  const job = { ...SESSION, pools: [{ pool: 'phone', count: 1, labels: [] }] }
  const run = stand.play([jobsStage('e2e', [job])], { on: { openSession } })
  const started = await stand.start(run)
  await looked(run, 1)

  database.answer = { kind: 'ended', outcome: 'succeeded' }
  await wake(run)
  const end = await started.end()

  expect(end).toEqual({ status: 'COMPLETED' })
  const held = run.calls.filter((name) => ['acquirePools', 'openSession', 'endJob'].includes(name))
  // An activity that was under way when news came may be asked once more: the first of each shows the order.
  expect([...new Set(held)]).toEqual(['acquirePools', 'openSession', 'endJob'])
  for (const name of ['startJob', 'runSegment', 'placement', 'removeJob'] as const) expect(run.asked(name)).toEqual([])
})

it('a signal alone changes nothing: the database decides', async () => {
  const { database, openSession } = aSession()
  const run = stand.play([jobsStage('e2e', [SESSION])], { on: { openSession } })
  const started = await stand.start(run)
  await looked(run, 1)

  await wake(run)
  await wake(run)
  await looked(run, 2)

  expect((await started.handle.describe()).status.name).toBe('RUNNING')
  database.answer = { kind: 'ended', outcome: 'succeeded' }
  await wake(run)
  expect((await started.end()).status).toBe('COMPLETED')
})

it('what failed fails the stage with its reason; a retry is another attempt, and of that job only', async () => {
  const reason = 'failed "Log in"'
  const first = aSession({ kind: 'ended', outcome: 'failed', reason })
  const stages = [jobsStage('e2e', [jobNamed('browser'), SESSION])]
  const run = stand.play(stages, { on: { openSession: first.openSession } })
  const end = await (await stand.start(run)).end()

  const again = aSession({ kind: 'ended', outcome: 'succeeded' })
  const retried = stand.fakes.play(run.id, { plan: aPlan(stages), on: { openSession: again.openSession } })
  const second = await (await stand.start(retried, 2)).end()

  expect(end).toMatchObject({ type: 'failed', message: `e2e: manual: ${reason}` })
  expect(second.status).toBe('COMPLETED')
  expect(retried.asked('openSession').map(({ key }) => key.attempt)).toEqual([2])
  expect(retried.asked('runSegment')).toEqual([])
})

it('its time runs out without anybody telling: it looks by itself', async () => {
  const expiresAt = Date.now() + 1_500
  const run = stand.play([jobsStage('e2e', [SESSION])], {
    on: {
      openSession: async () =>
        Date.now() < expiresAt
          ? { ...OPEN, expiresAt }
          : { kind: 'ended', outcome: 'failed', reason: 'expired without an answer to "Log in"' },
    },
  })

  const end = await (await stand.start(run)).end()

  expect(end).toMatchObject({ type: 'failed', message: expect.stringContaining('expired without an answer') })
})

it('a cancelation ends it as canceled, and its job with it', async () => {
  const { openSession } = aSession()
  const run = stand.play([jobsStage('e2e', [SESSION])], { on: { openSession } })
  const started = await stand.start(run)
  await looked(run, 1)

  run.cancelReason = 'canceled by olga: wrong branch'
  await started.handle.cancel()

  expect((await started.end()).status).toBe('CANCELLED')
  expect(run.asked('endJob')).toMatchObject([{ outcome: 'canceled' }])
})

it('once only people are at work, nothing of the jobs before them stays; what they are needed for comes after', async () => {
  const { database, openSession } = aSession()
  const stages = [
    jobsStage('test', [jobNamed('unit')]),
    jobsStage('e2e', [
      jobNamed('browser'),
      { ...SESSION, needs: ['browser'] },
      jobNamed('after', { needs: ['manual'] }),
    ]),
  ]
  const run = stand.play(stages, { on: { openSession, runSegment: segments({}) } })
  const started = await stand.start(run)
  await until('the network of earlier jobs to be removed', () => run.asked('removeNetwork').length === 1)
  const removed = run.asked('removeJob').map(({ key }) => key.job)
  const begun = run.asked('startJob').map(({ key }) => key.job)

  database.answer = { kind: 'ended', outcome: 'succeeded' }
  await wake(run)
  const end = await started.end()

  expect(removed.sort()).toEqual(['browser', 'unit'])
  expect(begun).toEqual(['unit', 'browser'])
  expect(end.status).toBe('COMPLETED')
  expect(run.asked('startJob').map(({ key }) => key.job)).toEqual(['unit', 'browser', 'after'])
})

it('the history of every run and session above replays', async () => {
  const failures: string[] = []
  const histories = stand.client.workflow.list().intoHistories({ concurrency: 5 })
  for await (const { workflowId, error } of Worker.runReplayHistories({ workflowBundle: stand.bundle }, histories)) {
    if (error) failures.push(`${workflowId}: ${error}`)
  }

  expect(failures).toEqual([])
}, 240_000)
