/**
 * Text that strangers chose (branches, titles, comments), safe for a terminal: control characters and those that turn
 * the direction of writing show as `\u{202e}` instead of acting.
 */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}\u2028\u2029\u{e0000}-\u{e007f}]/gu, escaped)
}

const ESCAPE = '\u001b'
const COLOR = new RegExp(`(${ESCAPE}\\[[0-9;]{0,30}m)`)

/** A piece of a log for a terminal: newlines, tabs and colors act, everything else shows. */
export function visibleLog(text: string): string {
  return text
    .replaceAll('\r\n', '\n')
    .split(COLOR)
    .map((part, index) =>
      index % 2 === 1
        ? part
        : part.replace(/[\p{Cc}\p{Bidi_Control}]/gu, (char) => (char === '\n' || char === '\t' ? char : escaped(char))),
    )
    .join('')
}

function escaped(char: string): string {
  return `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`
}

/** Columns as wide as their widest cell; the last as it is. */
export function table(rows: readonly (readonly string[])[]): string {
  const safe = rows.map((row) => row.map(visible))
  const widths: number[] = []
  for (const row of safe) {
    for (const [at, cell] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, cell.length)
  }
  return safe
    .map((row) =>
      row
        .map((cell, at) => (at === row.length - 1 ? cell : cell.padEnd(widths[at] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('')
}

/** "5 s", "3 min", "2 h", "4 d": how long ago, as precisely as anyone wants to know. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} d`
}
