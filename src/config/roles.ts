import type { Role } from './types.ts'

/** What a request may do; each route asks for exactly one. */
export const PERMISSIONS = ['read', 'run', 'vote', 'override', 'pools', 'forge', 'audit', 'tokens'] as const
export type Permission = (typeof PERMISSIONS)[number]

/** An approver decides, and does not need to be able to start or cancel what is decided on. */
export const ROLE_PERMISSIONS: Readonly<Record<Role, readonly Permission[]>> = {
  viewer: ['read'],
  developer: ['read', 'run'],
  approver: ['read', 'vote'],
  operator: ['read', 'run', 'vote', 'override', 'pools', 'forge', 'audit'],
  admin: PERMISSIONS,
}

export function permissionsOf(roles: readonly Role[]): ReadonlySet<Permission> {
  return new Set(roles.flatMap((role) => ROLE_PERMISSIONS[role]))
}
