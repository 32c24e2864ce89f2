import type { Grant, Mode, PoolState, PoolUnit, WaitingRequest } from '../../../src/core/pool/state.ts'

/**
 * What the queue of pools promises, said once more and as plainly as possible, by trying everything: slow, for a few units.
 * Knows nothing of how the grants were found.
 */
export type Rule =
  | 'one holder'
  | 'capacity'
  | 'closed units stay'
  | 'all or nothing'
  | 'fences grow by one'
  | 'share'
  | 'nothing idles'
  | 'nobody is overtaken'
  | 'keeps back'

const TEN_MINUTES = 600_000

interface Slot {
  readonly pool: string
  readonly mode: Mode
  readonly fits: readonly string[]
}

type CanUse = (unit: PoolUnit, mode: Mode) => boolean

export function brokenRules(state: PoolState, grants: readonly Grant[]): readonly Rule[] {
  const broken = new Set<Rule>()
  const order = [...state.waiting].sort((a, b) => (goesBefore(a, b) ? -1 : 1))
  const granted = new Map(grants.map((one) => [one.holder, one]))
  const after = withGrants(state.units, grants, order)

  if (granted.size < grants.length) broken.add('one holder')
  for (const unit of after) {
    const alone = unit.holders.some((one) => one.mode === 'exclusive')
    if (alone && unit.holders.length > 1) broken.add('one holder')
    if (unit.holders.length > unit.capacity) broken.add('capacity')
    const was = state.units.find((one) => isSame(one, unit))
    if (!unit.isOpen && unit.holders.length > (was?.holders.length ?? 0)) broken.add('closed units stay')
    const fences = grants.flatMap((one) => one.units.filter((got) => isSame(got, unit)).map((got) => got.fence))
    if (fences.some((fence, nth) => fence !== unit.fence + 1 + nth)) broken.add('fences grow by one')
  }
  for (const { holder, units } of grants) {
    const request = order.find((one) => one.holder === holder)
    const got = (unit: PoolUnit, mode: Mode) => units.some((one) => isSame(one, unit) && one.mode === mode)
    const slots = request === undefined ? [] : slotsOf(request)
    const isWhole = units.length === slots.length && most(slots, state.units, got) === slots.length
    if (request === undefined || !isWhole) broken.add('all or nothing')
  }
  for (const [pool, share] of Object.entries(state.shares)) {
    for (const group of new Set(order.map((one) => one.group))) {
      if (heldBy(after, pool, group) > Math.max(share, heldBy(state.units, pool, group))) broken.add('share')
    }
  }

  let mayOthersKeepBack = false
  order.forEach((request, place) => {
    if (granted.has(request.holder) || !isPossible(request, state)) return
    const ahead = order.slice(0, place)
    const served = grants.filter((one) => ahead.some((other) => other.holder === one.holder))
    const units = withGrants(state.units, served, order)
    const rivals = ahead.filter((one) => one.group === request.group && !granted.has(one.holder))
    const isHeldByShare =
      slotsOf(request).some(({ pool }) => {
        const own = slotsOf(request).filter((slot) => slot.pool === pool).length
        return heldBy(units, pool, request.group) + own > (state.shares[pool] ?? Number.POSITIVE_INFINITY)
      }) || rivals.some((one) => isPossible(one, state) && slotsOf(one).some(({ pool }) => pool in state.shares))
    if (isHeldByShare) return

    for (const other of order.slice(place + 1)) {
      const theirs = granted.get(other.holder)?.units ?? []
      const fromThem = (unit: PoolUnit, mode: Mode) =>
        theirs.some((got) => isSame(got, unit) && (got.mode === mode || got.mode === 'exclusive'))
      const slots = slotsOf(request)
      if (most(slots, state.units, fromThem) === slots.length) broken.add('nobody is overtaken')
    }

    if (mayOthersKeepBack) return
    mayOthersKeepBack = true
    const slots = slotsOf(request)
    const best = most(slots, units, isFree)
    if (best === slots.length) broken.add('nothing idles')
    if (most(slots, after, isFree) < best) broken.add('keeps back')
    for (const unit of units) {
      const ofPool = slots.filter((slot) => slot.pool === unit.pool)
      const lacks = most(ofPool, units, isFree) < ofPool.length
      const wantsAlone = ofPool.some((slot) => slot.mode === 'exclusive' && slot.fits.includes(unit.unit))
      const later = after.find((one) => isSame(one, unit))
      if (lacks && wantsAlone && unit.holders.length > 0 && later?.holders.length !== unit.holders.length) {
        broken.add('keeps back')
      }
    }
  })
  return [...broken]
}

/** A step of priority is worth ten minutes; who asked first goes first otherwise. */
export function goesBefore(a: WaitingRequest, b: WaitingRequest): boolean {
  const later = b.since - a.since
  const worth = (b.priority - a.priority) * TEN_MINUTES
  return later === worth ? a.seq < b.seq : later > worth
}

/** Whether the units that work could serve it, if nobody else held one. */
export function isPossible(request: WaitingRequest, { units, shares }: Pick<PoolState, 'units' | 'shares'>): boolean {
  const slots = slotsOf(request)
  const tooMany = Object.entries(shares).some(
    ([pool, share]) => slots.filter((slot) => slot.pool === pool).length > share,
  )
  return !tooMany && most(slots, units, (unit) => unit.isOpen || unit.isReturning) === slots.length
}

function slotsOf(request: WaitingRequest): readonly Slot[] {
  return request.wanted.flatMap(({ count, ...slot }) => Array.from({ length: count }, () => slot))
}

function isSame(a: { pool: string; unit: string }, b: { pool: string; unit: string }): boolean {
  return a.pool === b.pool && a.unit === b.unit
}

function isFree(unit: PoolUnit, mode: Mode): boolean {
  if (!unit.isOpen) return false
  if (mode === 'exclusive') return unit.holders.length === 0
  return unit.holders.every((one) => one.mode === 'shared') && unit.holders.length < unit.capacity
}

function heldBy(units: readonly PoolUnit[], pool: string, group: string): number {
  return units.filter((one) => one.pool === pool).flatMap((one) => one.holders.filter((by) => by.group === group))
    .length
}

function withGrants(
  units: readonly PoolUnit[],
  grants: readonly Grant[],
  waiting: readonly WaitingRequest[],
): readonly PoolUnit[] {
  return units.map((unit) => ({
    ...unit,
    holders: [
      ...unit.holders,
      ...grants.flatMap(({ holder, units: got }) => {
        const group = waiting.find((one) => one.holder === holder)?.group ?? ''
        return got.filter((one) => isSame(one, unit)).map(({ mode }) => ({ holder, group, mode }))
      }),
    ],
  }))
}

/** The most slots that can be filled with different units, by trying every way. */
function most(slots: readonly Slot[], units: readonly PoolUnit[], canUse: CanUse): number {
  const [slot, ...rest] = slots
  if (slot === undefined) return 0
  let best = most(rest, units, canUse)
  for (const unit of units) {
    if (best === slots.length) break
    if (unit.pool !== slot.pool || !slot.fits.includes(unit.unit) || !canUse(unit, slot.mode)) continue
    const others = units.filter((one) => one !== unit)
    best = Math.max(best, 1 + most(rest, others, canUse))
  }
  return best
}
