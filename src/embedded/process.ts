import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** A process as it can be told apart from a later one with the same pid. */
export interface ProcessId {
  readonly pid: number
  /** When it began, in the kernel's own words; compared, never parsed. */
  readonly startedAt: string
}

/** What `pid` is now; undefined when there is none, or only a zombie of it. */
export async function identify(pid: number): Promise<ProcessId | undefined> {
  const startedAt = process.platform === 'linux' ? startOnLinux(pid) : await startByPs(pid)
  return startedAt === undefined ? undefined : { pid, startedAt }
}

const STATE_AFTER_NAME = 0
const START_AFTER_NAME = 19

function startOnLinux(pid: number): string | undefined {
  const stat = readOrNothing(`/proc/${pid}/stat`)
  if (stat === undefined) return undefined
  // The name in parentheses may hold anything, so fields count from its end.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const state = fields[STATE_AFTER_NAME]
  return state === 'Z' || state === 'X' ? undefined : `${bootId()}/${fields[START_AFTER_NAME]}`
}

/** Start times count from the boot, so they say something only together with it. */
function bootId(): string {
  return (readOrNothing('/proc/sys/kernel/random/boot_id') ?? 'unknown').trim()
}

function readOrNothing(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined // gone, or not ours to read: for the caller both mean "no such process of mine"
  }
}

async function startByPs(pid: number): Promise<string | undefined> {
  try {
    const { stdout } = await run('ps', ['-o', 'lstart=', '-p', String(pid)])
    return stdout.trim() || undefined
  } catch {
    return undefined // ps exits with 1 when there is no such process
  }
}

export async function isAlive(id: ProcessId): Promise<boolean> {
  return (await identify(id.pid))?.startedAt === id.startedAt
}

/**
 * SIGTERM, then SIGKILL after `graceMs`; resolves when the process is gone. Does nothing if the pid belongs to another
 * process by now. Returns whether there was something to stop.
 */
export async function stopProcess(id: ProcessId, graceMs: number): Promise<boolean> {
  if (!(await isAlive(id))) return false
  signal(id.pid, 'SIGTERM')
  if (!(await gone(id, graceMs))) {
    if (await isAlive(id)) signal(id.pid, 'SIGKILL')
    if (!(await gone(id, KILL_WAIT_MS))) throw new Error(`process ${id.pid} does not end, not even by SIGKILL`)
  }
  return true
}

const KILL_WAIT_MS = 10_000
const POLL_MS = 25

async function gone(id: ProcessId, withinMs: number): Promise<boolean> {
  const until = performance.now() + withinMs
  while (await isAlive(id)) {
    if (performance.now() >= until) return false
    await sleep(POLL_MS)
  }
  return true
}

function signal(pid: number, name: 'SIGTERM' | 'SIGKILL'): void {
  try {
    process.kill(pid, name)
  } catch (err) {
    // It ended between the look and the signal.
    if (!(err instanceof Error && 'code' in err && err.code === 'ESRCH')) throw err
  }
}

/** Processes whose environment holds exactly `NAME=value` (Linux; elsewhere none): those that no record names any more. */
export async function processesWith(variable: string, value: string): Promise<readonly ProcessId[]> {
  if (process.platform !== 'linux') return []
  const wanted = `${variable}=${value}`
  const found: ProcessId[] = []
  for (const entry of readdirSync('/proc')) {
    if (!/^[0-9]+$/.test(entry) || Number(entry) === process.pid) continue
    const environment = readOrNothing(`/proc/${entry}/environ`)
    if (environment === undefined || !environment.split('\0').includes(wanted)) continue
    const id = await identify(Number(entry))
    if (id !== undefined) found.push(id)
  }
  return found
}
