import { credentialNames, type HeldUnit } from '../core/pool/lease-environment.ts'
import type { Secret } from './secret.ts'
import type { Config } from './types.ts'

/** The credentials of the units that a job holds, under the names that it gets them by. */
export function credentialsOf(
  { pools }: Pick<Config, 'pools'>,
  leases: readonly HeldUnit[],
): readonly { readonly name: string; readonly secret: Secret }[] {
  const known = (held: HeldUnit) =>
    pools.find(({ name }) => name === held.pool)?.units.find(({ name }) => name === held.unit)?.credentials ?? {}
  return credentialNames(leases, (held) => Object.keys(known(held))).flatMap(({ secret: name, held, name: key }) => {
    const secret = known(held)[key]
    return secret === undefined ? [] : [{ name, secret }]
  })
}
