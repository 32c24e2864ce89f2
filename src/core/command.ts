/** What a comment on a pull request asks for. The first line that is a command counts; nothing in quotes or code does. */
export type Command =
  | { readonly kind: 'merge' }
  | { readonly kind: 'approve'; readonly comment?: string }
  /** Without a reason it is answered, and does nothing. */
  | { readonly kind: 'reject'; readonly reason?: string }
  | { readonly kind: 'retry' }
  /** Let the code of somebody without write access run, at this commit. */
  | { readonly kind: 'ok_to_test'; readonly commit?: string }

const MOST_LINES = 200
const MOST_WORDS = 2_000
const FENCE = /^\s{0,3}(```|~~~)/

export function commandIn(text: string): Command | undefined {
  let fence: string | undefined
  for (const line of text.split(/\r?\n/, MOST_LINES)) {
    const mark = FENCE.exec(line)?.[1]
    if (mark !== undefined && (fence === undefined || fence === mark)) fence = fence === undefined ? mark : undefined
    if (fence !== undefined) continue
    // Four spaces are code, `>` is somebody else's word: a command stands at the beginning of its line.
    const [, name = '', rest = ''] = /^ {0,3}\/([a-z-]+)(?:\s+(.*))?$/.exec(line) ?? []
    const command = toCommand(name, rest.trim().slice(0, MOST_WORDS))
    if (command !== undefined) return command
  }
  return undefined
}

function toCommand(name: string, rest: string): Command | undefined {
  switch (name) {
    case 'merge':
      return { kind: 'merge' }
    case 'approve':
      return { kind: 'approve', ...(rest === '' ? {} : { comment: rest }) }
    case 'reject':
      return { kind: 'reject', ...(rest === '' ? {} : { reason: rest }) }
    case 'retry':
      return { kind: 'retry' }
    case 'ok-to-test':
      return { kind: 'ok_to_test', ...(rest === '' ? {} : { commit: rest }) }
    default:
      return undefined
  }
}
