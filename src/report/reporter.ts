import type { Logger } from 'pino'
import { isUpstreamRef } from '../core/change.ts'
import { environmentPool, type LogKey, parseRunId } from '../core/ids.ts'
import { isOutcome } from '../core/outcome.ts'
import { projectRun } from '../core/report/project.ts'
import type { FailedTest, ReportedGate, ReportedRun } from '../core/report/run.ts'
import type { DesiredState, ReportPort } from '../core/report/types.ts'
import type { AttemptRow, EventRow, GateRow, RunDetail, RunVersion, Store } from '../store/types.ts'

export interface Reporter {
  /** Works out what forges are to show of the runs that have changed. Returns how many there were. */
  once(): Promise<number>
}

export interface ReporterDeps {
  readonly store: Store
  readonly portOf: (repo: string) => ReportPort | undefined
  readonly urlOf: (run: number) => string
  /** Who may answer in a manual test now, of those whom its spec names. */
  readonly testersOf: (by: readonly string[]) => readonly string[]
  /** Address by environment. */
  readonly addressesOf: (repo: string) => Readonly<Record<string, string>>
  /** The last lines of a step's log, masked as it is stored. */
  readonly tailOf: (step: LogKey, lines: number) => Promise<readonly string[]>
  /** Takes the repository's secrets out of a text: reports are written by tests, reasons quote people. */
  readonly mask: (repo: string, text: string) => string
  readonly clock: () => number
  readonly log: Logger
}

const BATCH = 20
/** What fails keeps the others back no longer than one turn. */
const FAILING_MS = 10_000
const TAIL_LINES = 20
/** More than any forge shows. */
const MOST_TESTS = 200
const PORT_OF_KIND = {
  status: 'setStatus',
  check: 'setCheck',
  comment: 'upsertComment',
  deployment: 'setDeployment',
} as const satisfies Record<DesiredState['kind'], keyof ReportPort>

/**
 * Follows every run by its version, which grows with each event: what a run has come to is projected again, whole, and
 * stored as what its forge is to show, together with the version it was seen at. A killed reporter repeats at most that.
 */
export function createReporter(deps: ReporterDeps): Reporter {
  const { store, portOf, log } = deps

  async function report(run: RunVersion): Promise<void> {
    // What it came to against another repository's candidate is shown over there.
    const isShown = portOf(run.repo) !== undefined || isUpstreamRef(run.ref)
    const states = isShown ? await project(run) : []
    const shown = states.filter(({ kind, repo = run.repo }) => portOf(repo)?.[PORT_OF_KIND[kind]])
    await store.reports.record(run, shown)
  }

  async function project({ repo, number }: RunVersion): Promise<readonly DesiredState[]> {
    const detail = await store.runs.get(repo, number)
    return detail === undefined ? [] : projectRun(await readRun(detail))
  }

  async function readRun(detail: RunDetail): Promise<ReportedRun> {
    const [gates, events] = await Promise.all([store.gates.ofRun(detail.id), store.events.of(detail.id)])
    const failure = isOutcome(detail.status) ? await failureOf(detail) : undefined
    const { id, number, change, status, progress, reason, stage, waiting, cancel, plan } = detail
    // Before anything is cut: half a secret is none that could be found.
    const mask = (text: string) => deps.mask(detail.repo, text)
    return {
      id,
      number,
      try: detail.try,
      change,
      status,
      progress,
      holders: waiting?.kind === 'environment' ? await holdersOf(detail) : [],
      waitingJobs: waitingJobs(detail, events).map((one) => ({ ...one, sentence: mask(one.sentence) })),
      sessions: isOutcome(status) ? [] : await sessionsOf(id, mask),
      reasons: Object.fromEntries(
        newestAttempts(detail).flatMap((one) =>
          one.job === undefined && one.reason !== undefined ? [[one.stage, mask(one.reason)]] : [],
        ),
      ),
      gates: [...new Map(gates.map((gate) => [gate.name, toReportedGate(gate, mask)])).values()],
      tests: isOutcome(status) ? await testsOf(detail, mask) : { total: 0, failed: 0, shown: [] },
      diagnostics: diagnosticsOf(detail, events).map((one) => ({ ...one, message: mask(one.message) })),
      url: deps.urlOf(number),
      addresses: deps.addressesOf(detail.repo),
      ...(reason === undefined ? {} : { reason: mask(reason) }),
      ...(stage === undefined ? {} : { stage }),
      ...(waiting === undefined ? {} : { waiting: { ...waiting, sentence: mask(waiting.sentence) } }),
      ...(detail.held === undefined ? {} : { admission: 'held' as const }),
      ...(detail.approval === undefined ? {} : { admission: 'given' as const }),
      ...(cancel === undefined ? {} : { cancel: { ...cancel, reason: mask(cancel.reason) } }),
      ...(detail.broken === undefined ? {} : { broken: detail.broken }),
      ...(plan === undefined ? {} : { plan }),
      ...(failure === undefined ? {} : { failure }),
    }
  }

  async function sessionsOf(run: string, mask: (text: string) => string): Promise<ReportedRun['sessions']> {
    const open = (await store.sessions.ofRun(run)).filter(({ endedAt }) => endedAt === undefined)
    return open.map(({ key: { stage, job, attempt }, url, by, paused }) => ({
      stage,
      job,
      attempt,
      mayTest: deps.testersOf(by),
      paused: paused !== undefined,
      ...(url === undefined ? {} : { address: mask(url) }),
    }))
  }

  async function holdersOf(run: RunDetail): Promise<readonly number[]> {
    const planned = run.plan?.stages.find(({ name }) => name === run.stage)
    if (planned?.kind !== 'deploy') return []
    const pool = environmentPool(run.repo, planned.environment)
    const { units } = await store.leases.inventory()
    const leases = units.flatMap((unit) => (unit.pool === pool ? unit.leases : []))
    return leases.flatMap((lease) => {
      const [holder = ''] = lease.holder.split('@')
      const id = parseRunId(holder)
      return id === undefined ? [] : [id.number]
    })
  }

  async function testsOf(run: RunDetail, mask: (text: string) => string): Promise<ReportedRun['tests']> {
    const newest = new Set(newestAttempts(run).map(({ stage, job, attempt }) => `${stage}/${job}/${attempt}`))
    const results = (await store.results.ofRun(run.id)).filter(({ stage, job, attempt }) =>
      newest.has(`${stage}/${job}/${attempt}`),
    )
    const failed = results.filter(({ result }) => result === 'failed' || result === 'errored')
    const shown = failed.slice(0, MOST_TESTS).map(
      ({ stage, job, name, className, file, line, message }): FailedTest => ({
        stage,
        job,
        name: mask(name),
        ...(className === undefined ? {} : { className: mask(className) }),
        ...(file === undefined ? {} : { file: mask(file) }),
        ...(line === undefined ? {} : { line }),
        ...(message === undefined ? {} : { message: mask(message) }),
      }),
    )
    return { total: results.length, failed: failed.length, shown }
  }

  async function failureOf(run: RunDetail): Promise<ReportedRun['failure']> {
    const newest = new Set(newestAttempts(run).map(({ stage, job, attempt }) => `${stage}/${job}/${attempt}`))
    const [step] = run.attempts
      .filter((one) => one.step !== undefined && (one.outcome === 'failed' || one.outcome === 'errored'))
      .filter(({ stage, job, attempt }) => newest.has(`${stage}/${job}/${attempt}`))
      .sort((one, other) => (one.finishedAt ?? 0) - (other.finishedAt ?? 0))
    if (step?.job === undefined || step.step === undefined) return undefined
    const { stage, job, attempt } = step
    try {
      const lines = await deps.tailOf({ run: run.id, stage, job, attempt, step: step.step }, TAIL_LINES)
      return { stage, job, step: step.name ?? String(step.step), lines }
    } catch (err) {
      log.warn({ err, run: run.id, stage, job }, 'the log of a failed step cannot be read for its report')
      return undefined
    }
  }

  /** Runs that could not be reported, and when they are tried again. */
  const failing = new Map<string, number>()

  return {
    async once() {
      for (const [run, until] of failing) if (until <= deps.clock()) failing.delete(run)
      const runs = await store.reports.changed(BATCH, [...failing.keys()])
      // Together: what is written at the same moment shares one commit.
      await Promise.all(
        runs.map(async (run) => {
          try {
            await report(run)
          } catch (err) {
            log.error({ err, run: run.id }, 'a run could not be reported')
            failing.set(run.id, deps.clock() + FAILING_MS)
          }
        }),
      )
      return runs.length
    },
  }
}

/** Of stages and jobs; what an earlier try came to is here unless a later one began the same. */
function newestAttempts(run: RunDetail): readonly AttemptRow[] {
  const newest = new Map<string, AttemptRow>()
  for (const row of run.attempts) {
    if (row.step !== undefined) continue
    const key = JSON.stringify([row.stage, row.job])
    const known = newest.get(key)
    if (known === undefined || known.attempt < row.attempt) newest.set(key, row)
  }
  return [...newest.values()]
}

function toReportedGate(
  { name, state, rules, subject, votes, objections, broken }: GateRow,
  mask: (text: string) => string,
): ReportedGate {
  const counted = votes.filter((one) => one.counts)
  const rejection = counted.find((one) => one.answer === 'reject')
  return {
    name,
    state,
    rules,
    commit: subject.commit,
    deliverables: subject.deliverables,
    objections,
    approvals: [...new Set(counted.filter((one) => one.answer === 'approve').map((one) => one.by))],
    ...(broken === undefined ? {} : { broken: { by: broken.by, reason: mask(broken.reason) } }),
    ...(rejection === undefined
      ? {}
      : {
          rejection: {
            by: rejection.by,
            ...(rejection.comment === undefined ? {} : { comment: mask(rejection.comment) }),
          },
        }),
  }
}

/** Jobs that have not ended and of which nothing was heard since they began to wait. */
function waitingJobs(run: RunDetail, events: readonly EventRow[]): ReportedRun['waitingJobs'] {
  const waiting = new Map<string, { readonly job: string; readonly sentence: string }>()
  for (const { event } of events) {
    switch (event.type) {
      case 'job.waiting.v1':
        if (event.stage === run.stage) waiting.set(event.job, { job: event.job, sentence: event.waitingFor.sentence })
        break
      case 'job.placed.v1':
      case 'job.finished.v1':
        waiting.delete(event.job)
        break
      case 'run.started.v1':
        waiting.clear()
        break
    }
  }
  return [...waiting.values()]
}

/** A later try may have been given a plan, or be refused for another reason. */
function diagnosticsOf(run: RunDetail, events: readonly EventRow[]): ReportedRun['diagnostics'] {
  if (run.plan !== undefined) return []
  let diagnostics: ReportedRun['diagnostics'] = []
  for (const { event } of events) {
    if (event.type === 'spec.refused.v1') diagnostics = event.diagnostics
    else if (event.type === 'run.retried.v1') diagnostics = []
  }
  return diagnostics
}
