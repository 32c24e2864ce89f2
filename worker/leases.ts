import {
  type Client,
  WorkflowExecutionAlreadyStartedError,
  WorkflowIdConflictPolicy,
  WorkflowNotFoundError,
} from '@temporalio/client'
import type { Logger } from 'pino'
import { CONTROL_QUEUE, careId } from '../src/core/ids.ts'
import type { Cluster, Errands } from '../src/engine/types.ts'
import type { Store } from '../src/store/types.ts'
import type { unitCare } from '../workflows/index.ts'
import { revoked } from '../workflows/messages.ts'

/** Nobody's time runs out because the server was down: whoever lives has been heard of again within this. */
const GRACE_MS = 60_000
/** A node's worker tells of the holders on it every 10 s. */
const SILENT_MS = 45_000
/** Between two looks at the time. Longer: this process, or the database, stood still. */
const STOOD_STILL_MS = 15_000
/** Who has lost a unit is told again after this, then after longer and longer pauses. */
const FIRST_REMINDER_MS = 10_000
const LONGEST_REMINDER_MS = 300_000

/**
 * What time does to leases. Kept by the server: while it is down nobody can be heard, or extend what he holds, and nothing
 * may come of that.
 */
export function createTimekeeper({
  store,
  clock,
  log,
}: {
  readonly store: Pick<Store, 'leases'>
  readonly clock: () => number
  readonly log: Pick<Logger, 'info'>
}): { once(): Promise<void> } {
  let upSince = clock()
  let looked = upSince
  return {
    async once() {
      const now = clock()
      // What was said in that time may not have been heard.
      if (now < looked || now - looked > STOOD_STILL_MS) upSince = now
      for (const seen of await store.leases.watch({ upSince, graceMs: GRACE_MS, silentMs: SILENT_MS })) {
        log.info(seen, 'a lease was looked at')
      }
      looked = now
    },
  }
}

/** What lost nodes do to leases. */
export async function tendLeases({
  store,
  cluster,
}: {
  readonly store: Pick<Store, 'leases'>
  readonly cluster: Pick<Cluster, 'nodes'>
}): Promise<void> {
  const unproved = await store.leases.unproved()
  if (unproved.length === 0) return
  const nodes = new Set((await cluster.nodes()).map(({ id }) => id))
  for (const { holder, node } of unproved) {
    // Whoever took it out of the Swarm has said that nothing of it comes back.
    if (!nodes.has(node)) await store.leases.proveGone(holder)
  }
}

/**
 * Who has lost his units is told so until he has ended: the first message may have met a workflow that was not there, or
 * that Temporal has forgotten since. One that was closed in Temporal only has ended: nobody would say so otherwise.
 */
export function createReminder({
  store,
  client,
  clock,
  log,
}: {
  readonly store: Pick<Store, 'leases'>
  readonly client: Pick<Client, 'workflow'>
  readonly clock: () => number
  readonly log: Pick<Logger, 'warn'>
}): { once(): Promise<void> } {
  const told = new Map<string, { readonly next: number; readonly pause: number }>()

  async function remind(holder: string, reason: string): Promise<void> {
    const workflow = client.workflow.getHandle(holder)
    try {
      return await workflow.signal(revoked, reason)
    } catch (err) {
      if (!(err instanceof WorkflowNotFoundError)) throw err
    }
    try {
      const { status } = await workflow.describe()
      if (status.name !== 'RUNNING') await store.leases.release([holder])
    } catch (err) {
      // It will be started again with its run, and asks first.
      if (!(err instanceof WorkflowNotFoundError)) throw err
    }
  }

  return {
    async once() {
      const lost = await store.leases.revoked()
      for (const holder of told.keys()) if (!lost.some((one) => one.holder === holder)) told.delete(holder)
      for (const { holder, reason } of lost) {
        const now = clock()
        const { next, pause } = told.get(holder) ?? { next: now + FIRST_REMINDER_MS, pause: FIRST_REMINDER_MS }
        told.set(holder, { next, pause })
        if (now < next) continue
        told.set(holder, { next: now + pause, pause: Math.min(pause * 2, LONGEST_REMINDER_MS) })
        try {
          await remind(holder, reason)
        } catch (err) {
          log.warn({ err, holder }, 'who has lost a unit could not be told again')
        }
      }
    },
  }
}

/** Units on their way to the next holder whose workflow Temporal has lost, and containers whose unit is there already. */
export async function tendUnits({
  store,
  client,
  errands,
}: {
  readonly store: Pick<Store, 'units'>
  readonly client: Client
  readonly errands: Pick<Errands, 'owned' | 'remove'>
}): Promise<void> {
  const owned = await errands.owned()
  const units = await store.units.caredFor()
  for (const { pool, unit } of units) {
    try {
      await client.workflow.start<typeof unitCare>('unitCare', {
        taskQueue: CONTROL_QUEUE,
        workflowId: careId(pool, unit),
        args: [{ pool, unit }],
        workflowIdConflictPolicy: WorkflowIdConflictPolicy.USE_EXISTING,
        staticSummary: `${pool}/${unit} on its way to the next holder`,
      })
    } catch (err) {
      if (!(err instanceof WorkflowExecutionAlreadyStartedError)) throw err
    }
  }
  const left = owned.filter((id) => !units.some(({ pool, unit }) => id.startsWith(`${pool}/${unit}/`)))
  // One that does not end, or is out of reach, keeps nobody from the others.
  const removed = await Promise.allSettled(left.map((id) => errands.remove(id)))
  for (const how of removed) if (how.status === 'rejected') throw how.reason
}
