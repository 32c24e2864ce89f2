import type { BranchNames, BranchRole, Trigger } from '../core/change.ts'
import { branchRole } from '../core/change.ts'
import type { DeliverablePlan, DeployStage, Job, OmittedStage, Plan, Segment, Stage, Step } from '../core/plan.ts'
import { checkWhereFor, type PropertyType } from '../pools/where.ts'
import type { Diagnostic, Problem } from '../spec/diagnostic.ts'
import { diagnosticAt } from '../spec/diagnostic.ts'
import type { DeploySpec, JobSpec, Spec } from '../spec/spec.ts'
import { didYouMean } from '../spec/suggest.ts'

/** What the operator's file says of an environment, as far as a plan depends on it. */
export interface PlannedEnvironment {
  readonly name: string
  /** Whether people must approve before something is deployed there. */
  readonly gate: boolean
  /** The gate's rules, for whoever adds to them. Absent: nobody knows them here, and what is added is taken as it is. */
  readonly rules?: PlannedRules
}

export interface PlannedRules {
  readonly expiresSeconds: number
  /** What is wrong with an entry of `from`, by the operator's people; undefined: nothing. */
  readonly problemOf: (entry: string) => string | undefined
  /** Why these groups could not be filled beside the operator's own; undefined: they could. */
  readonly shortageOf: (
    added: readonly { readonly from: readonly string[]; readonly count: number }[],
  ) => string | undefined
}

export interface CompileInput {
  readonly spec: Spec
  /** sha256 (hex) of the bytes of the spec file. */
  readonly specDigest: string
  readonly trigger: Trigger
  readonly branches: BranchNames
  /** In the operator's order. */
  readonly environments: readonly PlannedEnvironment[]
  /** The one with a gate that the production branch deploys, as the operator says; absent: the only one with a gate. */
  readonly production?: string
  /** Properties of the units there are, by pool; absent: nobody knows. */
  readonly pools?: Readonly<Record<string, Readonly<Record<string, PropertyType>>>>
}

export type Compiled =
  | { readonly kind: 'ok'; readonly plan: Plan }
  | { readonly kind: 'wrong'; readonly diagnostics: readonly Diagnostic[] }

/** The pipeline for one trigger: same input, same plan. */
export function compilePlan(input: CompileInput): Compiled {
  const { spec, environments } = input
  const diagnostics = [
    ...environmentDiagnostics(spec, environments, productionOf(input)),
    ...signoffDiagnostics(spec, environments, productionOf(input)),
    ...poolDiagnostics(spec, input.pools ?? {}),
  ]
  if (diagnostics.length > 0) return { kind: 'wrong', diagnostics }
  const { trigger, branches } = input
  const isTestOnly = trigger.kind === 'pull_request' || trigger.kind === 'upstream'
  const role = isTestOnly ? 'feature' : branchRole(trigger.change.ref, branches)
  // A run against another repository's candidate leaves nothing to anybody: it is no step on this commit's way.
  const omitted = role === 'feature' && trigger.kind !== 'upstream' ? omittedStages(input) : []
  return {
    kind: 'ok',
    plan: {
      version: 1,
      repo: trigger.repo,
      specDigest: input.specDigest,
      stages: stagesFor(role, input),
      ...(omitted.length > 0 ? { omitted } : {}),
    },
  }
}

/** The spec chooses whether it is deployed, and never which gate is asked. */
function productionOf({ environments, production }: CompileInput): string | undefined {
  const gated = environments.filter(({ gate }) => gate)
  return production ?? (gated.length === 1 ? gated[0]?.name : undefined)
}

function stagesFor(role: BranchRole, input: CompileInput): Stage[] {
  const { spec, branches, environments } = input
  const guarded = productionOf(input)
  const isGated = (name: string) => environments.some((one) => one.name === name && one.gate)
  const staging = spec.deploy.find(({ environment }) => !isGated(environment))
  const production = spec.deploy.find(({ environment }) => environment === guarded)
  const test: Stage[] = spec.test.length > 0 ? [{ kind: 'jobs', name: 'test', jobs: spec.test.map(toJob) }] : []

  switch (role) {
    case 'feature':
      return test
    case 'production':
      return production ? [toDeployStage(production)] : []
    case 'candidate': {
      const tested = staging?.environment ?? environments.find(({ gate }) => !gate)?.name
      return [
        ...test,
        ...deliverStage(spec),
        ...(staging ? [toDeployStage(staging)] : []),
        ...e2eStage(spec, tested),
        ...(production ? releaseStages(production.environment, branches.production, spec.signoff) : []),
      ]
    }
  }
}

/**
 * What a feature branch leaves to the candidate branch. Not the gate nor what follows it: nobody has signed a feature
 * branch off, so nothing may say that a sign-off is no longer missing.
 */
function omittedStages(input: CompileInput): OmittedStage[] {
  const whole = stagesFor('candidate', input)
  const gate = whole.findIndex(({ kind }) => kind === 'gate')
  const planned = new Set(stagesFor('feature', input).map(({ name }) => name))
  const reason = `not asked of a feature branch: runs once ${input.branches.candidate} has this commit`
  return whole
    .slice(0, gate === -1 ? whole.length : gate)
    .filter(({ name }) => !planned.has(name))
    .map(({ name }) => ({ name, reason }))
}

function deliverStage(spec: Spec): Stage[] {
  if (spec.deliver.length === 0) return []
  const deliverables = spec.deliver.map((one): DeliverablePlan => {
    if (one.kind === 'image') return one
    return { kind: 'package', name: one.name, job: toJob(one.job), files: one.files }
  })
  return [{ kind: 'deliver', name: 'deliver', deliverables }]
}

function e2eStage(spec: Spec, environment: string | undefined): Stage[] {
  if (spec.e2e.length === 0) return []
  return [{ kind: 'jobs', name: 'e2e', ...(environment ? { environment } : {}), jobs: spec.e2e.map(toJob) }]
}

function releaseStages(environment: string, branch: string, signoff: Spec['signoff']): Stage[] {
  return [
    {
      ...({ kind: 'gate', name: 'signoff', environment } as const),
      ...(signoff === undefined || signoff.approvals.length === 0
        ? {}
        : { approvals: signoff.approvals.map(({ from, count }) => ({ from, count })) }),
      ...(signoff?.expires === undefined ? {} : { expiresSeconds: signoff.expires.seconds }),
    },
    { kind: 'promote', name: 'promote', branch },
  ]
}

function toDeployStage({ environment, how }: DeploySpec): DeployStage {
  return {
    kind: 'deploy',
    name: environment,
    environment,
    how: how.kind === 'release' ? how : { kind: 'job', job: toJob(how.job) },
  }
}

function toJob({ steps, junit, ...job }: JobSpec): Job {
  return { ...job, segments: toSegments(steps), reports: { junit } }
}

/** Adjacent steps of one image share a container, so that ten steps cost what one costs. */
function toSegments(steps: JobSpec['steps']): Segment[] {
  const segments: { image: string; steps: Step[] }[] = []
  for (const { image, ...step } of steps) {
    const last = segments.at(-1)
    if (last?.image === image) last.steps.push(step)
    else segments.push({ image, steps: [step] })
  }
  return segments
}

/** Whether what jobs ask of units can be asked of the units there are. A pool that is not there makes its job fail, not the run. */
function poolDiagnostics({ asked }: Spec, pools: NonNullable<CompileInput['pools']>): Diagnostic[] {
  return asked.flatMap(({ pool, where }) => {
    const properties = Object.hasOwn(pools, pool) ? pools[pool] : undefined
    const problem = where && properties ? checkWhereFor(where.text, properties) : undefined
    if (where === undefined || problem === undefined) return []
    const { message, suggestion } = problem
    return diagnosticAt(where.place, { code: 'bad-expression', message: `pool "${pool}": ${message}`, suggestion })
  })
}

/** Whether each deployment of the file has a place in the branching model of this operator. */
function environmentDiagnostics(
  spec: Spec,
  environments: readonly PlannedEnvironment[],
  production: string | undefined,
): Diagnostic[] {
  const diagnostics: Diagnostic[] = []
  let tested: string | undefined
  for (const { environment, place } of spec.deploy) {
    const report = (problem: Problem) => diagnostics.push(diagnosticAt(place, problem))
    const declared = environments.find(({ name }) => name === environment)
    if (declared === undefined) {
      const names = environments.map(({ name }) => name)
      report({
        code: 'unknown-environment',
        message: `environment "${environment}" is not declared by the operator`,
        suggestion: didYouMean(environment, names, 'environment declared for this repository'),
      })
      continue
    }
    if (declared.gate) {
      if (environment === production) continue
      report({
        code: 'environment-without-branch',
        message:
          production === undefined
            ? `no branch would deploy "${environment}": the operator has not said which environment with a gate is the production branch's`
            : `no branch would deploy "${environment}", which has a gate: the production branch deploys "${production}", as the operator says`,
        suggestion: production === undefined ? 'remove it' : `deploy "${production}"`,
      })
    } else if (tested === undefined) tested = environment
    else {
      report({
        code: 'environment-without-branch',
        message: `no branch would deploy "${environment}": the candidate branch deploys "${tested}", the first environment without a gate`,
        suggestion: 'remove one of the two',
      })
    }
  }
  return diagnostics
}

/** What the spec asks for beside the operator: more is right, less is told, with what the operator asks for. */
function signoffDiagnostics(
  { signoff, deploy }: Spec,
  environments: readonly PlannedEnvironment[],
  production: string | undefined,
): Diagnostic[] {
  if (signoff === undefined) return []
  const guarded = environments.find(({ name, gate }) => gate && name === production)
  const target = deploy.some(({ environment }) => environment === production) ? guarded : undefined
  if (target === undefined) {
    return [
      diagnosticAt(signoff.place, {
        code: 'signoff-without-gate',
        message: 'nothing is signed off: no environment under deploy has a gate',
        suggestion:
          guarded === undefined
            ? 'remove it; the operator has declared no gate'
            : `deploy to the one that has: ${guarded.name}`,
      }),
    ]
  }
  const { rules, name } = target
  if (rules === undefined) return []
  const diagnostics: Diagnostic[] = []
  const { approvals, expires } = signoff
  if (expires !== undefined && expires.seconds > rules.expiresSeconds) {
    const most = durationText(rules.expiresSeconds)
    diagnostics.push(
      diagnosticAt(expires.place, {
        code: 'signoff-weakens',
        message: `${expires.text} is longer than the ${most} of the operator for ${name}: a spec may add to a gate, and take nothing away`,
        suggestion: `write at most ${most}`,
      }),
    )
  }
  for (const { from, places } of approvals) {
    for (const [index, entry] of from.entries()) {
      const problem = rules.problemOf(entry)
      const place = places[index]
      if (problem !== undefined && place !== undefined)
        diagnostics.push(diagnosticAt(place, { code: 'unknown-approver', message: problem }))
    }
  }
  const shortage = diagnostics.length === 0 ? rules.shortageOf(approvals) : undefined
  if (shortage !== undefined) {
    const problem = { code: 'signoff-without-people', message: shortage, suggestion: 'ask for fewer, or for others' }
    diagnostics.push(diagnosticAt(approvals[0]?.place ?? signoff.place, problem))
  }
  return diagnostics
}

function durationText(seconds: number): string {
  const units = [
    ['d', 86_400],
    ['h', 3600],
    ['m', 60],
    ['s', 1],
  ] as const
  let rest = seconds
  let text = ''
  for (const [unit, size] of units) {
    const count = Math.floor(rest / size)
    if (count > 0) text += `${count}${unit}`
    rest %= size
  }
  return text
}
