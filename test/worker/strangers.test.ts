import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MockActivityEnvironment } from '@temporalio/testing'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createControlActivities } from '../../activities/control.ts'
import { loadConfig } from '../../src/config/load.ts'
import { type Admitted, admit } from '../../src/core/admission.ts'
import type { Job, Plan, Stage } from '../../src/core/plan.ts'
import type { ControlActivities, JobInput } from '../../src/core/run-contract.ts'
import { createFakeEngine, type FakeEngine } from '../../src/engine/fake/fake-engine.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { RunRow, Store } from '../../src/store/types.ts'
import { aJob, aStep } from '../helpers/docker.ts'

const FILE = `
repositories:
  acme/web:
    forge: git
    url: /srv/git/web.git
    webhook_secrets: [{ env: HOOK_SECRET }]
    secrets: { NPM_TOKEN: { env: NPM_TOKEN } }
    environments:
      staging: { url: "http://staging.test" }
      production: { approvers: [ada], target: { swarm: { service: web } } }
people: { ada: { roles: [admin] } }
pools:
  rig: { privileged: true, units: { rig-1: {} } }
  board: { units: { board-1: { credentials: { PASSWORD: { env: BOARD_PASSWORD } } } } }
`
const OURS = admit('push', { origin: 'branch', specChanged: false, approved: false }) as Admitted
const STRANGERS = admit('pull_request', { origin: 'fork', specChanged: false, approved: false }) as Admitted
const HELD = admit('pull_request', { origin: 'fork', specChanged: true, approved: false }) as Admitted

let dir: string
let store: Store
let engine: FakeEngine
let activities: ControlActivities
/** What reached Swarm. */
let handedOut: string[]
let deliveries = 0

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pst-strangers-'))
  const file = join(dir, 'penstock.config.yml')
  await writeFile(file, FILE)
  const env = {
    PENSTOCK_DATA: dir,
    HOOK_SECRET: 'secret-of-acme-web-32',
    NPM_TOKEN: 'npm_0123456789',
    BOARD_PASSWORD: 'board-password',
  }
  const config = await loadConfig({ file, env })
  store = await openStore({ url: `sqlite:${join(dir, 'penstock.db')}` })
  await store.units.configure(config.pools)
  await store.leases.setJobSlots(10)
  engine = createFakeEngine({ behave: () => ({}) })
  const [node] = await engine.cluster.nodes()
  await engine.cluster.setWorkerAlive(node?.id ?? '', true)
  handedOut = []
  const never = () => Promise.reject(new Error('nothing may come here'))
  activities = createControlActivities({
    config,
    store,
    cluster: {
      ...engine.cluster,
      ensureSecrets: (key, values) => {
        handedOut.push(...values.map(({ value }) => value))
        return engine.cluster.ensureSecrets(key, values)
      },
    },
    mirrors: { ensure: never, readFile: never, commitInfo: never } as never,
    forges: () => ({ fastForward: never, source: never }) as never,
    deployer: { deploy: never } as never,
    errands: { run: never } as never,
    log: pino({ level: 'silent' }),
    clock: Date.now,
  })
})
afterEach(async () => {
  await engine.close()
  await store.close()
  await rm(dir, { recursive: true })
})

/** As a worker calls it. */
function call<Name extends keyof ControlActivities>(
  name: Name,
  ...input: Parameters<ControlActivities[Name]>
): Promise<Awaited<ReturnType<ControlActivities[Name]>>> {
  return new MockActivityEnvironment().run(activities[name] as never, ...(input as unknown as never[]))
}

async function aRun(admission: Admitted | undefined, stages: readonly Stage[] = [testOf(ASKING)]): Promise<RunRow> {
  deliveries += 1
  const change = { commit: deliveries.toString(16).padStart(40, 'a'), ref: 'refs/pull/1/head' }
  const recorded = await store.deliveries.record(
    { source: 'test', id: String(deliveries), bodyDigest: 'x', event: 'pull_request' },
    { kind: 'manual', repo: 'acme/web', requestedBy: 'test', change },
    admission,
  )
  if (recorded.kind !== 'run') throw new Error(recorded.kind)
  const plan: Plan = { version: 1, repo: 'acme/web', specDigest: 'd', stages }
  await store.runs.setPlan(recorded.run.id, plan)
  return recorded.run
}

const ASKING = aJob('busybox', [aStep('true')], { name: 'unit', secrets: [{ name: 'NPM_TOKEN', env: true }] })
const testOf = (job: Job): Stage => ({ kind: 'jobs', name: 'test', jobs: [job] })

/** As a workflow hands it over, whatever that says of itself. */
function jobOf({ id, change }: RunRow, job: Job = ASKING, attempt = 1): JobInput {
  const key = { run: id, stage: 'test', job: job.name, attempt }
  const context = { change, trigger: 'push', environmentUrls: {}, unplaceable: 'fail' } as const
  return { key, repo: 'acme/web', job, context, deliverables: [] }
}

test('a job of ours gets its secret, one of a stranger ends with the reason, and nothing reaches the engine', async () => {
  expect((await call('startJob', jobOf(await aRun(OURS)))).kind).toBe('placed')
  expect(handedOut).toEqual(['npm_0123456789'])

  for (const admission of [STRANGERS, undefined]) {
    const input = jobOf(await aRun(admission))
    expect(await call('startJob', input)).toMatchObject({
      ...{ kind: 'refused', outcome: 'failed' },
      reason: expect.stringContaining('secret NPM_TOKEN is not available to this run: the code is from a fork'),
    })
    expect(engine.startsOf(input.key, 0)).toBe(0)
  }
  expect(handedOut).toHaveLength(1)
})

test('a job of a stranger that asks for nothing runs', async () => {
  const plain = aJob('busybox', [aStep('true')], { name: 'plain' })

  expect((await call('startJob', jobOf(await aRun(STRANGERS), plain))).kind).toBe('placed')
  expect(handedOut).toEqual([])
})

test('a new try of a stranger’s run, let in or not, has what the first one had', async () => {
  for (const admission of [STRANGERS, HELD]) {
    const run = await aRun(admission)
    if (admission === HELD) expect(await store.runs.admit(run.id, run.change.commit, 'ada', 'api')).toBe('admitted')
    await store.events.append(run.id, 'end', [{ type: 'run.finished.v1', try: 1, outcome: 'failed' }])
    expect(await store.runs.retry(run.id, 1, 'ada')).toEqual({ kind: 'retried', try: 2 })

    expect(await call('startJob', jobOf(run, ASKING, 2))).toMatchObject({ kind: 'refused', outcome: 'failed' })
  }
  expect(handedOut).toEqual([])
})

test('a privileged pool is never given to a stranger; another one is', async () => {
  const [ours, theirs] = [await aRun(OURS), await aRun(STRANGERS)]
  const ask = (run: RunRow, pool: string) =>
    call('acquirePools', { key: jobOf(run).key, requests: [{ pool, count: 1, labels: [] }] })

  expect(await ask(theirs, 'rig')).toMatchObject({
    kind: 'impossible',
    sentence: expect.stringContaining('pool rig is privileged'),
  })
  expect((await ask(ours, 'rig')).kind).toBe('granted')
  expect((await ask(theirs, 'board')).kind).toBe('granted')
})

test('the credentials of a unit reach the job that holds it, and never one of a stranger', async () => {
  const job = aJob('busybox', [aStep('true')], { name: 'unit', pools: [{ pool: 'board', count: 1, labels: [] }] })
  const start = async (admission: Admitted) => {
    const input = jobOf(await aRun(admission, [testOf(job)]), job)
    const held = await call('acquirePools', { key: input.key, requests: job.pools })
    const started = await call('startJob', input)
    await call('endJob', { key: input.key, outcome: 'succeeded', isGone: true })
    return [held.kind, started.kind]
  }

  expect(await start(STRANGERS)).toEqual(['granted', 'placed'])
  expect(handedOut).toEqual([])
  expect(await start(OURS)).toEqual(['granted', 'placed'])
  expect(handedOut).toEqual(['board-password'])
})

test('no environment, deployment, gate or branch is a stranger’s, even if a plan says so', async () => {
  const { id: run, change } = await aRun(STRANGERS)
  const [repo, environment, gate] = ['acme/web', 'production', 'signoff']
  const deliverable = { name: 'web', kind: 'image', digest: 'sha256:1', reference: 'web' } as const
  const of = { run, repo, environment }

  expect(await call('acquireEnvironment', of)).toMatchObject({ kind: 'impossible' })
  expect(await call('deploy', { ...of, try: 1, commit: change.commit, deliverable })).toMatchObject({
    ...{ outcome: 'failed', reason: expect.stringContaining('environment production is not available') },
  })
  await expect(call('openGate', { ...of, gate, deliverables: [], specDigest: 'd' })).rejects.toThrow('not available')
  expect(await store.gates.ofRun(run)).toEqual([])
  expect(await call('promote', { run, gate, branch: 'production' })).toMatchObject({
    reason: expect.stringContaining('branch production is not moved by this run'),
  })
})

test('a try of a stranger’s run begins with tests only, and knows no address; a run that is held does not begin', async () => {
  const gate: Stage = { kind: 'gate', name: 'signoff', environment: 'production' }
  const begin = async (admission: Admitted, stages?: readonly Stage[]) =>
    call('beginTry', { run: (await aRun(admission, stages)).id, try: 1 })

  expect(await begin(STRANGERS)).toMatchObject({ kind: 'begun', context: { environmentUrls: {} } })
  expect(await begin(OURS)).toMatchObject({ context: { environmentUrls: { staging: 'http://staging.test' } } })
  expect(await begin(STRANGERS, [testOf(ASKING), gate])).toMatchObject({
    ...{ kind: 'refused', outcome: 'failed', reason: expect.stringContaining('stage signoff is not for this run') },
  })
  expect(await begin(HELD)).toMatchObject({ kind: 'refused', outcome: 'canceled' })
})
