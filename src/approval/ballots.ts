import { operatorsOf } from '../config/people.ts'
import { type Answer, judgeVote } from '../core/approval.ts'
import type { FieldValues } from '../core/form.ts'
import { matchesPattern } from '../pattern/pattern.ts'
import type { GateRow, Store } from '../store/types.ts'
import { createRights, type RightsDeps } from './rights.ts'

/** A vote goes through the outbox: Temporal may be away for a while. */
const OUTBOX_TOKEN_MS = 24 * 3_600_000

export interface Ballot {
  readonly gate: GateRow
  readonly answer: Answer
  /** A person of the operator's file, as whoever took the vote has proven. */
  readonly by: string
  readonly channel: string
  readonly comment?: string
  readonly fields?: FieldValues
  /** An operator passes the gate alone; the comment is the reason. */
  readonly breakGlass?: boolean
}

export type Ballots = ReturnType<typeof createBallots>

/** Votes of people whom a channel has proven: API, command line, forge. All are judged here, and go the same way. */
export function createBallots({
  store,
  clock,
  proof,
  ...deps
}: RightsDeps & {
  /** By what the channel has proven them. */
  readonly proof: 'session' | 'forge'
  readonly store: Pick<Store, 'gates' | 'outbox' | 'audit'>
  readonly clock: () => number
}) {
  const rights = createRights(deps)

  /** The same question that is asked again when the vote arrives; the right to approve is the one of this moment. */
  async function judge({ gate, answer, by, fields, comment, breakGlass }: Omit<Ballot, 'channel'>) {
    return judgeVote({
      state: gate.state,
      rules: await rights.now(gate, [by]),
      authenticated: by,
      claimedBy: by,
      trustSignals: false,
      votes: gate.votes.filter((one) => one.counts),
      objections: gate.objections,
      answer,
      now: clock(),
      matches: matchesPattern,
      ...(fields === undefined ? {} : { fields }),
      ...(breakGlass ? { breakGlass: { operators: operatorsOf(deps.config), reason: comment } } : {}),
      ...(gate.voided === undefined ? {} : { voided: gate.voided }),
      ...(gate.movingSince === undefined ? {} : { isMoving: true }),
    })
  }

  return {
    judge,

    /** Sends it to the run, once by `key`, with a token that is good for this vote only. */
    async cast({ gate, answer, by, channel, comment, fields, breakGlass }: Ballot, key: string): Promise<void> {
      const token = await store.gates.mintToken(gate.run, gate.name, by, channel, OUTBOX_TOKEN_MS, proof)
      const argument = {
        ...{ who: by, channel, token, key },
        ...(comment === undefined ? {} : { comment }),
        ...(fields === undefined ? {} : { fields }),
        ...(breakGlass ? { breakGlass } : {}),
      }
      await store.outbox.put(key, { kind: 'signal', workflowId: gate.run, signal: answer, args: [argument] })
    },

    /** What was refused at the door stands in the audit, too. */
    async refused({ gate, answer, by, channel, comment, fields, breakGlass }: Ballot, why: string): Promise<void> {
      const { form } = gate.rules
      const detail = {
        ...{ answer, comment, counts: false, why, authenticated: true, authenticatedAs: by, proof },
        ...{ subject: gate.subject, form, fields, breakGlass },
      }
      await store.audit.record({ by, channel, action: 'gate.vote', on: gate.id, detail })
    },
  }
}
