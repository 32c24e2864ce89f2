import { describe, expect, test } from 'vitest'
import { projectRun } from '../../../src/core/report/project.ts'
import { COMMIT, checkOf, gate, plan, progress, run, statusesOf, statusOf, TESTED } from './runs.ts'

const AT_GATE = {
  status: 'waiting',
  stage: 'signoff',
  progress: progress({ ...TESTED, signoff: undefined }),
  gates: [gate()],
} as const
const APPROVED = progress({ ...TESTED, signoff: 'succeeded' })

test('there is one status for the run and one for each of its stages, at its commit and with its address', () => {
  const statuses = statusesOf(run())

  expect(Object.keys(statuses)).toEqual([
    'penstock/run',
    'penstock/test',
    'penstock/deliver',
    'penstock/staging',
    'penstock/e2e',
    'penstock/signoff',
    'penstock/promote',
  ])
  expect(statuses['penstock/test']).toMatchObject({ commit: COMMIT, url: 'https://ci.example/runs/42' })
})

describe('what a status says', () => {
  test.each([
    ['of a run in the queue', run({ status: 'queued' }), 'test', 'pending: queued'],
    [
      'of the stage under way',
      run({ stage: 'test', progress: progress({ test: undefined }) }),
      'test',
      'pending: runs: 0 of 2 jobs have ended',
    ],
    [
      'of a stage behind it',
      run({ stage: 'test', progress: progress({ test: undefined }) }),
      'e2e',
      'pending: waits for test',
    ],
    ['of a stage that passed', run({ progress: progress({ test: 'succeeded' }) }), 'test', 'success: 2 jobs passed'],
    [
      'of an environment that another run holds',
      run({
        status: 'waiting',
        stage: 'staging',
        progress: progress({ test: 'succeeded', deliver: 'succeeded', staging: undefined }),
        waiting: {
          kind: 'environment',
          sentence: 'waits for environment acme/web/staging; held by acme/web#11@staging',
        },
        holders: [11],
      }),
      'staging',
      'pending: waits for staging, held by run 11',
    ],
    [
      'of a job that waits for a pool',
      run({
        stage: 'test',
        progress: progress({ test: undefined }),
        waitingJobs: [{ job: 'unit', sentence: 'waits for 1 of pool "rig"' }],
      }),
      'test',
      'pending: unit waits for 1 of pool "rig"',
    ],
    ['of a gate', run(AT_GATE), 'signoff', 'pending: waits for 2 of 2 approvals: ada, ben, eve'],
    [
      'of a gate with an approval',
      run({ ...AT_GATE, gates: [gate({ approvals: ['ada'] })] }),
      'signoff',
      'pending: waits for 1 of 2 approvals: ben, eve',
    ],
    [
      'of a gate that somebody holds',
      run({
        ...AT_GATE,
        gates: [gate({ approvals: ['ada', 'ben'], objections: [{ by: 'eve', why: 'requested changes in #7' }] })],
      }),
      'signoff',
      'pending: held by eve, who requested changes in #7',
    ],
    [
      'of a gate that too few may open',
      run({ ...AT_GATE, gates: [gate({ rules: { approvers: ['ada', 'ben'], quorum: 2, excluded: ['ben'] } })] }),
      'signoff',
      'pending: waits for 2 of 2 approvals, but too few may approve; author and pusher may not (ben)',
    ],
    [
      'of a rejected gate',
      run({
        status: 'failed',
        progress: progress({ ...TESTED, signoff: 'failed' }),
        gates: [gate({ state: 'rejected', rejection: { by: 'eve', comment: 'not on Friday' } })],
      }),
      'signoff',
      'failure: rejected by eve: not on Friday',
    ],
    [
      'of an expired gate',
      run({
        status: 'failed',
        progress: progress({ ...TESTED, signoff: 'failed' }),
        gates: [gate({ state: 'expired', approvals: ['ada'] })],
      }),
      'signoff',
      'failure: expired with 1 of 2 approvals',
    ],
    [
      'of an expired gate, though the run is none that failed',
      run({
        status: 'skipped',
        progress: progress({ ...TESTED, signoff: 'skipped' }),
        gates: [gate({ state: 'expired', approvals: ['ada'] })],
      }),
      'signoff',
      'error: expired with 1 of 2 approvals',
    ],
    [
      'of a stage that failed',
      run({ status: 'failed', progress: progress({ test: 'failed' }), reasons: { test: 'unit: exit code 1' } }),
      'test',
      'failure: failed: unit: exit code 1',
    ],
    [
      'of a stage whose tests failed',
      run({
        status: 'failed',
        progress: progress({ test: 'failed' }),
        tests: { total: 9, failed: 1, shown: [{ stage: 'test', job: 'unit', name: 'adds' }] },
      }),
      'test',
      'failure: 1 test failed: adds',
    ],
    [
      'of a stage behind a failure',
      run({ status: 'failed', progress: progress({ test: 'failed' }) }),
      'e2e',
      'failure: did not start: test failed',
    ],
    [
      'of a stage that Penstock could not run',
      run({ status: 'errored', progress: progress({ test: 'errored' }), reasons: { test: 'no node' } }),
      'test',
      'error: errored: no node',
    ],
    [
      'of a run that somebody canceled',
      run({
        status: 'canceled',
        progress: progress({ test: 'canceled' }),
        cancel: { by: 'ada', reason: 'wrong branch' },
      }),
      'test',
      'error: canceled by ada: wrong branch',
    ],
    [
      'of a candidate that a newer one overtook',
      run({
        status: 'canceled',
        progress: progress({ test: 'succeeded', staging: 'canceled' }),
        cancel: { by: 'penstock', reason: 'superseded by acme/web#12' },
      }),
      'staging',
      'error: superseded by run 12',
    ],
    [
      'of a stage that failed in an earlier try',
      run({ status: 'queued', try: 2, progress: progress({ test: 'failed' }) }),
      'test',
      'pending: queued',
    ],
  ] as const)('%s', (_, of, stage, expected) => {
    expect(statusOf(of, stage)).toBe(expected)
  })

  test('is one line of at most 140 characters', () => {
    const reason = `unit: \u202Ea${'x'.repeat(200)}\nsecond line`
    const status = statusesOf(
      run({ status: 'failed', progress: progress({ test: 'failed' }), reasons: { test: reason } }),
    )

    const { description } = status['penstock/test'] ?? { description: '' }

    expect(description).toHaveLength(140)
    expect(description).toMatch(/^failed: unit: <U\+202E>axxx.*…$/)
  })
})

describe('the status of the whole run', () => {
  test.each([
    ['is pending while a stage is', run(AT_GATE), 'pending: signoff: waits for 2 of 2 approvals: ada, ben, eve'],
    [
      'says what is wrong with a spec',
      run({ status: 'failed', reason: '.penstock.yml:14:5: no' }),
      'failure: .penstock.yml:14:5: no',
    ],
    [
      'is green when all stages are',
      run({ plan: plan(['test']), status: 'succeeded', progress: progress({ test: 'succeeded' }) }),
      'success: passed: test',
    ],
    [
      'is green where there is nothing to do',
      run({ plan: plan([]), status: 'succeeded' }),
      'success: no stage for this trigger',
    ],
  ] as const)('%s', (_, of, expected) => {
    expect(statusOf(of, 'run')).toBe(expected)
  })
})

describe('nothing is green while a sign-off is open', () => {
  test.each([
    ['it waits', run(AT_GATE)],
    ['it was voided for other bytes', run({ progress: APPROVED, gates: [gate({ state: 'voided' })] })],
    [
      'it was given for another commit',
      run({ progress: APPROVED, gates: [gate({ state: 'approved', commit: 'd'.repeat(40) })] }),
    ],
    [
      'it was given for other bytes',
      run({ progress: APPROVED, gates: [gate({ state: 'approved', deliverables: ['web=sha256:2'] })] }),
    ],
    [
      'a stage before it runs again',
      run({
        progress: progress({ ...TESTED, e2e: undefined, signoff: 'succeeded' }),
        gates: [gate({ state: 'approved' })],
      }),
    ],
    [
      'nobody has ever asked for it',
      run({ status: 'succeeded', progress: progress({ ...TESTED, signoff: 'skipped', promote: 'succeeded' }) }),
    ],
  ] as const)('%s', (_, of) => {
    const { 'penstock/signoff': signoff, 'penstock/run': whole } = statusesOf(of)

    expect(signoff?.state).not.toBe('success')
    expect(whole?.state).not.toBe('success')
  })

  test('and it is green once it was given for this commit and these bytes', () => {
    const approved = run({ progress: APPROVED, gates: [gate({ state: 'approved', approvals: ['ada', 'ben'] })] })

    expect(statusOf(approved, 'signoff')).toBe('success: approved by ada, ben')
  })

  test('says for ever that it was passed by break-glass, at the stage, at the whole, and in the check', () => {
    const broken = { by: 'ops', reason: 'the site is down' }
    const passed = run({
      progress: APPROVED,
      gates: [gate({ state: 'approved', approvals: ['ops'], broken })],
      broken: { gate: 'signoff', by: 'ops' },
    })

    expect(statusOf(passed, 'signoff')).toBe('success: passed by break-glass by ops: the site is down')
    for (const status of ['running', 'succeeded', 'failed'] as const) {
      expect(statusOf({ ...passed, status }, 'run')).toContain('signoff passed by break-glass by ops; ')
    }
    expect(checkOf(passed).summary).toContain('passed by break-glass by ops: the site is down')
  })

  test('and a run without a sign-off cannot turn the whole of that commit green', () => {
    const weight = (one: ReturnType<typeof run>) =>
      projectRun(one).find(({ name }) => name === 'penstock/run')?.weight ?? 0

    expect(weight(run(AT_GATE))).toBeGreaterThan(weight(run({ plan: plan(['test']), status: 'succeeded' })))
  })
})

describe('a stage that the trigger leaves out', () => {
  const feature = run({ plan: plan(['test'], ['staging', 'e2e']), status: 'queued' })

  test('is green with the reason, so that nobody waits for it', () => {
    expect(statusOf(feature, 'e2e')).toBe('success: runs once master has it')
  })

  test('is not shown where another run has it', () => {
    const weight = (one: ReturnType<typeof run>) =>
      projectRun(one).find(({ name }) => name === 'penstock/e2e')?.weight ?? 0

    expect(weight(feature)).toBeLessThan(weight(run()))
  })
})

test('names of stages are names, whatever JavaScript makes of them', () => {
  const [stage] = plan(['test']).stages
  if (stage === undefined) throw new Error('no stage')
  const of = run({ plan: { ...plan([]), stages: [{ ...stage, name: 'constructor' }] } })

  expect(statusOf(of, 'constructor')).toBe('pending: is next')
})
