import { AGEING_MS, computeGrants } from '../../../src/core/pool/grants.ts'
import type { Holding, Mode, PoolState, PoolUnit, WaitingRequest, Wanted } from '../../../src/core/pool/state.ts'

export const NOW = 100 * AGEING_MS

export function unit(name: string, over: Partial<PoolUnit> = {}): PoolUnit {
  const plain = { capacity: 1, fence: 0, isOpen: true, isReturning: false, holders: [], resetCostMs: 0, versatility: 0 }
  return { pool: 'rig', unit: name, ...plain, ...over }
}

export function held(...holders: readonly (string | Holding)[]): Pick<PoolUnit, 'holders'> {
  return {
    holders: holders.map((one) => (typeof one === 'string' ? { holder: one, group: one, mode: 'exclusive' } : one)),
  }
}

export function sharing(...names: readonly string[]): Pick<PoolUnit, 'holders'> {
  return { holders: names.map((name) => ({ holder: name, group: name, mode: 'shared' as const })) }
}

export function some(count: number, fits: readonly string[], mode: Mode = 'exclusive', pool = 'rig'): Wanted {
  return { pool, count, mode, fits }
}

/** Age is by `seq` alone, unless `since` is said. */
export function wants(
  holder: string,
  seq: number,
  wanted: Wanted | readonly Wanted[],
  over: Partial<WaitingRequest> = {},
): WaitingRequest {
  const list = 'pool' in wanted ? [wanted] : wanted
  return { holder, group: holder, seq, priority: 0, since: NOW, ttlMs: 60, wanted: list, ...over }
}

export function granted(
  units: readonly PoolUnit[],
  waiting: readonly WaitingRequest[],
  shares: PoolState['shares'] = {},
): Record<string, string[]> {
  const grants = computeGrants({ units, waiting, shares }, NOW)
  return Object.fromEntries(grants.map((one) => [one.holder, one.units.map(({ unit }) => unit).sort()]))
}
