import type { Config, Role } from './types.ts'

/** What a request may do; each route asks for exactly one. */
export const PERMISSIONS = ['read', 'run', 'reserve', 'vote', 'override', 'pools', 'forge', 'audit', 'tokens'] as const
export type Permission = (typeof PERMISSIONS)[number]

/**
 * Whoever may reserve a unit may reserve that of a privileged pool, too: such pools are closed to the code of people without
 * write access, and these get no role here beyond `viewer`.
 *
 * An approver decides, and does not need to be able to start or cancel what is decided on.
 */
export const ROLE_PERMISSIONS: Readonly<Record<Role, readonly Permission[]>> = {
  viewer: ['read'],
  developer: ['read', 'run', 'reserve'],
  approver: ['read', 'reserve', 'vote'],
  operator: ['read', 'run', 'reserve', 'vote', 'override', 'pools', 'forge', 'audit'],
  admin: PERMISSIONS,
}

export function permissionsOf(roles: readonly Role[]): ReadonlySet<Permission> {
  return new Set(roles.flatMap((role) => ROLE_PERMISSIONS[role]))
}

/** Whether somebody of the operator's file may. */
export function personMay({ people }: Pick<Config, 'people'>, person: string, permission: Permission): boolean {
  const known = Object.hasOwn(people, person) ? people[person] : undefined
  return permissionsOf(known?.roles ?? []).has(permission)
}
