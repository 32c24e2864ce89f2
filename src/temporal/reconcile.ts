import { type Client, WorkflowNotFoundError } from '@temporalio/client'
import type { Logger } from 'pino'
import { parseRunId } from '../core/ids.ts'
import { isOutcome } from '../core/outcome.ts'
import type { RunRow, Store } from '../store/types.ts'

/** A run this young may simply not have been started yet. */
const YOUNG_MS = 5_000
/** A workflow that has closed gets this long to have its end seen in the database. */
const CLOSED_GRACE_MS = 5_000
/** A run that has ended may take this long to remove what it used. */
const ENDED_GRACE_MS = 5 * 60_000
/** Between looks at everything that Temporal runs. */
const ORPHANS_EVERY_MS = 60_000

/**
 * Compares what the database holds open with what Temporal runs, and makes good: a run that Temporal has lost (an older
 * copy of its file, a lost namespace) is started again and goes on from recorded progress; one that was terminated there
 * is closed here; one that Temporal runs although it has ended here (an older copy, again) is terminated there.
 * Repeatable; never deploys or publishes by itself.
 */
export function createReconciler(deps: {
  readonly store: Store
  readonly client: Client
  readonly log: Logger
  readonly clock: () => number
}): { once(): Promise<void> } {
  const { store, client, log, clock } = deps
  const closedSince = new Map<string, number>()
  let lookedForOrphans = 0

  async function check(run: RunRow, outstanding: ReadonlySet<string>): Promise<void> {
    if (clock() - run.createdAt < YOUNG_MS || outstanding.has(run.id)) return
    let status: string
    try {
      const description = await client.workflow.getHandle(run.id).describe()
      status = description.status.name
      // The newest try may have been lost while an older one is remembered.
      if (Number(description.memo?.try ?? 1) < run.try && status !== 'RUNNING') return await startAgain(run)
    } catch (err) {
      if (err instanceof WorkflowNotFoundError) return startAgain(run)
      throw err
    }
    if (status === 'RUNNING') {
      closedSince.delete(run.id)
      return
    }
    const since = closedSince.get(run.id) ?? clock()
    closedSince.set(run.id, since)
    if (clock() - since < CLOSED_GRACE_MS) return
    closedSince.delete(run.id)
    const isCanceled = status === 'TERMINATED' || status === 'CANCELLED' || status === 'CANCELED'
    const cancel = (await store.runs.get(run.repo, run.number))?.cancel
    const outcome = isCanceled ? 'canceled' : 'errored'
    const reason =
      isCanceled && cancel
        ? `canceled by ${cancel.by}: ${cancel.reason}`
        : `its workflow is ${status.toLowerCase()} in Temporal`
    log.warn({ run: run.id, status }, 'a run was closed in Temporal only; it is closed here, too')
    await store.events.append(run.id, `try/${run.try}/finished`, [
      { type: 'run.finished.v1', try: run.try, outcome, reason },
    ])
    await store.leases.releaseRun(run.id)
  }

  async function startAgain(run: RunRow): Promise<void> {
    log.warn({ run: run.id, try: run.try }, 'Temporal has lost a run; it is started again from recorded progress')
    await store.outbox.put(`start/${run.id}/${run.try}/again/${clock()}`, {
      kind: 'start',
      run: run.id,
      try: run.try,
      retry: run.try > 1,
    })
  }

  async function endOrphans(): Promise<void> {
    if (clock() - lookedForOrphans < ORPHANS_EVERY_MS) return
    lookedForOrphans = clock()
    const query = 'WorkflowType = "pipelineRun" AND ExecutionStatus = "Running"'
    for await (const { workflowId, runId } of client.workflow.list({ query })) {
      const id = parseRunId(workflowId)
      const run = id && (await store.runs.get(id.repo, id.number))
      if (!run || !isOutcome(run.status) || clock() - (run.finishedAt ?? 0) < ENDED_GRACE_MS) continue
      log.warn({ run: run.id, status: run.status }, 'Temporal runs a run that has ended; it is terminated there')
      await client.workflow.getHandle(workflowId, runId).terminate(`this run has ended: ${run.status}`)
    }
  }

  return {
    async once() {
      const outstanding = new Set<string>()
      for (const { message } of await store.outbox.pending()) if (message.kind === 'start') outstanding.add(message.run)
      for (const run of await store.runs.open()) {
        try {
          await check(run, outstanding)
        } catch (err) {
          log.warn({ err, run: run.id }, 'a run could not be compared with Temporal')
        }
      }
      await endOrphans()
    },
  }
}
