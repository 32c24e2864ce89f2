import { randomBytes } from 'node:crypto'
import type { JobKey } from '../../src/core/ids.ts'
import type { Job, Step } from '../../src/core/plan.ts'
import { connectDocker } from '../../src/engine/docker.ts'
import { createCluster } from '../../src/engine/swarm/cluster.ts'
import { createNodeEngine } from '../../src/engine/swarm/node.ts'
import type { Cluster, NodeEngine } from '../../src/engine/types.ts'
import { BUSYBOX } from './images.ts'

export const docker = connectDocker({})
export const silent = { info: () => {}, warn: () => {} }

/** An installation of its own for one test file, with this machine's one node as its worker. */
export async function startInstallation(): Promise<Installation> {
  const instance = `t${randomBytes(4).toString('hex')}`
  await ensureSwarm()
  const cluster = createCluster({ docker, instance, log: silent })
  const node = createNodeEngine({ docker, instance, log: silent, helper: { busybox: BUSYBOX } })
  await node.prepareNode()
  const { id } = await node.nodeId()
  await cluster.setWorkerAlive(id, true)
  return { instance, cluster, node, nodeId: id }
}

export interface Installation {
  readonly instance: string
  readonly cluster: Cluster
  readonly node: NodeEngine
  readonly nodeId: string
}

async function ensureSwarm(): Promise<void> {
  const { Swarm } = await docker.info()
  if (Swarm?.LocalNodeState === 'active') return
  try {
    await docker.swarmInit({ AdvertiseAddr: '127.0.0.1', ListenAddr: '0.0.0.0:2377' })
  } catch (error) {
    // Another test file was faster.
    if (!String(error).includes('already part of a swarm')) throw error
  }
}

export async function endInstallation({ cluster, node, instance, nodeId }: Installation): Promise<void> {
  for (const run of await cluster.ownedRuns()) await cluster.removeRun(run)
  const containers = await docker.listContainers({ all: true, filters: { label: [`penstock.instance=${instance}`] } })
  for (const { Id } of containers)
    await docker
      .getContainer(Id)
      .remove({ force: true })
      .catch(() => {})
  await node.sweep(async () => new Set())
  await cluster.setWorkerAlive(nodeId, false)
  const { Volumes } = await docker.listVolumes({ filters: { label: [`penstock.instance=${instance}`] } })
  for (const { Name } of Volumes ?? []) await docker.getVolume(Name).remove()
}

/** Everything in Docker that carries the installation's label, but for its helper volume. */
export async function leftovers(instance: string, engine = docker): Promise<string[]> {
  const filters = { label: [`penstock.instance=${instance}`] }
  const [services, containers, volumes, networks, secrets] = await Promise.all([
    engine.listServices({ filters }),
    engine.listContainers({ all: true, filters }),
    engine.listVolumes({ filters }),
    engine.listNetworks({ filters }),
    engine.listSecrets({ filters }),
  ])
  return [
    ...services.map((one) => `service ${one.Spec?.Name}`),
    ...containers.map((one) => `container ${one.Names[0]}`),
    ...(volumes.Volumes ?? []).filter((one) => !one.Name.startsWith('pst-helper-')).map((one) => `volume ${one.Name}`),
    ...networks.map((one) => `network ${one.Name}`),
    ...secrets.map((one) => `secret ${one.Spec?.Name}`),
  ]
}

export function aStep(run: string | readonly string[], more: Partial<Step> = {}): Step {
  return { name: 'step', run: typeof run === 'string' ? [run] : run, env: {}, ...more }
}

export function aJob(image: string, steps: readonly Step[], more: Partial<Job> = {}): Job {
  return {
    name: 'unit',
    needs: [],
    segments: [{ image, steps }],
    env: {},
    secrets: [],
    workdir: '/workspace',
    timeoutSeconds: 60,
    resources: {
      cpus: { reserve: 0.1, limit: 2 },
      memory: { reserve: 16 * 2 ** 20, limit: 256 * 2 ** 20 },
      pids: 256,
    },
    constraints: [],
    pools: [],
    reports: { junit: [] },
    onLost: 'fail',
    ...more,
  }
}

let lastRun = 0
export function aKey(more: Partial<JobKey> = {}): JobKey {
  lastRun += 1
  return { run: `acme/web#${lastRun}`, stage: 'test', job: 'unit', attempt: 1, ...more }
}
