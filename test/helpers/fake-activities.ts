import { Context } from '@temporalio/activity'
import type { RunEvent } from '../../src/core/events.ts'
import type { JobKey } from '../../src/core/ids.ts'
import type { Outcome } from '../../src/core/outcome.ts'
import type { Deliverable, Plan } from '../../src/core/plan.ts'
import { type JobProgress, NO_PROGRESS, type Progress, type StageProgress } from '../../src/core/progress.ts'
import type {
  Begun,
  ControlActivities,
  GateAnswer,
  NodeActivities,
  SegmentInput,
  UnitKey,
  VoteSignal,
} from '../../src/core/run-contract.ts'

export type Activities = ControlActivities & NodeActivities

/** Activities that do nothing outside themselves: what a workflow asks is noted, and answered as a run's scenario says. */
export interface FakeActivities {
  readonly control: ControlActivities
  readonly node: NodeActivities
  /** What a run, or a unit (`POOL/UNIT`), is about; activities that `on` does not name go well. */
  play(run: string, scenario: Scenario): FakeRun
}

export interface Scenario {
  readonly plan: Plan
  readonly begin?: Begun
  readonly on?: Partial<Activities>
  /** Until when the gate takes votes; for ever if absent. */
  readonly expiresAt?: number
}

export interface FakeRun {
  readonly id: string
  /** All that was asked of one activity so far, in order; repeated attempts of an activity included. */
  asked<Name extends keyof Activities>(name: Name): readonly Parameters<Activities[Name]>[0][]
  /** Names of all activities in the order of their calls. */
  readonly calls: readonly (keyof Activities)[]
  /** Each once, however often it was appended. */
  readonly events: readonly RunEvent[]
  /** Cancels as an operator does: the reason first, which the canceled workflow then asks for. */
  cancelReason: string
}

export const FAKE_NODE = 'n1'
const COMMIT = 'c'.repeat(40)

/** The answer of an activity that goes on until it is canceled, as following a container does. */
export async function untilCanceled(): Promise<never> {
  const context = Context.current()
  const beat = setInterval(() => context.heartbeat(), 200)
  try {
    return await context.cancelled
  } finally {
    clearInterval(beat)
  }
}

const LATENCIES_MS = [25, 0, 10, 40, 2, 60]

interface World {
  readonly scenario: Scenario
  readonly calls: { readonly name: keyof Activities; readonly input: unknown }[]
  readonly keys: Set<string>
  readonly events: RunEvent[]
  readonly votes: { readonly answer: string; readonly vote: VoteSignal }[]
  readonly run: FakeRun
}

export function createFakeActivities(): FakeActivities {
  const worlds = new Map<string, World>()

  function worldOf(run: string): World {
    const world = worlds.get(run)
    if (!world) throw new Error(`no scenario for ${run}`)
    return world
  }

  function append(run: string, key: string, events: readonly RunEvent[]): void {
    const world = worldOf(run)
    if (world.keys.has(key)) return
    world.keys.add(key)
    world.events.push(...events)
  }

  function gateAnswer(run: string): GateAnswer {
    const { votes, scenario } = worldOf(run)
    const { expiresAt } = scenario
    const counted = votes.find(({ vote }) => vote.who === 'tess' && vote.token === 'good')
    if (counted) {
      const sentence = `by tess${counted.vote.comment ? `: ${counted.vote.comment}` : ''}`
      return { kind: counted.answer === 'approve' ? 'approved' : 'rejected', sentence }
    }
    if (expiresAt !== undefined && Date.now() >= expiresAt)
      return { kind: 'expired', sentence: 'without the 1 approval(s) it needs' }
    return {
      kind: 'open',
      sentence: '0 of 1 approval(s) for production; may approve: tess',
      ...(expiresAt === undefined ? {} : { expiresAt }),
    }
  }

  const asExpected: Activities = {
    async beginTry({ run }) {
      const { scenario, events } = worldOf(run)
      return scenario.begin ?? begun(run, scenario.plan, progressOf(events))
    },
    append: async ({ run, key, events }) => append(run, key, events),
    careForUnit: async ({ pool, unit }) => ({ kind: 'nothing', sentence: `${pool}/${unit} is ready` }),
    endContainers: async () => {},
    showWaiting: async () => {},
    async finishTry({ run, try: number, outcome, reason }) {
      append(run, `try/${number}/finished`, [
        { type: 'run.finished.v1', try: number, outcome, ...(reason === undefined ? {} : { reason }) },
      ])
    },
    cancelReason: async ({ run }) => worldOf(run).run.cancelReason,
    acquireEnvironment: async () => ({ kind: 'granted', env: {} }),
    supersede: async () => {},
    isDeployed: async () => true,
    acquirePools: async () => ({ kind: 'granted', env: {} }),
    async startJob({ key }) {
      const { stage, job, attempt } = key
      append(key.run, `${stage}/${job}/${attempt}:started`, [{ type: 'job.started.v1', stage, job, attempt }])
      return { kind: 'placed', node: FAKE_NODE, hostname: 'lab-1' }
    },
    startSegment: async ({ node }) => ({ kind: 'placed', node, hostname: 'lab-1' }),
    placement: async () => ({ kind: 'placed', node: FAKE_NODE, hostname: 'lab-1' }),
    awaitPlacement: async () => ({ kind: 'placed', node: FAKE_NODE, hostname: 'lab-1' }),
    async endJob({ key, outcome, reason }) {
      const { stage, job, attempt } = key
      append(key.run, `${stage}/${job}/${attempt}:finished`, [
        { type: 'job.finished.v1', stage, job, attempt, outcome, ...(reason === undefined ? {} : { reason }) },
      ])
    },
    removeJob: async () => {},
    openSession: async () => ({ kind: 'ended', outcome: 'succeeded' }),
    removeNetwork: async () => {},
    chooseBuildNode: async () => ({ node: FAKE_NODE, hostname: 'lab-1' }),
    deploy: async () => ({ outcome: 'succeeded' }),
    openGate: async ({ run }) => gateAnswer(run),
    async castVote({ run, key, answer, vote }) {
      const world = worldOf(run)
      if (!world.keys.has(key)) world.votes.push({ answer, vote })
      world.keys.add(key)
      return gateAnswer(run)
    },
    expireGate: async ({ run }) => gateAnswer(run),
    promote: async () => ({ outcome: 'succeeded' }),
    runSegment: async () => ({ kind: 'ended', outcome: 'succeeded', lost: false }),
    removeVolumes: async () => {},
    buildImage: async ({ name }) => ({ outcome: 'succeeded', deliverable: anImage(name) }),
  }

  function noted<Name extends keyof Activities>(name: Name): Activities[Name] {
    const act = async (input: { readonly run: string } | { readonly key: JobKey } | UnitKey): Promise<unknown> => {
      const of = 'unit' in input ? `${input.pool}/${input.unit}` : 'run' in input ? input.run : input.key.run
      const world = worldOf(of)
      world.calls.push({ name, input })
      // As in life, what was asked later may be answered earlier; a replay must not depend on it.
      await new Promise((resolve) => setTimeout(resolve, LATENCIES_MS[world.calls.length % LATENCIES_MS.length]))
      const chosen = (world.scenario.on?.[name] ?? asExpected[name]) as (input: unknown) => Promise<unknown>
      return chosen(input)
    }
    return act as Activities[Name]
  }

  const names = Object.keys(asExpected) as (keyof Activities)[]
  const all = Object.fromEntries(names.map((name) => [name, noted(name)])) as unknown as Activities
  const { runSegment, endContainers, removeVolumes, buildImage, ...control } = all
  return {
    control,
    node: { runSegment, endContainers, removeVolumes, buildImage },
    play(id, scenario) {
      const calls: World['calls'] = []
      const events: RunEvent[] = []
      const run: FakeRun = {
        id,
        asked: (name) =>
          calls
            .filter((call) => call.name === name)
            .map(({ input }) => input as Parameters<Activities[typeof name]>[0]),
        get calls() {
          return calls.map((call) => call.name)
        },
        events,
        cancelReason: 'canceled in Temporal',
      }
      const earlier = worlds.get(id)
      if (earlier) events.push(...earlier.events)
      worlds.set(id, { scenario, calls, keys: new Set(earlier?.keys), events, votes: [], run })
      return run
    },
  }
}

export function begun(run: string, plan: Plan, progress: Progress): Extract<Begun, { kind: 'begun' }> {
  const [repo = '', number = ''] = run.split('#')
  return {
    kind: 'begun',
    repo,
    number: Number(number),
    branch: 'master',
    commit: COMMIT,
    plan,
    progress,
    context: {
      change: { commit: COMMIT, ref: 'refs/heads/master', author: 'ada' },
      trigger: 'push',
      environmentUrls: {},
      unplaceable: 'fail',
    },
  }
}

/** What the database derives from a run's events. */
function progressOf(events: readonly RunEvent[]): Progress {
  const stages: Record<string, StageProgress> = {}
  const deliverables: Deliverable[] = []
  const put = (stage: string, job: string, progress: JobProgress) => {
    const known = stages[stage] ?? { attempt: 1, jobs: {} }
    stages[stage] = { ...known, jobs: { ...known.jobs, [job]: progress } }
  }
  for (const event of events) {
    if (event.type === 'stage.started.v1')
      stages[event.stage] = { jobs: stages[event.stage]?.jobs ?? {}, attempt: event.attempt }
    else if (event.type === 'stage.finished.v1') {
      const { stage, attempt, outcome } = event
      stages[stage] = { jobs: stages[stage]?.jobs ?? {}, attempt, outcome }
    } else if (event.type === 'job.started.v1') put(event.stage, event.job, { attempt: event.attempt })
    else if (event.type === 'job.finished.v1')
      put(event.stage, event.job, { attempt: event.attempt, outcome: event.outcome })
    else if (event.type === 'deliverable.built.v1') deliverables.push({ ...event, kind: event.kind ?? 'image' })
  }
  return events.length === 0 ? NO_PROGRESS : { stages, deliverables }
}

export function anImage(name: string): Deliverable {
  const digest = `sha256:${'d'.repeat(64)}`
  return { name, kind: 'image', digest, reference: digest }
}

/** The node's answers by job name, each for as many attempts as it has entries; the last one holds for the rest. */
export function segments(
  answers: Readonly<Record<string, readonly (Outcome | 'lost')[]>>,
): NodeActivities['runSegment'] {
  return async ({ key }: SegmentInput) => {
    const list = answers[key.job] ?? ['succeeded']
    const answer = list[Math.min(key.attempt, list.length) - 1] ?? 'succeeded'
    if (answer === 'lost')
      return { kind: 'ended', outcome: 'errored', reason: 'the engine killed the container', lost: true }
    if (answer === 'succeeded') return { kind: 'ended', outcome: 'succeeded', lost: false }
    return { kind: 'ended', outcome: answer, reason: `step "${key.job}" ended ${answer}`, lost: false }
  }
}
