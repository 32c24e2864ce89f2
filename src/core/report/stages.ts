import { standingOf } from '../approval.ts'
import { isOutcome, type Outcome } from '../outcome.ts'
import { type Stage, stageJobs } from '../plan.ts'
import type { StageProgress } from '../progress.ts'
import { supersededBy } from '../superseded.ts'
import { unreachable } from '../unreachable.ts'
import type { ReportedGate, ReportedRun } from './run.ts'
import type { StatusState } from './types.ts'

/** More names than a description has room for. */
const TESTS_NAMED = 5

/** What is to be said of one stage, or of the whole run. */
export interface View {
  readonly name: string
  readonly state: StatusState
  readonly text: string
  /** It has begun in some try. */
  readonly started: boolean
}

/** Of every stage of the plan, in its order. */
export function stageViews(run: ReportedRun): readonly View[] {
  const views: View[] = []
  for (const stage of run.plan?.stages ?? []) views.push(stageView(run, stage, views))
  return views
}

function stageView(run: ReportedRun, stage: Stage, earlier: readonly View[]): View {
  const progress = progressOf(run, stage.name)
  const view = (state: StatusState, text: string): View => ({
    name: stage.name,
    state,
    text,
    started: progress !== undefined,
  })
  const outcome = progress?.outcome
  if (outcome === 'succeeded' || outcome === 'skipped') {
    if (stage.kind !== 'gate') return view('success', outcome === 'skipped' ? 'nothing to do' : success(run, stage))
    const gate = gateOf(run, stage.name)
    if (isApproved(run, gate, earlier)) {
      return view(
        'success',
        gate?.broken === undefined ? `approved by ${gate?.approvals.join(', ')}` : brokenText(gate.broken),
      )
    }
  }
  if (isOutcome(run.status)) {
    // What an earlier try came to stands as long as no later one has begun the stage.
    if (outcome !== undefined && outcome !== 'succeeded' && outcome !== 'skipped') {
      return view(stateOf(outcome), endText(run, stage, outcome))
    }
    const stopper = earlier.find((one) => one.state !== 'success')
    const isExpired = stage.kind === 'gate' && outcome === 'skipped' && gateOf(run, stage.name)?.state === 'expired'
    if (isExpired) return view('error', endText(run, stage, outcome))
    const why = outcome === 'succeeded' ? 'is no longer approved for what is there now' : 'did not start'
    if (stateOf(run.status) === 'success') return view('error', why)
    return view(stateOf(run.status), canceledText(run) ?? `${why}: ${stopper?.name ?? 'the run'} ${run.status}`)
  }
  // A failure of an earlier try is no longer the last word: this try comes to the stage again.
  const before = earlier.find((one) => one.state !== 'success')
  if (before !== undefined) return view('pending', `waits for ${before.name}`)
  if (run.stage !== stage.name || progress === undefined || outcome !== undefined) {
    return view('pending', run.status === 'queued' ? 'queued' : 'is next')
  }
  return view('pending', currentText(run, stage))
}

/** Of the run as a whole. That a gate of it was passed by break-glass is said first, for ever. */
export function runView(run: ReportedRun, stages: readonly View[]): View {
  const view = wholeView(run, stages)
  if (run.broken === undefined) return view
  return { ...view, text: `${run.broken.gate} passed by break-glass by ${run.broken.by}; ${view.text}` }
}

function wholeView(run: ReportedRun, stages: readonly View[]): View {
  const view = (state: StatusState, text: string): View => ({ name: 'run', state, text, started: true })
  if (!isOutcome(run.status)) {
    if (run.admission === 'held' && run.waiting !== undefined) return view('pending', run.waiting.sentence)
    const current = stages.find((one) => one.state !== 'success')
    if (current === undefined) return view('pending', run.status === 'queued' ? 'queued' : 'runs')
    return view('pending', `${current.name}: ${current.text}`)
  }
  if (run.status === 'succeeded' || run.status === 'skipped') {
    const missing = stages.find((one) => one.state !== 'success')
    if (missing !== undefined) return view(missing.state, `${missing.name}: ${missing.text}`)
    return view('success', stages.length === 0 ? 'no stage for this trigger' : `passed: ${names(stages)}`)
  }
  return view(stateOf(run.status), canceledText(run) ?? run.reason ?? run.status)
}

export function stateOf(outcome: Outcome): StatusState {
  switch (outcome) {
    case 'succeeded':
    case 'skipped':
      return 'success'
    case 'failed':
      return 'failure'
    case 'errored':
    case 'canceled':
      return 'error'
    default:
      return unreachable(outcome)
  }
}

function canceledText(run: ReportedRun): string | undefined {
  if (run.status !== 'canceled') return undefined
  const by = supersededBy(run.cancel)
  if (by !== undefined) return `superseded by run ${by}`
  return run.cancel ? `canceled by ${run.cancel.by}: ${run.cancel.reason}` : (run.reason ?? 'canceled')
}

function endText(run: ReportedRun, stage: Stage, outcome: Outcome): string {
  const failed = run.tests.shown.filter((one) => one.stage === stage.name)
  if (outcome === 'failed' && failed.length > 0) {
    const atLeast = run.tests.failed > run.tests.shown.length ? 'at least ' : ''
    const names = failed.slice(0, TESTS_NAMED).map(({ name }) => name)
    return `${atLeast}${count(failed.length, 'test')} failed: ${names.join(', ')}`
  }
  const gate = stage.kind === 'gate' ? gateOf(run, stage.name) : undefined
  if (gate?.state === 'rejected' && gate.rejection) {
    const { by, comment } = gate.rejection
    return `rejected by ${by}${comment ? `: ${comment}` : ''}`
  }
  if (gate?.state === 'expired') return `expired with ${gate.approvals.length} of ${gate.rules.quorum} approvals`
  const reason = Object.hasOwn(run.reasons, stage.name) ? run.reasons[stage.name] : undefined
  const canceled = outcome === 'canceled' ? canceledText(run) : undefined
  return canceled ?? (reason === undefined ? outcome : `${outcome}: ${reason}`)
}

function success(run: ReportedRun, stage: Exclude<Stage, { kind: 'gate' }>): string {
  switch (stage.kind) {
    case 'jobs':
      return `${count(stage.jobs.length, 'job')} passed`
    case 'deliver':
      return `built ${stage.deliverables.map(({ name }) => name).join(', ')}`
    case 'deploy':
      return `deployed to ${stage.environment}`
    case 'promote':
      return `${stage.branch} is at ${run.change.commit.slice(0, 12)}`
    default:
      return unreachable(stage)
  }
}

/** What the stage does, or waits for. */
function currentText(run: ReportedRun, stage: Stage): string {
  if (stage.kind === 'gate') return gateText(run, gateOf(run, stage.name))
  if (run.waiting?.kind === 'environment' && stage.kind === 'deploy') {
    const held = run.holders.length > 0 ? `, held by ${run.holders.map((one) => `run ${one}`).join(', ')}` : ''
    return `waits for ${stage.environment}${held}`
  }
  if (run.waiting !== undefined) return run.waiting.sentence
  const [first, ...others] = run.waitingJobs
  if (first !== undefined) {
    const asked = run.sessions.find((one) => one.stage === stage.name && one.job === first.job)
    const who = asked === undefined ? '' : `; may test: ${asked.mayTest.join(', ') || 'nobody'}`
    return `${first.job} ${first.sentence}${who}${others.length > 0 ? `; ${others.length} more wait, too` : ''}`
  }
  const jobs = stageJobs(stage)
  const ended = Object.values(progressOf(run, stage.name)?.jobs ?? {}).filter((one) => one.outcome !== undefined)
  return jobs.length > 1 ? `runs: ${ended.length} of ${jobs.length} jobs have ended` : 'runs'
}

function gateText(run: ReportedRun, gate: ReportedGate | undefined): string {
  if (gate === undefined || gate.state !== 'open') return 'asks for approvals'
  const { excluded, quorum } = gate.rules
  const [held] = gate.objections
  if (held !== undefined) return `held by ${held.by}, who ${held.why}`
  const approvals = gate.approvals.map((by) => ({ by, answer: 'approve' }) as const)
  const { may, missing, shortage } = standingOf(gate.rules, approvals)
  // It waits for its window: until when stands in what the run waits for.
  if (missing === 0) return run.waiting?.sentence ?? 'asks for approvals'
  const waits = `waits for ${missing} of ${count(quorum, 'approval')}`
  if (shortage === undefined) return `${waits}: ${may.join(', ')}`
  return `${waits}, but too few may approve; author and pusher may not (${excluded.join(', ')})`
}

function brokenText({ by, reason }: NonNullable<ReportedGate['broken']>): string {
  return `passed by break-glass by ${by}: ${reason}`
}

/** Whether the sign-off stands: for this commit, these deliverables, and after all that comes before it. */
function isApproved(run: ReportedRun, gate: ReportedGate | undefined, earlier: readonly View[]): boolean {
  const digests = new Set(run.progress.deliverables.map((one) => `${one.name}=${one.digest}`))
  return (
    gate?.state === 'approved' &&
    gate.commit === run.change.commit &&
    gate.deliverables.every((one) => digests.has(one)) &&
    earlier.every((one) => one.state === 'success')
  )
}

function gateOf(run: ReportedRun, name: string): ReportedGate | undefined {
  return run.gates.find((one) => one.name === name)
}

function progressOf(run: ReportedRun, name: string): StageProgress | undefined {
  return Object.hasOwn(run.progress.stages, name) ? run.progress.stages[name] : undefined
}

export function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`
}

function names(stages: readonly View[]): string {
  return stages.map(({ name }) => name).join(', ')
}
