import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import { createNodeActivities } from '../activities/node.ts'
import { nodeQueue } from '../src/core/ids.ts'
import { createImageBuilder } from '../src/deliverables/image.ts'
import { ensureBusybox } from '../src/embedded/images.ts'
import { connectDocker, createNodeEngine } from '../src/engine/index.ts'
import { createMirrors } from '../src/git/mirrors.ts'
import { createServerClient } from '../src/internal/client.ts'
import { everyNow } from './loop.ts'
import { announceReady, createLog, onShutdown, required } from './process.ts'
import { installRuntime, runWorker } from './run-worker.ts'

const ALIVE_EVERY_MS = 3_000
const SWEEP_EVERY_MS = 15_000
const ACTIVITY_SLOTS = 200

/** The worker of one Swarm node: it needs the engine's socket, Temporal, and the server's internal address; no database. */
async function main(): Promise<void> {
  const log = createLog('node')
  installRuntime(log)
  const env = process.env
  const token = required('PENSTOCK_WORKER_TOKEN')
  const url = required('PENSTOCK_INTERNAL_URL', 'PENSTOCK_URL').replace(/\/+$/, '')
  const address = env.PENSTOCK_TEMPORAL_ADDRESS ?? env.TEMPORAL_ADDRESS ?? '127.0.0.1:7233'
  const namespace = env.PENSTOCK_TEMPORAL_NAMESPACE ?? env.TEMPORAL_NAMESPACE ?? 'default'
  const instance = env.PENSTOCK_INSTANCE ?? 'main'
  const data = resolve(env.PENSTOCK_DATA ?? '.penstock')
  const signal = onShutdown(log)
  const docker = connectDocker(env)
  const engine = createNodeEngine({
    docker,
    instance,
    log,
    helper: { busybox: await ensureBusybox({ env, say: (text) => log.info(text) }) },
  })
  const server = createServerClient({ url, token })
  const node = await engine.nodeId()
  await engine.prepareNode()

  const alive = async () => {
    const { liveRuns, unproved } = await server.alive({ id: node.id, hostname: node.hostname || hostname() })
    for (const key of unproved) {
      try {
        await engine.removeVolumes(key)
        await server.proveGone(key)
      } catch (err) {
        // One that cannot be removed yet is no reason to leave the others unproved.
        log.warn({ err, ...key }, 'what an ended job has left is not removed yet')
      }
    }
    return new Set(liveRuns)
  }
  const duties = [
    everyNow('alive', ALIVE_EVERY_MS, signal, log, alive),
    everyNow('sweep', SWEEP_EVERY_MS, signal, log, async () => {
      const removed = await engine.sweep(alive)
      if (removed.length > 0) log.info({ removed }, 'what ended runs have left behind was removed')
    }),
  ]
  const activities = createNodeActivities({
    engine,
    node: node.id,
    server,
    mirrors: createMirrors({ dir: env.PENSTOCK_MIRRORS ?? join(data, 'mirrors') }),
    sourceOf: (repo) => ({
      url: `${url}/internal/v1/git/${encodeURIComponent(repo)}`,
      auth: `Authorization: Bearer ${token}`,
    }),
    images: createImageBuilder({ docker, instance }),
    scratch: join(data, 'scratch'),
    log,
  })
  await runWorker({
    address,
    namespace,
    taskQueue: nodeQueue(node.id),
    activities,
    withWorkflows: false,
    activitySlots: ACTIVITY_SLOTS,
    log,
    signal,
    onReady: announceReady,
  })
  await Promise.all(duties)
}

await main()
