import { afterEach, describe, expect, test } from 'vitest'
import type { Fault } from '../../src/embedded/fake-github/faults.ts'
import type { Repo } from '../../src/embedded/fake-github/state.ts'
import { REPO } from '../forge/github.ts'
import {
  approve,
  BUILT,
  began,
  CANDIDATE,
  ended,
  FEATURE,
  finished,
  openGate,
  RELEASE,
  type Shown,
  started,
  startShown,
} from './github.ts'

const JOB = { stage: 'test', job: 'unit', attempt: 1 }

let shown: Shown

afterEach(() => shown.stop())

const repo = (): Repo => shown.hub.github.world.repo(REPO)

/** A branch `page` with a pull request into master, and its run. */
async function openPull() {
  const { push, github } = shown.hub
  const commit = await push('page', await push('master'))
  const { number } = await github.world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })
  return shown.newRun('pull_request', commit, 'refs/heads/page', number)
}

/** What GitHub shows now: the newest status of each context, and all the rest. */
function everything() {
  const { statuses, checks, comments, deployments } = repo()
  return {
    statuses: Object.fromEntries(statuses.map((one) => [one.context, `${one.state}: ${one.description}`])),
    checks: checks.map(({ name, externalId, conclusion }) => `${name} ${externalId}: ${conclusion}`),
    comments: comments.map(({ body }) => body.split('\n')[0]),
    deployments: deployments.map(({ environment, statuses }) => `${environment}: ${statuses.at(-1)?.state}`),
  }
}

test('a pull request sees its run fail, at its lines, and pass in a second try', async () => {
  shown = await startShown()
  const { store, happens, told } = shown
  const run = await openPull()

  expect(await told()).toEqual({ 'penstock/run': 'pending: queued' })
  expect(repo().checks).toMatchObject([{ name: 'penstock', status: 'queued', sha: run.change.commit }])

  await store.runs.setPlan(run.id, FEATURE)
  await happens(run, began(), started('test'), { type: 'job.started.v1', ...JOB })
  expect(await told()).toEqual({
    'penstock/run': 'pending: test: runs: 0 of 2 jobs have ended',
    'penstock/test': 'pending: runs: 0 of 2 jobs have ended',
    'penstock/deliver': 'success: runs once master has it',
    'penstock/staging': 'success: runs once master has it',
    'penstock/e2e': 'success: runs once master has it',
  })
  expect(repo().checks).toMatchObject([{ status: 'in_progress', actions: [] }])

  await store.results.put({ run: run.id, ...JOB }, [
    { suite: 's', name: 'adds', result: 'failed', file: 'src/a.py', line: 3, message: '2 is not 3' },
    { suite: 's', name: 'subtracts', result: 'passed' },
  ])
  await happens(
    run,
    { type: 'step.finished.v1', ...JOB, step: 0, name: 'pytest', outcome: 'failed', exitCode: 1 },
    { type: 'job.finished.v1', ...JOB, outcome: 'failed' },
    finished('test', 'failed'),
    ended('failed'),
  )
  expect(await told()).toEqual({
    'penstock/run': 'failure: failed',
    'penstock/test': 'failure: 1 test failed: adds',
  })
  const [check] = repo().checks
  expect(check).toMatchObject({
    status: 'completed',
    conclusion: 'failure',
    externalId: `${run.id}/1`,
    detailsUrl: `http://ci.test/runs/${run.number}`,
    text: expect.stringContaining('the last line'),
    actions: [{ identifier: 'retry', label: 'Re-run' }],
  })
  expect(check?.annotations).toEqual([
    {
      ...{ path: 'src/a.py', start_line: 3, end_line: 3, annotation_level: 'failure' },
      ...{ title: 'unit: adds', message: '2 is not 3' },
    },
  ])
  expect(repo().comments).toMatchObject([
    { pull: 1, user: { login: 'penstock[bot]' }, body: expect.stringContaining('**1 of 2 tests failed**') },
  ])

  await store.runs.retry(run.id, 1, 'ada')
  expect(await told()).toEqual({ 'penstock/run': 'pending: test: queued', 'penstock/test': 'pending: queued' })
  await happens(run, began(2), started('test', 2), finished('test', 'succeeded', 2), ended('succeeded', 2))
  expect(await told()).toEqual({ 'penstock/run': 'success: passed: test', 'penstock/test': 'success: 2 jobs passed' })
  expect(repo().checks.map(({ externalId, conclusion }) => [externalId, conclusion])).toEqual([
    [`${run.id}/1`, 'failure'],
    [`${run.id}/2`, 'success'],
  ])
  expect(repo().comments).toMatchObject([{ body: expect.stringContaining('Every stage of this run has passed.') }])
  expect(repo().deployments).toEqual([])
})

test('a candidate is seen on its way to production, and never green before somebody signs it off', async () => {
  shown = await startShown()
  const { store, happens, told } = shown
  const commit = await shown.hub.push('master')
  const run = await shown.newRun('push', commit, 'refs/heads/master')
  await store.runs.setPlan(run.id, CANDIDATE)

  await happens(run, began(), started('test'))
  expect(await told()).toEqual({
    'penstock/run': 'pending: test: runs: 0 of 2 jobs have ended',
    'penstock/test': 'pending: runs: 0 of 2 jobs have ended',
    'penstock/deliver': 'pending: waits for test',
    'penstock/staging': 'pending: waits for test',
    'penstock/e2e': 'pending: waits for test',
    'penstock/signoff': 'pending: waits for test',
    'penstock/promote': 'pending: waits for test',
  })

  await happens(run, finished('test'), started('deliver'))
  expect(await told()).toEqual({
    'penstock/run': 'pending: deliver: runs',
    'penstock/test': 'success: 2 jobs passed',
    'penstock/deliver': 'pending: runs',
    'penstock/staging': 'pending: waits for deliver',
    'penstock/e2e': 'pending: waits for deliver',
    'penstock/signoff': 'pending: waits for deliver',
    'penstock/promote': 'pending: waits for deliver',
  })
  expect(repo().deployments).toEqual([])

  await happens(run, BUILT, finished('deliver'), started('staging'))
  expect(await told()).toEqual({
    'penstock/run': 'pending: staging: runs',
    'penstock/deliver': 'success: built web',
    'penstock/staging': 'pending: runs',
    'penstock/e2e': 'pending: waits for staging',
    'penstock/signoff': 'pending: waits for staging',
    'penstock/promote': 'pending: waits for staging',
  })
  expect(repo().deployments).toMatchObject([{ environment: 'staging', sha: commit, production: false }])
  expect(repo().deployments[0]?.statuses.map(({ state }) => state)).toEqual(['in_progress'])

  await happens(run, finished('staging'), started('e2e'))
  expect(await told()).toEqual({
    'penstock/run': 'pending: e2e: runs',
    'penstock/staging': 'success: deployed to staging',
    'penstock/e2e': 'pending: runs',
    'penstock/signoff': 'pending: waits for e2e',
    'penstock/promote': 'pending: waits for e2e',
  })
  expect(repo().deployments[0]?.statuses.at(-1)).toMatchObject({
    ...{ state: 'success', environmentUrl: 'https://staging.example' },
    logUrl: `http://ci.test/runs/${run.number}`,
  })

  await happens(run, finished('e2e'), started('signoff'))
  await openGate(shown, run)
  expect(await told()).toEqual({
    'penstock/run': 'pending: signoff: waits for 1 of 1 approval: ben, eve',
    'penstock/e2e': 'success: 1 job passed',
    'penstock/signoff': 'pending: waits for 1 of 1 approval: ben, eve',
    'penstock/promote': 'pending: waits for signoff',
  })

  await approve(shown, run)
  await happens(run, finished('signoff'), started('promote'))
  expect(await told()).toEqual({
    'penstock/run': 'pending: promote: runs',
    'penstock/signoff': 'success: approved by ben',
    'penstock/promote': 'pending: runs',
  })

  await happens(run, { type: 'branch.promoted.v1', branch: 'production', commit }, finished('promote'), ended())
  expect(await told()).toEqual({
    'penstock/run': 'success: passed: test, deliver, staging, e2e, signoff, promote',
    'penstock/promote': `success: production is at ${commit.slice(0, 12)}`,
  })

  const release = await shown.newRun('promotion', commit, 'refs/heads/production')
  await store.runs.setPlan(release.id, RELEASE)
  await happens(release, began(), started('production'), finished('production'), ended())
  expect(await told()).toEqual({ 'penstock/production': 'success: deployed to production' })
  expect(repo().deployments[1]).toMatchObject({
    ...{ environment: 'production', production: true, sha: commit },
    statuses: [{ state: 'success', environmentUrl: 'https://www.example' }],
  })
  expect(repo().checks.map(({ name, conclusion }) => [name, conclusion])).toEqual([
    ['penstock', 'success'],
    ['penstock/production', 'success'],
  ])
})

/** A run of a pull request that ends well, then one of the candidate branch that fails on staging. */
async function twoRuns({ between }: { readonly between: () => Promise<void> }) {
  const { store, happens, newRun } = shown
  const pull = await openPull()
  await store.runs.setPlan(pull.id, FEATURE)
  await happens(pull, began(), started('test'))
  await between()
  await happens(pull, finished('test'), ended())
  await between()
  const candidate = await newRun('push', await shown.hub.push('master'), 'refs/heads/master')
  await store.runs.setPlan(candidate.id, CANDIDATE)
  await happens(candidate, began(), started('test'), finished('test'), started('deliver'), BUILT, finished('deliver'))
  await happens(candidate, started('staging'))
  await between()
  await happens(candidate, finished('staging', 'failed'), ended('failed'))
  await between()
}

const IN_THE_END = {
  statuses: {
    'penstock/run': 'failure: failed',
    'penstock/test': 'success: 2 jobs passed',
    'penstock/deliver': 'success: built web',
    'penstock/staging': 'failure: failed',
    'penstock/e2e': 'failure: did not start: staging failed',
    'penstock/signoff': 'failure: did not start: staging failed',
    'penstock/promote': 'failure: did not start: staging failed',
  },
  checks: ['penstock acme/web#1/1: success', 'penstock acme/web#2/1: failure'],
  comments: [expect.stringContaining('passed: test')],
  deployments: ['staging: failure'],
}

describe('a GitHub that was out of order holds our last state in the end', () => {
  const isChange = (template: string) => !template.startsWith('GET')

  test.each<[string, Fault]>([
    ['500', { kind: 'status', status: 500 }],
    ['429', { kind: 'too_many', retryAfter: 20 }],
    ['a secondary limit', { kind: 'secondary_limit', retryAfter: 20 }],
    ['a secondary limit that names no time', { kind: 'secondary_limit' }],
    ['wrong bytes', { kind: 'wrong_bytes' }],
    ['answers that are lost', { kind: 'cut', after: true, on: isChange }],
    ['wrong bytes after it has taken a change', { kind: 'wrong_bytes', after: true, on: isChange }],
  ])(
    'after %s',
    async (_, fault) => {
      shown = await startShown()
      const { github } = shown.hub
      let turn = 0
      let tries = 0
      await twoRuns({
        async between() {
          // Struck from the middle of each run to its end; what came before is there.
          turn += 1
          if (turn % 2 === 0) github.fault({ ...fault, times: Number.POSITIVE_INFINITY })
          await shown.pass(4_000)
          const unsent = await shown.store.reports.unsent()
          tries = Math.max(tries, ...unsent.map((one) => one.tries))
          if (turn === 2) github.clearFaults()
        },
      })
      github.clearFaults()

      // GitHub's own minute counts from its last refusal.
      await shown.pass(62_000)
      const afterAMinute = everything()
      // What was doubtful is sent once more.
      await shown.pass(30_000)

      expect(tries).toBeGreaterThan(0)
      expect(afterAMinute).toEqual(IN_THE_END)
      expect(everything()).toEqual(IN_THE_END)
      expect(await shown.store.reports.unsent()).toEqual([])
    },
    60_000,
  )
})

describe('a server that speaks GitHub’s API but offers less', () => {
  test('gets the statuses all the same; what it lacks is said once each, and waited for by nobody', async () => {
    shown = await startShown({ lesser: { without: (template) => /check-runs|deployments/.test(template) } })

    await twoRuns({ between: () => shown.pass(1_000) })

    expect(everything()).toEqual({ ...IN_THE_END, checks: [], deployments: [] })
    expect(await shown.store.reports.unsent()).toEqual([])
    expect(shown.hub.logged.map(({ fields }) => fields.what).sort()).toEqual(['checks', 'deployments'])
  })

  test('and one that answers with another code and half of the fields holds our last state, too', async () => {
    shown = await startShown({
      lesser: {
        reshape: (template, reply) =>
          template.startsWith('POST') && template.includes('/statuses/') ? { status: 200, body: {} } : reply,
      },
    })

    await twoRuns({ between: () => shown.pass(1_000) })

    expect(everything()).toEqual(IN_THE_END)
    expect(await shown.store.reports.unsent()).toEqual([])
  })
})
