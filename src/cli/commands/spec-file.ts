import { readFile, stat } from 'node:fs/promises'
import type { Diagnostic } from '../../spec/diagnostic.ts'
import { formatDiagnostic } from '../../spec/diagnostic.ts'

/** Where a command writes, and what it tells the shell. */
export interface Terminal {
  out(text: string): void
  err(text: string): void
  exit(code: number): void
}

export const processTerminal: Terminal = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  // Set, not called: what is still in the pipes gets written.
  exit: (code) => {
    process.exitCode = code
  },
}

export const EXIT_WRONG_SPEC = 1
export const EXIT_USAGE = 2

/** The bytes of a spec file, or nothing after the reason was told. */
export async function readSpecFile(path: string, terminal: Terminal): Promise<Uint8Array | undefined> {
  try {
    if (!(await stat(path)).isFile()) {
      terminal.err(`${path}: not a regular file\n`)
      terminal.exit(EXIT_USAGE)
      return undefined
    }
    return await readFile(path)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
    const why = code === 'ENOENT' ? 'there is no such file' : `cannot be read (${code})`
    terminal.err(`${path}: ${why}\n`)
    terminal.exit(EXIT_USAGE)
    return undefined
  }
}

export function countText(diagnostics: readonly Diagnostic[]): string {
  const errors = diagnostics.filter(({ severity }) => severity === 'error').length
  const warnings = diagnostics.length - errors
  const count = (number: number, word: string) => (number === 0 ? [] : [`${number} ${word}${number === 1 ? '' : 's'}`])
  return [...count(errors, 'error'), ...count(warnings, 'warning')].join(', ')
}

export function diagnosticsText(diagnostics: readonly Diagnostic[]): string {
  return diagnostics.map((one) => `${formatDiagnostic(one)}\n\n`).join('')
}
