import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AGEING_MS, computeGrants, inTurn } from '../../../src/core/pool/grants.ts'
import type { Mode, PoolState, PoolUnit } from '../../../src/core/pool/state.ts'
import { some, unit } from './pools.ts'
import { isPossible } from './reference.ts'
import type { Ask, Decide } from './world.ts'
import { createWorld } from './world.ts'

const MINUTE = 60_000

const NAMES = ['u1', 'u2', 'u3', 'u4']
const pool = fc.constantFrom('rig', 'rig', 'gpu')
const mode = fc.constantFrom<Mode>('exclusive', 'shared')

const someUnits = fc
  .array(
    fc.record({
      pool,
      capacity: fc.constantFrom(1, 1, 2, 3),
      resetCostMs: fc.constantFrom(0, 0, 1),
      versatility: fc.nat(2),
    }),
    { minLength: 1, maxLength: NAMES.length },
  )
  .map((all) => all.map((one, nth) => unit(NAMES[nth] ?? '', one)))

const someWanted = fc
  .record({ count: fc.constantFrom(1, 1, 2, 3), fits: fc.subarray(NAMES, { minLength: 1 }), mode, pool })
  .map(({ count, fits, mode, pool }) => some(count, fits, mode, pool))

const someAsk: fc.Arbitrary<Ask> = fc.record({
  wanted: fc.array(someWanted, { minLength: 1, maxLength: 2 }),
  priority: fc.constantFrom(0, 0, 0, 1, 2),
  group: fc.constantFrom('a', 'b', 'c'),
})

const someShares: fc.Arbitrary<PoolState['shares']> = fc.constantFrom(
  {},
  {},
  { rig: 1 },
  { rig: 2 },
  { rig: 2, gpu: 1 },
)

const nth = fc.nat(11)
const someSteps = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.record({ kind: fc.constant('ask' as const), ask: someAsk }) },
    { weight: 5, arbitrary: fc.record({ kind: fc.constant('release' as const), nth }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('cancel' as const), nth }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('close' as const, 'open' as const), nth }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('reset' as const), nth }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(20 * MINUTE) }) },
  ),
  { maxLength: 24 },
)

/** A queue with a fault, and the rule that it breaks. */
interface Planted {
  readonly decide: Decide
  readonly rule: string
}

/** What is wrong, with the seed; with a planted fault, the first schedule in which the expected rule is broken. */
function run<T extends [unknown, ...unknown[]]>(
  numRuns: number,
  planted: Planted | undefined,
  arbitraries: { [K in keyof T]: fc.Arbitrary<T[K]> },
  body: (...values: T) => void,
): string {
  const property = fc.property(...arbitraries, (...values: T) => {
    try {
      body(...values)
    } catch (err) {
      if (planted === undefined || (err instanceof Error && err.message.includes(planted.rule))) throw err
    }
  })
  const details = fc.check(property, { numRuns, endOnFailure: planted !== undefined })
  if (!details.failed) return 'kept'
  if (planted === undefined) return fc.defaultReportMessage(details) ?? 'failed'
  return details.errorInstance instanceof Error ? details.errorInstance.message : 'failed'
}

/** Until nobody holds anything, all units work, and nobody comes any more. */
function runOut(world: ReturnType<typeof createWorld>) {
  for (const one of world.units()) world.open(one)
  for (let left = 1 + world.waiting().length; left > 0; left--) {
    for (const holder of world.holders()) world.release(holder)
    for (const one of world.units()) world.finishReset(one)
  }
}

function everything(units: readonly PoolUnit[]): Ask {
  const wanted = ['rig', 'gpu'].map((pool) => {
    const fits = units.filter((one) => one.pool === pool).map((one) => one.unit)
    return some(fits.length, fits, 'exclusive', pool)
  })
  return { wanted, priority: 0, group: 'x' }
}

function schedules(numRuns: number, planted?: Planted) {
  const decide = planted?.decide
  return run(numRuns, planted, [someUnits, someShares, someSteps], (units, shares, steps) => {
    const world = createWorld(units, shares, decide)
    const pick = <T>(all: readonly T[], nth: number) => all[nth % Math.max(1, all.length)]
    for (const step of steps) {
      if (step.kind === 'ask') world.ask(step.ask)
      else if (step.kind === 'pass') world.pass(step.ms)
      else if (step.kind === 'release') {
        const holder = pick(world.holders(), step.nth)
        if (holder !== undefined) world.release(holder)
      } else if (step.kind === 'cancel') {
        const waiter = pick(world.waiting(), step.nth)
        if (waiter !== undefined) world.cancel(waiter.holder)
      } else {
        const one = pick(world.units(), step.nth)
        if (one === undefined) continue
        if (step.kind === 'close') world.close(one)
        if (step.kind === 'open') world.open(one)
        if (step.kind === 'reset') world.finishReset(one)
      }
    }

    runOut(world)
    if (world.holders().length > 0) throw new Error('broken: no deadlock')
    if (world.waiting().some((one) => isPossible(one, { units, shares }))) throw new Error('broken: no deadlock')
    for (const one of world.waiting()) world.cancel(one.holder)
    const all = createWorld(world.units(), {}, decide)
    const holder = all.ask(everything(units))
    if (all.grantedAt(holder) === undefined) throw new Error('broken: no lost unit')
  })
}

/** Everybody holds at most HOLD, a reset takes RESET, and small requests keep arriving, more than there are units for. */
const HOLD = 5 * MINUTE
const RESET = 2 * MINUTE

const small: fc.Arbitrary<Ask> = fc.record({
  wanted: fc.tuple(
    fc
      .record({ fits: fc.constantFrom(NAMES, NAMES, ['u1', 'u2'], ['u3']), mode, pool })
      .map(({ fits, mode, pool }) => some(1, fits, mode, pool)),
  ),
  priority: fc.constantFrom(0, 0, 0, 1),
  group: fc.constantFrom('a', 'b', 'c'),
})

function storms(numRuns: number, planted?: Planted) {
  const decide = planted?.decide
  const stream = fc.array(
    fc.record({ after: fc.nat(90_000), ask: small, hold: fc.integer({ min: MINUTE, max: HOLD }) }),
    { minLength: 80, maxLength: 80, size: 'max' },
  )
  const patient = fc.oneof(someAsk, fc.constant(undefined))
  return run(numRuns, planted, [someUnits, someShares, stream, patient], (units, shares, stream, special) => {
    const patient = special ?? everything(units)
    const world = createWorld(units, shares, decide, false)
    const holds = new Map<string, number>()
    const resetSince = new Map<string, number>()
    const deadlines = new Map<string, number>()

    const watch = () => {
      for (const one of world.waiting()) {
        if (deadlines.has(one.holder) || !isPossible(one, { units, shares })) continue
        // Nobody comes before it any more: then those ahead go one after the other, each after all that is held when it is
        // the first (once for the share of its group, once for the units) is given back.
        if (world.now() <= one.since + (2 - one.priority) * AGEING_MS) continue
        const turn = (other: typeof one) => other.since - other.priority * AGEING_MS
        const ahead = world.waiting().filter((other) => turn(other) <= turn(one)).length
        deadlines.set(one.holder, world.now() + ahead * 2 * (HOLD + RESET) + 2 * MINUTE)
      }
      for (const [holder, deadline] of deadlines) {
        if ((world.grantedAt(holder) ?? world.now()) > deadline) throw new Error('broken: no starvation')
      }
    }

    /** Those who came last leave, or the queue would only grow. */
    const giveUp = () => {
      const late = world
        .waiting()
        .filter((one) => one.wanted.length === 1 && one.seq > 8)
        .slice(6)
      for (const one of late) world.cancel(one.holder)
    }

    const until = (time: number) => {
      while (world.now() < time) {
        world.pass(Math.min(MINUTE / 2, time - world.now()))
        for (const holder of world.holders()) {
          const since = world.grantedAt(holder) ?? world.now()
          if (world.now() - since >= (holds.get(holder) ?? HOLD)) world.release(holder)
        }
        for (const one of world.units()) {
          const key = `${one.pool}/${one.unit}`
          if (!one.isReturning) resetSince.delete(key)
          else if (!resetSince.has(key)) resetSince.set(key, world.now())
          else if (world.now() - (resetSince.get(key) ?? 0) >= RESET - MINUTE) world.finishReset(one)
        }
        watch()
      }
    }

    const asks = stream.flatMap((one, at) => (at === 5 ? [{ ...one, ask: patient, hold: HOLD }, one] : [one]))
    for (const { after, ask, hold } of asks) {
      until(world.now() + after)
      holds.set(world.ask(ask), hold)
      giveUp()
    }
  })
}

/** They take about ten seconds each on a machine with nothing else to do. */
const LONG = { timeout: 120_000 }

describe('over random schedules', LONG, () => {
  test('10,000 times the queue keeps every rule of the reference, and in the end nothing is stuck or lost', () => {
    expect(schedules(10_000)).toBe('kept')
  })

  test('however many small requests keep arriving, everybody is served within the bound', () => {
    expect(storms(200)).toBe('kept')
  })
})

const seeing = (state: PoolState, seen: (unit: PoolUnit) => PoolUnit) => ({ ...state, units: state.units.map(seen) })

const plants: readonly (Planted & { readonly name: string; readonly isStorm?: boolean })[] = [
  {
    name: 'a double grant',
    rule: 'one holder',
    decide: (state, now) =>
      computeGrants(
        seeing(state, (one) => ({ ...one, holders: [] })),
        now,
      ),
  },
  {
    name: 'a capacity that is off by one',
    rule: 'capacity',
    decide: (state, now) =>
      computeGrants(
        seeing(state, (one) => ({ ...one, capacity: one.capacity + 1 })),
        now,
      ),
  },
  {
    name: 'a share that is not looked at',
    rule: 'share',
    decide: (state, now) => computeGrants({ ...state, shares: {} }, now),
  },
  {
    name: 'the youngest first',
    rule: 'nobody is overtaken',
    decide: (state, now) =>
      computeGrants(
        { ...state, waiting: state.waiting.map((one) => ({ ...one, since: -one.since, seq: -one.seq })) },
        now,
      ),
  },
  { name: 'nothing kept back', rule: 'keeps back', decide: greedily },
  { name: 'nothing kept back while small ones keep arriving', rule: 'no starvation', decide: greedily, isStorm: true },
  {
    name: 'part of a request',
    rule: 'all or nothing',
    decide: (state, now) => computeGrants(state, now).map((one) => ({ ...one, units: one.units.slice(0, 1) })),
  },
  {
    name: 'a fence that does not grow',
    rule: 'fences grow by one',
    decide: (state, now) =>
      computeGrants(
        seeing(state, (one) => ({ ...one, fence: 0 })),
        now,
      ),
  },
  {
    name: 'a unit that is not given on after its third holder',
    rule: 'nothing idles',
    decide: (state, now) =>
      computeGrants(
        seeing(state, (one) => ({ ...one, isOpen: one.isOpen && one.fence < 3 })),
        now,
      ),
  },
]

/** Each for himself. */
function greedily(state: PoolState, now: number): ReturnType<Decide> {
  for (const one of inTurn(state.waiting)) {
    const grants = computeGrants({ ...state, waiting: [one] }, now)
    if (grants.length > 0) return grants
  }
  return []
}

test.each(plants)('planted, $name breaks the rule: $rule', LONG, ({ isStorm = false, ...planted }) => {
  const found = isStorm ? storms(300, planted) : schedules(3000, planted)

  expect(found).toContain(planted.rule)
})
