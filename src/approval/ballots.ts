import { approversOf } from '../config/people.ts'
import type { Config } from '../config/types.ts'
import { type Answer, judgeVote } from '../core/approval.ts'
import { parseRunId } from '../core/ids.ts'
import type { GateRow, Store } from '../store/types.ts'

/** A vote goes through the outbox: Temporal may be away for a while. */
const OUTBOX_TOKEN_MS = 24 * 3_600_000

export interface Ballot {
  readonly gate: GateRow
  readonly answer: Answer
  /** A person of the operator's file, as whoever took the vote has proven. */
  readonly by: string
  readonly channel: string
  readonly comment?: string
}

export type Ballots = ReturnType<typeof createBallots>

/** Votes of people whom a channel has proven: API, command line, forge. All are judged here, and go the same way. */
export function createBallots({
  config,
  store,
  clock,
}: {
  readonly config: Config
  readonly store: Pick<Store, 'gates' | 'outbox' | 'audit'>
  readonly clock: () => number
}) {
  /** The same question that is asked again when the vote arrives; the right to approve is the one of this moment. */
  function judge({ gate, answer, by }: Pick<Ballot, 'gate' | 'answer' | 'by'>) {
    const now = approversOf(config, parseRunId(gate.run)?.repo ?? '', gate.environment)
    return judgeVote({
      state: gate.state,
      rules: { ...gate.rules, approvers: gate.rules.approvers.filter((one) => now.includes(one)) },
      authenticated: by,
      claimedBy: by,
      trustSignals: false,
      votes: gate.votes.filter((one) => one.counts),
      answer,
      now: clock(),
    })
  }

  return {
    judge,

    /** Sends it to the run, once by `key`, with a token that is good for this vote only. */
    async cast({ gate, answer, by, channel, comment }: Ballot, key: string): Promise<void> {
      const token = await store.gates.mintToken(gate.run, gate.name, by, channel, OUTBOX_TOKEN_MS)
      const argument = { who: by, channel, token, key, ...(comment === undefined ? {} : { comment }) }
      await store.outbox.put(key, { kind: 'signal', workflowId: gate.run, signal: answer, args: [argument] })
    },

    /** What was refused at the door stands in the audit, too. */
    async refused({ gate, answer, by, channel, comment }: Ballot, why: string): Promise<void> {
      const detail = { answer, comment, counts: false, why, authenticated: true, subject: gate.subject }
      await store.audit.record({ by, channel, action: 'gate.vote', on: gate.id, detail })
    },
  }
}
