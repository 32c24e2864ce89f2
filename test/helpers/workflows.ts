import { fileURLToPath } from 'node:url'
import {
  Client,
  type WorkflowExecutionStatusName,
  WorkflowFailedError,
  type WorkflowHandleWithFirstExecutionRunId,
  WorkflowIdReusePolicy,
} from '@temporalio/client'
import { ApplicationFailure } from '@temporalio/common'
import { Worker, type WorkflowBundleWithSourceMap } from '@temporalio/worker'
import { CONTROL_QUEUE, nodeQueue } from '../../src/core/ids.ts'
import type { GateStage, Job, JobsStage, Plan, PromoteStage, Stage } from '../../src/core/plan.ts'
import type { pipelineRun } from '../../workflows/index.ts'
import { aJob, aStep } from './docker.ts'
import { createFakeActivities, FAKE_NODE, type FakeActivities, type FakeRun, type Scenario } from './fake-activities.ts'
import { bundleWorkflows, startTemporal } from './temporal.ts'

/** The workflows on a real Temporal, with activities that answer as a test says. */
export interface Stand {
  readonly client: Client
  readonly bundle: WorkflowBundleWithSourceMap
  readonly fakes: FakeActivities
  /** A run of its own number. */
  play(stages: readonly Stage[], scenario?: Omit<Scenario, 'plan'>): FakeRun
  start(run: FakeRun, number?: number): Promise<Started>
  stop(): Promise<void>
}

export interface Started {
  readonly handle: WorkflowHandleWithFirstExecutionRunId<typeof pipelineRun>
  /** How Temporal says it ended, with the failure's type and words. */
  end(): Promise<{ readonly status: WorkflowExecutionStatusName; readonly type?: string; readonly message?: string }>
}

/** In recorded histories, instead of the name of the machine. */
const IDENTITY = 'penstock'

export async function startStand(): Promise<Stand> {
  const [temporal, workflowBundle] = await Promise.all([
    startTemporal(),
    bundleWorkflows([fileURLToPath(new URL('../workflows/short-patience.ts', import.meta.url))]),
  ])
  const fakes = createFakeActivities()
  const { nativeConnection: connection, connection: clientConnection } = temporal
  const namespace = temporal.namespace ?? 'default'
  const common = { connection, namespace, identity: IDENTITY, maxHeartbeatThrottleInterval: '100 ms' } as const
  const workers = await Promise.all([
    Worker.create({ ...common, taskQueue: CONTROL_QUEUE, activities: fakes.control, workflowBundle }),
    Worker.create({ ...common, taskQueue: nodeQueue(FAKE_NODE), activities: fakes.node }),
  ])
  const running = workers.map((worker) => worker.run())
  const client = new Client({ connection: clientConnection, namespace, identity: IDENTITY })
  let numbers = 0

  return {
    client,
    bundle: workflowBundle,
    fakes,
    play(stages, scenario = {}) {
      numbers += 1
      return fakes.play(`acme/web#${numbers}`, { plan: aPlan(stages), ...scenario })
    },
    async start({ id }, number = 1) {
      const handle = await client.workflow.start<typeof pipelineRun>('pipelineRun', {
        taskQueue: CONTROL_QUEUE,
        workflowId: id,
        args: [{ run: id, try: number }],
        workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
      })
      return {
        handle,
        async end() {
          const problem = await handle.result().then(
            () => undefined,
            (err: unknown) => err,
          )
          const { status } = await handle.describe()
          const cause = problem instanceof WorkflowFailedError ? problem.cause : problem
          return {
            status: status.name,
            ...(cause instanceof ApplicationFailure && cause.type ? { type: cause.type } : {}),
            ...(cause instanceof Error ? { message: cause.message } : {}),
          }
        },
      }
    },
    async stop() {
      for (const worker of workers) worker.shutdown()
      await Promise.all(running)
      await temporal.teardown()
    },
  }
}

export function aPlan(stages: readonly Stage[]): Plan {
  return { version: 1, repo: 'acme/web', specDigest: 'e'.repeat(64), stages }
}

export function jobNamed(name: string, more: Partial<Job> = {}): Job {
  return { ...aJob('busybox', [aStep('true')]), name, ...more }
}

export function jobsStage(name: string, jobs: readonly Job[]): JobsStage {
  return { kind: 'jobs', name, jobs }
}

export const GATE: GateStage = { kind: 'gate', name: 'signoff', environment: 'production' }
export const PROMOTE: PromoteStage = { kind: 'promote', name: 'promote', branch: 'production' }
