export interface SecretValue {
  readonly name: string
  readonly value: string
}

/** Shorter texts occur by chance too often to be masked; secrets below this are refused where they are saved. */
export const SHORTEST_NEEDLE = 8
/** Where `base64` (coreutils) and PEM break their lines. */
const BASE64_WIDTHS = [76, 64]

/** Every byte string that stands for one of the secrets in a log; each once, none shorter than 8 bytes. */
export function needlesOf(secrets: readonly SecretValue[]): readonly Buffer[] {
  const needles = new Map<string, Buffer>()
  const add = (text: string) => {
    if (Buffer.byteLength(text) >= SHORTEST_NEEDLE) needles.set(text, Buffer.from(text))
  }
  for (const { value } of secrets) {
    const wholes = new Set(
      [value, value.trimEnd(), value.trim()].filter((text) => Buffer.byteLength(text) >= SHORTEST_NEEDLE),
    )
    for (const whole of wholes) {
      const unix = whole.replaceAll('\r\n', '\n')
      for (const text of new Set([whole, unix, unix.replaceAll('\n', '\r\n')])) {
        for (const form of writtenForms(text)) add(form)
        for (const form of encodedForms(text)) add(form)
      }
    }
    for (const line of value.split(/\r?\n|\r/)) {
      for (const text of new Set([line, line.trim()])) {
        // The line alone decides: a short line must not come in by growing under an escape.
        if (Buffer.byteLength(text) >= SHORTEST_NEEDLE) for (const form of writtenForms(text)) add(form)
      }
    }
  }
  return [...needles.values()]
}

/** The text as shells, JSON, URLs and variable escapes write it. */
function writtenForms(text: string): readonly string[] {
  const json = JSON.stringify(text).slice(1, -1)
  const url = encodeText(text)
  const strict = url.replace(/[!'()*~]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
  const urls = [url, strict, strict.replaceAll('%20', '+'), url.replaceAll('%20', '+'), url.replaceAll('%2F', '/')]
  return [
    text,
    json,
    json.replaceAll('/', '\\/'),
    json.replace(/[<>&]/g, unicodeEscape),
    json.replace(/[\u007f-\uffff]/g, unicodeEscape),
    ...urls,
    ...urls.map((form) => form.replace(/%[0-9A-F]{2}/g, (hex) => hex.toLowerCase())),
    text.replaceAll("'", `'\\''`),
    text.replaceAll("'", `'"'"'`),
    text.replaceAll('\\', '\\\\').replaceAll("'", "\\'").replaceAll('\n', '\\n'),
    text.replace(/["$`\\]/g, '\\$&'),
    text.replaceAll('$', '$$$$'),
  ]
}

function unicodeEscape(char: string): string {
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
}

/** `encodeURIComponent`, which throws for halves of surrogate pairs, for any text. */
function encodeText(text: string): string {
  return encodeURIComponent(Buffer.from(text).toString())
}

function encodedForms(text: string): readonly string[] {
  const bytes = Buffer.from(text)
  const hex = bytes.toString('hex')
  const forms = [hex, hex.toUpperCase()]
  for (const shift of [0, 1, 2]) {
    // Only the characters that the secret alone decides: what stands before and after it is not known.
    const first = Math.ceil((shift * 8) / 6)
    const last = Math.floor(((shift + bytes.length) * 8) / 6)
    const base64 = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString('base64')
      .slice(first, last)
    forms.push(base64, base64.replaceAll('+', '-').replaceAll('/', '_'))
    if (shift === 0) {
      for (const width of BASE64_WIDTHS) {
        if (base64.length <= width) continue
        for (let at = 0; at < base64.length; at += width) forms.push(base64.slice(at, at + width))
      }
    }
  }
  return forms
}
