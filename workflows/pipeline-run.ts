import {
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  ChildWorkflowCancellationType,
  ChildWorkflowFailure,
  condition,
  executeChild,
  isCancellation,
  log,
  ParentClosePolicy,
  patched,
  proxyActivities,
  proxyLocalActivities,
  setCurrentDetails,
  setHandler,
  upsertSearchAttributes,
  WorkflowIdReusePolicy,
  workflowInfo,
} from '@temporalio/workflow'
import type { Answer, OnExpiry } from '../src/core/approval.ts'
import type { RunEvent, Waiting } from '../src/core/events.ts'
import { CONTROL_QUEUE, jobId, nodeQueue } from '../src/core/ids.ts'
import { type Outcome, worstOutcome } from '../src/core/outcome.ts'
import type {
  Deliverable,
  DeliverablePlan,
  DeployStage,
  GateStage,
  Job,
  PromoteStage,
  Stage,
} from '../src/core/plan.ts'
import { isJobDone, isStageDone, nextAttempt, readyJobs, unreachableJobs } from '../src/core/progress.ts'
import type {
  Begun,
  ControlActivities,
  GateAnswer,
  JobInput,
  JobResult,
  NodeActivities,
  RunInput,
  VoteSignal,
} from '../src/core/run-contract.ts'
import { readVote } from '../src/core/vote.ts'
import { job as jobWorkflow } from './job.ts'
import { quoted } from './markdown.ts'
import { approve, granted, progress as progressQuery, reject } from './messages.ts'

/**
 * One at a time, in the main line only: a replay hands on the answers of concurrent local activities in the order of their
 * questions, not in the order in which they came. What goes on beside the main line asks by `control`.
 */
const quick = proxyLocalActivities<ControlActivities>({ startToCloseTimeout: '30 s' })
const control = controlActivities()

/** @param summary what the Temporal UI shows beside the activity's name */
function controlActivities(summary?: string) {
  return proxyActivities<ControlActivities>({
    taskQueue: CONTROL_QUEUE,
    startToCloseTimeout: '10 min',
    heartbeatTimeout: '1 min',
    retry: { initialInterval: '500 ms', maximumInterval: '30 s' },
    ...(summary === undefined ? {} : { summary }),
  })
}

/** Asked again by itself, in case the wake-up was lost. */
const ASK_AGAIN = '1 min'
/** This clock may be ahead of the database's, whose word it is that a gate has expired. */
const EXPIRY_STEP_MS = 1_000
/** An attempt that the infrastructure lost is run again at most this often, where the spec says it may be. */
const MOST_LOST_ATTEMPTS = 3

/** What becomes of a run whose gate nobody has answered in time. */
const EXPIRED: Readonly<Record<OnExpiry, Outcome>> = { fail: 'failed', cancel: 'canceled', skip: 'skipped' }

/** Votes that came when no gate asked for them any more, or during the promotion, were forgotten by earlier releases. */
const LEFT_VOTES = 'votes-left'
const VOTES_WHILE_PROMOTED = 'votes-while-promoted'
const VOTES_WHILE_PROMOTED_BEFORE = 'votes-while-promoted-before'

/** A node whose worker does not take its cleaning up within this time does it when it is back: neither run nor gate waits. */
const NODE_AWAY = '15 s'

type Ready = Extract<Begun, { kind: 'begun' }>
type Ended = { readonly outcome: Outcome; readonly reason?: string }

/** The story of one try of a run. Earlier tries' successes stand; the failed stage and what follows run again. */
export async function pipelineRun(input: RunInput): Promise<void> {
  const begun = await controlActivities('spec and plan').beginTry(input)
  const run = createRun(input, begun)
  let ended: Ended
  try {
    ended = begun.kind === 'refused' ? begun : await run.stages(begun)
  } catch (err) {
    if (isCancellation(err)) {
      const reason = await CancellationScope.nonCancellable(() => quick.cancelReason({ run: input.run }))
      ended = { outcome: 'canceled', reason }
    } else if (err instanceof ApplicationFailure || err instanceof Error) {
      ended = { outcome: 'errored', reason: rootMessage(err) }
    } else throw err
  }
  await CancellationScope.nonCancellable(async () => {
    await quick.finishTry({ ...input, ...ended })
    upsertSearchAttributes([{ key: { name: 'PenstockStatus', type: 'KEYWORD' }, value: ended.outcome }])
    run.show(ended.outcome, ended.reason)
    await run.cleanUp()
    await run.answerLeftVotes()
  })
  // Canceled too late: what is done is done, and Temporal says the same as the database.
  if (ended.outcome === 'canceled' && CancellationScope.current().consideredCancelled) {
    throw new CancelledFailure(ended.reason ?? 'canceled')
  }
  if (ended.outcome !== 'succeeded' && ended.outcome !== 'skipped') {
    throw ApplicationFailure.nonRetryable(ended.reason ?? ended.outcome, ended.outcome)
  }
}

function createRun(input: RunInput, begun: Begun) {
  const { run } = input
  const votes: { readonly answer: Answer; readonly vote: VoteSignal; readonly about?: string | null; key?: string }[] =
    []
  const shown: Record<string, Outcome | 'running'> = {}
  const cleanups: Promise<void>[] = []
  let wakeUps = 0
  let voteCount = 0
  /** Which opening of the gate people are asked about; null: none. Undefined: an earlier release has not said. */
  let asked: string | null | undefined = null
  let stageName: string | undefined
  let waitingFor: Waiting | undefined
  let deliverables: readonly Deliverable[] = begun.kind === 'begun' ? begun.progress.deliverables : []
  /** What people filled in at the gate, for the jobs after it. */
  let gateVariables = begun.kind === 'begun' ? begun.context.gateVariables : undefined
  /** What is said of the run for ever. */
  let remark: string | undefined

  const take = (answer: Answer) => (vote: VoteSignal) => {
    votes.push({ answer, vote: readVote(vote), ...(asked === undefined ? {} : { about: asked }) })
  }
  setHandler(approve, take('approve'))
  setHandler(reject, take('reject'))
  setHandler(granted, () => {
    wakeUps++
  })
  setHandler(progressQuery, () => ({
    stages: shown,
    ...(stageName === undefined ? {} : { stage: stageName }),
    ...(waitingFor === undefined ? {} : { waiting: waitingFor }),
  }))
  upsertSearchAttributes([
    { key: { name: 'PenstockRepo', type: 'KEYWORD' }, value: begun.repo },
    { key: { name: 'PenstockBranch', type: 'KEYWORD' }, value: begun.branch },
    { key: { name: 'PenstockCommit', type: 'KEYWORD' }, value: begun.commit },
    { key: { name: 'PenstockStatus', type: 'KEYWORD' }, value: 'running' },
  ])

  async function record(key: string, event: RunEvent): Promise<void> {
    await quick.append({ run, key, events: [event] })
  }

  async function stages(ready: Ready): Promise<Ended> {
    for (const stage of ready.plan.stages) {
      if (isStageDone(ready.progress, stage) && (await stands(ready, stage))) {
        shown[stage.name] = 'succeeded'
        await record(`${input.try}/${stage.name}/reused`, {
          type: 'stage.reused.v1',
          stage: stage.name,
        })
        continue
      }
      const ended = await runStage(ready, stage)
      // What a gate guards is not done because nobody answered.
      const isStopped = ended.outcome === 'skipped' && stage.kind === 'gate'
      if (isStopped || (ended.outcome !== 'succeeded' && ended.outcome !== 'skipped')) {
        return { outcome: ended.outcome, reason: `${stage.name}: ${ended.reason ?? ended.outcome}` }
      }
    }
    return { outcome: 'succeeded' }
  }

  /** Whether a stage that succeeded in an earlier try still holds. A deployment holds while nobody deployed over it. */
  async function stands(ready: Ready, stage: Stage): Promise<boolean> {
    if (stage.kind !== 'deploy') return stage.kind !== 'gate'
    await holdEnvironment(ready, stage.environment)
    if (stage.how.kind === 'job') return true
    const { repo } = ready
    return quick.isDeployed({ run, repo, environment: stage.environment, deliverable: stage.how.deliverable })
  }

  async function runStage(ready: Ready, stage: Stage): Promise<Ended> {
    const attempt = nextAttempt(ready.progress.stages[stage.name])
    await record(`${stage.name}/${attempt}/started`, {
      type: 'stage.started.v1',
      stage: stage.name,
      attempt,
    })
    stageName = stage.name
    shown[stage.name] = 'running'
    show(`stage ${stage.name}`)
    let ended: Ended
    try {
      ended = await stageBody(ready, stage, attempt)
    } catch (err) {
      ended = isCancellation(err) ? { outcome: 'canceled' } : { outcome: 'errored', reason: rootMessage(err) }
      await CancellationScope.nonCancellable(() => finishStage(stage, attempt, ended))
      throw err
    }
    // What was done in spite of a cancellation that came too late is recorded as done.
    await CancellationScope.nonCancellable(() => finishStage(stage, attempt, ended))
    return ended
  }

  async function finishStage(stage: Stage, attempt: number, ended: Ended): Promise<void> {
    shown[stage.name] = ended.outcome
    show(`stage ${stage.name}`)
    await record(`${stage.name}/${attempt}/finished`, {
      type: 'stage.finished.v1',
      stage: stage.name,
      attempt,
      ...ended,
    })
  }

  function stageBody(ready: Ready, stage: Stage, attempt: number): Promise<Ended> {
    switch (stage.kind) {
      case 'jobs':
        return runJobs(ready, stage.name, stage.jobs, stage.environment)
      case 'deliver':
        return deliver(ready, stage.name, stage.deliverables)
      case 'deploy':
        return deploy(ready, stage)
      case 'gate':
        return gate(ready, stage, attempt)
      case 'promote':
        return promote(ready, stage, attempt)
    }
  }

  // ------------------------------------------------------------------ jobs

  async function runJobs(
    ready: Ready,
    stage: string,
    jobs: readonly Job[],
    environment: string | undefined,
  ): Promise<Ended> {
    const ended: Record<string, Outcome> = {}
    const reasons: string[] = []
    const running = new Map<string, Promise<void>>()
    for (const job of jobs) if (isJobDone(ready.progress, stage, job.name)) ended[job.name] = 'succeeded'
    for (;;) {
      for (const job of unreachableJobs(jobs, ended)) ended[job.name] = 'skipped'
      for (const job of readyJobs(jobs, ended, new Set(running.keys()))) {
        running.set(
          job.name,
          runJob(ready, stage, job, environment).then((result) => {
            running.delete(job.name)
            ended[job.name] = result.outcome
            if (result.reason) reasons.push(`${job.name}: ${result.reason}`)
          }),
        )
      }
      if (running.size === 0) break
      const isPeopleOnly = jobs.every((job) => job.manual !== undefined || !running.has(job.name))
      // People may take days: nothing of the jobs before them stays meanwhile.
      if (isPeopleOnly) await Promise.all([Promise.race(running.values()), cleanUp()])
      else await Promise.race(running.values())
    }
    const outcome = worstOutcome(Object.values(ended))
    return { outcome, ...(reasons.length > 0 && outcome !== 'succeeded' ? { reason: reasons.join('; ') } : {}) }
  }

  async function runJob(
    ready: Ready,
    stage: string,
    job: Job,
    environment?: string,
    collect?: string,
  ): Promise<JobResult> {
    let attempt = nextAttempt(ready.progress.stages[stage]?.jobs[job.name])
    for (let lostAttempts = 1; ; lostAttempts++, attempt++) {
      const result = await runAttempt(ready, stage, job, attempt, environment, collect)
      if (!result.lost || job.onLost !== 'retry' || lostAttempts >= MOST_LOST_ATTEMPTS) return result
      log.warn('the attempt was lost and is run again', { run, stage, job: job.name, attempt, reason: result.reason })
    }
  }

  async function runAttempt(
    ready: Ready,
    stage: string,
    job: Job,
    attempt: number,
    environment?: string,
    collect?: string,
  ): Promise<JobResult> {
    const key = { run, stage, job: job.name, attempt }
    const jobInput: JobInput = {
      key,
      repo: ready.repo,
      job,
      context: { ...ready.context, ...(gateVariables === undefined ? {} : { gateVariables }) },
      deliverables,
      ...(environment === undefined ? {} : { environment }),
      ...(collect === undefined ? {} : { collect }),
    }
    let result: JobResult | undefined
    try {
      result = await executeChild(jobWorkflow, {
        workflowId: jobId(key),
        args: [jobInput],
        workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
        cancellationType: ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
        parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
        staticSummary: attempt === 1 ? `${stage} / ${job.name}` : `${stage} / ${job.name} (attempt ${attempt})`,
      })
    } catch (err) {
      if (isCancellation(err) || !(err instanceof ChildWorkflowFailure)) throw err
      result = resultIn(err)
      if (!result) {
        const outcome = 'errored'
        const reason = rootMessage(err)
        result = { outcome, reason, lost: false }
        await control.endJob({ key, outcome, reason })
      }
    } finally {
      // What people do has nothing in Docker.
      if (!job.manual) cleanups.push(CancellationScope.nonCancellable(() => cleanJob(key, result?.node)))
    }
    if (CancellationScope.current().consideredCancelled) throw new CancelledFailure('canceled')
    return result
  }

  async function cleanJob(key: JobInput['key'], known: string | undefined): Promise<void> {
    const clean = proxyActivities<ControlActivities & NodeActivities>({
      taskQueue: CONTROL_QUEUE,
      startToCloseTimeout: '1 min',
      scheduleToCloseTimeout: '2 min',
      summary: `remove what ${key.job} used`,
    })
    try {
      // A canceled workflow leaves no result behind that would name its node.
      const at = known === undefined ? await clean.placement({ key, segment: 0 }) : undefined
      const node = known ?? (at?.kind === 'placed' ? at.node : undefined)
      await clean.removeJob({ key })
      if (node !== undefined) {
        await clean.removeVolumes.executeWithOptions(
          {
            taskQueue: nodeQueue(node),
            startToCloseTimeout: '1 min',
            scheduleToCloseTimeout: '2 min',
            scheduleToStartTimeout: NODE_AWAY,
          },
          [{ key }],
        )
      }
    } catch (err) {
      // The sweep of server and node finds it by its labels.
      log.warn('clean-up is left to the sweep', { ...key, reason: rootMessage(err) })
    }
  }

  /** Waits until what ended jobs used is gone, their network included. */
  async function cleanUp(): Promise<void> {
    const count = cleanups.length
    await Promise.all(cleanups.splice(0))
    if (count === 0) return
    try {
      await proxyActivities<ControlActivities>({
        taskQueue: CONTROL_QUEUE,
        startToCloseTimeout: '1 min',
        scheduleToCloseTimeout: '2 min',
      }).removeNetwork({ run })
    } catch (err) {
      log.warn('the network is left to the sweep', { run, reason: rootMessage(err) })
    }
  }

  // ------------------------------------------------------------------ deliverables and environments

  async function deliver(ready: Ready, stage: string, wanted: readonly DeliverablePlan[]): Promise<Ended> {
    for (const one of wanted) {
      // Built once: what an earlier try has built is what this one ships.
      if (deliverables.some((done) => done.name === one.name)) continue
      const result = one.kind === 'image' ? await buildImage(ready, stage, one) : await buildPackage(ready, stage, one)
      if (result.outcome !== 'succeeded')
        return { ...result, reason: `${one.name}: ${result.reason ?? result.outcome}` }
    }
    return { outcome: 'succeeded' }
  }

  async function buildPackage(
    ready: Ready,
    stage: string,
    one: Extract<DeliverablePlan, { kind: 'package' }>,
  ): Promise<Ended> {
    const { outcome, reason, collected } = await runJob(ready, stage, one.job, undefined, one.files)
    if (outcome !== 'succeeded') return { outcome, ...(reason ? { reason } : {}) }
    if (!collected) return { outcome: 'failed', reason: `no file of the workspace matches ${one.files}` }
    await recordBuilt({
      name: one.name,
      kind: 'package',
      digest: collected.digest,
      reference: collected.paths.join(' '),
    })
    return { outcome }
  }

  async function recordBuilt(deliverable: Deliverable): Promise<void> {
    deliverables = [...deliverables, deliverable]
    const { name } = deliverable
    await record(`${name}:built`, { type: 'deliverable.built.v1', ...deliverable })
  }

  async function buildImage(
    ready: Ready,
    stage: string,
    one: Extract<DeliverablePlan, { kind: 'image' }>,
  ): Promise<Ended> {
    const attempt = nextAttempt(ready.progress.stages[stage]?.jobs[one.name])
    const key = { run, stage, job: one.name, attempt }
    const { node, hostname } = await controlActivities(`for ${one.name}`).chooseBuildNode({ run })
    await record(`${jobId(key)}:started`, {
      type: 'job.started.v1',
      stage,
      job: one.name,
      attempt,
    })
    const builder = proxyActivities<NodeActivities>({
      taskQueue: nodeQueue(node),
      startToCloseTimeout: '1 h',
      scheduleToStartTimeout: '2 min',
      heartbeatTimeout: '10 s',
      retry: { maximumAttempts: 3 },
      summary: `build ${one.name} on ${hostname}`,
    })
    const { name, context, dockerfile, to } = one
    const { repo } = ready
    const { commit } = ready.context.change
    const built = await builder.buildImage({ key, repo, commit, name, context, dockerfile, ...(to ? { to } : {}) })
    const { deliverable, outcome, reason } = built
    if (deliverable) await recordBuilt(deliverable)
    await quick.endJob({ key, outcome, ...(reason ? { reason } : {}) })
    return { outcome, ...(reason ? { reason } : {}) }
  }

  async function deploy(ready: Ready, stage: DeployStage): Promise<Ended> {
    await holdEnvironment(ready, stage.environment)
    if (stage.how.kind === 'job') return runJobs(ready, stage.name, [stage.how.job], stage.environment)
    const { deliverable: name } = stage.how
    const deliverable = deliverables.find((one) => one.name === name)
    if (!deliverable) return { outcome: 'failed', reason: `no deliverable "${name}" was built for this commit` }
    const { environment } = stage
    const { repo, commit } = ready
    return controlActivities(`${name} to ${environment}`).deploy({
      run,
      try: input.try,
      repo,
      commit,
      environment,
      deliverable,
    })
  }

  /** The environment is this run's alone from here to the end of the run (the decision on it). */
  async function holdEnvironment(ready: Ready, environment: string): Promise<void> {
    for (;;) {
      const seen = wakeUps
      const answer = await quick.acquireEnvironment({ run, repo: ready.repo, environment })
      switch (answer.kind) {
        case 'granted':
          return showWaiting(undefined)
        case 'superseded':
          await quick.supersede({ run, by: answer.by })
          await condition(() => false)
          break
        case 'impossible':
          throw ApplicationFailure.nonRetryable(answer.sentence, 'errored')
        case 'queued':
          await showWaiting({ kind: 'environment', sentence: answer.sentence })
          await condition(() => wakeUps !== seen, answer.lookInMs ?? ASK_AGAIN, {
            summary: `asks for ${environment} again`,
          })
      }
    }
  }

  async function showWaiting(waiting: Waiting | undefined): Promise<void> {
    if (waitingFor?.sentence === waiting?.sentence) return
    waitingFor = waiting
    if (waiting) show(`waits (${waiting.kind})`, waiting.sentence)
    else show(`stage ${stageName ?? ''}`)
    const status = waiting ? 'waiting' : 'running'
    upsertSearchAttributes([{ key: { name: 'PenstockStatus', type: 'KEYWORD' }, value: status }])
    await quick.showWaiting({ run, ...(stageName ? { stage: stageName } : {}), ...(waiting ? { waiting } : {}) })
  }

  // ------------------------------------------------------------------ sign-off and promotion

  async function gate(ready: Ready, stage: GateStage, attempt: number): Promise<Ended> {
    // A gate may wait for weeks: nothing of the jobs before it stays meanwhile.
    await cleanUp()
    const { name: gateName, environment } = stage
    const { repo } = ready
    const { specDigest } = ready.plan
    const open = () => quick.openGate({ run, repo, gate: gateName, environment, deliverables, specDigest })
    let answer = await open()
    asked = answer.id
    // What came in the moment in which the gate was decided is judged, too: it may be a rejection.
    const isLeft = () => votes.length > 0 && patched(LEFT_VOTES)
    while (answer.kind === 'open' || isLeft()) {
      if (answer.kind !== 'open') {
        answer = await castNext(quick, gateName, attempt)
        continue
      }
      await showWaiting({ kind: 'approval', sentence: answer.sentence })
      const seen = wakeUps
      const news = () => votes.length > 0 || wakeUps !== seen
      const { left, isExpiry } = timeLeft(answer)
      const summary = isExpiry ? `${gateName} expires` : `${gateName} is looked at again`
      let isNews = true
      if (left === undefined) await condition(news)
      else isNews = await condition(news, left, { summary })
      if (!isNews) answer = isExpiry ? await quick.expireGate({ run, gate: gateName }) : await open()
      else answer = votes.length === 0 ? await open() : await castNext(quick, gateName, attempt)
      asked = answer.id
    }
    if (answer.variables !== undefined) gateVariables = answer.variables
    remark = answer.broken
    await showWaiting(undefined)
    if (answer.kind === 'approved') return { outcome: 'succeeded' }
    const outcome = answer.kind === 'expired' ? EXPIRED[answer.onExpiry ?? 'fail'] : 'failed'
    return { outcome, reason: `${answer.kind}: ${answer.sentence}` }
  }

  /** The vote that came first of those that are left. */
  async function castNext(by: Pick<ControlActivities, 'castVote'>, gate: string, attempt: number): Promise<GateAnswer> {
    const [next] = votes
    if (next === undefined) throw ApplicationFailure.nonRetryable('no vote is left', 'errored')
    next.key ??= `${workflowInfo().runId}/${attempt}/${voteCount++}`
    const { key, answer, vote, about } = next
    const cast = await by.castVote({ run, gate, key, answer, vote, ...(about === undefined ? {} : { about }) })
    // Only now: where a cancelation came between, it is cast again at the end of the run, by the same key.
    votes.splice(0, 1)
    return cast
  }

  /** Also whoever votes when nobody asks any more is told that, and why. */
  async function answerLeftVotes(): Promise<void> {
    while (votes.length > 0 && patched(LEFT_VOTES)) await castNext(quick, gateOf(begun), 0)
  }

  async function promote(ready: Ready, stage: PromoteStage, attempt: number): Promise<Ended> {
    const gate = gateOf(ready)
    const { branch } = stage
    const move = () => controlActivities(`${branch} to ${ready.commit.slice(0, 12)}`).promote({ run, gate, branch })
    const isNew = patched(VOTES_WHILE_PROMOTED)
    // A promotion that an earlier release has begun, and that still waits, takes votes from now on.
    const takesVotes = () => isNew || patched(VOTES_WHILE_PROMOTED_BEFORE)
    // It may wait, for the gate's window say; what is voted meanwhile is judged, and may change what it waits for.
    for (;;) {
      let result: { readonly ended: Ended } | { readonly err: unknown } | undefined
      const trial = new CancellationScope()
      const over = trial.run(move).then(
        (ended) => {
          result = { ended }
        },
        (err: unknown) => {
          result = { err }
        },
      )
      const isOver = () => result !== undefined
      let news: GateAnswer | undefined
      // A cancellation reaches the trial: what is done in spite of it is done.
      await CancellationScope.nonCancellable(async () => {
        while (!isOver() && news === undefined) {
          await condition(() => isOver() || votes.length > 0)
          if (isOver() || !takesVotes()) break
          const answer = await castNext(control, gate, attempt)
          if (answer.kind === 'rejected' || (answer.broken ?? remark) !== remark) news = answer
        }
        if (news !== undefined) trial.cancel()
        await over
      })
      if (result !== undefined && 'ended' in result && (news === undefined || result.ended.outcome === 'succeeded'))
        return result.ended
      if (news === undefined || CancellationScope.current().consideredCancelled)
        throw result !== undefined && 'err' in result ? result.err : new CancelledFailure('canceled')
      if (news.kind === 'rejected') return { outcome: 'failed', reason: `rejected: ${news.sentence}` }
      remark = news.broken
    }
  }

  /** What the Temporal UI shows while the run lives and after it: a headline, and how far the stages have come. */
  function show(headline: string, text?: string): void {
    const planned = begun.kind === 'begun' ? begun.plan.stages : []
    const rows = planned.map(({ name }) => `| ${name} | ${shown[name] ?? ''} |`)
    const said = [remark, text].flatMap((one) => (one === undefined ? [] : ['', quoted(one)]))
    const table = rows.length > 0 ? ['', '| stage | |', '| --- | --- |', ...rows] : []
    setCurrentDetails([`**${headline}**`, ...said, ...table].join('\n'))
  }

  return { stages, cleanUp, show, answerLeftVotes }
}

/** The gate that people vote at; empty: the run has none. */
function gateOf(begun: Begun): string {
  const stages = begun.kind === 'begun' ? begun.plan.stages : []
  return stages.find((one) => one.kind === 'gate')?.name ?? ''
}

/**
 * The end by whichever is later of Temporal's clock and the worker's that answered: one that is ahead alone ends nothing
 * early. Answers of earlier releases did not say the worker's.
 */
function timeLeft({ expiresAt, expiresInMs = 0, lookInMs }: GateAnswer): { left?: number; isExpiry: boolean } {
  const expires = expiresAt === undefined ? undefined : Math.max(expiresInMs, expiresAt - Date.now())
  const isExpiry = expires !== undefined && (lookInMs === undefined || expires <= lookInMs)
  const next = isExpiry ? expires : lookInMs
  return next === undefined ? { isExpiry } : { left: Math.max(next, EXPIRY_STEP_MS), isExpiry }
}

/** A job that did not succeed fails in Temporal, too, and carries its result as the failure's details. */
function resultIn({ cause }: ChildWorkflowFailure): JobResult | undefined {
  const [details] = cause instanceof ApplicationFailure ? (cause.details ?? []) : []
  return details === undefined ? undefined : (details as JobResult)
}

function rootMessage(err: unknown): string {
  let deepest = err
  while (deepest instanceof Error && deepest.cause instanceof Error) deepest = deepest.cause
  return deepest instanceof Error ? deepest.message : String(deepest)
}
