/** What is wrong in a file, where, and what would be right. */
export interface Diagnostic {
  readonly severity: 'error' | 'warning'
  /** Stable, for programs: `unknown-key`, `bad-value`, … */
  readonly code: string
  readonly message: string
  readonly file: string
  /** From 1. */
  readonly line: number
  /** From 1, in UTF-16 code units. */
  readonly column: number
  /** What would be right, as a sentence without a full stop: `did you mean "run"?` */
  readonly suggestion?: string
  /** The source line and a second one with carets under the place; empty when there is no line to show. */
  readonly snippet: string
}

/** A place in a file, with what a diagnostic shows of it; plain data. */
export interface Place {
  readonly file: string
  readonly line: number
  readonly column: number
  readonly snippet: string
}

export interface Problem {
  readonly code: string
  readonly message: string
  readonly suggestion?: string | undefined
  readonly severity?: 'error' | 'warning'
}

export function diagnosticAt(place: Place, problem: Problem): Diagnostic {
  return {
    severity: problem.severity ?? 'error',
    code: problem.code,
    message: problem.message,
    file: place.file,
    line: place.line,
    column: place.column,
    ...(problem.suggestion === undefined ? {} : { suggestion: problem.suggestion }),
    snippet: place.snippet,
  }
}

/** `.penstock.yml:14:5: error: job "e2e" needs …; did you mean "build"? [unknown-need]`, then the snippet. */
export function formatDiagnostic(diagnostic: Diagnostic): string {
  const { file, line, column, severity, message, suggestion, code, snippet } = diagnostic
  const head = `${file}:${line}:${column}: ${severity}: ${message}${suggestion ? `; ${suggestion}` : ''} [${code}]`
  return snippet === '' ? visible(head) : `${visible(head)}\n${snippet}`
}

/** The text of a file, and what is where in it. */
export interface Source {
  readonly file: string
  readonly text: string
  placeAt(start: number, end?: number): Place
}

/** Of a long line only this much is shown around the place. */
const SNIPPET_WIDTH = 100

export function createSource(file: string, text: string): Source {
  const lineStarts = [0]
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) lineStarts.push(at + 1)

  function lineOf(offset: number): number {
    let low = 0
    let high = lineStarts.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((lineStarts[middle] ?? 0) <= offset) low = middle
      else high = middle - 1
    }
    return low
  }

  return {
    file,
    text,
    placeAt(start, end = start + 1) {
      const offset = Math.min(Math.max(start, 0), text.length)
      const index = lineOf(offset)
      const lineStart = lineStarts[index] ?? 0
      const lineEnd = (lineStarts[index + 1] ?? text.length + 1) - 1
      const line = text.slice(lineStart, lineEnd).replace(/\r$/, '')
      const column = offset - lineStart
      return {
        file,
        line: index + 1,
        column: column + 1,
        snippet: snippetOf(index + 1, line, column, Math.max(1, Math.min(end, lineEnd) - offset)),
      }
    },
  }
}

function snippetOf(number: number, line: string, column: number, width: number): string {
  if (line.trim() === '') return ''
  const from = column < SNIPPET_WIDTH - 20 ? 0 : column - 20
  const shown = line.slice(from, from + SNIPPET_WIDTH)
  const head = from > 0 ? '…' : ''
  const tail = from + SNIPPET_WIDTH < line.length ? '…' : ''
  const before = head + visible(shown.slice(0, column - from))
  const under = visible(shown.slice(column - from, column - from + width))
  const after = visible(shown.slice(column - from + width))
  const gutter = String(number)
  const carets = '^'.repeat(Math.max(1, under.trimEnd().length))
  return [
    `  ${gutter} | ${before}${under}${after}${tail}`.trimEnd(),
    `  ${' '.repeat(gutter.length)} | ${' '.repeat(before.length)}${carets}`,
  ].join('\n')
}

/** Control, bidirectional and other invisible characters as escapes: a name must not be able to repaint a terminal. */
export function visible(text: string): string {
  return text.replace(/\t/g, ' ').replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
    /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/gu,
    (char) => `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`,
  )
}

/** A value of the file as a message shows it: quoted, short, with invisible characters escaped. */
export function quoted(value: string): string {
  const LONGEST = 60
  return `"${visible(value.length > LONGEST ? `${value.slice(0, LONGEST)}…` : value).replace(/\n/g, '\\n')}"`
}
