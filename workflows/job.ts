import {
  ActivityCancellationType,
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  condition,
  isCancellation,
  log,
  patched,
  proxyActivities,
  proxyLocalActivities,
  setCurrentDetails,
  setHandler,
  sleep,
  TimeoutFailure,
} from '@temporalio/workflow'
import { CONTROL_QUEUE, nodeQueue } from '../src/core/ids.ts'
import { jobEnvironment } from '../src/core/job-environment.ts'
import type {
  ControlActivities,
  JobEnd,
  JobInput,
  JobPlacement,
  JobResult,
  JobStart,
  NodeActivities,
  SegmentInput,
  SegmentResult,
} from '../src/core/run-contract.ts'
import { quoted } from './markdown.ts'
import { granted, revoked } from './messages.ts'

const quick = proxyLocalActivities<ControlActivities>({ startToCloseTimeout: '30 s' })

/** Docker is asked: what it cannot do after these tries makes the job errored. */
const starting = proxyLocalActivities<ControlActivities>({
  startToCloseTimeout: '1 min',
  retry: { maximumAttempts: 5, initialInterval: '500 ms' },
})

const LONGEST_REASON = 500
/** Asked again by itself, in case the wake-up was lost. */
const POOL_RETRY = '1 min'
/** This clock may be ahead of the database's, whose word it is that a session has expired. */
const EXPIRY_STEP_MS = 1_000
/** A worker that is there takes the work at once. If none does in this time, Swarm is asked whether the node still lives. */
const LOOK_FOR_NODE = '10 s'
/** No worker there after so many looks, though the node lives: the job is errored, naming the node. */
const MOST_LOOKS = 12
const NO_WORKER = '2 min'
/** A node's worker can fail to do its part (no space, no server): that is tried again after a growing pause. */
const MOST_FAILURES = 20
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 30_000
/** A node's worker beats every second; after this silence the work is given to whoever listens on the node's queue. */
const WORKER_SILENT = '5 s'

/** One attempt of a job: lease what it needs, let Swarm choose a node, follow its containers there, tell how it ended. */
export async function job(input: JobInput): Promise<JobResult> {
  let wakeUps = 0
  setHandler(granted, () => {
    wakeUps++
  })

  const whole = new CancellationScope()
  let loss: string | undefined
  setHandler(revoked, (reason) => {
    loss ??= typeof reason === 'string' ? reason.slice(0, LONGEST_REASON) : 'its units were taken back'
    whole.cancel()
  })

  const seen: Seen = {}
  let result: JobResult
  try {
    result = await whole.run(() => attempt(input, () => wakeUps, seen))
  } catch (err) {
    if (isCancellation(err)) result = { outcome: 'canceled', lost: false }
    else if (err instanceof ApplicationFailure || err instanceof ActivityFailure) {
      result = { outcome: 'errored', reason: reasonOf(err), lost: false }
    } else throw err
  }
  // Nobody canceled the run: the job has lost what it worked on.
  if (loss !== undefined && result.outcome === 'canceled' && !CancellationScope.current().consideredCancelled) {
    result = { ...result, outcome: 'failed', reason: loss }
  }
  const recorded = await CancellationScope.nonCancellable(() => endJob(input, seen, toEnd(result)))
  // The first record stands. Temporal's memory may be older: then this attempt had ended, and its container is long gone.
  if (recorded && recorded.outcome !== result.outcome) result = { ...toEnd(recorded), lost: false }
  return endAs(result)
}

/** So that Temporal shows it as what it is: what failed in red, what was canceled as canceled. */
function endAs(result: JobResult): JobResult {
  const { outcome, reason } = result
  if (outcome === 'succeeded' || outcome === 'skipped') return result
  if (outcome === 'canceled' && CancellationScope.current().consideredCancelled) {
    throw new CancelledFailure(reason ?? outcome)
  }
  throw ApplicationFailure.create({ message: reason ?? outcome, type: outcome, nonRetryable: true, details: [result] })
}

/** Where the attempt has been. */
interface Seen {
  node?: string
}

/** Units go to the next holder when nothing of this one runs any more; where its node does not answer, that is proved later. */
async function endJob({ key, job }: JobInput, { node }: Seen, end: JobEnd): Promise<JobEnd | undefined> {
  if (job.pools.length === 0 || node === undefined || !patched('units-are-handed-over'))
    return quick.endJob({ key, ...end })
  let isGone = true
  try {
    await proxyActivities<NodeActivities>({
      taskQueue: nodeQueue(node),
      startToCloseTimeout: '1 min',
      scheduleToStartTimeout: LOOK_FOR_NODE,
      heartbeatTimeout: WORKER_SILENT,
      retry: { maximumAttempts: 2 },
      summary: `${job.name}: proves that nothing of it runs any more`,
    }).endContainers({ key, segments: job.segments.length })
  } catch (err) {
    log.warn('it is not proved yet that the containers are gone', { ...key, node, reason: reasonOf(err) })
    isGone = false
  }
  return quick.endJob({ key, ...end, isGone })
}

function toEnd({ outcome, reason }: JobEnd): JobEnd {
  return { outcome, ...(reason === undefined ? {} : { reason }) }
}

async function attempt(input: JobInput, wakeUps: () => number, seen: Seen): Promise<JobResult> {
  const { key, job } = input
  const pools = await leasePools(input, wakeUps)
  if (pools.kind === 'ended') return pools.result
  if (job.manual) return people(input, wakeUps)

  let placement: JobPlacement = { kind: 'pending' }
  let firstStep = 0
  for (const [segment, content] of job.segments.entries()) {
    const start =
      placement.kind === 'placed'
        ? await starting.startSegment({ ...input, segment, node: placement.node })
        : await startInTurn(input, wakeUps)
    if (start.kind === 'ended')
      return { outcome: start.outcome, lost: false, ...(start.reason ? { reason: start.reason } : {}) }
    if (start.kind === 'refused') return { outcome: start.outcome, reason: start.reason, lost: false }
    const place = await placed(input, segment, start)
    if (place.kind !== 'placed') return notPlaced(place)
    placement = place
    seen.node = place.node

    const result = await followSegment(input, place, {
      key,
      repo: input.repo,
      commit: input.context.change.commit,
      segment,
      content,
      firstStep,
      env: { ...jobEnvironment(input), ...pools.env, ...job.env },
      secretEnv: job.secrets.filter((secret) => secret.env).map((secret) => secret.name),
      workdir: job.workdir,
      timeoutSeconds: job.timeoutSeconds,
      memoryLimit: job.resources.memory.limit,
      junit: job.reports.junit,
      last: segment === job.segments.length - 1,
      ...(pools.document === undefined ? {} : { units: pools.document }),
      ...(input.collect === undefined ? {} : { collect: input.collect }),
    })
    if (result.outcome !== 'succeeded') return { ...result, node: place.node }
    if (segment === job.segments.length - 1) return { ...result, node: place.node }
    firstStep += content.steps.length
  }
  return { outcome: 'succeeded', lost: false }
}

/** Waits for what people find: it holds nothing meanwhile but the units that were leased for them. */
async function people(input: JobInput, wakeUps: () => number): Promise<JobResult> {
  for (;;) {
    const seen = wakeUps()
    const session = await quick.openSession(input)
    if (session.kind === 'ended') return { ...toEnd(session), lost: false }
    setCurrentDetails(`waits for testers: ${quoted(session.sentence)}`)
    const left = Math.max(session.expiresAt - Date.now(), EXPIRY_STEP_MS)
    await condition(() => wakeUps() !== seen, left, { summary: `the session of ${input.job.name} expires` })
  }
}

async function leasePools(
  { key, job }: JobInput,
  wakeUps: () => number,
): Promise<
  | { readonly kind: 'held'; readonly env: Readonly<Record<string, string>>; readonly document?: string }
  | { readonly kind: 'ended'; readonly result: JobResult }
> {
  if (job.pools.length === 0) return { kind: 'held', env: {} }
  for (;;) {
    const seen = wakeUps()
    const answer = await quick.acquirePools({ key, requests: job.pools })
    switch (answer.kind) {
      case 'granted':
        setCurrentDetails('')
        return {
          kind: 'held',
          env: answer.env,
          ...(answer.document === undefined ? {} : { document: answer.document }),
        }
      case 'impossible':
        return { kind: 'ended', result: { outcome: 'failed', reason: answer.sentence, lost: false } }
      case 'superseded':
        return { kind: 'ended', result: { outcome: 'canceled', reason: `superseded by ${answer.by}`, lost: false } }
      case 'queued':
        setCurrentDetails(`waits for a pool: ${answer.sentence}`)
        await condition(() => wakeUps() !== seen, POOL_RETRY, { summary: 'asks the pool again' })
    }
  }
}

/** Starts the job when it has a slot: a job that waits for one holds nothing on any node. */
async function startInTurn(
  input: JobInput,
  wakeUps: () => number,
): Promise<Exclude<JobStart, { readonly kind: 'queued' }>> {
  for (;;) {
    const seen = wakeUps()
    const start = await starting.startJob(input)
    if (start.kind !== 'queued') return start
    setCurrentDetails(start.sentence)
    await condition(() => wakeUps() !== seen, POOL_RETRY, { summary: 'asks for a job slot again' })
  }
}

/** Waits until Swarm has chosen a node; shows its own reason meanwhile. */
async function placed(input: JobInput, segment: number, start: JobPlacement): Promise<JobPlacement> {
  const patient = proxyActivities<ControlActivities>({
    taskQueue: CONTROL_QUEUE,
    startToCloseTimeout: '10 min',
    heartbeatTimeout: '15 s',
    summary: `${input.job.name}: waits for a node`,
  })
  let now = start
  while (now.kind === 'pending') {
    setCurrentDetails(`waits for a node: ${now.reason ?? 'Swarm has not chosen one yet'}`)
    now = await patient.awaitPlacement({ key: input.key, segment, seconds: 300 })
  }
  setCurrentDetails(now.kind === 'placed' ? `on node ${now.hostname}` : '')
  return now
}

function notPlaced(place: Exclude<JobPlacement, { kind: 'placed' }>): JobResult {
  switch (place.kind) {
    case 'lost':
      return {
        outcome: 'errored',
        reason: `the job was lost: ${place.reason}`,
        lost: true,
        node: place.node,
      }
    case 'rejected':
      return { outcome: 'errored', reason: place.reason, lost: false }
    case 'pending':
      return { outcome: 'errored', reason: place.reason ?? 'no node', lost: false }
  }
}

/** Follows the segment's container on its node, through deaths of the worker there, until it has ended. */
async function followSegment(
  input: JobInput,
  place: Extract<JobPlacement, { kind: 'placed' }>,
  segment: SegmentInput,
): Promise<JobResult> {
  const node = proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(place.node),
    startToCloseTimeout: '7 days',
    scheduleToStartTimeout: LOOK_FOR_NODE,
    heartbeatTimeout: WORKER_SILENT,
    // A failed attempt is looked into (is the node alive? was the task lost?) before the next one.
    retry: { maximumAttempts: 1 },
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    summary: `${input.key.stage} / ${input.job.name} on ${place.hostname}`,
  })
  let looks = 0
  let failures = 0
  for (;;) {
    const result = await runOnce(node, segment)
    if (result.kind === 'ended') return result
    const now = await quick.placement({ key: input.key, segment: segment.segment })
    if (now.kind === 'lost') return notPlaced({ ...now, node: place.node })
    if (now.kind === 'rejected') return notPlaced(now)
    if (result.kind === 'no_worker') {
      looks++
      if (looks < MOST_LOOKS) continue
      const reason = `no worker on node ${place.hostname} took the job within ${NO_WORKER}`
      return { outcome: 'errored', reason, lost: true, node: place.node }
    }
    if (result.kind === 'failed') {
      log.warn('the segment is followed anew', { ...input.key, reason: result.reason })
      failures++
      if (failures === MOST_FAILURES) return { outcome: 'errored', reason: result.reason, lost: true, node: place.node }
      await sleep(Math.min(FIRST_PAUSE_MS * 2 ** failures, LONGEST_PAUSE_MS))
    } else failures = 0
    looks = 0
  }
}

type Followed =
  | SegmentResult
  /** Nobody listens on the node's queue; or whoever did is silent now. */
  | { readonly kind: 'no_worker' }
  | { readonly kind: 'silent' }
  | { readonly kind: 'failed'; readonly reason: string }

/** One call of the node's worker, and what came of it if it did not come back with an answer. */
async function runOnce(node: Pick<NodeActivities, 'runSegment'>, segment: SegmentInput): Promise<Followed> {
  try {
    return await node.runSegment(segment)
  } catch (err) {
    if (isCancellation(err)) throw err
    const cause = err instanceof ActivityFailure ? err.cause : err
    if (cause instanceof TimeoutFailure) {
      return { kind: cause.timeoutType === 'SCHEDULE_TO_START' ? 'no_worker' : 'silent' }
    }
    if (!(cause instanceof ApplicationFailure) || cause.nonRetryable) {
      return { kind: 'ended', outcome: 'errored', reason: reasonOf(err), lost: false }
    }
    // A worker that shuts down in order has handed over, and has not failed.
    return cause.type === 'shutdown' ? { kind: 'silent' } : { kind: 'failed', reason: reasonOf(err) }
  }
}

function reasonOf(err: unknown): string {
  const cause = err instanceof ActivityFailure && err.cause ? err.cause : err
  return cause instanceof Error ? cause.message : String(cause)
}
