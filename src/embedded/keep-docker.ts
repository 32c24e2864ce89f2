import { setTimeout as sleep } from 'node:timers/promises'
import { DaemonRecord, daemonRecord, type EnsureDocker, ensureDocker } from './docker.ts'
import { readJson } from './files.ts'
import { isAlive } from './process.ts'

const LOOK_MS = 1_000
const LONGEST_PAUSE_MS = 30_000

/**
 * Starts the dockerd that was started for this data directory again whenever it has died, until `stop`. An engine that
 * somebody else started is left to them.
 */
export function keepDocker(options: EnsureDocker): { stop(): Promise<void> } {
  const stopping = new AbortController()
  const pause = (ms: number) => sleep(ms, undefined, { signal: stopping.signal, ref: false }).catch(() => {})

  async function keep(): Promise<void> {
    let failures = 0
    while (!stopping.signal.aborted) {
      await pause(Math.min(LOOK_MS * 2 ** failures, LONGEST_PAUSE_MS))
      if (stopping.signal.aborted) return
      try {
        const daemon = readJson(daemonRecord(options.dataDir), DaemonRecord)
        if (daemon !== undefined && !(await isAlive(daemon))) {
          const { started } = await ensureDocker(options)
          if (started) options.say(`dockerd (process ${daemon.pid}) had died; it is there again`)
        }
        failures = 0
      } catch (err) {
        failures++
        options.say(`dockerd has died and cannot be started: ${err instanceof Error ? err.message : String(err)}`)
      }
    }
  }

  const kept = keep()
  return {
    stop() {
      stopping.abort()
      return kept
    },
  }
}
