import type { ContainerEnd } from '../types.ts'
import type { Journal } from './journal.ts'

export interface ContainerFacts {
  readonly state: {
    readonly Status: string
    readonly ExitCode: number
    readonly OOMKilled: boolean
    readonly Error: string
    readonly StartedAt: string
    readonly FinishedAt: string
  }
  readonly journal: Journal | undefined
  readonly stoppedByUs: boolean
  /** Milliseconds since 1970; undefined where Docker does not tell. */
  readonly daemonStart: number | undefined
}

const SIGKILLED = 137
/** A daemon that comes back ends what it finds before it makes its network, by which we know its start: 10 s and more. */
const RESTORE_MS = 60_000

/** The wrapper has been there: a container existed. */
export function createdBy(journal: Journal | undefined): boolean {
  return journal !== undefined && journal.gate !== 'absent'
}

/**
 * Docker's exit code alone decides nothing: 137 is a memory kill, a user's `exit 137` (which the wrapper turns into 1),
 * or a daemon that came back after a crash and ended what it found running.
 */
export function toContainerEnd({ state, journal, stoppedByUs, daemonStart }: ContainerFacts): ContainerEnd | undefined {
  if (state.Status === 'created' && (state.ExitCode !== 0 || state.Error !== '')) {
    return { kind: 'lost', reason: `the container could not start: ${state.Error || `exit code ${state.ExitCode}`}` }
  }
  if (state.Status !== 'exited' && state.Status !== 'dead') return undefined
  if (stoppedByUs) return { kind: 'exited', code: state.ExitCode, memoryKill: state.OOMKilled }
  const terminated = journal?.terminated === true
  // A wrapper that finished its steps wrote down how they ended, whatever ended the container afterwards.
  const finishedItself = journal?.finished === true && !terminated
  if (finishedItself || state.OOMKilled) return { kind: 'exited', code: state.ExitCode, memoryKill: state.OOMKilled }
  const neverOpened = journal?.gate !== 'open'
  if (daemonStart !== undefined && (terminated || neverOpened || state.ExitCode === SIGKILLED)) {
    // A daemon that comes back ends what it finds running: SIGTERM, 10 s, SIGKILL.
    if (Date.parse(state.StartedAt) < daemonStart && Date.parse(state.FinishedAt) >= daemonStart - RESTORE_MS) {
      const at = new Date(daemonStart).toISOString()
      return {
        kind: 'lost',
        reason: `Docker on this node went away without warning, and ended the container when it came back at ${at}`,
      }
    }
  }
  if (terminated) {
    return {
      kind: 'lost',
      reason:
        'the container was told to stop (SIGTERM) by something other than Penstock: Docker shutting down, or a person',
    }
  }
  // Nothing of the user's ran yet.
  if (neverOpened)
    return { kind: 'lost', reason: `the container ended with exit code ${state.ExitCode} before its first step` }
  return { kind: 'exited', code: state.ExitCode, memoryKill: state.OOMKilled }
}
