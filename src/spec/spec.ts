import type { ManualTest, PoolRequest, Resources, SecretUse } from '../core/plan.ts'
import type { Place } from './diagnostic.ts'

/** A pipeline in its long form: what `.penstock.yml` says once every short form and default is written out. */
export interface Spec {
  /** Candidates of other repositories that this one tests itself against; without a branch: their candidate branch. */
  readonly follows: readonly { readonly repo: string; readonly branch?: string }[]
  readonly test: readonly JobSpec[]
  readonly deliver: readonly DeliverSpec[]
  readonly e2e: readonly JobSpec[]
  readonly deploy: readonly DeploySpec[]
  /** What its jobs ask of pools. */
  readonly asked: readonly {
    readonly pool: string
    readonly place: Place
    readonly where?: { readonly text: string; readonly place: Place }
  }[]
  readonly signoff?: SignoffSpec
}

/** What is asked for before production, beside what the operator asks for. */
export interface SignoffSpec {
  readonly place: Place
  /** `places`: of the entries of `from`. */
  readonly approvals: readonly {
    readonly from: readonly string[]
    readonly count: number
    readonly place: Place
    readonly places: readonly Place[]
  }[]
  readonly expires?: { readonly seconds: number; readonly text: string; readonly place: Place }
}

export interface JobSpec {
  readonly name: string
  readonly needs: readonly string[]
  readonly steps: readonly StepSpec[]
  readonly env: Readonly<Record<string, string>>
  readonly secrets: readonly SecretUse[]
  readonly workdir: string
  readonly timeoutSeconds: number
  readonly resources: Resources
  readonly constraints: readonly string[]
  readonly pools: readonly PoolRequest[]
  readonly junit: readonly string[]
  readonly onLost: 'retry' | 'fail'
  /** Present: people do it, and it has no steps. */
  readonly manual?: ManualTest
}

export interface StepSpec {
  readonly name: string
  readonly image: string
  readonly run: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly timeoutSeconds?: number
}

export type DeliverSpec =
  | {
      readonly kind: 'image'
      readonly name: string
      readonly context: string
      readonly dockerfile: string
      readonly to?: string
    }
  | { readonly kind: 'package'; readonly name: string; readonly files: string; readonly job: JobSpec }

export interface DeploySpec {
  readonly environment: string
  /** Where the file names the environment: whether it exists is known only when a plan is made. */
  readonly place: Place
  readonly how:
    | { readonly kind: 'release'; readonly deliverable: string }
    | { readonly kind: 'job'; readonly job: JobSpec }
}
