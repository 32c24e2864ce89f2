import type { ManualTest, PoolRequest, Resources, SecretUse } from '../core/plan.ts'
import { visible } from './diagnostic.ts'
import { askedOf } from './references.ts'
import type {
  JobInput,
  ManualInput,
  PoolInput,
  ResourcesInput,
  SecretsInput,
  SingleJobInput,
  SpecInput,
  StageInput,
  StepsInput,
} from './schema.ts'
import { durationSeconds, memoryBytes, workspacePath } from './schema.ts'
import type { DeliverSpec, DeploySpec, JobSpec, SignoffSpec, Spec, StepSpec } from './spec.ts'
import type { Path, Tree } from './tree.ts'

const DEFAULT_RESOURCES: Resources = {
  cpus: { reserve: 0, limit: 2 },
  memory: { reserve: 0, limit: 2 * 1024 ** 3 },
  pids: 4096,
}
const DEFAULT_TIMEOUT = '1h'
const STEP_NAME_LENGTH = 80
const DEFAULT_TESTERS = 'role:approver'
const DEFAULT_EXPIRES = '7d'

/** Writes out every short form and default of a file whose shape and references were found right. */
export function toSpec(input: SpecInput, tree: Tree): Spec {
  const defaults: Defaults = {
    image: input.image,
    env: toEnv(input.env),
    timeout: input.timeout ?? DEFAULT_TIMEOUT,
    workdir: input.workdir ?? '/workspace',
    resources: toResources(input.resources, DEFAULT_RESOURCES),
  }
  return {
    follows: follows(input.on?.upstream),
    test: toStageJobs('test', input.test, defaults, tree),
    deliver: Object.entries(input.deliver ?? {}).map(([name, one]): DeliverSpec => {
      if (!('docker' in one)) return { kind: 'package', name, files: one.package, job: toJob(name, one, defaults) }
      return {
        kind: 'image',
        name,
        context: one.docker,
        dockerfile: one.dockerfile ?? 'Dockerfile',
        ...(one.to === undefined ? {} : { to: one.to }),
      }
    }),
    e2e: toStageJobs('e2e', input.e2e, defaults, tree),
    deploy: Object.entries(input.deploy ?? {}).map(
      ([environment, how]): DeploySpec => ({
        environment,
        place: tree.placeOfKey(['deploy', environment]),
        how:
          typeof how === 'object' && 'deliverable' in how
            ? { kind: 'release', deliverable: how.deliverable }
            : { kind: 'job', job: toJob(environment, how, defaults) },
      }),
    ),
    asked: askedOf(tree),
    ...(input.signoff === undefined ? {} : { signoff: toSignoff(input.signoff, tree) }),
  }
}

function toSignoff({ approvals, expires }: NonNullable<SpecInput['signoff']>, tree: Tree): SignoffSpec {
  return {
    place: tree.placeOfKey(['signoff']),
    approvals: (approvals ?? []).map(({ from, count }, index) => ({
      from,
      count: count ?? 1,
      place: tree.placeOf(['signoff', 'approvals', index]),
      places: from.map((_, entry) => tree.placeOf(['signoff', 'approvals', index, 'from', entry])),
    })),
    ...(expires === undefined
      ? {}
      : {
          expires: {
            seconds: decided(durationSeconds(expires)),
            text: expires,
            place: tree.placeOf(['signoff', 'expires']),
          },
        }),
  }
}

function follows(upstream: NonNullable<SpecInput['on']>['upstream'] | undefined): Spec['follows'] {
  if (upstream === undefined) return []
  return (Array.isArray(upstream) ? upstream : [upstream]).map(({ repo, branch }) => ({
    repo,
    ...(branch === undefined ? {} : { branch }),
  }))
}

interface Defaults {
  readonly image: string | undefined
  readonly env: Readonly<Record<string, string>>
  readonly timeout: string
  readonly workdir: string
  readonly resources: Resources
}

function toStageJobs(stage: string, input: StageInput | undefined, defaults: Defaults, tree: Tree): JobSpec[] {
  if (input === undefined) return []
  if (typeof input === 'string' || Array.isArray(input)) return [toJob(stage, input, defaults)]
  return Object.entries(input).map(([name, job]) => {
    if (typeof job === 'string' || Array.isArray(job) || 'run' in job) return toJob(name, job, defaults)
    const path: Path = 'manual' in job ? [stage, name, 'manual', 'checklist'] : [stage, name, 'checklist']
    const manual = toManualTest('manual' in job ? job.manual : job, (index) => tree.placeOf([...path, index]).line)
    const { needs, pool } = job
    const around = { ...(needs === undefined ? {} : { needs }), ...(pool === undefined ? {} : { pool }) }
    return { ...toJob(name, { run: [], ...around }, defaults), manual }
  })
}

function toManualTest({ checklist, by, expires }: ManualInput, lineOf: (index: number) => number): ManualTest {
  const testers = by ?? DEFAULT_TESTERS
  return {
    checklist: checklist.map((item, index) => ({
      name: typeof item === 'string' ? item : item.name,
      ...(typeof item === 'string' || item.instructions === undefined ? {} : { instructions: item.instructions }),
      required: typeof item === 'string' || (item.required ?? true),
      line: lineOf(index),
    })),
    by: [...new Set(typeof testers === 'string' ? [testers] : testers)],
    expiresSeconds: decided(durationSeconds(expires ?? DEFAULT_EXPIRES)),
  }
}

type RunInput = Extract<JobInput, { readonly run: unknown }>

function toJob(name: string, input: StepsInput | string | RunInput | SingleJobInput, defaults: Defaults): JobSpec {
  const job: RunInput = typeof input === 'string' || Array.isArray(input) ? { run: input } : input
  const needs = job.needs ?? []
  const junit = job.reports?.junit ?? []
  return {
    name,
    needs: [...new Set(typeof needs === 'string' ? [needs] : needs)],
    steps: toSteps(name, job.run, job.image ?? defaults.image),
    env: { ...defaults.env, ...toEnv(job.env) },
    secrets: toSecrets(job.secrets),
    workdir: decided(workspacePath(job.workdir ?? defaults.workdir)),
    timeoutSeconds: decided(durationSeconds(job.timeout ?? defaults.timeout)),
    resources: toResources(job.resources, defaults.resources),
    constraints: job.constraints ?? [],
    pools: toPools(job.pool),
    junit: typeof junit === 'string' ? [junit] : junit,
    onLost: job.on_lost ?? 'fail',
  }
}

/** Adjacent plain commands become one step; a mapping is a step of its own. */
function toSteps(job: string, run: string | StepsInput, jobImage: string | undefined): StepSpec[] {
  const steps: StepSpec[] = []
  let plain: string[] = []
  const endPlain = () => {
    if (plain.length > 0) steps.push({ name: stepName(job, plain), image: decided(jobImage), run: plain, env: {} })
    plain = []
  }
  for (const item of typeof run === 'string' ? [run] : run) {
    if (typeof item === 'string') {
      plain.push(item)
      continue
    }
    endPlain()
    const commands = typeof item.run === 'string' ? [item.run] : item.run
    steps.push({
      name: item.name ?? stepName(job, commands),
      image: decided(item.image ?? jobImage),
      run: commands,
      env: toEnv(item.env),
      ...(item.timeout === undefined ? {} : { timeoutSeconds: decided(durationSeconds(item.timeout)) }),
    })
  }
  endPlain()
  return steps
}

/** The first line of the first command that is no comment, and how many commands follow. */
function stepName(job: string, commands: readonly string[]): string {
  const lines = (commands[0] ?? '').split('\n').map((line) => line.trim())
  const line = lines.find((one) => one !== '' && !one.startsWith('#')) ?? lines.find((one) => one !== '')
  const first = [...visible(line ?? job)]
  const more = commands.length > 1 ? ` (+${commands.length - 1})` : ''
  const room = STEP_NAME_LENGTH - more.length
  return `${first.length > room ? `${first.slice(0, room - 1).join('')}…` : first.join('')}${more}`
}

function toEnv(env: Readonly<Record<string, string | number | boolean>> | undefined): Record<string, string> {
  return Object.fromEntries(Object.entries(env ?? {}).map(([name, value]) => [name, String(value)]))
}

function toSecrets(secrets: SecretsInput | undefined): SecretUse[] {
  if (secrets === undefined) return []
  if (Array.isArray(secrets)) return secrets.map((name) => ({ name, env: false }))
  return Object.entries(secrets).map(([name, how]) => ({ name, env: how === 'env' }))
}

function toPools(pool: PoolInput | undefined): PoolRequest[] {
  if (pool === undefined) return []
  if (typeof pool === 'string') return [{ pool, count: 1, labels: [] }]
  return Object.entries(pool).map(([name, how]) => {
    if (typeof how === 'number') return { pool: name, count: how, labels: [] }
    const { count = 1, labels = [], where, mode } = how
    return {
      ...{ pool: name, count, labels },
      ...(where === undefined ? {} : { where }),
      ...(mode === undefined ? {} : { mode }),
    }
  })
}

function toResources(input: ResourcesInput | undefined, defaults: Resources): Resources {
  const { cpus, memory, pids } = input ?? {}
  const bytes = (size: string | undefined) => (size === undefined ? undefined : decided(memoryBytes(size)))
  return {
    cpus: toRange(typeof cpus === 'number' ? { reserve: cpus, limit: cpus } : cpus, defaults.cpus),
    memory: toRange(
      typeof memory === 'string'
        ? { reserve: bytes(memory), limit: bytes(memory) }
        : { reserve: bytes(memory?.reserve), limit: bytes(memory?.limit) },
      defaults.memory,
    ),
    pids: pids ?? defaults.pids,
  }
}

/** What is not written gives way to what is: a limit rises to the reservation, a reservation sinks to the limit. */
function toRange(
  written: { readonly reserve?: number | undefined; readonly limit?: number | undefined } | undefined,
  defaults: { readonly reserve: number; readonly limit: number },
): { reserve: number; limit: number } {
  const { reserve, limit } = written ?? {}
  return {
    reserve: reserve ?? Math.min(defaults.reserve, limit ?? defaults.reserve),
    limit: limit ?? Math.max(defaults.limit, reserve ?? defaults.limit),
  }
}

/** For values that the schema or the references have been checked for. */
function decided<Value>(value: Value | undefined): Value {
  if (value === undefined) throw new Error('the spec was not checked before its long form was written')
  return value
}
