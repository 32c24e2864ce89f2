import { computeGrants } from '../../../src/core/pool/grants.ts'
import type { Grant, PoolState, PoolUnit, WaitingRequest } from '../../../src/core/pool/state.ts'
import { brokenRules } from './reference.ts'

export type Decide = (state: PoolState, now: number) => readonly Grant[]
export type Ask = Pick<WaitingRequest, 'wanted' | 'priority' | 'group'>

/** Pools as a store would keep them. Each change has the queue decided anew, and the decision checked by the reference. */
export function createWorld(
  initial: readonly PoolUnit[],
  shares: PoolState['shares'],
  decide: Decide = computeGrants,
  /** Slow; a test that only waits does without. */
  check = true,
) {
  let units = initial
  let waiting: readonly WaitingRequest[] = []
  let now = 1_000_000_000
  let seq = 0
  const grantedAt = new Map<string, number>()

  const change = (pool: string, name: string, to: (unit: PoolUnit) => PoolUnit) => {
    units = units.map((one) => (one.pool === pool && one.unit === name ? to(one) : one))
  }

  const settle = () => {
    const state = { units, waiting, shares }
    const grants = decide(state, now)
    const broken = check ? brokenRules(state, grants) : []
    if (broken.length > 0) throw new Error(`broken: ${broken.join(', ')}`)
    for (const grant of grants) {
      const group = waiting.find((one) => one.holder === grant.holder)?.group ?? ''
      grantedAt.set(grant.holder, now)
      for (const { pool, unit, mode, fence } of grant.units) {
        change(pool, unit, (one) => {
          if (fence <= one.fence) throw new Error('broken: fences grow by one')
          return { ...one, fence, holders: [...one.holders, { holder: grant.holder, group, mode }] }
        })
      }
    }
    waiting = waiting.filter((one) => !grantedAt.has(one.holder))
  }

  return {
    units: () => units,
    waiting: () => waiting,
    now: () => now,
    grantedAt: (holder: string) => grantedAt.get(holder),
    holders: () => [...new Set(units.flatMap((one) => one.holders.map(({ holder }) => holder)))],

    ask(request: Ask): string {
      seq += 1
      const holder = `h${seq}`
      waiting = [...waiting, { ...request, holder, seq, since: now, ttlMs: 1 }]
      settle()
      return holder
    },
    cancel(holder: string) {
      waiting = waiting.filter((one) => one.holder !== holder)
      settle()
    },
    /** Units that are reset are not open at once. */
    release(holder: string) {
      units = units.map((one) => {
        const holders = one.holders.filter((by) => by.holder !== holder)
        if (holders.length === one.holders.length) return one
        const isReset = one.isOpen && one.resetCostMs > 0 && holders.length === 0
        return { ...one, holders, isOpen: one.isOpen && !isReset, isReturning: isReset }
      })
      settle()
    },
    finishReset(unit: PoolUnit) {
      change(unit.pool, unit.unit, (one) => (one.isReturning ? { ...one, isOpen: true, isReturning: false } : one))
      settle()
    },
    /** Quarantined or taken out of service, held or not. */
    close(unit: PoolUnit) {
      change(unit.pool, unit.unit, (one) => ({ ...one, isOpen: false, isReturning: false }))
      settle()
    },
    open(unit: PoolUnit) {
      change(unit.pool, unit.unit, (one) => ({ ...one, isOpen: true, isReturning: false }))
      settle()
    },
    pass(ms: number) {
      now += ms
      settle()
    },
  }
}
