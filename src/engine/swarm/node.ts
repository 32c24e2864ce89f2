import { execFile } from 'node:child_process'
import { constants, watch } from 'node:fs'
import { chmod, lstat, mkdtemp, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type Docker from 'dockerode'
import { controlVolume, type JobKey, jobLabels, LABELS, segmentService, workspaceVolume } from '../../core/ids.ts'
import { byLabels, dockerMessage, isConflict, isNotFound, orAbsent, removeWithin, sleep } from '../docker.ts'
import type { Log } from '../log.ts'
import { type ContainerEnd, EngineRefused, type NodeEngine, type SegmentState, type WriteSegment } from '../types.ts'
import { createdBy, toContainerEnd } from './container-end.ts'
import { helperVolume, loadHelper } from './helper.ts'
import { type FileIdentity, identityOf, openMade, readAt, Tampered } from './hostile-files.ts'
import { JOURNAL_BYTES_PER_STEP, type Journal, parseJournal } from './journal.ts'
import { segmentLabels } from './service-spec.ts'
import { stepScript } from './step-script.ts'
import { besideVolume, ensureVolume, makeOnce, volumeRoot, writeWhole } from './volumes.ts'
import { readMatching } from './workspace-files.ts'

const run = promisify(execFile)

/** Each waits to be moved to where it is needed. */
const FIFO_STOCK = 100
const REMOVAL_LIMIT_MS = 20_000
/** How often the gate is tried while the container is on its way: each try is one open(2). */
const GATE_PAUSE_MS = 5
/** How often Docker is asked whether the container ended before it came to its gate. */
const GATE_ENDED_PAUSE_MS = 250
/** Between a change and the answer, so that a step that prints line by line does not make the worker spin. */
const SETTLE_MS = 4
/** What the worker remembers of a control volume: which files it made. */
/** Where the container finds what `WriteSegment.units` says. */
const UNITS_FILE = '/.penstock/control/units.json'
const MANIFEST = 'penstock-made.json'
/** We asked the container to stop: its end is our doing. */
const STOPPED = 'penstock-stopped'

export interface NodeDeps {
  readonly docker: Docker
  readonly instance: string
  readonly log: Log
  readonly helper: { readonly busybox: string }
}

interface Manifest {
  readonly first: number
  readonly count: number
  readonly journal: FileIdentity
  /** In order of the steps. */
  readonly logs: readonly FileIdentity[]
}

/** What this process knows of one segment; everything in it can be had again from the volume. */
interface Open {
  readonly root: string
  readonly manifest: Manifest
  seenJournal: string
  readonly seenSizes: number[]
  tampered?: string
}

export function createNodeEngine({ docker, instance, log, helper }: NodeDeps): NodeEngine {
  const segments = new Map<string, Open>()
  const fifos: string[] = []
  let moreFifos: Promise<void> | undefined

  async function prepareNode(): Promise<void> {
    const name = helperVolume(instance)
    const labels = { [LABELS.instance]: instance }
    const { busybox, wrapper } = await loadHelper(helper.busybox)
    const root = await ensureVolume(docker, name, labels)
    await writeIfOther(join(root, 'busybox'), busybox, 0o755)
    await writeIfOther(join(root, 'wrapper.sh'), wrapper, 0o644)
    await chmod(root, 0o755)
    await removeOldFifos(root)
    await removeOldHelpers(name)
  }

  /** What an earlier process of this node had made ahead. */
  async function removeOldFifos(root: string): Promise<void> {
    const beside = besideVolume(root, '')
    for (const name of await readdir(beside)) {
      if (name.startsWith('fifos-')) await rm(join(beside, name), { recursive: true, force: true })
    }
  }

  /** Those of earlier versions, as far as no container uses them any more. */
  async function removeOldHelpers(current: string): Promise<void> {
    const { Volumes } = await docker.listVolumes({ filters: byLabels({ [LABELS.instance]: instance }) })
    for (const { Name } of Volumes ?? []) {
      if (!Name.startsWith('pst-helper-') || Name === current) continue
      try {
        await docker.getVolume(Name).remove()
      } catch (error) {
        if (!isConflict(error) && !isNotFound(error)) throw error
      }
    }
  }

  async function nodeId() {
    const { Swarm, Name } = await docker.info()
    const id = Swarm?.NodeID
    if (typeof id !== 'string' || id === '')
      throw new EngineRefused(`the Docker engine of ${Name} is not part of a Swarm: run \`docker swarm init\``)
    return { id, hostname: String(Name) }
  }

  async function prepareVolumes(key: JobKey, segment: number): Promise<{ readonly workspace: string }> {
    const [workspace, control] = await Promise.all([
      ensureVolume(docker, workspaceVolume(instance, key), jobLabels(instance, key)),
      ensureVolume(docker, controlVolume(instance, key, segment), segmentLabels(instance, key, segment)),
    ])
    // Images with a user of their own must be able to make files in the workspace, and none in the control volume.
    await Promise.all([chmod(workspace, 0o777), chmod(control, 0o755)])
    return { workspace }
  }

  async function writeSegment(request: WriteSegment): Promise<void> {
    const { key, segment, content, firstStep } = request
    const root = await controlRoot(key, segment)
    const known = await openSegment(key, segment)
    if (known !== undefined && (await readJournal(known)).gate === 'open') return
    const path = (name: string) => join(root, name)
    const env = { ...request.env, ...(request.units === undefined ? {} : { CI_POOLS_FILE: UNITS_FILE }) }
    const indexes = content.steps.map((_, index) => firstStep + index)

    const settings = [
      `count=${content.steps.length}`,
      `first=${firstStep}`,
      `limit=${Math.max(0, Math.ceil(request.timeoutSeconds))}`,
      `grace=${Math.max(0, Math.ceil(request.graceSeconds))}`,
      ...content.steps.map(
        (step, index) => `step_limit_${firstStep + index}=${Math.max(0, Math.ceil(step.timeoutSeconds ?? 0))}`,
      ),
    ]
    await Promise.all([
      writeWhole(path('job'), `${settings.join('\n')}\n`, 0o644),
      ...(request.units === undefined ? [] : [writeWhole(path('units.json'), `${request.units}\n`, 0o644)]),
      ...content.steps.map((step, index) =>
        writeWhole(path(`step.${firstStep + index}`), stepScript({ ...request, env, step }), 0o644),
      ),
    ])
    if (known !== undefined) return

    // Made here and not in the container: its user may have no right to, and the disk may be full by then.
    await Promise.all([
      makeOnce(path('journal'), '\n'.repeat(4096 + JOURNAL_BYTES_PER_STEP * content.steps.length), 0o666),
      makeOnce(path('go'), '...\n', 0o666),
      makeOnce(path('logger'), `${' '.repeat(63)}\n`, 0o666),
      makeOnce(path('logger-error'), `${' '.repeat(255)}\n`, 0o666),
      ...indexes.map((index) => makeOnce(path(`log.${index}`), '', 0o666)),
      makeFifos(indexes.map((index) => path(`pipe.${index}`))),
    ])
    const manifest: Manifest = {
      first: firstStep,
      count: content.steps.length,
      journal: identityOf(await lstat(path('journal'))),
      logs: await Promise.all(indexes.map(async (index) => identityOf(await lstat(path(`log.${index}`))))),
    }
    await writeWhole(besideVolume(root, MANIFEST), JSON.stringify(manifest), 0o600)
    // Last: the wrapper takes it as the sign that everything else is there.
    await makeFifos([path('gate.new')])
    await rename(path('gate.new'), path('gate'))
  }

  async function makeFifos(paths: readonly string[]): Promise<void> {
    await Promise.all(
      paths.map(async (path) => {
        try {
          await rename(await takeFifo(), path)
        } catch (error) {
          if (!isAcrossDevices(error)) throw error
          await rm(path, { force: true })
          await mkfifo([path])
        }
      }),
    )
  }

  async function mkfifo(paths: readonly string[]): Promise<void> {
    await run(helper.busybox, ['mkfifo', '-m', '666', ...paths])
  }

  /**
   * Made ahead, beside the helper volume's files, because Node cannot make one and a process of its own for each job
   * costs more than everything else there. Mode 666: a step that dropped to another user must still be able to open
   * /dev/stderr.
   */
  async function takeFifo(): Promise<string> {
    for (;;) {
      const path = fifos.pop()
      if (path !== undefined) return path
      moreFifos ??= makeStock().finally(() => {
        moreFifos = undefined
      })
      await moreFifos
    }
  }

  async function makeStock(): Promise<void> {
    const root = await ensureVolume(docker, helperVolume(instance), { [LABELS.instance]: instance })
    const folder = await mkdtemp(besideVolume(root, `fifos-`))
    const paths = Array.from({ length: FIFO_STOCK }, (_, index) => join(folder, String(index)))
    await mkfifo(paths)
    fifos.push(...paths)
  }

  async function controlRoot(key: JobKey, segment: number): Promise<string> {
    const name = controlVolume(instance, key, segment)
    const root = await volumeRoot(docker, name)
    if (root === undefined) throw new EngineRefused(`control volume ${name} does not exist on this node`)
    return root
  }

  /** The segment as it was written, by this process or by one before it; undefined if it was not. */
  async function openSegment(key: JobKey, segment: number): Promise<Open | undefined> {
    const name = controlVolume(instance, key, segment)
    const known = segments.get(name)
    if (known !== undefined) return known
    const root = await volumeRoot(docker, name)
    if (root === undefined) return undefined
    let text: string
    try {
      text = await readFile(besideVolume(root, MANIFEST), 'utf8')
      await lstat(join(root, 'gate'))
    } catch (error) {
      if (isMissing(error)) return undefined
      throw error
    }
    const opened: Open = { root, manifest: JSON.parse(text), seenJournal: '', seenSizes: [] }
    segments.set(name, opened)
    return opened
  }

  /** The container sees its files only, not the folder that they are in: if that is gone, somebody removed the volume. */
  async function openInVolume({ root }: Open, name: string, made: FileIdentity) {
    try {
      return await openMade(join(root, name), made)
    } catch (error) {
      if (error instanceof Tampered && !(await exists(besideVolume(root, MANIFEST))))
        throw new EngineRefused(`the control volume was removed from its node: there is no ${root} any more`)
      throw error
    }
  }

  async function readJournal(open: Open): Promise<Journal> {
    const { file, size } = await openInVolume(open, 'journal', open.manifest.journal)
    try {
      const limit = 4096 + JOURNAL_BYTES_PER_STEP * open.manifest.count
      const journal = parseJournal((await readAt(file, 0, Math.min(size, limit))).toString('latin1'))
      if (!journal.text.startsWith(open.seenJournal))
        throw new Tampered('the records of the steps were changed after they had been written')
      open.seenJournal = journal.text
      return journal
    } finally {
      await file.close()
    }
  }

  async function logSize(open: Open, position: number): Promise<number> {
    const identity = open.manifest.logs[position]
    if (identity === undefined) return 0
    const { file, size } = await openInVolume(open, `log.${open.manifest.first + position}`, identity)
    await file.close()
    noteSize(open, position, size)
    return size
  }

  function noteSize(open: Open, position: number, size: number): void {
    const seen = open.seenSizes[position] ?? 0
    if (size < seen)
      throw new Tampered(`the log of step ${open.manifest.first + position} shrank from ${seen} to ${size} bytes`)
    open.seenSizes[position] = size
  }

  async function observe(key: JobKey, segment: number): Promise<SegmentState> {
    const open = await openSegment(key, segment)
    if (open === undefined) return { gate: 'absent', steps: [], finished: false, stopped: false }
    let journal: Journal
    let tampered = open.tampered
    try {
      journal = await readJournal(open)
    } catch (error) {
      if (!(error instanceof Tampered)) throw error
      tampered ??= error.message
      journal = parseJournal(open.seenJournal)
    }
    const steps: SegmentState['steps'][number][] = []
    for (let position = 0; position < open.manifest.count; position++) {
      const index = open.manifest.first + position
      const end = journal.ends.get(index)
      let logBytes = open.seenSizes[position] ?? 0
      try {
        if (journal.started.has(index)) logBytes = await logSize(open, position)
        if (end !== undefined && logBytes < end.fileBytes)
          throw new Tampered(`the log of step ${index} is shorter than its record says`)
      } catch (error) {
        if (!(error instanceof Tampered)) throw error
        tampered ??= error.message
      }
      // What a background process still wrote before its output was cut off is not part of the step's log.
      if (end !== undefined) logBytes = Math.min(logBytes, end.fileBytes)
      steps.push({ index, started: journal.started.has(index), logBytes, ...(end === undefined ? {} : { end }) })
    }
    if (tampered !== undefined && open.tampered === undefined) {
      open.tampered = tampered
      log.warn(
        { run: key.run, job: key.job, attempt: key.attempt, segment, tampered },
        'control volume was tampered with',
      )
    }
    const state = { gate: journal.gate, steps, finished: journal.finished, stopped: journal.terminated }
    return tampered === undefined ? state : { ...state, tampered }
  }

  async function readLog(key: JobKey, segment: number, step: number, offset: number, limit: number): Promise<Buffer> {
    const open = await openSegment(key, segment)
    if (open === undefined) return Buffer.alloc(0)
    const position = step - open.manifest.first
    const identity = open.manifest.logs[position]
    if (identity === undefined) throw new RangeError(`step ${step} is not in segment ${segment}`)
    const { file, size } = await openInVolume(open, `log.${step}`, identity)
    try {
      noteSize(open, position, size)
      if (offset > size)
        throw new Tampered(`the log of step ${step} has ${size} bytes, fewer than the ${offset} already read`)
      return await readAt(file, offset, Math.min(limit, size - offset))
    } finally {
      await file.close()
    }
  }

  async function openGate(key: JobKey, segment: number, signal: AbortSignal): Promise<'opened' | 'ended'> {
    const open = await openSegment(key, segment)
    if (open === undefined)
      throw new EngineRefused(`segment ${segment} of job ${key.job} was not written before its gate was opened`)
    // A look takes Docker's time when it starts the container: the first one is due when it should have come.
    let nextLook = performance.now() + GATE_ENDED_PAUSE_MS
    while (true) {
      signal.throwIfAborted()
      if ((await readJournal(open)).gate === 'open') return 'opened'
      await sayGo(join(open.root, 'gate'))
      const now = performance.now()
      if (now >= nextLook) {
        if ((await ended(key, segment)) !== undefined)
          return (await readJournal(open)).gate === 'open' ? 'opened' : 'ended'
        nextLook = performance.now() + GATE_ENDED_PAUSE_MS
      }
      await sleep(GATE_PAUSE_MS, signal)
    }
  }

  async function waitForChange(key: JobKey, segment: number, maxMs: number, signal: AbortSignal): Promise<void> {
    const open = await openSegment(key, segment)
    if (open === undefined) return sleep(Math.min(maxMs, 50), signal)
    await watchOnce(open, maxMs, signal)
    await sleep(Math.min(SETTLE_MS, maxMs), signal)
  }

  /** One event and no more: a hostile step could keep a standing watch busy for ever. */
  async function watchOnce(open: Open, maxMs: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    await new Promise<void>((resolve, reject) => {
      const finish = (error?: unknown) => {
        clearTimeout(timer)
        signal.removeEventListener('abort', onAbort)
        watcher?.close()
        if (error === undefined) resolve()
        else reject(error)
      }
      const onAbort = () => finish(signal.reason)
      signal.addEventListener('abort', onAbort, { once: true })
      let timer = setTimeout(finish, maxMs)
      let watcher: ReturnType<typeof watch> | undefined
      try {
        watcher = watch(open.root, { persistent: false }, () => finish())
        watcher.on('error', () => finish())
      } catch {
        // No inotify instance left, or no folder: fall back to looking often.
        clearTimeout(timer)
        timer = setTimeout(finish, Math.min(maxMs, 50))
      }
      // What changed between the caller's last look and the watch.
      changedSince(open).then((changed) => {
        if (changed) finish()
      }, finish)
    })
  }

  async function changedSince(open: Open): Promise<boolean> {
    const before = open.seenJournal
    const sizes = [...open.seenSizes]
    try {
      const journal = await readJournal(open)
      if (journal.text !== before) return true
      for (const index of journal.started) {
        const position = index - open.manifest.first
        if (journal.ends.has(index)) continue
        if ((await logSize(open, position)) !== (sizes[position] ?? 0)) return true
      }
      return false
    } catch (error) {
      if (error instanceof Tampered || isMissing(error)) return true
      throw error
    }
  }

  async function containersOf(labels: Readonly<Record<string, string>>) {
    return docker.listContainers({ all: true, filters: byLabels(labels) })
  }

  async function containerOf(key: JobKey, segment: number): Promise<Docker.ContainerInspectInfo | undefined> {
    const service = segmentService(instance, key, segment)
    const [found] = await containersOf({
      ...segmentLabels(instance, key, segment),
      'com.docker.swarm.service.name': service,
    })
    return found === undefined ? undefined : orAbsent(docker.getContainer(found.Id).inspect())
  }

  async function ended(key: JobKey, segment: number): Promise<ContainerEnd | undefined> {
    // Before the container is looked for: one that starts meanwhile is not there yet, and has not been removed.
    const open = await openSegment(key, segment)
    const journal = open === undefined ? undefined : await readJournal(open).catch(() => parseJournal(open.seenJournal))
    const container = await containerOf(key, segment)
    const stoppedByUs = open !== undefined && (await exists(besideVolume(open.root, STOPPED)))
    if (container === undefined) {
      return createdBy(journal)
        ? { kind: 'lost', reason: 'the container was removed from its node, which a stopping Docker does, too' }
        : undefined
    }
    return toContainerEnd({ state: container.State, journal, stoppedByUs, daemonStart: await daemonStart() })
  }

  /** Docker makes its default bridge anew at every start, and says nowhere else when that was. */
  async function daemonStart(): Promise<number | undefined> {
    const bridge = await orAbsent(docker.getNetwork('bridge').inspect())
    const at = Date.parse(bridge?.Created ?? '')
    return Number.isNaN(at) ? undefined : at
  }

  async function stop(key: JobKey, segment: number, graceMs: number): Promise<void> {
    const container = await containerOf(key, segment)
    if (container === undefined) return
    const open = await openSegment(key, segment)
    if (open !== undefined && container.State.Running) await writeWhole(besideVolume(open.root, STOPPED), '', 0o600)
    try {
      await docker.getContainer(container.Id).stop({ t: Math.ceil(graceMs / 1000) })
    } catch (error) {
      // 304: it has ended already.
      if (!isNotFound(error) && !(error instanceof Error && 'statusCode' in error && error.statusCode === 304))
        throw error
    }
  }

  async function removeContainers(labels: Readonly<Record<string, string>>): Promise<string[]> {
    const found = await containersOf(labels)
    await Promise.all(
      found.map(({ Id }) => removeWithin(REMOVAL_LIMIT_MS, () => docker.getContainer(Id).remove({ force: true }))),
    )
    return found.map(({ Names, Id }) => Names[0]?.slice(1) ?? Id)
  }

  async function removeVolumes(key: JobKey): Promise<void> {
    await removeContainers(jobLabels(instance, key))
    const { Volumes } = await docker.listVolumes({ filters: byLabels(jobLabels(instance, key)) })
    await Promise.all((Volumes ?? []).map(({ Name }) => removeVolume(Name)))
  }

  async function removeVolume(name: string): Promise<void> {
    segments.delete(name)
    await removeWithin(REMOVAL_LIMIT_MS, () => docker.getVolume(name).remove())
  }

  async function sweep(openRuns: () => Promise<ReadonlySet<string>>): Promise<readonly string[]> {
    const removed: string[] = []
    const failures: unknown[] = []
    const filters = byLabels({ [LABELS.instance]: instance })
    // Before it is asked which runs are open: one that begins after that has nothing here that could be taken from it.
    const [containers, { Volumes }] = await Promise.all([
      docker.listContainers({ all: true, filters }),
      docker.listVolumes({ filters }),
    ])
    const live = await openRuns()
    const isDead = (labels: Readonly<Record<string, string>> | undefined) => {
      const run = labels?.[LABELS.run]
      return run !== undefined && !live.has(run)
    }
    const attempt = async (name: string, remove: () => Promise<unknown>) => {
      try {
        await remove()
        removed.push(name)
      } catch (error) {
        if (!isNotFound(error)) failures.push(new Error(`${name}: ${dockerMessage(error)}`, { cause: error }))
      }
    }
    for (const container of containers) {
      if (!isDead(container.Labels) || container.State === 'running') continue
      await attempt(container.Names[0]?.slice(1) ?? container.Id, () => docker.getContainer(container.Id).remove())
    }
    const inUse = new Set(
      (await docker.listContainers({ all: true, filters })).flatMap(({ Mounts }) => Mounts.map(({ Name }) => Name)),
    )
    for (const volume of Volumes ?? []) {
      // In use by a container that still runs: its service goes first, and the next sweep takes the rest.
      if (!isDead(volume.Labels) || inUse.has(volume.Name)) continue
      await attempt(volume.Name, () => {
        segments.delete(volume.Name)
        return docker.getVolume(volume.Name).remove()
      })
    }
    if (failures.length > 0) throw new AggregateError(failures, 'some leftovers could not be removed')
    return removed
  }

  async function readWorkspaceFiles(
    key: JobKey,
    patterns: readonly string[],
    limits: { readonly files: number; readonly bytes: number },
  ) {
    const root = await volumeRoot(docker, workspaceVolume(instance, key))
    return root === undefined ? [] : readMatching(root, patterns, limits)
  }

  return {
    prepareNode,
    nodeId,
    prepareVolumes,
    writeSegment,
    openGate,
    observe,
    readLog,
    waitForChange,
    ended,
    stop,
    removeVolumes,
    sweep,
    readWorkspaceFiles,
  }
}

/** One try; the container is not at its gate yet if nobody has the other end open. */
async function sayGo(gate: string): Promise<void> {
  try {
    const file = await open(gate, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW)
    try {
      if ((await file.stat()).isFIFO()) await file.write('go\n')
    } finally {
      await file.close()
    }
  } catch (error) {
    // ENXIO: nobody reads yet. EPIPE: the reader ended between our open and our write. Both: look again.
    if (!(error instanceof Error && 'code' in error && (error.code === 'ENXIO' || error.code === 'EPIPE'))) throw error
  }
}

async function writeIfOther(path: string, content: Buffer, mode: number): Promise<void> {
  const present = await readFile(path).catch((error: unknown) => {
    if (isMissing(error)) return undefined
    throw error
  })
  if (present?.equals(content) === true && ((await stat(path)).mode & 0o777) === mode) return
  await writeWhole(path, content, mode)
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

/** Volumes may be file systems of their own (a quota, a driver's option). */
function isAcrossDevices(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EXDEV'
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}
