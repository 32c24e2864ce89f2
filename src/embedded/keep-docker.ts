import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { connectDocker } from '../engine/docker.ts'
import {
  answers,
  DaemonRecord,
  DEFAULT_SOCKET,
  daemonRecord,
  type EnsureDocker,
  ensureDocker,
  hasDaemon,
} from './docker.ts'
import { readJson } from './files.ts'

const LOOK_MS = 1_000
const LONGEST_PAUSE_MS = 30_000
/** Longer than somebody takes who starts the engine again by hand or script. */
const SILENT_MS = 20_000

/**
 * Starts dockerd again whenever it has died, until `stop`: at once if it was started for this data directory; if somebody
 * else started it, after they have had time to, and not where systemd looks after it or DOCKER_HOST names it.
 */
export function keepDocker(options: EnsureDocker): { stop(): Promise<void> } {
  const { dataDir, say, socket } = options
  const stopping = new AbortController()
  const docker = connectDocker({ DOCKER_HOST: `unix://${socket ?? DEFAULT_SOCKET}` })
  const isOthers = socket === undefined && (Boolean(options.env.DOCKER_HOST) || existsSync('/run/systemd/system'))
  let answered = performance.now()

  async function hasDied(): Promise<boolean> {
    // One that is there and hangs is not replaced: nobody knows what it still does.
    if (hasDaemon(options.runDir) || (await answers(docker)).ok) {
      answered = performance.now()
      return false
    }
    const isOurs = readJson(daemonRecord(dataDir), DaemonRecord) !== undefined
    return isOurs || (!isOthers && performance.now() - answered > SILENT_MS)
  }

  async function keep(): Promise<void> {
    let failures = 0
    while (!stopping.signal.aborted) {
      const pause = Math.min(LOOK_MS * 2 ** failures, LONGEST_PAUSE_MS)
      await sleep(pause, undefined, { signal: stopping.signal, ref: false }).catch(() => {})
      if (stopping.signal.aborted) return
      try {
        if ((await hasDied()) && (await ensureDocker(options)).started) say('dockerd had died; it is there again')
        failures = 0
      } catch (err) {
        failures++
        say(`dockerd has died and cannot be started: ${err instanceof Error ? err.message : String(err)}`)
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
