import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import type { Answer, GateState, Subject } from '../../core/approval.ts'
import { ApiError } from '../client.ts'
import { type Context, command, printJson, runNumber } from '../context.ts'
import { visible } from '../text.ts'

interface Gate {
  readonly name: string
  readonly environment: string
  readonly state: GateState
  readonly subject: Subject
  readonly votes: readonly {
    readonly by: string
    readonly answer: Answer
    readonly counts: boolean
    readonly why?: string
  }[]
}

interface Options {
  readonly json?: boolean
  readonly gate?: string
  readonly comment?: string
}

/** How long to look for what became of the vote; it is certain to arrive, whether one looks or not. */
const LOOK_MS = 5000
const LOOK_EVERY_MS = 100

export function voteCommand(context: Context, answer: Answer): Command {
  const vote = command(answer, answer === 'approve' ? 'approve what a run waits for' : 'reject what a run waits for')
    .argument('<run>', 'number of the run', runNumber)
    .option('--gate <name>', 'which gate, if several wait')
  if (answer === 'reject') vote.requiredOption('--comment <text>', 'why')
  else vote.option('--comment <text>', 'what to record with it')
  return vote.action(async (number: number, options: Options) => {
    const gate = await chooseGate(context, number, options.gate)
    const { commit, specDigest, deliverables } = gate.subject
    if (!options.json) {
      context.terminal.err(
        `${answer} ${visible(gate.environment)}: commit ${commit}${deliverables.length > 0 ? `, ${visible(deliverables.join(', '))}` : ''}\n`,
      )
    }
    const where = `/runs/${number}/gates/${encodeURIComponent(gate.name)}`
    const accepted = await context.api().post<{ by: string }>(`${where}/${answer}`, {
      channel: 'cli',
      commit,
      specDigest,
      deliverables,
      ...(options.comment === undefined ? {} : { comment: options.comment }),
    })
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
  })
}

export function voteTokenCommand(context: Context): Command {
  return command('vote-token', 'a token for one vote, to send the Temporal signal yourself')
    .argument('<run>', 'number of the run', runNumber)
    .option('--gate <name>', 'which gate, if several wait')
    .action(async (number: number, options: Options) => {
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

async function chooseGate(context: Context, number: number, name: string | undefined): Promise<Gate> {
  const { gates } = await context.api().get<{ gates: Gate[] }>(`/runs/${number}/gates`)
  const current = new Map(gates.map((gate) => [gate.name, gate]))
  const named = name === undefined ? undefined : current.get(name)
  if (named !== undefined) return named
  const open = [...current.values()].filter((gate) => gate.state === 'open')
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
