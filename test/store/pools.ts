import type { PoolSettings, UnitSettings } from '../../src/core/pool/settings.ts'
import type { Store } from '../../src/store/types.ts'

type Pool = Parameters<Store['units']['configure']>[0][number]

/** A pool as the operator's file gives it, with what differs from its defaults. */
export function pool(
  name: string,
  units: Readonly<Record<string, Partial<UnitSettings>>>,
  settings: Partial<PoolSettings> = {},
): Pool {
  return {
    ...{ name, privileged: false, warnMs: 600_000, probeEveryMs: 60_000 },
    ...settings,
    units: Object.entries(units).map(([unit, one]) => ({
      ...{ name: unit, labels: [], properties: {}, capacity: 1, resetCostMs: 0 },
      ...one,
    })),
  }
}

export const RIGS = [pool('rig', { r1: { labels: ['arch=arm64'], properties: { url: 'http://r1' } }, r2: {} })]
