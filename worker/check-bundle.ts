import { createHash } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Client, isGrpcServiceError } from '@temporalio/client'
import { Worker } from '@temporalio/worker'
import type { Logger } from 'pino'

/** The oldest wait longest, so they come from the oldest release; newer ones of the same release tell the same. */
const MOST_RUNS = 100
/** gRPC's code. */
const NOT_FOUND = 5
/** What was found to agree with every open run, by its digest. */
const ACCEPTED = 'accepted-bundle'

export interface CheckBundle {
  readonly bundle: string
  readonly dataDir: string
  readonly client: Client
  /** Ids of the runs that are open, oldest first. */
  readonly open: readonly string[]
  readonly log: Logger
}

/** The workflows of this release do not come to the point where open runs are: they would be stuck, or be run astray. */
export class BundleDiverges extends Error {
  override readonly name = 'BundleDiverges'
}

/**
 * Replays open runs under the workflows of this release, once a release: a worker that starts again under the same
 * bundle does not wait for it. Throws `BundleDiverges`, naming the runs; nothing of them has changed then, and the
 * release before can go on with them.
 */
export async function checkBundle({ bundle, dataDir, client, open, log }: CheckBundle): Promise<void> {
  const digest = createHash('sha256')
    .update(await readFile(bundle))
    .digest('hex')
  const file = join(dataDir, ACCEPTED)
  const accepted = await readFile(file, 'utf8').catch(() => '')
  if (accepted.trim() === digest) return
  const oldest = open.slice(0, MOST_RUNS)
  if (oldest.length > 0) await replay(oldest)
  await writeFile(`${file}.new`, `${digest}\n`)
  await rename(`${file}.new`, file)

  async function replay(runs: readonly string[]): Promise<void> {
    log.info({ runs: runs.length }, 'open runs are replayed under the workflows of this release')
    const results = Worker.runReplayHistories({ workflowBundle: { codePath: bundle } }, histories(runs))
    const diverging: string[] = []
    for await (const { workflowId, error } of results) {
      if (error === undefined) continue
      log.error({ err: error, run: workflowId }, 'this release cannot go on with an open run')
      diverging.push(workflowId)
    }
    if (diverging.length === 0) return
    throw new BundleDiverges(
      `the workflows of this release cannot go on with ${diverging.slice(0, 5).join(', ')}${diverging.length > 5 ? ` and ${diverging.length - 5} more` : ''}; start the release before again, or end these runs with it`,
    )
  }

  async function* histories(runs: readonly string[]) {
    for (const workflowId of runs) {
      try {
        yield { workflowId, history: await client.workflow.getHandle(workflowId).fetchHistory() }
      } catch (err) {
        // Not started yet, or lost: the reconciler starts it under this release.
        if (!isGrpcServiceError(err) || err.code !== NOT_FOUND) throw err
      }
    }
  }
}
