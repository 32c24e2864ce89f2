import { checkWhere } from '../pools/where.ts'
import type { Diagnostic, Problem } from './diagnostic.ts'
import { diagnosticAt, quoted } from './diagnostic.ts'
import { pathText } from './issues.ts'
import { durationSeconds, JOB_KEYS, LIMITS, SpecInput } from './schema.ts'
import type { Spec } from './spec.ts'
import { didYouMean } from './suggest.ts'
import type { Path, Tree } from './tree.ts'

const DEFAULT_TIMEOUT_SECONDS = 3600

/**
 * What refers to what: needed jobs, released deliverables, images, secrets, templates. Works on the file as it is, whether
 * or not its shape is right, so that all that is wrong is told at once; where the shape is wrong, it is silent.
 */
export function referenceDiagnostics(tree: Tree): Diagnostic[] {
  const diagnostics: Diagnostic[] = []
  const file = asMap(tree.value)
  if (file === undefined) return diagnostics
  const atValue = (path: Path, problem: Problem) => diagnostics.push(diagnosticAt(tree.placeOf(path), problem))
  const atKey = (path: Path, problem: Problem) => diagnostics.push(diagnosticAt(tree.placeOfKey(path), problem))

  // An unknown key is told elsewhere, and may be a stage with a slip in it.
  const allKnown = Object.keys(file).every((key) => Object.hasOwn(SpecInput.shape, key))
  if (allKnown && !['test', 'deliver', 'e2e', 'deploy'].some((stage) => file[stage] !== undefined)) {
    atValue([], {
      code: 'nothing-to-do',
      message: 'the file has no stage',
      suggestion: 'write at least one of test, deliver, e2e and deploy',
    })
  }

  if (allKnown && file.on !== undefined && file.test === undefined) {
    atKey(['on'], {
      code: 'follows-without-tests',
      message: 'a candidate of the upstream would start nothing: it runs the stage test, and there is none',
      suggestion: 'add test, or remove on',
    })
  }

  for (const { path, job } of allJobs(file)) {
    checkImages(file, path, job, atKey)
    checkSecrets(file, path, job, atValue, atKey)
    checkTimeouts(file, path, job, atValue)
    checkManual(path, job, atValue, atKey)
    for (const one of poolsOf(path, job)) checkUnits(tree, one, (diagnostic) => diagnostics.push(diagnostic))
  }
  for (const stage of ['test', 'e2e']) checkNeeds(stage, file[stage], atValue)
  checkReleases(file, atValue)
  checkTemplates(tree.value, [], atValue)
  return diagnostics
}

type Report = (path: Path, problem: Problem) => void
type Fields = Readonly<Record<string, unknown>>

function asMap(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined
}

/** Every job of the file, in whatever form; `job` is a command, a list or a mapping. */
function* allJobs(file: Fields): Generator<{ readonly path: Path; readonly job: unknown }> {
  for (const stage of ['test', 'e2e'] as const) {
    const jobs = asMap(file[stage])
    const names = Object.keys(jobs ?? {}).filter((name) => !JOB_KEYS.includes(name))
    if (jobs) for (const name of names) yield { path: [stage, name], job: jobs[name] }
    else if (file[stage] !== undefined) yield { path: [stage], job: file[stage] }
  }
  const deliver = asMap(file.deliver)
  for (const name of Object.keys(deliver ?? {})) {
    const fields = asMap(deliver?.[name])
    if (fields?.package !== undefined) yield { path: ['deliver', name], job: fields }
  }
  const deploy = asMap(file.deploy)
  for (const name of Object.keys(deploy ?? {})) {
    const job = deploy?.[name]
    if (asMap(job)?.deliverable === undefined) yield { path: ['deploy', name], job }
  }
}

function checkImages(file: Fields, path: Path, job: unknown, report: Report): void {
  const fields = asMap(job)
  if (file.image !== undefined || fields?.image !== undefined) return
  const run = fields ? fields.run : job
  if (run === undefined || run === null) return
  const steps = Array.isArray(run) ? run : [run]
  if (steps.every((step) => asMap(step)?.image !== undefined)) return
  report(path, {
    code: 'no-image',
    message: `${pathText(path)} has no image`,
    suggestion: 'add `image` to the job, or at the top of the file for all jobs',
  })
}

function checkSecrets(file: Fields, path: Path, job: unknown, atValue: Report, atKey: Report): void {
  const fields = asMap(job)
  const secrets = fields?.secrets
  const names = Array.isArray(secrets) ? secrets : Object.keys(asMap(secrets) ?? {})
  const seen = new Set<string>()
  for (const [index, name] of names.entries()) {
    if (typeof name !== 'string') continue
    const at: Path = [...path, 'secrets', Array.isArray(secrets) ? index : name]
    const report = Array.isArray(secrets) ? atValue : atKey
    if (seen.has(name))
      report(at, { code: 'duplicate', message: `secret ${quoted(name)} is listed twice`, suggestion: 'remove one' })
    seen.add(name)
    const asVariable = asMap(secrets)?.[name] === 'env'
    for (const variable of asVariable ? [name, `${name}_FILE`] : [`${name}_FILE`]) {
      for (const [where, env] of [
        ['the job', fields?.env],
        ['the file', file.env],
      ] as const) {
        if (!Object.hasOwn(asMap(env) ?? {}, variable)) continue
        report(at, {
          code: 'secret-clash',
          message: `secret ${quoted(name)} sets variable ${variable}, which env of ${where} sets, too`,
          suggestion: 'rename the variable in env',
        })
      }
    }
  }
}

function checkTimeouts(file: Fields, path: Path, job: unknown, report: Report): void {
  const fields = asMap(job)
  const run = fields ? fields.run : job
  if (!Array.isArray(run)) return
  const written = fields?.timeout ?? file.timeout
  const limit = typeof written === 'string' ? durationSeconds(written) : DEFAULT_TIMEOUT_SECONDS
  const base: Path = fields ? [...path, 'run'] : path
  for (const [index, step] of run.entries()) {
    const timeout = asMap(step)?.timeout
    const seconds = typeof timeout === 'string' ? durationSeconds(timeout) : undefined
    if (seconds === undefined || limit === undefined || seconds <= limit) continue
    report([...base, index, 'timeout'], {
      severity: 'warning',
      code: 'timeout-without-effect',
      message: `the step may take ${String(timeout)}, but its job ends after ${typeof written === 'string' ? written : '1h (the default)'}`,
      suggestion: 'give the job a longer timeout',
    })
  }
}

/** The short form belongs to one name, and what is asked twice cannot be told apart. */
function checkManual(path: Path, job: unknown, atValue: Report, atKey: Report): void {
  const fields = asMap(job)
  if (fields?.checklist !== undefined && fields.run === undefined && path[1] !== 'manual') {
    atKey([...path, 'checklist'], {
      code: 'manual-short-form',
      message: `${pathText(path)} holds a checklist itself, as only a job called "manual" may`,
      suggestion: `write ${pathText(path)}: { manual: { checklist: … } }`,
    })
  }
  const inner = asMap(fields?.manual)?.checklist
  const checklist = inner ?? fields?.checklist
  if (!Array.isArray(checklist)) return
  const base: Path = [...path, ...(inner === undefined ? [] : ['manual']), 'checklist']
  const seen = new Set<string>()
  for (const [index, item] of checklist.entries()) {
    const name = asMap(item)?.name ?? item
    if (typeof name !== 'string') continue
    if (seen.has(name)) {
      atValue([...base, index], {
        code: 'duplicate',
        message: `the checklist asks for ${quoted(name)} twice`,
        suggestion: 'remove one, or say how they differ',
      })
    }
    seen.add(name)
  }
}

/** A pool that a job asks for, and where. */
interface AskedPool {
  readonly path: Path
  readonly pool: string
  readonly where?: string
}

function poolsOf(path: Path, job: unknown): readonly AskedPool[] {
  const asked = asMap(job)?.pool
  if (typeof asked === 'string') return [{ path: [...path, 'pool'], pool: asked }]
  return Object.entries(asMap(asked) ?? {}).map(([pool, how]) => {
    const where = asMap(how)?.where
    return { path: [...path, 'pool', pool], pool, ...(typeof where === 'string' ? { where } : {}) }
  })
}

function checkUnits(tree: Tree, { path, where }: AskedPool, report: (diagnostic: Diagnostic) => void): void {
  // What is too long for an expression is told elsewhere.
  const problem = where === undefined || where.length > LIMITS.where ? undefined : checkWhere(where)
  if (problem === undefined) return
  const { message, suggestion } = problem
  report(diagnosticAt(tree.placeIn([...path, 'where'], problem), { code: 'bad-expression', message, suggestion }))
}

/** What jobs ask of pools: whether there is any such unit is known only when a plan is made. */
export function askedOf(tree: Tree): Spec['asked'] {
  return [...allJobs(asMap(tree.value) ?? {})].flatMap(({ path, job }) =>
    poolsOf(path, job).map(({ path: at, pool, where }) => ({
      pool,
      place: typeof asMap(job)?.pool === 'string' ? tree.placeOf(at) : tree.placeOfKey(at),
      ...(where === undefined ? {} : { where: { text: where, place: tree.placeOf([...at, 'where']) } }),
    })),
  )
}

function needsOf(job: unknown): readonly string[] {
  const needs = asMap(job)?.needs
  const list = Array.isArray(needs) ? needs : [needs]
  return list.filter((one): one is string => typeof one === 'string')
}

function checkNeeds(stage: string, value: unknown, report: Report): void {
  const jobs = asMap(value)
  if (jobs === undefined) return
  const names = Object.keys(jobs)
  for (const name of names) {
    const listed = Array.isArray(asMap(jobs[name])?.needs)
    for (const [index, needed] of needsOf(jobs[name]).entries()) {
      const path: Path = listed ? [stage, name, 'needs', index] : [stage, name, 'needs']
      if (needed === name) {
        report(path, {
          code: 'self-need',
          message: `job ${quoted(name)} needs itself`,
          suggestion: 'remove it from `needs`',
        })
      } else if (!Object.hasOwn(jobs, needed)) {
        report(path, {
          code: 'unknown-need',
          message: `job ${quoted(name)} needs ${quoted(needed)}, which does not exist in stage "${stage}"`,
          suggestion: didYouMean(
            needed,
            names.filter((other) => other !== name),
            'other job in this stage',
          ),
        })
      }
    }
  }
  for (const cycle of cyclesOf(jobs)) {
    const [start] = cycle
    if (start === undefined) continue
    report([stage, start, 'needs'], {
      code: 'cycle',
      message: `jobs of stage "${stage}" need each other in a circle: ${[...cycle, start].join(' → ')}`,
      suggestion: 'remove one of these needs',
    })
  }
}

/** Circles of two or more jobs, each once, from the job that stands first in the file; at most one through each job. */
function cyclesOf(jobs: Fields): string[][] {
  const state = new Map<string, 'open' | 'done'>()
  const cycles: string[][] = []
  for (const start of Object.keys(jobs)) {
    if (state.has(start)) continue
    const path: { readonly name: string; readonly needs: readonly string[]; next: number }[] = []
    const enter = (name: string) => {
      state.set(name, 'open')
      path.push({ name, needs: needsOf(jobs[name]), next: 0 })
    }
    enter(start)
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const needed = top.needs[top.next]
      top.next += 1
      if (needed === undefined) {
        state.set(top.name, 'done')
        path.pop()
      } else if (needed !== top.name && Object.hasOwn(jobs, needed)) {
        const seen = state.get(needed)
        if (seen === undefined) enter(needed)
        else if (seen === 'open')
          cycles.push(path.slice(path.findIndex(({ name }) => name === needed)).map(({ name }) => name))
      }
    }
  }
  return cycles
}

function checkReleases(file: Fields, report: Report): void {
  const deliver = asMap(file.deliver) ?? {}
  const images = Object.keys(deliver).filter((name) => asMap(deliver[name])?.docker !== undefined)
  const deploy = asMap(file.deploy) ?? {}
  for (const environment of Object.keys(deploy)) {
    const name = asMap(deploy[environment])?.deliverable
    if (typeof name !== 'string' || images.includes(name)) continue
    const path = ['deploy', environment, 'deliverable']
    if (Object.hasOwn(deliver, name)) {
      report(path, {
        code: 'not-an-image',
        message: `${quoted(name)} is a package; only an image can be released to an environment`,
        suggestion: images.length > 0 ? `images: ${images.join(', ')}` : 'deploy it by a job with `run`',
      })
    } else {
      report(path, {
        code: 'unknown-deliverable',
        message: `deliverable ${quoted(name)} does not exist`,
        suggestion: didYouMean(name, images, 'image under `deliver`'),
      })
    }
  }
}

const TEMPLATE = /\$\{\{\s*([^}]{0,60}?)\s*\}\}/

/** `${{ … }}` would splice text of strangers into a script; there are no templates, only variables. */
function checkTemplates(value: unknown, path: Path, report: Report): void {
  if (typeof value === 'string') {
    if (!value.includes('${{')) return
    const name = TEMPLATE.exec(value)?.[1]
    report(path, {
      code: 'template',
      message: `${name ? quoted(name) : '`${{`'} cannot be used in ${pathText(path)}: nothing is replaced inside of the file`,
      suggestion:
        'facts about the change reach a step as variables, such as "$CI_BRANCH"; pass other values through `env`',
    })
  } else if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) checkTemplates(item, [...path, index], report)
  } else {
    const fields = asMap(value)
    for (const key of Object.keys(fields ?? {})) checkTemplates(fields?.[key], [...path, key], report)
  }
}
