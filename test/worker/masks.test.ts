import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MockActivityEnvironment } from '@temporalio/testing'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createControlActivities } from '../../activities/control.ts'
import type { ApiDeps } from '../../src/api/deps.ts'
import { internalRoutes } from '../../src/api/internal.ts'
import { loadConfig } from '../../src/config/load.ts'
import { type Admitted, admit } from '../../src/core/admission.ts'
import type { JobKey } from '../../src/core/ids.ts'
import type { JobInput } from '../../src/core/run-contract.ts'
import { createFakeEngine } from '../../src/engine/fake/fake-engine.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { Store } from '../../src/store/types.ts'
import { sweep } from '../../worker/sweep.ts'
import { aJob, aStep } from '../helpers/docker.ts'
import { newRun, push } from '../store/backend.ts'

const FILE = `
repositories:
  acme/web:
    forge: git
    url: /srv/git/web.git
    webhook_secrets: [{ env: HOOK_SECRET }]
    secrets: { NPM_TOKEN: { env: NPM_TOKEN } }
people: { ada: { roles: [admin] } }
pools:
  board: { units: { board-1: { credentials: { PASSWORD: { env: BOARD_PASSWORD } } } } }
`
const OURS = admit('push', { origin: 'branch', specChanged: false, approved: false }) as Admitted
const log = pino({ level: 'silent' })
const JOB = aJob('busybox', [aStep('true')], {
  ...{ name: 'unit', secrets: [{ name: 'NPM_TOKEN', env: true }], pools: [{ pool: 'board', count: 1, labels: [] }] },
})

let dir: string
let store: Store
let engine: ReturnType<typeof createFakeEngine>
let key: JobKey
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pst-masks-'))
  await writeFile(join(dir, 'penstock.config.yml'), FILE)
  store = await openStore({ url: `sqlite:${join(dir, 'penstock.db')}` })
  await store.units.configure((await config()).pools)
  await store.leases.setJobSlots(10)
  engine = createFakeEngine({ behave: () => ({}) })
  const [node] = await engine.cluster.nodes()
  await engine.cluster.setWorkerAlive(node?.id ?? '', true)
  const run = await newRun(store, push('a'), OURS)
  const stages = [{ kind: 'jobs', name: 'test', jobs: [JOB] } as const]
  await store.runs.setPlan(run.id, { version: 1, repo: 'acme/web', specDigest: 'd', stages })
  key = { run: run.id, stage: 'test', job: 'unit', attempt: 1 }
})
afterEach(async () => {
  await engine.close()
  await store.close()
  await rm(dir, { recursive: true })
})

function config(env: Readonly<Record<string, string>> = {}) {
  return loadConfig({
    file: join(dir, 'penstock.config.yml'),
    env: {
      ...{
        PENSTOCK_DATA: dir,
        HOOK_SECRET: 'secret-of-acme-web-32',
        PENSTOCK_WORKER_TOKEN: 'worker-token-of-this-test',
      },
      ...{ NPM_TOKEN: 'npm_old_0123456789', BOARD_PASSWORD: 'old-board-password', ...env },
    },
  })
}

/** As the control worker does, with the file as it is then. */
async function startJob(env: Readonly<Record<string, string>> = {}): Promise<void> {
  const never = () => Promise.reject(new Error('nothing may come here'))
  const activities = createControlActivities({
    ...{ config: await config(env), store, cluster: engine.cluster, log, clock: Date.now },
    mirrors: { ensure: never } as never,
    forges: () => ({ source: never }) as never,
    deployer: { deploy: never } as never,
    errands: { run: never } as never,
  })
  const call = (name: 'acquirePools' | 'startJob', input: unknown) =>
    new MockActivityEnvironment().run(activities[name] as never, input as never)
  const change = { commit: 'c', ref: 'refs/heads/master' }
  const context = { change, trigger: 'push', environmentUrls: {}, unplaceable: 'fail' } as const
  const input: JobInput = { key, repo: 'acme/web', job: JOB, context, deliverables: [] }
  await call('acquirePools', { key, requests: JOB.pools })
  expect(await call('startJob', input)).toMatchObject({ kind: 'placed' })
}

/** As a follower of the log asks the server, with the file as it is now. */
async function toMask(env: Readonly<Record<string, string>> = {}): Promise<{ version: string; values: string[] }> {
  const deps = { config: await config(env), store, log } as unknown as ApiDeps
  const route = internalRoutes(deps).find(({ path }) => path === '/internal/v1/secrets')
  const query = new URLSearchParams({ ...key, attempt: String(key.attempt) })
  const reply = await route?.handle({ query } as never, undefined as never)
  if (reply?.kind !== 'json') throw new Error('no answer')
  const { version, values } = reply.body as { version: string; values: { value: string }[] }
  return { version, values: values.map(({ value }) => value).sort() }
}

const NEW = { NPM_TOKEN: 'npm_new_0123456789', BOARD_PASSWORD: 'new-board-password' }
const OLD_VALUES = ['npm_old_0123456789', 'old-board-password']
const ALL_VALUES = ['new-board-password', 'npm_new_0123456789', ...OLD_VALUES].sort()

test('what a job was given stays masked for who follows its log later, whatever the file says by then', async () => {
  await startJob()

  const before = await toMask()
  const changed = await toMask(NEW)
  const again = await toMask(NEW)
  // The unit has gone to somebody else, and the job's log is still being read.
  await store.leases.release([`${key.run}/test/unit/1`], { isGone: true })
  const without = await toMask(NEW)

  expect(before.values).toEqual(OLD_VALUES)
  expect(changed.values).toEqual(ALL_VALUES)
  expect(changed.version).not.toBe(before.version)
  expect(again).toEqual(changed)
  expect(without.values).toEqual(ALL_VALUES.filter((one) => one !== 'new-board-password'))
})

test('a job whose start is tried again, with another file by then, has both masked', async () => {
  await startJob()
  await startJob()
  await startJob(NEW)

  expect(await store.masks.of(`${key.run}/test/unit/1`)).toHaveLength(2)
  expect((await toMask({ NPM_TOKEN: 'npm_third_0123456789' })).values).toEqual(
    [...ALL_VALUES, 'npm_third_0123456789'].sort(),
  )
})

test('nothing readable of it is in the database, and nothing at all when the run has ended', async () => {
  await startJob()
  const kept = (await store.masks.of(`${key.run}/test/unit/1`)).join()
  const cluster = { ownedRuns: async () => [], removeRun: vi.fn() }

  await sweep({ store, cluster, log })
  const open = await store.masks.runs()
  await store.events.append(key.run, 'end', [{ type: 'run.finished.v1', try: 1, outcome: 'succeeded' }])
  await sweep({ store, cluster, log })

  for (const text of [kept, Buffer.from(kept, 'base64').toString('latin1')])
    for (const value of OLD_VALUES) expect(text).not.toContain(value)
  expect([open, await store.masks.runs()]).toEqual([[key.run], []])
})

test('where it cannot be opened, nobody is told to go on without it', async () => {
  await startJob()

  await expect(toMask({ PENSTOCK_WORKER_TOKEN: 'another-token-than-before' })).rejects.toThrow(
    `the secrets that ${key.run}/test/unit/1 was given cannot be opened: was the worker token changed?`,
  )
})
