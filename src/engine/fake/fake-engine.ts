import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type JobKey, jobId } from '../../core/ids.ts'
import type { Job, Step } from '../../core/plan.ts'
import { sleep } from '../docker.ts'
import { canPlaceOn } from '../swarm/can-place.ts'
import { readMatching } from '../swarm/workspace-files.ts'
import {
  type Cluster,
  type ContainerEnd,
  EngineRefused,
  type NodeEngine,
  type Placement,
  type SegmentState,
  type StartSegment,
  type StepEnd,
  type WriteSegment,
} from '../types.ts'

/** What a step does in the fake. */
export interface FakeStep {
  readonly output?: string | Buffer
  /** Files written into the workspace, by path below it. */
  readonly files?: Readonly<Record<string, string>>
  /** How long it takes before it ends by itself; `Infinity`: it runs until it is stopped or its time is up. */
  readonly takesMs?: number
  readonly exitCode?: number
  /** Exit code after SIGTERM; 143 like a program that does not catch it. */
  readonly exitCodeOnTerm?: number
}

export interface FakeNode {
  readonly id: string
  readonly hostname: string
  readonly labels?: Readonly<Record<string, string>>
  readonly cpus?: number
  readonly memory?: number
}

export interface FakeEngineDeps {
  /** Called when a step starts. */
  readonly behave: (
    step: Step,
    context: { readonly key: JobKey; readonly index: number; readonly request: WriteSegment },
  ) => FakeStep
  /** The first is the one that `node` works beside. */
  readonly nodes?: readonly FakeNode[]
  /** Images that exist; any other is refused. Absent: every image exists. */
  readonly images?: readonly string[]
}

export interface FakeEngine {
  readonly cluster: Cluster
  readonly node: NodeEngine
  /** Another worker's engine on the same node: what it sees is the same. */
  anotherNodeEngine(): NodeEngine
  /** Faults. */
  readonly faults: {
    /** The container ends now, without a record of its step. */
    endContainer(key: JobKey, segment: number, end: ContainerEnd): void
    /** The task never runs. */
    rejectTask(key: JobKey, segment: number, reason: string): void
    loseNode(nodeId: string): void
    tamper(key: JobKey, segment: number, what: string): void
    /** A write to the log fails from this byte on. */
    fillDisk(key: JobKey, segment: number, afterBytes: number): void
  }
  /** How often a container was made for the segment: more than once is a step run twice. */
  startsOf(key: JobKey, segment: number): number
  /** Ends what still runs, and removes the workspaces. */
  close(): Promise<void>
}

interface Service {
  readonly request: StartSegment
  node: string | undefined
  rejected: string | undefined
}

interface StepRecord {
  started: boolean
  log: Buffer
  end: StepEnd | undefined
}

interface FakeSegment {
  request: WriteSegment | undefined
  gate: 'absent' | 'waiting' | 'open'
  readonly steps: StepRecord[]
  finished: boolean
  stopped: boolean
  tampered: string | undefined
  ended: ContainerEnd | undefined
  diskBytes: number
  /** Ends the step that runs. */
  interrupt: ((why: 'term' | 'kill') => void) | undefined
}

const DEFAULT_NODE: FakeNode = { id: 'node1', hostname: 'node1' }

/** Both sides of the engine in memory, obeying the same contract test as the real ones; workspaces are real folders. */
export function createFakeEngine({ behave, nodes = [DEFAULT_NODE], images }: FakeEngineDeps): FakeEngine {
  const here = nodes[0] ?? DEFAULT_NODE
  const alive = new Set<string>()
  const lost = new Set<string>()
  const networks = new Set<string>()
  const secrets = new Map<string, { readonly run: string; readonly names: Set<string> }>()
  const services = new Map<string, Service>()
  const segments = new Map<string, FakeSegment>()
  const workspaces = new Map<string, { readonly run: string; readonly folder: string }>()
  const starts = new Map<string, number>()
  const waiters = new Set<() => void>()

  const nameOf = (key: JobKey, segment: number) => `${jobId(key)}/${segment}`
  const changed = () => {
    for (const wake of waiters) wake()
  }

  function segmentOf(key: JobKey, segment: number): FakeSegment {
    const name = nameOf(key, segment)
    const found = segments.get(name)
    if (found !== undefined) return found
    const made: FakeSegment = {
      request: undefined,
      gate: 'absent',
      steps: [],
      finished: false,
      stopped: false,
      tampered: undefined,
      ended: undefined,
      diskBytes: Number.POSITIVE_INFINITY,
      interrupt: undefined,
    }
    segments.set(name, made)
    return made
  }

  const asSwarmNodes = () =>
    nodes.map((one) => ({
      ID: one.id,
      Spec: { Role: 'manager', Labels: one.labels ?? {} },
      Description: {
        Hostname: one.hostname,
        Resources: { NanoCPUs: (one.cpus ?? 8) * 1e9, MemoryBytes: one.memory ?? 2 ** 34 },
      },
    }))

  function place(service: Service): void {
    if (service.node !== undefined || service.rejected !== undefined) return
    const { job, node, key, segment } = service.request
    const fits = asSwarmNodes().find(
      (one) =>
        (node === undefined || one.ID === node) &&
        alive.has(one.ID) &&
        !lost.has(one.ID) &&
        canPlaceOn(job, [one]).kind === 'yes',
    )
    if (fits === undefined) return
    service.node = fits.ID
    const name = nameOf(key, segment)
    starts.set(name, (starts.get(name) ?? 0) + 1)
    const state = segmentOf(key, segment)
    if (state.gate === 'absent') state.gate = 'waiting'
    changed()
  }

  async function runSteps(key: JobKey, state: FakeSegment, request: WriteSegment): Promise<void> {
    const deadline = performance.now() + request.timeoutSeconds * 1000
    for (const [position, step] of request.content.steps.entries()) {
      const record = state.steps[position]
      if (record === undefined || state.stopped || state.ended !== undefined || performance.now() >= deadline) break
      record.started = true
      const index = request.firstStep + position
      const behaviour = behave(step, { key, index, request })
      await writeFiles(key, behaviour.files ?? {})
      const output = Buffer.from(behaviour.output ?? '')
      record.log = output.subarray(0, Math.max(0, state.diskBytes))
      state.diskBytes -= record.log.length
      changed()
      const limitMs = Math.min(deadline - performance.now(), (step.timeoutSeconds ?? Number.POSITIVE_INFINITY) * 1000)
      const end = await stepEnd(state, behaviour.takesMs ?? 0, limitMs)
      if (state.ended !== undefined) return
      record.end = {
        exitCode: end === 'own' ? (behaviour.exitCode ?? 0) : (behaviour.exitCodeOnTerm ?? 143),
        timedOut: end === 'limit',
        pipeBytes: output.length,
        fileBytes: record.log.length,
        sha256: createHash('sha256').update(record.log).digest('hex'),
        ...(record.log.length < output.length ? { writeError: 'No space left on device' } : {}),
      }
      changed()
      if (record.end.exitCode !== 0 || record.end.timedOut) {
        endSegment(state, record.end.exitCode > 125 || record.end.exitCode === 0 ? 1 : record.end.exitCode)
        return
      }
    }
    endSegment(state, 0)
  }

  function endSegment(state: FakeSegment, code: number): void {
    if (state.ended !== undefined) return
    state.finished = true
    state.ended = { kind: 'exited', code, memoryKill: false }
    changed()
  }

  function stepEnd(state: FakeSegment, takesMs: number, limitMs: number): Promise<'own' | 'term' | 'limit'> {
    return new Promise((resolve) => {
      const [why, ms] = takesMs <= limitMs ? (['own', takesMs] as const) : (['limit', limitMs] as const)
      const timer = Number.isFinite(ms) ? setTimeout(() => resolve(why), ms) : undefined
      state.interrupt = () => {
        clearTimeout(timer)
        resolve('term')
      }
    })
  }

  async function writeFiles(key: JobKey, files: Readonly<Record<string, string>>): Promise<void> {
    const folder = workspaces.get(jobId(key))?.folder
    if (folder === undefined) return
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(join(folder, path)), { recursive: true })
      await writeFile(join(folder, path), content)
    }
  }

  const cluster: Cluster = {
    async resolveImage(image) {
      if (images !== undefined && !images.includes(image))
        throw new EngineRefused(`image ${image} is neither on this machine nor in its registry`)
      return `${image}@sha256:${createHash('sha256').update(image).digest('hex')}`
    },
    async ensureNetwork(run) {
      networks.add(run)
    },
    async ensureSecrets(key, values) {
      if (values.length === 0) return
      secrets.set(jobId(key), { run: key.run, names: new Set(values.map(({ name }) => name)) })
    },
    async startSegment(request) {
      const { key, job, segment } = request
      for (const { name } of job.secrets) {
        if (secrets.get(jobId(key))?.names.has(name) !== true)
          throw new EngineRefused(`secret ${name} of job ${key.job} was not made before its service`)
      }
      const name = nameOf(key, segment)
      const service = services.get(name) ?? { request, node: undefined, rejected: undefined }
      services.set(name, service)
      place(service)
    },
    async placement(key, segment): Promise<Placement> {
      const service = services.get(nameOf(key, segment))
      if (service === undefined) return { kind: 'absent' }
      if (service.rejected !== undefined) return { kind: 'rejected', reason: service.rejected }
      const node = nodes.find(({ id }) => id === service.node)
      if (node === undefined)
        return {
          kind: 'pending',
          reason: `no suitable node (scheduling constraints not satisfied on ${nodes.length} nodes)`,
        }
      const state = segmentOf(key, segment)
      if (state.ended?.kind === 'exited')
        return { kind: 'ended', node: node.id, hostname: node.hostname, exitCode: state.ended.code }
      if (state.ended !== undefined)
        return { kind: 'ended', node: node.id, hostname: node.hostname, exitCode: 137, reason: state.ended.reason }
      if (lost.has(node.id)) return { kind: 'lost', node: node.id, reason: `node ${node.hostname} is down` }
      return { kind: 'assigned', node: node.id, hostname: node.hostname }
    },
    async canPlace(job: Pick<Job, 'constraints' | 'resources'>) {
      return canPlaceOn(job, asSwarmNodes())
    },
    async removeJob(key) {
      for (const [name, { request }] of services) {
        if (jobId(request.key) !== jobId(key)) continue
        services.delete(name)
        terminate(segments.get(name))
      }
      secrets.delete(jobId(key))
    },
    async removeNetwork(run) {
      networks.delete(run)
    },
    async ownedRuns() {
      const runs = [
        ...networks,
        ...[...services.values()].map(({ request }) => request.key.run),
        ...[...secrets.values()].map(({ run }) => run),
      ]
      return [...new Set(runs)].sort()
    },
    async removeRun(run) {
      for (const { request } of [...services.values()])
        if (request.key.run === run) await cluster.removeJob(request.key)
      for (const [id, secret] of secrets) if (secret.run === run) secrets.delete(id)
      networks.delete(run)
    },
    async nodes() {
      return nodes.map(({ id, hostname }) => ({ id, hostname, ready: !lost.has(id), workerAlive: alive.has(id) }))
    },
    async setWorkerAlive(nodeId, isAlive) {
      if (isAlive) alive.add(nodeId)
      else alive.delete(nodeId)
      for (const service of services.values()) place(service)
    },
  }

  /** As the container ends on SIGTERM: the step's record is written, then the container is gone. */
  function terminate(state: FakeSegment | undefined): void {
    if (state === undefined || state.ended !== undefined || state.stopped) return
    state.stopped = true
    if (state.interrupt !== undefined) state.interrupt('term')
    else if (state.gate === 'waiting') endSegment(state, 143)
  }

  const node: NodeEngine = {
    async prepareNode() {},
    async nodeId() {
      return { id: here.id, hostname: here.hostname }
    },
    async prepareVolumes(key, segment) {
      segmentOf(key, segment)
      const found = workspaces.get(jobId(key))
      if (found !== undefined) return { workspace: found.folder }
      const folder = await mkdtemp(join(tmpdir(), 'penstock-workspace-'))
      workspaces.set(jobId(key), { run: key.run, folder })
      return { workspace: folder }
    },
    async writeSegment(request) {
      const state = segments.get(nameOf(request.key, request.segment))
      if (state === undefined)
        throw new EngineRefused(`control volume of job ${request.key.job} does not exist on this node`)
      if (state.gate === 'open') return
      state.request = request
      if (state.steps.length === 0) {
        for (const _ of request.content.steps)
          state.steps.push({ started: false, log: Buffer.alloc(0), end: undefined })
      }
    },
    async openGate(key, segment, signal) {
      const state = segmentOf(key, segment)
      const { request } = state
      if (request === undefined)
        throw new EngineRefused(`segment ${segment} of job ${key.job} was not written before its gate was opened`)
      while (state.gate !== 'open') {
        signal.throwIfAborted()
        if (state.ended !== undefined) return 'ended'
        if (state.gate === 'waiting') {
          state.gate = 'open'
          void runSteps(key, state, request)
        } else await sleep(2, signal)
      }
      return 'opened'
    },
    async observe(key, segment): Promise<SegmentState> {
      const state = segments.get(nameOf(key, segment))
      if (state?.request === undefined) return { gate: 'absent', steps: [], finished: false, stopped: false }
      const { request } = state
      return {
        gate: state.gate,
        finished: state.finished,
        stopped: state.stopped,
        steps: state.steps.map((record, position) => ({
          index: request.firstStep + position,
          started: record.started,
          logBytes: record.log.length,
          ...(record.end === undefined ? {} : { end: record.end }),
        })),
        ...(state.tampered === undefined ? {} : { tampered: state.tampered }),
      }
    },
    async readLog(key, segment, step, offset, limit) {
      const state = segments.get(nameOf(key, segment))
      if (state?.request === undefined) return Buffer.alloc(0)
      const record = state.steps[step - state.request.firstStep]
      if (record === undefined) throw new RangeError(`step ${step} is not in segment ${segment}`)
      if (state.tampered !== undefined) throw new Error(state.tampered)
      return Buffer.from(record.log.subarray(offset, offset + limit))
    },
    waitForChange(_key, _segment, maxMs, signal) {
      return new Promise((resolve, reject) => {
        if (signal.aborted) {
          reject(signal.reason)
          return
        }
        const finish = () => {
          clearTimeout(timer)
          waiters.delete(finish)
          signal.removeEventListener('abort', onAbort)
          resolve()
        }
        const onAbort = () => {
          finish()
          reject(signal.reason)
        }
        // A change between the caller's look and this call would be missed: look again soon anyway.
        const timer = setTimeout(finish, Math.min(maxMs, 20))
        waiters.add(finish)
        signal.addEventListener('abort', onAbort, { once: true })
      })
    },
    async ended(key, segment) {
      return segments.get(nameOf(key, segment))?.ended
    },
    async stop(key, segment) {
      const state = segments.get(nameOf(key, segment))
      if (state === undefined || state.gate === 'absent') return
      terminate(state)
      while (state.ended === undefined) await sleep(2)
    },
    async removeVolumes(key) {
      for (const [name, state] of segments) {
        if (!name.startsWith(`${jobId(key)}/`)) continue
        terminate(state)
        segments.delete(name)
      }
      const workspace = workspaces.get(jobId(key))
      workspaces.delete(jobId(key))
      if (workspace !== undefined) await rm(workspace.folder, { recursive: true, force: true })
    },
    async sweep(openRuns) {
      const removed: string[] = []
      const seen = [...workspaces]
      const live = await openRuns()
      for (const [id, { run, folder }] of seen) {
        if (live.has(run)) continue
        workspaces.delete(id)
        await rm(folder, { recursive: true, force: true })
        removed.push(id)
      }
      return removed
    },
    async readWorkspaceFiles(key, patterns, limits) {
      const folder = workspaces.get(jobId(key))?.folder
      return folder === undefined ? [] : readMatching(folder, patterns, limits)
    },
  }

  return {
    cluster,
    node,
    anotherNodeEngine: () => node,
    faults: {
      endContainer(key, segment, end) {
        const state = segmentOf(key, segment)
        state.ended ??= end
        state.interrupt?.('kill')
        changed()
      },
      rejectTask(key, segment, reason) {
        const service = services.get(nameOf(key, segment))
        if (service !== undefined) service.rejected = reason
      },
      loseNode(nodeId) {
        lost.add(nodeId)
        changed()
      },
      tamper(key, segment, what) {
        segmentOf(key, segment).tampered = what
        changed()
      },
      fillDisk(key, segment, afterBytes) {
        segmentOf(key, segment).diskBytes = afterBytes
      },
    },
    startsOf: (key, segment) => starts.get(nameOf(key, segment)) ?? 0,
    async close() {
      for (const state of segments.values()) terminate(state)
      for (const { folder } of workspaces.values()) await rm(folder, { recursive: true, force: true })
      workspaces.clear()
    },
  }
}
