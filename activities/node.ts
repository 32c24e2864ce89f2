import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { ApplicationFailure, CancelledFailure, Context } from '@temporalio/activity'
import type { Logger } from 'pino'
import { type JobKey, jobId } from '../src/core/ids.ts'
import type { Outcome } from '../src/core/outcome.ts'
import type { Collected, NodeActivities, SegmentInput, SegmentResult } from '../src/core/run-contract.ts'
import { BuildFailed, type ImageBuilder } from '../src/deliverables/image.ts'
import {
  type ContainerEnd,
  EngineRefused,
  type NodeEngine,
  type SegmentState,
  type StepEnd,
  type StepState,
} from '../src/engine/types.ts'
import type { Mirrors, Source } from '../src/git/mirrors.ts'
import { ServerRefused } from '../src/internal/client.ts'
import type { EventAppend, ServerPort } from '../src/internal/types.ts'
import { createLogPump, type LogPump } from '../src/logs/pump.ts'
import { checkout } from '../src/workspace/checkout.ts'

export interface NodeDeps {
  readonly engine: NodeEngine
  /** Its id in the Swarm. */
  readonly node: string
  readonly server: ServerPort
  readonly mirrors: Mirrors
  /** Where a repository is fetched from by this worker: the server, never the forge. */
  readonly sourceOf: (repo: string) => Source
  readonly images: ImageBuilder
  /** Scratch space on this machine. */
  readonly scratch: string
  readonly log: Logger
}

const BEAT_MS = 1_000
/** How often the holder of units is heard of. */
const HOLDING_MS = 10_000
/** The container has not come to its gate in this time: control looks where its task is, and calls again. */
const GATE_PATIENCE_MS = 10_000
/** Between looks at the container itself; its files tell everything that goes well. */
const CONTAINER_LOOK_MS = 1_000
const ENDED_POLL_MS = 50
const CHANGE_WAIT_MS = 250
/** Steps whose logs are moved at the same time. */
const STEPS_AT_ONCE = 8
/** From SIGTERM to SIGKILL for canceled and timed-out steps. */
const GRACE_SECONDS = 10
/** Time limits are kept inside the container; a step that stops what keeps them there is ended from here, this much later. */
const OVERDUE_MS = (GRACE_SECONDS + 10) * 1000
const DELIVERED_LIMITS = { files: 100, bytes: 100 * 1024 * 1024 } as const
const REPORT_LIMITS = { files: 100, bytes: 20 * 1024 * 1024 } as const

/** The activities of a node's own queue. Any of them may be begun anew by another worker process at any moment. */
export function createNodeActivities(deps: NodeDeps): NodeActivities {
  const { engine, server, log } = deps

  async function runSegment(input: SegmentInput): Promise<SegmentResult> {
    const { key, segment } = input
    const context = Context.current()
    const beat = setInterval(() => context.heartbeat(), BEAT_MS)
    let units: NodeJS.Timeout | undefined
    try {
      units = input.units === undefined ? undefined : await keepUnits(input)
      const secrets = server.secrets(key)
      // Met when the follower is made; the container comes to its gate meanwhile.
      secrets.catch(() => undefined)
      const begun = await begin(input, context.cancellationSignal)
      if (begun === 'not_started') return { kind: 'not_started' }
      const follower = createFollower(input, await secrets, begun === 'first')
      return await follow(input, follower, context)
    } catch (err) {
      if (context.cancellationSignal.aborted) return await interrupted(input, context, err)
      const tampered = tamperingIn(err)
      if (tampered !== undefined) return await endTampered(input, tampered)
      if (err instanceof EngineRefused || err instanceof ServerRefused) {
        throw ApplicationFailure.nonRetryable(err.message, 'errored')
      }
      log.warn({ err, job: jobId(key), segment }, 'a segment could not be followed')
      throw err
    } finally {
      clearInterval(beat)
      clearInterval(units)
    }
  }

  /** Tells the server again and again that the holder of the units lives. Whoever has lost them must not touch them. */
  async function keepUnits({ key }: SegmentInput): Promise<NodeJS.Timeout> {
    const lost = `${jobId(key)} no longer holds its units`
    if (!(await server.holdsUnits(key, deps.node))) throw ApplicationFailure.nonRetryable(lost, 'errored')
    return setInterval(() => {
      const asked = server.holdsUnits(key, deps.node)
      // Who took them has told the job's workflow, which ends it.
      asked.then((isHeld) => isHeld || log.warn({ job: jobId(key) }, lost), warnAbout('leases were not extended'))
    }, HOLDING_MS)
  }

  /**
   * Workspace, variables and scripts are there before the container may go on. Done once, whoever does it. `first`:
   * nothing of the segment has run before.
   */
  async function begin(input: SegmentInput, signal: AbortSignal): Promise<'first' | 'again' | 'not_started'> {
    const { key, segment } = input
    const { workspace } = await engine.prepareVolumes(key, segment)
    const { gate } = await engine.observe(key, segment)
    if (gate !== 'open') {
      const workspaceReady = async () => {
        if (segment !== 0) return
        const mirror = await deps.mirrors.ensure(input.repo, deps.sourceOf(input.repo), input.commit)
        await checkout(mirror, input.commit, workspace, signal)
      }
      const written = engine.writeSegment({
        key,
        segment,
        content: input.content,
        firstStep: input.firstStep,
        env: input.env,
        secretEnv: input.secretEnv,
        workdir: input.workdir,
        timeoutSeconds: input.timeoutSeconds,
        graceSeconds: GRACE_SECONDS,
        ...(input.units === undefined ? {} : { units: input.units }),
      })
      // Both have ended before anything else happens to the volumes, also when one of them fails.
      await allOf([workspaceReady(), written])
    }
    const patience = AbortSignal.any([signal, AbortSignal.timeout(GATE_PATIENCE_MS)])
    try {
      await engine.openGate(key, segment, patience)
      return gate === 'open' ? 'again' : 'first'
    } catch (err) {
      if (!signal.aborted && patience.aborted) return 'not_started'
      throw err
    }
  }

  async function follow(input: SegmentInput, follower: Follower, context: Context): Promise<SegmentResult> {
    const { key, segment } = input
    const signal = context.cancellationSignal
    let looked = performance.now()
    const overdue = input.timeoutSeconds > 0 ? looked + input.timeoutSeconds * 1000 + OVERDUE_MS : Infinity
    for (;;) {
      if (signal.aborted) throw new CancelledFailure('interrupted')
      const state = await engine.observe(key, segment)
      if (state.tampered) follower.tampered = state.tampered
      await follower.take(state)
      if (state.finished) {
        // SIGTERM that did not come from us: the container itself tells whether the engine ended it.
        return finish(input, follower, state.stopped ? await containerEnd(input, signal) : undefined)
      }
      if (performance.now() - looked > CONTAINER_LOOK_MS) {
        looked = performance.now()
        const end = await engine.ended(key, segment)
        if (end) {
          await follower.take(await engine.observe(key, segment))
          return finish(input, follower, end)
        }
        // Taken for ended when its gate was to be opened, and it lives: nothing of it has run.
        if (state.gate !== 'open') return { kind: 'not_started' }
        if (looked > overdue) {
          await engine.stop(key, segment, 0)
          await follower.take(await engine.observe(key, segment))
          return finish(input, follower, { kind: 'overdue' })
        }
      }
      await engine.waitForChange(key, segment, CHANGE_WAIT_MS, signal)
    }
  }

  async function containerEnd({ key, segment }: SegmentInput, signal: AbortSignal): Promise<ContainerEnd> {
    for (;;) {
      const end = await engine.ended(key, segment)
      if (end) return end
      if (signal.aborted) throw new CancelledFailure('interrupted')
      await new Promise((resolve) => setTimeout(resolve, ENDED_POLL_MS))
    }
  }

  async function finish(
    input: SegmentInput,
    follower: Follower,
    end: ContainerEnd | { readonly kind: 'overdue' } | undefined,
  ): Promise<SegmentResult> {
    const verdict = await follower.close(end)
    // The steps are through, and nobody waits for this; a kill by the memory limit that they survived shows only on the
    // container.
    if (end === undefined) void noteMemoryKill(input).catch(warnAbout('the container was not looked at'))
    if (input.junit.length > 0 && (input.last || verdict.outcome !== 'succeeded')) await readReports(input)
    const collected =
      input.last && verdict.outcome === 'succeeded' && input.collect ? await collect(input, input.collect) : undefined
    return { kind: 'ended', lost: verdict.lost ?? false, ...withoutLost(verdict), ...(collected ? { collected } : {}) }
  }

  async function noteMemoryKill({ key, segment }: SegmentInput): Promise<void> {
    const seen = await engine.ended(key, segment)
    if (seen?.kind === 'exited' && seen.memoryKill) log.warn({ job: jobId(key) }, 'a process met the memory limit')
  }

  /** Keeps what the job delivers, file by file, and the list of them. */
  async function collect({ key, segment }: SegmentInput, pattern: string): Promise<Collected | undefined> {
    await engine.stop(key, segment, 0)
    const lines: string[] = []
    const paths: string[] = []
    for (const { path, bytes } of await engine.readWorkspaceFiles(key, [pattern], DELIVERED_LIMITS)) {
      const digest = await server.artifact(bytes)
      lines.push(`${digest.slice('sha256:'.length)}  ${path}\n`)
      paths.push(path)
    }
    if (paths.length === 0) return undefined
    return { digest: await server.artifact(Buffer.from(lines.sort().join(''))), paths: paths.sort() }
  }

  async function readReports({ key, segment, junit }: SegmentInput): Promise<void> {
    try {
      // Reports are read once the container can no longer change them.
      await engine.stop(key, segment, 0)
      for (const { path, bytes } of await engine.readWorkspaceFiles(key, junit, REPORT_LIMITS)) {
        await server.junit(key, path, bytes)
      }
    } catch (err) {
      log.warn({ err, job: jobId(key) }, 'test reports could not be read')
    }
  }

  /** Nothing that the container says of itself counts any more, so it is not waited for. */
  async function endTampered(input: SegmentInput, why: string): Promise<SegmentResult> {
    const { key, segment } = input
    await engine.stop(key, segment, 0)
    const follower = createFollower(input, await server.secrets(key), false)
    follower.tampered = why
    try {
      await follower.take(await engine.observe(key, segment))
    } catch (err) {
      if (tamperingIn(err) === undefined) throw err
    }
    return { kind: 'ended', lost: false, ...withoutLost(await follower.close(undefined)) }
  }

  /** Canceled by a person: the steps get SIGTERM and a grace. Shut down: the container is left to the next worker. */
  async function interrupted(input: SegmentInput, context: Context, err: unknown): Promise<SegmentResult> {
    if (!context.cancellationDetails?.cancelRequested)
      throw ApplicationFailure.retryable('the worker shuts down', 'shutdown', err)
    const { key, segment } = input
    await engine.stop(key, segment, GRACE_SECONDS * 1000)
    const follower = createFollower(input, await server.secrets(key), false)
    await follower.take(await engine.observe(key, segment))
    await follower.close({ kind: 'canceled' })
    return { kind: 'ended', outcome: 'canceled', lost: false }
  }

  type Verdict = { readonly outcome: Outcome; readonly reason?: string; readonly lost?: boolean }
  interface Follower {
    tampered: string | undefined
    /** Moves new log bytes, tells of steps that began or ended. */
    take(state: SegmentState): Promise<void>
    /** Closes what is still open and gives the verdict over the segment. */
    close(end: ContainerEnd | EndedByUs | undefined): Promise<Verdict>
  }

  function createFollower(
    input: SegmentInput,
    secrets: Awaited<ReturnType<ServerPort['secrets']>>,
    isFirst: boolean,
  ): Follower {
    const { key, segment, content, firstStep } = input
    const { run, stage, job, attempt } = key
    const pumps = new Map<number, LogPump>()
    const started = new Set<number>()
    const ended = new Map<number, Verdict>()
    let last: SegmentState | undefined

    const nameOf = (index: number) => content.steps[index - firstStep]?.name ?? `step ${index + 1}`
    function pumpOf(index: number): LogPump {
      let pump = pumps.get(index)
      if (!pump) {
        pump = createLogPump({
          server,
          log: { ...key, step: index },
          secrets,
          isNew: isFirst,
          read: (offset, limit) => engine.readLog(key, segment, index, offset, limit),
        })
        pumps.set(index, pump)
      }
      return pump
    }
    const stepAt = (index: number) => ({ stage, job, attempt, step: index, name: nameOf(index) })
    const begins = (index: number): EventAppend => ({
      key: `${jobId(key)}/${index}:started`,
      events: [{ type: 'step.started.v1', ...stepAt(index) }],
    })
    const ends = (index: number, verdict: Verdict, exitCode: number | undefined): EventAppend => ({
      key: `${jobId(key)}/${index}:finished`,
      events: [
        {
          type: 'step.finished.v1',
          ...stepAt(index),
          ...withoutLost(verdict),
          ...(exitCode === undefined ? {} : { exitCode }),
        },
      ],
    })
    async function endStep(index: number, verdict: Verdict, end: StepEnd | undefined): Promise<void> {
      await pumpOf(index).finish(end)
      await server.events(run, [ends(index, verdict, end?.exitCode)])
      ended.set(index, verdict)
    }
    /** Logs of several steps move at once; what is told of them, in one call each, stays in the order of the steps. */
    async function takeSome(steps: readonly StepState[], isSettled: (step: StepState) => boolean): Promise<void> {
      const fresh = steps.filter(({ index }) => !started.has(index))
      // First: the proof of a log belongs to a step that is known to have begun.
      if (fresh.length > 0)
        await server.events(
          run,
          fresh.map(({ index }) => begins(index)),
        )
      for (const { index } of fresh) started.add(index)

      const over: { readonly index: number; readonly end: StepEnd }[] = []
      const moving: Promise<unknown>[] = []
      for (const step of steps) {
        const { index, end } = step
        if (!end) moving.push(pumpOf(index).pump())
        // Stopped by a signal: whose doing its exit code is, the end of the container tells.
        else if (isSettled(step)) over.push({ index, end })
      }
      const told = allOf(over.map(({ index, end }) => pumpOf(index).finish(end))).then(async () => {
        if (over.length === 0) return
        await server.events(
          run,
          over.map(({ index, end }) => ends(index, verdictOf(end), end.exitCode)),
        )
        for (const { index, end } of over) ended.set(index, verdictOf(end))
      })
      await allOf([told, ...moving])
    }

    const follower: Follower = {
      tampered: undefined,
      async take(state) {
        last = state
        const open = state.steps.filter((step) => step.started && !ended.has(step.index))
        for (let at = 0; at < open.length; at += STEPS_AT_ONCE) {
          await takeSome(open.slice(at, at + STEPS_AT_ONCE), ({ end }) => !state.stopped || end?.exitCode === 0)
        }
      },
      async close(end) {
        if (follower.tampered) end = undefined
        const interruptedBy: Verdict = follower.tampered
          ? { outcome: 'failed', reason: `the job tampered with Penstock's files: ${follower.tampered}` }
          : whyEnded(end, input.memoryLimit)
        for (const step of last?.steps ?? []) {
          if (!step.started || ended.has(step.index)) continue
          const isOurs = step.end === undefined || end?.kind === 'canceled' || end?.kind === 'lost'
          await endStep(step.index, isOurs || !step.end ? interruptedBy : verdictOf(step.end), step.end)
        }
        const verdicts = [...ended.values()]
        const bad = verdicts.find((one) => one.outcome !== 'succeeded')
        if (bad) return bad
        if (follower.tampered || (end && ended.size < content.steps.length)) return interruptedBy
        return { outcome: 'succeeded' }
      },
    }
    return follower
  }

  async function buildImage(input: Parameters<NodeActivities['buildImage']>[0]) {
    const { key, repo, commit, name } = input
    const context = Context.current()
    const beat = setInterval(() => context.heartbeat(), BEAT_MS)
    await mkdir(deps.scratch, { recursive: true })
    const dir = await mkdtemp(join(deps.scratch, 'build-'))
    const output = await open(join(dir, 'log'), 'w+')
    const { run, stage, job, attempt } = key
    const step = { stage, job, attempt, step: 0, name: `docker build ${input.context}` }
    const pump = createLogPump({
      server,
      log: { ...key, step: 0 },
      secrets: await server.secrets(key),
      read: async (offset, limit) => {
        const { bytesRead, buffer } = await output.read(Buffer.alloc(limit), 0, limit, offset)
        return buffer.subarray(0, bytesRead)
      },
    })
    let writes = Promise.resolve()
    const pumping = setInterval(() => {
      writes = writes.then(() => pump.pump()).then(() => undefined)
    }, 250)
    const write = (text: string) => {
      writes = writes.then(async () => void (await output.appendFile(text)))
    }
    try {
      await server.events(run, [{ key: `${jobId(key)}/0:started`, events: [{ type: 'step.started.v1', ...step }] }])
      const tree = join(dir, 'tree')
      await mkdir(tree)
      const mirror = await deps.mirrors.ensure(repo, deps.sourceOf(repo), commit)
      await checkout(mirror, commit, tree, context.cancellationSignal)
      let result: Awaited<ReturnType<NodeActivities['buildImage']>>
      try {
        const deliverable = await deps.images.build({
          checkout: tree,
          context: input.context,
          dockerfile: input.dockerfile,
          repo,
          name,
          commit,
          run,
          ...(input.to === undefined ? {} : { to: input.to }),
          write,
          signal: context.cancellationSignal,
        })
        result = { outcome: 'succeeded', deliverable }
      } catch (err) {
        if (!(err instanceof BuildFailed)) throw err
        result = { outcome: 'failed', reason: err.message }
      }
      clearInterval(pumping)
      await writes
      const { size } = await output.stat()
      const sha256 = await digestOf(join(dir, 'log'))
      const exitCode = result.outcome === 'succeeded' ? 0 : 1
      await pump.finish({ exitCode, timedOut: false, pipeBytes: size, fileBytes: size, sha256 })
      const { outcome, reason } = result
      const ended = { ...step, outcome, exitCode, ...(reason === undefined ? {} : { reason }) }
      await server.events(run, [{ key: `${jobId(key)}/0:finished`, events: [{ type: 'step.finished.v1', ...ended }] }])
      return result
    } finally {
      clearInterval(pumping)
      clearInterval(beat)
      await writes.catch(warnAbout('a build log was not stored'))
      await output.close()
      await rm(dir, { recursive: true, force: true })
    }
  }

  function warnAbout(message: string) {
    return (err: unknown) => log.warn({ err }, message)
  }

  /** Beats, because a container may take its grace. */
  async function endContainers({ key, segments }: Parameters<NodeActivities['endContainers']>[0]): Promise<void> {
    const beat = setInterval(() => Context.current().heartbeat(), BEAT_MS)
    try {
      for (let segment = 0; segment < segments; segment++) await engine.stop(key, segment, 0)
    } finally {
      clearInterval(beat)
    }
  }

  return {
    runSegment,
    buildImage,
    endContainers,
    removeVolumes: ({ key }: { readonly key: JobKey }) => engine.removeVolumes(key),
  }
}

function verdictOf(end: StepEnd): { readonly outcome: Outcome; readonly reason?: string } {
  if (end.timedOut) return { outcome: 'failed', reason: 'it ran into its time limit' }
  if (end.exitCode !== 0) return { outcome: 'failed', reason: `exit code ${end.exitCode}` }
  return { outcome: 'succeeded' }
}

type EndedByUs = { readonly kind: 'canceled' | 'overdue' }

function whyEnded(end: ContainerEnd | EndedByUs | undefined, memoryLimit: number) {
  switch (end?.kind) {
    case 'overdue':
      return {
        outcome: 'failed',
        reason: 'it ran into its time limit, and what should have ended it there did not',
      } as const
    case undefined:
      return { outcome: 'errored', reason: 'the container ended and nothing tells how', lost: true } as const
    case 'canceled':
      return { outcome: 'canceled' } as const
    case 'lost':
      return { outcome: 'errored', reason: end.reason, lost: true } as const
    case 'exited':
      if (end.memoryKill) {
        const reason = `out of memory (limit ${Math.round(memoryLimit / 1024 ** 2)} MiB)`
        return { outcome: 'failed', reason } as const
      }
      return {
        outcome: 'failed',
        reason: `the container ended with exit code ${end.code} in the middle of a step`,
      } as const
  }
}

/** By name, through whatever reported it: the job removed or replaced files that its records stand in. */
function tamperingIn(err: unknown): string | undefined {
  if (!(err instanceof Error)) return undefined
  return err.name === 'Tampered' ? err.message : tamperingIn(err.cause)
}

/** When all have ended, also where one failed: then with its reason. */
async function allOf(work: readonly Promise<unknown>[]): Promise<void> {
  for (const done of await Promise.allSettled(work)) if (done.status === 'rejected') throw done.reason
}

function withoutLost({ outcome, reason }: { readonly outcome: Outcome; readonly reason?: string }) {
  return { outcome, ...(reason === undefined ? {} : { reason }) }
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}
