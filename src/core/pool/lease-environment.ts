import { variableName } from '../job-environment.ts'
import type { Properties } from './settings.ts'
import { JOB_SLOTS } from './state.ts'

/** A unit that a job holds. */
export interface HeldUnit {
  readonly pool: string
  readonly unit: string
  /** Grows with every grant of the unit: who is asked for something under a lower one can refuse it. */
  readonly fence: number
  readonly properties: Properties
}

/**
 * What a job is told of the units that it holds: `CI_POOL_RIG` has their names, separated by spaces;
 * `CI_POOL_RIG_<PROPERTY>` and `CI_POOL_RIG_FENCE` are those of the first, `CI_POOL_RIG_1_…`, `CI_POOL_RIG_2_…` those of
 * each, with its name as `…_UNIT`.
 */
export function leaseEnvironment(leases: readonly HeldUnit[]): Readonly<Record<string, string>> {
  const env: Record<string, string> = {}
  for (const { prefix, number, unit, fence, properties } of numbered(leases)) {
    env[prefix] = number === 1 ? unit : `${env[prefix]} ${unit}`
    for (const each of number === 1 ? [prefix, `${prefix}_1`] : [`${prefix}_${number}`]) {
      for (const [name, value] of Object.entries(properties)) env[`${each}_${variableName(name)}`] = String(value)
      env[`${each}_FENCE`] = String(fence)
    }
    env[`${prefix}_${number}_UNIT`] = unit
  }
  return env
}

/** The same as one JSON document, with the types that the properties have. */
export function leaseDocument(leases: readonly HeldUnit[]): string {
  const units = leases.filter(({ pool }) => pool !== JOB_SLOTS)
  return JSON.stringify({
    units: units.map(({ pool, unit, fence, properties }) => ({ pool, unit, fence, properties })),
  })
}

/** Names of the credentials of a unit as its holder has them: `CI_POOL_RIG_PASSWORD`, from the second unit on `CI_POOL_RIG_2_PASSWORD`. */
export function credentialNames(
  leases: readonly HeldUnit[],
  namesOf: (held: HeldUnit) => readonly string[],
): readonly { readonly secret: string; readonly held: HeldUnit; readonly name: string }[] {
  return numbered(leases).flatMap(({ prefix, number, held }) =>
    namesOf(held).map((name) => ({
      secret: number === 1 ? `${prefix}_${name}` : `${prefix}_${number}_${name}`,
      held,
      name,
    })),
  )
}

function numbered(leases: readonly HeldUnit[]) {
  const counts = new Map<string, number>()
  return leases
    .filter(({ pool }) => pool !== JOB_SLOTS)
    .map((held) => {
      const number = (counts.get(held.pool) ?? 0) + 1
      counts.set(held.pool, number)
      return { ...held, held, number, prefix: `CI_POOL_${variableName(held.pool)}` }
    })
}
