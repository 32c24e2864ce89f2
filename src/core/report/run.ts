import type { GateRules, GateState, Objection } from '../approval.ts'
import type { Change } from '../change.ts'
import type { SpecDiagnostic, Waiting } from '../events.ts'
import type { Outcome } from '../outcome.ts'
import type { Plan } from '../plan.ts'
import type { Progress } from '../progress.ts'

/** All that is known of a run at one moment, as far as a forge is told of it. */
export interface ReportedRun {
  readonly id: string
  readonly number: number
  readonly try: number
  readonly change: Change
  readonly status: 'queued' | 'running' | 'waiting' | Outcome
  readonly reason?: string
  /** The stage the run is at. */
  readonly stage?: string
  readonly waiting?: Waiting
  /** Its commit had to be let in by somebody with write access: whether it still has to be. */
  readonly admission?: 'held' | 'given'
  /** Numbers of the runs that hold what it waits for. */
  readonly holders: readonly number[]
  /** Jobs of the current stage that wait for a pool or a node. */
  readonly waitingJobs: readonly { readonly job: string; readonly sentence: string }[]
  /** Manual tests that people are asked for now. */
  readonly sessions: readonly ReportedSession[]
  readonly cancel?: { readonly by: string; readonly reason: string }
  /** A gate of it was passed by break-glass. */
  readonly broken?: { readonly gate: string; readonly by: string }
  /** Absent: not made yet, or refused. */
  readonly plan?: Plan
  readonly progress: Progress
  /** Why the newest attempt of a stage ended as it did, by stage. */
  readonly reasons: Readonly<Record<string, string>>
  /** The newest version of each gate. */
  readonly gates: readonly ReportedGate[]
  /** Of the newest attempts; read once the run has ended. */
  readonly tests: ReportedTests
  /** What is wrong in the spec, if that is why the run was refused. */
  readonly diagnostics: readonly SpecDiagnostic[]
  /** The step that failed first, and the end of its log. */
  readonly failure?: {
    readonly stage: string
    readonly job: string
    readonly step: string
    readonly lines: readonly string[]
  }
  /** Where the run is shown. */
  readonly url: string
  /** Address by environment. */
  readonly addresses: Readonly<Record<string, string>>
}

export interface ReportedSession {
  readonly stage: string
  readonly job: string
  readonly attempt: number
  /** Where what is to be tested can be reached. */
  readonly address?: string
  readonly mayTest: readonly string[]
  readonly paused: boolean
}

export interface ReportedGate {
  readonly name: string
  readonly state: GateState
  readonly rules: GateRules
  readonly commit: string
  /** `name=sha256:…` */
  readonly deliverables: readonly string[]
  /** Who approved, of those whose vote counts. */
  readonly approvals: readonly string[]
  readonly objections: readonly Objection[]
  readonly rejection?: { readonly by: string; readonly comment?: string }
  readonly broken?: { readonly by: string; readonly reason: string }
}

export interface ReportedTests {
  readonly total: number
  readonly failed: number
  /** The first of those that failed. */
  readonly shown: readonly FailedTest[]
}

export interface FailedTest {
  readonly stage: string
  readonly job: string
  readonly name: string
  readonly className?: string
  readonly file?: string
  readonly line?: number
  readonly message?: string
}
