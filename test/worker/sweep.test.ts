import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openStore } from '../../src/store/open-store.ts'
import type { Store } from '../../src/store/types.ts'
import { sweep } from '../../worker/sweep.ts'
import { newRun, push } from '../store/backend.ts'
import { pool } from '../store/pools.ts'

const log = pino({ enabled: false })
let dir: string
let store: Store

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pst-sweep-'))
  store = await openStore({ url: `sqlite:${join(dir, 'penstock.db')}` })
  await store.units.configure([pool('rigs', { one: {} })])
})
afterEach(async () => {
  await store.close()
  await rm(dir, { recursive: true })
})

async function holdRig(holder: string, run: string): Promise<void> {
  const requests = [{ pool: 'rigs', count: 1, labels: [] }]
  await store.leases.acquire({
    holder,
    run,
    workflowId: holder,
    requests,
    priority: 0,
    ttlMs: 1_000_000,
    party: 'acme/web',
  })
}

function clusterWith(owned: () => Promise<readonly string[]>) {
  const removed: string[] = []
  return { removed, ownedRuns: owned, removeRun: async (run: string) => void removed.push(run) }
}

test('what belongs to no open run is removed, in Docker and in the pools', async () => {
  const run = await newRun(store)
  await holdRig('acme/web#99/test/test/1', 'acme/web#99')
  const cluster = clusterWith(async () => ['acme/web#99', run.id])

  await sweep({ store, cluster, log })

  expect(cluster.removed).toEqual(['acme/web#99'])
  expect((await store.leases.list()).units.map(({ leases }) => leases)).toEqual([[]])
})

test('a run that begins while it is looked what there is keeps what it has', async () => {
  const cluster = clusterWith(async () => {
    const run = await newRun(store, push('b'))
    await holdRig(`${run.id}/test/test/1`, run.id)
    return [run.id]
  })

  await sweep({ store, cluster, log })

  expect(cluster.removed).toEqual([])
  expect((await store.leases.list()).units.map(({ leases }) => leases[0]?.holder)).toEqual(['acme/web#1/test/test/1'])
})
