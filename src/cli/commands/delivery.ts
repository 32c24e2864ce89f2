import { Command } from 'commander'
import { type Context, command, printJson } from '../context.ts'
import { duration, table } from '../text.ts'

interface Delivery {
  readonly source: string
  readonly id: string
  readonly event: string
  readonly repo?: string
  readonly receivedAt: number
  readonly outcome: string
  readonly run?: number
  readonly reason?: string
  readonly notice?: { readonly doneAt?: number; readonly outcome?: string; readonly error?: string }
}

export function deliveryCommand(context: Context): Command {
  return new Command('delivery').description('what forges have told').addCommand(
    command('list', 'the newest deliveries, and what became of each')
      .option('--repo <name>', 'only this repository')
      .option('--limit <number>', 'how many', '20')
      .action(async (options: { json?: boolean; repo?: string; limit: string }) => {
        const query = new URLSearchParams({ limit: options.limit })
        if (options.repo) query.set('repo', options.repo)
        const answer = await context.api().get<{ deliveries: Delivery[] }>(`/deliveries?${query}`)
        if (options.json) return printJson(context, answer)
        const rows = answer.deliveries.map((one) => [
          duration(context.now() - one.receivedAt),
          one.source,
          one.event,
          one.repo ?? '',
          one.id,
          outcomeOf(one),
        ])
        context.terminal.out(table([['AGE', 'FROM', 'EVENT', 'REPOSITORY', 'ID', 'WHAT BECAME OF IT'], ...rows]))
      }),
  )
}

function outcomeOf({ outcome, run, reason, notice }: Delivery): string {
  const became = run === undefined ? (reason ?? outcome) : outcome === 'run' ? `run ${run}` : `${outcome} of run ${run}`
  if (notice === undefined) return became
  const then = notice.outcome ?? (notice.error === undefined ? 'waits' : `waits: ${notice.error}`)
  return outcome === 'noted' ? then : `${became}; ${then}`
}
