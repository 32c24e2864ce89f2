import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { PoolState, PoolUnit, WaitingRequest } from '../../src/core/pool.ts'
import { computeGrants, isPossible } from '../../src/core/pool.ts'

const NOW = 1000

function unit(name: string, over: Partial<PoolUnit> = {}): PoolUnit {
  return { pool: 'rig', unit: name, labels: [], fence: 0, state: 'free', ...over }
}

function wants(
  holder: string,
  seq: number,
  count: number,
  over: Partial<WaitingRequest> & { labels?: string[] } = {},
): WaitingRequest {
  const { labels = [], ...rest } = over
  return { holder, seq, priority: 0, ttlMs: 60, requests: [{ pool: 'rig', count, labels }], ...rest }
}

function granted(units: readonly PoolUnit[], waiting: readonly WaitingRequest[]): Record<string, string[]> {
  const grants = computeGrants({ units, waiting }, NOW)
  return Object.fromEntries(grants.map((one) => [one.holder, one.units.map((u) => u.unit).sort()]))
}

describe('computeGrants', () => {
  test('grants with the next fence, from now until the time to live', () => {
    const grants = computeGrants({ units: [unit('u', { fence: 6 })], waiting: [wants('a', 1, 1)] }, NOW)

    expect(grants).toEqual([
      { holder: 'a', units: [{ pool: 'rig', unit: 'u', fence: 7, since: 1000, expiresAt: 1060 }] },
    ])
  })

  test('serves by priority, then by age', () => {
    expect(granted([unit('u')], [wants('young', 2, 1), wants('old', 1, 1)])).toEqual({ old: ['u'] })
    expect(granted([unit('u')], [wants('young', 2, 1, { priority: 1 }), wants('old', 1, 1)])).toEqual({ young: ['u'] })
  })

  test('keeps free units for a big request, from small ones that come later', () => {
    const units = [unit('u1'), unit('u2', { state: 'held' })]

    expect(granted(units, [wants('big', 1, 2), wants('small', 2, 1), wants('low', 3, 1, { priority: -1 })])).toEqual({})
    expect(granted(units, [wants('big', 1, 2), wants('urgent', 2, 1, { priority: 1 })])).toEqual({ urgent: ['u1'] })
  })

  test('lets later ones have what those ahead cannot use', () => {
    const units = [unit('u1'), unit('u2'), unit('u3'), unit('x', { pool: 'gpu', state: 'held' })]
    const both = {
      requests: [
        { pool: 'rig', count: 1, labels: [] },
        { pool: 'gpu', count: 1, labels: [] },
      ],
    }

    expect(granted(units, [wants('both', 1, 0, both), wants('b', 2, 1), wants('c', 3, 1), wants('d', 4, 1)])).toEqual({
      b: ['u2'],
      c: ['u3'],
    })
  })

  test('grants from several pools all or nothing', () => {
    const both = {
      requests: [
        { pool: 'rig', count: 1, labels: [] },
        { pool: 'gpu', count: 1, labels: [] },
      ],
    }

    expect(granted([unit('u'), unit('x', { pool: 'gpu' })], [wants('a', 1, 0, both)])).toEqual({ a: ['u', 'x'] })
    expect(granted([unit('u'), unit('x', { pool: 'gpu', state: 'held' })], [wants('a', 1, 0, both)])).toEqual({})
  })

  test('asks units for every label, by value or by key', () => {
    const units = [unit('plain'), unit('arm', { labels: ['arch=arm64', 'gpu'] }), unit('x86', { labels: ['arch=x86'] })]

    expect(granted(units, [wants('a', 1, 1, { labels: ['arch=arm64'] })])).toEqual({ a: ['arm'] })
    expect(granted(units, [wants('a', 1, 2, { labels: ['arch'] })])).toEqual({ a: ['arm', 'x86'] })
    expect(granted(units, [wants('a', 1, 1, { labels: ['arch', 'gpu'] })])).toEqual({ a: ['arm'] })
    expect(granted(units, [wants('a', 1, 1, { labels: ['arc'] })])).toEqual({})
    expect(granted(units, [wants('a', 1, 1), wants('b', 2, 1, { labels: ['gpu'] })])).toEqual({
      a: ['plain'],
      b: ['arm'],
    })
  })

  test('finds the only way to fill requests whose labels overlap', () => {
    const units = [unit('xy', { labels: ['x', 'y'] }), unit('x', { labels: ['x', 'z'] })]
    const requests = [
      { pool: 'rig', count: 1, labels: ['x'] },
      { pool: 'rig', count: 1, labels: ['y'] },
    ]

    expect(granted(units, [wants('a', 1, 0, { requests })])).toEqual({ a: ['x', 'xy'] })
    expect(granted(units, [wants('a', 1, 0, { requests: [...requests].reverse() })])).toEqual({ a: ['x', 'xy'] })
  })

  test('a request that only a quarantined unit could serve keeps nothing from others', () => {
    const units = [unit('u'), unit('bad', { state: 'quarantined' })]

    expect(granted(units, [wants('big', 1, 2), wants('small', 2, 1)])).toEqual({ small: ['u'] })
  })
})

/** The reference: most slots that can be filled, by trying everything. */
function rank(slots: readonly { pool: string; labels: readonly string[] }[], units: readonly PoolUnit[]): number {
  const [slot, ...rest] = slots
  if (slot === undefined) return 0
  let best = rank(rest, units)
  for (const one of units) {
    if (one.pool !== slot.pool || !slot.labels.every((label) => one.labels.includes(label))) continue
    best = Math.max(
      best,
      1 +
        rank(
          rest,
          units.filter((other) => other !== one),
        ),
    )
  }
  return best
}

function slots(request: WaitingRequest) {
  return request.requests.flatMap(({ pool, labels, count }) => Array.from({ length: count }, () => ({ pool, labels })))
}

const labels = fc.subarray(['x', 'y'])
const pool = fc.constantFrom('rig', 'gpu')
const someUnits = fc
  .array(fc.record({ pool, labels }), { minLength: 1, maxLength: 5 })
  .map((all) => all.map((one, i) => unit(`u${i}`, one)))
const someRequest = fc.record({
  requests: fc.array(fc.record({ pool, labels, count: fc.integer({ min: 1, max: 2 }) }), {
    minLength: 1,
    maxLength: 2,
  }),
  priority: fc.integer({ min: 0, max: 2 }),
})
const someSteps = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: someRequest.map((request) => ({ kind: 'ask', request }) as const) },
    { weight: 2, arbitrary: fc.nat(9).map((nth) => ({ kind: 'release', nth }) as const) },
    { weight: 1, arbitrary: fc.nat(4).map((nth) => ({ kind: 'quarantine', nth }) as const) },
  ),
  { maxLength: 25 },
)

/** Pools as the store keeps them; every grant is checked against the reference. */
function world(initial: readonly PoolUnit[]) {
  let units = [...initial]
  let waiting: WaitingRequest[] = []
  const held = new Map<string, readonly string[]>()
  const fences = new Map(units.map((one) => [one.unit, one.fence]))
  let seq = 0

  const grant = () => {
    const state: PoolState = { units, waiting }
    const grants = computeGrants(state, NOW)
    const free = units.filter((one) => one.state === 'free')
    const working = units.filter((one) => one.state !== 'quarantined')
    const given = new Map<string, PoolUnit[]>()
    for (const one of grants) {
      const request = waiting.find((candidate) => candidate.holder === one.holder)
      if (request === undefined) throw new Error('granted to nobody')
      const mine = one.units.map((got) => {
        const was = free.find((candidate) => candidate.unit === got.unit)
        if (was === undefined || held.has(got.unit)) throw new Error('granted what is not free')
        expect(got.fence).toBe((fences.get(got.unit) ?? 0) + 1)
        fences.set(got.unit, got.fence)
        return was
      })
      expect(mine).toHaveLength(slots(request).length)
      expect(rank(slots(request), mine)).toBe(mine.length)
      given.set(one.holder, mine)
    }
    const all = [...given.values()].flat()
    expect(new Set(all).size).toBe(all.length)

    // The first that has to wait really has to, and nobody behind it took what it could have used.
    const order = [...waiting].sort((a, b) => b.priority - a.priority || a.seq - b.seq)
    const first = order.findIndex((one) => !given.has(one.holder) && rank(slots(one), working) === slots(one).length)
    const blocked = order[first]
    if (blocked !== undefined) {
      const ahead = new Set(order.slice(0, first).flatMap((one) => given.get(one.holder) ?? []))
      const forIt = free.filter((one) => !ahead.has(one))
      expect(rank(slots(blocked), forIt)).toBeLessThan(slots(blocked).length)
      expect(
        rank(
          slots(blocked),
          forIt.filter((one) => !all.includes(one)),
        ),
      ).toBe(rank(slots(blocked), forIt))
    }

    units = units.map((one) => (all.includes(one) ? { ...one, state: 'held', fence: one.fence + 1 } : one))
    waiting = waiting.filter((one) => !given.has(one.holder))
    for (const [holder, mine] of given)
      held.set(
        holder,
        mine.map((one) => one.unit),
      )
  }

  return {
    held,
    waiting: () => waiting,
    units: () => units,
    ask(request: Pick<WaitingRequest, 'requests' | 'priority'>): string {
      seq += 1
      waiting.push({ ...request, holder: `h${seq}`, seq, ttlMs: 1 })
      grant()
      return `h${seq}`
    },
    release(holder: string) {
      const mine = held.get(holder) ?? []
      held.delete(holder)
      units = units.map((one) => (mine.includes(one.unit) ? { ...one, state: 'free' } : one))
      grant()
    },
    leaveQueue() {
      waiting = []
    },
    toggleQuarantine(nth: number) {
      const one = units[nth % units.length]
      if (one === undefined || one.state === 'held') return
      const state = one.state === 'free' ? 'quarantined' : 'free'
      units = units.map((other) => (other === one ? { ...one, state } : other))
      grant()
    },
  }
}

describe('over thousands of random schedules', () => {
  test('no unit has two holders, none is lost, fences grow, and everybody possible is served in the end', () => {
    fc.assert(
      fc.property(someUnits, someSteps, (units, steps) => {
        const pools = world(units)
        for (const step of steps) {
          if (step.kind === 'ask') pools.ask(step.request)
          else if (step.kind === 'quarantine') pools.toggleQuarantine(step.nth)
          else {
            const holders = [...pools.held.keys()]
            const holder = holders[step.nth % Math.max(1, holders.length)]
            if (holder !== undefined) pools.release(holder)
          }
        }

        pools.units().forEach((one, nth) => {
          if (one.state === 'quarantined') pools.toggleQuarantine(nth)
        })
        for (let left = steps.length; left > 0; left--)
          for (const holder of [...pools.held.keys()]) pools.release(holder)

        expect(pools.held.size).toBe(0)
        expect(pools.units().every((one) => one.state === 'free')).toBe(true)
        for (const request of pools.waiting()) {
          expect(rank(slots(request), units)).toBeLessThan(slots(request).length)
          expect(isPossible(request.requests, units)).toBe(false)
        }
      }),
      { numRuns: 3000 },
    )
  })

  test('a big request is served once those who held before it have left, however many come after it', () => {
    fc.assert(
      fc.property(
        someUnits,
        fc.array(someRequest, { maxLength: 5 }),
        someRequest,
        fc.array(someRequest, { maxLength: 30 }),
        (units, before, big, after) => {
          fc.pre(isPossible(big.requests, units))
          const pools = world(units)
          for (const request of before) pools.ask({ ...request, priority: 1 })
          pools.leaveQueue()
          const holders = [...pools.held.keys()]

          const patient = pools.ask({ ...big, priority: 1 })
          let next = 0
          for (const holder of holders) {
            pools.ask({ ...(after[next++] ?? big), priority: 1 })
            pools.release(holder)
            pools.ask({ ...(after[next++] ?? big), priority: 0 })
          }

          expect(pools.held.has(patient)).toBe(true)
        },
      ),
      { numRuns: 2000 },
    )
  })
})
