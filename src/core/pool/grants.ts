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
  const places = new Places(state)
  const working = new Graph(state.units.filter((unit) => unit.isOpen || unit.isReturning))
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
      units: matched.map(({ unit, mode }) => ({
        pool: unit.pool,
        unit: unit.unit,
        mode,
        fence: places.nextFence(unit),
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
  return isPossibleOn(wanted, new Graph(units), shares)
}

type UnitName = Pick<PoolUnit, 'pool' | 'unit'>

function isPossibleOn(wanted: readonly Wanted[], graph: Graph<UnitName>, shares: PoolState['shares']): boolean {
  for (const [pool, count] of countByPool(wanted)) if (count > shareOf(shares, pool)) return false
  return maximumMatching(graph.slotsOf(wanted), graph.size).length === countOf(wanted)
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

/** One unit that is to be found: by index, which of the units would do, the best first. */
interface Slot {
  readonly mode: Mode
  readonly candidates: readonly number[]
}

/** Which units a request could use. Units are known by their index, which is their order: the first goes first. */
class Graph<U extends UnitName> {
  readonly size: number
  private readonly indexes = new Map<string, Map<string, number>>()
  /** Requests for the same share the list of what fits: it is looked up once. */
  private readonly known = new Map<readonly string[], Map<string, readonly number[]>>()

  constructor(units: readonly U[]) {
    this.size = units.length
    units.forEach(({ pool, unit }, index) => {
      const ofPool = this.indexes.get(pool) ?? new Map<string, number>()
      ofPool.set(unit, index)
      this.indexes.set(pool, ofPool)
    })
  }

  fitting({ pool, fits }: Pick<Wanted, 'pool' | 'fits'>): readonly number[] {
    const byPool = this.known.get(fits) ?? new Map<string, readonly number[]>()
    this.known.set(fits, byPool)
    const before = byPool.get(pool)
    if (before !== undefined) return before
    const ofPool = this.indexes.get(pool)
    const found = new Set(fits.flatMap((unit) => ofPool?.get(unit) ?? []))
    const sorted = [...found].sort((a, b) => a - b)
    byPool.set(pool, sorted)
    return sorted
  }

  slotsOf(wanted: readonly Wanted[], isUsable = (_index: number, _mode: Mode) => true): readonly Slot[] {
    return wanted.flatMap((one) => {
      const candidates = this.fitting(one).filter((index) => isUsable(index, one.mode))
      const slot: Slot = { mode: one.mode, candidates }
      return Array.from({ length: one.count }, () => slot)
    })
  }
}

interface Matched {
  readonly unit: PoolUnit
  readonly index: number
  readonly mode: Mode
}

/** What is still to be had while requests are gone through in turn. */
class Places {
  private readonly units: readonly PoolUnit[]
  private readonly graph: Graph<PoolUnit>
  private readonly isTaken: boolean[]
  private readonly isClosed: boolean[]
  private readonly sharing: number[]
  private readonly fences: number[]
  private readonly index: ReadonlyMap<PoolUnit, number>
  /** What groups hold or have kept back, by pool. */
  private readonly held = new Map<string, Map<string, number>>()
  private readonly shares: PoolState['shares']

  constructor({ units, shares }: PoolState) {
    this.shares = shares
    this.units = inOrder(units)
    this.graph = new Graph(this.units)
    this.index = new Map(this.units.map((unit, index) => [unit, index]))
    this.isTaken = this.units.map((unit) => !unit.isOpen || unit.holders.some((one) => one.mode === 'exclusive'))
    this.isClosed = this.units.map(() => false)
    this.sharing = this.units.map((unit) => unit.holders.length)
    this.fences = this.units.map((unit) => unit.fence)
    for (const { pool, holders } of this.units) for (const { group } of holders) this.count(pool, group, 1)
  }

  hasShare({ group, wanted }: WaitingRequest): boolean {
    for (const [pool, count] of countByPool(wanted)) {
      if ((this.held.get(pool)?.get(group) ?? 0) + count > shareOf(this.shares, pool)) return false
    }
    return true
  }

  keepShare({ group, wanted }: WaitingRequest): void {
    for (const [pool, count] of countByPool(wanted)) this.count(pool, group, count)
  }

  /** As many of the units as can be had at once. */
  match(wanted: readonly Wanted[]): readonly Matched[] {
    const slots = this.graph.slotsOf(wanted, (index, mode) => this.isUsable(index, mode))
    // A unit that it could have for itself alone, but for those who share it, goes last: what it keeps back of other
    // units is not given up for a place that it would have to leave again.
    const later = new Set(this.partlyHeld(wanted))
    return maximumMatching(slots, this.units.length, later).flatMap(({ slot, index }) => {
      const unit = this.units[index]
      return unit === undefined ? [] : [{ unit, index, mode: slot.mode }]
    })
  }

  take(matched: readonly Matched[]): void {
    for (const { index, mode } of matched) {
      if (mode === 'exclusive') this.isTaken[index] = true
      else this.sharing[index] = (this.sharing[index] ?? 0) + 1
    }
  }

  closeFor(wanted: readonly Wanted[], matched: readonly Matched[]): void {
    const found = new Map<string, number>()
    for (const { unit } of matched) found.set(unit.pool, (found.get(unit.pool) ?? 0) + 1)
    const counts = countByPool(wanted)
    const lacking = wanted.filter(({ pool }) => (found.get(pool) ?? 0) < (counts.get(pool) ?? 0))
    for (const index of this.partlyHeld(lacking)) this.isClosed[index] = true
  }

  nextFence(unit: PoolUnit): number {
    const index = this.index.get(unit) ?? -1
    const next = (this.fences[index] ?? 0) + 1
    this.fences[index] = next
    return next
  }

  private isUsable(index: number, mode: Mode): boolean {
    if (this.isTaken[index] !== false) return false
    const sharing = this.sharing[index] ?? 0
    if (mode === 'exclusive') return sharing === 0
    return this.isClosed[index] === false && sharing < (this.units[index]?.capacity ?? 0)
  }

  private partlyHeld(wanted: readonly Wanted[]): readonly number[] {
    return wanted
      .filter((one) => one.mode === 'exclusive')
      .flatMap((one) => this.graph.fitting(one).filter((index) => !this.isTaken[index] && this.sharing[index] !== 0))
  }

  private count(pool: string, group: string, count: number): void {
    const ofPool = this.held.get(pool) ?? new Map<string, number>()
    ofPool.set(group, (ofPool.get(group) ?? 0) + count)
    this.held.set(pool, ofPool)
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

/**
 * As many slots as can be filled at once (maximum bipartite matching by augmenting paths): where what fits overlaps, the
 * first unit that fits is not always the right one. Units are tried in their order, those of `later` at the end, and a
 * unit once used stays in use: so it is the first units that serve, and a unit left over could fill no further slot.
 */
function maximumMatching(
  slots: readonly Slot[],
  size: number,
  later: ReadonlySet<number> = new Set(),
): readonly { readonly slot: Slot; readonly index: number }[] {
  const slotsOf: number[][] = Array.from({ length: size }, () => [])
  const candidates = new Set<number>()
  slots.forEach((slot, nth) => {
    for (const index of slot.candidates) {
      slotsOf[index]?.push(nth)
      candidates.add(index)
    }
  })
  const unitOf = new Map<number, number>()
  const place = (index: number, tried: Set<number>): boolean => {
    for (const nth of slotsOf[index] ?? []) {
      if (tried.has(nth)) continue
      tried.add(nth)
      const occupant = unitOf.get(nth)
      if (occupant === undefined || place(occupant, tried)) {
        unitOf.set(nth, index)
        return true
      }
    }
    return false
  }
  const order = [...candidates].sort((a, b) => Number(later.has(a)) - Number(later.has(b)) || a - b)
  for (const index of order) {
    if (unitOf.size === slots.length) break
    place(index, new Set())
  }
  return [...unitOf].flatMap(([nth, index]) => {
    const slot = slots[nth]
    return slot === undefined ? [] : [{ slot, index }]
  })
}
