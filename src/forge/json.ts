/** Not a JSON text that we take; the message is for whoever sent it. */
export class JsonRefused extends Error {
  override readonly name = 'JsonRefused'
}

const MAX_DEPTH = 64

/**
 * Parses bytes from outside: UTF-8 only, nothing nested deeper than 64, no key twice in one object, no half of a
 * surrogate pair. `JSON.parse` would take the last of two equal keys, which another reader may not.
 *
 * @throws JsonRefused
 */
export function parseJson(bytes: Uint8Array): unknown {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw new JsonRefused('the body is not UTF-8', { cause })
  }
  checkShape(text)
  try {
    return JSON.parse(text) as unknown
  } catch (cause) {
    throw new JsonRefused('the body is not JSON', { cause })
  }
}

const LONE_SURROGATE = /\p{Surrogate}/u

/** One pass without recursion. What is no JSON at all is left to `JSON.parse`. */
function checkShape(text: string): void {
  const open: (Set<string> | undefined)[] = []
  let last: string | undefined
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at)
    if (char === QUOTE) {
      const end = endOfString(text, at)
      const token = text.slice(at, end)
      at = end - 1
      last = token.includes('\\') ? unescaped(token) : token.slice(1, -1)
      if (LONE_SURROGATE.test(last)) throw new JsonRefused('the body holds half of a surrogate pair')
    } else if (char === OPEN_OBJECT || char === OPEN_ARRAY) {
      open.push(char === OPEN_OBJECT ? new Set() : undefined)
      if (open.length > MAX_DEPTH) throw new JsonRefused(`the body is nested deeper than ${MAX_DEPTH}`)
    } else if (char === CLOSE_OBJECT || char === CLOSE_ARRAY) {
      open.pop()
    } else if (char === COLON) {
      const keys = open.at(-1)
      if (keys === undefined || last === undefined) continue
      if (keys.has(last)) throw new JsonRefused(`the key ${JSON.stringify(last.slice(0, 100))} is there twice`)
      keys.add(last)
    }
  }
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COLON = 0x3a
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d
const OPEN_ARRAY = 0x5b
const CLOSE_ARRAY = 0x5d

/** The index after the closing quote, or the end of the text. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    const char = text.charCodeAt(at)
    if (char === BACKSLASH) at++
    else if (char === QUOTE) return at + 1
  }
  return text.length
}

function unescaped(token: string): string {
  try {
    return String(JSON.parse(token))
  } catch (cause) {
    throw new JsonRefused('the body is not JSON', { cause })
  }
}
