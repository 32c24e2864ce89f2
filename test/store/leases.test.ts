import { expect, test } from 'vitest'
import { JOB_SLOTS } from '../../src/core/pool/state.ts'
import type { Store } from '../../src/store/types.ts'
import { delivery, onEveryDatabase, push } from './backend.ts'
import { pool, RIGS } from './pools.ts'

const STAGING = { pool: 'env:acme/web/staging', count: 1, labels: [] }

function ask(
  store: Store,
  holder: string,
  over: Partial<Parameters<Store['leases']['acquire']>[0]> & { count?: number; labels?: string[] } = {},
) {
  const { count = 1, labels = [], ...rest } = over
  return store.leases.acquire({
    holder,
    run: holder.split('/')[0] ?? holder,
    workflowId: `workflow ${holder}`,
    requests: [{ pool: 'rig', count, labels }],
    priority: 0,
    ttlMs: 60_000,
    party: 'acme/web',
    ...rest,
  })
}

async function signaled(store: Store): Promise<string[]> {
  const rows = await store.outbox.pending()
  return rows.flatMap(({ message }) =>
    message.kind === 'signal' && message.signal === 'granted' ? [message.workflowId] : [],
  )
}

await onEveryDatabase((lab) => {
  test('a free unit is granted at once, with its properties and time, and the caller gets no signal', async () => {
    const { store, clock } = lab()
    await store.units.configure(RIGS)

    const granted = await ask(store, 'a', { labels: ['arch=arm64'] })

    const lease = {
      ...{ pool: 'rig', unit: 'r1', fence: 1, holder: 'a', run: 'a', mode: 'exclusive' },
      ...{ since: clock.now, expiresAt: clock.now + 60_000 },
    }
    expect(granted).toEqual({ kind: 'granted', leases: [{ ...lease, properties: { url: 'http://r1' } }] })
    expect(await ask(store, 'a')).toEqual(granted)
    expect(await signaled(store)).toEqual([])
  })

  test('who has to wait hears where, for whom and why, and is woken when it is granted', async () => {
    const { store } = lab()
    await store.units.configure(RIGS)
    await ask(store, 'a', { count: 2 })
    await ask(store, 'b')

    const queued = await ask(store, 'c')
    const again = await ask(store, 'c')
    await store.leases.release(['a'])

    expect(queued).toMatchObject({
      kind: 'queued',
      position: 2,
      holders: [
        { holder: 'a', unit: 'r1' },
        { holder: 'a', unit: 'r2' },
      ],
      sentence: 'waits for 1 of pool "rig"; held by a; 1 ahead in the queue',
    })
    expect(again).toEqual(queued)
    expect(await signaled(store)).toEqual(['workflow b', 'workflow c'])
    expect(await ask(store, 'c')).toMatchObject({ kind: 'granted', leases: [{ fence: 2 }] })
  })

  test('jobs get slots as there are any, by priority', async () => {
    const { store } = lab()
    await store.units.configure(RIGS)
    await store.leases.setJobSlots(2)
    const slot = { requests: [{ pool: JOB_SLOTS, count: 1, labels: [] }] }
    await ask(store, 'a', slot)
    await ask(store, 'b', slot)

    const c = await ask(store, 'c', slot)
    const d = await ask(store, 'd', { ...slot, priority: 1 })
    await store.units.configure(RIGS)
    await store.leases.setJobSlots(1)
    await store.leases.release(['b'])
    const afterShrinking = await signaled(store)
    await store.leases.setJobSlots(2)
    const afterGrowing = await signaled(store)
    await store.leases.release(['a', 'd'])

    expect(c).toMatchObject({ kind: 'queued', sentence: 'waits for a job slot; all 2 job slots are taken' })
    expect(d).toMatchObject({ kind: 'queued', position: 1 })
    expect(afterShrinking).toEqual([])
    expect(afterGrowing).toEqual(['workflow d'])
    expect(await signaled(store)).toEqual(['workflow d', 'workflow c'])
  })

  test('a hundred askers at once, over several stores, never share a unit', async () => {
    const { store, another } = lab()
    const other = await another()
    await store.units.configure(RIGS)

    const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => ask(i % 2 ? store : other, `h${i}`)))

    expect(answers.filter((one) => one.kind === 'granted')).toHaveLength(2)
    const { units, waiters } = await store.leases.list()
    expect(new Set(units.map((unit) => unit.leases[0]?.holder)).size).toBe(2)
    expect(waiters.map((one) => one.position)).toEqual(Array.from({ length: 98 }, (_, i) => i + 1))
  })

  test('what no unit can ever serve is refused with the reason', async () => {
    const { store } = lab()
    await store.units.configure(RIGS)

    expect(await ask(store, 'a', { count: 3 })).toEqual({
      kind: 'impossible',
      sentence: 'no units can ever serve 3 of pool "rig": pool "rig" has 2 in all',
    })
    expect(await ask(store, 'a', { requests: [{ pool: 'gpu', count: 1, labels: [] }] })).toMatchObject({
      sentence: expect.stringContaining('there is no pool "gpu"'),
    })
    expect((await store.leases.list()).waiters).toEqual([])
  })

  test('units are chosen by an expression over their properties; what none can serve names the nearest', async () => {
    const { store } = lab()
    const units = {
      r1: { properties: { arch: 'arm64', memory: 2 } },
      r2: { properties: { arch: 'arm64', memory: 8 }, labels: ['camera'] },
    }
    await store.units.configure([pool('rig', units)])
    const where = (text: string) => ({ requests: [{ pool: 'rig', count: 1, labels: [], where: text }] })

    const big = await ask(store, 'a', where("arch == 'arm64' && memory >= 4"))
    const again = await ask(store, 'b', where("'camera' in labels"))
    const never = await ask(store, 'c', where("arch == 'arm64' && memory >= 16"))

    expect(big).toMatchObject({ kind: 'granted', leases: [{ unit: 'r2' }] })
    expect(again).toMatchObject({ kind: 'queued', holders: [{ holder: 'a' }] })
    expect(never).toEqual({
      kind: 'impossible',
      sentence:
        'no units can ever serve 1 of pool "rig" where arch == \'arm64\' && memory >= 16: pool "rig" has 2 in all, 0 that fit; the nearest is r1, which is not memory >= 16: its memory is 2',
    })
  })

  test('the end of a run ends its leases and its requests', async () => {
    const { store } = lab()
    await store.units.configure(RIGS)
    await ask(store, 'one/a', { count: 2 })
    await ask(store, 'one/b')
    await ask(store, 'two/a')

    await store.leases.releaseRun('one')
    await store.leases.releaseRun('one')

    expect(await signaled(store)).toEqual(['workflow two/a'])
    const { units, waiters } = await store.leases.list()
    expect(units.map((unit) => unit.leases[0]?.holder)).toEqual([undefined, 'two/a'])
    expect(waiters).toEqual([])
  })

  test('an attempt never waits behind an earlier one of its own, and does not end a later one', async () => {
    const { store } = lab()
    await store.units.configure(RIGS)
    await ask(store, 'run/test/e2e/1', { count: 2 })

    const second = await ask(store, 'run/test/e2e/2', { count: 2, predecessor: 'run/test/e2e/' })
    const late = await ask(store, 'run/test/e2e/1', { count: 2, predecessor: 'run/test/e2e/' })

    expect(second).toMatchObject({ kind: 'granted', leases: [{ fence: 2 }, { fence: 2 }] })
    expect(late.kind).toBe('queued')
    expect(await store.leases.ofHolder('run/test/e2e/2')).toHaveLength(2)
    // The slot of an attempt is none of its own.
    await ask(store, 'run/test/e2e/3:slot', { requests: [STAGING] })
    await ask(store, 'run/test/e2e/4', { predecessor: 'run/test/e2e/' })
    expect(await store.leases.ofHolder('run/test/e2e/3:slot')).toHaveLength(1)
  })

  test('an environment has one holder, and who waits for it gives way to the newest', async () => {
    const { store } = lab()
    const staging = { requests: [STAGING], supersedes: 'staging' }
    const first = await ask(store, 'run1', staging)
    await ask(store, 'run2', staging)

    const third = await ask(store, 'run3', staging)
    const second = await ask(store, 'run2', staging)
    const holder = await ask(store, 'run1', staging)

    expect(first).toMatchObject({ kind: 'granted', leases: [{ pool: 'env:acme/web/staging', fence: 1 }] })
    expect(third).toMatchObject({
      kind: 'queued',
      position: 1,
      sentence: 'waits for environment acme/web/staging; held by run1',
    })
    expect(second).toEqual({ kind: 'superseded', by: 'run3' })
    expect(holder).toEqual(first)
    expect(await signaled(store)).toEqual(['workflow run2'])
    await store.leases.release(['run1'])
    expect(await signaled(store)).toEqual(['workflow run2', 'workflow run3'])
  })

  test('an old push whose delivery came late does not take an environment’s place from a newer one', async () => {
    const { store } = lab()
    const candidate = (run: string) => ask(store, run, { run, requests: [STAGING], supersedes: 'staging' })
    const pushed = async (after: string, at?: number) => {
      const told = await store.deliveries.record(delivery(at === undefined ? {} : { at }), push(after))
      return told.kind === 'run' ? told.run.id : ''
    }
    const [first, third, second, unknown] = [
      await pushed('a', 1),
      await pushed('c', 3),
      await pushed('b', 2),
      await pushed('d'),
    ]

    const granted = await candidate(first)
    const waiting = await candidate(third)
    const late = await candidate(second)
    await store.leases.release([first])
    const promoted = await candidate(third)
    const lateAgain = await candidate(second)
    const timeless = await candidate(unknown)
    await store.leases.release([third])
    await store.leases.release([unknown])
    const alone = await candidate(second)

    expect([granted.kind, waiting.kind, promoted.kind, timeless.kind, alone.kind]).toEqual([
      ...['granted', 'queued', 'granted', 'queued', 'granted'],
    ])
    expect([late, lateAgain]).toEqual([1, 2].map(() => ({ kind: 'superseded', by: third })))
  })

  test('a unit that left the file ends with its holder, and its fence does not fall when it comes back', async () => {
    const { store } = lab()
    await store.units.configure(RIGS)
    await ask(store, 'a', { count: 2 })
    await ask(store, 'env', { requests: [STAGING] })
    const waiting = await ask(store, 'b', { labels: ['arch'] })

    await store.units.configure([pool('rig', { r2: {} })])
    const held = await store.leases.ofHolder('a')
    const impossible = await ask(store, 'b', { labels: ['arch'] })
    await store.leases.release(['a'])
    const left = (await store.leases.list()).units.map((unit) => `${unit.pool} ${unit.unit}`)
    await store.units.configure(RIGS)
    const back = await ask(store, 'c', { labels: ['arch'] })

    expect(waiting.kind).toBe('queued')
    expect(held).toHaveLength(2)
    expect(impossible.kind).toBe('impossible')
    expect(await signaled(store)).toEqual(['workflow b'])
    expect(left).toEqual(['env:acme/web/staging environment', 'rig r2'])
    expect(back).toMatchObject({ kind: 'granted', leases: [{ unit: 'r1', fence: 2 }] })
  })
})
