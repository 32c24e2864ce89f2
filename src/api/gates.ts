import { z } from 'zod'
import { createBallots } from '../approval/ballots.ts'
import { type Answer, standingOf } from '../core/approval.ts'
import { isOutcome } from '../core/outcome.ts'
import type { GateRow, RunDetail } from '../store/types.ts'
import type { ApiDeps } from './deps.ts'
import { findRun } from './find.ts'
import { ProblemError, problem } from './problem.ts'
import { json, notFound, type Reply, type Route } from './route.ts'

const CHANNELS = ['api', 'cli', 'web'] as const

/** What one saw when one decided; where given, it must be what the gate is about now. */
const Vote = z.strictObject({
  comment: z.string().max(2000).optional(),
  channel: z.enum(CHANNELS).default('api'),
  commit: z.string().max(64).optional(),
  specDigest: z.string().max(64).optional(),
  deliverables: z.array(z.string().max(300)).max(100).optional(),
})
type Vote = z.infer<typeof Vote>

const TokenRequest = z.strictObject({ channel: z.string().max(50).default('signal') })

/** For a person who sends the signal by hand. */
const HAND_TOKEN_MS = 3_600_000

export function gateRoutes({ config, store, clock }: ApiDeps): readonly Route[] {
  const ballots = createBallots({ config, store, clock, proof: 'session' })
  return [
    {
      method: 'GET',
      path: '/api/v1/gates',
      permission: 'read',
      summary:
        'The gates that wait for an answer now; `standing` says who may approve, what is missing, and `shortage` why it can never be enough.',
      async handle() {
        return json({ gates: (await store.gates.waiting()).map(shown) })
      },
    },
    {
      method: 'GET',
      path: '/api/v1/runs/:run/gates',
      permission: 'read',
      summary: 'The gates of a run, with every vote, also those that do not count, and why.',
      async handle({ params }) {
        const { id } = await findRun(store, params)
        return json({ gates: (await store.gates.ofRun(id)).map(shown) })
      },
    },
    ...(['approve', 'reject'] as const).map(
      (answer): Route => ({
        method: 'POST',
        path: `/api/v1/runs/:run/gates/:gate/${answer}`,
        permission: 'vote',
        summary: `Your vote at a gate: ${answer}. Says at once why it would not count; \`commit\`, \`specDigest\` and \`deliverables\`, where given, must be the gate's.`,
        body: { kind: 'json', schema: Vote },
        async handle({ params, body, by }) {
          const run = await findRun(store, params)
          const gate = await findGate(run, params.gate)
          return vote({ run, gate, answer, by, vote: body as Vote })
        },
      }),
    ),
    {
      method: 'POST',
      path: '/api/v1/runs/:run/gates/:gate/token',
      permission: 'vote',
      summary:
        'A vote token, good for one vote within an hour, to send the Temporal signal `approve` or `reject` oneself.',
      body: { kind: 'json', schema: TokenRequest },
      async handle({ params, body, by }) {
        const run = await findRun(store, params)
        const gate = await findGate(run, params.gate)
        const judged = judge(run, { gate, answer: 'approve', by })
        if (!judged.counts) throw refusal(judged.why, gate, by)
        const { channel } = body as z.infer<typeof TokenRequest>
        const token = await store.gates.mintToken(run.id, gate.name, by, channel, HAND_TOKEN_MS)
        return json(
          {
            token,
            expiresAt: clock() + HAND_TOKEN_MS,
            signal: { workflowId: run.id, names: ['approve', 'reject'], argument: { who: by, token, channel } },
            subject: gate.subject,
          },
          201,
        )
      },
    },
  ]

  async function findGate(run: RunDetail, name: string | undefined): Promise<GateRow> {
    const gate = name === undefined ? undefined : await store.gates.get(run.id, name)
    if (gate === undefined) throw notFound()
    return gate
  }

  /** Nobody is left to take it, and a vote that is told nobody must not pass for one that was given. */
  function judge(run: RunDetail, ballot: Parameters<typeof ballots.judge>[0]) {
    if (isOutcome(run.status))
      return { counts: false, why: `run ${run.number} has ended: ${run.status}; retry it first` } as const
    return ballots.judge(ballot)
  }

  async function vote(input: {
    readonly run: RunDetail
    readonly gate: GateRow
    readonly answer: Answer
    readonly by: string
    readonly vote: Vote
  }): Promise<Reply> {
    const { run, gate, answer, by } = input
    const { comment, channel } = input.vote
    const stale = staleness(gate, input.vote)
    const ballot = { gate, answer, by, channel, ...(comment === undefined ? {} : { comment }) }
    const judged = stale === undefined ? judge(run, ballot) : ({ counts: false, why: stale } as const)
    if (!judged.counts) {
      await ballots.refused(ballot, judged.why)
      throw stale === undefined
        ? refusal(judged.why, gate, by)
        : new ProblemError(problem(409, stale, { subject: gate.subject }))
    }
    // The same vote sent twice is one signal; a later one, after an answer to it was recorded, is another. So is one in
    // another try: what was told to a try that was just ending was lost with it.
    const earlier = gate.votes.filter((one) => one.by === by).length
    await ballots.cast(ballot, `vote/${gate.id}/${run.try}/${by}/${answer}/${earlier}`)
    return json({ run: run.number, id: run.id, gate: gate.name, answer, by, subject: gate.subject }, 202)
  }
}

function shown(gate: GateRow) {
  if (gate.state !== 'open') return gate
  const counted = gate.votes.filter((one) => one.counts)
  return { ...gate, standing: standingOf(gate.rules, counted) }
}

function refusal(why: string, gate: GateRow, by: string): ProblemError {
  const isPersonal = gate.state === 'open' && (gate.rules.excluded.includes(by) || why.includes('not an approver'))
  return new ProblemError(
    problem(isPersonal ? 403 : 409, `${why} (commit ${gate.subject.commit})`, { subject: gate.subject }),
  )
}

function staleness(gate: GateRow, { commit, specDigest, deliverables }: Vote): string | undefined {
  const { subject } = gate
  if (commit !== undefined && commit !== subject.commit)
    return `you decided on commit ${commit}; the run is at ${subject.commit}`
  if (specDigest !== undefined && specDigest !== subject.specDigest)
    return `you decided on another spec; the gate is about ${subject.specDigest}`
  if (deliverables === undefined) return undefined
  const same = JSON.stringify([...deliverables].sort()) === JSON.stringify([...subject.deliverables].sort())
  return same ? undefined : `you decided on other deliverables; the gate is about ${subject.deliverables.join(', ')}`
}
