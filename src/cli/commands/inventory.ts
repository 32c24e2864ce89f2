import { Command } from 'commander'
import { ConnectionLost } from '../client.ts'
import { type Context, command, EXIT_ERROR, printJson, runNumber } from '../context.ts'
import { duration, table } from '../text.ts'
import { sentenceOf } from './run.ts'

interface Deployment {
  readonly repo: string
  readonly environment: string
  readonly run: string
  readonly commit: string
  readonly digest: string
  readonly state: string
  readonly at: number
  readonly detail?: string
}

export function deployCommand(context: Context): Command {
  return new Command('deploy').description('the ledger of deployments').addCommand(
    command('list', 'the newest deployments')
      .option('--repo <name>', 'only this repository')
      .option('--environment <name>', 'only this environment')
      .option('--limit <number>', 'how many', '20')
      .action(async (options: { json?: boolean; repo?: string; environment?: string; limit: string }) => {
        const query = new URLSearchParams({ limit: options.limit })
        if (options.repo) query.set('repo', options.repo)
        if (options.environment) query.set('environment', options.environment)
        const answer = await context.api().get<{ deployments: Deployment[] }>(`/deployments?${query}`)
        if (options.json) return printJson(context, answer)
        const rows = answer.deployments.map((one) => [
          one.environment,
          one.run,
          one.state,
          one.commit.slice(0, 10),
          one.digest.slice(0, 19),
          duration(context.now() - one.at),
          one.detail ?? '',
        ])
        context.terminal.out(table([['ENVIRONMENT', 'RUN', 'STATE', 'COMMIT', 'DIGEST', 'AGE', ''], ...rows]))
      }),
  )
}

export function nodesCommand(context: Context): Command {
  return command('nodes', 'the nodes whose worker has been heard of').action(async (options: { json?: boolean }) => {
    const answer = await context.api().get<{ nodes: { id: string; hostname: string; seenMsAgo: number }[] }>('/nodes')
    if (options.json) return printJson(context, answer)
    const rows = answer.nodes.map((node) => [node.id, node.hostname, `${duration(node.seenMsAgo)} ago`])
    context.terminal.out(table([['NODE', 'HOST', 'HEARD'], ...rows]))
  })
}

interface EventRow {
  readonly run: string
  readonly at: number
  readonly position: number
  readonly event: Parameters<typeof sentenceOf>[0]
}

export function eventsCommand(context: Context): Command {
  return command('events', 'what happened in all runs, in order')
    .option('--after <position>', 'only what came later', '0')
    .option('--limit <number>', 'how many', '100')
    .action(async (options: { json?: boolean; after: string; limit: string }) => {
      const answer = await context
        .api()
        .get<{ events: EventRow[] }>(
          `/events?after=${encodeURIComponent(options.after)}&limit=${encodeURIComponent(options.limit)}`,
        )
      if (options.json) return printJson(context, answer)
      const rows = answer.events.map((one) => [
        String(one.position),
        new Date(one.at).toISOString(),
        one.run,
        sentenceOf(one.event),
      ])
      context.terminal.out(table(rows))
    })
}

interface ExportOptions {
  readonly after: string
  readonly run?: number
  readonly from?: string
  readonly until?: string
}

export function auditCommand(context: Context): Command {
  return new Command('audit').description('who did what').addCommand(
    command('export', 'the audit, one JSON object a line; the last line says that it is whole')
      .option('--after <id>', 'only later entries', '0')
      .option('--run <number>', 'only what concerns this run', runNumber)
      .option('--from <time>', 'only from this time on, for example 2026-01-31T12:00:00Z')
      .option('--until <time>', 'only before this time')
      .action(async ({ after, run, from, until }: ExportOptions) => {
        const query = new URLSearchParams({ after })
        for (const [name, value] of Object.entries({ run, from, until })) {
          if (value !== undefined) query.set(name, String(value))
        }
        let last = Number(after)
        let isWhole = false
        try {
          for await (const line of lines(context.api().stream(`/audit/export?${query}`))) {
            // What broke off within a line is no entry.
            const entry = JSON.parse(line) as { id?: number; end?: { entries: number; last: number } }
            isWhole = entry.end !== undefined
            last = entry.id ?? last
            context.raw(Buffer.from(`${line}\n`))
          }
        } catch (err) {
          if (!(err instanceof ConnectionLost)) throw err
        }
        if (isWhole) return
        context.terminal.err(`the export was cut off after entry ${last}: go on with --after ${last}\n`)
        context.terminal.exit(EXIT_ERROR)
      }),
  )
}

/** Whole lines only. */
async function* lines(chunks: AsyncIterable<Uint8Array>): AsyncIterable<string> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of chunks) {
    const [first = '', ...more] = decoder.decode(chunk, { stream: true }).split('\n')
    rest += first
    for (const next of more) {
      yield rest
      rest = next
    }
  }
}

interface TokenRow {
  readonly id: string
  readonly person: string
  readonly createdAt: number
  readonly expiresAt: number
  readonly lastUsedAt?: number
}

export function tokenCommand(context: Context): Command {
  const token = new Command('token').description('tokens of people')
  token.addCommand(
    command('create', 'a new token, shown this once')
      .argument('<person>', 'as the operator’s file names them')
      .requiredOption('--days <number>', 'how long it is good for, at most 365')
      .action(async (person: string, options: { json?: boolean; days: string }) => {
        const made = await context.api().post<TokenRow & { token: string }>('/tokens', {
          person,
          expiresInDays: Number(options.days),
          channel: 'cli',
        })
        if (options.json) return printJson(context, made)
        context.terminal.err(`${made.id}: good until ${new Date(made.expiresAt).toISOString()}\n`)
        context.terminal.out(`${made.token}\n`)
      }),
  )
  token.addCommand(
    command('list', 'the live tokens')
      .option('--person <name>', 'only this person')
      .action(async (options: { json?: boolean; person?: string }) => {
        const query = options.person === undefined ? '' : `?person=${encodeURIComponent(options.person)}`
        const answer = await context.api().get<{ tokens: TokenRow[] }>(`/tokens${query}`)
        if (options.json) return printJson(context, answer)
        const rows = answer.tokens.map((one) => [
          one.id,
          one.person,
          new Date(one.expiresAt).toISOString(),
          one.lastUsedAt === undefined ? 'never' : new Date(one.lastUsedAt).toISOString(),
        ])
        context.terminal.out(table([['ID', 'PERSON', 'EXPIRES', 'LAST USED'], ...rows]))
      }),
  )
  token.addCommand(
    command('revoke', 'end a token now')
      .argument('<id>', 'as `token list` shows it')
      .action(async (id: string, options: { json?: boolean }) => {
        await context.api().remove(`/tokens/${encodeURIComponent(id)}`)
        if (options.json) printJson(context, { revoked: id })
        else context.terminal.out(`${id} is revoked\n`)
      }),
  )
  return token
}
