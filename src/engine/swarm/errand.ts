import { createHash } from 'node:crypto'
import type Docker from 'dockerode'
import { LABELS } from '../../core/ids.ts'
import { byLabels, dockerMessage, isConflict, orAbsent, refusedForGood, removeWithin, sleep } from '../docker.ts'
import { type Cluster, EngineRefused, type Errand, type ErrandEnd, type Errands } from '../types.ts'

const ERRAND_LABEL = 'penstock.errand'
const SECRET_LABEL = 'penstock.secret'
const REMOVAL_LIMIT_MS = 20_000
/** From SIGTERM to SIGKILL Swarm takes 10 s. */
const STOP_LIMIT_MS = 30_000
const POLL_MS = 250
/** Between looks whether the node of its container answers: Swarm takes longer than this to notice. */
const NODE_LOOK_MS = 3_000
/** Of what it wrote, this much is told when it failed. */
const TOLD_LINES = 5
/** Looked at to find secrets of several lines in it. */
const READ_LINES = 500
const TOLD_CHARACTERS = 600
/** As its node says. `orphaned` says Swarm by itself, of a node that did not answer for a day: that proves nothing. */
const ENDED = new Set(['complete', 'failed', 'rejected', 'shutdown', 'remove'])

type Unreachable = Extract<ErrandEnd, { readonly kind: 'unreachable' }>

interface Task {
  readonly NodeID?: string
  readonly Status: {
    readonly State: string
    readonly Err?: string
    readonly ContainerStatus?: { readonly ExitCode?: number }
  }
}

export function createErrands({
  docker,
  instance,
  resolveImage,
  mask,
}: {
  readonly docker: Docker
  readonly instance: string
  /** Takes secrets out of a text, however they are written there. */
  readonly mask: (secrets: Errand['secrets']) => (text: string) => string
  readonly resolveImage: Cluster['resolveImage']
}): Errands {
  async function run(errand: Errand, signal: AbortSignal): Promise<ErrandEnd> {
    const name = serviceName(instance, errand.id)
    await ensure(name, errand)
    // Where this fails, or is shut down, the service stays: whoever goes on with it waits for the same container.
    const how = await end(name, errand, signal)
    if (how.kind === 'unreachable') return how
    return (await remove(errand.id)) ?? how
  }

  /** Made once: whoever comes later with the same errand waits for the same container. */
  async function ensure(name: string, errand: Errand): Promise<void> {
    if ((await orAbsent(docker.getService(name).inspect())) !== undefined) return
    const labels = { [LABELS.instance]: instance, [ERRAND_LABEL]: errand.id }
    const image = await imageOf(errand)
    const secrets: { SecretID: string; SecretName: string; File: object }[] = []
    for (const [index, { name: file, value }] of errand.secrets.entries()) {
      const SecretName = `${name}-${index}`
      try {
        const Data = Buffer.from(value).toString('base64')
        await docker.createSecret({ Name: SecretName, Labels: { ...labels, [SECRET_LABEL]: file }, Data })
      } catch (error) {
        if (!isConflict(error)) throw error
      }
      const alike = await docker.listSecrets({ filters: { name: [SecretName] } })
      const found = alike.find(({ Spec }) => Spec?.Name === SecretName)
      const File = { Name: file, UID: '0', GID: '0', Mode: 0o444 }
      if (found?.ID !== undefined) secrets.push({ SecretID: found.ID, SecretName, File })
    }
    const spec = {
      Name: name,
      Labels: labels,
      Mode: { Replicated: { Replicas: 1 } },
      EndpointSpec: { Mode: 'dnsrr' },
      TaskTemplate: {
        ContainerSpec: {
          Image: image,
          Labels: labels,
          Init: true,
          Command: ['/bin/sh', '-ec', errand.run.join('\n')],
          Env: [
            ...Object.entries(errand.env).map(([key, value]) => `${key}=${value}`),
            ...errand.secrets.map(({ name: file }) => `${file}_FILE=/run/secrets/${file}`),
          ],
          Secrets: secrets,
        },
        Placement: { Constraints: [...errand.constraints] },
        RestartPolicy: { Condition: 'none' },
      },
    }
    try {
      await refusedForGood(
        `Docker refused the container of ${errand.id}`,
        docker.createService(spec as Docker.CreateServiceOptions),
      )
    } catch (error) {
      if (!isConflict(error)) throw error
    }
  }

  /** Nothing of the errand runs yet: that its image cannot be had is a failure like another, and visible as one. */
  async function imageOf({ image }: Errand): Promise<string> {
    try {
      return await resolveImage(image)
    } catch (error) {
      if (error instanceof EngineRefused) throw error
      throw new EngineRefused(`its image ${image} cannot be had: ${dockerMessage(error)}`, { cause: error })
    }
  }

  async function end(name: string, errand: Errand, signal: AbortSignal): Promise<ErrandEnd> {
    const service = await docker.getService(name).inspect()
    const deadline = Date.parse(service.CreatedAt) + errand.timeoutMs
    let lookAt = performance.now() + NODE_LOOK_MS
    for (;;) {
      const tasks = await tasksOf(name)
      if (tasks === undefined) throw new Error(`the end of ${errand.id} was seen by somebody else`)
      const [task] = tasks
      // By whoever was killed before it could remove it, too.
      if (task === undefined && service.Spec.Mode.Replicated.Replicas === 0)
        return { kind: 'failed', why: 'it was stopped before its end was seen' }
      const { State, Err, ContainerStatus } = task?.Status ?? { State: 'new' }
      if (State === 'complete') return { kind: 'done' }
      if (ENDED.has(State)) {
        const how = ContainerStatus?.ExitCode ? `exit code ${ContainerStatus.ExitCode}` : (Err ?? State)
        return { kind: 'failed', why: [how, await lastLines(name, errand)].filter(Boolean).join(': ') }
      }
      if (performance.now() > lookAt) {
        const node = await nodeOf(task)
        if (node?.kind === 'unreachable') return node
        if (node?.kind === 'removed') return { kind: 'failed', why: 'its node was taken out of the Swarm' }
        lookAt = performance.now() + NODE_LOOK_MS
      }
      if (Date.now() > deadline) {
        const left = await stop(name)
        if (left !== undefined) return left
        const where = State === 'running' ? 'it still ran' : `it was still ${State}${Err ? ` (${Err})` : ''}`
        return { kind: 'failed', why: `${where} after ${Math.round(errand.timeoutMs / 1000)} s` }
      }
      await sleep(POLL_MS, signal)
    }
  }

  async function tasksOf(service: string): Promise<readonly Task[] | undefined> {
    return (await orAbsent(docker.listTasks({ filters: { service: [service] } }))) as Task[] | undefined
  }

  /** What became of the node of a container that has not ended; undefined: it answers, or there is none yet. */
  async function nodeOf(task: Task | undefined): Promise<Unreachable | { readonly kind: 'removed' } | undefined> {
    if (task?.NodeID === undefined || task.NodeID === '') return undefined
    const node = await orAbsent(docker.getNode(task.NodeID).inspect())
    // Whoever took it out of the Swarm has said that nothing of it comes back.
    if (node === undefined) return { kind: 'removed' }
    if (node.Status?.State === 'ready') return undefined
    const name = node.Description?.Hostname ?? task.NodeID
    return { kind: 'unreachable', why: `node ${name}, where its container may still run, cannot be reached` }
  }

  /**
   * Until its container has ended the service stays, so that whoever tries again waits for that, too: two of a unit at once
   * would work against each other.
   */
  async function stop(service: string): Promise<Unreachable | undefined> {
    const limit = performance.now() + STOP_LIMIT_MS
    // Not where its node is away: Swarm would forget the container after a day.
    const away = await whereAway(await alive(service))
    if (away?.kind === 'unreachable') return away
    await scaleDown(service)
    let lookAt = performance.now() + NODE_LOOK_MS
    for (;;) {
      const left = await alive(service)
      if (left.length === 0) return undefined
      if (performance.now() > lookAt) {
        const now = await whereAway(left)
        if (now !== undefined) return now.kind === 'unreachable' ? now : undefined
        lookAt = performance.now() + NODE_LOOK_MS
      }
      if (performance.now() > limit) throw new Error(`its container does not end: it is ${left[0]?.Status.State}`)
      await sleep(POLL_MS)
    }
  }

  async function scaleDown(service: string): Promise<void> {
    const inspect = () => orAbsent(docker.getService(service).inspect())
    const isDown = (one: Awaited<ReturnType<typeof inspect>>) => (one?.Spec.Mode.Replicated.Replicas ?? 0) === 0
    const there = await inspect()
    if (isDown(there)) return
    const { Spec, Version } = there
    try {
      const wanted = { ...Spec, version: Version.Index, Mode: { Replicated: { Replicas: 0 } } }
      await orAbsent(docker.getService(service).update(wanted))
    } catch (error) {
      // "update out of sequence": somebody else was faster, with the same.
      if (!isDown(await inspect())) throw error
    }
  }

  /** Tasks that have not ended, as far as is known. */
  async function alive(service: string): Promise<readonly Task[]> {
    return ((await tasksOf(service)) ?? []).filter(({ Status }) => !ENDED.has(Status.State))
  }

  /** One that nobody reaches; or all on nodes that were taken out. */
  async function whereAway(tasks: readonly Task[]): ReturnType<typeof nodeOf> {
    const nodes = await Promise.all(tasks.map(nodeOf))
    const away = nodes.find((one) => one?.kind === 'unreachable')
    return away ?? (nodes.every((one) => one?.kind === 'removed') ? nodes[0] : undefined)
  }

  /** What it wrote last, without its secrets. */
  async function lastLines(name: string, { secrets }: Errand): Promise<string> {
    try {
      const asked = { stdout: true, stderr: true, tail: READ_LINES, follow: false } as const
      const logs = (await docker.getService(name).logs(asked)) as unknown as Buffer
      const text = mask(secrets)(withoutFrames(Buffer.from(logs)).trim())
      return text.split('\n').slice(-TOLD_LINES).join('\n').slice(-TOLD_CHARACTERS)
    } catch (error) {
      return `what it wrote cannot be read: ${dockerMessage(error)}`
    }
  }

  async function remove(id: string): Promise<Unreachable | undefined> {
    const filters = byLabels({ [LABELS.instance]: instance, [ERRAND_LABEL]: id })
    for (const { ID } of await docker.listServices({ filters })) {
      // Of a service that is gone nobody could say any more whether its container is.
      const left = await stop(ID)
      if (left !== undefined) return left
      await removeWithin(REMOVAL_LIMIT_MS, () => docker.getService(ID).remove())
    }
    for (const { ID } of await docker.listSecrets({ filters })) {
      await removeWithin(REMOVAL_LIMIT_MS, () => docker.getSecret(ID).remove())
    }
    return undefined
  }

  return {
    run,
    remove,
    async owned() {
      const filters = { label: [`${LABELS.instance}=${instance}`, ERRAND_LABEL] }
      const found = [...(await docker.listServices({ filters })), ...(await docker.listSecrets({ filters }))]
      return [...new Set(found.flatMap(({ Spec }) => Spec?.Labels?.[ERRAND_LABEL] ?? []))].sort()
    },
  }
}

function serviceName(instance: string, id: string): string {
  return `pst-errand-${createHash('sha256').update(`${instance}\0${id}`).digest('hex').slice(0, 20)}`
}

/** Docker's log stream: frames of a head of 8 bytes, whose last four are the length, and that many bytes. */
function withoutFrames(stream: Buffer): string {
  const parts: Buffer[] = []
  let at = 0
  while (at + 8 <= stream.length) {
    const length = stream.readUInt32BE(at + 4)
    parts.push(stream.subarray(at + 8, at + 8 + length))
    at += 8 + length
  }
  return Buffer.concat(parts).toString('utf8')
}
