import { Command } from 'commander'
import { parseSpec, SPEC_FILE, specDigest } from '../../spec/parse.ts'
import type { Terminal } from './spec-file.ts'
import { countText, diagnosticsText, EXIT_WRONG_SPEC, processTerminal, readSpecFile } from './spec-file.ts'

/** `penstock lint [FILE]`: exit code 0 for a right spec (warnings allowed), 1 for a wrong one, 2 when it cannot be read. */
export function lintCommand(terminal: Terminal = processTerminal): Command {
  return new Command('lint')
    .description('check a spec file and show everything that is wrong with it')
    .argument('[file]', 'the spec file', SPEC_FILE)
    .option('--json', 'print the diagnostics as one JSON object')
    .action(async (file: string, options: { json?: boolean }) => {
      const bytes = await readSpecFile(file, terminal)
      if (bytes === undefined) return
      const parsed = parseSpec(bytes, file)
      const ok = parsed.kind === 'ok'
      const diagnostics = ok ? parsed.warnings : parsed.diagnostics
      if (options.json) {
        terminal.out(`${JSON.stringify({ ok, file, specDigest: specDigest(bytes), diagnostics }, null, 2)}\n`)
      } else {
        const count = countText(diagnostics)
        terminal.out(`${diagnosticsText(diagnostics)}${file}: ${ok ? `ok${count ? `, ${count}` : ''}` : count}\n`)
      }
      if (!ok) terminal.exit(EXIT_WRONG_SPEC)
    })
}
