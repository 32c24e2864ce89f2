import { Command, CommanderError } from 'commander'
import { ApiError, type Variables } from './client.ts'
import { deliveryCommand } from './commands/delivery.ts'
import { forgeCommand } from './commands/forge.ts'
import { breakGlassCommand, gatesCommand, reviewCommand, voteCommand, voteTokenCommand } from './commands/gate.ts'
import { hookCommand } from './commands/hook.ts'
import { auditCommand, deployCommand, eventsCommand, nodesCommand, tokenCommand } from './commands/inventory.ts'
import { lintCommand } from './commands/lint.ts'
import { planCommand } from './commands/plan.ts'
import { poolCommand } from './commands/pool.ts'
import { pullCommand } from './commands/pull.ts'
import { runCommand } from './commands/run.ts'
import { schemaCommand } from './commands/schema.ts'
import { sessionCommand } from './commands/session.ts'
import type { Terminal } from './commands/spec-file.ts'
import { createContext, EXIT_ERROR } from './context.ts'
import { visible } from './text.ts'

const EXIT_AUTHENTICATION = 4

export interface Surroundings {
  readonly env: Variables
  readonly terminal: Terminal
  readonly isTty: boolean
  readonly raw: (bytes: Uint8Array) => void
  readonly now: () => number
  /** Aborted when the person wants no more (Ctrl-C); asked for only by what has something to put in order then. */
  readonly interruption?: () => AbortSignal
}

/** The whole command line: messages to `err`, data to `out`, the verdict to `exit`. Never throws. */
export async function runCli(args: readonly string[], surroundings: Surroundings): Promise<void> {
  const { terminal } = surroundings
  const context = createContext(surroundings)
  const program = new Command('penstock').description('self-hosted CI/CD on Temporal and Docker Swarm')
  const commands = [
    lintCommand(terminal),
    planCommand(terminal),
    schemaCommand(terminal),
    runCommand(context),
    pullCommand(context),
    voteCommand(context, 'approve'),
    voteCommand(context, 'reject'),
    voteTokenCommand(context),
    sessionCommand(context),
    gatesCommand(context),
    breakGlassCommand(context),
    reviewCommand(context),
    poolCommand(context),
    deployCommand(context),
    deliveryCommand(context),
    eventsCommand(context),
    auditCommand(context),
    hookCommand(context),
    forgeCommand(context),
    tokenCommand(context),
    nodesCommand(context),
  ]
  for (const one of commands) program.addCommand(one)
  prepare(program, terminal)
  try {
    await program.parseAsync([...args], { from: 'user' })
  } catch (err) {
    if (err instanceof CommanderError) {
      terminal.exit(err.exitCode === 0 ? 0 : EXIT_ERROR)
    } else if (err instanceof ApiError) {
      terminal.err(`${visible(err.message)}\n`)
      terminal.exit(err.status === 401 || err.status === 403 ? EXIT_AUTHENTICATION : EXIT_ERROR)
    } else {
      // No server, a file that cannot be read, or a mistake of ours: rising out of here it would end the process
      // with 1, which says that a run failed.
      terminal.err(`${visible(err instanceof Error ? err.message : String(err))}\n`)
      terminal.exit(EXIT_ERROR)
    }
  }
}

/** Commander passes neither of these on to the commands that were added. */
function prepare(program: Command, terminal: Terminal): void {
  program.exitOverride().configureOutput({ writeOut: terminal.out, writeErr: terminal.err }).showSuggestionAfterError()
  for (const one of program.commands) prepare(one, terminal)
}
