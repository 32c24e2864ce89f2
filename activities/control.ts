import { ApplicationFailure, Context } from '@temporalio/activity'
import type { Logger } from 'pino'
import { peopleOf, whyNotReleased } from '../src/approval/released.ts'
import { approversOf, excludedOf } from '../src/config/people.ts'
import type { Config, RepositoryConfig } from '../src/config/types.ts'
import { admit, ON_A_BRANCH, withheld } from '../src/core/admission.ts'
import { gateSentence, type Subject } from '../src/core/approval.ts'
import { branchName, branchRole } from '../src/core/change.ts'
import { dependentsOf } from '../src/core/dependents.ts'
import type { SpecDiagnostic, Waiting } from '../src/core/events.ts'
import { environmentPool, type JobKey, jobId, parseRunId } from '../src/core/ids.ts'
import { variableName } from '../src/core/job-environment.ts'
import { isOutcome, type Outcome } from '../src/core/outcome.ts'
import type { Deliverable, Job, Plan, PoolRequest } from '../src/core/plan.ts'
import { JOB_SLOTS } from '../src/core/pool.ts'
import type {
  Begun,
  ControlActivities,
  GateAnswer,
  JobInput,
  JobPlacement,
  JobStart,
  RunInput,
} from '../src/core/run-contract.ts'
import { PENSTOCK, supersededReason } from '../src/core/superseded.ts'
import type { SwarmDeployer } from '../src/deploy/swarm.ts'
import { type Cluster, EngineRefused, type Placement } from '../src/engine/types.ts'
import type { Forge } from '../src/forge/types.ts'
import { type Commit, type FastForward, type Mirrors, NoSuchCommit, NotAFile } from '../src/git/mirrors.ts'
import { compilePlan } from '../src/plan/compile.ts'
import { type Diagnostic, formatDiagnostic } from '../src/spec/diagnostic.ts'
import { parseSpec, SPEC_FILE, specDigest } from '../src/spec/parse.ts'
import type { AcquireResult, GateRow, RunDetail, Store } from '../src/store/types.ts'

export interface ControlDeps {
  readonly config: Config
  readonly store: Store
  readonly cluster: Cluster
  readonly mirrors: Mirrors
  readonly forges: (repo: RepositoryConfig) => Forge
  readonly deployer: SwarmDeployer
  readonly log: Logger
  readonly clock: () => number
}

const JOB_SLOT: PoolRequest = { pool: JOB_SLOTS, count: 1, labels: [] }
/** Leases here end with their holder, not with time: this only bounds what a lost database row could block. */
const LEASE_MS = 365 * 86_400_000
/** How long the first, quick look waits for Swarm to choose a node; it usually takes 50 ms. */
const PLACEMENT_LOOK_MS = 2_000
const FIRST_PLACEMENT_POLL_MS = 20
const LONGEST_PLACEMENT_POLL_MS = 200
const DIAGNOSTICS_SHOWN = 20
/** A forge may tell of a commit before it can be fetched. With the pauses between the tries this is about 15 s. */
const COMMIT_TRIES = 6
/** Between looks at the dependents that hold a promotion up. */
const DEPENDENTS_LOOK = '5 s'

/** Further back nobody is looked for: an installation that has released nothing for so long has other troubles. */
const COMMITS_OF_A_RELEASE = 1_000
/** Longer than a move of a branch takes with all that it asks: only after a kill does somebody else go on sooner. */
const HOLD_MS = 5 * 60_000
/** Together a minute: as long as a status may take to be at the forge. */
const PROTECTED_TRIES = 30
const PROTECTED_PAUSE_MS = 2_000

/** The activities of the control queue: they decide by core, and act through store, cluster, git. */
export function createControlActivities(deps: ControlDeps): ControlActivities {
  const { config, store, cluster, mirrors, log } = deps

  async function runOf(run: string): Promise<RunDetail> {
    const id = parseRunId(run)
    const detail = id && (await store.runs.get(id.repo, id.number))
    if (!detail) throw ApplicationFailure.nonRetryable(`run ${run} is not in the database`, 'errored')
    return detail
  }

  function repositoryOf(name: string): RepositoryConfig | undefined {
    return Object.hasOwn(config.repositories, name) ? config.repositories[name] : undefined
  }

  // ------------------------------------------------------------------ begin and end of a try

  async function beginTry({ run, try: number }: RunInput): Promise<Begun> {
    const detail = await runOf(run)
    const { change } = detail
    const identity = { repo: detail.repo, number: detail.number, branch: branchName(change.ref), commit: change.commit }
    const refuse = (outcome: Outcome, reason: string) => ({ kind: 'refused', outcome, reason, ...identity }) as const
    // Temporal's memory may be older than the database's.
    const outcome = isOutcome(detail.status) ? detail.status : undefined
    if (outcome && detail.try === number && outcome !== 'skipped') return refuse(outcome, detail.reason ?? outcome)

    await store.events.append(run, `try/${number}/started`, [{ type: 'run.started.v1', try: number }])
    // However it came here: nothing is run of a commit that waits for somebody who lets it.
    if (detail.held !== undefined) return refuse('canceled', detail.held)
    const repository = repositoryOf(detail.repo)
    if (!repository) return refuse('errored', `repository ${detail.repo} is no longer in the operator's file`)
    const planned = detail.plan ?? (await makePlan(repository, detail))
    if ('missing' in planned) return refuse('errored', planned.missing)
    if ('refused' in planned) return refuse('failed', planned.refused)
    for (const { kind, name } of planned.stages) {
      const denied = kind === 'jobs' ? undefined : withheld(detail.secrets, { kind: 'stage', name })
      if (denied !== undefined) return refuse('failed', denied)
    }
    let { progress } = detail
    if (branchRole(change.ref, repository.branches) === 'production' && !change.pullRequest) {
      const released = await releasedDeliverables(repository, detail)
      if ('refused' in released) return refuse('failed', released.refused)
      progress = { ...progress, deliverables: released.deliverables }
    }
    return {
      kind: 'begun',
      ...identity,
      plan: planned,
      progress,
      context: {
        change,
        trigger: detail.trigger.kind,
        environmentUrls: Object.fromEntries(
          (detail.secrets === 'none' ? [] : Object.values(repository.environments)).flatMap((one) =>
            one.url ? [[one.name, one.url]] : [],
          ),
        ),
        unplaceable: config.unplaceable,
      },
    }
  }

  async function makePlan(
    repository: RepositoryConfig,
    detail: RunDetail,
  ): Promise<Plan | { readonly refused: string } | { readonly missing: string }> {
    const { commit } = detail.change
    const { attempt } = Context.current().info
    try {
      await beating(async () => mirrors.ensure(repository.name, await deps.forges(repository).source(), commit))
    } catch (err) {
      if (err instanceof NoSuchCommit && attempt >= COMMIT_TRIES)
        return { missing: `${err.message}: it may have been rewritten away; push again` }
      const why = err instanceof Error ? err.message : String(err)
      const sentence = `${detail.repo} cannot be fetched yet, and is tried again: ${why}`
      if (attempt > 1) await store.runs.setStatus(detail.id, 'waiting', { waiting: { kind: 'worker', sentence } })
      throw err
    }
    if (attempt > 1) await store.runs.setStatus(detail.id, 'running', {})
    let bytes: Buffer
    try {
      bytes = await mirrors.readFile(repository.name, commit, SPEC_FILE)
    } catch (err) {
      if (err instanceof NotAFile) return { refused: err.message }
      throw err
    }
    const spec = parseSpec(bytes, SPEC_FILE)
    const compiled =
      spec.kind === 'wrong'
        ? spec
        : compilePlan({
            spec: spec.spec,
            specDigest: specDigest(bytes),
            trigger: detail.trigger,
            branches: repository.branches,
            environments: Object.values(repository.environments).map((one) => ({
              name: one.name,
              gate: one.gate !== undefined,
            })),
          })
    if (compiled.kind === 'wrong') {
      const first = compiled.diagnostics.slice(0, DIAGNOSTICS_SHOWN)
      await store.events.append(detail.id, `try/${detail.try}/spec`, [
        { type: 'spec.refused.v1', diagnostics: first.map(toSpecDiagnostic) },
      ])
      const shown = first.map(formatDiagnostic)
      const more = compiled.diagnostics.length - shown.length
      return { refused: [...shown, ...(more > 0 ? [`... and ${more} more`] : [])].join('\n') }
    }
    await store.runs.setPlan(detail.id, compiled.plan)
    return compiled.plan
  }

  /** What a push to the production branch ships: the bytes its candidate run built, tested and had approved. */
  async function releasedDeliverables(
    repository: RepositoryConfig,
    detail: RunDetail,
  ): Promise<{ readonly deliverables: readonly Deliverable[] } | { readonly refused: string }> {
    const { commit } = detail.change
    const ref = `refs/heads/${repository.branches.candidate}`
    const candidate = await store.runs.releasedCandidate(repository.name, ref, commit)
    const missing =
      candidate === undefined
        ? `${commit.slice(0, 12)} did not pass a candidate run on ${branchName(ref)} and its gate`
        : await whyNotPromoted(repository, candidate)
    if (candidate !== undefined && missing === undefined) return { deliverables: candidate.progress.deliverables }
    if (!detail.override) {
      const how = `An operator can let it pass: penstock run override ${detail.number} --reason "..."`
      return { refused: `${missing}. ${how}` }
    }
    if (candidate !== undefined) return { deliverables: candidate.progress.deliverables }
    for (const row of await store.runs.list({ limit: 200, repo: repository.name, ref })) {
      if (row.change.commit !== commit) continue
      const deliverables = await store.results.deliverables(row.id)
      if (deliverables.length > 0) return { deliverables }
    }
    return { deliverables: [] }
  }

  /**
   * Why a run whose gate is approved would not move production now; undefined: it has, or would. Somebody who pushes there by
   * hand comes no further than the run itself.
   */
  async function whyNotPromoted(repository: RepositoryConfig, candidate: RunDetail): Promise<string | undefined> {
    if (candidate.status === 'succeeded') return undefined
    const events = await store.events.of(candidate.id)
    // Judged then; and what was moved is not judged a second time.
    if (events.some(({ event }) => event.type === 'branch.promoted.v1')) return undefined
    const gates = new Map((await store.gates.ofRun(candidate.id)).map((gate) => [gate.name, gate]))
    for (const gate of gates.values()) {
      const why = whyNotReleased(config, candidate, gate)
      if (why !== undefined) return why
    }
    return (await blockedBy(candidate, repository))?.sentence
  }

  async function finishTry({ run, try: number, outcome, reason }: Parameters<ControlActivities['finishTry']>[0]) {
    await store.events.append(run, `try/${number}/finished`, [
      { type: 'run.finished.v1', try: number, outcome, ...(reason === undefined ? {} : { reason }) },
    ])
    await store.leases.releaseRun(run)
  }

  // ------------------------------------------------------------------ leases

  function toAnswer(result: AcquireResult, env: Readonly<Record<string, string>> = {}) {
    return result.kind === 'granted' ? ({ kind: 'granted', env } as const) : result
  }

  /** A Temporal whose file was put back to an older copy may run what has ended long ago: it must touch nothing more. */
  async function endedAlready(run: string): Promise<string | undefined> {
    const { status } = await runOf(run)
    return isOutcome(status) ? endedSentence(run, status) : undefined
  }

  async function acquireEnvironment({
    run,
    repo,
    environment,
  }: Parameters<ControlActivities['acquireEnvironment']>[0]) {
    const ended = await endedAlready(run)
    if (ended) return { kind: 'impossible', sentence: ended } as const
    const denied = withheld((await runOf(run)).secrets, { kind: 'environment', name: environment })
    if (denied !== undefined) return { kind: 'impossible', sentence: denied } as const
    const settings = repositoryOf(repo)?.environments[environment]
    if (!settings) return { kind: 'impossible', sentence: `${repo} has no environment "${environment}"` } as const
    const pool = environmentPool(repo, environment)
    const result = await store.leases.acquire({
      holder: `${run}@${environment}`,
      run,
      workflowId: run,
      requests: [{ pool, count: 1, labels: [] }],
      priority: 0,
      ttlMs: LEASE_MS,
      // Candidates that wait coalesce to the newest; what goes to a gated environment was decided, and waits its turn.
      ...(settings.gate ? {} : { supersedes: pool }),
    })
    if (result.kind === 'granted') {
      const fence = result.leases[0]?.fence ?? 0
      await store.events.append(run, `${environment}/acquired/${fence}`, [
        { type: 'environment.acquired.v1', environment, fence },
      ])
    } else if (result.kind === 'queued') {
      const waitingFor = { kind: 'environment', sentence: result.sentence } as const
      await store.events.append(run, `${environment}/waiting/${result.sentence}`, [
        { type: 'environment.waiting.v1', environment, waitingFor },
      ])
    }
    return toAnswer(result)
  }

  async function acquirePools({ key, requests }: Parameters<ControlActivities['acquirePools']>[0]) {
    const holder = jobId(key)
    const { secrets } = await runOf(key.run)
    for (const { name, privileged } of config.pools) {
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
      predecessor: `${key.run}/${key.stage}/${key.job}/`,
    })
    if (result.kind === 'queued') await showJobWaiting(key, { kind: 'pool', sentence: result.sentence })
    return toAnswer(result, result.kind === 'granted' ? leaseEnvironment(result.leases) : {})
  }

  /**
   * After the pools, so that who waits for a unit keeps no slot from others. Who holds a unit goes first, then the oldest
   * run: it ends sooner than when every run gets a job in turn.
   */
  function acquireSlot(key: JobKey, number: number, { pools }: Job): Promise<AcquireResult> {
    return store.leases.acquire({
      holder: slotHolder(key),
      run: key.run,
      workflowId: jobId(key),
      requests: [JOB_SLOT],
      priority: pools.length > 0 ? 1 : -number,
      ttlMs: LEASE_MS,
    })
  }

  async function showJobWaiting({ run, stage, job, attempt }: JobKey, waitingFor: Waiting): Promise<void> {
    await store.events.append(run, `${jobId({ run, stage, job, attempt })}:waiting:${waitingFor.sentence}`, [
      { type: 'job.waiting.v1', stage, job, attempt, waitingFor },
    ])
  }

  // ------------------------------------------------------------------ jobs

  async function startJob(input: JobInput): Promise<JobStart> {
    const { key, job } = input
    const detail = await runOf(key.run)
    const { status, attempts, number } = detail
    const known = knownEnd(key, attempts)
    if (known) return known
    if (isOutcome(status)) return { kind: 'refused', outcome: 'errored', reason: endedSentence(key.run, status) }
    const [possible, slot] = await Promise.all([cluster.canPlace(job), acquireSlot(key, number, job)])
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
    return refusable(async () => {
      const [first] = job.segments
      await Promise.all([
        cluster.ensureNetwork(key.run),
        cluster.ensureSecrets(key, values.values),
        // Remembered for the service, so that it is looked up while the others are made.
        first && cluster.resolveImage(first.image),
      ])
      return startOn(key, job, 0)
    })
  }

  async function startSegment(input: JobInput & { segment: number; node: string }) {
    return refusable(() => startOn(input.key, input.job, input.segment, input.node))
  }

  async function startOn(key: JobKey, job: Job, segment: number, node?: string): Promise<Started> {
    const content = job.segments[segment]
    if (!content) throw ApplicationFailure.nonRetryable(`${jobId(key)} has no segment ${segment}`, 'errored')
    const image = await cluster.resolveImage(content.image)
    await cluster.startSegment({ key, job, segment, image, ...(node === undefined ? {} : { node }) })
    const deadline = performance.now() + PLACEMENT_LOOK_MS
    for (let pause = FIRST_PLACEMENT_POLL_MS; ; pause = Math.min(pause * 1.5, LONGEST_PLACEMENT_POLL_MS)) {
      const now = await placement({ key, segment })
      if (now.kind !== 'pending' || performance.now() > deadline) return now
      await new Promise((resolve) => setTimeout(resolve, pause))
    }
  }

  function knownEnd(key: JobKey, attempts: RunDetail['attempts']): Extract<JobStart, { kind: 'ended' }> | undefined {
    const row = attempts.find(
      (one) => one.stage === key.stage && one.job === key.job && one.attempt === key.attempt && one.step === undefined,
    )
    if (!row?.outcome) return undefined
    return { kind: 'ended', outcome: row.outcome, ...(row.reason === undefined ? {} : { reason: row.reason }) }
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
        if (said === undefined) await store.leases.release(slotHolder(key))
        said = sentence
        await showJobWaiting(key, { kind: 'node', sentence })
      }
      Context.current().heartbeat()
      await Context.current().sleep(500)
    }
  }

  async function endJob({ key, outcome, reason }: Parameters<ControlActivities['endJob']>[0]) {
    const { stage, job, attempt } = key
    await store.events.append(key.run, `${jobId(key)}:finished`, [
      { type: 'job.finished.v1', stage, job, attempt, outcome, ...(reason === undefined ? {} : { reason }) },
    ])
    await store.leases.release(jobId(key), slotHolder(key))
    return knownEnd(key, (await runOf(key.run)).attempts)
  }

  async function chooseBuildNode() {
    const nodes = await cluster.nodes()
    const node = nodes.find((one) => one.ready && one.workerAlive)
    if (!node) throw ApplicationFailure.retryable('no node has a live worker to build an image on', 'no_worker')
    return { node: node.id, hostname: node.hostname }
  }

  // ------------------------------------------------------------------ environments, gate, promotion

  async function isDeployed({ run, repo, environment, deliverable }: Parameters<ControlActivities['isDeployed']>[0]) {
    const current = await store.deployments.current(repo, environment)
    return current?.run === run && current.deliverable === deliverable
  }

  async function deploy(input: Parameters<ControlActivities['deploy']>[0]) {
    const { run, repo, commit, environment, deliverable } = input
    const denied = withheld((await runOf(run)).secrets, { kind: 'environment', name: environment })
    if (denied !== undefined) return { outcome: 'failed', reason: denied } as const
    const target = repositoryOf(repo)?.environments[environment]?.target?.swarm
    if (!target) {
      const reason = `environment ${environment} has no target in the operator's file, so nothing can be put there`
      return { outcome: 'failed', reason } as const
    }
    const [lease] = await store.leases.ofHolder(`${run}@${environment}`)
    if (!lease) return { outcome: 'errored', reason: `run ${run} does not hold ${environment}` } as const
    const { name, digest } = deliverable
    const intent = await store.deployments.intend({
      repo,
      environment,
      run,
      try: input.try,
      commit,
      deliverable: name,
      digest,
      fence: lease.fence,
    })
    if (intent.kind === 'stale') {
      return { outcome: 'errored', reason: `${intent.current.run} has taken ${environment} meanwhile` } as const
    }
    const event = (state: 'intended' | 'done' | 'failed' | 'unknown') =>
      store.events.append(run, `${environment}/${intent.row.id}/${state}`, [
        { type: 'deployment.recorded.v1', environment, digest, state },
      ])
    await event('intended')
    return beating(async () => {
      const result = await deps.deployer.deploy({ target, deliverable, repo, environment, commit })
      await store.deployments.finish(intent.row.id, result.kind, result.detail)
      await event(result.kind)
      if (result.kind === 'done') return { outcome: 'succeeded' } as const
      if (result.kind === 'failed') return { outcome: 'failed', reason: result.detail } as const
      return { outcome: 'errored', reason: `unknown whether it was deployed: ${result.detail}` } as const
    })
  }

  async function openGate(input: Parameters<ControlActivities['openGate']>[0]): Promise<GateAnswer> {
    const { run, repo, gate, environment, deliverables } = input
    const detail = await runOf(run)
    const denied = withheld(detail.secrets, { kind: 'environment', name: environment })
    if (denied !== undefined) throw ApplicationFailure.nonRetryable(denied, 'failed')
    const settings = repositoryOf(repo)?.environments[environment]?.gate
    if (!settings) throw ApplicationFailure.nonRetryable(`environment ${environment} has no gate any more`, 'errored')
    const subject: Subject = {
      run,
      gate,
      environment,
      commit: detail.change.commit,
      specDigest: input.specDigest,
      deliverables: deliverables.map((one) => `${one.name}=${one.digest}`).sort(),
    }
    const known = await store.gates.get(run, gate)
    const rules = {
      approvers: approversOf(config, repo, environment),
      quorum: settings.quorum,
      // The rules of a gate that is open are those that it was opened with.
      excluded: known?.state === 'open' ? known.rules.excluded : await excludedFrom(detail),
      expiresAt: known?.state === 'open' ? (known.rules.expiresAt ?? 0) : deps.clock() + settings.expiresMs,
    }
    const row = await store.gates.open(run, gate, environment, rules, subject)
    const answer = toGateAnswer(row)
    await store.events.append(run, `${gate}/opened/${row.id}`, [
      { type: 'gate.opened.v1', gate, environment, needs: answer.sentence },
    ])
    return answer
  }

  /**
   * Who wrote or pushed anything since the last release, as the commits say (which may only take a vote away), as the
   * forge has authenticated them, and as was told when it came: not every forge can be asked later.
   */
  async function excludedFrom(detail: RunDetail): Promise<readonly string[]> {
    const { repo, change } = detail
    const repository = repositoryOf(repo)
    const forge = repository && deps.forges(repository)
    const source = await forge?.source()
    const tip = repository && (await forge?.branchTip(repository.branches.production))
    if (source !== undefined) await mirrors.ensure(repo, source, change.commit)
    // Before the first release there is no last one: then it is this change alone.
    let commits: readonly Commit[] = [{ commit: change.commit, ...(await mirrors.commitInfo(repo, change.commit)) }]
    if (source !== undefined && tip !== undefined) {
      await mirrors.ensure(repo, source, tip)
      commits = [...commits, ...(await mirrors.between(repo, tip, change.commit, COMMITS_OF_A_RELEASE)).commits]
    }
    const ids = commits.map(({ commit }) => commit)
    const pushers = (await forge?.pushes?.pushersOf(ids)) ?? []
    const authors = commits.map(({ author, authorEmail }) => `${author} <${authorEmail}>`)
    const told = await store.runs.peopleBehind(repo, ids)
    const people = [change, ...told].flatMap((one) => excludedOf(config, one))
    return [...new Set([...people, ...peopleOf(config, [...pushers, ...authors])])].sort()
  }

  async function castVote({ run, gate, key, answer, vote }: Parameters<ControlActivities['castVote']>[0]) {
    const channel = vote.channel ?? 'signal'
    const judged = await store.gates.vote({
      key,
      run,
      gate,
      answer,
      claimedBy: String(vote.who ?? ''),
      channel,
      trustSignals: config.trustTemporalAccess,
      ...(vote.token === undefined ? {} : { token: vote.token }),
      ...(vote.comment === undefined ? {} : { comment: vote.comment }),
    })
    if (!judged.counts) log.info({ run, gate, who: vote.who, why: judged.why }, 'a vote did not count')
    const { verdict, counts, why } = judged
    const voted = {
      type: 'gate.voted.v1',
      gate,
      by: String(vote.who ?? ''),
      answer,
      channel,
      counts,
      ...(vote.comment === undefined ? {} : { comment: vote.comment }),
      ...(why === undefined ? {} : { why }),
    } as const
    await store.events.append(run, `${gate}/vote/${key}`, [
      voted,
      ...(verdict.kind === 'open' ? [] : [{ type: 'gate.decided.v1', gate, verdict: verdict.kind } as const]),
    ])
    return gateAnswer(run, gate)
  }

  async function gateAnswer(run: string, gate: string): Promise<GateAnswer> {
    const row = await store.gates.get(run, gate)
    if (!row) throw ApplicationFailure.nonRetryable(`run ${run} has no gate "${gate}"`, 'errored')
    return toGateAnswer(row)
  }

  async function expireGate({ run, gate }: { run: string; gate: string }) {
    await store.gates.expire(run, gate)
    return gateAnswer(run, gate)
  }

  /** What the repositories that the operator named as blocking have against this candidate; undefined: nothing. */
  async function blockedBy(
    detail: RunDetail,
    { dependents: { blocking }, name }: RepositoryConfig,
  ): Promise<{ readonly sentence: string; readonly isOver: boolean } | undefined> {
    const events = (await store.events.of(detail.id)).map(({ event }) => event)
    for (const { repo, isBlocking, run: number, refused } of dependentsOf(events, { name, blocking })) {
      if (!isBlocking) continue
      if (refused !== undefined) return { sentence: `${repo} must pass before production: ${refused}`, isOver: true }
      const run = number === undefined ? undefined : await store.runs.get(repo, number)
      if (run === undefined || !isOutcome(run.status)) {
        const sentence =
          run === undefined ? `${repo} has not been started yet` : `run ${run.number} of ${repo} is ${run.status}`
        return { sentence, isOver: false }
      }
      if (run.status === 'succeeded') continue
      const sentence = `run ${run.number} of ${repo} ${run.status}${run.reason ? `: ${run.reason}` : ''}; retry it, then this one`
      return { sentence, isOver: true }
    }
    return undefined
  }

  /** While one that blocks is not through, the promotion is tried again: nothing is held meanwhile. */
  async function heldByDependents(detail: RunDetail, repository: RepositoryConfig): Promise<string | undefined> {
    if (repository.dependents.blocking.length === 0) return undefined
    const blocked = await blockedBy(detail, repository)
    if (blocked?.isOver) return blocked.sentence
    if (blocked !== undefined) {
      const { sentence } = blocked
      await store.runs.setStatus(detail.id, 'waiting', {
        ...(detail.stage === undefined ? {} : { stage: detail.stage }),
        waiting: { kind: 'dependents', sentence },
      })
      throw ApplicationFailure.create({ message: sentence, type: 'waits', nextRetryDelay: DEPENDENTS_LOOK })
    }
    await store.runs.setStatus(detail.id, 'running', detail.stage === undefined ? {} : { stage: detail.stage })
    return undefined
  }

  async function promote({ run, gate, branch }: Parameters<ControlActivities['promote']>[0]) {
    const ended = await endedAlready(run)
    if (ended) return { outcome: 'errored', reason: ended } as const
    const detail = await runOf(run)
    const repository = repositoryOf(detail.repo)
    if (!repository)
      return { outcome: 'errored', reason: `${detail.repo} is no longer in the operator's file` } as const
    const denied = withheld(detail.secrets, { kind: 'branch', name: branch })
    if (denied !== undefined) return { outcome: 'failed', reason: denied } as const
    const held = await heldByDependents(detail, repository)
    if (held) return { outcome: 'failed', reason: held } as const
    const other = await store.promotions.hold(detail.repo, branch, run, HOLD_MS)
    if (other !== undefined) throw ApplicationFailure.retryable(`${other} is moving ${branch}`, 'branch_held')
    try {
      return await beating(() => moveBranch(repository, detail, gate, branch))
    } finally {
      await store.promotions.release(detail.repo, branch, run)
    }
  }

  /** One at a time for a branch. */
  async function moveBranch(repository: RepositoryConfig, detail: RunDetail, gate: string, branch: string) {
    const { commit } = detail.change
    const forge = deps.forges(repository)
    const admitted = admit('promotion', ON_A_BRANCH)
    if (admitted.kind === 'refused') return { outcome: 'failed', reason: admitted.sentence } as const
    const events = await store.events.of(detail.id)
    const isJudged = events.some(({ event }) => event.type === 'promotion.judged.v1' && event.branch === branch)
    // Moved by a try that was ended before it could say so: the judgement before that move was the one that counts.
    if (!isJudged || (await forge.branchTip(branch)) !== commit) {
      const why = whyNotReleased(config, detail, await store.gates.get(detail.id, gate))
      if (why !== undefined) return { outcome: 'failed', reason: why } as const
      await store.events.append(detail.id, `judged/${branch}`, [{ type: 'promotion.judged.v1', branch, commit }])
    }
    const moved = await fastForward(forge, detail, branch)
    if (moved.kind === 'refused') return { outcome: 'failed', reason: moved.why } as const
    await store.events.append(detail.id, `promoted/${branch}`, [{ type: 'branch.promoted.v1', branch, commit }])
    // The forge's webhook says the same; whichever comes first makes the run, so a lost delivery loses no release.
    await store.deliveries.record(
      { source: 'promotion', id: detail.id, bodyDigest: commit, event: 'push' },
      {
        kind: 'promotion',
        repo: detail.repo,
        requestedBy: detail.id,
        change: {
          commit,
          ref: `refs/heads/${branch}`,
          ...(moved.kind === 'moved' && moved.from ? { before: moved.from } : {}),
          ...(detail.change.author ? { author: detail.change.author } : {}),
        },
      },
      admitted,
    )
    return { outcome: 'succeeded' } as const
  }

  /**
   * A branch whose rules ask for the status of the sign-off refuses until that has come to the forge, which is a moment
   * after the approval. What is no fast-forward is refused for good.
   */
  async function fastForward(forge: Forge, { repo, change }: RunDetail, branch: string): Promise<FastForward> {
    const { commit } = change
    for (let tries = 1; ; tries++) {
      const moved = await forge.fastForward(branch, commit)
      if (moved.kind !== 'refused' || moved.at === undefined || tries >= PROTECTED_TRIES) return moved
      const source = await forge.source()
      await mirrors.ensure(repo, source, moved.at)
      await mirrors.ensure(repo, source, commit)
      if ((await mirrors.between(repo, moved.at, commit, 0)).behind > 0) return moved
      await Context.current().sleep(PROTECTED_PAUSE_MS)
    }
  }

  return {
    beginTry,
    append: ({ run, key, events }) => store.events.append(run, key, events),
    showWaiting: ({ run, stage, waiting }) =>
      store.runs.setStatus(run, waiting ? 'waiting' : 'running', {
        ...(stage === undefined ? {} : { stage }),
        ...(waiting === undefined ? {} : { waiting }),
      }),
    finishTry,
    async cancelReason({ run }) {
      const { cancel } = await runOf(run)
      return cancel ? `canceled by ${cancel.by}: ${cancel.reason}` : 'canceled in Temporal'
    },
    acquireEnvironment,
    async supersede({ run, by }) {
      // Who waits for an environment is its run, at that environment.
      const [newer = by] = by.split('@')
      await store.runs.requestCancel(run, PENSTOCK, supersededReason(newer))
    },
    isDeployed,
    acquirePools,
    startJob,
    startSegment,
    placement,
    awaitPlacement,
    endJob,
    removeJob: ({ key }) => cluster.removeJob(key),
    removeNetwork: ({ run }) => cluster.removeNetwork(run),
    chooseBuildNode,
    deploy,
    openGate,
    castVote,
    expireGate,
    promote,
  }
}

function toSpecDiagnostic({ code, file, line, column, message, suggestion }: Diagnostic): SpecDiagnostic {
  return { code, file, line, column, message, ...(suggestion === undefined ? {} : { suggestion }) }
}

const BEAT_MS = 2_000

/** The first fetch of a big repository, or a deployment, takes minutes: the beats say that somebody is at it. */
async function beating<T>(act: () => Promise<T>): Promise<T> {
  const context = Context.current()
  const beat = setInterval(() => context.heartbeat(), BEAT_MS)
  try {
    return await act()
  } finally {
    clearInterval(beat)
  }
}

function slotHolder(key: JobKey): string {
  return `${jobId(key)}:slot`
}

function endedSentence(run: string, outcome: Outcome): string {
  return `run ${run} has ended already: ${outcome}`
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

function leaseEnvironment(
  leases: readonly { pool: string; unit: string; fence: number; properties: Readonly<Record<string, string>> }[],
) {
  const env: Record<string, string> = {}
  for (const { pool, unit, fence, properties } of leases) {
    if (pool === JOB_SLOTS) continue
    const prefix = `CI_POOL_${variableName(pool)}`
    const units = env[prefix]
    env[prefix] = units === undefined ? unit : `${units} ${unit}`
    env[`${prefix}_FENCE`] = String(fence)
    for (const [name, value] of Object.entries(properties)) env[`${prefix}_${variableName(name)}`] = value
  }
  return env
}

function toGateAnswer(row: GateRow): GateAnswer {
  const { rules } = row
  const approvals = new Set(row.votes.filter((one) => one.counts && one.answer === 'approve').map((one) => one.by))
  switch (row.state) {
    case 'approved':
      return { kind: 'approved', sentence: `approved by ${[...approvals].join(', ')}` }
    case 'rejected': {
      const by = row.votes.find((one) => one.counts && one.answer === 'reject')
      return { kind: 'rejected', sentence: `by ${by?.by ?? '?'}${by?.comment ? `: ${by.comment}` : ''}` }
    }
    case 'expired':
      return { kind: 'expired', sentence: `without the ${rules.quorum} approval(s) it needs` }
    case 'voided':
    case 'open':
      return {
        kind: 'open',
        sentence: gateSentence({ ...row, votes: row.votes.filter((one) => one.counts) }),
        ...(rules.expiresAt === undefined ? {} : { expiresAt: rules.expiresAt }),
      }
  }
}
