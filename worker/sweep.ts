import type { Logger } from 'pino'
import type { Cluster } from '../src/engine/types.ts'
import type { Store } from '../src/store/types.ts'

/** Takes away what ended runs have left in Docker and in the pools, and what nobody asks for any more. */
export async function sweep({
  store,
  cluster,
  log,
}: {
  readonly store: Pick<Store, 'runs' | 'leases' | 'masks'>
  readonly cluster: Pick<Cluster, 'ownedRuns' | 'removeRun'>
  readonly log: Logger
}): Promise<void> {
  // Seen before it is asked which runs are open: one that begins after that has nothing here that could be taken from it.
  const owned = await cluster.ownedRuns()
  const holders = await store.leases.holders()
  const masked = await store.masks.runs()
  const open = (await store.runs.open()).map((run) => run.id)
  // Before what may take minutes: in that time a run may be retried, and keep new ones.
  for (const run of masked) if (!open.includes(run)) await store.masks.forget(run)
  for (const run of owned) {
    if (open.includes(run)) continue
    log.info({ run }, 'what an ended run has left behind is removed')
    // What one run holds on to (on a node that is down, say) is no reason to leave what the others have left.
    await cluster.removeRun(run).catch((err: unknown) => log.warn({ err, run }, 'not all of an ended run is removed'))
  }
  await store.leases.pruneHistory()
  // People have no run.
  for (const { holder, run } of holders) {
    if (run !== '' && !open.some((one) => isOf(one, holder))) await store.leases.release([holder])
  }
}

function isOf(run: string, holder: string): boolean {
  return holder === run || holder.startsWith(`${run}@`) || holder.startsWith(`${run}/`)
}
