import { writeFileSync, writeSync } from 'node:fs'
import { type Logger, pino } from 'pino'
import type { Config } from '../src/config/types.ts'

/** What every process of Penstock shares: its log, its end, and how it says that it is ready. */
export function createLog(name: string): Logger {
  const level = process.env.PENSTOCK_LOG_LEVEL ?? 'info'
  // What libraries write there themselves is as little worth an end.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  return pino({ name, level, base: { name, pid: process.pid } }, { write: writeLine })
}

const STDOUT = 1
/** Of somebody who reads the log slowly. */
const MOST_WAITS = 100
const WAIT_MS = 10

/**
 * A log that cannot be written (its disk is full, nobody reads it any more) must not stop the program: pino's own stream
 * waits for such a disk for ever, with all that the process does. What cannot be written is lost.
 */
function writeLine(line: string): void {
  let rest = Buffer.from(line)
  for (let waits = 0; rest.length > 0 && waits < MOST_WAITS; ) {
    try {
      rest = rest.subarray(writeSync(STDOUT, rest))
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== 'EAGAIN') return
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WAIT_MS)
      waits++
    }
  }
}

/** Aborted at SIGTERM or SIGINT. A second signal ends the process at once. */
export function onShutdown(log: Logger): AbortSignal {
  const controller = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(1)
      log.info({ signal: name }, 'shutting down')
      controller.abort()
    })
  }
  return controller.signal
}

/** The supervisor waits for this file. */
export function announceReady(): void {
  const file = process.env.PENSTOCK_READY_FILE
  if (file) writeFileSync(file, String(process.pid))
}

export function databaseUrl(config: Config): string {
  return config.database.kind === 'sqlite' ? `sqlite:${config.database.path}` : config.database.url.reveal()
}

/** The first of the variables that is set. */
export function required(...names: readonly string[]): string {
  for (const name of names) {
    const value = process.env[name]
    if (value) return value
  }
  throw new Error(`${names.join(' or ')} must be set`)
}
