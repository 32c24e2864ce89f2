import { writeFileSync } from 'node:fs'
import { type Logger, pino } from 'pino'
import type { Config } from '../src/config/types.ts'

/** What every process of Penstock shares: its log, its end, and how it says that it is ready. */
export function createLog(name: string): Logger {
  return pino({ name, level: process.env.PENSTOCK_LOG_LEVEL ?? 'info', base: { name, pid: process.pid } })
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
