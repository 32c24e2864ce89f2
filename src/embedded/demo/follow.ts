import { setTimeout as sleep } from 'node:timers/promises'
import type { RunEvent } from '../../core/events.ts'
import { OUTCOMES, type Outcome } from '../../core/outcome.ts'
import type { GateRow } from '../../store/types.ts'
import type { Say } from '../files.ts'
import type { Api } from './api.ts'

const FOLLOW_MS = 200
const RUN_LIMIT_MS = 15 * 60_000

export interface Watch {
  readonly api: Api
  readonly say: Say
  /** Sees to a gate that is open; called once for each. */
  readonly answer: (number: number, gate: GateRow) => Promise<void>
  /** Sees to a manual test session that was opened. */
  readonly test: (number: number, session: OpenedSession) => Promise<void>
}

export type OpenedSession = Extract<RunEvent, { readonly type: 'session.opened.v1' }>

/** Tells every event of a run as it happens, and of the runs of its dependents; has its gate answered. */
export async function follow(watch: Watch, number: number): Promise<Outcome> {
  const { api, say } = watch
  const deadline = performance.now() + RUN_LIMIT_MS
  const answered = new Set<string>()
  const dependents: Promise<void>[] = []
  let seq = 0
  while (performance.now() < deadline) {
    for (const row of await api.events(number, seq)) {
      seq = row.seq
      const text = sentence(row.event)
      if (text) say(`run ${number}  ${text}`)
      dependents.push(...dependentsIn(row.event).map((one) => followDependent(watch, one)))
      if (row.event.type === 'session.opened.v1') await watch.test(number, row.event)
    }
    const run = await api.run(number)
    const outcome = OUTCOMES.find((one) => one === run.status)
    if (outcome) {
      if (run.reason && outcome !== 'succeeded') say(`run ${number}  ${outcome}: ${run.reason}`)
      await Promise.all(dependents)
      return outcome
    }
    for (const gate of run.status === 'waiting' ? await api.gates(number) : []) {
      if (gate.state !== 'open' || answered.has(gate.id)) continue
      answered.add(gate.id)
      await watch.answer(number, gate)
    }
    await sleep(FOLLOW_MS)
  }
  throw new Error(`run ${number} did not end within ${RUN_LIMIT_MS / 60_000} minutes`)
}

/** Never throws: what a dependent comes to is judged by the run that it tests. */
async function followDependent(watch: Watch, number: number): Promise<void> {
  try {
    await follow(watch, number)
  } catch (err) {
    watch.say(`run ${number}  can no longer be followed: ${err instanceof Error ? err.message : String(err)}`)
  }
}

function dependentsIn(event: RunEvent): readonly number[] {
  if (event.type !== 'dependents.started.v1') return []
  return event.dependents.flatMap(({ run }) => run ?? [])
}

function sentence(event: RunEvent): string | undefined {
  switch (event.type) {
    case 'stage.started.v1':
      return `${event.stage}`
    case 'stage.finished.v1':
      return `${event.stage}: ${event.outcome}${event.reason ? ` (${event.reason})` : ''}`
    case 'job.waiting.v1':
      return `  ${event.job} waits: ${event.waitingFor.sentence}`
    case 'lease.warned.v1':
      return `  ${event.holder} has to give ${event.pool}/${event.unit} back soon`
    case 'lease.revoked.v1':
      return `  ${event.holder} loses ${event.pool}/${event.unit}: ${event.reason}`
    case 'environment.waiting.v1':
      return `  waits for ${event.environment}: ${event.waitingFor.sentence}`
    case 'environment.acquired.v1':
      return `  ${event.environment} is this run's alone`
    case 'job.placed.v1':
      return `  ${event.job} on node ${event.node}`
    case 'step.finished.v1':
      return `    ${event.job} / ${event.name}: ${event.outcome}${event.reason ? ` (${event.reason})` : ''}`
    case 'deliverable.built.v1':
      return `  built ${event.name} ${event.digest.slice(0, 19)}`
    case 'deployment.recorded.v1':
      return `  ${event.environment} ${event.digest.slice(0, 19)}: ${event.state}`
    case 'dependents.started.v1':
      return event.dependents
        .map(({ repo, run, refused }) => `  dependent ${repo}: ${run === undefined ? refused : `run ${run}`}`)
        .join(', ')
    case 'session.opened.v1':
      return `  ${event.job}: ${event.items} things wait for a tester`
    case 'session.answered.v1':
      return `  ${event.by}: ${event.item}: ${event.result}`
    case 'session.finished.v1':
      return `  ${event.job}: finished by ${event.by}`
    case 'gate.opened.v1':
      return `  waits for people: ${event.needs}`
    case 'gate.voted.v1':
      return `  ${event.by}: ${event.answer}${event.counts ? '' : ` (does not count: ${event.why ?? ''})`}`
    case 'branch.promoted.v1':
      return `  ${event.branch} is at ${event.commit.slice(0, 12)}`
    default:
      return undefined
  }
}
