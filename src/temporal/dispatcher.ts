import {
  type Client,
  WorkflowExecutionAlreadyStartedError,
  type WorkflowHandle,
  WorkflowIdReusePolicy,
  WorkflowNotFoundError,
} from '@temporalio/client'
import type { Logger } from 'pino'
import type { pipelineRun, unitCare } from '../../workflows/index.ts'
import { CONTROL_QUEUE, careId, parseRunId } from '../core/ids.ts'
import { isOutcome } from '../core/outcome.ts'
import type { OutboxMessage, OutboxRow, Store } from '../store/types.ts'
import { describeRun } from './describe-run.ts'

export interface Dispatcher {
  /** Delivers until aborted; resolves when nothing is under way any more. */
  run(signal: AbortSignal): Promise<void>
}

/** Asked again by itself: another process may have put a message, or died with one in hand. */
const POLL_MS = 200
const LEASE_MS = 10_000
const BATCH = 50
const FIRST_DELAY_MS = 200
const LONGEST_DELAY_MS = 15_000

/**
 * Carries the outbox to Temporal. A message is cleared when its effect is certain (the execution is there, the signal was
 * taken, or nobody is left to take it) and is tried again until then; every delivery may happen twice without harm.
 */
export function createDispatcher(deps: {
  readonly store: Store
  readonly client: Client
  readonly log: Logger
  /** How people reach the server: for links in the Temporal UI. */
  readonly url: string
}): Dispatcher {
  const { store, client, log } = deps
  let wake = () => {}
  let nudged = false
  store.outbox.onPut(() => {
    nudged = true
    wake()
  })

  async function deliver(message: OutboxMessage): Promise<'done' | 'again'> {
    switch (message.kind) {
      case 'start':
        return start(deps, message)
      case 'cancel':
        return send(message.run, (workflow) => workflow.cancel())
      case 'care':
        await careFor(client, message)
        return 'done'
      case 'signal':
        return send(message.workflowId, (workflow) => workflow.signal(message.signal, ...message.args))
    }
  }

  /**
   * Whoever has ended takes nothing any more, and what it was told changes nothing. A run that the database holds open
   * and Temporal has lost is started again by the reconciler, and is told then: a vote must not get lost on the way.
   */
  async function send(
    workflowId: string,
    tell: (workflow: WorkflowHandle) => Promise<unknown>,
  ): Promise<'done' | 'again'> {
    try {
      await tell(client.workflow.getHandle(workflowId))
      return 'done'
    } catch (err) {
      if (!(err instanceof WorkflowNotFoundError)) throw err
      const id = parseRunId(workflowId)
      const run = id && (await store.runs.get(id.repo, id.number))
      return run && !isOutcome(run.status) ? 'again' : 'done'
    }
  }

  async function handle(row: OutboxRow): Promise<void> {
    try {
      if ((await deliver(row.message)) === 'done') return await store.outbox.done(row.id)
      await store.outbox.failed(row.id, 'Temporal cannot take it yet', FIRST_DELAY_MS)
    } catch (err) {
      log.warn({ err, kind: row.message.kind, tries: row.tries }, 'an outbox message could not be delivered yet')
      const delay = Math.min(FIRST_DELAY_MS * 2 ** Math.min(row.tries, 10), LONGEST_DELAY_MS)
      await store.outbox.failed(row.id, err instanceof Error ? err.message : String(err), delay)
    }
  }

  return {
    async run(signal) {
      signal.addEventListener('abort', () => wake())
      while (!signal.aborted) {
        nudged = false
        try {
          const rows = await store.outbox.take(BATCH, LEASE_MS)
          await Promise.all(rows.map(handle))
          if (rows.length > 0) continue
        } catch (err) {
          log.error({ err }, 'the outbox cannot be read')
        }
        if (nudged || signal.aborted) continue
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, POLL_MS)
          wake = () => {
            clearTimeout(timer)
            resolve()
          }
        })
      }
    },
  }
}

/** Whoever sees to the unit already looks anew; nobody does twice. */
async function careFor(client: Client, { pool, unit }: Extract<OutboxMessage, { kind: 'care' }>): Promise<void> {
  await client.workflow.signalWithStart<typeof unitCare>('unitCare', {
    taskQueue: CONTROL_QUEUE,
    workflowId: careId(pool, unit),
    args: [{ pool, unit }],
    signal: 'look',
    signalArgs: [],
    staticSummary: `${pool}/${unit} on its way to the next holder`,
  })
}

/** Starts the execution of a try; it is there already if another delivery of this message was faster. */
async function start(
  { client, store, url }: { readonly client: Client; readonly store: Store; readonly url: string },
  message: Extract<OutboxMessage, { kind: 'start' }>,
): Promise<'done' | 'again'> {
  const { run, try: number } = message
  const id = parseRunId(run)
  const row = id && (await store.runs.get(id.repo, id.number))
  const shown = row && describeRun(row, url)
  try {
    await client.workflow.start<typeof pipelineRun>('pipelineRun', {
      taskQueue: CONTROL_QUEUE,
      workflowId: run,
      args: [{ run, try: number }],
      workflowIdReusePolicy: message.retry
        ? WorkflowIdReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
        : WorkflowIdReusePolicy.REJECT_DUPLICATE,
      memo: { try: number },
      ...(shown ? { staticSummary: shown.summary, staticDetails: shown.details } : {}),
    })
    return 'done'
  } catch (err) {
    if (!(err instanceof WorkflowExecutionAlreadyStartedError)) throw err
    const { memo } = await client.workflow.getHandle(run).describe()
    const there = Number(memo?.try ?? 1)
    return there >= number ? 'done' : 'again'
  }
}
