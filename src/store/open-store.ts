import { createAudit } from './audit.ts'
import type { StoreLog } from './database.ts'
import { openDatabase } from './database.ts'
import { createDeliveries } from './deliveries.ts'
import { createDeployments } from './deployments.ts'
import { createEvents } from './events.ts'
import { createGates } from './gates.ts'
import { createLeases } from './leases.ts'
import { createMasks } from './masks.ts'
import { createMerges } from './merges.ts'
import { createNodes } from './nodes.ts'
import { createNotices } from './notices.ts'
import { createOutbox } from './outbox.ts'
import { createPeople } from './people.ts'
import { createPromotions } from './promotions.ts'
import { createReports } from './reports.ts'
import { createReservations } from './reservations.ts'
import { createResults } from './results.ts'
import { createRuns } from './runs.ts'
import { createSessions } from './sessions.ts'
import { createSightings } from './sightings.ts'
import type { Store } from './types.ts'
import { createUnits } from './units.ts'

export interface StoreOptions {
  /** `sqlite:/path/to/file.db` (its directory exists) or `postgres://user@host/name`. */
  readonly url: string
  /** Milliseconds since 1970. */
  readonly clock?: () => number
  readonly log?: StoreLog
}

/**
 * Opens the database and brings it to the current schema; several processes may do so at once, and use it together.
 * Throws if the url is none of ours, or the database cannot be reached or brought to the schema.
 */
export async function openStore(options: StoreOptions): Promise<Store> {
  const database = await openDatabase({ url: options.url, clock: options.clock ?? Date.now, log: options.log })
  return {
    deliveries: createDeliveries(database),
    runs: createRuns(database),
    events: createEvents(database),
    gates: createGates(database),
    promotions: createPromotions(database),
    leases: createLeases(database),
    units: createUnits(database),
    reservations: createReservations(database),
    deployments: createDeployments(database),
    outbox: createOutbox(database),
    notices: createNotices(database),
    merges: createMerges(database),
    reports: createReports(database),
    people: createPeople(database),
    results: createResults(database),
    sessions: createSessions(database),
    nodes: createNodes(database),
    audit: createAudit(database),
    sightings: createSightings(database),
    masks: createMasks(database),
    close: () => database.close(),
  }
}
