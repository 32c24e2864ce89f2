import { withoutOutput } from '../core/pool/care.ts'
import type { ExpectedStart } from '../core/pool/expected-start.ts'
import type { HandOverStep } from '../core/pool/settings.ts'
import { JOB_SLOTS } from '../core/pool/state.ts'
import { didYouMean } from '../spec/suggest.ts'
import type { LeaseRow, PoolRow, PoolsView, Refusal, UnitRow, WaiterRow } from '../store/pool-types.ts'
import type { Store } from '../store/types.ts'
import { ProblemError, problem } from './problem.ts'

/** How people see pools: who waits is told who is in the way, and when it will start. */
export interface ShownWaiter extends Omit<WaiterRow, 'holders'> {
  /** Of the units that it could use. */
  readonly holders: readonly Pick<LeaseRow, 'pool' | 'unit' | 'holder' | 'since' | 'expiresAt'>[]
  /** As the history of the pool has it. */
  readonly expected?: ExpectedStart
}

export interface ShownPools extends Omit<PoolsView, 'waiters'> {
  readonly waiters: readonly ShownWaiter[]
}

/** What everybody may see of a pool: that there is a reset and a probe, not by which command or address. */
export interface PublicPool extends Omit<PoolRow, 'reset' | 'probe'> {
  readonly reset?: Pick<HandOverStep, 'kind'>
  readonly probe?: Pick<HandOverStep, 'kind'>
}

export function publicPool({ reset, probe, ...pool }: PoolRow): PublicPool {
  return {
    ...pool,
    ...(reset === undefined ? {} : { reset: { kind: reset.kind } }),
    ...(probe === undefined ? {} : { probe: { kind: probe.kind } }),
  }
}

/** Without what the commands of a reset or probe wrote. */
export function publicUnit({ quarantined, ...unit }: UnitRow): UnitRow {
  return { ...unit, ...(quarantined === undefined ? {} : { quarantined: withoutOutput(quarantined) }) }
}

export async function readPools({ leases }: Pick<Store, 'leases'>): Promise<ShownPools> {
  const [{ pools, units, waiters }, expected] = await Promise.all([leases.list(), leases.expectedStarts()])
  return {
    pools,
    // Slots are all alike; who waits for one is listed with the others.
    units: units.filter((unit) => unit.pool !== JOB_SLOTS),
    waiters: waiters.map(({ holders, ...one }) => ({
      ...one,
      holders: holders
        .filter(({ pool }) => pool !== JOB_SLOTS)
        .map(({ pool, unit, holder, since, expiresAt }) => ({ pool, unit, holder, since, expiresAt })),
      ...(Object.hasOwn(expected, one.holder) && expected[one.holder] ? { expected: expected[one.holder] } : {}),
    })),
  }
}

/** @throws ProblemError 404 */
export function poolIn({ pools }: Pick<PoolsView, 'pools'>, name: string | undefined): PoolRow {
  const found = pools.find(({ pool }) => pool === name)
  if (found !== undefined) return found
  const known = pools.map(({ pool }) => pool)
  throw unknown(`there is no pool "${name}"`, didYouMean(name ?? '', known, 'pool in this installation'))
}

/** @throws ProblemError 404 */
export function unitIn(
  view: Pick<PoolsView, 'pools' | 'units'>,
  pool: string | undefined,
  name: string | undefined,
): UnitRow {
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
