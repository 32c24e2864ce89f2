import { ApplicationFailure } from '@temporalio/common'
import { Worker } from '@temporalio/worker'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Outcome } from '../../src/core/outcome.ts'
import type { DeliverStage, DeployStage, Stage } from '../../src/core/plan.ts'
import { NO_PROGRESS } from '../../src/core/progress.ts'
import { progress } from '../../workflows/messages.ts'
import { type Activities, begun, FAKE_NODE, type FakeRun, segments, untilCanceled } from '../helpers/fake-activities.ts'
import {
  aPlan,
  GATE,
  jobNamed,
  jobsStage,
  PROMOTE,
  type Stand,
  type Started,
  startStand,
} from '../helpers/workflows.ts'
import { ABSENT_NODE } from './short-patience.ts'

let stand: Stand
beforeAll(async () => {
  stand = await startStand()
}, 240_000)
afterAll(() => stand?.stop(), 60_000)

const LONG = 60_000
vi.setConfig({ testTimeout: LONG })
const TEST = jobsStage('test', [jobNamed('unit')])
const DELIVER: DeliverStage = {
  kind: 'deliver',
  name: 'deliver',
  deliverables: [{ kind: 'image', name: 'app', context: '.', dockerfile: 'Dockerfile' }],
}
const STAGING: DeployStage = {
  kind: 'deploy',
  name: 'staging',
  environment: 'staging',
  how: { kind: 'release', deliverable: 'app' },
}

async function until<T>(what: string, look: () => Promise<T | undefined | false> | T | undefined | false): Promise<T> {
  const deadline = performance.now() + LONG
  while (performance.now() < deadline) {
    const seen = await look()
    if (seen !== undefined && seen !== false) return seen
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`waited too long for ${what}`)
}

/** Closed until somebody opens it. */
function latch(): { readonly opened: Promise<void>; open(): void } {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open: () => open() }
}

function asked(run: FakeRun, name: keyof Activities, count = 1): Promise<boolean> {
  return until(`${name} to be asked`, () => run.asked(name).length >= count)
}

/** An activity that was under way when news came may be asked once more; it is told the same. */
function finishOf(run: FakeRun) {
  return run.asked('finishTry').at(-1)
}

/** Outcome by job of the newest attempts, as the events tell it. */
function jobsOf(run: FakeRun): Record<string, string> {
  return Object.fromEntries(
    run.events.flatMap((one) => (one.type === 'job.finished.v1' ? [[`${one.job}/${one.attempt}`, one.outcome]] : [])),
  )
}

function stagesOf(run: FakeRun): Record<string, string> {
  return Object.fromEntries(
    run.events.flatMap((one) => {
      if (one.type === 'stage.reused.v1') return [[one.stage, 'reused']]
      return one.type === 'stage.finished.v1' ? [[one.stage, one.outcome]] : []
    }),
  )
}

async function statusOf(workflowId: string): Promise<string> {
  return (await stand.client.workflow.getHandle(workflowId).describe()).status.name
}

/** What the Temporal UI shows as current details. */
async function detailsOf({ handle }: Started): Promise<string> {
  const metadata = await handle.query<{ currentDetails?: string }>('__temporal_workflow_metadata')
  return metadata.currentDetails ?? ''
}

describe('jobs of a stage', () => {
  it('start when what they need has succeeded, side by side where they may', async () => {
    const order: string[] = []
    const both = latch()
    const run = stand.play(
      [
        jobsStage('test', [
          jobNamed('build'),
          jobNamed('unit', { needs: ['build'] }),
          jobNamed('lint', { needs: ['build'] }),
          jobNamed('pack', { needs: ['unit', 'lint'] }),
        ]),
      ],
      {
        on: {
          async runSegment({ key }) {
            order.push(key.job)
            if (order.includes('unit') && order.includes('lint')) both.open()
            // Neither ends before the other has begun.
            if (key.job === 'unit' || key.job === 'lint') await both.opened
            return { kind: 'ended', outcome: 'succeeded', lost: false }
          },
        },
      },
    )

    const end = await (await stand.start(run)).end()

    expect(end).toEqual({ status: 'COMPLETED' })
    expect(order[0]).toBe('build')
    expect(order.slice(1, 3).sort()).toEqual(['lint', 'unit'])
    expect(order.slice(3)).toEqual(['pack'])
  })

  it('are never started when something they need failed; the others run to their end, and no later stage starts', async () => {
    const run = stand.play(
      [
        jobsStage('test', [
          jobNamed('build'),
          jobNamed('unit', { needs: ['build'] }),
          jobNamed('pack', { needs: ['unit'] }),
          jobNamed('lint'),
        ]),
        jobsStage('e2e', [jobNamed('browser')]),
      ],
      { on: { runSegment: segments({ build: ['failed'] }) } },
    )

    const end = await (await stand.start(run)).end()

    expect(end.type).toBe('failed')
    expect(
      run
        .asked('startJob')
        .map(({ key }) => key.job)
        .sort(),
    ).toEqual(['build', 'lint'])
    expect(jobsOf(run)).toEqual({ 'build/1': 'failed', 'lint/1': 'succeeded' })
    expect(stagesOf(run)).toEqual({ test: 'failed' })
  })

  it('run segment after segment on one node, with steps numbered through', async () => {
    const [segment] = jobNamed('unit').segments
    if (!segment) throw new Error('a job has a segment')
    const other = { ...segment, image: 'other' }
    const run = stand.play([jobsStage('test', [jobNamed('unit', { segments: [segment, other, segment] })])])

    await (await stand.start(run)).end()

    expect(run.asked('startSegment').map(({ segment, node }) => ({ segment, node }))).toEqual([
      { segment: 1, node: 'n1' },
      { segment: 2, node: 'n1' },
    ])
    expect(run.asked('runSegment').map(({ firstStep, last }) => ({ firstStep, last }))).toEqual([
      { firstStep: 0, last: false },
      { firstStep: 1, last: false },
      { firstStep: 2, last: true },
    ])
  })

  it('wait for a pool until they are told that it may be there, and get its variables', async () => {
    let free = false
    const run = stand.play(
      [jobsStage('test', [jobNamed('unit', { pools: [{ pool: 'rig', count: 1, labels: [] }] })])],
      {
        on: {
          acquirePools: async () =>
            free
              ? { kind: 'granted', env: { CI_POOL_RIG: 'rig-1' } }
              : { kind: 'queued', sentence: 'rig-1 is held by acme/app#7' },
        },
      },
    )

    const started = await stand.start(run)
    const job = stand.client.workflow.getHandle(`${run.id}/test/unit/1`)
    await asked(run, 'acquirePools')
    const details = await until('the job to say why it waits', async () => {
      const { currentDetails } = await job.query<{ currentDetails?: string }>('__temporal_workflow_metadata')
      return currentDetails
    })
    free = true
    await job.signal('granted')
    const end = await started.end()

    expect(details).toContain('rig-1 is held by acme/app#7')
    expect(end.status).toBe('COMPLETED')
    expect(run.asked('runSegment')[0]?.env).toMatchObject({ CI_POOL_RIG: 'rig-1' })
  })

  it('wait for a slot, saying so, and are started when they are told that there is one', async () => {
    let isFree = false
    const run = stand.play([TEST], {
      on: {
        startJob: async () =>
          isFree
            ? { kind: 'placed', node: FAKE_NODE, hostname: FAKE_NODE }
            : { kind: 'queued', sentence: 'all 10 job slots are taken' },
      },
    })

    const started = await stand.start(run)
    const job = stand.client.workflow.getHandle(`${run.id}/test/unit/1`)
    await asked(run, 'startJob')
    const details = await until('the job to say why it waits', async () => {
      const { currentDetails } = await job.query<{ currentDetails?: string }>('__temporal_workflow_metadata')
      return currentDetails
    })
    isFree = true
    await job.signal('granted')
    const end = await started.end()

    expect(details).toContain('all 10 job slots are taken')
    expect(end.status).toBe('COMPLETED')
    expect(run.asked('startJob').length).toBe(2)
  })

  it('wait for a node as long as Swarm has none, and end errored when it refuses the task', async () => {
    const run = stand.play([TEST], {
      on: {
        startJob: async () => ({ kind: 'pending', reason: 'no suitable node (insufficient resources on 1 node)' }),
        awaitPlacement: async () => ({ kind: 'rejected', reason: 'No such image: acme/none' }),
      },
    })

    const end = await (await stand.start(run)).end()

    expect(end).toMatchObject({ type: 'errored', message: expect.stringContaining('No such image: acme/none') })
    expect(run.calls).not.toContain('runSegment')
  })

  it('are followed anew, in the same attempt, by whoever takes over from a worker that gave them back', async () => {
    let calls = 0
    const run = stand.play([TEST], {
      on: {
        async runSegment() {
          calls += 1
          if (calls < 3) throw ApplicationFailure.retryable('the worker shuts down', 'shutdown')
          return { kind: 'ended', outcome: 'succeeded', lost: false }
        },
      },
    })

    const end = await (await stand.start(run)).end()

    expect(end.status).toBe('COMPLETED')
    expect(run.asked('runSegment').map(({ key }) => key.attempt)).toEqual([1, 1, 1])
    expect(run.asked('startJob')).toHaveLength(1)
  })

  it('are errored, naming the node, when no worker takes them there', async () => {
    const run = stand.play([TEST], {
      on: { startJob: async () => ({ kind: 'placed', node: ABSENT_NODE, hostname: 'lab-7' }) },
    })

    const end = await (await stand.start(run)).end()

    expect(end).toMatchObject({ type: 'errored', message: expect.stringMatching(/no worker on node lab-7/) })
    expect(jobsOf(run)).toEqual({ 'unit/1': 'errored' })
  })
})

describe('how a run ended', () => {
  it.each<[Outcome, string, string]>([
    ['failed', 'FAILED', 'failed'],
    ['errored', 'FAILED', 'errored'],
    ['canceled', 'FAILED', 'canceled'],
  ])('is %s, told to the database and as the status and type Temporal shows', async (outcome, status, type) => {
    const run = stand.play([TEST], { on: { runSegment: segments({ unit: [outcome] }) } })

    const started = await stand.start(run)
    const end = await started.end()

    expect(end).toEqual({ status, type, message: `test: unit: step "unit" ended ${outcome}` })
    expect(finishOf(run)).toMatchObject({ outcome, reason: end.message })
    expect(await detailsOf(started)).toContain(`**${outcome}**\n\ntest: unit: step`)
    expect(await detailsOf(started)).toContain(`| test | ${outcome} |`)
    const { typedSearchAttributes } = await started.handle.describe()
    expect(Object.fromEntries(typedSearchAttributes.getAll().map(({ key, value }) => [key.name, value]))).toMatchObject(
      {
        PenstockRepo: 'acme/web',
        PenstockBranch: 'master',
        PenstockCommit: 'c'.repeat(40),
        PenstockStatus: outcome,
      },
    )
    expect(await statusOf(`${run.id}/test/unit/1`)).toBe('FAILED')
  })

  it('is failed with the diagnostics when the spec is wrong', async () => {
    const reason = '.penstock.yml:2:1: unknown key "tst"; did you mean "test"?'
    const run = stand.play([], {
      begin: { kind: 'refused', outcome: 'failed', reason, repo: 'acme/web', number: 1, branch: 'x', commit: 'c' },
    })

    const end = await (await stand.start(run)).end()

    expect(end).toEqual({ status: 'FAILED', type: 'failed', message: reason })
    expect(finishOf(run)).toMatchObject({ outcome: 'failed', reason })
  })

  it('is errored when an activity says that it cannot be done', async () => {
    const run = stand.play([DELIVER, STAGING], {
      on: {
        deploy: async () => {
          throw ApplicationFailure.nonRetryable('the engine is on fire', 'errored')
        },
      },
    })

    const end = await (await stand.start(run)).end()

    expect(end).toMatchObject({ status: 'FAILED', type: 'errored', message: 'the engine is on fire' })
    expect(stagesOf(run)).toEqual({ deliver: 'succeeded', staging: 'errored' })
  })

  it('never leaves what its jobs used', async () => {
    const run = stand.play([jobsStage('test', [jobNamed('unit'), jobNamed('lint')])], {
      on: { runSegment: segments({ lint: ['failed'] }) },
    })

    await (await stand.start(run)).end()

    const jobs = ['lint', 'unit']
    expect(
      run
        .asked('removeJob')
        .map(({ key }) => key.job)
        .sort(),
    ).toEqual(jobs)
    expect(
      run
        .asked('removeVolumes')
        .map(({ key }) => key.job)
        .sort(),
    ).toEqual(jobs)
    expect(run.calls.at(-1)).toBe('removeNetwork')
  })
})

describe('an attempt that the infrastructure lost', () => {
  it.each<['retry' | 'fail', ('lost' | Outcome)[], string, Record<string, string>]>([
    ['retry', ['lost', 'succeeded'], 'COMPLETED', { 'unit/1': 'errored', 'unit/2': 'succeeded' }],
    ['retry', ['lost'], 'FAILED', { 'unit/1': 'errored', 'unit/2': 'errored', 'unit/3': 'errored' }],
    ['retry', ['failed'], 'FAILED', { 'unit/1': 'failed' }],
    ['fail', ['lost'], 'FAILED', { 'unit/1': 'errored' }],
  ])('with on-lost %s and attempts %j: the run is %s', async (onLost, answers, status, jobs) => {
    const run = stand.play([jobsStage('test', [jobNamed('unit', { onLost })])], {
      on: { runSegment: segments({ unit: answers }) },
    })

    const end = await (await stand.start(run)).end()

    expect(end.status).toBe(status)
    expect(jobsOf(run)).toEqual(jobs)
  })
})

describe('a retry', () => {
  it('starts nothing again that had passed, and counts attempts on', async () => {
    const stages: Stage[] = [
      TEST,
      DELIVER,
      STAGING,
      jobsStage('e2e', [jobNamed('good'), jobNamed('flaky'), jobNamed('after', { needs: ['flaky'] })]),
    ]
    const on = { runSegment: segments({ flaky: ['failed', 'succeeded'] }) }
    const first = stand.play(stages, { on })
    const failed = await (await stand.start(first)).end()
    const second = stand.fakes.play(first.id, { plan: aPlan(stages), on })

    const end = await (await stand.start(second, 2)).end()

    expect(failed.type).toBe('failed')
    expect(end.status).toBe('COMPLETED')
    expect(second.asked('startJob').map(({ key }) => `${key.job}/${key.attempt}`)).toEqual(['flaky/2', 'after/1'])
    expect(second.calls).not.toContain('buildImage')
    expect(second.calls).not.toContain('deploy')
    expect(second.asked('isDeployed')).toMatchObject([{ environment: 'staging', deliverable: 'app' }])
    expect(stagesOf(second)).toEqual({ test: 'reused', deliver: 'reused', staging: 'reused', e2e: 'succeeded' })
    expect(second.asked('startJob')[0]?.deliverables).toMatchObject([{ name: 'app' }])
  })

  it('deploys again where another has deployed meanwhile', async () => {
    const stages: Stage[] = [DELIVER, STAGING, TEST]
    const first = stand.play(stages, { on: { runSegment: segments({ unit: ['failed'] }) } })
    await (await stand.start(first)).end()
    const second = stand.fakes.play(first.id, { plan: aPlan(stages), on: { isDeployed: async () => false } })

    const end = await (await stand.start(second, 2)).end()

    expect(end.status).toBe('COMPLETED')
    expect(second.asked('deploy')).toMatchObject([{ try: 2, environment: 'staging', deliverable: { name: 'app' } }])
    expect(second.calls).not.toContain('buildImage')
  })

  it('is refused by Temporal for a run that succeeded', async () => {
    const run = stand.play([TEST])
    await (await stand.start(run)).end()

    await expect(stand.start(run, 2)).rejects.toThrow(/already started/i)
  })
})

describe('a gate', () => {
  it('waits for the vote that counts, shows why it waits, and lets the promotion follow', async () => {
    const run = stand.play([TEST, GATE, PROMOTE])
    const started = await stand.start(run)
    await asked(run, 'showWaiting')

    const shown = await started.handle.query(progress)
    const details = await detailsOf(started)
    await started.handle.signal('approve', { who: 'tess', token: 'good' })
    const end = await started.end()

    expect(shown).toMatchObject({
      stage: 'signoff',
      waiting: { kind: 'approval', sentence: expect.stringContaining('may approve: tess') },
      stages: { test: 'succeeded', signoff: 'running' },
    })
    expect(details).toContain('may approve: tess')
    expect(end.status).toBe('COMPLETED')
    expect(run.asked('promote')).toMatchObject([{ gate: 'signoff', branch: 'production' }])
    expect(stagesOf(run)).toEqual({ test: 'succeeded', signoff: 'succeeded', promote: 'succeeded' })
  })

  it('hands what was filled in on to the jobs after it, and says for ever that it was passed by break-glass', async () => {
    const broken = 'signoff was passed by break-glass by ops: the site is down'
    const approved = {
      kind: 'approved',
      sentence: 'approved by ops',
      variables: { CI_GATE_TICKET: 'CHG-1' },
      broken,
    } as const
    const run = stand.play([TEST, GATE, jobsStage('after', [jobNamed('smoke')])], {
      on: { openGate: async () => approved },
    })
    const started = await stand.start(run)

    const end = await started.end()

    expect(end.status).toBe('COMPLETED')
    const variables = run.asked('runSegment').map(({ key, env }) => [key.job, env.CI_GATE_TICKET])
    expect(variables).toEqual([
      ['unit', undefined],
      ['smoke', 'CHG-1'],
    ])
    expect(await detailsOf(started)).toContain(broken)
  })

  it('hands them on to a run that deploys what was approved elsewhere', async () => {
    const plan = aPlan([jobsStage('production', [jobNamed('ship')])])
    const begin = begun('acme/web#1', plan, NO_PROGRESS)
    const context = { ...begin.context, gateVariables: { CI_GATE_CANARY: '10' } }
    const run = stand.play(plan.stages, { begin: { ...begin, context } })

    await (await stand.start(run)).end()

    expect(run.asked('runSegment')[0]?.env.CI_GATE_CANARY).toBe('10')
  })

  it('keeps nothing of the jobs before it while it waits', async () => {
    const run = stand.play([TEST, GATE])
    const started = await stand.start(run)
    await asked(run, 'openGate')

    const before = run.calls.slice(0, run.calls.indexOf('openGate'))
    await started.handle.signal('approve', { who: 'tess', token: 'good' })
    await started.end()

    expect(before).toEqual(expect.arrayContaining(['removeJob', 'removeVolumes', 'removeNetwork']))
  })

  it('ends the run as failed, with the comment, when it is rejected', async () => {
    const run = stand.play([GATE, PROMOTE])
    const started = await stand.start(run)
    await started.handle.signal('reject', { who: 'tess', token: 'good', comment: 'the logo is blue' })

    const end = await started.end()

    expect(end).toMatchObject({
      status: 'FAILED',
      type: 'failed',
      message: 'signoff: rejected: by tess: the logo is blue',
    })
    expect(run.calls).not.toContain('promote')
  })

  it('takes a vote that came before it was open', async () => {
    const begun = latch()
    const run = stand.play([TEST, GATE], {
      on: {
        async runSegment() {
          await begun.opened
          return { kind: 'ended', outcome: 'succeeded', lost: false }
        },
      },
    })
    const started = await stand.start(run)
    await asked(run, 'runSegment')

    await started.handle.signal('approve', { who: 'tess', token: 'good' })
    begun.open()

    expect((await started.end()).status).toBe('COMPLETED')
  })

  it('outlives every signal that is no vote, and goes on waiting', async () => {
    const run = stand.play([GATE])
    const { handle, end } = await stand.start(run)
    const huge = 'x'.repeat(100_000)

    await handle.signal('approve')
    for (const payload of [
      null,
      'approve',
      42,
      true,
      [],
      [{ who: 'tess', token: 'good' }],
      {},
      { who: { name: 'tess' }, token: ['good'], comment: { text: 'hi' }, channel: 7 },
      { who: 'tess', token: 'forged' },
      { who: huge, comment: huge, channel: huge, token: huge },
    ])
      await handle.signal('approve', payload)
    await handle.signal('approve', { who: 'tess' }, 'more', 'arguments')
    await handle.signal('no-such-signal', { who: 'tess', token: 'good' })
    await asked(run, 'castVote', 12)
    const waiting = await handle.query(progress)
    await handle.signal('approve', { who: 'tess', token: 'good' })

    expect(waiting.waiting?.kind).toBe('approval')
    expect((await end()).status).toBe('COMPLETED')
    for (const { vote } of run.asked('castVote')) {
      expect(Object.values(vote).every((value) => typeof value === 'string' && value.length <= 2000)).toBe(true)
    }
    // The log of a run in Temporal is full at 51,200 events: no vote may start a loop.
    const { historyLength } = await handle.describe()
    expect(historyLength).toBeLessThan(150)
  })

  it('expires when its time is over, and the run fails for it', async () => {
    const run = stand.play([GATE, PROMOTE], { expiresAt: Date.now() + 3_000 })

    const end = await (await stand.start(run)).end()

    expect(end).toMatchObject({ type: 'failed', message: expect.stringContaining('signoff: expired') })
    expect(run.asked('expireGate')).toHaveLength(1)
    expect(run.calls).not.toContain('promote')
  })

  it.each([
    ['cancel', 'canceled', 'FAILED'],
    ['skip', 'skipped', 'COMPLETED'],
  ] as const)('that has expired may %s the run, and nothing behind it is done', async (onExpiry, outcome, status) => {
    const sentence = 'without the 1 approval(s) it needs'
    const run = stand.play([GATE, PROMOTE], {
      on: { openGate: async () => ({ kind: 'expired', sentence, onExpiry }) },
    })

    const end = await (await stand.start(run)).end()

    expect(end.status).toBe(status)
    expect(finishOf(run)).toMatchObject({ outcome, reason: `signoff: expired: ${sentence}` })
    expect(run.calls).not.toContain('promote')
  })

  it('is looked at again by itself when its window opens or a reminder is due, and is not expired by that', async () => {
    let looks = 0
    const run = stand.play([GATE], {
      on: {
        async openGate() {
          looks += 1
          if (looks > 2) return { kind: 'approved', sentence: 'approved by tess' }
          return { kind: 'open', sentence: 'enough, and waits', expiresAt: Date.now() + 600_000, lookInMs: 1_200 }
        },
      },
    })

    const end = await (await stand.start(run)).end()

    expect(end.status).toBe('COMPLETED')
    expect(run.asked('openGate')).toHaveLength(3)
    expect(run.calls).not.toContain('expireGate')
  })

  it('does not spin where its clock is ahead of the one of the database', async () => {
    const expiresAt = Date.now() - 5_000
    const open = async () => ({ kind: 'open', sentence: '0 of 1', expiresAt }) as const
    let looks = 0
    const run = stand.play([GATE], {
      on: {
        openGate: open,
        async expireGate() {
          looks += 1
          return looks < 3 ? open() : { kind: 'expired', sentence: 'now' }
        },
      },
    })
    const begun = performance.now()

    const end = await (await stand.start(run)).end()

    expect(end.type).toBe('failed')
    expect(performance.now() - begun).toBeGreaterThan(2_000)
  })

  it('asks again when it is told that something has changed', async () => {
    const run = stand.play([GATE])
    const { handle, end } = await stand.start(run)
    await asked(run, 'openGate')

    await handle.signal('granted')
    await asked(run, 'openGate', 2)
    await handle.signal('approve', { who: 'tess', token: 'good' })

    expect((await end()).status).toBe('COMPLETED')
  })
})

describe('a vote', () => {
  const waits = () => ApplicationFailure.create({ message: 'frozen', type: 'waits', nextRetryDelay: '1 hour' })
  const approved = { kind: 'approved', id: 'g/1', sentence: 'approved by ben' } as const

  it('that came in the moment in which the gate was decided is judged, too, and may reject it', async () => {
    const ready = latch()
    const run = stand.play([TEST, GATE, PROMOTE], {
      on: {
        async runSegment() {
          await ready.opened
          return { kind: 'ended', outcome: 'succeeded', lost: false }
        },
        castVote: async ({ answer }) =>
          answer === 'reject' ? { kind: 'rejected', id: 'g/1', sentence: 'by tess: no' } : approved,
      },
    })
    const { handle, end } = await stand.start(run)
    await asked(run, 'runSegment')

    await handle.signal('approve', { who: 'ben', token: 'good' })
    await handle.signal('reject', { who: 'tess', token: 'good' })
    ready.open()

    expect(await end()).toMatchObject({ type: 'failed', message: 'signoff: rejected: by tess: no' })
    expect(run.calls).not.toContain('promote')
  })

  it('against what is approved and waits for its hours ends the run as a rejected gate does', async () => {
    const run = stand.play([GATE, PROMOTE], {
      on: {
        openGate: async () => approved,
        promote: async () => Promise.reject(waits()),
        castVote: async ({ answer, vote }) =>
          answer === 'reject' && vote.token === 'good'
            ? { kind: 'rejected', id: 'g/1', sentence: 'by tess: no' }
            : approved,
      },
    })
    const { handle, end } = await stand.start(run)
    await asked(run, 'promote')

    await handle.signal('reject', { who: 'tess', token: 'forged' })
    await handle.signal('reject', { who: 'tess', token: 'good' })

    expect(await end()).toMatchObject({ type: 'failed', message: 'promote: rejected: by tess: no' })
    expect(run.asked('castVote')).toMatchObject([
      { gate: 'signoff', answer: 'reject', about: 'g/1' },
      { gate: 'signoff', answer: 'reject', about: 'g/1' },
    ])
    expect(run.asked('promote')).toHaveLength(1)
  })

  it('that breaks the glass of what waits for its hours has it promoted at once, and the run says so for ever', async () => {
    const broken = 'signoff was passed by break-glass by ops: the site is down'
    let isBroken = false
    const run = stand.play([GATE, PROMOTE], {
      on: {
        openGate: async () => approved,
        promote: async () => (isBroken ? { outcome: 'succeeded' } : Promise.reject(waits())),
        async castVote({ vote }) {
          isBroken ||= vote.breakGlass === true
          return isBroken ? { ...approved, broken } : approved
        },
      },
    })
    const started = await stand.start(run)
    await asked(run, 'promote')

    await started.handle.signal('approve', { who: 'ben' })
    await asked(run, 'castVote')
    const before = run.asked('promote').length
    await started.handle.signal('approve', { who: 'ops', token: 'good', breakGlass: true })
    const end = await started.end()

    expect(before).toBe(1)
    expect(end.status).toBe('COMPLETED')
    expect(run.asked('promote')).toHaveLength(2)
    expect(await detailsOf(started)).toContain(broken)
  })

  it('that nobody asks for any more is handed in yet, whether the run succeeds, fails, or has no gate at all', async () => {
    const ends = async (stages: readonly Stage[], on: Partial<Activities>) => {
      const reached = latch()
      const cleaned = latch()
      const run = stand.play(stages, {
        on: {
          ...on,
          async finishTry() {
            reached.open()
            await cleaned.opened
          },
        },
      })
      const { handle, end } = await stand.start(run)
      await reached.opened
      await handle.signal('approve', { who: 'tess', token: 'good' })
      cleaned.open()
      await end()
      return run.asked('castVote').map(({ gate, vote }) => `${gate}: ${vote.who}`)
    }

    expect(await ends([GATE, PROMOTE], { openGate: async () => approved })).toEqual(['signoff: tess'])
    expect(await ends([TEST, GATE], { runSegment: segments({ unit: ['failed'] }) })).toEqual(['signoff: tess'])
    expect(await ends([TEST], {})).toEqual([': tess'])
  })

  it('says which opening of the gate the run stood at when it came, so that nobody votes on what nobody was shown', async () => {
    const ready = latch()
    const run = stand.play([TEST, GATE], {
      on: {
        async runSegment() {
          await ready.opened
          return { kind: 'ended', outcome: 'succeeded', lost: false }
        },
        openGate: async () => ({ kind: 'open', id: 'g/1', sentence: '0 of 1' }),
        castVote: async ({ vote }) =>
          vote.comment === 'late' ? approved : { kind: 'open', id: 'g/2', sentence: '0 of 1, opened anew' },
      },
    })
    const { handle, end } = await stand.start(run)
    await asked(run, 'runSegment')
    await handle.signal('approve', { who: 'tess', comment: 'early' })
    ready.open()
    await asked(run, 'castVote')
    await asked(run, 'showWaiting', 2)
    await handle.signal('approve', { who: 'tess', comment: 'late' })
    await end()

    expect(run.asked('castVote')).toMatchObject([
      { vote: { comment: 'early' }, about: null },
      { vote: { comment: 'late' }, about: 'g/2' },
    ])
  })
})

describe('an environment', () => {
  it('is waited for, and taken when the wake-up comes', async () => {
    let free = false
    const run = stand.play([DELIVER, STAGING], {
      on: {
        acquireEnvironment: async () =>
          free ? { kind: 'granted', env: {} } : { kind: 'queued', sentence: 'staging is held by acme/web#1' },
      },
    })
    const started = await stand.start(run)
    await asked(run, 'showWaiting')
    const { waiting } = await started.handle.query(progress)

    free = true
    await started.handle.signal('granted')
    const end = await started.end()

    expect(waiting).toEqual({ kind: 'environment', sentence: 'staging is held by acme/web#1' })
    expect(end.status).toBe('COMPLETED')
    expect(run.asked('showWaiting').at(-1)).not.toHaveProperty('waiting')
  })

  it('that is closed for hours is asked for again when the answer says so, and not each minute', async () => {
    const until = Date.now() + 2_000
    const run = stand.play([DELIVER, STAGING], {
      on: {
        acquireEnvironment: async () =>
          Date.now() >= until
            ? { kind: 'granted', env: {} }
            : { kind: 'queued', sentence: 'waits until Monday', lookInMs: 2_000 },
      },
    })
    const started = await stand.start(run)

    expect((await started.end()).status).toBe('COMPLETED')
    expect(run.asked('acquireEnvironment')).toHaveLength(2)
  })

  it('is left to the newer candidate: the run is canceled, naming it', async () => {
    const run = stand.play([DELIVER, STAGING], {
      on: {
        acquireEnvironment: async () => ({ kind: 'superseded', by: 'acme/web#9' }),
        async supersede({ run: id, by }) {
          run.cancelReason = `canceled by penstock: superseded by ${by}`
          await stand.client.workflow.getHandle(id).cancel()
        },
      },
    })

    const end = await (await stand.start(run)).end()

    expect(end.status).toBe('CANCELLED')
    expect(finishOf(run)).toMatchObject({
      outcome: 'canceled',
      reason: 'canceled by penstock: superseded by acme/web#9',
    })
  })

  it('that cannot be had makes the run errored, saying so', async () => {
    const sentence = 'acme/web has no environment "staging"'
    const run = stand.play([DELIVER, STAGING], {
      on: { acquireEnvironment: async () => ({ kind: 'impossible', sentence }) },
    })

    expect(await (await stand.start(run)).end()).toMatchObject({ type: 'errored', message: sentence })
  })
})

describe('a cancellation', () => {
  const queued = async () => ({ kind: 'queued', sentence: 'somebody holds it' }) as const
  const canceledSegment: Activities['runSegment'] = async () => {
    await untilCanceled().catch(() => undefined)
    return { kind: 'ended', outcome: 'canceled', lost: false }
  }
  it.each<[string, Stage[], Partial<Activities>, keyof Activities, string]>([
    ['a job runs', [TEST], { runSegment: canceledSegment }, 'runSegment', 'test'],
    ['a job waits for a node', [TEST], pendingNode(), 'awaitPlacement', 'test'],
    [
      'a job waits for a pool',
      [jobsStage('test', [jobNamed('unit', { pools: [{ pool: 'rig', count: 1, labels: [] }] })])],
      { acquirePools: queued },
      'acquirePools',
      'test',
    ],
    ['an image is built', [DELIVER], { buildImage: untilCanceled }, 'buildImage', 'deliver'],
    ['an environment is waited for', [DELIVER, STAGING], { acquireEnvironment: queued }, 'showWaiting', 'staging'],
    ['something is deployed', [DELIVER, STAGING], { deploy: untilCanceled }, 'deploy', 'staging'],
    ['a gate waits', [GATE, PROMOTE], {}, 'showWaiting', 'signoff'],
    ['a branch is promoted', [PROMOTE], { promote: untilCanceled }, 'promote', 'promote'],
  ])('while %s ends the stage and the run as canceled, with its reason', async (_, stages, on, reached, stage) => {
    const run = stand.play(stages, { on })
    const started = await stand.start(run)
    await asked(run, reached)

    run.cancelReason = 'canceled by olga: wrong branch'
    await started.handle.cancel()
    const end = await started.end()

    expect(end.status).toBe('CANCELLED')
    expect(finishOf(run)).toMatchObject({ outcome: 'canceled', reason: 'canceled by olga: wrong branch' })
    expect(stagesOf(run)[stage]).toBe('canceled')
    expect(await detailsOf(started)).toContain('canceled by olga: wrong branch')
  })

  it('reaches the job’s own workflow, and what the job used is removed', async () => {
    const run = stand.play([TEST], { on: { runSegment: canceledSegment } })
    const started = await stand.start(run)
    await asked(run, 'runSegment')

    await started.handle.cancel()
    await started.end()

    expect(await statusOf(`${run.id}/test/unit/1`)).toBe('CANCELLED')
    expect(jobsOf(run)).toEqual({ 'unit/1': 'canceled' })
    expect(run.asked('removeJob')).toHaveLength(1)
    expect(run.asked('removeVolumes')).toHaveLength(1)
    expect(run.calls.at(-1)).toBe('removeNetwork')
  })

  it('that comes when the last work is done already changes nothing', async () => {
    const reached = latch()
    const run = stand.play([PROMOTE], {
      on: {
        async promote() {
          await reached.opened
          return { outcome: 'succeeded' }
        },
      },
    })
    const started = await stand.start(run)
    await asked(run, 'promote')

    await started.handle.cancel()
    reached.open()
    const end = await started.end()

    expect(finishOf(run)).toMatchObject({ outcome: 'succeeded' })
    expect(end.status).toBe('COMPLETED')
  })
})

describe('the history of every run and job above', () => {
  it('replays: whoever takes a workflow over comes to the same point', async () => {
    const failures: string[] = []
    let count = 0

    const histories = stand.client.workflow.list().intoHistories({ concurrency: 5 })
    for await (const { workflowId, error } of Worker.runReplayHistories({ workflowBundle: stand.bundle }, histories)) {
      count += 1
      if (error) failures.push(`${workflowId}: ${error}`)
    }

    expect(failures).toEqual([])
    expect(count).toBeGreaterThan(0)
  }, 240_000)
})

function pendingNode(): Partial<Activities> {
  return {
    startJob: async () => ({ kind: 'pending', reason: 'no suitable node' }),
    awaitPlacement: untilCanceled,
  }
}
