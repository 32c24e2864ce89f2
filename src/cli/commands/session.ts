import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { Argument, Command } from 'commander'
import { ITEM_RESULTS, type ItemResult } from '../../core/session.ts'
import { ApiError } from '../client.ts'
import { type Context, command, printJson, runNumber } from '../context.ts'
import { duration, table, visible, visibleLog } from '../text.ts'

interface Session {
  readonly id: string
  readonly run: number
  readonly stage: string
  readonly job: string
  readonly attempt: number
  readonly state: 'open' | 'paused' | 'finished' | 'expired' | 'ended'
  readonly environment?: string
  readonly url?: string
  readonly openedAt: number
  readonly expiresAt: number
  readonly mayTest: readonly string[]
  readonly testers: readonly { readonly person: string; readonly until?: number; readonly handedTo?: string }[]
  readonly paused?: { readonly by: string; readonly reason: string }
  readonly warning?: string
  readonly notKept?: string
  readonly units: readonly {
    readonly pool: string
    readonly unit: string
    readonly expiresAt: number
    readonly properties: Readonly<Record<string, unknown>>
  }[]
  readonly checklist: readonly Item[]
}

interface Item {
  readonly item: number
  readonly name: string
  readonly instructions?: string
  readonly required: boolean
  readonly answer: {
    readonly result: ItemResult
    readonly by: string
    readonly comment?: string
    readonly keptFrom?: number
  } | null
  /** Why something that was answered before is open. */
  readonly askedAgain?: string
  readonly evidence: readonly {
    readonly id: number
    readonly name: string
    readonly size: number
    readonly gone?: { readonly by: string; readonly why?: string }
  }[]
}

interface Options {
  readonly json?: boolean
  readonly job?: string
  readonly attempt?: number
}

/** What people do in a manual test; everything is asked of the server, which decides. */
export function sessionCommand(context: Context): Command {
  const session = new Command('session').description('manual tests: what waits for testers, answer, finish')
  session.addCommand(
    command('list', 'the sessions that wait for testers').action(async (options: Options) => {
      const { sessions } = await context.api().get<{ sessions: Session[] }>('/sessions')
      if (options.json) return printJson(context, { sessions })
      const rows = sessions.map((one) => [
        one.id,
        one.state,
        `${one.checklist.filter(({ answer }) => answer !== null).length}/${one.checklist.length}`,
        duration(context.now() - one.openedAt),
        duration(one.expiresAt - context.now()),
        one.mayTest.join(', '),
      ])
      context.terminal.out(table([['SESSION', 'STATE', 'ANSWERED', 'AGE', 'EXPIRES IN', 'MAY TEST'], ...rows]))
    }),
  )
  session.addCommand(
    onRun('show', 'address, units, checklist and answers').action(async (run: number, options: Options) => {
      print(await choose(run, options), options)
    }),
  )
  session.addCommand(
    onRun('answer', 'answer an item of the checklist; asks nothing, and can be changed until the session ends')
      .argument('<item>', 'its number or its name')
      .addArgument(new Argument('<result>', 'what came of it').choices(ITEM_RESULTS))
      .option('--comment <text>', 'what you have seen')
      .option('--evidence <file...>', 'files that show it')
      .action(async (run: number, item: string, result: ItemResult, options: AnswerOptions) => {
        const chosen = await choose(run, options)
        const { item: number } = findItem(chosen, item)
        // Files first: an answer without them would say more than it shows.
        for (const file of options.evidence ?? []) {
          const query = new URLSearchParams({ name: basename(file), channel: 'cli' })
          await context.api().upload(`${pathOf(chosen)}/items/${number}/evidence?${query}`, await readFile(file))
        }
        const comment = options.comment === undefined ? {} : { comment: options.comment }
        print(await act(chosen, `/items/${number}`, { result, ...comment }), options)
      }),
  )
  for (const [name, what] of [
    ['join', 'test in the session, too'],
    ['resume', 'go on after a pause'],
    ['finish', 'end the session with its answers'],
  ] as const) {
    session.addCommand(
      onRun(name, what).action(async (run: number, options: Options) => {
        print(await act(await choose(run, options), `/${name}`), options)
      }),
    )
  }
  session.addCommand(
    onRun('pause', 'nobody answers for now; units stay leased, and its time goes on')
      .requiredOption('--reason <text>', 'why')
      .action(async (run: number, options: Options & { reason: string }) => {
        print(await act(await choose(run, options), '/pause', { reason: options.reason }), options)
      }),
  )
  session.addCommand(
    onRun('hand-over', 'somebody else tests instead of you')
      .requiredOption('--to <person>', 'who')
      .action(async (run: number, options: Options & { to: string }) => {
        print(await act(await choose(run, options), '/hand-over', { to: options.to }), options)
      }),
  )
  session.addCommand(
    onRun('evidence', 'a file of evidence, to standard output')
      .argument('<id>', 'its number, as `show` has it', runNumber)
      .action(async (run: number, id: number, options: Options) => {
        await pour(`${pathOf(await choose(run, options))}/evidence/${id}`)
      }),
  )
  session.addCommand(
    onRun('delete-evidence', 'delete a file: your own while the session is open; an operator, any, with a reason')
      .argument('<id>', 'its number, as `show` has it', runNumber)
      .option('--reason <text>', 'why')
      .action(async (run: number, id: number, options: Options & { reason?: string }) => {
        const chosen = await choose(run, options)
        await context.api().remove(`${pathOf(chosen)}/evidence/${id}`, options.reason)
        print(await context.api().get<Session>(pathOf(chosen)), options)
      }),
  )
  session.addCommand(
    onRun('junit', 'the answers as JUnit XML, to standard output').action(async (run: number, options: Options) => {
      await pour(`${pathOf(await choose(run, options))}/junit`)
    }),
  )
  return session

  function onRun(name: string, description: string): Command {
    return command(name, description)
      .argument('<run>', 'number of the run', runNumber)
      .option('--job <name>', 'which job, if several have a session')
      .option('--attempt <number>', 'which attempt; else the one that is open, or the newest', runNumber)
  }

  /** The one that is open, else the newest: there is at most one open an attempt, and one attempt a job. */
  async function choose(run: number, { job, attempt }: Options): Promise<Session> {
    const { sessions } = await context.api().get<{ sessions: Session[] }>(`/runs/${run}/sessions`)
    const meant = sessions
      .filter((one) => job === undefined || one.job === job)
      .filter((one) => attempt === undefined || one.attempt === attempt)
    const newest = new Map(meant.map((one) => [one.job, one]))
    const candidates = [...newest.values()]
    const open = candidates.filter(({ state }) => state === 'open' || state === 'paused')
    const [only, other] = open.length > 0 ? open : candidates
    if (only !== undefined && other === undefined) return only
    const names = [...new Set(sessions.map((one) => one.job))].join(', ') || 'none'
    const of = `${job === undefined ? '' : ` of job "${job}"`}${attempt === undefined ? '' : ` in attempt ${attempt}`}`
    const which = only === undefined ? `has no session${of}` : 'has several sessions'
    throw new ApiError(409, `run ${run} ${which}; name one with --job: ${names}`, undefined)
  }

  function pathOf({ run, stage, job, attempt }: Session): string {
    return `/runs/${run}/sessions/${stage}/${job}/${attempt}`
  }

  function act(session: Session, what: string, body: object = {}): Promise<Session> {
    return context.api().post<Session>(`${pathOf(session)}${what}`, { channel: 'cli', ...body })
  }

  async function pour(path: string): Promise<void> {
    for await (const chunk of context.api().stream(path)) context.raw(chunk)
  }

  function print(session: Session, options: Options): void {
    if (options.json) printJson(context, session)
    else context.terminal.out(described(session, context.now()))
  }
}

interface AnswerOptions extends Options {
  readonly comment?: string
  readonly evidence?: readonly string[]
}

function goneText({ by, why }: { readonly by: string; readonly why?: string }): string {
  return `deleted by ${by}${why === undefined ? '' : `: ${why}`}`
}

function findItem({ checklist }: Session, text: string): Item {
  const found = checklist.find((one) => one.name === text || String(one.item) === text)
  if (found !== undefined) return found
  const names = checklist.map((one) => `${one.item} ${visible(one.name)}`).join(', ')
  throw new ApiError(422, `the checklist has no item "${visible(text)}"; it has ${names}`, undefined)
}

function described(session: Session, now: number): string {
  const { id, state, paused, url, environment, units, testers, mayTest, checklist, warning, notKept } = session
  const isOpen = state === 'open' || state === 'paused'
  const lines = [
    `${id}: ${state}${isOpen ? `, expires in ${duration(session.expiresAt - now)}` : ''}`,
    ...(paused ? [`paused by ${paused.by}: ${paused.reason}`] : []),
    ...(warning === undefined ? [] : [`beware: ${warning}`]),
    ...(notKept === undefined ? [] : [notKept]),
    ...(environment === undefined ? [] : [`against ${environment}${url === undefined ? '' : `: ${url}`}`]),
    ...units.map(({ pool, unit, properties, expiresAt }) => {
      const facts = Object.entries(properties).map(([name, value]) => `${name}=${value}`)
      const until = expiresAt < session.expiresAt ? ` (for ${duration(expiresAt - now)} more)` : ''
      return `leased ${pool}/${unit}${until}${facts.length > 0 ? `: ${facts.join(' ')}` : ''}`
    }),
    `testing: ${testers.map(testerText).join(', ') || 'nobody yet'}`,
    ...(isOpen ? [`may test: ${mayTest.join(', ') || 'nobody'}`] : []),
  ].map((line) => `${visible(line)}\n`)
  return `${lines.join('')}\n${checklist.map(itemText).join('')}`
}

function testerText({ person, until, handedTo }: Session['testers'][number]): string {
  return until === undefined ? person : `${person} (handed over to ${handedTo})`
}

function itemText({ item, name, instructions, required, answer, askedAgain, evidence }: Item): string {
  const kept = answer?.keptFrom === undefined ? '' : `, kept from attempt ${answer.keptFrom}`
  const said = answer === null ? (required ? 'open' : 'open, optional') : `${answer.result} by ${answer.by}${kept}`
  const below = [
    ...(instructions === undefined ? [] : [instructions.trimEnd()]),
    ...(askedAgain === undefined ? [] : [`asked again: ${askedAgain}`]),
    ...(answer?.comment === undefined ? [] : [`“${answer.comment}”`]),
    ...evidence.map((one) => `file ${one.id}: ${one.name} (${one.gone ? goneText(one.gone) : `${one.size} bytes`})`),
  ]
  const indented = below.flatMap((text) => visibleLog(text).split('\n')).map((line) => `      ${line}\n`)
  return `${String(item).padStart(3)}. ${visible(`${name}: ${said}`)}\n${indented.join('')}`
}
