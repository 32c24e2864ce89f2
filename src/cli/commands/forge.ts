import { Command } from 'commander'
import type { ForgeChecked } from '../../api/forge.ts'
import { type Context, command, printJson } from '../context.ts'
import { visible } from '../text.ts'

const SIGNS = { present: 'ok', missing: 'MISSING', unknown: '?' } as const

/** Exit code 1: something that is needed is missing, or a forge could not be asked. */
export function forgeCommand(context: Context): Command {
  return new Command('forge').description('what the forges know of us').addCommand(
    command('check', 'permissions, webhook and protection of branches: what is there, what is missing, how to mend it')
      .argument('[repository]', 'as the operator’s file names it; all unless said')
      .action(async (repo: string | undefined, options: { json?: boolean }) => {
        const query = repo === undefined ? '' : `?repo=${encodeURIComponent(repo)}`
        const answer = await context.api().get<{ repositories: ForgeChecked[] }>(`/forge/check${query}`)
        if (options.json) printJson(context, answer)
        else for (const one of answer.repositories) context.terminal.out(visibleLines(one))
        if (answer.repositories.some(isWanting)) context.terminal.exit(1)
      }),
  )
}

function isWanting({ findings, error }: ForgeChecked): boolean {
  return error !== undefined || findings.some((one) => one.state === 'missing' && one.weight === 'needed')
}

function visibleLines({ repo, forge, findings, error }: ForgeChecked): string {
  const lines = findings.flatMap(({ about, name, state, weight, why, mend }) => [
    `  ${SIGNS[state].padEnd(8)}${about} ${name}${state === 'present' ? '' : ` (${weight}: ${why})`}`,
    ...(mend === undefined ? [] : [`          ${mend}`]),
  ])
  if (error !== undefined) lines.push(`  the forge could not be asked: ${error}`)
  else if (findings.length === 0) lines.push(`  nothing to check at a repository of the kind "${forge}"`)
  return [`${repo}:`, ...lines].map((line) => `${visible(line)}\n`).join('')
}
