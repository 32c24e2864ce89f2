import type { FieldValues } from './form.ts'
import type { Outcome } from './outcome.ts'

/**
 * Every state change of a run, append-only, in order per run (`seq` from 1 without gaps). Type names are a contract:
 * what others read carries `.v1`, and a change of meaning gets a new number.
 */
export type RunEvent =
  | { readonly type: 'run.queued.v1'; readonly by: string; readonly reason: string }
  | { readonly type: 'run.started.v1'; readonly try: number }
  | { readonly type: 'run.finished.v1'; readonly try: number; readonly outcome: Outcome; readonly reason?: string }
  /** The run waits for somebody who lets its commit run. */
  | { readonly type: 'run.held.v1'; readonly sentence: string }
  | { readonly type: 'run.admitted.v1'; readonly commit: string; readonly by: string; readonly channel: string }
  /** `cause`: what was asked for is done once, however often it is looked at. */
  | { readonly type: 'run.retried.v1'; readonly try: number; readonly by: string; readonly cause?: string }
  | { readonly type: 'run.cancel_requested.v1'; readonly by: string; readonly reason: string }
  /** The run gets no plan: what is wrong in the spec. */
  | { readonly type: 'spec.refused.v1'; readonly diagnostics: readonly SpecDiagnostic[] }
  | { readonly type: 'stage.started.v1'; readonly stage: string; readonly attempt: number }
  | {
      readonly type: 'stage.finished.v1'
      readonly stage: string
      readonly attempt: number
      readonly outcome: Outcome
      readonly reason?: string
    }
  /** An earlier try's success stands; nothing was started. */
  | { readonly type: 'stage.reused.v1'; readonly stage: string }
  | { readonly type: 'job.started.v1'; readonly stage: string; readonly job: string; readonly attempt: number }
  | {
      readonly type: 'job.waiting.v1'
      readonly stage: string
      readonly job: string
      readonly attempt: number
      readonly waitingFor: Waiting
    }
  | {
      readonly type: 'job.placed.v1'
      readonly stage: string
      readonly job: string
      readonly attempt: number
      readonly node: string
      readonly service: string
      readonly container?: string
    }
  | {
      readonly type: 'step.started.v1'
      readonly stage: string
      readonly job: string
      readonly attempt: number
      readonly step: number
      readonly name: string
    }
  | {
      readonly type: 'step.finished.v1'
      readonly stage: string
      readonly job: string
      readonly attempt: number
      readonly step: number
      readonly name: string
      readonly outcome: Outcome
      readonly exitCode?: number
      readonly reason?: string
    }
  | {
      readonly type: 'job.finished.v1'
      readonly stage: string
      readonly job: string
      readonly attempt: number
      readonly outcome: Outcome
      readonly reason?: string
    }
  /** `kept`: how many answers of an earlier attempt stand. */
  | (SessionEvent & { readonly type: 'session.opened.v1'; readonly items: number; readonly kept: number })
  | (SessionEvent & { readonly type: 'session.joined.v1'; readonly by: string })
  | (SessionEvent & { readonly type: 'session.handed_over.v1'; readonly by: string; readonly to: string })
  | (SessionEvent & {
      readonly type: 'session.answered.v1'
      readonly by: string
      readonly item: string
      readonly result: 'passed' | 'failed' | 'blocked'
    })
  | (SessionEvent & {
      readonly type: 'session.evidence_added.v1'
      readonly by: string
      readonly item: string
      readonly digest: string
    })
  | (SessionEvent & {
      readonly type: 'session.evidence_deleted.v1'
      readonly by: string
      readonly item: string
      readonly digest: string
    })
  | (SessionEvent & { readonly type: 'session.paused.v1'; readonly by: string; readonly reason: string })
  | (SessionEvent & { readonly type: 'session.resumed.v1'; readonly by: string })
  | (SessionEvent & { readonly type: 'session.finished.v1'; readonly by: string; readonly outcome: Outcome })
  | (SessionEvent & { readonly type: 'session.expired.v1' })
  /** The holder has to give the unit back by then. */
  | {
      readonly type: 'lease.warned.v1'
      readonly pool: string
      readonly unit: string
      readonly holder: string
      readonly until: number
    }
  /** The holder loses the unit, and stops. */
  | {
      readonly type: 'lease.revoked.v1'
      readonly pool: string
      readonly unit: string
      readonly holder: string
      readonly reason: string
    }
  | {
      readonly type: 'deliverable.built.v1'
      readonly name: string
      /** Absent: as the run's plan has it. */
      readonly kind?: 'image' | 'package'
      readonly digest: string
      readonly reference: string
    }
  | { readonly type: 'environment.waiting.v1'; readonly environment: string; readonly waitingFor: Waiting }
  | { readonly type: 'environment.acquired.v1'; readonly environment: string; readonly fence: number }
  | { readonly type: 'environment.released.v1'; readonly environment: string }
  | {
      readonly type: 'deployment.recorded.v1'
      readonly environment: string
      readonly digest: string
      readonly state: 'intended' | 'done' | 'failed' | 'unknown'
    }
  | { readonly type: 'gate.opened.v1'; readonly gate: string; readonly environment: string; readonly needs: string }
  | {
      readonly type: 'gate.voted.v1'
      readonly gate: string
      readonly by: string
      readonly answer: 'approve' | 'reject'
      readonly channel: string
      readonly comment?: string
      readonly counts: boolean
      readonly why?: string
      readonly fields?: FieldValues
      readonly breakGlass?: true
    }
  /** Who is still asked was reminded, the `number`th time. */
  | {
      readonly type: 'gate.reminded.v1'
      readonly gate: string
      readonly number: number
      readonly of: readonly string[]
    }
  /** What it was about, or by what rules, has changed: its votes count no more. */
  | { readonly type: 'gate.voided.v1'; readonly gate: string; readonly why: string }
  | { readonly type: 'gate.decided.v1'; readonly gate: string; readonly verdict: 'approved' | 'rejected' | 'expired' }
  /** A gate that was passed by break-glass was looked at afterwards, by somebody else. */
  | { readonly type: 'gate.reviewed.v1'; readonly gate: string; readonly by: string; readonly comment: string }
  /** What follows this candidate's branch: a run each, or why there is none. Once a run. */
  | {
      readonly type: 'dependents.started.v1'
      readonly dependents: readonly { readonly repo: string; readonly run?: number; readonly refused?: string }[]
    }
  /** Before the branch is moved: that the verdict of the gate holds now. */
  | { readonly type: 'promotion.judged.v1'; readonly branch: string; readonly commit: string }
  /** The branch was not moved after all: what was judged before is to be judged again. */
  | { readonly type: 'promotion.refused.v1'; readonly branch: string; readonly why: string }
  | { readonly type: 'branch.promoted.v1'; readonly branch: string; readonly commit: string }

/** Of a manual test session: the attempt of the job that it is. */
interface SessionEvent {
  readonly stage: string
  readonly job: string
  readonly attempt: number
}

/** One error of a spec, without the lines it quotes. */
export interface SpecDiagnostic {
  readonly code: string
  readonly file: string
  /** From 1. */
  readonly line: number
  /** From 1. */
  readonly column: number
  readonly message: string
  readonly suggestion?: string
}

/** Why something waits: a kind for programs and a sentence for people. */
export interface Waiting {
  readonly kind: 'node' | 'pool' | 'environment' | 'approval' | 'worker' | 'dependents' | 'admission' | 'session'
  readonly sentence: string
}
