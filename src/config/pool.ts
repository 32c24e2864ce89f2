import type { z } from 'zod'
import type { HandOverStep, PoolSettings, Properties, UnitSettings } from '../core/pool/settings.ts'
import { durationMs } from './duration.ts'
import type { Pool, Unit } from './schema.ts'

/** Pools and units as people write them, in the operator's file or by the API, and as the rest of Penstock has them. */

/** What `where` has besides a unit's properties. */
const RESERVED_PROPERTIES = ['unit', 'labels', 'properties'] as const

export function reservedIn(properties: Properties): readonly string[] {
  return RESERVED_PROPERTIES.filter((word) => Object.hasOwn(properties, word))
}

export function reservedSentence(word: string): string {
  return `"${word}" has a meaning of its own; choose another name`
}

/** Properties that an address of the pool names and a unit does not have. */
export function lackingProperties(
  { reset, probe }: Pick<PoolSettings, 'reset' | 'probe'>,
  units: readonly { readonly name: string; readonly properties: Properties }[],
): readonly { readonly step: 'reset' | 'probe'; readonly unit: string; readonly property: string }[] {
  return (['reset', 'probe'] as const).flatMap((step) => {
    const settings = step === 'reset' ? reset : probe
    if (settings?.kind !== 'http') return []
    return [...settings.url.matchAll(/\{([^{}]*)\}/g)].flatMap(([, property = '']) => {
      const lacking = units.find((unit) => !Object.hasOwn(unit.properties, property))
      return lacking === undefined ? [] : [{ step, unit: lacking.name, property }]
    })
  })
}

export function toUnitSettings({
  labels,
  properties,
  notes,
  capacity,
  reset_cost,
}: Omit<z.infer<typeof Unit>, 'credentials'>): UnitSettings {
  return {
    ...{ labels, properties, capacity },
    resetCostMs: reset_cost === undefined ? 0 : durationMs(reset_cost),
    ...(notes === undefined ? {} : { notes }),
  }
}

export function toPoolSettings(pool: Omit<z.infer<typeof Pool>, 'units'>): PoolSettings {
  const { privileged, notes, share, max_hold, reset, probe } = pool
  return {
    privileged,
    ...(notes === undefined ? {} : { notes }),
    ...(share === undefined ? {} : { share }),
    ...(max_hold === undefined ? {} : { maxHoldMs: durationMs(max_hold) }),
    warnMs: durationMs(pool.warn),
    ...(reset === undefined ? {} : { reset: toHandOver(reset) }),
    ...(probe === undefined ? {} : { probe: toHandOver(probe) }),
    probeEveryMs: durationMs(pool.probe_every),
  }
}

function toHandOver(step: NonNullable<z.infer<typeof Pool>['reset']>): HandOverStep {
  const timeoutMs = durationMs(step.timeout)
  if (step.http !== undefined) {
    return { kind: 'http', url: step.http, timeoutMs, ...(step.status === undefined ? {} : { status: step.status }) }
  }
  const run = typeof step.run === 'string' ? [step.run] : (step.run ?? [])
  return { kind: 'container', image: step.image ?? '', run, constraints: step.constraints, timeoutMs }
}
