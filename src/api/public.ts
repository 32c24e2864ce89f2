import { accountRoutes } from './account.ts'
import type { ApiDeps } from './deps.ts'
import { forgeRoutes } from './forge.ts'
import { gateRoutes } from './gates.ts'
import { inventoryRoutes } from './inventory.ts'
import { logRoutes } from './log.ts'
import { mergeRoutes } from './merges.ts'
import { poolRoutes } from './pools.ts'
import { reservationRoutes } from './reservations.ts'
import type { Route } from './route.ts'
import { runRoutes } from './runs.ts'
import { sessionRoutes } from './sessions.ts'

/** What people and their programs use. */
export function publicRoutes(deps: ApiDeps): readonly Route[] {
  return [
    ...accountRoutes(deps),
    ...runRoutes(deps),
    ...logRoutes(deps),
    ...gateRoutes(deps),
    ...sessionRoutes(deps),
    ...inventoryRoutes(deps),
    ...poolRoutes(deps),
    ...reservationRoutes(deps),
    ...forgeRoutes(deps),
    ...mergeRoutes(deps),
  ]
}
