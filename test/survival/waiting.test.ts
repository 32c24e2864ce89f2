import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Client } from '@temporalio/client'
import type { TestWorkflowEnvironment } from '@temporalio/testing'
import { Worker, type WorkflowBundleWithSourceMap } from '@temporalio/worker'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ControlDeps } from '../../activities/control/context.ts'
import { createControlActivities } from '../../activities/control.ts'
import { createBallots } from '../../src/approval/ballots.ts'
import { loadConfig } from '../../src/config/load.ts'
import type { Config } from '../../src/config/types.ts'
import { type Admitted, admit } from '../../src/core/admission.ts'
import { CONTROL_QUEUE } from '../../src/core/ids.ts'
import type { Stage } from '../../src/core/plan.ts'
import type { ReportPort } from '../../src/core/report/types.ts'
import type { ControlActivities } from '../../src/core/run-contract.ts'
import { createReporter } from '../../src/report/reporter.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { Store } from '../../src/store/types.ts'
import { checkBundle } from '../../worker/check-bundle.ts'
import { bundleWorkflows, startTemporal } from '../helpers/temporal.ts'
import { aPlan, GATE, PROMOTE } from '../helpers/workflows.ts'

/**
 * Weeks at gates. The database's clock, by which gates expire, is moved; Temporal's own is that of this machine, as its dev
 * server has no other: what its timers do when they fire early is asked for by hand.
 */

const RUNS = 1000
const REPO = 'acme/web'
const HOUR = 3_600_000
const DAY = 24 * HOUR
const WEEK = 7 * DAY
const OURS = admit('push', { origin: 'branch', specChanged: false, approved: false }) as Admitted
const STAGES: readonly Stage[] = [GATE, PROMOTE]
const LOG = pino({ level: 'silent' })

let dir: string
let config: Config
let store: Store
let temporal: TestWorkflowEnvironment
let client: Client
let worker: Awaited<ReturnType<typeof startWorker>>
let bundles: readonly WorkflowBundleWithSourceMap[]
/** How far the database's clock is ahead of this machine's. */
let ahead = 0
const clock = () => Date.now() + ahead
/** Whatever of an engine is touched. */
const touched: string[] = []
const promoted: string[] = []
let looks = 0

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'penstock-waiting-'))
  const file = join(dir, 'penstock.config.yml')
  await writeFile(
    file,
    `
people: { ada: { roles: [approver] }, ben: { roles: [approver] }, ops: { roles: [operator] } }
repositories:
  ${REPO}:
    forge: git
    url: ${dir}/web.git
    webhook_secrets: [{ env: HOOK }]
    environments: { production: { approvers: ["role:approver"], expires: 28d } }
`,
  )
  config = await loadConfig({ file, env: { HOOK: 'a-webhook-secret-of-32-bytes-....', PENSTOCK_DATA: dir } })
  store = await openStore({ url: `sqlite:${join(dir, 'penstock.db')}`, clock })
  temporal = await startTemporal()
  client = new Client({ connection: temporal.connection, namespace: temporal.namespace ?? 'default' })
  // The same workflows as another release bundles them.
  const other = fileURLToPath(new URL('../workflows/short-patience.ts', import.meta.url))
  bundles = [await bundleWorkflows(), await bundleWorkflows([other])]
}, 240_000)
afterAll(async () => {
  await worker?.stop()
  await temporal?.teardown()
  await store?.close()
  await rm(dir, { recursive: true, force: true })
})

/** A control worker: its activities over a connection of its own, with a clock that may be wrong. */
async function startWorker(bundle: WorkflowBundleWithSourceMap, wrongBy = 0) {
  const own = await openStore({ url: `sqlite:${join(dir, 'penstock.db')}`, clock: () => clock() + wrongBy })
  const untouchable = (name: string) =>
    new Proxy({}, { get: (_, key) => touched.push(`${name}.${String(key)}`) && undefined })
  const activities = createControlActivities({
    ...{ config, store: own, clock: () => clock() + wrongBy, log: LOG },
    // No repository: a run has one commit, and production is where it is.
    mirrors: {
      ensure: async () => {},
      commitInfo: async () => ({ author: 'x', authorEmail: 'x@x', title: 'x', others: [] }),
    },
    forges: () => ({
      source: async () => ({ url: dir }),
      branchTip: async () => undefined,
      async fastForward(_branch: string, commit: string) {
        promoted.push(commit)
        return { kind: 'moved' }
      },
    }),
    cluster: untouchable('cluster'),
    deployer: untouchable('deployer'),
  } as unknown as ControlDeps)
  const counted: ControlActivities = {
    ...activities,
    openGate(input) {
      looks++
      return activities.openGate(input)
    },
  }
  const worker = await Worker.create({
    connection: temporal.nativeConnection,
    namespace: temporal.namespace ?? 'default',
    taskQueue: CONTROL_QUEUE,
    activities: counted,
    workflowBundle: bundle,
  })
  const running = worker.run()
  return {
    expireGate: activities.expireGate,
    status: () => worker.getStatus(),
    async stop() {
      worker.shutdown()
      await running
      await own.close()
    },
  }
}

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const limit = Date.now() + 120_000
  while (!(await isSo())) {
    if (Date.now() > limit) throw new Error(`waited too long for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

/** Each run looks at its gate again: after a restart its whole story is replayed for it. */
async function wakeAll(ids: readonly string[]): Promise<void> {
  const before = looks
  await together(ids, (id) => client.workflow.getHandle(id).signal('granted'))
  await until('every run to look at its gate', () => looks >= before + ids.length)
}

async function together<T>(all: readonly T[], act: (one: T) => Promise<unknown>): Promise<void> {
  for (let from = 0; from < all.length; from += 50) await Promise.all(all.slice(from, from + 50).map(act))
}

/** Green anywhere that must not be: at the gate, after it, at the whole. */
async function greens(): Promise<readonly string[]> {
  const port = { setStatus: async () => {}, setCheck: async () => {} } as unknown as ReportPort
  const reporter = createReporter({
    ...{
      store,
      portOf: () => port,
      urlOf: (run) => `http://ci.test/runs/${run}`,
      testersOf: () => [],
      addressesOf: () => ({}),
      clock,
    },
    ...{ tailOf: async () => [], mask: (_, text) => text, log: LOG },
  })
  while ((await reporter.once()) > 0);
  const states = await store.reports.unsent()
  expect(states.length).toBeGreaterThanOrEqual(RUNS * 4)
  return states.flatMap(({ subject, kind, name, content }) => {
    const isGreen = JSON.stringify(content).match(/"state":"success"|"conclusion":"success"/) !== null
    return isGreen ? [`${subject.slice(-4)} ${kind} ${name}`] : []
  })
}

async function begin(): Promise<readonly string[]> {
  const ids: string[] = []
  for (let n = 0; n < RUNS; n += 20) {
    const made = Array.from({ length: 20 }, async (_, at) => {
      const [before, commit] = [n + at, n + at + 1].map((one) => one.toString(16).padStart(40, '0')) as [string, string]
      const change = { commit, before, ref: 'refs/heads/master', author: 'mia' }
      const recorded = await store.deliveries.record(
        { source: 'test', id: `t-${n + at}`, bodyDigest: '0', event: 'push' },
        { kind: 'push', repo: REPO, requestedBy: 'test', change },
        OURS,
      )
      if (recorded.kind !== 'run') throw new Error(recorded.kind)
      await store.runs.setPlan(recorded.run.id, aPlan(STAGES))
      ids.push(recorded.run.id)
    })
    await Promise.all(made)
  }
  await together(ids, (run) =>
    client.workflow.start('pipelineRun', {
      taskQueue: CONTROL_QUEUE,
      workflowId: run,
      args: [{ run, try: 1 }],
    }),
  )
  return ids
}

test('a thousand runs at gates for weeks: none lost, none released early, none expired early, none green', async () => {
  const [first, second] = bundles
  if (first === undefined || second === undefined) throw new Error('there are two')
  worker = await startWorker(first)
  const ids = await begin()
  await until('all to wait', async () => (await store.gates.waiting()).length === RUNS)
  await until('nothing to be under way', () => worker.status().numInFlightWorkflowActivations === 0)
  const opened = (await store.gates.waiting()).map(({ id, rules }) => [id, rules.expiresAt])

  // Two weeks, a restart, and a release whose bundle is another.
  await worker.stop()
  ahead = 2 * WEEK
  const bundle = join(dir, 'bundle.js')
  await writeFile(bundle, second.code)
  await checkBundle({ bundle, dataDir: dir, client, open: ids, log: LOG })
  worker = await startWorker(second)
  await wakeAll(ids)

  // An hour back, and forth again; then a worker whose clock is two hours ahead, one hour before the end.
  ahead -= HOUR
  await wakeAll(ids.slice(0, 100))
  await worker.stop()
  ahead = 4 * WEEK - HOUR
  worker = await startWorker(second, 2 * HOUR)
  await wakeAll(ids.slice(0, 100))
  await worker.stop()
  // A Temporal whose clock has jumped has its timers fire now: it is the database's clock that decides.
  worker = await startWorker(first)
  await together(ids, (run) => worker.expireGate({ run, gate: GATE.name }))
  await until('nothing to be under way', () => worker.status().numInFlightWorkflowActivations === 0)

  expect((await store.gates.waiting()).map(({ id, rules }) => [id, rules.expiresAt])).toEqual(opened)
  expect(promoted).toEqual([])
  expect(await greens()).toEqual([])
  // Nothing is held: no engine was ever asked for anything, no unit or slot is leased, no activity waits.
  expect(touched).toEqual([])
  const { units, waiters } = await store.leases.list()
  expect([units.filter(({ leases }) => leases.length > 0), waiters]).toEqual([[], []])
  expect(worker.status()).toMatchObject({ numInFlightActivities: 0, numInFlightLocalActivities: 0 })

  // In the last hour votes count as on the first day, for exactly the runs that they are for.
  const ballots = createBallots({ config, store, clock, roleOf: async () => undefined, proof: 'session' })
  const gates = await store.gates.waiting()
  const [released, rejected] = [gates.slice(20, 30), gates.slice(-20, -15)]
  for (const gate of released)
    await ballots.cast({ gate, answer: 'approve', by: 'ada', channel: 'api' }, `v/${gate.id}`)
  for (const gate of rejected) await ballots.cast({ gate, answer: 'reject', by: 'ben', channel: 'api' }, `v/${gate.id}`)
  for (const { id, message } of await store.outbox.take(RUNS * 3, 60_000)) {
    if (message.kind !== 'signal') continue
    await client.workflow.getHandle(message.workflowId).signal(message.signal, ...message.args)
    await store.outbox.done(id)
  }
  await until('the votes to be counted', async () => (await store.gates.waiting()).length === RUNS - 15)
  await until('the promotions', () => promoted.length >= released.length)
  expect(promoted.toSorted()).toEqual(released.map(({ subject }) => subject.commit).toSorted())
  await until('none to be lost', async () => {
    const { count } = await client.workflow.count(`WorkflowType = 'pipelineRun' AND ExecutionStatus = 'Running'`)
    return count === RUNS - 15
  })

  // And when their time is over by both clocks, it is.
  ahead = 4 * WEEK + HOUR
  const late = (await store.gates.waiting()).slice(-5).map(({ run }) => run)
  const ends = await Promise.all(late.map((run) => worker.expireGate({ run, gate: GATE.name })))
  expect(new Set(ends.map(({ kind }) => kind))).toEqual(new Set(['expired']))
}, 400_000)
