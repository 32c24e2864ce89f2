import type { PoolRequest } from '../core/plan.ts'
import { hasLabels } from '../core/pool/labels.ts'
import { JOB_SLOTS } from '../core/pool/state.ts'
import { didYouMean } from '../spec/suggest.ts'
import type { LeaseRow, PoolRow, PoolsView, Refusal, UnitRow, WaiterRow } from '../store/pool-types.ts'
import type { Store } from '../store/types.ts'
import { ProblemError, problem } from './problem.ts'

/** How people see pools: who waits is told who is in the way. */
export interface ShownWaiter extends WaiterRow {
  /** Of the units that it could use. */
  readonly holders: readonly Pick<LeaseRow, 'pool' | 'unit' | 'holder' | 'since' | 'expiresAt'>[]
}

export interface ShownPools extends PoolsView {
  readonly waiters: readonly ShownWaiter[]
}

export async function readPools({ leases }: Pick<Store, 'leases'>): Promise<ShownPools> {
  const { pools, units, waiters } = await leases.list()
  return {
    pools,
    // Slots are all alike; who waits for one is listed with the others.
    units: units.filter((unit) => unit.pool !== JOB_SLOTS),
    waiters: waiters.map((one) => ({ ...one, holders: holdersOf(units, one.requests) })),
  }
}

function holdersOf(units: readonly UnitRow[], requests: readonly PoolRequest[]): ShownWaiter['holders'] {
  return units
    .filter((unit) => unit.pool !== JOB_SLOTS && requests.some((one) => fits(one, unit)))
    .flatMap(({ leases }) => leases)
    .map(({ pool, unit, holder, since, expiresAt }) => ({ pool, unit, holder, since, expiresAt }))
}

function fits({ pool, labels }: PoolRequest, unit: UnitRow): boolean {
  return pool === unit.pool && hasLabels(unit.labels, labels)
}

/** @throws ProblemError 404 */
export function poolIn({ pools }: PoolsView, name: string | undefined): PoolRow {
  const found = pools.find(({ pool }) => pool === name)
  if (found !== undefined) return found
  const known = pools.map(({ pool }) => pool)
  throw unknown(`there is no pool "${name}"`, didYouMean(name ?? '', known, 'pool in this installation'))
}

/** @throws ProblemError 404 */
export function unitIn(view: PoolsView, pool: string | undefined, name: string | undefined): UnitRow {
  const known = view.units.filter((one) => one.pool === poolIn(view, pool).pool)
  const found = known.find(({ unit }) => unit === name)
  if (found !== undefined) return found
  const names = known.map(({ unit }) => unit)
  throw unknown(`pool "${pool}" has no unit "${name}"`, didYouMean(name ?? '', names, 'unit in it'))
}

export function unknown(what: string, hint: string): ProblemError {
  return new ProblemError(problem(404, `${what}; ${hint}`))
}

/** @throws ProblemError 409 with the store's sentence */
export function unlessRefused<T extends object | undefined>(answer: T | Refusal): T {
  if (answer !== undefined && 'kind' in answer && answer.kind === 'refused') {
    throw new ProblemError(problem(409, (answer as Refusal).why))
  }
  return answer as T
}
