import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { CONTROL_QUEUE } from '../../src/core/ids.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { Store } from '../../src/store/types.ts'
import { createReminder, createTimekeeper, tendLeases } from '../../worker/leases.ts'
import { revoked } from '../../workflows/messages.ts'
import { startTemporal } from '../helpers/temporal.ts'
import { pool } from '../store/pools.ts'

const log = { info: vi.fn(), warn: vi.fn() }
const cluster = { nodes: async () => [{ id: 'node-1', hostname: 'n1', ready: true, workerAlive: true }] }

let now: number
let store: Store
beforeEach(async () => {
  now = 1_000_000_000
  store = await openStore({ url: 'sqlite::memory:', clock: () => now })
  await store.units.configure([pool('rig', { r1: { capacity: 2 } }, { maxHoldMs: 3_600_000 })])
})
afterEach(() => store.close())

async function hold(holder: string): Promise<void> {
  await store.leases.acquire({
    ...{ holder, run: '', workflowId: holder, party: 'acme/web', priority: 0, ttlMs: 10 * 3_600_000 },
    requests: [{ pool: 'rig', count: 1, labels: [], mode: 'shared' }],
  })
  await store.leases.heard(holder, 'node-1')
}

const quarantined = async () => (await store.leases.list()).units[0]?.quarantined

describe('time', () => {
  async function pass(ms: number, act: () => Promise<unknown>, everyMs = 2_000): Promise<void> {
    for (const end = now + ms; now < end; ) {
      now += everyMs
      await act()
    }
  }

  test('makes nobody silent, and stops nobody, while the server is down', async () => {
    await hold('one')

    await pass(2 * 3_600_000, () => tendLeases({ store, cluster }), 60_000)
    const down = [await quarantined(), await store.leases.revoked()]
    const server = createTimekeeper({ store, clock: () => now, log })
    await server.once()
    const back = [await quarantined(), await store.leases.revoked()]
    await store.leases.heard('one', 'node-1')
    await pass(70_000, () => server.once())

    expect([down, back]).toEqual([
      [undefined, []],
      [undefined, []],
    ])
    // Its time is over all the same.
    expect(await store.leases.revoked()).toMatchObject([{ holder: 'one' }])
  })

  test('in which the server stood still is nobody’s silence', async () => {
    const server = createTimekeeper({ store, clock: () => now, log })
    await hold('one')
    const beat = async () => {
      await store.leases.heard('one', 'node-1')
      await server.once()
    }
    await pass(120_000, beat)

    now += 50_000
    await server.once()
    const after = await quarantined()
    await pass(70_000, () => server.once())

    expect(after).toBeUndefined()
    expect(await quarantined()).toBe('the node of one is silent')
  })
})

describe('who has lost his unit', () => {
  let temporal: Awaited<ReturnType<typeof startTemporal>>
  beforeAll(async () => {
    temporal = await startTemporal()
  }, 180_000)
  afterAll(() => temporal?.teardown())

  /** Nobody runs it: what it was told is in its history. */
  async function start(workflowId: string) {
    return temporal.client.workflow.start('job', { workflowId, taskQueue: `${CONTROL_QUEUE}-nobody`, args: [] })
  }

  async function lose(holder: string): Promise<void> {
    await hold(holder)
    now += 3_600_001
    const upSince = now - 3_600_000
    await store.leases.watch({ upSince, graceMs: 60_000, silentMs: 10 * 3_600_000 })
  }

  test('is told again, ever less often, until he has ended', async () => {
    const id = `lost-${crypto.randomUUID()}`
    const workflow = await start(id)
    await lose(id)
    const reminder = createReminder({ store, client: temporal.client, clock: () => now, log })
    const look = async (ms: number) => {
      now += ms
      await reminder.once()
      const { events } = await workflow.fetchHistory()
      return (events ?? []).filter((one) => one.workflowExecutionSignaledEventAttributes?.signalName === revoked.name)
        .length
    }

    const counts = [await look(0), await look(9_000), await look(1_000), await look(9_000), await look(1_000)]
    counts.push(await look(10_000), await look(10_000))
    await store.leases.release([id], { isGone: true })
    counts.push(await look(3_600_000))

    expect(counts).toEqual([0, 0, 1, 1, 2, 2, 3, 3])
    await workflow.terminate()
  })

  test('and whom Temporal does not know is told when it does; who was closed there has ended', async () => {
    const id = `lost-${crypto.randomUUID()}`
    await lose(id)
    const reminder = createReminder({ store, client: temporal.client, clock: () => now, log })
    const look = async () => {
      now += 3_600_000
      await reminder.once()
      return store.leases.revoked()
    }
    await look()

    const unknown = await look()
    const workflow = await start(id)
    const running = await look()
    await workflow.terminate()
    const closed = await look()

    expect([unknown.length, running.length, closed.length]).toEqual([1, 1, 0])
    // Its container is not proved gone by that.
    expect(await store.leases.unproved()).toMatchObject([{ holder: id, node: 'node-1' }])
    const { events } = await workflow.fetchHistory()
    expect(events?.some((one) => one.workflowExecutionSignaledEventAttributes)).toBe(true)
    expect(log.warn).not.toHaveBeenCalled()
  })
})
