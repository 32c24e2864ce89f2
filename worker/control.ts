import { join } from 'node:path'
import { Client, Connection } from '@temporalio/client'
import { createControlActivities } from '../activities/control.ts'
import { rulesDigest } from '../src/approval/rights.ts'
import { loadConfig } from '../src/config/load.ts'
import { testersOf } from '../src/config/people.ts'
import { CONTROL_QUEUE } from '../src/core/ids.ts'
import { createSwarmDeployer } from '../src/deploy/swarm.ts'
import { connectDocker, createCluster, createErrands } from '../src/engine/index.ts'
import { createForges } from '../src/forge/index.ts'
import { createMirrors } from '../src/git/mirrors.ts'
import { createTextMasker } from '../src/logs/masker.ts'
import { tailOf } from '../src/logs/tail.ts'
import { createReporter } from '../src/report/reporter.ts'
import { createSender } from '../src/report/sender.ts'
import { createAttendant } from '../src/rules/attendant.ts'
import { openStore } from '../src/store/open-store.ts'
import { createDispatcher } from '../src/temporal/dispatcher.ts'
import { createReconciler } from '../src/temporal/reconcile.ts'
import { BundleDiverges, checkBundle } from './check-bundle.ts'
import { addressesOf, createMasks, createPorts } from './forge-reports.ts'
import { createReminder, tendLeases, tendUnits } from './leases.ts'
import { everyNow } from './loop.ts'
import { announceReady, createLog, databaseUrl, onShutdown } from './process.ts'
import { createRules } from './rules.ts'
import { bundlePath, installRuntime, runWorker } from './run-worker.ts'
import { sweep } from './sweep.ts'

const RECONCILE_EVERY_MS = 10_000
const SWEEP_EVERY_MS = 15_000
const NODES_EVERY_MS = 2_000
const LEASES_EVERY_MS = 2_000
const CHECK_AGAIN_MS = 1_000
const REPORT_EVERY_MS = 500
const ATTEND_EVERY_MS = 500
const REVIEW_EVERY_MS = 5_000
/** A node whose worker was silent this long gets no new jobs. */
const WORKER_SILENT_MS = 15_000
const ACTIVITY_SLOTS = 200

/** Workflows, and the activities that need database, forge or a Swarm manager. Runs beside the server. */
async function main(): Promise<void> {
  const log = createLog('control')
  installRuntime(log)
  const config = await loadConfig({ file: process.env.PENSTOCK_CONFIG ?? 'penstock.config.yml', env: process.env })
  const signal = onShutdown(log)
  const { address, namespace } = config.temporal
  const store = await openStore({ url: databaseUrl(config), clock: Date.now, log })
  const docker = connectDocker(process.env)
  const { instance } = config
  const cluster = createCluster({ docker, instance, log })
  const errands = createErrands({ docker, instance, resolveImage: cluster.resolveImage, mask: createTextMasker })
  const mirrors = createMirrors({ dir: join(config.dataDir, 'mirrors') })
  await store.units.configure(config.pools)

  const connection = Connection.lazy({ address })
  const client = new Client({ connection, namespace })
  const reconciler = createReconciler({ store, client, log, clock: Date.now })

  /** Temporal may not be there yet. */
  async function agreesWithOpenRuns(): Promise<boolean> {
    while (!signal.aborted) {
      try {
        const open = (await store.runs.open()).map((run) => run.id)
        await checkBundle({ bundle: bundlePath(), dataDir: config.dataDir, client, open, log })
        return true
      } catch (err) {
        if (err instanceof BundleDiverges) throw err
        log.warn({ err }, 'open runs could not be replayed yet')
        await new Promise((resolve) => setTimeout(resolve, CHECK_AGAIN_MS))
      }
    }
    return false
  }

  let slots = 0
  async function setJobSlots(nodes: number): Promise<void> {
    // While no node lives, jobs wait; they are not told that there will never be room.
    const wanted = config.jobsPerNode * Math.max(nodes, 1)
    if (wanted === slots) return
    await store.leases.setJobSlots(wanted)
    slots = wanted
  }

  async function watchNodes(): Promise<void> {
    const seen = new Map((await store.nodes.list()).map((node) => [node.id, node.seenAt]))
    const now = Date.now()
    let alive = 0
    for (const node of await cluster.nodes()) {
      const at = seen.get(node.id)
      const isAlive = at !== undefined && now - at < WORKER_SILENT_MS
      if (isAlive && node.ready) alive++
      await cluster.setWorkerAlive(node.id, isAlive)
    }
    await setJobSlots(alive)
  }

  await setJobSlots(0)
  if (!(await agreesWithOpenRuns())) return

  // People, teams, rules and hours may be others than they were: nobody waits for what is no longer asked.
  // Once a start: rules that were changed and changed back are news both times.
  await store.gates.wakeAll(`rules/${rulesDigest(config)}/${Date.now()}`)

  const forges = createForges({ mirrors, url: config.server.url, log, clock: Date.now })
  const ports = createPorts(config, forges)
  const reporter = createReporter({
    store,
    portOf: ports,
    urlOf: (run) => `${config.server.url}/api/v1/runs/${run}`,
    testersOf: (by) => testersOf(config, by),
    addressesOf: (repo) => addressesOf(config.repositories[repo]),
    tailOf: (step, lines) => tailOf(join(config.dataDir, 'steps'), step, lines),
    mask: createMasks(config),
    clock: Date.now,
    log,
  })
  const sender = createSender({ reports: store.reports, portOf: ports, clock: Date.now, log })

  const attendant = createAttendant({
    notices: store.notices,
    repositories: config.repositories,
    forges,
    rules: createRules({ config, store, forges, mirrors, clock: Date.now, log }),
    clock: Date.now,
    log,
  })

  const reminder = createReminder({ store, client, clock: Date.now, log })
  const duties = [
    createDispatcher({ store, client, log, url: config.server.url }).run(signal),
    everyNow('report', REPORT_EVERY_MS, signal, log, () => reporter.once()),
    everyNow('send', REPORT_EVERY_MS, signal, log, () => sender.once()),
    everyNow('attend', ATTEND_EVERY_MS, signal, log, () => attendant.once()),
    everyNow('review', REVIEW_EVERY_MS, signal, log, () => attendant.review()),
    everyNow('reconcile', RECONCILE_EVERY_MS, signal, log, () => reconciler.once()),
    everyNow('sweep', SWEEP_EVERY_MS, signal, log, () => sweep({ store, cluster, log })),
    everyNow('leases', LEASES_EVERY_MS, signal, log, () => tendLeases({ store, cluster })),
    everyNow('remind', LEASES_EVERY_MS, signal, log, () => reminder.once()),
    everyNow('units', SWEEP_EVERY_MS, signal, log, () => tendUnits({ store, client, errands })),
    everyNow('nodes', NODES_EVERY_MS, signal, log, watchNodes),
  ]
  const activities = createControlActivities({
    config,
    store,
    cluster,
    mirrors,
    forges,
    deployer: createSwarmDeployer({ docker, instance }),
    errands,
    log,
    clock: Date.now,
  })
  await runWorker({
    address,
    namespace,
    taskQueue: CONTROL_QUEUE,
    activities,
    withWorkflows: true,
    activitySlots: ACTIVITY_SLOTS,
    log,
    signal,
    onReady: announceReady,
  })
  await Promise.all(duties)
  await connection.close()
  await store.close()
}

await main()
