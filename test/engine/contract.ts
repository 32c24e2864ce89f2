import { createHash } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { JobKey } from '../../src/core/ids.ts'
import type { Job } from '../../src/core/plan.ts'
import {
  type Cluster,
  type ContainerEnd,
  EngineRefused,
  type NodeEngine,
  type SegmentState,
} from '../../src/engine/types.ts'
import { aJob, aKey, aStep } from '../helpers/docker.ts'

export interface EngineUnderTest {
  readonly cluster: Cluster
  readonly node: NodeEngine
  /** The engine of another worker process on the same node. */
  another(): NodeEngine
  readonly image: string
  close(): Promise<void>
}

/** The commands of this test; a fake must do what a shell does with them. */
export const STEPS = {
  hello: 'echo hello',
  fails: 'exit 3',
  hangs: 'sleep 600',
  numbers: 'seq 1 1000',
  writes: 'mkdir -p out/deep && echo "<a/>" > out/deep/report.xml && echo b > out/other.txt',
  reads: 'cat out/other.txt',
} as const

/** Output of `numbers`, with the line that shows the command. */
const NUMBERS = `$ seq 1 1000\n${Array.from({ length: 1000 }, (_, index) => `${index + 1}\n`).join('')}`

export async function begin(engine: EngineUnderTest, key: JobKey, job: Job, segment = 0, firstStep = 0): Promise<void> {
  const { cluster, node } = engine
  const content = job.segments[segment]
  if (content === undefined) throw new Error(`no segment ${segment}`)
  await cluster.ensureNetwork(key.run)
  const { id } = await node.nodeId()
  const image = await cluster.resolveImage(content.image)
  await cluster.startSegment({ key, job, segment, image, ...(segment === 0 ? {} : { node: id }) })
  await node.prepareVolumes(key, segment)
  await node.writeSegment({
    key,
    segment,
    content,
    firstStep,
    env: job.env,
    secretEnv: job.secrets.filter(({ env }) => env).map(({ name }) => name),
    workdir: job.workdir,
    timeoutSeconds: job.timeoutSeconds,
    graceSeconds: 1,
  })
  expect(await node.openGate(key, segment, AbortSignal.timeout(20_000))).toBe('opened')
}

/** Follows the segment until the condition holds. */
export async function until(
  node: NodeEngine,
  key: JobKey,
  segment: number,
  holds: (state: SegmentState) => boolean,
): Promise<SegmentState> {
  const signal = AbortSignal.timeout(25_000)
  while (true) {
    const state = await node.observe(key, segment)
    if (holds(state)) return state
    await node.waitForChange(key, segment, 200, signal)
  }
}

export const finished = (state: SegmentState) => state.finished

export async function containerEnd(node: NodeEngine, key: JobKey, segment = 0): Promise<ContainerEnd> {
  const deadline = Date.now() + 25_000
  while (Date.now() < deadline) {
    const end = await node.ended(key, segment)
    if (end !== undefined) return end
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error('the container did not end')
}

export async function wholeLog(node: NodeEngine, key: JobKey, segment: number, step: number): Promise<Buffer> {
  const parts: Buffer[] = []
  for (let offset = 0; ; ) {
    const part = await node.readLog(key, segment, step, offset, 65_536)
    if (part.length === 0) return Buffer.concat(parts)
    parts.push(part)
    offset += part.length
  }
}

export const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

/** What both the real Swarm and the fake must do. */
export function engineContract(name: string, make: () => Promise<EngineUnderTest>): void {
  describe(`${name}: the engine's contract`, () => {
    let engine: EngineUnderTest
    const used: JobKey[] = []
    const newKey = () => {
      const key = aKey()
      used.push(key)
      return key
    }

    beforeAll(async () => {
      engine = await make()
    })
    afterEach(async () => {
      for (const key of used.splice(0)) {
        await engine.cluster.removeRun(key.run)
        await engine.node.removeVolumes(key)
      }
    })
    afterAll(() => engine.close())

    test('adjacent steps run in order in one container, each with a log that its record proves', async () => {
      const key = newKey()
      const job = aJob(engine.image, [aStep(STEPS.hello), aStep(STEPS.numbers)])

      await begin(engine, key, job)
      const state = await until(engine.node, key, 0, finished)

      const logs = [await wholeLog(engine.node, key, 0, 0), await wholeLog(engine.node, key, 0, 1)]
      expect(logs.map(String)).toEqual(['$ echo hello\nhello\n', NUMBERS])
      expect(state.steps.map(({ end }) => end)).toEqual(
        logs.map((log) => ({
          exitCode: 0,
          timedOut: false,
          pipeBytes: log.length,
          fileBytes: log.length,
          sha256: sha256(log),
        })),
      )
      expect(await containerEnd(engine.node, key)).toEqual({ kind: 'exited', code: 0, memoryKill: false })
    })

    test('a log is read in parts from any offset, and is empty at its end', async () => {
      const key = newKey()
      await begin(engine, key, aJob(engine.image, [aStep(STEPS.numbers)]))
      await until(engine.node, key, 0, finished)

      const part = await engine.node.readLog(key, 0, 0, 13, 6)
      const rest = await engine.node.readLog(key, 0, 0, NUMBERS.length, 100)

      expect(String(part)).toBe('1\n2\n3\n')
      expect(rest.length).toBe(0)
    })

    test('a failing step ends the segment, and the steps after it never start', async () => {
      const key = newKey()
      await begin(engine, key, aJob(engine.image, [aStep(STEPS.hello), aStep(STEPS.fails), aStep(STEPS.hello)]))

      const state = await until(engine.node, key, 0, finished)

      expect(state.steps.map(({ started, end }) => [started, end?.exitCode])).toEqual([
        [true, 0],
        [true, 3],
        [false, undefined],
      ])
      expect(await containerEnd(engine.node, key)).toEqual({ kind: 'exited', code: 3, memoryKill: false })
    })

    test('every verb may be repeated, and the job still runs once', async () => {
      const key = newKey()
      const job = aJob(engine.image, [aStep(STEPS.hello)])
      const { cluster, node } = engine

      await begin(engine, key, job)
      await begin(engine, key, job)
      await until(node, key, 0, finished)
      await begin(engine, key, job)

      expect(String(await wholeLog(node, key, 0, 0))).toBe('$ echo hello\nhello\n')
      for (let times = 0; times < 2; times++) {
        await cluster.removeJob(key)
        await node.removeVolumes(key)
        await cluster.removeNetwork(key.run)
        await cluster.removeRun(key.run)
      }
    })

    test('a worker that takes over finds the same gate, records and bytes', async () => {
      const key = newKey()
      await begin(engine, key, aJob(engine.image, [aStep(STEPS.hello), aStep(STEPS.hangs)]))
      const before = await until(engine.node, key, 0, (state) => state.steps[1]?.logBytes === '$ sleep 600\n'.length)

      const successor = engine.another()
      const after = await successor.observe(key, 0)

      expect(after).toEqual(before)
      expect(await successor.openGate(key, 0, AbortSignal.timeout(5000))).toBe('opened')
      expect(String(await successor.readLog(key, 0, 0, 2, 4))).toBe('echo')
    })

    test('stopping ends the step, later steps do not start, and it is seen that it was stopped', async () => {
      const key = newKey()
      await begin(engine, key, aJob(engine.image, [aStep(STEPS.hangs), aStep(STEPS.hello)]))
      await until(engine.node, key, 0, (state) => state.steps[0]?.started === true)

      await engine.node.stop(key, 0, 5000)

      const state = await engine.node.observe(key, 0)
      expect(state.stopped).toBe(true)
      expect(state.steps[0]?.end?.exitCode).toBe(143)
      expect(state.steps[1]?.started).toBe(false)
      expect((await containerEnd(engine.node, key)).kind).toBe('exited')
      await engine.node.stop(key, 0, 5000)
    })

    test("a step's own time limit ends it as timed out", async () => {
      const key = newKey()
      await begin(engine, key, aJob(engine.image, [aStep(STEPS.hangs, { timeoutSeconds: 1 }), aStep(STEPS.hello)]))

      const state = await until(engine.node, key, 0, finished)

      expect(state.steps[0]?.end).toMatchObject({ timedOut: true, exitCode: 143 })
      expect(state.steps[1]?.started).toBe(false)
    })

    test("the segment's time limit counts over all its steps", async () => {
      const key = newKey()
      await begin(engine, key, aJob(engine.image, [aStep(STEPS.hello), aStep(STEPS.hangs)], { timeoutSeconds: 1 }))

      const state = await until(engine.node, key, 0, finished)

      expect(state.steps.map(({ end }) => end?.timedOut)).toEqual([false, true])
    })

    test('a later segment goes on in the same workspace, and counts its steps on', async () => {
      const key = newKey()
      const job = aJob(engine.image, [aStep(STEPS.writes)])
      const both = { ...job, segments: [...job.segments, { image: engine.image, steps: [aStep(STEPS.reads)] }] }
      await begin(engine, key, both)
      await until(engine.node, key, 0, finished)

      await begin(engine, key, both, 1, 1)
      const state = await until(engine.node, key, 1, finished)

      expect(state.steps.map(({ index, end }) => [index, end?.exitCode])).toEqual([[1, 0]])
      expect(String(await wholeLog(engine.node, key, 1, 1))).toBe('$ cat out/other.txt\nb\n')
    })

    test('files of the workspace are read by pattern, and too many are refused', async () => {
      const key = newKey()
      await begin(engine, key, aJob(engine.image, [aStep(STEPS.writes)]))
      await until(engine.node, key, 0, finished)
      await containerEnd(engine.node, key)

      const reports = await engine.node.readWorkspaceFiles(key, ['**/*.xml'], { files: 5, bytes: 1000 })

      expect(reports.map(({ path, bytes }) => [path, String(bytes)])).toEqual([['out/deep/report.xml', '<a/>\n']])
      await expect(engine.node.readWorkspaceFiles(key, ['**'], { files: 1, bytes: 1000 })).rejects.toThrow(
        EngineRefused,
      )
    })

    test('what has not been started yet is absent, and nothing about it throws', async () => {
      const key = newKey()

      expect(await engine.cluster.placement(key, 0)).toEqual({ kind: 'absent' })
      expect(await engine.node.observe(key, 0)).toEqual({ gate: 'absent', steps: [], finished: false, stopped: false })
      expect(await engine.node.ended(key, 0)).toBeUndefined()
      expect((await engine.node.readLog(key, 0, 0, 0, 10)).length).toBe(0)
      await engine.node.stop(key, 0, 100)
    })

    test('a running task is placed on its node, an ended one has its exit code, a removed one is absent', async () => {
      const key = newKey()
      const { id } = await engine.node.nodeId()
      await begin(engine, key, aJob(engine.image, [aStep(STEPS.fails)]))
      await until(engine.node, key, 0, finished)

      await expect
        .poll(() => engine.cluster.placement(key, 0), { timeout: 10_000 })
        .toMatchObject({ kind: 'ended', node: id, exitCode: 3 })

      await engine.cluster.removeJob(key)
      expect(await engine.cluster.placement(key, 0)).toEqual({ kind: 'absent' })
    })

    test('a constraint that no node meets is told in advance, and the task stays pending with a reason', async () => {
      const key = newKey()
      const job = aJob(engine.image, [aStep(STEPS.hello)], { constraints: ['node.labels.color==blue'] })

      const answer = await engine.cluster.canPlace(job)
      await engine.cluster.ensureNetwork(key.run)
      await engine.cluster.startSegment({
        key,
        job,
        segment: 0,
        image: await engine.cluster.resolveImage(engine.image),
      })

      expect(answer).toMatchObject({ kind: 'no', sentence: expect.stringContaining('node.labels.color==blue') })
      await expect
        .poll(() => engine.cluster.placement(key, 0), { timeout: 10_000 })
        .toMatchObject({ kind: 'pending', reason: expect.stringContaining('no suitable node') })
    })

    test('no job goes to a node whose worker is not alive, until it is again', async () => {
      const key = newKey()
      const { id } = await engine.node.nodeId()
      await engine.cluster.setWorkerAlive(id, false)
      await engine.cluster.setWorkerAlive(id, false)
      await engine.cluster.ensureNetwork(key.run)
      await engine.cluster.startSegment({
        key,
        job: aJob(engine.image, [aStep(STEPS.hello)]),
        segment: 0,
        image: await engine.cluster.resolveImage(engine.image),
      })
      await expect.poll(() => engine.cluster.placement(key, 0), { timeout: 10_000 }).toMatchObject({ kind: 'pending' })

      await engine.cluster.setWorkerAlive(id, true)

      await expect
        .poll(() => engine.cluster.placement(key, 0), { timeout: 10_000 })
        .toMatchObject({ kind: 'assigned', node: id })
      expect((await engine.cluster.nodes()).find((node) => node.id === id)).toMatchObject({
        ready: true,
        workerAlive: true,
      })
    })

    test('a secret that was not made is refused before anything runs', async () => {
      const key = newKey()
      const job = aJob(engine.image, [aStep(STEPS.hello)], { secrets: [{ name: 'TOKEN', env: true }] })

      const start = engine.cluster.startSegment({ key, job, segment: 0, image: 'sha256:0' })

      await expect(start).rejects.toThrow('TOKEN')
    })

    test('a run that owns something is listed until everything of it is removed', async () => {
      const key = newKey()
      await engine.cluster.ensureNetwork(key.run)
      await engine.cluster.ensureSecrets(key, [{ name: 'TOKEN', value: 'not-to-be-seen' }])
      expect(await engine.cluster.ownedRuns()).toContain(key.run)

      await engine.cluster.removeRun(key.run)

      expect(await engine.cluster.ownedRuns()).not.toContain(key.run)
    })

    test('the sweep removes volumes of runs that are not alive, and leaves the others', async () => {
      const [dead, live] = [newKey(), newKey()]
      await engine.node.prepareVolumes(dead, 0)
      await engine.node.prepareVolumes(live, 0)

      const removed = await engine.node.sweep(async () => new Set([live.run]))

      expect(removed.length).toBeGreaterThan(0)
      expect(await engine.node.sweep(async () => new Set([live.run]))).toEqual([])
      expect((await engine.node.sweep(async () => new Set())).length).toBeGreaterThan(0)
    })

    test('the sweep takes nothing from a run that begins while it goes on', async () => {
      const [dead, fresh] = [newKey(), newKey()]
      await engine.node.prepareVolumes(dead, 0)

      const removed = await engine.node.sweep(async () => {
        const asked = new Set<string>()
        // Begun after the answer was made, and before it arrives.
        await engine.node.prepareVolumes(fresh, 0)
        return asked
      })

      expect(removed.length).toBeGreaterThan(0)
      expect((await engine.node.sweep(async () => new Set([dead.run]))).length).toBeGreaterThan(0)
    })

    test('waiting for a change ends after its time, and at once when it is called off', async () => {
      const key = newKey()
      await begin(engine, key, aJob(engine.image, [aStep(STEPS.hangs)]))

      await engine.node.waitForChange(key, 0, 30, AbortSignal.timeout(5000))

      await expect(
        engine.node.waitForChange(key, 0, 60_000, AbortSignal.abort(new Error('called off'))),
      ).rejects.toThrow('called off')
    })
  })
}
