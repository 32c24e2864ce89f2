import type { z } from 'zod'
import { variableName } from '../core/job-environment.ts'
import type { HandOverStep, PoolSettings, Properties, UnitSettings } from '../core/pool/settings.ts'
import { durationMs } from './duration.ts'
import type { Pool, Unit } from './schema.ts'

/** Pools and units as people write them, in the operator's file or by the API, and as the rest of Penstock has them. */

/** What `where` has besides a unit's properties. */
const RESERVED_PROPERTIES = ['unit', 'labels', 'properties'] as const

/** Of those that a job finds as variables `CI_POOL_<POOL>_<NAME>`: fences and names of units, and those of further units. */
const RESERVED_VARIABLE = /^(?:FENCE|UNIT|[0-9]+(?:_.*)?)$/

/** Names of properties (and credentials, which become variables beside them) that would stand for something else, too. */
export function reservedIn(properties: Properties, credentials: readonly string[] = []): readonly string[] {
  const words = [...Object.keys(properties), ...credentials]
  const isTwin = (word: string, index: number) =>
    words.some((other, at) => at < index && variableName(other) === variableName(word))
  return words.filter(
    (word, index) =>
      RESERVED_PROPERTIES.some((one) => one === word) ||
      RESERVED_VARIABLE.test(variableName(word)) ||
      isTwin(word, index),
  )
}

export function reservedSentence(word: string): string {
  return `"${word}" has a meaning of its own, or is the same variable as another name; choose another one`
}

/** Another pool whose variables would be taken for those of this one: `rig-2` beside `rig`, `rig.a` beside `rig-a`. */
export function poolTwin(name: string, others: readonly string[]): string | undefined {
  const own = variableName(name)
  return others.find((other) => {
    const theirs = variableName(other)
    return other !== name && (own === theirs || isNumbered(own, theirs) || isNumbered(theirs, own))
  })
}

function isNumbered(longer: string, shorter: string): boolean {
  return longer.startsWith(`${shorter}_`) && /^[0-9]+$/.test(longer.slice(shorter.length + 1))
}

export function twinSentence(name: string, twin: string): string {
  return `jobs could not tell the variables of "${name}" from those of pool "${twin}"; choose another name`
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
