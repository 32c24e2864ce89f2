import { setTimeout as sleep } from 'node:timers/promises'
import { type Command, InvalidArgumentError } from 'commander'
import {
  type Answer,
  brokenSentence,
  type GateRules,
  type GateState,
  nameOf,
  type Objection,
  type Standing,
  type Subject,
} from '../../core/approval.ts'
import { type FieldValues, fromText } from '../../core/form.ts'
import { closedAt } from '../../core/window.ts'
import { ApiError } from '../client.ts'
import { type Context, command, printJson, runNumber } from '../context.ts'
import { duration, table, visible } from '../text.ts'

interface Gate {
  readonly id: string
  readonly run: string
  readonly name: string
  readonly environment: string
  readonly state: GateState
  readonly subject: Subject
  readonly rules: GateRules
  readonly openedAt: number
  readonly standing?: Standing
  /** Since when what it approved is being released. */
  readonly movingSince?: number
  readonly objections?: readonly Objection[]
  readonly votes: readonly {
    readonly by: string
    readonly answer: Answer
    readonly channel: string
    readonly counts: boolean
    readonly comment?: string
    readonly why?: string
    readonly fields?: FieldValues
    readonly breakGlass?: true
  }[]
  readonly broken?: { readonly by: string; readonly reason: string }
  readonly review?: { readonly by: string; readonly comment: string }
}

interface Options {
  readonly json?: boolean
  readonly gate?: string
  readonly comment?: string
  readonly field: readonly string[]
}

/** How long to look for what became of the vote; it is certain to arrive, whether one looks or not. */
const LOOK_MS = 5000
const LOOK_EVERY_MS = 100

export function voteCommand(context: Context, answer: Answer): Command {
  const vote = command(answer, answer === 'approve' ? 'approve what a run waits for' : 'reject what a run waits for')
    .argument('<runs...>', 'number of the run, or of several: each is judged for itself', eachRun)
    .option('--gate <name>', 'which gate, if several wait')
    .option('--field <name=value>', 'what the form asks for; once for each field', collected, [])
  if (answer === 'reject') vote.requiredOption('--comment <text>', 'why')
  else vote.option('--comment <text>', 'what to record with it')
  return vote.action(async (numbers: readonly number[], options: Options) => {
    const [number, ...more] = numbers
    if (number === undefined) return
    if (more.length > 0) return answerTogether(context, answer, numbers, options)
    const gate = await chooseGate(context, number, options.gate, answer === 'reject')
    const said = options.comment === undefined ? {} : { comment: options.comment }
    await answerOne(context, { number, gate, answer, options, act: answer, body: said })
  })
}

export function breakGlassCommand(context: Context): Command {
  return command(
    'break-glass',
    'pass a gate alone, as an operator; marked for ever, and to be reviewed by somebody else',
  )
    .argument('<run>', 'number of the run', runNumber)
    .requiredOption('--reason <text>', 'why it cannot wait')
    .option('--gate <name>', 'which gate, if several wait')
    .option('--field <name=value>', 'what the form asks for; once for each field', collected, [])
    .action(async (number: number, options: Options & { reason: string }) => {
      const gate = await chooseGate(context, number, options.gate, true)
      const body = { reason: options.reason }
      await answerOne(context, { number, gate, answer: 'approve', options, act: 'break-glass', body })
    })
}

export function reviewCommand(context: Context): Command {
  return command('review', 'say what you found about a gate that somebody else passed by break-glass')
    .argument('<run>', 'number of the run', runNumber)
    .requiredOption('--comment <text>', 'what you found')
    .option('--gate <name>', 'which gate, if there are several')
    .action(async (number: number, options: Options) => {
      const { gates } = await context.api().get<{ gates: Gate[] }>(`/runs/${number}/gates`)
      const open = gates.filter(({ name, broken, review }) => broken && !review && name === (options.gate ?? name))
      const [gate] = open
      if (gate === undefined) throw new ApiError(409, `run ${number} has no gate that is to be reviewed`, undefined)
      const where = `/runs/${number}/gates/${encodeURIComponent(gate.name)}/review`
      const answer = await context.api().post(where, { comment: options.comment, channel: 'cli' })
      if (options.json) printJson(context, answer)
      else context.terminal.out(`your review of ${gate.name} of run ${number} is recorded\n`)
    })
}

export function gatesCommand(context: Context): Command {
  return command('gates', 'what waits for an answer, and what is to be reviewed; of one run, all of its gates')
    .argument('[run]', 'number of a run', runNumber)
    .action(async (number: number | undefined, options: { json?: boolean }) => {
      if (number !== undefined) {
        const answer = await context.api().get<{ gates: Gate[] }>(`/runs/${number}/gates`)
        if (options.json) return printJson(context, answer)
        return context.terminal.out(answer.gates.map((gate) => gateText(gate, context.now())).join('\n'))
      }
      const answer = await context.api().get<{ gates: Gate[]; toReview: Gate[] }>('/gates')
      if (options.json) return printJson(context, answer)
      const waiting = answer.gates.map((gate) => [
        ...[gate.run, gate.name, gate.environment, duration(context.now() - gate.openedAt)],
        `${gate.rules.quorum - (gate.standing?.missing ?? gate.rules.quorum)} of ${gate.rules.quorum}`,
        missingText(gate),
        gate.standing?.shortage ?? gate.standing?.may.join(', ') ?? '',
      ])
      const titles = ['RUN', 'GATE', 'ENVIRONMENT', 'WAITS', 'APPROVALS', 'MISSING', 'MAY APPROVE']
      context.terminal.out(table([titles, ...waiting]))
      if (answer.toReview.length === 0) return
      const broken = answer.toReview.map((gate) => [
        ...[gate.run, gate.name, gate.broken?.by ?? '', gate.broken?.reason ?? ''],
      ])
      context.terminal.out(`\nto be reviewed (\`penstock review RUN --comment …\`):\n`)
      context.terminal.out(table([['RUN', 'GATE', 'PASSED BY BREAK-GLASS BY', 'BECAUSE'], ...broken]))
    })
}

/** `1 of team:qa, 2 of role:approver`: of each group as many as it lacks. */
function missingText({ standing }: Gate): string {
  const groups = standing?.groups.filter(({ count, approvals }) => approvals.length < count) ?? []
  return groups.map((one) => `${one.count - one.approvals.length} of ${nameOf(one)}`).join(', ') || 'none'
}

/** What an open gate waits for, group by group, and of whom. */
function standingText({ standing, rules, objections = [] }: Gate, now: number): string {
  if (standing === undefined) return ''
  const { may, missing, shortage, groups } = standing
  const rows = groups.map((one) => [
    ...[`  ${one.approvals.length} of ${one.count}`, nameOf(one), one.approvals.join(', ')],
    one.unasked ?? '',
  ])
  const closed = closedAt(rules.window, now)
  const excluded = rules.excluded.filter((one) => rules.approvers.includes(one))
  const lines = [
    shortage ?? (missing > 0 ? `${missing} missing; may approve: ${may.join(', ')}` : 'enough have approved'),
    ...objections.map(({ by, why }) => `held by ${by}, who ${why}`),
    ...(shortage === undefined && excluded.length > 0
      ? [`may not, because they wrote or pushed what is in it: ${excluded.join(', ')}`]
      : []),
    ...(closed === undefined ? [] : [`is not passed ${closed.why}`]),
    ...(rules.expiresAt === undefined ? [] : [`expires ${new Date(rules.expiresAt).toISOString()}`]),
  ]
  return table(rows) + lines.map((line) => `  ${visible(line)}\n`).join('')
}

function gateText(gate: Gate, now: number): string {
  const { subject, rules, votes, broken, review } = gate
  const fields = (rules.form?.fields ?? []).map((field) => [
    `    ${field.name}`,
    field.type + (field.required ? ', required' : ''),
    field.default === undefined ? '' : `default ${String(field.default)}`,
    field.label ?? '',
  ])
  const cast = votes.map((one) => [
    `  ${one.by}`,
    one.breakGlass ? 'break-glass' : one.answer,
    one.channel,
    one.counts ? 'counts' : `does not count: ${one.why ?? ''}`,
    [one.comment ?? '', ...Object.entries(one.fields ?? {}).map(([name, value]) => `${name}=${String(value)}`)]
      .filter((part) => part !== '')
      .join('; '),
  ])
  const lines = [
    `${visible(gate.id)}: ${gate.state}`,
    `  ${visible(gate.environment)}: commit ${subject.commit}`,
    ...subject.deliverables.map((one) => `  ${visible(one)}`),
    ...(broken ? [`  ${visible(brokenSentence(gate.name, broken))}`] : []),
    ...(broken
      ? [review ? `  reviewed by ${visible(review.by)}: ${visible(review.comment)}` : '  to be reviewed']
      : []),
    ...(rules.form?.instructions?.split('\n').map((line) => `  | ${visible(line)}`) ?? []),
  ]
  return `${lines.join('\n')}\n${standingText(gate, now)}${table(fields)}${table(cast)}`
}

async function answerOne(
  context: Context,
  asked: {
    readonly number: number
    readonly gate: Gate
    readonly answer: Answer
    readonly options: Options
    /** Last part of the address. */
    readonly act: string
    readonly body: object
  },
): Promise<void> {
  const { number, gate, answer, options, act, body } = asked
  if (!options.json) context.terminal.err(shownText(act, gate))
  const where = `/runs/${number}/gates/${encodeURIComponent(gate.name)}`
  const seen = seenOf(gate, options)
  const accepted = await context.api().post<{ by: string }>(`${where}/${act}`, { channel: 'cli', ...seen, ...body })
  const now = await lookFor(context, number, gate, accepted.by)
  const vote = now?.votes.filter((one) => one.by === accepted.by).at(-1)
  if (vote?.counts === false) context.terminal.exit(1)
  if (options.json) {
    const { by } = accepted
    const judged = vote && { counts: vote.counts, ...(vote.why === undefined ? {} : { why: vote.why }) }
    return printJson(context, {
      run: number,
      gate: gate.name,
      answer,
      by,
      state: now?.state ?? gate.state,
      ...judged,
    })
  }
  if (vote === undefined) context.terminal.out('the vote is on its way\n')
  else if (vote.counts) context.terminal.out(`your vote counts; the gate is ${now?.state}\n`)
  else context.terminal.err(`your vote does not count: ${visible(vote.why ?? '')}\n`)
}

interface Result {
  readonly run: number
  readonly gate?: string
  readonly accepted: boolean
  readonly why?: string
}

async function answerTogether(
  context: Context,
  answer: Answer,
  numbers: readonly number[],
  options: Options,
): Promise<void> {
  const gates: object[] = []
  const unknown: Result[] = []
  for (const run of new Set(numbers)) {
    try {
      const gate = await chooseGate(context, run, options.gate, answer === 'reject')
      if (!options.json) context.terminal.err(shownText(answer, gate))
      gates.push({ run, gate: gate.name, ...seenOf(gate, options) })
    } catch (err) {
      // Of this one it is said why; the others are answered.
      if (!(err instanceof ApiError) || err.status === 401) throw err
      unknown.push({ run, accepted: false, why: err.message })
    }
  }
  const said = options.comment === undefined ? {} : { comment: options.comment }
  const answered =
    gates.length === 0
      ? { results: [] }
      : await context.api().post<{ results: Result[] }>('/gates/answer', { answer, channel: 'cli', ...said, gates })
  const results = [...answered.results, ...unknown]
  if (results.some(({ accepted }) => !accepted)) context.terminal.exit(1)
  if (options.json) return printJson(context, { results })
  const rows = results.map(({ run, gate, accepted, why }) => [
    ...[String(run), gate ?? '', accepted ? 'on its way' : `does not count: ${why ?? ''}`],
  ])
  context.terminal.out(table([['RUN', 'GATE', 'YOUR VOTE'], ...rows]))
}

function shownText(act: string, { environment, subject: { commit, deliverables }, rules }: Gate): string {
  const what = deliverables.length > 0 ? `, ${visible(deliverables.join(', '))}` : ''
  const instructions = rules.form?.instructions?.split('\n').map((line) => `  | ${visible(line)}\n`) ?? []
  return `${act} ${visible(environment)}: commit ${commit}${what}\n${instructions.join('')}`
}

/** What was shown, so that it is judged whether it still is what is there; and what was filled in. */
function seenOf({ subject: { commit, specDigest, deliverables }, rules }: Gate, { field }: Options) {
  const given = new Map<string, string[]>()
  for (const one of field) {
    const at = one.indexOf('=')
    const name = one.slice(0, at)
    given.set(name, [...(given.get(name) ?? []), one.slice(at + 1)])
  }
  const fields = [...given].map(([name, texts]) => {
    const known = rules.form?.fields.find((other) => other.name === name)
    // Said twice: for `several` both, for the others what was said last.
    const text = known?.type === 'several' ? texts.filter((one) => one !== '').join(',') : (texts.at(-1) ?? '')
    return [name, fromText(known, text)]
  })
  return { commit, specDigest, deliverables, ...(fields.length === 0 ? {} : { fields: Object.fromEntries(fields) }) }
}

function collected(one: string, before: readonly string[]): readonly string[] {
  if (one.indexOf('=') < 1) throw new InvalidArgumentError('must be name=value')
  return [...before, one]
}

function eachRun(text: string, before: readonly number[] | undefined): readonly number[] {
  return [...(before ?? []), runNumber(text)]
}

export function voteTokenCommand(context: Context): Command {
  return command('vote-token', 'a token for one vote, to send the Temporal signal yourself')
    .argument('<run>', 'number of the run', runNumber)
    .option('--gate <name>', 'which gate, if several wait')
    .action(async (number: number, options: Pick<Options, 'json' | 'gate'>) => {
      const gate = await chooseGate(context, number, options.gate)
      const answer = await context
        .api()
        .post<{ token: string; signal: { workflowId: string; argument: unknown } }>(
          `/runs/${number}/gates/${encodeURIComponent(gate.name)}/token`,
        )
      if (options.json) return printJson(context, answer)
      const { workflowId, argument } = answer.signal
      context.terminal.err(
        `temporal workflow signal --workflow-id '${workflowId}' --name approve --input '${JSON.stringify(argument)}'\n`,
      )
      context.terminal.out(`${answer.token}\n`)
    })
}

/** @param isHeldToo also one that is approved and not yet released, where none is open */
async function chooseGate(
  context: Context,
  number: number,
  name: string | undefined,
  isHeldToo = false,
): Promise<Gate> {
  const { gates } = await context.api().get<{ gates: Gate[] }>(`/runs/${number}/gates`)
  const current = new Map(gates.map((gate) => [gate.name, gate]))
  const named = name === undefined ? undefined : current.get(name)
  if (named !== undefined) return named
  const waiting = [...current.values()].filter((gate) => gate.state === 'open')
  const held = [...current.values()].filter(({ state, movingSince }) => state === 'approved' && !movingSince)
  const open = waiting.length === 0 && isHeldToo ? held : waiting
  const [only] = name === undefined ? open : []
  if (only !== undefined && open.length === 1) return only
  const names = [...current.keys()].join(', ') || 'none'
  throw new ApiError(
    409,
    name === undefined
      ? `run ${number} waits at ${open.length} gates; name one with --gate: ${names}`
      : `run ${number} has no gate "${name}"; it has ${names}`,
    undefined,
  )
}

async function lookFor(context: Context, number: number, before: Gate, by: string): Promise<Gate | undefined> {
  const count = (gate: Gate): number => gate.votes.filter((one) => one.by === by).length
  const until = context.now() + LOOK_MS
  while (context.now() < until) {
    const { gates } = await context.api().get<{ gates: Gate[] }>(`/runs/${number}/gates`)
    const now = gates.findLast((gate) => gate.name === before.name)
    if (now !== undefined && count(now) > count(before)) return now
    await sleep(LOOK_EVERY_MS)
  }
  return undefined
}
