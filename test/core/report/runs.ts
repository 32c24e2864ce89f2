import type { Outcome } from '../../../src/core/outcome.ts'
import type { Job, Plan, Stage } from '../../../src/core/plan.ts'
import type { Progress } from '../../../src/core/progress.ts'
import { projectRun } from '../../../src/core/report/project.ts'
import type { ReportedGate, ReportedRun } from '../../../src/core/report/run.ts'
import type { CheckReport, CommentReport, DeploymentReport, StatusReport } from '../../../src/core/report/types.ts'

export const COMMIT = 'c'.repeat(40)
export const DIGEST = `sha256:${'1'.repeat(64)}`

function job(name: string): Job {
  return {
    name,
    needs: [],
    segments: [],
    env: {},
    secrets: [],
    workdir: '/workspace',
    timeoutSeconds: 60,
    resources: { cpus: { reserve: 1, limit: 1 }, memory: { reserve: 1, limit: 1 }, pids: 1 },
    constraints: [],
    pools: [],
    reports: { junit: [] },
    onLost: 'fail',
  }
}

const STAGES: readonly Stage[] = [
  { kind: 'jobs', name: 'test', jobs: [job('unit'), job('lint')] },
  { kind: 'deliver', name: 'deliver', deliverables: [] },
  { kind: 'deploy', name: 'staging', environment: 'staging', how: { kind: 'release', deliverable: 'web' } },
  { kind: 'jobs', name: 'e2e', jobs: [job('browser')] },
  { kind: 'gate', name: 'signoff', environment: 'production' },
  { kind: 'promote', name: 'promote', branch: 'production' },
]

export function plan(names: readonly string[] = STAGES.map(({ name }) => name), omitted: readonly string[] = []): Plan {
  return {
    version: 1,
    repo: 'acme/web',
    specDigest: 'd',
    stages: STAGES.filter(({ name }) => names.includes(name)),
    ...(omitted.length > 0 ? { omitted: omitted.map((name) => ({ name, reason: 'runs once master has it' })) } : {}),
  }
}

/** Outcome by stage; `undefined`: begun and not ended. */
export function progress(stages: Readonly<Record<string, Outcome | undefined>>): Progress {
  return {
    stages: Object.fromEntries(
      Object.entries(stages).map(([name, outcome]) => [
        name,
        { attempt: 1, jobs: {}, ...(outcome === undefined ? {} : { outcome }) },
      ]),
    ),
    deliverables: [{ name: 'web', kind: 'image', digest: DIGEST, reference: 'web' }],
  }
}

export const TESTED = { test: 'succeeded', deliver: 'succeeded', staging: 'succeeded', e2e: 'succeeded' } as const

export function gate(over: Partial<ReportedGate> = {}): ReportedGate {
  return {
    name: 'signoff',
    state: 'open',
    rules: { approvers: ['ada', 'ben', 'eve'], quorum: 2, excluded: [] },
    commit: COMMIT,
    deliverables: [`web=${DIGEST}`],
    approvals: [],
    objections: [],
    ...over,
  }
}

export function run(over: Partial<ReportedRun> = {}): ReportedRun {
  return {
    id: 'acme/web#42',
    number: 42,
    try: 1,
    change: { commit: COMMIT, ref: 'refs/heads/master' },
    status: 'running',
    plan: plan(),
    progress: progress({}),
    holders: [],
    waitingJobs: [],
    sessions: [],
    reasons: {},
    gates: [],
    tests: { total: 0, failed: 0, shown: [] },
    diagnostics: [],
    url: 'https://ci.example/runs/42',
    addresses: { staging: 'https://staging.example' },
    ...over,
  }
}

export function statusesOf(one: ReportedRun): Record<string, StatusReport> {
  return Object.fromEntries(
    projectRun(one).flatMap((state) => (state.kind === 'status' ? [[state.name, state.content]] : [])),
  )
}

/** `pending: waits for test` */
export function statusOf(one: ReportedRun, stage: string): string | undefined {
  const status = statusesOf(one)[`penstock/${stage}`]
  return status && `${status.state}: ${status.description}`
}

export function checkOf(one: ReportedRun): CheckReport {
  const found = projectRun(one).find((state) => state.kind === 'check')
  if (found?.kind !== 'check') throw new Error('there is no check')
  return found.content
}

export function commentOf(one: ReportedRun): CommentReport | undefined {
  const found = projectRun(one).find((state) => state.kind === 'comment')
  return found?.kind === 'comment' ? found.content : undefined
}

export function deploymentsOf(one: ReportedRun): readonly DeploymentReport[] {
  return projectRun(one).flatMap((state) => (state.kind === 'deployment' ? [state.content] : []))
}
