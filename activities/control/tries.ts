import { Context } from '@temporalio/activity'
import { whyNotOverridden } from '../../src/approval/override.ts'
import { gateVariables, whyNotReleased } from '../../src/approval/released.ts'
import { approverProblem, shortageOf } from '../../src/config/gate.ts'
import type { EnvironmentGate, RepositoryConfig } from '../../src/config/types.ts'
import { withheld } from '../../src/core/admission.ts'
import { branchName, branchRole } from '../../src/core/change.ts'
import type { SpecDiagnostic } from '../../src/core/events.ts'
import { isOutcome, type Outcome } from '../../src/core/outcome.ts'
import type { Deliverable, Plan } from '../../src/core/plan.ts'
import type { Begun, ControlActivities, RunInput } from '../../src/core/run-contract.ts'
import { NoSuchCommit, NotAFile } from '../../src/git/mirrors.ts'
import { compilePlan, type PlannedRules } from '../../src/plan/compile.ts'
import { propertyTypes } from '../../src/pools/where.ts'
import { type Diagnostic, formatDiagnostic } from '../../src/spec/diagnostic.ts'
import { parseSpec, SPEC_FILE, specDigest } from '../../src/spec/parse.ts'
import type { RunDetail } from '../../src/store/types.ts'
import { beating } from './beating.ts'
import type { ControlContext } from './context.ts'
import type { createPromotion } from './promotion.ts'

const DIAGNOSTICS_SHOWN = 20
/** A forge may tell of a commit before it can be fetched. With the pauses between the tries this is about 15 s. */
const COMMIT_TRIES = 6

interface Released {
  readonly deliverables: readonly Deliverable[]
  readonly gateVariables: Readonly<Record<string, string>>
}

/** A try begins with its spec and plan, and ends with what it came to. */
export function createTries(
  context: ControlContext,
  { blockedBy }: Pick<ReturnType<typeof createPromotion>, 'blockedBy'>,
) {
  const { config, store, mirrors, rights, runOf, repositoryOf } = context

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
    let filledIn: Readonly<Record<string, string>> = {}
    if (branchRole(change.ref, repository.branches) === 'production' && !change.pullRequest) {
      const released = await releasedDeliverables(repository, detail)
      if ('refused' in released) return refuse('failed', released.refused)
      progress = { ...progress, deliverables: released.deliverables }
      filledIn = released.gateVariables
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
        ...(Object.keys(filledIn).length === 0 ? {} : { gateVariables: filledIn }),
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
      await beating(async () => mirrors.ensure(repository.name, await context.forges(repository).source(), commit))
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
            pools: await propertiesOfPools(),
            ...(repository.productionEnvironment === undefined ? {} : { production: repository.productionEnvironment }),
            environments: Object.values(repository.environments).map((one) => ({
              name: one.name,
              gate: one.gate !== undefined,
              ...(one.gate === undefined ? {} : { rules: plannedRules(repository, one.gate) }),
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

  function plannedRules(repository: RepositoryConfig, gate: EnvironmentGate): PlannedRules {
    return {
      expiresSeconds: Math.floor(gate.expiresMs / 1000),
      problemOf: (entry) => approverProblem(config, repository, entry),
      shortageOf: (added) => shortageOf(config, repository, [...gate.approvals, ...added]),
    }
  }

  async function propertiesOfPools() {
    const { pools, units } = await store.leases.inventory()
    return Object.fromEntries(pools.map(({ pool }) => [pool, propertyTypes(units.filter((one) => one.pool === pool))]))
  }

  /** What a push to the production branch ships: the bytes its candidate run built, tested and had approved. */
  async function releasedDeliverables(
    repository: RepositoryConfig,
    detail: RunDetail,
  ): Promise<Released | { readonly refused: string }> {
    const { commit } = detail.change
    const ref = `refs/heads/${repository.branches.candidate}`
    const candidate = await store.runs.releasedCandidate(repository.name, ref, commit)
    const missing =
      candidate === undefined
        ? `${commit.slice(0, 12)} did not pass a candidate run on ${branchName(ref)} and its gate`
        : await whyNotPromoted(repository, candidate)
    if (candidate !== undefined && missing === undefined) return releasedBy(candidate)
    const not = await whyNotOverridden(store.gates, rights, detail)
    if (not !== undefined) return { refused: `${missing}. ${not}` }
    if (candidate !== undefined) return releasedBy(candidate)
    for (const row of await store.runs.list({ limit: 200, repo: repository.name, ref })) {
      if (row.change.commit !== commit) continue
      const deliverables = await store.results.deliverables(row.id)
      if (deliverables.length > 0) return { deliverables, gateVariables: {} }
    }
    return { deliverables: [], gateVariables: {} }
  }

  /** With what was filled in at its gate. */
  async function releasedBy(candidate: RunDetail): Promise<Released> {
    const gates = new Map((await store.gates.ofRun(candidate.id)).map((gate) => [gate.name, gate]))
    const variables = [...gates.values()].map(gateVariables)
    return { deliverables: candidate.progress.deliverables, gateVariables: Object.assign({}, ...variables) }
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
      const not = await whyNotReleased(rights, candidate, gate, context.clock())
      if (not !== undefined) return not.why
    }
    return (await blockedBy(candidate, repository))?.sentence
  }

  async function finishTry({ run, try: number, outcome, reason }: Parameters<ControlActivities['finishTry']>[0]) {
    await store.events.append(run, `try/${number}/finished`, [
      { type: 'run.finished.v1', try: number, outcome, ...(reason === undefined ? {} : { reason }) },
    ])
    await store.leases.releaseRun(run)
  }

  return { beginTry, finishTry }
}

function toSpecDiagnostic({ code, file, line, column, message, suggestion }: Diagnostic): SpecDiagnostic {
  return { code, file, line, column, message, ...(suggestion === undefined ? {} : { suggestion }) }
}
