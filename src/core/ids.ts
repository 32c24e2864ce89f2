/**
 * Every name that Penstock gives to something outside itself is made here and nowhere else, from the run, stage, job
 * and attempt: so each "create" is "create or adopt", and the sweep can tell whose a thing is.
 */

/** `acme/web#42`: the run's id for people, and its Temporal workflow id. */
export function runId(repo: string, number: number): string {
  return `${repo}#${number}`
}

const RUN_ID = /^(.+)#([1-9][0-9]{0,14})$/

export function parseRunId(id: string): { repo: string; number: number } | undefined {
  const match = RUN_ID.exec(id)
  return match?.[1] && match[2] ? { repo: match[1], number: Number(match[2]) } : undefined
}

export interface JobKey {
  /** `acme/web#42` */
  readonly run: string
  readonly stage: string
  readonly job: string
  /** From 1, counted over all tries of the run. */
  readonly attempt: number
}

/** `acme/web#42/test/unit/1`: the job's Temporal workflow id, and the key of its pool requests. */
export function jobId(key: JobKey): string {
  return `${key.run}/${key.stage}/${key.job}/${key.attempt}`
}

/** Workflow id of the one who sees to a unit between two holders. */
export function careId(pool: string, unit: string): string {
  return `unit:${pool}/${unit}`
}

const JOB_ID = /^(.+#[1-9][0-9]{0,14})\/([^/]+)\/([^/]+)\/([1-9][0-9]{0,8})$/

export function parseJobId(id: string): JobKey | undefined {
  const [, run, stage, job, attempt] = JOB_ID.exec(id) ?? []
  if (run === undefined || stage === undefined || job === undefined) return undefined
  return { run, stage, job, attempt: Number(attempt) }
}

const SLUG_LENGTH = 20

function slug(text: string): string {
  const plain = text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, SLUG_LENGTH)
    .replace(/^-+|-+$/g, '')
  return plain || 'x'
}

/**
 * FNV-1a, 64 bits, over UTF-16 code units: workflow code has no node:crypto. Names only need to be unlikely to collide
 * between live runs, not to resist an attacker: a collision is refused by the labels, which carry the full key.
 */
function hash(text: string): string {
  let value = 0xcbf29ce484222325n
  for (let i = 0; i < text.length; i++) {
    value = ((value ^ BigInt(text.charCodeAt(i))) * 0x100000001b3n) & 0xffffffffffffffffn
  }
  return value.toString(36).padStart(13, '0').slice(-10)
}

/**
 * Swarm service, secret and volume names of one job attempt: at most 63 characters of `[a-z0-9-]`, as Swarm demands.
 * `instance` tells installations apart that share one Docker engine.
 */
export function jobResourceName(instance: string, key: JobKey, part: string): string {
  return `pst-${hash(`${instance}\0${jobId(key)}`)}-${slug(key.job)}-${key.attempt}-${part}`.slice(0, 63)
}

export function segmentService(instance: string, key: JobKey, segment: number): string {
  return jobResourceName(instance, key, `s${segment}`)
}
export function controlVolume(instance: string, key: JobKey, segment: number): string {
  return jobResourceName(instance, key, `c${segment}`)
}
export function workspaceVolume(instance: string, key: JobKey): string {
  return jobResourceName(instance, key, 'w')
}
export function secretName(instance: string, key: JobKey, index: number): string {
  return jobResourceName(instance, key, `k${index}`)
}
export function runNetwork(instance: string, run: string): string {
  return `pst-${hash(`${instance}\0${run}`)}-net`
}

/** On everything Penstock creates in Docker. */
export const LABELS = {
  instance: 'penstock.instance',
  run: 'penstock.run',
  stage: 'penstock.stage',
  job: 'penstock.job',
  attempt: 'penstock.attempt',
  /** On images that Penstock built or imported. */
  image: 'penstock.image',
} as const

export function runLabels(instance: string, run: string): Record<string, string> {
  return { [LABELS.instance]: instance, [LABELS.run]: run }
}

export function jobLabels(instance: string, key: JobKey): Record<string, string> {
  return {
    ...runLabels(instance, key.run),
    [LABELS.stage]: key.stage,
    [LABELS.job]: key.job,
    [LABELS.attempt]: String(key.attempt),
  }
}

/** The pool whose only unit is the environment. */
export function environmentPool(repo: string, environment: string): string {
  return `env:${repo}/${environment}`
}

/** Branches that Penstock makes for promotions: nothing that is there starts a run. */
const PROMOTIONS = 'penstock/promote/'

export function promotionBranch(run: number): string {
  return `${PROMOTIONS}${run}`
}

/** By its short name or its full ref. Every door by which runs are started asks this. */
export function isPromotionBranch(ref: string): boolean {
  return ref.replace(/^refs\/heads\//, '').startsWith(PROMOTIONS)
}

/** Temporal task queues. */
export const CONTROL_QUEUE = 'penstock'
export function nodeQueue(nodeId: string): string {
  return `node/${nodeId}`
}

/** Where a step's log lives: path segments, already safe as file names. */
export interface LogKey extends JobKey {
  /** Index of the step within the job, from 0. */
  readonly step: number
}
