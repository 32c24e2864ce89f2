import { z } from 'zod'
import { createBallots } from '../approval/ballots.ts'
import type { RepositoryConfig } from '../config/types.ts'
import { type Answer, standingOf } from '../core/approval.ts'
import { type FieldValues, LONGEST_TEXT, MOST_FIELDS } from '../core/form.ts'
import { isOutcome } from '../core/outcome.ts'
import type { GateRow, RunDetail } from '../store/types.ts'
import type { ApiDeps } from './deps.ts'
import { findRun } from './find.ts'
import { ProblemError, problem } from './problem.ts'
import { invalid, json, notFound, type Route, wholeNumber } from './route.ts'

const CHANNELS = ['api', 'cli', 'web'] as const

const comment = z.string().max(2000)
const channel = z.enum(CHANNELS).default('api')
const text = z.string().max(LONGEST_TEXT + 1)
const fields = z
  .record(z.string().max(100), z.union([text, z.number(), z.boolean(), z.array(text).max(200)]))
  .refine((one) => Object.keys(one).length <= MOST_FIELDS, `has at most ${MOST_FIELDS} fields`)
  .optional()

/** What one saw when one decided; where given, it must be what the gate is about now. */
const Seen = z.strictObject({
  commit: z.string().max(64).optional(),
  specDigest: z.string().max(64).optional(),
  deliverables: z.array(z.string().max(300)).max(100).optional(),
})
type Seen = z.infer<typeof Seen>

const Vote = Seen.extend({ comment: comment.optional(), channel, fields })

const BreakGlass = Seen.extend({
  reason: comment.refine((one) => one.trim() !== '', 'must say why'),
  channel,
  fields,
})

const Together = z.strictObject({
  answer: z.enum(['approve', 'reject']),
  comment: comment.optional(),
  channel,
  fields,
  gates: z
    .array(Seen.extend({ run: z.int().positive(), gate: z.string().max(100).optional(), fields }))
    .min(1)
    .max(100),
})

const ReviewOf = z.strictObject({
  comment: comment.refine((one) => one.trim() !== '', 'must say what you found'),
  channel,
})

const TokenRequest = z.strictObject({ channel: z.string().max(50).default('signal') })

/** For a person who sends the signal by hand. */
const HAND_TOKEN_MS = 3_600_000

export function gateRoutes({ config, store, clock, forges }: ApiDeps): readonly Route[] {
  const roleOf = async (repository: RepositoryConfig, login: string) => forges(repository).people?.role(login)
  const ballots = createBallots({ config, store, clock, roleOf, proof: 'session' })
  return [
    {
      method: 'GET',
      path: '/api/v1/gates',
      permission: 'read',
      summary:
        'The gates that wait for an answer now; `standing` says who may approve, what is missing, and `shortage` why it can never be enough; `toReview` are those that were passed by break-glass and that nobody has reviewed.',
      async handle() {
        const [waiting, toReview] = await Promise.all([store.gates.waiting(), store.gates.toReview()])
        return json({ gates: waiting.map(shown), toReview: toReview.map(shown) })
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
        summary: `Your vote at a gate: ${answer}. Says at once why it would not count; \`commit\`, \`specDigest\` and \`deliverables\`, where given, must be the gate's; \`fields\` is what the gate's form asks for.`,
        body: { kind: 'json', schema: Vote },
        onRefused: (by, params) => refused(by, params, { answer }),
        async handle({ params, body, by }) {
          const run = await findRun(store, params)
          const gate = await findGate(run, params.gate)
          const { commit, specDigest, deliverables, ...said } = body as z.infer<typeof Vote>
          return json(await vote({ run, gate, seen: { commit, specDigest, deliverables }, answer, by, ...said }), 202)
        },
      }),
    ),
    {
      method: 'POST',
      path: '/api/v1/gates/answer',
      permission: 'vote',
      summary:
        'One answer to several gates at once, of one run or of many. Each is judged for itself, and `results` says of each what became of it: `accepted`, or `status` and `why`; `gate` may be left out where the run waits at one.',
      body: { kind: 'json', schema: Together },
      async onRefused(by, _, body) {
        const asked = Together.safeParse(body)
        if (!asked.success) return
        for (const { run, gate } of asked.data.gates) {
          for (const name of gate === undefined ? await openGatesOf(run) : [gate])
            await refused(by, { run: String(run), gate: name }, { answer: asked.data.answer })
        }
      },
      async handle({ body, by }) {
        const { gates, answer, comment, channel, fields } = body as z.infer<typeof Together>
        const results: unknown[] = []
        for (const { run, gate, fields: own = fields, ...seen } of gates) {
          results.push(await oneOf({ number: run, gate, seen, answer, by, comment, channel, fields: own }))
        }
        return json({ results })
      },
    },
    {
      method: 'POST',
      path: '/api/v1/runs/:run/gates/:gate/break-glass',
      permission: 'override',
      summary:
        'Passes a gate alone that is open, or that is approved and waits for its hours, whoever else should approve, with the reason. Run and gate are marked for ever, and somebody else has to review it.',
      body: { kind: 'json', schema: BreakGlass },
      onRefused: (by, params) => refused(by, params, { answer: 'approve', breakGlass: true }),
      async handle({ params, body, by }) {
        const run = await findRun(store, params)
        const gate = await findGate(run, params.gate)
        const { commit, specDigest, deliverables, reason, channel, fields } = body as z.infer<typeof BreakGlass>
        const seen = { commit, specDigest, deliverables }
        const said = { comment: reason, channel, fields, breakGlass: true }
        return json(await vote({ run, gate, seen, answer: 'approve', by, ...said }), 202)
      },
    },
    {
      method: 'POST',
      path: '/api/v1/runs/:run/gates/:gate/review',
      permission: 'vote',
      summary:
        'Says that you have looked at a gate that somebody else passed by break-glass, and what you found. The first review stands.',
      body: { kind: 'json', schema: ReviewOf },
      onRefused: (by, params) => refused(by, params, { review: true }),
      async handle({ params, body, by }) {
        const run = await findRun(store, params)
        const all = (await store.gates.ofRun(run.id)).filter(({ name, broken }) => name === params.gate && broken)
        const gate = all.find(({ review }) => review === undefined) ?? all.at(-1)
        const { comment, channel } = body as z.infer<typeof ReviewOf>
        const done = gate === undefined ? 'not_broken' : await store.gates.review(gate.id, { by, comment, channel })
        if (gate === undefined || done !== 'reviewed') {
          const why = {
            reviewed: '',
            not_broken: 'nobody passed this gate by break-glass',
            own: `${by} broke the glass here; another person must review it`,
            author: `${by} wrote or pushed this change; another person must review it`,
            known: `it was reviewed by ${gate?.review?.by ?? 'somebody'}`,
          }[done]
          const on = gate ?? (await store.gates.get(run.id, params.gate ?? ''))
          if (on !== undefined) await recordRefusal(on, by, channel, { review: true, comment }, why)
          throw new ProblemError(problem(done === 'own' || done === 'author' ? 403 : 409, why))
        }
        return json({ run: run.number, id: run.id, gate: gate.name, by }, 201)
      },
    },
    {
      method: 'POST',
      path: '/api/v1/runs/:run/gates/:gate/token',
      permission: 'vote',
      summary:
        'A vote token, good for one vote within an hour, to send the Temporal signal `approve` or `reject` oneself.',
      body: { kind: 'json', schema: TokenRequest },
      onRefused: (by, params) => refused(by, params, { token: true }),
      async handle({ params, body, by }) {
        const run = await findRun(store, params)
        const gate = await findGate(run, params.gate)
        const judged = await judge(run, { gate, answer: 'approve', by })
        const { channel } = body as z.infer<typeof TokenRequest>
        if (!judged.counts) {
          await ballots.refused({ gate, answer: 'approve', by, channel }, `no vote token is made: ${judged.why}`)
          throw refusal(judged.why, gate, by)
        }
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
  async function judge(run: RunDetail, ballot: Parameters<typeof ballots.judge>[0]) {
    if (isOutcome(run.status))
      return { counts: false, why: `run ${run.number} has ended: ${run.status}; retry it first` } as const
    return ballots.judge(ballot)
  }

  interface Given {
    readonly seen: Seen
    readonly answer: Answer
    readonly by: string
    readonly channel: string
    readonly comment?: string | undefined
    readonly fields?: FieldValues | undefined
    readonly breakGlass?: boolean
  }

  async function vote(given: Given & { readonly run: RunDetail; readonly gate: GateRow }) {
    const { run, gate, seen, answer, by, channel, comment, fields, breakGlass } = given
    const stale = staleness(gate, seen)
    const ballot = {
      ...{ gate, answer, by, channel },
      ...(comment === undefined ? {} : { comment }),
      ...(fields === undefined ? {} : { fields }),
      ...(breakGlass ? { breakGlass } : {}),
    }
    const judged = stale === undefined ? await judge(run, ballot) : ({ counts: false, why: stale } as const)
    if (!judged.counts) {
      await ballots.refused(ballot, judged.why)
      if (stale !== undefined) throw new ProblemError(problem(409, stale, { subject: gate.subject }))
      if ('problems' in judged && judged.problems !== undefined) {
        throw invalid(judged.problems.map(({ field, problem }) => ({ pointer: `/fields/${field}`, detail: problem })))
      }
      throw refusal(judged.why, gate, by, breakGlass === true)
    }
    // The same vote sent twice is one signal; a later one, after an answer to it was recorded, is another. So is one in
    // another try: what was told to a try that was just ending was lost with it.
    const earlier = gate.votes.filter((one) => one.by === by).length
    const what = breakGlass ? 'break-glass' : answer
    await ballots.cast(ballot, `vote/${gate.id}/${run.try}/${by}/${what}/${earlier}`)
    return { run: run.number, id: run.id, gate: gate.name, answer, by, subject: gate.subject }
  }

  /** One of several: what is wrong with it is its own result, and nothing of the others. */
  async function oneOf({ number, gate: name, ...given }: Given & { number: number; gate: string | undefined }) {
    try {
      const run = await findRun(store, { run: String(number) })
      const gate = await findGate(run, name ?? (await onlyGate(run, given.answer)))
      return { ...(await vote({ run, gate, ...given })), accepted: true }
    } catch (err) {
      if (!(err instanceof ProblemError)) throw err
      const { status, detail, errors } = err.problem
      return { run: number, gate: name, accepted: false, status, why: detail, errors }
    }
  }

  async function openGatesOf(number: number): Promise<readonly string[]> {
    const run = await store.runs.byNumber(number)
    const newest = new Map((run === undefined ? [] : await store.gates.ofRun(run.id)).map((gate) => [gate.name, gate]))
    return [...newest.values()].filter(({ state }) => state === 'open').map(({ name }) => name)
  }

  async function onlyGate(run: RunDetail, answer: Answer): Promise<string> {
    const newest = new Map((await store.gates.ofRun(run.id)).map((gate) => [gate.name, gate]))
    const open = [...newest.values()].filter(({ state }) => state === 'open')
    // What is approved and not yet released can still be rejected.
    const held = [...newest.values()].filter(({ state, movingSince }) => state === 'approved' && !movingSince)
    const waiting = open.length === 0 && answer === 'reject' ? held : open
    const [only] = waiting
    if (only !== undefined && waiting.length === 1) return only.name
    throw new ProblemError(problem(409, `run ${run.number} waits at ${open.length} gates; name one`))
  }

  /** Whoever may not vote at all leaves a trace, too. */
  async function refused(by: string, { run: number, gate }: Readonly<Record<string, string>>, what: object) {
    const run = await store.runs.byNumber(wholeNumber(number) ?? 0)
    const row = run === undefined || gate === undefined ? undefined : await store.gates.get(run.id, gate)
    if (row === undefined) return
    await recordRefusal(row, by, 'api', what, `none of the roles of ${by} allows it`)
  }

  async function recordRefusal({ id, subject }: GateRow, by: string, channel: string, what: object, why: string) {
    const proven = { authenticated: true, authenticatedAs: by, proof: 'session', subject }
    await store.audit.record({
      by,
      channel,
      action: 'gate.vote',
      on: id,
      detail: { ...what, counts: false, why, ...proven },
    })
  }
}

/** Addresses of those who wrote it are for judging only. */
function shown({ rules: { identities: _, ...rules }, ...row }: GateRow) {
  const gate = { ...row, rules }
  if (gate.state !== 'open') return gate
  const counted = gate.votes.filter((one) => one.counts)
  return { ...gate, standing: standingOf(gate.rules, counted) }
}

function refusal(why: string, gate: GateRow, by: string, isBreaking = false): ProblemError {
  const isPersonal =
    gate.state === 'open'
      ? gate.rules.excluded.includes(by) || why.includes('not an approver') || isBreaking
      : why.startsWith(`${by} `)
  return new ProblemError(
    problem(isPersonal ? 403 : 409, `${why} (commit ${gate.subject.commit})`, { subject: gate.subject }),
  )
}

function staleness(gate: GateRow, { commit, specDigest, deliverables }: Seen): string | undefined {
  const { subject } = gate
  if (commit !== undefined && commit !== subject.commit)
    return `you decided on commit ${commit}; the run is at ${subject.commit}`
  if (specDigest !== undefined && specDigest !== subject.specDigest)
    return `you decided on another spec; the gate is about ${subject.specDigest}`
  if (deliverables === undefined) return undefined
  const same = JSON.stringify([...deliverables].sort()) === JSON.stringify([...subject.deliverables].sort())
  return same ? undefined : `you decided on other deliverables; the gate is about ${subject.deliverables.join(', ')}`
}
