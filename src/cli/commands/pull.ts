import { Command, InvalidArgumentError } from 'commander'
import { type Context, command, printJson } from '../context.ts'
import { duration, table, visible } from '../text.ts'

interface Merge {
  readonly repo: string
  readonly pullRequest: number
  readonly commit: string
  readonly by: string
  readonly askedAt: number
  readonly state: 'waiting' | 'merged' | 'ended' | 'joined'
  readonly why?: string
}

const SAID = {
  waiting: 'is merged as soon as the rules hold; what is missing is said there',
  joined: 'is waiting already to be merged',
  merged: 'is merged',
  ended: 'is not merged',
} as const

export function pullCommand(context: Context): Command {
  const pull = new Command('pull').description('pull requests: have one merged, see what waits')
  pull.addCommand(
    command('merge', 'merge a pull request into the candidate branch, by fast-forward, as soon as the rules hold')
      .argument('<repository>', 'for example acme/web')
      .argument('<number>', 'of the pull request', pullNumber)
      .option('--commit <id>', 'only if this is its head, full')
      .action(async (repo: string, pullRequest: number, options: { json?: boolean; commit?: string }) => {
        const { commit } = options
        const asked = { repo, pullRequest, channel: 'cli', ...(commit === undefined ? {} : { commit }) }
        const merge = await context.api().post<Merge>('/merges', asked)
        if (options.json) return printJson(context, merge)
        const { state, why } = merge
        const at = merge.commit.slice(0, 12)
        const because = why === undefined ? '' : `: ${visible(why)}`
        context.terminal.out(`pull request ${pullRequest} at ${at} ${SAID[state]}${because}\n`)
      }),
  )
  pull.addCommand(
    command('list', 'whose merge was asked for, and what has become of it')
      .option('--repo <name>', 'only this repository')
      .option('--limit <number>', 'how many', '20')
      .action(async (options: { json?: boolean; repo?: string; limit: string }) => {
        const query = new URLSearchParams({ limit: options.limit })
        if (options.repo) query.set('repo', options.repo)
        const { merges } = await context.api().get<{ merges: Merge[] }>(`/merges?${query}`)
        if (options.json) return printJson(context, { merges })
        const rows = merges.map((one) => [
          one.repo,
          String(one.pullRequest),
          one.commit.slice(0, 10),
          one.by,
          duration(context.now() - one.askedAt),
          one.state,
          one.why ?? '',
        ])
        context.terminal.out(table([['REPOSITORY', 'PULL', 'COMMIT', 'BY', 'AGE', 'STATE', 'WHY'], ...rows]))
      }),
  )
  return pull
}

function pullNumber(text: string): number {
  const digits = /^#?([1-9][0-9]{0,14})$/.exec(text)?.[1]
  if (digits === undefined) throw new InvalidArgumentError('must be the number of a pull request, for example 7')
  return Number(digits)
}
