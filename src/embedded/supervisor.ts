import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, rmSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { instanceOf, openDataDir, readJson, type Say, tail, writeJson } from './files.ts'
import { takeLock } from './lock.ts'
import { identify, isAlive, type ProcessId, processesWith, stopProcess } from './process.ts'

/** A process to start and to keep running. */
export interface ProcessSpec {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  /** Started in rising order, each phase when the one before is ready; stopped in falling order. */
  readonly phase: number
  /** Asked until it says true. Absent: the process is ready when it has written the file that PENSTOCK_READY_FILE names. */
  readonly ready?: () => Promise<boolean>
  /** From SIGTERM to SIGKILL. */
  readonly stopGraceMs: number
}

/** In the environment of every supervised process: by it a leftover is found when no record names it. */
export const SUPERVISED = 'PENSTOCK_SUPERVISED'

const Records = z.array(z.object({ name: z.string(), pid: z.number(), startedAt: z.string() }))

export function processRecords(dataDir: string): string {
  return path.join(dataDir, 'processes.json')
}

const READY_LIMIT_MS = 60_000
const READY_POLL_MS = 50
const FIRST_BACKOFF_MS = 200
const LONGEST_BACKOFF_MS = 10_000
/** A process that lived this long had no trouble starting, so the next restart is immediate again. */
const STABLE_MS = 30_000
const LEFTOVER_GRACE_MS = 5_000

export interface Supervisor {
  /** Ends orderly, falling phase by falling phase. Repeatable. */
  stop(): Promise<void>
  /** The processes as they are now, by name. */
  running(): readonly (ProcessId & { readonly name: string })[]
}

interface Watched {
  readonly spec: ProcessSpec
  child?: ChildProcess
  id?: ProcessId
  /** Resolves when the loop that keeps it running has ended. */
  loop?: Promise<void>
}

/**
 * Starts the processes of `specs`, and those again that die. Takes the data directory for itself; ends what a killed
 * predecessor left running, but only processes that are provably its own. Throws, with everything stopped, when one
 * does not become ready.
 */
export async function superviseAll(options: {
  readonly dataDir: string
  readonly specs: readonly ProcessSpec[]
  readonly say: Say
}): Promise<Supervisor> {
  const dataDir = openDataDir(options.dataDir)
  const release = await takeLock(dataDir)
  const logs = path.join(dataDir, 'logs')
  mkdirSync(logs, { recursive: true })
  const stopping = new AbortController()
  const watched: Watched[] = options.specs.map((spec) => ({ spec }))

  const record = () => {
    const alive = watched.flatMap(({ spec, id }) => (id === undefined ? [] : [{ name: spec.name, ...id }]))
    try {
      writeJson(processRecords(dataDir), alive)
    } catch (err) {
      // What is left running is found by its environment, too: that only takes longer.
      options.say(`which processes run could not be written down: ${err instanceof Error ? err.message : String(err)}`)
    }
  }
  const logOf = (spec: ProcessSpec) => path.join(logs, `${spec.name}.log`)
  const readyFileOf = (spec: ProcessSpec) => path.join(dataDir, `${spec.name}.ready`)

  /** The end is wrapped: a bare promise would be awaited by whoever awaits the start. */
  const start = async (one: Watched): Promise<{ readonly ended: Promise<string> }> => {
    const { spec } = one
    const log = openSync(logOf(spec), 'a', 0o600)
    rmSync(readyFileOf(spec), { force: true })
    // A group of its own: Ctrl-C in the terminal reaches the supervisor alone, which then stops the others in order.
    const child = spawn(spec.command, [...spec.args], {
      detached: true,
      stdio: ['ignore', log, log],
      env: { ...spec.env, [SUPERVISED]: instanceOf(dataDir), PENSTOCK_READY_FILE: readyFileOf(spec) },
    })
    closeSync(log)
    const ended = new Promise<string>((resolve) => {
      child.once('exit', (code, signal) => resolve(signal === null ? `exit code ${code}` : signal))
      child.once('error', (err) => resolve(err.message))
    })
    const id = child.pid === undefined ? undefined : await identify(child.pid)
    one.child = child
    if (id === undefined) delete one.id
    else one.id = id
    record()
    return { ended }
  }

  const becomesReady = async (spec: ProcessSpec, ended: Promise<string>): Promise<void> => {
    const until = performance.now() + READY_LIMIT_MS
    let end: string | undefined
    const watch = ended.then((how) => {
      end = how
    })
    const isReady = spec.ready ?? (() => Promise.resolve(existsSync(readyFileOf(spec))))
    while (!stopping.signal.aborted) {
      if (await isReady()) return
      if (end !== undefined)
        throw new Error(
          `${spec.name} ended (${end}) before it was ready; the end of ${logOf(spec)}:\n${tail(logOf(spec))}`,
        )
      if (performance.now() > until) {
        throw new Error(
          `${spec.name} was not ready within ${READY_LIMIT_MS / 1000} s; the end of ${logOf(spec)}:\n${tail(logOf(spec))}`,
        )
      }
      await Promise.race([sleep(READY_POLL_MS), watch])
    }
  }

  const keepRunning = async (one: Watched, first: Promise<string>): Promise<void> => {
    let ended = first
    let backoff = FIRST_BACKOFF_MS
    let startedAt = performance.now()
    for (;;) {
      const how = await ended
      if (stopping.signal.aborted) return
      if (performance.now() - startedAt > STABLE_MS) backoff = FIRST_BACKOFF_MS
      const last = tail(logOf(one.spec), 5)
      options.say(
        `${one.spec.name} ended (${how}); starting it again in ${backoff} ms${last === '' ? '' : `; its last lines:\n${last}`}`,
      )
      try {
        await sleep(backoff, undefined, { signal: stopping.signal })
      } catch {
        return // stopped while waiting: nothing is to be started any more
      }
      backoff = Math.min(backoff * 2, LONGEST_BACKOFF_MS)
      startedAt = performance.now()
      try {
        ended = (await start(one)).ended
      } catch (err) {
        ended = Promise.resolve(`it could not be started: ${err instanceof Error ? err.message : String(err)}`)
      }
      // `stop` may have looked before this one was there.
      if (stopping.signal.aborted && one.id !== undefined) await stopProcess(one.id, one.spec.stopGraceMs)
    }
  }

  const phases = [...new Set(options.specs.map(({ phase }) => phase))].sort((a, b) => a - b)

  const stop = async () => {
    stopping.abort()
    const failures: unknown[] = []
    for (const phase of phases.toReversed()) {
      const ends = watched
        .filter(({ spec }) => spec.phase === phase)
        .map(async ({ spec, id, loop }) => {
          if (id !== undefined) await stopProcess(id, spec.stopGraceMs)
          await loop
        })
      for (const result of await Promise.allSettled(ends))
        if (result.status === 'rejected') failures.push(result.reason)
    }
    rmSync(processRecords(dataDir), { force: true })
    for (const { spec } of watched) rmSync(readyFileOf(spec), { force: true })
    release()
    if (failures.length > 0) throw new AggregateError(failures, 'not every process could be stopped')
  }

  try {
    await stopLeftovers(dataDir, options.say)
    for (const phase of phases) {
      const members = watched.filter(({ spec }) => spec.phase === phase)
      const results = await Promise.allSettled(
        members.map(async (one) => {
          const { ended } = await start(one)
          await becomesReady(one.spec, ended)
          one.loop = keepRunning(one, ended)
        }),
      )
      for (const result of results) if (result.status === 'rejected') throw result.reason
    }
  } catch (err) {
    await stop()
    throw err
  }
  return {
    stop,
    running: () => watched.flatMap(({ spec, id }) => (id === undefined ? [] : [{ name: spec.name, ...id }])),
  }
}

/** Ends what a predecessor that was killed left running. Returns the names of what it ended. */
export async function stopLeftovers(dataDir: string, say: Say): Promise<readonly string[]> {
  const recorded = readJson(processRecords(dataDir), Records) ?? []
  const unrecorded = (await processesWith(SUPERVISED, instanceOf(dataDir)))
    .filter(({ pid }) => !recorded.some((one) => one.pid === pid))
    .map((id) => ({ name: `process ${id.pid}`, ...id }))
  const stopped: string[] = []
  for (const { name, ...id } of [...recorded, ...unrecorded]) {
    if (!(await isAlive(id))) continue
    say(`ending ${name}, left running by an earlier start`)
    if (await stopProcess(id, LEFTOVER_GRACE_MS)) stopped.push(name)
  }
  rmSync(processRecords(dataDir), { force: true })
  return stopped
}
