import type { Graph, Matched, UnitName } from './matching.ts'
import { createGraph } from './matching.ts'
import type { Grant, Mode, PoolState, PoolUnit, WaitingRequest, Wanted } from './state.ts'

/** Who has waited this long goes before a newcomer of the next higher priority: it bounds every wait. */
export const AGEING_MS = 600_000

/**
 * Who gets what now. A request gets all its units at once or none, in the order of `inTurn`. One that cannot be served yet
 * keeps back from all behind it
 * - the free units and places that it could use, and not one more than it needs;
 * - in a pool where it lacks a unit for itself alone: new places on units that others share, so that these become free;
 * - of its group's share, what it needs.
 *
 * So nobody is overtaken for a unit that he needs, and small requests cannot starve a big one. A request that no working
 * unit could serve keeps nothing back, and one that its group's share holds back nothing but the share.
 */
export function computeGrants(state: PoolState, now: number): readonly Grant[] {
  const places = createPlaces(state)
  const working = createGraph(state.units.filter((unit) => unit.isOpen || unit.isReturning))
  const grants: Grant[] = []
  for (const request of inTurn(state.waiting)) {
    const hasShare = places.hasShare(request)
    const matched = hasShare ? places.match(request.wanted) : []
    const isServed = hasShare && matched.length === countOf(request.wanted)
    if (!isServed && !isPossibleOn(request.wanted, working, state.shares)) continue
    places.keepShare(request)
    if (hasShare) places.take(matched)
    if (hasShare && !isServed) places.closeFor(request.wanted, matched)
    if (!isServed) continue
    grants.push({
      holder: request.holder,
      units: matched.map(({ unit, mode, index }) => ({
        pool: unit.pool,
        unit: unit.unit,
        mode,
        fence: places.nextFence(index),
        since: now,
        expiresAt: now + request.ttlMs,
      })),
    })
  }
  return grants
}

/**
 * The order in which requests are served: by the time they asked, where each step of priority counts as if it had been
 * `AGEING_MS` earlier. So a higher priority goes first, but nobody who came later than (his priority - yours) times
 * `AGEING_MS` after you.
 */
export function inTurn<T extends Pick<WaitingRequest, 'priority' | 'since' | 'seq'>>(
  waiting: readonly T[],
): readonly T[] {
  const virtual = (one: T) => one.since - one.priority * AGEING_MS
  return [...waiting].sort((a, b) => virtual(a) - virtual(b) || a.seq - b.seq)
}

/** Whether these units could serve all of it together, if nobody held one and all were open. */
export function isPossible(
  wanted: readonly Wanted[],
  units: readonly UnitName[],
  shares: PoolState['shares'] = {},
): boolean {
  return isPossibleOn(wanted, createGraph(units), shares)
}

function isPossibleOn(wanted: readonly Wanted[], graph: Graph<UnitName>, shares: PoolState['shares']): boolean {
  for (const [pool, count] of countByPool(wanted)) if (count > shareOf(shares, pool)) return false
  return graph.match(wanted).length === countOf(wanted)
}

function shareOf(shares: PoolState['shares'], pool: string): number {
  return Object.hasOwn(shares, pool) ? (shares[pool] ?? Number.POSITIVE_INFINITY) : Number.POSITIVE_INFINITY
}

function countOf(wanted: readonly Wanted[]): number {
  return wanted.reduce((sum, one) => sum + one.count, 0)
}

function countByPool(wanted: readonly Wanted[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>()
  for (const { pool, count } of wanted) counts.set(pool, (counts.get(pool) ?? 0) + count)
  return counts
}

/** What is still to be had while requests are gone through in turn. */
function createPlaces(state: PoolState) {
  const units = inOrder(state.units)
  const graph = createGraph(units)
  const left = units.map((unit) => ({
    capacity: unit.capacity,
    fence: unit.fence,
    isTaken: !unit.isOpen || unit.holders.some((one) => one.mode === 'exclusive'),
    isClosed: false,
    sharing: unit.holders.length,
  }))
  /** What groups hold or have kept back, by pool. */
  const held = new Map<string, Map<string, number>>()
  const count = (pool: string, group: string, more: number) => {
    const ofPool = held.get(pool) ?? new Map<string, number>()
    ofPool.set(group, (ofPool.get(group) ?? 0) + more)
    held.set(pool, ofPool)
  }
  for (const { pool, holders } of units) for (const { group } of holders) count(pool, group, 1)

  const isUsable = (index: number, mode: Mode) => {
    const unit = left[index]
    if (unit === undefined || unit.isTaken) return false
    if (mode === 'exclusive') return unit.sharing === 0
    return !unit.isClosed && unit.sharing < unit.capacity
  }
  const partlyHeld = (wanted: readonly Wanted[]) =>
    wanted
      .filter((one) => one.mode === 'exclusive')
      .flatMap((one) => graph.fitting(one).filter((index) => !left[index]?.isTaken && left[index]?.sharing !== 0))

  return {
    hasShare: ({ group, wanted }: WaitingRequest): boolean =>
      [...countByPool(wanted)].every(
        ([pool, wantedOf]) => (held.get(pool)?.get(group) ?? 0) + wantedOf <= shareOf(state.shares, pool),
      ),

    keepShare({ group, wanted }: WaitingRequest): void {
      for (const [pool, wantedOf] of countByPool(wanted)) count(pool, group, wantedOf)
    },

    /**
     * As many of the units as can be had at once. A unit that it could have for itself alone, but for those who share it,
     * goes last: what it keeps back of other units is not given up for a place that it would have to leave again.
     */
    match: (wanted: readonly Wanted[]): readonly Matched<PoolUnit>[] =>
      graph.match(wanted, { isUsable, later: new Set(wanted.length > 1 ? partlyHeld(wanted) : []) }),

    take(matched: readonly Matched<PoolUnit>[]): void {
      for (const { index, mode } of matched) {
        const unit = left[index]
        if (unit === undefined) continue
        if (mode === 'exclusive') unit.isTaken = true
        else unit.sharing += 1
      }
    },

    closeFor(wanted: readonly Wanted[], matched: readonly Matched<PoolUnit>[]): void {
      const lacking = wanted.filter(({ pool }) => {
        const ofPool = matched.filter((one) => one.unit.pool === pool).length
        return ofPool < (countByPool(wanted).get(pool) ?? 0)
      })
      for (const index of partlyHeld(lacking)) {
        const unit = left[index]
        if (unit !== undefined) unit.isClosed = true
      }
    },

    nextFence(index: number): number {
      const unit = left[index]
      if (unit === undefined) throw new RangeError(`there is no unit ${index}`)
      unit.fence += 1
      return unit.fence
    },
  }
}

/**
 * Units that can do little first, then those that are cheap to reset, then those that are shared already: whole ones stay
 * for who needs one alone.
 */
function inOrder(units: readonly PoolUnit[]): readonly PoolUnit[] {
  return [...units].sort(
    (a, b) =>
      a.versatility - b.versatility ||
      a.resetCostMs - b.resetCostMs ||
      b.holders.length - a.holders.length ||
      compare(a.pool, b.pool) ||
      compare(a.unit, b.unit),
  )
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
