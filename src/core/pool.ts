import type { PoolRequest } from './plan.ts'

/**
 * The pool of what every job needs: room on the nodes. A job without a slot has no container, network or volume. Docker
 * has about 30 bridge networks a node, and a node that runs everything at once finishes nothing.
 */
export const JOB_SLOTS = 'slots:jobs'

/** All units and all waiting requests of an installation at one moment; plain data. */
export interface PoolState {
  readonly units: readonly PoolUnit[]
  readonly waiting: readonly WaitingRequest[]
}

export interface PoolUnit {
  readonly pool: string
  readonly unit: string
  readonly labels: readonly string[]
  /** Of the newest grant; 0 for a unit never granted. */
  readonly fence: number
  /** `quarantined`: neither held nor to be given on. */
  readonly state: 'free' | 'held' | 'quarantined'
}

export interface WaitingRequest {
  readonly holder: string
  readonly requests: readonly PoolRequest[]
  /** Higher goes first. */
  readonly priority: number
  /** Age: lower is older. Unique. */
  readonly seq: number
  readonly ttlMs: number
}

export interface Grant {
  readonly holder: string
  readonly units: readonly {
    readonly pool: string
    readonly unit: string
    readonly fence: number
    readonly since: number
    readonly expiresAt: number
  }[]
}

/**
 * Who gets what now. A request gets all its units at once or none. Requests go by priority, then age; one that cannot
 * be served yet keeps back the free units it needs from all that come after it, so that small requests cannot starve a
 * big one, and of equal priority nobody is overtaken for a unit he could use. A unit that is not needed by those ahead
 * may still be taken. A request that no unit that works could serve keeps nothing back.
 */
export function computeGrants(state: PoolState, now: number): readonly Grant[] {
  const working = state.units.filter((unit) => unit.state !== 'quarantined')
  const available = new Set(scarceLast(state.units.filter((unit) => unit.state === 'free')))
  const grants: Grant[] = []
  for (const request of inTurn(state.waiting)) {
    const wanted = slotsOf(request.requests)
    const matched = match(wanted, [...available])
    const served = matched.length === wanted.length
    if (!served && !isPossible(request.requests, working)) continue
    for (const unit of matched) available.delete(unit)
    if (!served) continue
    grants.push({
      holder: request.holder,
      units: matched.map(({ pool, unit, fence }) => ({
        pool,
        unit,
        fence: fence + 1,
        since: now,
        expiresAt: now + request.ttlMs,
      })),
    })
  }
  return grants
}

/** The order in which requests are served: priority, then age. */
export function inTurn<T extends { readonly priority: number; readonly seq: number }>(
  waiting: readonly T[],
): readonly T[] {
  return [...waiting].sort((a, b) => b.priority - a.priority || a.seq - b.seq)
}

/** Whether these units could serve all requests together, if nobody else held one. */
export function isPossible(requests: readonly PoolRequest[], units: readonly UnitLabels[]): boolean {
  const wanted = slotsOf(requests)
  return match(wanted, scarceLast(units)).length === wanted.length
}

interface UnitLabels {
  readonly pool: string
  readonly unit: string
  readonly labels: readonly string[]
}

interface Slot {
  readonly pool: string
  readonly labels: readonly string[]
}

function slotsOf(requests: readonly PoolRequest[]): readonly Slot[] {
  return requests.flatMap(({ pool, labels, count }) => Array.from({ length: count }, () => ({ pool, labels })))
}

/** Units with few labels first: those with many stay for who needs them. */
function scarceLast<U extends UnitLabels>(units: readonly U[]): readonly U[] {
  return [...units].sort(
    (a, b) => a.labels.length - b.labels.length || compare(a.pool, b.pool) || compare(a.unit, b.unit),
  )
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** `key=value` asks for exactly that label, `key` for the label with any value or none. */
export function fits(slot: Slot, unit: UnitLabels): boolean {
  return (
    slot.pool === unit.pool &&
    slot.labels.every((wanted) =>
      wanted.includes('=')
        ? unit.labels.includes(wanted)
        : unit.labels.some((label) => label === wanted || label.startsWith(`${wanted}=`)),
    )
  )
}

/**
 * As many slots as can be filled at once (maximum bipartite matching by augmenting paths): with labels that overlap, the
 * first unit that fits is not always the right one. Returns the units used; what is left over could fill no further slot.
 */
function match<U extends UnitLabels>(slots: readonly Slot[], units: readonly U[]): readonly U[] {
  const slotOf = new Map<U, number>()
  const place = (index: number, tried: Set<U>): boolean => {
    const slot = slots[index]
    if (slot === undefined) return false
    for (const unit of units) {
      if (tried.has(unit) || !fits(slot, unit)) continue
      tried.add(unit)
      const occupant = slotOf.get(unit)
      if (occupant === undefined || place(occupant, tried)) {
        slotOf.set(unit, index)
        return true
      }
    }
    return false
  }
  for (let index = 0; index < slots.length; index++) place(index, new Set())
  return [...slotOf.keys()]
}
