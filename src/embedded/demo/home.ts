import type { Outcome } from '../../core/outcome.ts'
import type { GateRow } from '../../store/types.ts'
import type { Api } from './api.ts'

/** What its forge has to do with the sample: all in which one telling of the story differs from another. */
export interface Home {
  /** As the operator's file names it. */
  readonly repo: string
  /** Of the operator's file: what people are called at the forge, and all repositories. YAML. */
  readonly config: string
  /** What the operator's file takes from the environment. */
  readonly env: Readonly<Record<string, string>>
  /** Takes something new to the candidate branch, the way people at this forge do that. */
  change(api: Api, follow: (run: number) => Promise<Outcome>): Promise<Changed>
  /** Where people at this forge look before they approve, once all is there to see; undefined: there is no such place. */
  askedAt(run: number, commit: string): Promise<string | undefined>
  /** Tess says it. */
  vote(api: Api, run: number, gate: GateRow, isYes: boolean): Promise<void>
  /** When the story is over: tells what is to be seen at the forge, and gives what the report says of it. */
  shown(commit: string, outcome: Outcome): Promise<object>
  stop(): Promise<void>
}

export interface Changed {
  readonly commit: string
  /** It has not come to the candidate branch. */
  readonly failed?: Outcome
}
