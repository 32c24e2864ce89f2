import { ApplicationFailure, Context } from '@temporalio/activity'
import { credentialsOf } from '../../src/config/credentials.ts'
import { type GivenSecret, seal, versionOf } from '../../src/config/sealed.ts'
import { withheld } from '../../src/core/admission.ts'
import { type JobKey, jobId } from '../../src/core/ids.ts'
import { isOutcome } from '../../src/core/outcome.ts'
import type { Job } from '../../src/core/plan.ts'
import type { ControlActivities, JobInput, JobPlacement, JobStart } from '../../src/core/run-contract.ts'
import { EngineRefused, type Placement } from '../../src/engine/types.ts'
import type { RunDetail } from '../../src/store/types.ts'
import type { ControlContext } from './context.ts'
import { endedSentence } from './context.ts'
import { type createLeasing, slotHolder } from './leases.ts'

/** How long the first, quick look waits for Swarm to choose a node; it usually takes 50 ms. */
const PLACEMENT_LOOK_MS = 2_000
const FIRST_PLACEMENT_POLL_MS = 20
const LONGEST_PLACEMENT_POLL_MS = 200

/** Jobs on Swarm, from their start to their end. */
export function createJobs(
  context: ControlContext,
  { acquireSlot }: Pick<ReturnType<typeof createLeasing>, 'acquireSlot'>,
) {
  const { config, store, cluster, runOf, repositoryOf, showJobWaiting } = context

  async function startJob(input: JobInput): Promise<JobStart> {
    const { key, job } = input
    const detail = await runOf(key.run)
    const { status, attempts } = detail
    const known = knownEnd(key, attempts)
    if (known) return known
    if (isOutcome(status)) return { kind: 'refused', outcome: 'errored', reason: endedSentence(key.run, status) }
    const [possible, slot] = await Promise.all([cluster.canPlace(job), acquireSlot(key, detail, job)])
    const credentials = await credentialsFor(key, job)
    const values = secretValues(detail, job)
    if ('denied' in values) return { kind: 'refused', outcome: 'failed', reason: values.denied }
    if ('refused' in values) return { kind: 'refused', outcome: 'errored', reason: values.refused }
    if (possible.kind === 'no' && input.context.unplaceable === 'fail') {
      return { kind: 'refused', outcome: 'errored', reason: possible.sentence }
    }
    if (slot.kind === 'queued') {
      await showJobWaiting(key, { kind: 'node', sentence: slot.sentence })
      return { kind: 'queued', sentence: slot.sentence }
    }
    if (slot.kind !== 'granted') {
      throw ApplicationFailure.nonRetryable(`${jobId(key)} got no job slot: ${slot.kind}`, 'errored')
    }
    const { stage, job: name, attempt } = key
    await store.events.append(key.run, `${jobId(key)}:started`, [{ type: 'job.started.v1', stage, job: name, attempt }])
    const given = [...values.values, ...credentials]
    await keepMasked(key, given)
    return refusable(async () => {
      const [first] = job.segments
      await Promise.all([
        cluster.ensureNetwork(key.run),
        cluster.ensureSecrets(key, given),
        // Remembered for the service, so that it is looked up while the others are made.
        first && cluster.resolveImage(first.image),
      ])
      return startOn(input, 0, credentials)
    })
  }

  async function startSegment(input: JobInput & { segment: number; node: string }) {
    const credentials = await credentialsFor(input.key, input.job)
    return refusable(() => startOn(input, input.segment, credentials, input.node))
  }

  /** Before anything of the job begins: whoever follows its log later masks what it got, whatever the file says by then. */
  async function keepMasked(key: JobKey, given: readonly GivenSecret[]): Promise<void> {
    const { workerToken } = config
    if (given.length === 0 || workerToken === undefined) return
    const job = jobId(key)
    const sealed = seal(workerToken, job, given)
    await store.masks.keep({ job, run: key.run, version: versionOf(workerToken, given), sealed })
  }

  async function startOn(
    { key, job }: JobInput,
    segment: number,
    credentials: readonly GivenSecret[],
    node?: string,
  ): Promise<Started> {
    const content = job.segments[segment]
    const secrets = [...job.secrets, ...credentials.map(({ name }) => ({ name, env: false }))]
    if (!content) throw ApplicationFailure.nonRetryable(`${jobId(key)} has no segment ${segment}`, 'errored')
    const image = await cluster.resolveImage(content.image)
    await cluster.startSegment({
      key,
      job: { ...job, secrets },
      segment,
      image,
      ...(node === undefined ? {} : { node }),
    })
    const deadline = performance.now() + PLACEMENT_LOOK_MS
    for (let pause = FIRST_PLACEMENT_POLL_MS; ; pause = Math.min(pause * 1.5, LONGEST_PLACEMENT_POLL_MS)) {
      const now = await placement({ key, segment })
      if (now.kind !== 'pending' || performance.now() > deadline) return now
      await new Promise((resolve) => setTimeout(resolve, pause))
    }
  }

  /** Of the units that the job holds. The code of strangers gets none: it meets no secret. */
  async function credentialsFor(key: JobKey, { pools }: Job) {
    if (pools.length === 0 || (await runOf(key.run)).secrets === 'none') return []
    const held = await store.leases.ofHolder(jobId(key))
    return credentialsOf(config, held).map(({ name, secret }) => ({ name, value: secret.reveal() }))
  }

  /** By what the database knows of the run; what the workflow says of its repository or scope does not count. */
  function secretValues({ repo, secrets }: RunDetail, job: Job) {
    const known = repositoryOf(repo)?.secrets ?? {}
    const values: { name: string; value: string }[] = []
    for (const { name } of job.secrets) {
      const denied = withheld(secrets, { kind: 'secret', name })
      if (denied !== undefined) return { denied }
      const secret = Object.hasOwn(known, name) ? known[name] : undefined
      if (!secret) {
        const names = Object.keys(known).join(', ') || 'none'
        return { refused: `the operator's file gives ${repo} no secret "${name}"; it has: ${names}` }
      }
      values.push({ name, value: secret.reveal() })
    }
    return { values }
  }

  async function placement({ key, segment }: { key: JobKey; segment: number }): Promise<JobPlacement> {
    const now = await cluster.placement(key, segment)
    if (now.kind === 'assigned' || now.kind === 'ended') {
      const { stage, job, attempt } = key
      const service = `${jobId(key)}:${segment}`
      await store.events.append(key.run, `${service}:placed`, [
        { type: 'job.placed.v1', stage, job, attempt, node: now.hostname, service: now.container ?? service },
      ])
    }
    return toJobPlacement(now)
  }

  async function awaitPlacement({ key, segment, seconds }: Parameters<ControlActivities['awaitPlacement']>[0]) {
    const deadline = performance.now() + seconds * 1000
    let said: string | undefined
    for (;;) {
      const now = await placement({ key, segment })
      if (now.kind !== 'pending' || performance.now() > deadline) return now
      const sentence = now.reason ?? 'Swarm has not chosen a node yet'
      if (sentence !== said) {
        // Who waits for a node that may be down for days uses nothing of the others.
        if (said === undefined) await store.leases.release([slotHolder(key)])
        said = sentence
        await showJobWaiting(key, { kind: 'node', sentence })
      }
      Context.current().heartbeat()
      await Context.current().sleep(500)
    }
  }

  async function endJob({ key, outcome, reason, isGone }: Parameters<ControlActivities['endJob']>[0]) {
    const { stage, job, attempt } = key
    await store.events.append(key.run, `${jobId(key)}:finished`, [
      { type: 'job.finished.v1', stage, job, attempt, outcome, ...(reason === undefined ? {} : { reason }) },
    ])
    await store.leases.release([jobId(key), slotHolder(key)], { outcome, ...(isGone ? { isGone } : {}) })
    return knownEnd(key, (await runOf(key.run)).attempts)
  }

  async function chooseBuildNode() {
    const nodes = await cluster.nodes()
    const node = nodes.find((one) => one.ready && one.workerAlive)
    if (!node) throw ApplicationFailure.retryable('no node has a live worker to build an image on', 'no_worker')
    return { node: node.id, hostname: node.hostname }
  }

  return { startJob, startSegment, placement, awaitPlacement, endJob, chooseBuildNode }
}

export function knownEnd(
  key: JobKey,
  attempts: RunDetail['attempts'],
): Extract<JobStart, { kind: 'ended' }> | undefined {
  const row = attempts.find(
    (one) => one.stage === key.stage && one.job === key.job && one.attempt === key.attempt && one.step === undefined,
  )
  if (!row?.outcome) return undefined
  return { kind: 'ended', outcome: row.outcome, ...(row.reason === undefined ? {} : { reason: row.reason }) }
}

function toJobPlacement(now: Placement): JobPlacement {
  switch (now.kind) {
    case 'absent':
      return { kind: 'lost', node: '?', reason: 'its Swarm service is gone' }
    case 'pending':
    case 'rejected':
    case 'lost':
      return now
    case 'assigned':
    case 'ended':
      return { kind: 'placed', node: now.node, hostname: now.hostname }
  }
}

type Started = Exclude<JobStart, { readonly kind: 'queued' }>

async function refusable(act: () => Promise<Started>): Promise<Started> {
  try {
    return await act()
  } catch (err) {
    if (err instanceof EngineRefused) return { kind: 'refused', outcome: 'errored', reason: err.message }
    throw err
  }
}
