import { Command, InvalidArgumentError, Option } from 'commander'
import type { Change, Trigger } from '../../core/change.ts'
import type { PlannedEnvironment } from '../../plan/compile.ts'
import { compilePlan } from '../../plan/compile.ts'
import { formatPlan } from '../../plan/format.ts'
import { parseSpec, SPEC_FILE, specDigest } from '../../spec/parse.ts'
import type { Terminal } from './spec-file.ts'
import { countText, diagnosticsText, EXIT_WRONG_SPEC, processTerminal, readSpecFile } from './spec-file.ts'

const DEFAULT_ENVIRONMENTS: readonly PlannedEnvironment[] = [
  { name: 'staging', gate: false },
  { name: 'production', gate: true },
]
/** Nothing in a plan depends on the commit; a trigger has to name one. */
const ANY_COMMIT = 'c'.repeat(40)

interface PlanOptions {
  readonly event: 'push' | 'pull_request'
  readonly branch: string
  readonly base?: string
  readonly candidate: string
  readonly production: string
  readonly environment?: readonly PlannedEnvironment[]
  readonly productionEnvironment?: string
  readonly json?: boolean
}

/** `penstock plan [FILE] --event push --branch master`: what a spec becomes for one event; exit codes as of `lint`. */
export function planCommand(terminal: Terminal = processTerminal): Command {
  return new Command('plan')
    .description('print the plan that an event on a branch would run')
    .argument('[file]', 'the spec file', SPEC_FILE)
    .addOption(new Option('--event <event>', 'what happened').choices(['push', 'pull_request']).default('push'))
    .requiredOption('--branch <name>', 'the branch that was pushed, or that the pull request comes from')
    .option('--base <name>', 'the branch that the pull request wants to go to (default: the candidate branch)')
    .option('--candidate <name>', 'the candidate branch of the repository', 'master')
    .option('--production <name>', 'the production branch of the repository', 'production')
    .option(
      '--environment <name[:gate]>',
      'an environment of the operator, with :gate if it asks for approvals; repeat it for each (default: staging production:gate)',
      addEnvironment,
    )
    .option(
      '--production-environment <name>',
      'the environment with a gate that guards the production branch (default: the only one with a gate)',
    )
    .option('--json', 'print the plan, or the diagnostics, as one JSON object')
    .action(async (file: string, options: PlanOptions) => {
      const bytes = await readSpecFile(file, terminal)
      if (bytes === undefined) return
      const digest = specDigest(bytes)
      const parsed = parseSpec(bytes, file)
      const compiled =
        parsed.kind === 'wrong'
          ? parsed
          : compilePlan({
              spec: parsed.spec,
              specDigest: digest,
              trigger: toTrigger(options),
              branches: { candidate: options.candidate, production: options.production },
              environments: options.environment ?? DEFAULT_ENVIRONMENTS,
              ...(options.productionEnvironment === undefined ? {} : { production: options.productionEnvironment }),
            })
      const warnings = parsed.kind === 'ok' ? parsed.warnings : []
      if (compiled.kind === 'wrong') {
        const diagnostics = [...warnings, ...compiled.diagnostics]
        terminal.out(
          options.json
            ? `${JSON.stringify({ ok: false, file, specDigest: digest, diagnostics }, null, 2)}\n`
            : `${diagnosticsText(diagnostics)}${file}: ${countText(diagnostics)}\n`,
        )
        terminal.exit(EXIT_WRONG_SPEC)
        return
      }
      terminal.err(diagnosticsText(warnings))
      terminal.out(options.json ? `${JSON.stringify(compiled.plan, null, 2)}\n` : formatPlan(compiled.plan))
    })
}

function toTrigger({ event, branch, base, candidate }: PlanOptions): Trigger {
  const change: Change = {
    commit: ANY_COMMIT,
    ref: `refs/heads/${branch}`,
    ...(event === 'pull_request' ? { pullRequest: { number: 1, base: base ?? candidate } } : {}),
  }
  return { kind: event, repo: 'local', change, requestedBy: 'penstock plan' }
}

function addEnvironment(value: string, earlier: readonly PlannedEnvironment[] = []): PlannedEnvironment[] {
  const match = /^([a-z][a-z0-9-]{0,39})(:gate)?$/.exec(value)
  const name = match?.[1]
  if (name === undefined) throw new InvalidArgumentError('expected NAME or NAME:gate.')
  if (earlier.some((one) => one.name === name)) throw new InvalidArgumentError(`${name} was given twice.`)
  return [...earlier, { name, gate: match?.[2] !== undefined }]
}
