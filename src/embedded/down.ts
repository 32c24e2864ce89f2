import { existsSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type Docker from 'dockerode'
import { z } from 'zod'
import { LABELS } from '../core/ids.ts'
import { connectDocker, isConflict, isNotFound } from '../engine/docker.ts'
import { WORKER_ALIVE, workerLabel } from '../engine/swarm/service-spec.ts'
import { answers, DEFAULT_SOCKET, ownDaemon, stopOrphanedContainerd, swarmState } from './docker.ts'
import { instanceOf, isDataDir, type Say } from './files.ts'
import { lockHolder } from './lock.ts'
import { stopProcess } from './process.ts'
import { stopLeftovers } from './supervisor.ts'

export interface Down {
  readonly dataDir: string
  readonly env: NodeJS.ProcessEnv
  readonly say: Say
  /** Where the engine of a second kind on this machine lives; the default one if absent. */
  readonly socket?: string
  readonly runDir?: string
}

const SUPERVISOR_GRACE_MS = 60_000
const DAEMON_GRACE_MS = 30_000

/**
 * Removes whatever was started or created for this data directory. Repeatable; whatever is missing already is no
 * problem, and nothing is started for it. What could not be removed is said, and makes it throw at the end.
 */
export async function takeDown(options: Down): Promise<void> {
  const { dataDir, say } = options
  const failures: unknown[] = []
  const attempt = async (work: () => Promise<void>) => {
    try {
      await work()
    } catch (err) {
      // One part that cannot be removed is no reason to leave the others.
      failures.push(err)
      say(`could not be removed: ${err instanceof Error ? err.message : String(err)}`)
    }
  }
  await attempt(async () => {
    const holder = await lockHolder(dataDir)
    if (holder !== undefined && (await stopProcess(holder, SUPERVISOR_GRACE_MS)))
      say(`stopped Penstock (process ${holder.pid})`)
  })
  await attempt(async () => {
    await stopLeftovers(dataDir, say)
  })
  let othersUseEngine = false
  await attempt(async () => {
    const host = options.socket === undefined ? options.env.DOCKER_HOST : `unix://${options.socket}`
    const docker = connectDocker({ DOCKER_HOST: host })
    if ((await answers(docker)).ok)
      othersUseEngine = await clearEngine(docker, options.env.PENSTOCK_INSTANCE || instanceOf(dataDir), say)
    else if (existsSync(options.socket ?? DEFAULT_SOCKET) || (host !== undefined && host !== '')) {
      say('the Docker engine does not answer: what Penstock made in it is still there; start it and run this again')
    }
  })
  await attempt(async () => {
    const daemon = await ownDaemon(dataDir, options.runDir)
    if (daemon === undefined) {
      if (await stopOrphanedContainerd(dataDir, options.runDir)) say('stopped what a killed dockerd had left running')
    } else if (othersUseEngine) {
      say(`left running: dockerd (process ${daemon.pid}), because others use it`)
    } else if (await stopProcess(daemon, DAEMON_GRACE_MS)) {
      say(`stopped dockerd (process ${daemon.pid})`)
    }
  })
  await attempt(async () => {
    if (!existsSync(dataDir)) return
    if (isDataDir(dataDir)) {
      rmSync(dataDir, { recursive: true, force: true })
      say(`removed ${dataDir}`)
    } else {
      say(`left: ${dataDir}, because it was there before Penstock used it`)
    }
  })
  if (failures.length > 0) throw new AggregateError(failures, 'not everything could be removed; run this again')
}

/** Returns whether others use the engine: by containers, or by an installation that is idle just now. */
async function clearEngine(docker: Docker, instance: string, say: Say): Promise<boolean> {
  const filters = { label: [`${LABELS.instance}=${instance}`] }
  const removed = async (what: string, name: string, remove: () => Promise<unknown>) => {
    try {
      await remove()
      say(`removed ${what} ${name}`)
    } catch (err) {
      if (!isNotFound(err)) throw err
    }
  }
  const swarm = await swarmState(docker, instance)
  const manager = swarm === 'ours' || swarm === 'others'
  if (manager) {
    for (const service of await docker.listServices({ filters: JSON.stringify(filters) })) {
      await removed('service', service.Spec?.Name ?? service.ID, () => docker.getService(service.ID).remove())
    }
  }
  for (const { Id, Names } of await docker.listContainers({ all: true, filters })) {
    await removed('container', Names[0]?.slice(1) ?? Id, () => docker.getContainer(Id).remove({ force: true, v: true }))
  }
  if (manager) {
    for (const secret of await docker.listSecrets({ filters: JSON.stringify(filters) })) {
      await removed('secret', secret.Spec?.Name ?? secret.ID, () => docker.getSecret(secret.ID).remove())
    }
  }
  for (const network of await docker.listNetworks({ filters })) {
    await removed('network', network.Name, () => untilUnused(() => docker.getNetwork(network.Id).remove()))
  }
  for (const volume of (await docker.listVolumes({ filters: JSON.stringify(filters) })).Volumes ?? []) {
    await removed('volume', volume.Name, () => untilUnused(() => docker.getVolume(volume.Name).remove()))
  }
  const neighbor = await hasNeighbor(docker, instance)
  await removeImages(docker, instance, neighbor, say)
  const othersWork = manager && (await othersWorkHere(docker, instance))
  if (swarm === 'ours') {
    const others = await docker.listServices()
    if (othersWork) say('the Swarm stays, because another installation of Penstock has a worker in it')
    else if (others.length > 0) say('the Swarm stays, because there are services in it that Penstock did not make')
    else {
      await docker.swarmLeave({ force: true })
      say('left the Swarm')
    }
  }
  if (manager) await forgetWorkers(docker, instance)
  return othersWork || (await docker.listContainers({ all: true })).length > 0
}

/** An installation that waits for its next run has nothing in the engine but the label of its worker. */
async function othersWorkHere(docker: Docker, instance: string): Promise<boolean> {
  const nodes = z.array(SwarmNode).parse(await docker.listNodes())
  const prefix = workerLabel('')
  return nodes.some(({ Spec }) =>
    Object.entries(Spec.Labels ?? {}).some(
      ([label, value]) => label.startsWith(prefix) && label !== workerLabel(instance) && value === WORKER_ALIVE,
    ),
  )
}

/** Nodes are labelled while a worker of ours lives on them; a Swarm that stays must not remember us. */
async function forgetWorkers(docker: Docker, instance: string): Promise<void> {
  if ((await swarmState(docker, instance)) === 'none') return
  const label = workerLabel(instance)
  for (const { ID } of await docker.listNodes()) {
    const node: unknown = await docker.getNode(ID).inspect()
    const { Version, Spec } = SwarmNode.parse(node)
    if (Spec.Labels?.[label] === undefined) continue
    const { [label]: _, ...labels } = Spec.Labels
    await docker.getNode(ID).update({ ...Spec, Labels: labels, version: Version.Index })
  }
}

const SwarmNode = z.object({
  Version: z.object({ Index: z.number() }),
  Spec: z.looseObject({ Labels: z.record(z.string(), z.string()).optional() }),
})

/** Whether another installation has anything in this engine: then images that belong to no one instance stay. */
async function hasNeighbor(docker: Docker, instance: string): Promise<boolean> {
  const filters = { label: [LABELS.instance] }
  const labels = [
    ...(await docker.listContainers({ all: true, filters })).map((one) => one.Labels),
    ...(await docker.listVolumes({ filters: JSON.stringify(filters) })).Volumes.map((one) => one.Labels),
  ]
  return labels.some((one) => one[LABELS.instance] !== instance)
}

const UNUSED_LIMIT_MS = 30_000

/** A service's removal is answered before its containers have ended, and until then they use networks and volumes. */
async function untilUnused(remove: () => Promise<unknown>): Promise<void> {
  const until = performance.now() + UNUSED_LIMIT_MS
  for (;;) {
    try {
      await remove()
      return
    } catch (err) {
      if (isNotFound(err)) return
      if (performance.now() > until) throw err
      await sleep(200)
    }
  }
}

async function removeImages(docker: Docker, instance: string, neighbor: boolean, say: Say): Promise<void> {
  const images = async () =>
    (await docker.listImages({ all: false, filters: JSON.stringify({ label: [LABELS.image] }) })).filter(
      ({ Labels }) => Labels?.[LABELS.instance] === instance || (!neighbor && Labels?.[LABELS.instance] === undefined),
    )
  // An image that others were built from goes only after them, so rounds are made while any goes.
  for (let progress = true; progress; ) {
    progress = false
    for (const image of await images()) {
      try {
        await docker.getImage(image.Id).remove({ force: true })
        say(`removed image ${image.RepoTags?.[0] ?? image.Id}`)
        progress = true
      } catch (err) {
        if (!isNotFound(err) && !isConflict(err)) throw err
      }
    }
  }
  for (const image of await images()) say(`left: image ${image.RepoTags?.[0] ?? image.Id}, which a container uses`)
}
