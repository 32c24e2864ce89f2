import { defineQuery, defineSignal } from '@temporalio/workflow'
import type { Waiting } from '../src/core/events.ts'
import type { Outcome } from '../src/core/outcome.ts'
import type { VoteSignal } from '../src/core/run-contract.ts'

/** Every message a workflow takes. Signals are imperatives, queries are nouns. */

/** An approver's yes or no to the gate the run waits at. Counts only with a vote token (`penstock vote-token RUN`). */
export const approve = defineSignal<[VoteSignal]>('approve')
export const reject = defineSignal<[VoteSignal]>('reject')
/** Something the run or job waits for may be there now: it asks again. */
export const granted = defineSignal('granted')
/** Something has happened to the unit: it is looked at anew. */
export const look = defineSignal('look')
/** The job loses a unit that it holds, and stops: why. */
export const revoked = defineSignal<[string]>('revoked')

export interface RunProgress {
  readonly stage?: string
  readonly waiting?: Waiting
  readonly stages: Readonly<Record<string, Outcome | 'running'>>
}
export const progress = defineQuery<RunProgress>('progress')
