import { describe, expect, test } from 'vitest'
import type { CheckReport, CheckState, DeploymentReport } from '../../src/core/report/types.ts'
import { createReportPort } from '../../src/forge/report-port.ts'
import type { Check, Checks, Deployment, Deployments } from '../../src/forge/types.ts'

const COMMIT = 'c'.repeat(40)
const CHECK: CheckReport = {
  commit: COMMIT,
  name: 'penstock',
  identity: 'acme/web#1/1',
  state: { kind: 'ended', conclusion: 'failure' },
  title: 'failed',
  summary: 's',
  text: 'the last lines',
  annotations: [{ path: 'a.py', line: 3, title: 'adds', message: 'is 5' }],
  actions: [{ label: 'Re-run', description: 'Runs the failed stage again', identifier: 'retry' }],
  url: 'http://ci.test/1',
}
const DEPLOYMENT: DeploymentReport = {
  commit: COMMIT,
  environment: 'live',
  identity: 'acme/web#1/live',
  state: 'running',
  description: 'runs',
  url: 'http://ci.test/1',
  address: 'https://live.example',
}

const portOf = (forge: Parameters<typeof createReportPort>[0]['forge']) =>
  createReportPort({ forge, isProduction: (environment) => environment === 'live' })

function fakeChecks(): Checks & { readonly seen: Check[] } {
  const seen: Check[] = []
  return { seen, put: async (check) => ({ kind: 'put', id: `check-${seen.push(check)}` }) }
}

function fakeDeployments() {
  const made: Deployment[] = []
  const states: unknown[] = []
  const deployments: Deployments = {
    put: async (deployment) => ({ kind: 'put', id: `deployment-${made.push(deployment)}` }),
    setState: async (id, state) => void states.push({ id, ...state }),
    stateOf: async () => undefined,
  }
  return { made, states, deployments }
}

test('a forge that lacks a thing has no call for it', () => {
  expect(portOf({})).toEqual({})
  expect(Object.keys(portOf({ checks: fakeChecks() }))).toEqual(['setCheck'])
})

describe('a check', () => {
  test('keeps its annotations, as failures, and its button', async () => {
    const checks = fakeChecks()

    const id = await portOf({ checks }).setCheck?.(CHECK)

    expect(id).toBe('check-1')
    expect(checks.seen).toEqual([
      {
        commit: COMMIT,
        name: 'penstock',
        key: 'acme/web#1/1',
        state: 'failure',
        title: 'failed',
        summary: 's',
        text: 'the last lines',
        url: 'http://ci.test/1',
        annotations: [{ path: 'a.py', line: 3, title: 'adds', message: 'is 5', level: 'failure' }],
        actions: [{ id: 'retry', label: 'Re-run', description: 'Runs the failed stage again' }],
      },
    ])
  })

  test.each<[CheckState, Check['state']]>([
    [{ kind: 'queued' }, 'queued'],
    [{ kind: 'running' }, 'running'],
    [{ kind: 'ended', conclusion: 'success' }, 'success'],
    [{ kind: 'ended', conclusion: 'canceled' }, 'cancelled'],
  ])('that is %j is %s', async (state, expected) => {
    const checks = fakeChecks()

    await portOf({ checks }).setCheck?.({ ...CHECK, state })

    expect(checks.seen[0]?.state).toBe(expected)
  })

  test('that the forge turned out to lack is taken', async () => {
    const port = portOf({ checks: { put: async () => ({ kind: 'absent' }) } })

    expect(await port.setCheck?.(CHECK)).toBeUndefined()
  })
})

describe('a deployment', () => {
  test('is made, and gets its state with the address', async () => {
    const { made, states, deployments } = fakeDeployments()

    const id = await portOf({ deployments }).setDeployment?.(DEPLOYMENT)

    expect(id).toBe('deployment-1')
    expect(made).toMatchObject([{ commit: COMMIT, environment: 'live', key: 'acme/web#1/live' }])
    expect(states).toEqual([
      {
        id: 'deployment-1',
        state: 'in_progress',
        description: 'runs',
        logUrl: 'http://ci.test/1',
        url: 'https://live.example',
      },
    ])
  })

  test.each([
    ['live', true],
    ['staging', false],
  ])('to %s is marked production: %s', async (environment, production) => {
    const { made, deployments } = fakeDeployments()

    await portOf({ deployments }).setDeployment?.({ ...DEPLOYMENT, environment })

    expect(made[0]?.production).toBe(production)
  })

  test('that the forge turned out to lack is taken, and gets no state', async () => {
    const { states, deployments } = fakeDeployments()

    const port = portOf({ deployments: { ...deployments, put: async () => ({ kind: 'absent' }) } })

    expect(await port.setDeployment?.(DEPLOYMENT)).toBeUndefined()
    expect(states).toEqual([])
  })
})

test('a comment is kept by its marker', async () => {
  const seen: unknown[] = []
  const comments = {
    upsert: async (...given: readonly unknown[]) => ({ id: `comment-${seen.push(given)}` }),
    add: async () => ({ id: '' }),
    get: async () => undefined,
  }

  const id = await portOf({ comments }).upsertComment?.({ pullRequest: 7, marker: 'run', body: 'b' })

  expect(id).toBe('comment-1')
  expect(seen).toEqual([[7, 'run', 'b']])
})
