/** Names, titles and messages are anybody's text: here they become what a forge shows and never obeys. */

/** GitHub refuses a longer description. */
const MAX_DESCRIPTION = 140

/** One line: line ends become spaces, and what cannot be seen (or turns the text around) becomes its number. */
export function oneLine(text: string): string {
  return visible(text.replace(/\s+/g, ' ').trim())
}

export function toDescription(text: string): string {
  return cut(oneLine(text), MAX_DESCRIPTION)
}

/** At most so many characters, none of them halved, with a mark where something is missing. */
export function cut(text: string, most: number): string {
  if (text.length <= most) return text
  const kept = text.slice(0, most - 1)
  return `${/[\uD800-\uDBFF]$/.test(kept) ? kept.slice(0, -1) : kept}…`
}

/** In a code span no link, picture, mention or HTML begins; fit for a cell of a table, too. */
export function toCode(text: string): string {
  const line = oneLine(text).replaceAll('`', "'").replaceAll('|', '¦')
  return `\`${line === '' ? ' ' : line}\``
}

/** Lines as they are, in a fence longer than any within. */
export function toFence(lines: readonly string[]): string {
  return inFence(
    lines.map((line) => line.replace(ANSI, '')),
    'text',
  )
}

/** The lines of a diff: nothing of them is left out, so that whoever reads them reads what is there. */
export function toDiffFence(lines: readonly string[]): string {
  return inFence(lines, 'diff')
}

function inFence(lines: readonly string[], language: string): string {
  const text = toVisibleLines(lines).join('\n')
  const longest = Math.max(0, ...[...text.matchAll(/`+/g)].map(([ticks]) => ticks.length))
  const fence = '`'.repeat(Math.max(3, longest + 1))
  return `${fence}${language}\n${text}\n${fence}`
}

export function toVisibleLines(lines: readonly string[]): readonly string[] {
  return lines.map((line) => visible(line.replaceAll('\t', '    ')))
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: the escape character is what begins them.
const ANSI = /\u001b\[[0-9;?]*[ -/]*[@-~]/g

function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]/gu, (char) => {
    return `<U+${(char.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}>`
  })
}
