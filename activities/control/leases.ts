import { whyNotOverridden } from '../../src/approval/override.ts'
import { isBrokenNow } from '../../src/approval/released.ts'
import { withheld } from '../../src/core/admission.ts'
import { environmentPool, type JobKey, jobId } from '../../src/core/ids.ts'
import type { Job, PoolRequest } from '../../src/core/plan.ts'
import { leaseDocument, leaseEnvironment } from '../../src/core/pool/lease-environment.ts'
import { JOB_SLOTS } from '../../src/core/pool/state.ts'
import type { ControlActivities } from '../../src/core/run-contract.ts'
import { closedAt } from '../../src/core/window.ts'
import type { AcquireResult, RunDetail } from '../../src/store/types.ts'
import type { ControlContext } from './context.ts'

const JOB_SLOT: PoolRequest = { pool: JOB_SLOTS, count: 1, labels: [] }
/** Leases here end with their holder, not with time: this only bounds what a lost database row could block. */
const LEASE_MS = 365 * 86_400_000
/** Between looks at an environment that is closed: a freeze of weeks must fit into the history of a run. */
const SHORTEST_LOOK_MS = 1_000
const LONGEST_LOOK_MS = 60 * 60_000

/** Environments, units of pools, and room on the nodes. */
export function createLeasing(context: ControlContext) {
  const { store, rights, clock, runOf, repositoryOf, endedAlready, whyGated, showJobWaiting } = context

  function toAnswer(result: AcquireResult) {
    return result.kind === 'granted' ? ({ kind: 'granted', env: {} } as const) : result
  }

  async function acquireEnvironment({
    run,
    repo,
    environment,
  }: Parameters<ControlActivities['acquireEnvironment']>[0]) {
    const ended = await endedAlready(run)
    if (ended) return { kind: 'impossible', sentence: ended } as const
    const detail = await runOf(run)
    const denied = withheld(detail.secrets, { kind: 'environment', name: environment }) ?? whyGated(detail, environment)
    if (denied !== undefined) return { kind: 'impossible', sentence: denied } as const
    const settings = repositoryOf(repo)?.environments[environment]
    if (!settings) return { kind: 'impossible', sentence: `${repo} has no environment "${environment}"` } as const
    const pool = environmentPool(repo, environment)
    const holder = `${run}@${environment}`
    const closed = await closedFor(detail, environment)
    if (closed !== undefined) {
      // Nothing was put there by this try: whoever need not wait for the window gets its turn.
      await store.leases.release([holder])
      await showQueued(run, environment, closed.sentence)
      return closed
    }
    const result = await store.leases.acquire({
      holder,
      run,
      workflowId: run,
      requests: [{ pool, count: 1, labels: [] }],
      priority: 0,
      ttlMs: LEASE_MS,
      party: repo,
      // Candidates that wait coalesce to the newest; what goes to a gated environment was decided, and waits its turn.
      ...(settings.gate ? {} : { supersedes: pool }),
    })
    if (result.kind === 'granted') {
      const fence = result.leases[0]?.fence ?? 0
      await store.events.append(run, `${environment}/acquired/${fence}`, [
        { type: 'environment.acquired.v1', environment, fence },
      ])
    } else if (result.kind === 'queued') {
      await showQueued(run, environment, result.sentence)
    }
    return toAnswer(result)
  }

  async function showQueued(run: string, environment: string, sentence: string): Promise<void> {
    await store.events.append(run, `${environment}/waiting/${sentence}`, [
      { type: 'environment.waiting.v1', environment, waitingFor: { kind: 'environment', sentence } },
    ])
  }

  /** A release outside the hours of its environment, by a retry say, waits for them, unless somebody broke the glass for it. */
  async function closedFor(detail: RunDetail, environment: string) {
    const repository = repositoryOf(detail.repo)
    const closed = closedAt(repository?.environments[environment]?.gate?.window, clock())
    if (repository === undefined || closed === undefined) return undefined
    if ((await whyNotOverridden(store.gates, rights, detail)) === undefined) return undefined
    const { candidate } = repository.branches
    const signedOff = await store.runs.releasedCandidate(detail.repo, `refs/heads/${candidate}`, detail.change.commit)
    const gates = signedOff === undefined ? [] : await store.gates.ofRun(signedOff.id)
    for (const one of gates) {
      if (one.state !== 'approved' || one.environment !== environment) continue
      if (isBrokenNow(rights, await rights.now(one, []), one.votes)) return undefined
    }
    const how = `an operator can let it pass sooner: penstock run override ${detail.number} --reason "..."`
    const delay = closed.until === undefined ? LONGEST_LOOK_MS : closed.until - clock()
    const lookInMs = Math.min(Math.max(delay, SHORTEST_LOOK_MS), LONGEST_LOOK_MS)
    const sentence = `what is released to ${environment} waits ${closed.why}; ${how}`
    return { kind: 'queued', sentence, lookInMs } as const
  }

  async function acquirePools({ key, requests }: Parameters<ControlActivities['acquirePools']>[0]) {
    const holder = jobId(key)
    const { repo, secrets } = await runOf(key.run)
    for (const { pool: name, privileged } of (await store.leases.inventory()).pools) {
      const isAsked = privileged && requests.some(({ pool }) => pool === name)
      const denied = isAsked ? withheld(secrets, { kind: 'pool', name }) : undefined
      if (denied !== undefined) return { kind: 'impossible', sentence: denied } as const
    }
    const result = await store.leases.acquire({
      holder,
      run: key.run,
      workflowId: holder,
      requests,
      priority: 0,
      ttlMs: LEASE_MS,
      party: repo,
      work: `${repo} ${key.stage}/${key.job}`,
      predecessor: `${key.run}/${key.stage}/${key.job}/`,
    })
    if (result.kind === 'queued') await showJobWaiting(key, { kind: 'pool', sentence: result.sentence })
    if (result.kind !== 'granted') return result
    const { leases } = result
    return { kind: 'granted', env: leaseEnvironment(leases), document: leaseDocument(leases) } as const
  }

  /**
   * After the pools, so that who waits for a unit keeps no slot from others. Who holds a unit goes first, then the oldest
   * run: it ends sooner than when every run gets a job in turn.
   */
  function acquireSlot(key: JobKey, { repo, number }: RunDetail, { pools }: Job): Promise<AcquireResult> {
    return store.leases.acquire({
      holder: slotHolder(key),
      run: key.run,
      workflowId: jobId(key),
      requests: [JOB_SLOT],
      priority: pools.length > 0 ? 1 : -number,
      ttlMs: LEASE_MS,
      party: repo,
    })
  }

  return { acquireEnvironment, acquirePools, acquireSlot }
}

export function slotHolder(key: JobKey): string {
  return `${jobId(key)}:slot`
}
