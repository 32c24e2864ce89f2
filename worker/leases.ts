import { type Client, WorkflowExecutionAlreadyStartedError, WorkflowIdConflictPolicy } from '@temporalio/client'
import type { Logger } from 'pino'
import { CONTROL_QUEUE, careId } from '../src/core/ids.ts'
import type { Cluster, Errands } from '../src/engine/types.ts'
import type { Store } from '../src/store/types.ts'
import type { unitCare } from '../workflows/index.ts'

/** Nobody's time runs out because the server was down: whoever lives has been heard of again within this. */
const GRACE_MS = 60_000
/** A node's worker tells of the holders on it every 10 s. */
const SILENT_MS = 45_000

/** What time and lost nodes do to leases. */
export async function tendLeases({
  store,
  cluster,
  upSince,
  log,
}: {
  readonly store: Pick<Store, 'leases'>
  readonly cluster: Pick<Cluster, 'nodes'>
  readonly upSince: number
  readonly log: Logger
}): Promise<void> {
  for (const seen of await store.leases.watch({ upSince, graceMs: GRACE_MS, silentMs: SILENT_MS })) {
    log.info(seen, 'a lease was looked at')
  }
  const unproved = await store.leases.unproved()
  if (unproved.length === 0) return
  const nodes = new Set((await cluster.nodes()).map(({ id }) => id))
  for (const { holder, node } of unproved) {
    // Whoever took it out of the Swarm has said that nothing of it comes back.
    if (!nodes.has(node)) await store.leases.proveGone(holder)
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
  for (const id of owned) {
    if (!units.some(({ pool, unit }) => id.startsWith(`${pool}/${unit}/`))) await errands.remove(id)
  }
}
