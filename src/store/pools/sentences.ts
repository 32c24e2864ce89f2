import type { PoolRequest } from '../../core/plan.ts'
import { withoutOutput } from '../../core/pool/care.ts'
import { inTurn } from '../../core/pool/grants.ts'
import { JOB_SLOTS } from '../../core/pool/state.ts'
import { type Nearest, nearestUnit } from '../../pools/where.ts'
import type { WaiterRow } from '../pool-types.ts'
import {
  ENVIRONMENT_POOL,
  fits,
  heldOf,
  holdersFor,
  isHandedOver,
  type Request,
  type Tables,
  type Unit,
} from './tables.ts'

export function waitersInTurn({ requests }: Pick<Tables, 'requests'>): readonly Request[] {
  return inTurn(requests.filter((one) => one.state === 'waiting'))
}

/** `position` counts those who want of the same pools, from 1. */
export function toWaiterRow(
  tables: Tables,
  request: Request,
  order: readonly Request[] = waitersInTurn(tables),
): WaiterRow {
  const pools = new Set(request.requests.map((one) => one.pool))
  const rivals = order.filter((one) => one.requests.some(({ pool }) => pools.has(pool)))
  const position = rivals.findIndex((one) => one.holder === request.holder) + 1
  return {
    holder: request.holder,
    run: request.run,
    requests: request.requests,
    priority: request.priority,
    position,
    since: request.since,
    holders: holdersFor(tables, request.requests),
    sentence: waitingSentence(tables, request, position),
  }
}

/** Stays the same while nothing changes: it is compared with the last one to know whether there is news. */
function waitingSentence(tables: Tables, request: Request, position: number): string {
  const { requests } = request
  const holders = [...new Set(holdersFor(tables, requests).map((lease) => personOf(lease.holder)))]
  const isSlot = requests.every((one) => one.pool === JOB_SLOTS)
  const taken = isSlot ? `all ${holders.length} job slots are taken` : `held by ${holders.join(', ')}`
  const closed = tables.units.flatMap((unit) =>
    unit.gone === 0 && requests.some((one) => fits(one, unit)) ? whyClosed(unit) : [],
  )
  return [
    `waits for ${describe(requests)}`,
    ...(holders.length > 0 ? [taken] : []),
    ...(position > 1 ? [`${position - 1} ahead in the queue`] : []),
    ...shareSentence(tables, request),
    ...closed,
  ].join('; ')
}

function shareSentence(tables: Tables, { requests, party }: Request): readonly string[] {
  return requests.flatMap(({ pool, count }) => {
    const share = tables.pools.get(pool)?.share
    if (share === undefined) return []
    const own = heldOf(tables, pool, party)
    return own + count > share ? [`${personOf(party)} holds ${own} of the ${share} that it may of pool "${pool}"`] : []
  })
}

export function whyClosed({ unit, phase, quarantined, service, service_reason, leases }: Unit): readonly string[] {
  if (quarantined !== null) return [`${unit} is quarantined: ${withoutOutput(quarantined)}`]
  const why = service_reason ? `: ${service_reason}` : ''
  if (service === 'maintenance') return [`${unit} is in maintenance${why}`]
  if (service === 'draining') return [`${unit} is given to nobody more${why}`]
  const silent = leases.find((one) => one.silent === 1)
  if (silent !== undefined) return [`${unit} is quarantined: the node of ${silent.holder} is silent`]
  const unproved = leases.find((one) => one.ended_at !== null)
  if (unproved !== undefined)
    return [`${unit} is quarantined: it is not proved that the container of ${unproved.holder} is gone`]
  if (phase === 'clearing') return [`${unit} is free when what is left of its hand-over has ended`]
  return phase === 'ready' ? [] : [`${unit} is being made ready (${phase})`]
}

/** Names the expression, and the unit that comes nearest to it. */
export function impossibleSentence(
  requests: readonly PoolRequest[],
  { units, pools }: Pick<Tables, 'units' | 'pools'>,
): string {
  const there = requests.map((request) => {
    const { pool, count } = request
    const all = units.filter((unit) => unit.pool === pool)
    if (all.length === 0) return `there is no pool "${pool}"`
    const share = pools.get(pool)?.share
    if (share !== undefined && share < count) return `nobody may hold more than ${share} of pool "${pool}" at once`
    const fitting = all.filter((unit) => fits(request, unit)).length
    if (fitting >= count) return `pool "${pool}" has ${fitting} that fit, which the other requests need, too`
    const nearest = fitting === 0 ? nearestUnit(request, all) : undefined
    const asked = isAsking(request) ? `, ${fitting} that fit` : ''
    const near = nearest === undefined ? '' : `; the nearest is ${nearest.unit}, ${whyNot(nearest)}`
    return `pool "${pool}" has ${all.length} in all${asked}${near}`
  })
  return `no units can ever serve ${describe(requests)}: ${[...new Set(there)].join('; ')}`
}

function whyNot({ failed, values }: Nearest): string {
  const has = Object.entries(values).map(([name, value]) => `${name} is ${JSON.stringify(value)}`)
  return [`which is not ${failed.join(' and ')}`, ...(has.length > 0 ? [`its ${has.join(', ')}`] : [])].join(': ')
}

function isAsking({ labels, where }: PoolRequest): boolean {
  return labels.length > 0 || where !== undefined
}

export function describe(requests: readonly PoolRequest[]): string {
  return requests
    .map((request) => {
      const { pool, count, labels, where, mode } = request
      if (pool.startsWith(ENVIRONMENT_POOL)) return `environment ${pool.slice(ENVIRONMENT_POOL.length)}`
      if (!isHandedOver(pool)) return 'a job slot'
      const shared = mode === 'shared' ? ' to share' : ''
      const marked = labels.length > 0 ? ` with ${labels.join(', ')}` : ''
      return `${count} of pool "${pool}"${shared}${marked}${where === undefined ? '' : ` where ${where}`}`
    })
    .join(' and ')
}

/** `person:ada/7f3c` is Ada's reservation; everything else is said as it is. */
export function personOf(holder: string): string {
  return /^person:([^/]+)/.exec(holder)?.[1] ?? holder
}
