import { setTimeout as sleep } from 'node:timers/promises'
import { Command, InvalidArgumentError } from 'commander'
import { brokenSentence } from '../../core/approval.ts'
import { branchName } from '../../core/change.ts'
import type { RunEvent, Waiting } from '../../core/events.ts'
import { EXIT_CODES, OUTCOMES, type Outcome } from '../../core/outcome.ts'
import { type Plan, stageJobs } from '../../core/plan.ts'
import { ConnectionLost, NoServer } from '../client.ts'
import { type Context, command, printJson, runNumber } from '../context.ts'
import { duration, table, visible, visibleLog } from '../text.ts'
import { expectedText, type Waiter } from './pool.ts'

interface Run {
  readonly number: number
  readonly id: string
  readonly repo: string
  readonly status: string
  readonly reason?: string
  readonly try: number
  readonly stage?: string
  readonly waiting?: Waiting
  readonly change: { readonly commit: string; readonly ref: string; readonly title?: string; readonly author?: string }
  readonly createdAt: number
  readonly finishedAt?: number
  readonly url: string
  readonly temporal?: string
  readonly broken?: { readonly gate: string; readonly by: string; readonly reason: string }
}

interface Attempt {
  readonly stage: string
  readonly job?: string
  readonly step?: number
  readonly name?: string
  readonly attempt: number
  readonly outcome?: Outcome
  readonly exitCode?: number
  readonly reason?: string
  readonly node?: string
  readonly startedAt: number
  readonly finishedAt?: number
}

interface Detail extends Run {
  readonly plan?: Plan
  readonly attempts: readonly Attempt[]
}

const POLL_MS = 500
const RECONNECT_MS = 1000

export function runCommand(context: Context): Command {
  const run = new Command('run').description('runs: see, follow, start, retry, cancel')
  run.addCommand(listCommand(context))
  run.addCommand(viewCommand(context))
  run.addCommand(logsCommand(context))
  run.addCommand(watchCommand(context))
  run.addCommand(startCommand(context))
  run.addCommand(
    command('retry', 'run the failed stage and what follows again')
      .argument('<run>', 'number of the run', runNumber)
      .action(async (number: number, options: { json?: boolean }) => {
        const answer = await context.api().post<{ try: number }>(`/runs/${number}/retry`)
        if (options.json) printJson(context, answer)
        else context.terminal.out(`run ${number} is queued again: try ${answer.try}\n`)
      }),
  )
  run.addCommand(
    command('cancel', 'stop a run')
      .argument('<run>', 'number of the run', runNumber)
      .requiredOption('--reason <text>', 'why; it is recorded')
      .action(async (number: number, options: { json?: boolean; reason: string }) => {
        const answer = await context.api().post(`/runs/${number}/cancel`, { reason: options.reason })
        if (options.json) printJson(context, answer)
        else context.terminal.out(`run ${number} is being canceled\n`)
      }),
  )
  run.addCommand(admissionCommand(context))
  run.addCommand(
    command('admit', 'let the commit of a run that waits for it run, without secrets')
      .argument('<run>', 'number of the run', runNumber)
      .requiredOption('--commit <id>', 'the commit that you have looked at, full')
      .action(async (number: number, options: { json?: boolean; commit: string }) => {
        const answer = await context.api().post(`/runs/${number}/admit`, { commit: options.commit })
        if (options.json) printJson(context, answer)
        else context.terminal.out(`run ${number} starts\n`)
      }),
  )
  run.addCommand(
    command('override', 'let a production push be deployed though its commit was not signed off')
      .argument('<run>', 'number of the run', runNumber)
      .requiredOption('--reason <text>', 'why; it is recorded')
      .action(async (number: number, options: { json?: boolean; reason: string }) => {
        const answer = await context.api().post(`/runs/${number}/override`, { reason: options.reason, channel: 'cli' })
        if (options.json) printJson(context, answer)
        else
          context.terminal.out(
            `the override of run ${number} is recorded, and waits for somebody else's review (penstock review); retry the run if it has ended\n`,
          )
      }),
  )
  return run
}

interface AdmissionOfRun {
  readonly commit: string
  readonly secrets: string
  readonly held?: string
  readonly approval?: { readonly by: string }
  readonly difference: { readonly base: string; readonly changed: boolean; readonly lines?: readonly string[] }
}

function admissionCommand(context: Context): Command {
  return command('admission', 'what a run may ask for, and what a stranger’s commit changes of the spec')
    .argument('<run>', 'number of the run', runNumber)
    .action(async (number: number, options: { json?: boolean }) => {
      const answer = await context.api().get<AdmissionOfRun>(`/runs/${number}/admission`)
      if (options.json) return printJson(context, answer)
      const { commit, secrets, held, approval, difference } = answer
      const { base, changed, lines } = difference
      const about = changed ? (lines === undefined ? 'cannot be compared with' : 'differs from') : 'is'
      const text = [
        `run ${number} of ${commit}: secrets: ${secrets}`,
        ...(held === undefined ? [] : [`waits: ${held}`]),
        ...(approval === undefined ? [] : [`let in by ${approval.by}`]),
        `its spec ${about} that of ${base}`,
        ...(lines ?? []),
      ]
      context.terminal.out(`${text.map(visible).join('\n')}\n`)
    })
}

function listCommand(context: Context): Command {
  return command('list', 'the newest runs')
    .option('--repo <name>', 'only this repository')
    .option('--status <status>', 'only runs in this state')
    .option('--branch <name>', 'only this branch')
    .option('--limit <number>', 'how many', '20')
    .action(async (options: { json?: boolean; repo?: string; status?: string; branch?: string; limit: string }) => {
      const query = new URLSearchParams({ limit: options.limit })
      if (options.repo) query.set('repo', options.repo)
      if (options.status) query.set('status', options.status)
      if (options.branch) query.set('ref', `refs/heads/${options.branch}`)
      const { runs } = await context.api().get<{ runs: Run[] }>(`/runs?${query}`)
      if (options.json) return printJson(context, { runs })
      const rows = runs.map((run) => [
        String(run.number),
        run.repo,
        branchName(run.change.ref),
        run.change.commit.slice(0, 10),
        run.status,
        duration(context.now() - run.createdAt),
        run.waiting?.sentence ?? run.reason ?? run.change.title ?? '',
      ])
      context.terminal.out(table([['RUN', 'REPOSITORY', 'BRANCH', 'COMMIT', 'STATUS', 'AGE', 'ABOUT'], ...rows]))
    })
}

function viewCommand(context: Context): Command {
  return command('view', 'one run: its stages, jobs and attempts')
    .argument('<run>', 'number of the run', runNumber)
    .action(async (number: number, options: { json?: boolean }) => {
      const run = await context.api().get<Detail>(`/runs/${number}`)
      if (options.json) return printJson(context, run)
      const { change } = run
      const lines = [
        `${visible(run.id)}: ${run.status}${run.try > 1 ? ` (try ${run.try})` : ''}${run.reason ? `: ${visible(run.reason)}` : ''}`,
        `  ${visible(branchName(change.ref))} at ${change.commit}${change.title ? `: ${visible(change.title)}` : ''}`,
        ...(run.waiting ? [`  waits for ${run.waiting.kind}: ${visible(run.waiting.sentence)}`] : []),
        ...(run.broken ? [`  ${visible(brokenSentence(run.broken.gate, run.broken))}`] : []),
        ...(run.temporal ? [`  ${run.temporal}`] : []),
      ]
      const waits = isOutcome(run.status) ? [] : await waitsOf(context, run.id)
      const rows = inOrder(run.attempts).map((one) => {
        const depth = one.job === undefined ? '' : one.step === undefined ? '  ' : '    '
        const name = one.step === undefined ? (one.job ?? one.stage) : `${one.step}: ${one.name ?? ''}`
        const took = (one.finishedAt ?? context.now()) - one.startedAt
        return [`  ${depth}${name}`, `#${one.attempt}`, one.outcome ?? 'running', duration(took), one.reason ?? '']
      })
      context.terminal.out(`${[...lines, ...waits].join('\n')}\n${table(rows)}`)
    })
}

/** Who of the run waits for a pool: at which place, since when, for whom. */
async function waitsOf(context: Context, run: string): Promise<readonly string[]> {
  const { waiters } = await context.api().get<{ waiters: readonly Waiter[] }>('/pools')
  const since = (time: number) => `since ${duration(context.now() - time)}`
  return waiters
    .filter((one) => one.run === run)
    .flatMap(({ holder, position, since: asked, sentence, holders, expected }) => [
      `  ${visible(holder.startsWith(`${run}/`) ? holder.slice(run.length + 1) : holder)}: place ${position} ${since(asked)}: ${visible(sentence)}`,
      ...(expected === undefined ? [] : [`    starts in ${expectedText(context, { expected })}, as it was before`]),
      ...holders.map((one) => `    ${visible(`${one.pool}/${one.unit}: ${one.holder}`)} ${since(one.since)}`),
    ])
}

/** Each stage with its jobs beneath it, each job with its steps, each as it began. */
function inOrder(attempts: readonly Attempt[]): readonly Attempt[] {
  const keys = [
    ({ stage }: Attempt) => stage,
    ({ job }: Attempt) => job ?? '',
    ({ attempt }: Attempt) => String(attempt),
    ({ step }: Attempt) => String(step ?? ''),
  ]
  function grouped(rows: readonly Attempt[], [keyOf, ...deeper]: typeof keys): readonly Attempt[] {
    if (keyOf === undefined) return rows
    const groups = new Map<string, Attempt[]>()
    for (const row of rows) groups.set(keyOf(row), [...(groups.get(keyOf(row)) ?? []), row])
    return [...groups.values()].flatMap((group) => grouped(group, deeper))
  }
  return grouped(attempts, keys)
}

function startCommand(context: Context): Command {
  return command('start', 'start a run of the tip of a branch, or of one commit')
    .argument('<repository>', 'for example acme/web')
    .option('--branch <name>', 'its tip')
    .option('--commit <id>', 'this commit, full; it is tested only')
    .action(async (repo: string, options: { json?: boolean; branch?: string; commit?: string }) => {
      const answer = await context.api().post<Run>('/runs', {
        repo,
        ...(options.branch === undefined ? {} : { ref: options.branch }),
        ...(options.commit === undefined ? {} : { commit: options.commit }),
      })
      if (options.json) printJson(context, answer)
      else context.terminal.out(`${visible(answer.id)} is ${answer.status}\n`)
    })
}

function isOutcome(status: string): status is Outcome {
  return OUTCOMES.some((one) => one === status)
}

interface LogOptions {
  readonly json?: boolean
  readonly job?: string
  readonly step?: string
  readonly follow?: boolean
  readonly timestamps?: boolean
  readonly since?: string
  readonly attempt?: number
}

function attemptNumber(text: string): number {
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new InvalidArgumentError('must be a number from 1')
  return Number(text)
}

/** The server may be starting again: followers wait for it, and say so once. A silence is no loss. */
export async function untilReached<T>(context: Context, ask: () => Promise<T>): Promise<T> {
  let told = false
  for (;;) {
    try {
      return await ask()
    } catch (err) {
      if (!(err instanceof NoServer || err instanceof ConnectionLost)) throw err
      if (!told && !(err instanceof ConnectionLost && err.silence)) {
        told = true
        context.terminal.err('the connection was lost; trying again\n')
      }
      await sleep(RECONNECT_MS)
    }
  }
}

function logsCommand(context: Context): Command {
  return command('logs', 'the logs of a run; with -f until it has ended')
    .argument('<run>', 'number of the run', runNumber)
    .option('--job <job>', 'only this job: its name, or stage/job')
    .option('--step <step>', 'only this step: its index from 0, or its name')
    .option('--attempt <number>', 'this attempt of the job instead of the newest', attemptNumber)
    .option('--since <time>', 'only from this time on')
    .option('--timestamps', 'the time before each line')
    .option('-f, --follow', 'go on until the end; the exit code is the outcome')
    .action(async (number: number, options: LogOptions) => {
      const shown = new Set<string>()
      const look = () => context.api().get<Detail>(`/runs/${number}`)
      let known: Detail | undefined = await look()
      for (;;) {
        const run: Detail = known ?? (options.follow ? await untilReached(context, look) : await look())
        known = undefined
        const all = stepsOf(run, options)
        if (options.job !== undefined && all.length === 0 && !mayCome(run, options.job)) {
          context.terminal.err(`run ${number} has no job "${visible(options.job)}"\n`)
          return context.terminal.exit(2)
        }
        const fresh = all.filter((one) => !shown.has(one.key))
        for (const one of fresh) {
          shown.add(one.key)
          await printLog(context, number, one, options, all.length > 1)
        }
        const end = endOf(run, options)
        const over = !options.follow || (end !== undefined && fresh.length === 0)
        if (over && shown.size === 0 && (options.step !== undefined || options.attempt !== undefined)) {
          context.terminal.err(`run ${number} has no such step\n`)
          return context.terminal.exit(2)
        }
        if (!options.follow) return
        if (end !== undefined && fresh.length === 0) {
          return context.terminal.exit(isOutcome(run.status) ? await exitCodeOf(context, number, end) : EXIT_CODES[end])
        }
        if (fresh.length === 0) await sleep(POLL_MS)
      }
    })
}

interface StepOfRun {
  readonly key: string
  readonly stage: string
  readonly job: string
  readonly attempt: number
  readonly step: number
  readonly name: string
}

/** The steps that have begun, oldest first: of the newest attempt, or of the one that was asked for. */
function stepsOf(run: Detail, { job, step, attempt }: LogOptions): readonly StepOfRun[] {
  const steps = run.attempts.flatMap((one): StepOfRun[] => {
    if (one.job === undefined || one.step === undefined || !isJob(one, job)) return []
    if (step !== undefined && step !== String(one.step) && step !== one.name) return []
    const newest = Math.max(
      ...run.attempts
        .filter((other) => other.stage === one.stage && other.job === one.job)
        .map((other) => other.attempt),
    )
    if (one.attempt !== (attempt ?? newest)) return []
    const { stage } = one
    const key = `${stage}/${one.job}/${one.attempt}/${one.step}`
    return [{ key, stage, job: one.job, attempt: one.attempt, step: one.step, name: one.name ?? '' }]
  })
  return steps
}

function isJob(one: { readonly stage: string; readonly job?: string }, wanted: string | undefined): boolean {
  return wanted === undefined || wanted === one.job || wanted === `${one.stage}/${one.job}`
}

function mayCome(run: Detail, job: string): boolean {
  if (run.plan === undefined) return !isOutcome(run.status)
  return run.plan.stages.some((stage) =>
    stageJobs(stage).some((one) => isJob({ stage: stage.name, job: one.name }, job)),
  )
}

/** How it ended: the run, or the one job that is followed. */
function endOf(run: Detail, { job }: LogOptions): Outcome | undefined {
  if (isOutcome(run.status)) return run.status
  if (job === undefined) return undefined
  const attempts = run.attempts.filter((one) => one.job !== undefined && one.step === undefined && isJob(one, job))
  return attempts.sort((a, b) => a.attempt - b.attempt).at(-1)?.outcome
}

async function printLog(
  context: Context,
  run: number,
  step: StepOfRun,
  options: LogOptions,
  several: boolean,
): Promise<void> {
  const query = new URLSearchParams({ attempt: String(step.attempt) })
  if (options.follow) query.set('follow', '1')
  if (options.timestamps) query.set('timestamps', '1')
  if (options.since) query.set('since', options.since)
  if (several && !options.json)
    context.terminal.err(
      `── ${visible(`${step.stage}/${step.job} #${step.attempt}, step ${step.step}: ${step.name}`)}\n`,
    )
  const where = `/runs/${run}/jobs/${encodeURIComponent(`${step.stage}/${step.job}`)}/steps/${step.step}/log?${query}`
  const decoder = new TextDecoder()
  let text = ''
  let shown = 0
  // A log only grows: one that broke off is read again, without what was shown of it.
  const read = async (): Promise<void> => {
    let at = 0
    for await (const chunk of context.api().stream(where)) {
      at += chunk.length
      if (at <= shown) continue
      const fresh = chunk.subarray(Math.max(0, chunk.length - (at - shown)))
      shown = at
      if (options.json) text += decoder.decode(fresh, { stream: true })
      else if (context.isTty) context.terminal.out(visibleLog(decoder.decode(fresh, { stream: true })))
      else context.raw(fresh)
    }
  }
  await (options.follow ? untilReached(context, read) : read())
  if (options.json) context.terminal.out(`${JSON.stringify({ ...step, text })}\n`)
}

interface EventLine {
  readonly seq: number
  readonly at: number
  readonly event: RunEvent
}

function watchCommand(context: Context): Command {
  return command('watch', 'what happens in a run, live; the exit code is its outcome')
    .argument('<run>', 'number of the run', runNumber)
    .action(async (number: number, options: { json?: boolean }) => {
      let seen = 0
      const read = async (): Promise<void> => {
        // What was missed is asked for by number.
        for await (const line of eventsOf(context, number, seen)) {
          seen = line.seq
          if (options.json) context.terminal.out(`${JSON.stringify(line)}\n`)
          else context.terminal.out(`${new Date(line.at).toISOString()} ${sentenceOf(line.event)}\n`)
        }
      }
      const look = () => context.api().get<Run>(`/runs/${number}`)
      await look()
      for (;;) {
        await untilReached(context, read)
        const { status } = await untilReached(context, look)
        if (isOutcome(status)) return context.terminal.exit(await exitCodeOf(context, number, status))
      }
    })
}

/** A gate that expired with `on_expiry: skip` fails nothing, and yet what was asked for has not been: nobody may go on. */
async function exitCodeOf(context: Context, number: number, status: Outcome): Promise<number> {
  const code = EXIT_CODES[status]
  if (code !== 0) return code
  const { gates } = await untilReached(context, () =>
    context.api().get<{ gates: readonly { name: string; state: string }[] }>(`/runs/${number}/gates`),
  )
  // In the order in which they were opened: a retry asks anew, and its gate is the one that counts.
  const states = new Map(gates.map(({ name, state }) => [name, state]))
  const expired = [...states].flatMap(([name, state]) => (state === 'expired' ? [visible(name)] : []))
  if (expired.length === 0) return code
  context.terminal.err(
    `run ${number} passed what ran, and its gate ${expired.join(', ')} expired: nothing was released\n`,
  )
  return EXIT_CODES.failed
}

async function* eventsOf(context: Context, run: number, after: number): AsyncGenerator<EventLine> {
  const decoder = new TextDecoder()
  let buffer = ''
  for await (const chunk of context
    .api()
    .stream(`/runs/${run}/events?after=${after}`, { accept: 'text/event-stream' })) {
    buffer += decoder.decode(chunk, { stream: true })
    const messages = buffer.split('\n\n')
    buffer = messages.pop() ?? ''
    for (const message of messages) {
      const data = message.split('\n').find((line) => line.startsWith('data: '))
      if (data !== undefined) yield JSON.parse(data.slice('data: '.length)) as EventLine
    }
  }
}

/** `test/unit/1 step 0 finished: succeeded`: whatever the event has, in the order in which one asks. */
export function sentenceOf(event: RunEvent): string {
  const lease = leaseSentence(event)
  if (lease !== undefined) return visible(lease)
  const { type, ...fields } = event
  const text = Object.entries(fields).map(([name, value]) => {
    if (typeof value === 'object' && value !== null && 'sentence' in value) return `${name}: ${value.sentence}`
    return `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`
  })
  return visible([type.replace(/\.v\d+$/, ''), ...text].join(' '))
}

function leaseSentence(event: RunEvent): string | undefined {
  switch (event.type) {
    case 'lease.warned.v1': {
      const { pool, unit, holder, until } = event
      return `lease.warned ${holder} has to give ${pool}/${unit} back by ${new Date(until).toISOString()}`
    }
    case 'lease.revoked.v1':
      return `lease.revoked ${event.holder} loses ${event.pool}/${event.unit} and stops: ${event.reason}`
    default:
      return undefined
  }
}
