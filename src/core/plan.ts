/**
 * A plan is a pipeline compiled for one trigger: exact stages, jobs, segments and steps; plain data that can be
 * printed, hashed, stored, and handed to a workflow. Everything in it is decided; nothing in it is secret
 * (secrets are names).
 */
export interface Plan {
  readonly version: 1
  readonly repo: string
  /** sha256 (hex) of the bytes of the spec file at the commit. */
  readonly specDigest: string
  /** In order of execution. Names are unique within a plan. */
  readonly stages: readonly Stage[]
  /** Stages of the spec that this trigger does not get and that forges are told of; absent: none. */
  readonly omitted?: readonly OmittedStage[]
}

export interface OmittedStage {
  readonly name: string
  /** When it runs instead: `runs once master has this commit`. */
  readonly reason: string
}

export type Stage = JobsStage | DeliverStage | DeployStage | GateStage | PromoteStage

/** Jobs that run in parallel as `needs` allows: `test`, `e2e`. */
export interface JobsStage {
  readonly kind: 'jobs'
  readonly name: string
  /** The environment these jobs exercise; its address reaches them as `<NAME>_URL`. */
  readonly environment?: string
  readonly jobs: readonly Job[]
}

/** Builds what leaves, once: `deliver`. */
export interface DeliverStage {
  readonly kind: 'deliver'
  readonly name: string
  readonly deliverables: readonly DeliverablePlan[]
}

/** Puts a deliverable on an environment; the stage is named after the environment. */
export interface DeployStage {
  readonly kind: 'deploy'
  readonly name: string
  readonly environment: string
  readonly how: DeployHow
}

export type DeployHow =
  /** The environment's own target (operator's file) takes the deliverable with this name. */
  | { readonly kind: 'release'; readonly deliverable: string }
  /** A job of the spec does it. */
  | { readonly kind: 'job'; readonly job: Job }

/** Waits for the approvals that the environment's rules ask for. */
export interface GateStage {
  readonly kind: 'gate'
  readonly name: string
  readonly environment: string
  /** Whom the spec asks, beside whom the operator asks. */
  readonly approvals?: readonly { readonly from: readonly string[]; readonly count: number }[]
  /** Sooner than the operator's. */
  readonly expiresSeconds?: number
}

/** Fast-forwards the production branch to the run's commit. */
export interface PromoteStage {
  readonly kind: 'promote'
  readonly name: string
  readonly branch: string
}

export interface Job {
  readonly name: string
  /** Names of jobs in the same stage. */
  readonly needs: readonly string[]
  /** Adjacent steps of one image, executed one after the other in one container; segments share the workspace. */
  readonly segments: readonly Segment[]
  readonly env: Readonly<Record<string, string>>
  readonly secrets: readonly SecretUse[]
  /** Absolute path under `/workspace`. */
  readonly workdir: string
  /** For all steps together, from the first step's start. */
  readonly timeoutSeconds: number
  readonly resources: Resources
  /** Swarm placement constraints, for example `node.labels.arch==arm64`. */
  readonly constraints: readonly string[]
  readonly pools: readonly PoolRequest[]
  readonly reports: { readonly junit: readonly string[] }
  /** What to do when the infrastructure lost a started attempt: run it again (at most twice), or end as errored. */
  readonly onLost: 'retry' | 'fail'
  /** Present: people do this job, by a checklist; it has no segments and no container. */
  readonly manual?: ManualTest
}

/** What people are asked to try, and who may answer. */
export interface ManualTest {
  readonly checklist: readonly ChecklistItem[]
  /** As written: names of people, and `role:<role>`. */
  readonly by: readonly string[]
  /** From the moment the session opens: what is not finished then has failed. */
  readonly expiresSeconds: number
}

export interface ChecklistItem {
  /** Unique within its checklist. */
  readonly name: string
  /** Markdown, for the tester. */
  readonly instructions?: string
  /** Whether the session can be finished without an answer to it. */
  readonly required: boolean
  /** Line of the spec file, from 1: what failed is shown there. */
  readonly line: number
}

export interface Segment {
  readonly image: string
  readonly steps: readonly Step[]
}

export interface Step {
  readonly name: string
  /** Shell commands, executed by one shell with `set -e`, each shown before it runs. */
  readonly run: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Absent: only the job's limit holds. */
  readonly timeoutSeconds?: number
}

/** Always mounted at `/run/secrets/<name>` with `<name>_FILE` set; `env`: also as a variable. */
export interface SecretUse {
  readonly name: string
  readonly env: boolean
}

export interface Resources {
  /** CPUs reserved on the node and CPUs the container may use at most. */
  readonly cpus: { readonly reserve: number; readonly limit: number }
  /** Bytes. */
  readonly memory: { readonly reserve: number; readonly limit: number }
  readonly pids: number
}

export interface PoolRequest {
  readonly pool: string
  readonly count: number
  /** Labels (`key=value` or `key`) every unit must carry. */
  readonly labels: readonly string[]
  /** CEL over the unit's properties; absent: any unit. */
  readonly where?: string
  /** Absent: `exclusive`. */
  readonly mode?: 'shared' | 'exclusive'
}

export type DeliverablePlan =
  /** `docker build` of a directory of the checkout; pushed to `to` if given, known by its digest either way. */
  | {
      readonly kind: 'image'
      readonly name: string
      readonly context: string
      readonly dockerfile: string
      readonly to?: string
    }
  /** Files that a job makes, kept in the artifact store by sha256. */
  | { readonly kind: 'package'; readonly name: string; readonly job: Job; readonly files: string }

/** What a deliver stage made. Bytes are identified by `digest` alone. */
export interface Deliverable {
  readonly name: string
  readonly kind: 'image' | 'package'
  /** `sha256:<hex>`: an image's manifest digest when pushed, else its id; a package's file hash. */
  readonly digest: string
  /** What an engine can run or a client can fetch: `registry/repo@sha256:…`, `sha256:…` (image id), or a file name. */
  readonly reference: string
}

export function stageJobs(stage: Stage): readonly Job[] {
  switch (stage.kind) {
    case 'jobs':
      return stage.jobs
    case 'deploy':
      return stage.how.kind === 'job' ? [stage.how.job] : []
    case 'deliver':
      return stage.deliverables.flatMap((one) => (one.kind === 'package' ? [one.job] : []))
    default:
      return []
  }
}
