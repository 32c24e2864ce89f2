import type { Diagnostic } from './diagnostic.ts'
import { createSource, diagnosticAt } from './diagnostic.ts'

export const MAX_BYTES = 256 * 1024

const BINARY: readonly (readonly [string, readonly number[]])[] = [
  ['a PNG image', [0x89, 0x50, 0x4e, 0x47]],
  ['a gzip archive', [0x1f, 0x8b]],
  ['a zip archive', [0x50, 0x4b, 0x03, 0x04]],
  ['a program', [0x7f, 0x45, 0x4c, 0x46]],
]

/** The bytes of a spec file as text: UTF-8, not empty, not too large, without characters that YAML forbids. */
export function decodeText(
  bytes: Uint8Array,
  file: string,
): { readonly kind: 'ok'; readonly text: string } | { readonly kind: 'wrong'; readonly diagnostics: Diagnostic[] } {
  const wrongAt = (text: string, offset: number, code: string, message: string, suggestion?: string) => ({
    kind: 'wrong' as const,
    diagnostics: [diagnosticAt(createSource(file, text).placeAt(offset), { code, message, suggestion })],
  })
  const wrong = (code: string, message: string, suggestion?: string) => wrongAt('', 0, code, message, suggestion)

  if (bytes.length === 0) return wrong('empty', 'the file is empty', 'write at least `image` and `test`')
  if (bytes.length > MAX_BYTES) {
    return wrong(
      'too-large',
      `the file has ${bytes.length.toLocaleString('en-US')} bytes; the limit is 262,144 (256 KiB)`,
      'move long scripts into files of the repository and call them',
    )
  }
  for (const [what, signature] of BINARY) {
    if (signature.every((byte, index) => bytes[index] === byte)) {
      return wrong('not-text', `the file is ${what}, not YAML text`)
    }
  }
  const [first, second] = bytes
  if ((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff)) {
    return wrong('not-utf8', 'the file is encoded in UTF-16', 'save it as UTF-8')
  }

  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    // The lenient decoder shows where: its first replacement character that the strict one would have refused.
    const lenient = new TextDecoder('utf-8').decode(bytes)
    return wrongAt(
      lenient,
      firstReplacement(lenient, bytes),
      'not-utf8',
      'the file is not valid UTF-8',
      'save it as UTF-8',
    )
  }

  const nul = text.indexOf('\0')
  if (nul !== -1) {
    return bytes[0] === 0 || bytes[1] === 0
      ? wrong('not-utf8', 'the file looks like UTF-16 (it has a NUL byte beside each letter)', 'save it as UTF-8')
      : wrongAt(text, nul, 'control-character', 'the file contains a NUL byte')
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  const control = /[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f]/.exec(text)
  if (control) {
    const name = `U+${control[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`
    return wrongAt(text, control.index, 'control-character', `control character ${name} is not allowed`)
  }
  return { kind: 'ok', text }
}

function firstReplacement(lenient: string, bytes: Uint8Array): number {
  const encoder = new TextEncoder()
  let at = lenient.indexOf('\ufffd')
  while (at !== -1) {
    // A replacement character that was written as such has the same bytes in the file.
    const offset = encoder.encode(lenient.slice(0, at)).length
    const written = bytes[offset] === 0xef && bytes[offset + 1] === 0xbf && bytes[offset + 2] === 0xbd
    if (!written) return at
    at = lenient.indexOf('\ufffd', at + 1)
  }
  return 0
}
