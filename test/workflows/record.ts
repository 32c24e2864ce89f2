import { writeFileSync } from 'node:fs'
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js'
import { CONTROL_QUEUE } from '../../src/core/ids.ts'
import type { Stage } from '../../src/core/plan.ts'
import type { CareStep, SessionAnswer } from '../../src/core/run-contract.ts'
import type { unitCare } from '../../workflows/index.ts'
import { type Activities, type FakeRun, segments, untilCanceled } from '../helpers/fake-activities.ts'
import { aPlan, GATE, jobNamed, jobsStage, PROMOTE, type Stand, startStand } from '../helpers/workflows.ts'

const CANDIDATE: readonly Stage[] = [
  jobsStage('test', [
    jobNamed('unit'),
    jobNamed('lint'),
    jobNamed('device', { needs: ['unit'], pools: [{ pool: 'rig', count: 1, labels: [] }] }),
  ]),
  {
    kind: 'deliver',
    name: 'deliver',
    deliverables: [{ kind: 'image', name: 'app', context: '.', dockerfile: 'Dockerfile' }],
  },
  { kind: 'deploy', name: 'staging', environment: 'staging', how: { kind: 'release', deliverable: 'app' } },
  { ...jobsStage('e2e', [jobNamed('browser')]), environment: 'staging' },
  GATE,
  PROMOTE,
]

/**
 * Records the histories that `replay.test.ts` replays, as `histories/RELEASE-*.json`:
 *
 *     RECORD=RELEASE npx vitest run test/workflows/replay.test.ts
 *
 * Once a release: recorded files are never changed afterwards, because runs that began under that release still wait.
 */
export async function record(release: string): Promise<void> {
  const stand = await startStand()
  const write = async (name: string, workflowId: string) => {
    const history = await stand.client.workflow.getHandle(workflowId).fetchHistory()
    writeFileSync(
      new URL(`histories/${release}-${name}.json`, import.meta.url),
      `${JSON.stringify(JSON.parse(historyToJSON(history)))}\n`,
    )
  }
  try {
    const approved = await atGate(stand, {})
    await approved.handle.signal('approve', { who: 'ada' })
    await until(() => approved.run.asked('castVote').length > 0)
    await write('waiting-at-gate', approved.run.id)
    await approved.handle.signal('approve', { who: 'tess', token: 'good', comment: 'fine' })
    await approved.end()
    await write('promoted', approved.run.id)
    await write('job', `${approved.run.id}/test/unit/1`)
    await write('job-with-pool', `${approved.run.id}/test/device/1`)

    const canceled = await atGate(stand, {})
    await canceled.handle.cancel()
    await canceled.end()
    await write('canceled-at-gate', canceled.run.id)

    const flaky = { runSegment: segments({ browser: ['failed', 'succeeded'] }) }
    const failed = stand.play(CANDIDATE, { on: flaky })
    await (await stand.start(failed)).end()
    await write('failed', failed.id)
    await write('job-failed', `${failed.id}/e2e/browser/1`)
    const retried = stand.fakes.play(failed.id, { plan: aPlan(CANDIDATE), on: flaky })
    const second = await stand.start(retried, 2)
    await until(() => retried.asked('openGate').length > 0)
    await write('retried-waiting-at-gate', retried.id)
    await second.handle.cancel()
    await second.end()

    const stopped = stand.play(CANDIDATE, {
      on: {
        async runSegment() {
          await untilCanceled().catch(() => undefined)
          return { kind: 'ended', outcome: 'canceled', lost: false }
        },
      },
    })
    const running = await stand.start(stopped)
    await until(() => stopped.asked('runSegment').length > 1)
    await running.handle.cancel()
    await running.end()
    await write('canceled-in-jobs', stopped.id)
    await write('job-canceled', `${stopped.id}/test/unit/1`)

    await recordPromotion(stand, write)
    await recordSession(stand, write)
    await recordUnit(stand, write)
  } finally {
    await stand.stop()
  }
}

type Write = (name: string, workflowId: string) => Promise<void>

/** Votes that come when nobody asks for them: while the branch is moved. */
async function recordPromotion(stand: Stand, write: Write): Promise<void> {
  let move = () => {}
  const moved = new Promise<void>((resolve) => {
    move = resolve
  })
  const promote = async () => {
    await moved
    return { outcome: 'succeeded' } as const
  }
  const { run, handle, end } = await atGate(stand, { promote })
  await handle.signal('approve', { who: 'tess', token: 'good' })
  await until(() => run.asked('promote').length > 0)
  await handle.signal('reject', { who: 'ada' })
  await handle.query('progress')
  move()
  await end()
  await write('voted-while-promoted', run.id)
}

async function recordSession(stand: Stand, write: Write): Promise<void> {
  let answer: SessionAnswer = { kind: 'open', sentence: 'may test: tess', expiresAt: Date.now() + 600_000 }
  const checklist = [{ name: 'Log in', required: true, line: 3 }]
  const manual = { segments: [], manual: { checklist, by: ['tess'], expiresSeconds: 600 } }
  const pools = [{ pool: 'phone', count: 1, labels: [] }]
  const stages = [jobsStage('e2e', [jobNamed('browser'), jobNamed('manual', { ...manual, needs: ['browser'], pools })])]
  const run = stand.play(stages, { on: { openSession: async () => answer } })
  const started = await stand.start(run)
  await until(() => run.asked('openSession').length > 0)
  const session = stand.client.workflow.getHandle(`${run.id}/e2e/manual/1`)
  await session.signal('granted')
  await until(() => run.asked('openSession').length > 1)
  await write('waiting-for-testers', run.id)
  await write('session-waiting', session.workflowId)
  answer = { kind: 'ended', outcome: 'failed', reason: 'failed "Log in"' }
  await session.signal('granted')
  await started.end()
  await write('session', session.workflowId)
}

async function recordUnit(stand: Stand, write: Write): Promise<void> {
  const steps: CareStep[] = [
    { kind: 'again', sentence: 'rig/r1: resetting succeeded' },
    { kind: 'wait', ms: 600_000, sentence: 'rig/r1 is tried again in 600 s' },
    { kind: 'again', sentence: 'rig/r1: probing succeeded' },
  ]
  const ready: CareStep = { kind: 'nothing', sentence: 'rig/r1 is ready' }
  const unit = stand.fakes.play('rig/r1', { plan: aPlan([]), on: { careForUnit: async () => steps.shift() ?? ready } })
  const care = await stand.client.workflow.start<typeof unitCare>('unitCare', {
    ...{ taskQueue: CONTROL_QUEUE, workflowId: 'unit:rig/r1', args: [{ pool: 'rig', unit: 'r1' }] },
  })
  await until(() => unit.asked('careForUnit').length === 2)
  await write('unit-waiting', care.workflowId)
  await care.signal('look')
  await care.result()
  await write('unit', care.workflowId)
}

async function atGate(
  stand: Stand,
  on: Partial<Activities>,
): Promise<{ run: FakeRun } & Awaited<ReturnType<Stand['start']>>> {
  const run = stand.play(CANDIDATE, { on })
  const started = await stand.start(run)
  await until(() => run.asked('openGate').length > 0)
  return { run, ...started }
}

async function until(there: () => boolean): Promise<void> {
  while (!there()) await new Promise((resolve) => setTimeout(resolve, 50))
}
