import type Docker from 'dockerode'
import { type JobKey, jobLabels, LABELS, runLabels, runNetwork, secretName, segmentService } from '../../core/ids.ts'
import type { Job } from '../../core/plan.ts'
import {
  byLabels,
  dockerMessage,
  isConflict,
  isNotFound,
  orAbsent,
  refusedForGood,
  removeWithin,
  sleep,
  statusOf,
} from '../docker.ts'
import type { Log } from '../log.ts'
import { type Cluster, type ClusterNode, EngineRefused, type Placement, type StartSegment } from '../types.ts'
import { canPlaceOn, type PlaceableNode } from './can-place.ts'
import { helperVolume } from './helper.ts'
import { type TaskNode, toPlacement } from './placement.ts'
import { segmentServiceSpec, WORKER_ALIVE, workerLabel } from './service-spec.ts'

/** Networks and secrets stay in use for a moment after their container has ended; longer means somebody holds them. */
const REMOVAL_LIMIT_MS = 20_000
const IMAGE_CACHE_MS = 60_000
/** A hanging registry must not hold an activity for minutes. */
const REGISTRY_LIMIT_MS = 20_000
/** Swarm's own limit. */
const SECRET_LIMIT_BYTES = 500 * 1024
/** Which secret of the spec a Swarm secret holds. */
const SECRET_LABEL = 'penstock.secret'
const NATIVE_NO_NEW_PRIVILEGES = 1.44

export interface ClusterDeps {
  readonly docker: Docker
  readonly instance: string
  readonly log: Log
}

export function createCluster({ docker, instance, log }: ClusterDeps): Cluster {
  const resolved = new Map<string, { reference: string; until: number }>()
  let apiVersion: Promise<number> | undefined

  async function nativeNoNewPrivileges(): Promise<boolean> {
    apiVersion ??= docker.version().then((version) => Number(version.ApiVersion))
    try {
      return (await apiVersion) >= NATIVE_NO_NEW_PRIVILEGES
    } catch (error) {
      apiVersion = undefined
      throw error
    }
  }

  async function resolveImage(image: string): Promise<string> {
    const known = resolved.get(image)
    if (known !== undefined && known.until > performance.now()) return known.reference
    const reference = await lookUp(image)
    resolved.set(image, { reference, until: performance.now() + IMAGE_CACHE_MS })
    return reference
  }

  async function lookUp(image: string): Promise<string> {
    if (/@sha256:[0-9a-f]{64}$/.test(image) || /^sha256:[0-9a-f]{64}$/.test(image)) return image
    const local = await orAbsent(docker.getImage(image).inspect())
    if (local !== undefined) {
      const repository = repositoryOf(image)
      const digests: readonly string[] = local.RepoDigests ?? []
      return digests.find((one) => repositoryOf(one) === repository) ?? local.Id
    }
    try {
      const signal = AbortSignal.timeout(REGISTRY_LIMIT_MS)
      const found = await docker.getImage(image).distribution({ abortSignal: signal })
      return `${repositoryOf(image)}@${found.Descriptor.digest}`
    } catch (error) {
      const status = statusOf(error)
      if (status === undefined || (status >= 500 && !isRegistryRefusal(error)))
        throw new Error(`image ${image} could not be looked up: ${dockerMessage(error)}`, { cause: error })
      throw new EngineRefused(
        `image ${image} is neither on this machine nor in its registry: ${dockerMessage(error)}`,
        { cause: error },
      )
    }
  }

  async function networksOf(run: string) {
    const name = runNetwork(instance, run)
    const networks = await docker.listNetworks({ filters: { name: [name] } })
    return networks.filter((network) => network.Name === name || network.Name.startsWith(`${name}-`))
  }

  /**
   * The network that a new job of the run gets. An engine that died and came back refuses every further container on the
   * networks it had ("network … exists"), so after its return the run gets another one. It made its own bridge anew then.
   */
  async function ensureNetwork(run: string): Promise<string> {
    const [present, bridge] = await Promise.all([networksOf(run), orAbsent(docker.getNetwork('bridge').inspect())])
    const engineStart = Date.parse(bridge?.Created ?? '')
    const usable = present.find(({ Created }) => !(Date.parse(Created ?? '') < engineStart))
    if (usable) return usable.Name
    const first = runNetwork(instance, run)
    const name = present.length === 0 ? first : `${first}-${engineStart.toString(36)}`
    try {
      await docker.createNetwork({
        Name: name,
        Driver: 'bridge',
        // Swarm's types know only overlays; Docker takes the scope since 17.06.
        ...{ Scope: 'swarm' },
        CheckDuplicate: true,
        Labels: runLabels(instance, run),
      })
    } catch (error) {
      if (!isConflict(error)) throw error
    }
    return name
  }

  async function jobSecrets(key: JobKey) {
    const secrets = await docker.listSecrets({ filters: byLabels(jobLabels(instance, key)) })
    return new Map(
      secrets.flatMap((secret) => {
        const name = secret.Spec?.Labels?.[SECRET_LABEL]
        return name === undefined ? [] : [[name, { id: secret.ID, name: secret.Spec?.Name ?? '' }] as const]
      }),
    )
  }

  async function ensureSecrets(
    key: JobKey,
    values: readonly { readonly name: string; readonly value: string }[],
  ): Promise<void> {
    if (values.length === 0) return
    const present = await jobSecrets(key)
    for (const [index, { name, value }] of values.entries()) {
      if (present.has(name)) continue
      const data = Buffer.from(value)
      if (data.length === 0) throw new EngineRefused(`secret ${name} is empty, which Swarm does not take`)
      if (data.length > SECRET_LIMIT_BYTES)
        throw new EngineRefused(`secret ${name} has ${data.length} bytes; Swarm takes at most ${SECRET_LIMIT_BYTES}`)
      try {
        await docker.createSecret({
          Name: secretName(instance, key, index),
          Labels: { ...jobLabels(instance, key), [SECRET_LABEL]: name },
          Data: data.toString('base64'),
        })
      } catch (error) {
        if (!isConflict(error)) throw error
      }
    }
  }

  async function startSegment(request: StartSegment): Promise<void> {
    const { key, job, segment } = request
    const secretIds = job.secrets.length === 0 ? new Map() : await jobSecrets(key)
    for (const { name } of job.secrets) {
      if (!secretIds.has(name))
        throw new EngineRefused(`secret ${name} of job ${key.job} was not made before its service`)
    }
    const spec = segmentServiceSpec({
      ...request,
      instance,
      helperVolume: helperVolume(instance),
      network: await ensureNetwork(key.run),
      secretIds,
      nativeNoNewPrivileges: await nativeNoNewPrivileges(),
    })
    try {
      await refusedForGood(`Docker refused the service of job ${key.job}`, docker.createService(spec))
      log.info({ service: spec.Name, run: key.run, job: key.job, attempt: key.attempt, segment }, 'service created')
    } catch (error) {
      if (!isConflict(error)) throw error
      await assertOurs(spec.Name, spec.Labels)
    }
  }

  /** A name that two jobs share by a hash collision, or a stranger's service: not to be adopted. */
  async function assertOurs(name: string, labels: Readonly<Record<string, string>>): Promise<void> {
    const found = await docker.getService(name).inspect()
    const theirs = found.Spec?.Labels ?? {}
    const differing = Object.entries(labels).filter(([label, value]) => theirs[label] !== value)
    if (differing.length > 0)
      throw new EngineRefused(`a service named ${name} exists already and belongs to something else`)
  }

  async function taskNodes(): Promise<Map<string, TaskNode>> {
    const nodes = await docker.listNodes()
    return new Map(
      nodes.map((node) => [
        node.ID ?? '',
        { hostname: node.Description?.Hostname ?? '', down: node.Status?.State === 'down' },
      ]),
    )
  }

  async function placement(key: JobKey, segment: number): Promise<Placement> {
    const name = segmentService(instance, key, segment)
    const tasks = await orAbsent(docker.listTasks({ filters: { service: [name] } }))
    const task = tasks?.[0]
    if (task === undefined) {
      const service = await orAbsent(docker.getService(name).inspect())
      return service === undefined ? { kind: 'absent' } : { kind: 'pending' }
    }
    return toPlacement(task, await taskNodes())
  }

  async function canPlace(job: Pick<Job, 'constraints' | 'resources'>) {
    return canPlaceOn(job, (await docker.listNodes()) as readonly PlaceableNode[])
  }

  async function removeServices(labels: Readonly<Record<string, string>>): Promise<void> {
    for (const service of await docker.listServices({ filters: byLabels(labels) })) {
      await removeWithin(REMOVAL_LIMIT_MS, () => docker.getService(service.ID).remove())
    }
  }

  async function removeSecrets(labels: Readonly<Record<string, string>>): Promise<void> {
    for (const secret of await docker.listSecrets({ filters: byLabels(labels) })) {
      await removeWithin(REMOVAL_LIMIT_MS, () => docker.getSecret(secret.ID).remove())
    }
  }

  async function removeJob(key: JobKey): Promise<void> {
    const labels = jobLabels(instance, key)
    await removeServices(labels)
    await removeSecrets(labels)
  }

  /**
   * Swarm takes the order at once and the network away later, when the last task has let go of it; until then its name
   * is neither free nor usable.
   */
  async function removeNetwork(run: string): Promise<void> {
    const deadline = performance.now() + REMOVAL_LIMIT_MS
    for (let pause = 20; ; pause = Math.min(pause * 2, 500)) {
      const networks = await networksOf(run)
      if (networks.length === 0) return
      for (const network of networks) {
        try {
          await docker.getNetwork(network.Id).remove()
        } catch (error) {
          if (!isNotFound(error) && performance.now() >= deadline) throw error
        }
      }
      if (performance.now() >= deadline)
        throw new Error(`a network of ${run} is still there ${REMOVAL_LIMIT_MS / 1000} s after it was removed`)
      await sleep(pause)
    }
  }

  async function ownedRuns(): Promise<readonly string[]> {
    const filters = byLabels({ [LABELS.instance]: instance })
    const [services, networks, secrets] = await Promise.all([
      docker.listServices({ filters }),
      docker.listNetworks({ filters }),
      docker.listSecrets({ filters }),
    ])
    const labels = [
      ...services.map((service) => service.Spec?.Labels),
      ...networks.map((network) => network.Labels),
      ...secrets.map((secret) => secret.Spec?.Labels),
    ]
    return [...new Set(labels.flatMap((one) => one?.[LABELS.run] ?? []))].sort()
  }

  async function removeRun(run: string): Promise<void> {
    const labels = runLabels(instance, run)
    await removeServices(labels)
    await removeSecrets(labels)
    await removeNetwork(run)
  }

  async function nodes(): Promise<readonly ClusterNode[]> {
    const label = workerLabel(instance)
    return (await docker.listNodes()).map((node) => ({
      id: node.ID ?? '',
      hostname: node.Description?.Hostname ?? '',
      ready: node.Status?.State === 'ready' && node.Spec?.Availability === 'active',
      workerAlive: node.Spec?.Labels?.[label] === WORKER_ALIVE,
    }))
  }

  async function setWorkerAlive(nodeId: string, alive: boolean): Promise<void> {
    const label = workerLabel(instance)
    for (let tries = 0; ; tries++) {
      const node = await orAbsent(docker.getNode(nodeId).inspect())
      if (node === undefined) {
        if (!alive) return
        throw new EngineRefused(`node ${nodeId} is not part of the Swarm`)
      }
      const { [label]: present, ...others } = node.Spec.Labels ?? {}
      if ((present === WORKER_ALIVE) === alive) return
      try {
        await docker.getNode(nodeId).update({
          ...node.Spec,
          version: node.Version.Index,
          Labels: alive ? { ...others, [label]: WORKER_ALIVE } : others,
        })
        log.info({ node: nodeId, alive }, 'worker label set')
        return
      } catch (error) {
        // "update out of sequence": somebody else changed the node between our look and our update.
        if (tries >= 10 || isNotFound(error) || !dockerMessage(error).includes('out of sequence')) throw error
      }
    }
  }

  return {
    resolveImage,
    ensureNetwork: async (run) => void (await ensureNetwork(run)),
    ensureSecrets,
    startSegment,
    placement,
    canPlace,
    removeJob,
    removeNetwork,
    ownedRuns,
    removeRun,
    nodes,
    setWorkerAlive,
  }
}

/** `registry:5000/a/b:tag@sha256:…` -> `registry:5000/a/b` */
export function repositoryOf(reference: string): string {
  const [named = ''] = reference.split('@')
  const slash = named.lastIndexOf('/')
  const colon = named.indexOf(':', slash + 1)
  return colon === -1 ? named : named.slice(0, colon)
}

/** Docker answers 500 for what the registry said; these of its sentences mean that asking again cannot help. */
function isRegistryRefusal(error: unknown): boolean {
  return /manifest unknown|not found|denied|unauthorized|invalid reference/i.test(dockerMessage(error))
}
