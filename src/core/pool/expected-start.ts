import { computeGrants, inTurn } from './grants.ts'
import type { PoolState, PoolUnit } from './state.ts'

/** How long the like was held before, in milliseconds: short, as usual, long. */
export interface HoldHistory {
  readonly low: number
  readonly middle: number
  readonly high: number
}

export interface QueueOutlook {
  readonly state: PoolState
  readonly now: number
  /** Since when a holder has what it has. */
  readonly since: (holder: string) => number
  /** For who holds and who waits; undefined without a history. */
  readonly holds: (holder: string, pools: readonly string[]) => HoldHistory | undefined
}

/** Milliseconds since 1970. `latest` is absent where nobody can say: somebody holds longer than ever before, or for ever. */
export interface ExpectedStart {
  readonly earliest: number
  readonly latest?: number
}

/** Who is further behind has no expected start: nobody would plan by it, and it costs. */
const LONGEST_QUEUE = 100
const STEPS = 300

/**
 * When a waiting request will be served, if nobody comes before it any more: the queue is played forward, once with all
 * short holds, once with all long ones. Undefined where the history does not reach that far.
 */
export function expectedStart(outlook: QueueOutlook, holder: string): ExpectedStart | undefined {
  return expectedStarts(withoutThoseBehind(outlook, holder)).get(holder)
}

/** Of all that wait, at the price of one. */
export function expectedStarts(outlook: QueueOutlook): ReadonlyMap<string, ExpectedStart> {
  const early = play(outlook, 'low')
  const late = play(outlook, 'high')
  return new Map(
    [...early].map(([holder, earliest]) => {
      const latest = late.get(holder)
      return [holder, { earliest, ...(latest === undefined ? {} : { latest: Math.max(earliest, latest) }) }]
    }),
  )
}

/** What they could take is not what those before them need. */
function withoutThoseBehind(outlook: QueueOutlook, holder: string): QueueOutlook {
  const order = inTurn(outlook.state.waiting)
  const waiting = order.slice(0, order.findIndex((one) => one.holder === holder) + 1)
  return { ...outlook, state: { ...outlook.state, waiting } }
}

/** When each is served, for those of whom it can be said. */
function play({ state, now, since, holds }: QueueOutlook, length: 'low' | 'high'): ReadonlyMap<string, number> {
  const served = new Map<string, number>()
  const ends = new Map<string, number>()
  const opens = new Map<PoolUnit, number>()
  for (const [holder, pools] of poolsOfHolders(state.units)) {
    const hold = holds(holder, pools)?.[length]
    if (hold === undefined) continue
    const end = since(holder) + hold
    // Who holds longer than was ever seen may end at once, and may as well not.
    if (end > now) ends.set(holder, end)
    else if (length === 'low') ends.set(holder, now)
  }
  let units = state.units.map((unit) => ({ ...unit }))
  for (const unit of units) if (unit.isReturning) opens.set(unit, length === 'low' ? now : now + unit.resetCostMs)
  let waiting = inTurn(state.waiting).slice(0, LONGEST_QUEUE)
  let time = now
  for (let step = 0; step < STEPS && waiting.length > 0; step++) {
    units = units.map((unit) => {
      const left = unit.holders.filter(({ holder }) => (ends.get(holder) ?? Number.POSITIVE_INFINITY) > time)
      const isOver = (opens.get(unit) ?? Number.POSITIVE_INFINITY) <= time
      if (left.length === unit.holders.length && !isOver) return unit
      opens.delete(unit)
      const isReset = unit.isOpen && left.length === 0 && unit.resetCostMs > 0
      const next = { ...unit, holders: left, isOpen: isOver || (unit.isOpen && !isReset), isReturning: isReset }
      if (isReset) opens.set(next, time + unit.resetCostMs)
      return next
    })
    for (const grant of computeGrants({ ...state, units, waiting }, time)) {
      const request = waiting.find((one) => one.holder === grant.holder)
      if (request === undefined) continue
      served.set(grant.holder, time)
      const pools = [...new Set(grant.units.map((unit) => unit.pool))]
      const hold = holds(grant.holder, pools)?.[length]
      if (hold !== undefined) ends.set(grant.holder, time + Math.max(1, hold))
      for (const got of grant.units) {
        const unit = units.find((one) => one.pool === got.pool && one.unit === got.unit)
        const holding = { holder: grant.holder, group: request.group, mode: got.mode }
        if (unit !== undefined) unit.holders = [...unit.holders, holding]
      }
    }
    waiting = waiting.filter((one) => !served.has(one.holder))
    const later = [...ends.values(), ...opens.values()].filter((one) => one > time)
    if (later.length === 0) break
    time = later.reduce((least, one) => Math.min(least, one))
  }
  return served
}

function poolsOfHolders(units: readonly PoolUnit[]): ReadonlyMap<string, readonly string[]> {
  const pools = new Map<string, string[]>()
  for (const { pool, holders } of units) {
    for (const { holder } of holders) {
      const known = pools.get(holder) ?? []
      if (!known.includes(pool)) pools.set(holder, [...known, pool])
    }
  }
  return pools
}
