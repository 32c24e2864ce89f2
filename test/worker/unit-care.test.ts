import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { MockActivityEnvironment } from '@temporalio/testing'
import { pino } from 'pino'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { ControlContext } from '../../activities/control/context.ts'
import { createUnitCare } from '../../activities/control/units.ts'
import type { HandOverStep } from '../../src/core/pool/settings.ts'
import type { CareStep } from '../../src/core/run-contract.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { Store } from '../../src/store/types.ts'
import { pool } from '../store/pools.ts'

const CONTAINER: HandOverStep = {
  ...{ kind: 'container', image: 'tools:1', run: ['true'], constraints: [], timeoutMs: 60_000 },
}
const ready = createServer((_, response) => response.end('ok'))
beforeAll(() => new Promise<void>((resolve) => ready.listen(0, '127.0.0.1', resolve)))
afterAll(() => new Promise((resolve) => ready.close(resolve)))

/** What a worker that was killed has left in Docker, by name; and what was ended of it. */
let left: Set<string>
let removed: string[]
let store: Store
let care: () => Promise<CareStep>
beforeEach(async () => {
  left = new Set()
  removed = []
  store = await openStore({ url: 'sqlite::memory:' })
  const errands = {
    run: async () => ({ kind: 'done' }),
    owned: async () => [...left],
    remove: async (id: string) => {
      removed.push(id)
      left.delete(id)
    },
  }
  const context = { config: { pools: [] }, store, errands, log: pino({ level: 'silent' }) } as unknown as ControlContext
  const { careForUnit } = createUnitCare(context)
  care = () => new MockActivityEnvironment().run(careForUnit, { pool: 'rig', unit: 'r1' })
  return () => store.close()
})

function configure(probe: HandOverStep | undefined) {
  const settings = { reset: CONTAINER, ...(probe === undefined ? {} : { probe }) }
  return store.units.configure([pool('rig', { r1: {} }, settings)])
}

/** The unit is being probed by a container whose worker was killed. */
async function probing(): Promise<string> {
  await configure(CONTAINER)
  const task = await store.units.care('rig', 'r1')
  if (task.kind !== 'try' || task.phase !== 'probing') throw new Error('the unit is not being probed')
  const id = `rig/r1/probing/${task.number}`
  left.add(id)
  return id
}

test('a container that is at work is gone on with by the same settings', async () => {
  await probing()

  expect(await care()).toMatchObject({ sentence: 'rig/r1: probing succeeded' })

  expect(removed).toEqual([])
})

test.each([
  ['there is no such step any more', undefined],
  ['it is an address now', 'http'],
] as const)('a container that is at work has ended before the unit is free, when %s', async (_, kind) => {
  const id = await probing()
  const { port } = ready.address() as AddressInfo
  await configure(kind && { kind, url: `http://127.0.0.1:${port}/`, timeoutMs: 5_000 })

  expect(await care()).toMatchObject({ sentence: 'rig/r1: probing succeeded' })

  expect(removed).toEqual([id])
  expect(await store.units.care('rig', 'r1')).toEqual({ kind: 'nothing' })
})
