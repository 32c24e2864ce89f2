import { SaxesParser, type SaxesTagPlain } from 'saxes'
import type { TestCase } from '../store/types.ts'

export interface JUnitLimits {
  readonly bytes: number
  readonly cases: number
  /** Bytes (UTF-8) of one message. */
  readonly message: number
  readonly depth: number
}

export const JUNIT_LIMITS: JUnitLimits = {
  bytes: 20 * 1024 * 1024,
  cases: 100_000,
  message: 8 * 1024,
  depth: 100,
}

export interface JUnitReport {
  /** In the order of the file; cases of the same name are all there. */
  readonly cases: readonly TestCase[]
  /** What is wrong with the file, with line and column: what was read before it counts. */
  readonly problems: readonly string[]
}

const CHUNK = 64 * 1024
const NAME_CHARACTERS = 1_000
const MOST_PROBLEMS = 20

/** Stops the parser; its message becomes a problem. */
class Stopped extends Error {
  override readonly name = 'Stopped'
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** Reads JUnit XML as test tools write it. Never throws, whatever the bytes are. */
export function parseJUnit(bytes: Uint8Array, limits: Partial<JUnitLimits> = {}): JUnitReport {
  const { bytes: maxBytes, cases: maxCases, message: maxMessage, depth: maxDepth } = { ...JUNIT_LIMITS, ...limits }
  const cases: TestCase[] = []
  const problems: string[] = []
  const count = (n: number) => n.toLocaleString('en-US')
  if (bytes.length > maxBytes) {
    return { cases, problems: [`the report has ${count(bytes.length)} bytes; at most ${count(maxBytes)} are read`] }
  }

  const parser = new SaxesParser({ xmlns: false })
  const where = () => `line ${parser.line}, column ${parser.columnIndex + 1}`
  const stop = (problem: string): never => {
    throw new Stopped(`${where()}: ${problem}`)
  }
  const open: string[] = []
  const suites: string[] = []
  let current: Mutable<TestCase> | undefined
  let text: { readonly element: number; value: string } | undefined
  const seen = new Map<string, number>()
  let repeated = 0

  parser.on('doctype', () => stop('a document type is not allowed in a report'))
  parser.on('error', (err) => {
    throw new Stopped(err.message.replace(/^\d+:\d+: /, `${where()}: `))
  })

  parser.on('opentag', (tag: SaxesTagPlain) => {
    const name = localName(tag.name)
    open.push(name)
    if (open.length > maxDepth) stop(`elements are nested deeper than ${maxDepth}`)
    if (open.length === 1 && name !== 'testsuites' && name !== 'testsuite') {
      stop(`the report begins with <${cut(name)}>; <testsuites> or <testsuite> is expected`)
    }
    const get = (attribute: string) => tag.attributes[attribute]
    if (name === 'testsuite') suites.push(cut(get('name') ?? ''))
    else if (name === 'testcase') {
      if (current) stop('a test case stands inside another')
      if (cases.length >= maxCases) stop(`the report has more than ${count(maxCases)} cases; the rest is not read`)
      current = newCase(suites, get)
    } else if (current && isVerdict(name)) {
      const result = RESULT_OF[name]
      // Several verdicts in one case (a failed test whose teardown errored): the graver one stands.
      if (result && GRAVITY[result] > GRAVITY[current.result]) {
        current.result = result
        current.message = cutBytes([get('type'), get('message')].filter(Boolean).join(': '), maxMessage)
        text = { element: open.length, value: '' }
      } else if (!result && current.message === undefined) {
        const note = [
          name === 'flakyFailure' || name === 'flakyError' ? 'failed first, then passed' : 'failed again',
          get('message'),
        ]
        current.message = cutBytes(note.filter(Boolean).join(': '), maxMessage)
      }
    }
  })
  const onText = (value: string) => {
    if (text && text.element === open.length && text.value.length < maxMessage) {
      text.value += value.slice(0, maxMessage - text.value.length)
    }
  }
  parser.on('text', onText)
  parser.on('cdata', onText)

  parser.on('closetag', () => {
    if (text && text.element === open.length) {
      const body = text.value.trim()
      const message = current?.message ?? ''
      // Most tools repeat the message at the start of the text.
      if (current) {
        const whole = body.includes(message) ? body : [message, body].filter(Boolean).join('\n')
        if (whole) current.message = cutBytes(whole, maxMessage)
        else delete current.message
      }
      text = undefined
    }
    const name = open.pop()
    if (name === 'testsuite') suites.pop()
    if (name === 'testcase' && current) {
      if (current.message === '') delete current.message
      cases.push(current)
      const id = `${current.suite}\0${current.className ?? ''}\0${current.name}\0${current.file ?? ''}`
      const times = (seen.get(id) ?? 0) + 1
      seen.set(id, times)
      if (times > 1) repeated++
      current = undefined
    }
  })

  try {
    const decoder = new TextDecoder(encodingOf(bytes))
    for (let at = 0; at < bytes.length; at += CHUNK) {
      parser.write(decoder.decode(bytes.subarray(at, at + CHUNK), { stream: true }))
    }
    parser.write(decoder.decode())
    parser.close()
  } catch (err) {
    if (err instanceof Stopped) problems.push(err.message)
    else if (err instanceof RangeError) problems.push(`the report cannot be decoded: ${err.message}`)
    else problems.push(`${where()}: ${err instanceof Error ? err.message : 'the report cannot be read'}`)
  }
  if (repeated > 0) {
    problems.push(
      `${count(repeated)} ${repeated === 1 ? 'case has the name' : 'cases have the name'} of an earlier one; all are kept`,
    )
  }
  return { cases, problems: problems.slice(0, MOST_PROBLEMS) }
}

const RESULT_OF: Readonly<Record<string, TestCase['result']>> = {
  failure: 'failed',
  error: 'errored',
  skipped: 'skipped',
}
const GRAVITY: Readonly<Record<TestCase['result'], number>> = { passed: 0, skipped: 1, failed: 2, errored: 3 }
const NOTES = new Set(['flakyFailure', 'flakyError', 'rerunFailure', 'rerunError'])

function isVerdict(name: string): boolean {
  return Object.hasOwn(RESULT_OF, name) || NOTES.has(name)
}

function newCase(suites: readonly string[], get: (name: string) => string | undefined): Mutable<TestCase> {
  const seconds = number(get('time')?.replaceAll(',', ''))
  const line = number(get('line'))
  const className = get('classname')
  const file = get('file')
  return {
    suite: cut(suites.filter(Boolean).join(' > ')),
    name: cut(get('name') ?? ''),
    result: get('status') === 'skipped' || get('status') === 'notrun' ? 'skipped' : 'passed',
    ...(className && { className: cut(className) }),
    ...(file && { file: cut(file) }),
    ...(line !== undefined && Number.isSafeInteger(line) && line >= 0 && { line }),
    ...(seconds !== undefined && seconds >= 0 && { seconds }),
  }
}

function number(text: string | undefined): number | undefined {
  if (text === undefined || !/^\s*[0-9.]+(?:e[+-]?[0-9]+)?\s*$/i.test(text)) return undefined
  const value = Number(text)
  return Number.isFinite(value) ? value : undefined
}

function localName(name: string): string {
  return name.slice(name.lastIndexOf(':') + 1)
}

function cut(text: string): string {
  return text.length > NAME_CHARACTERS ? `${text.slice(0, NAME_CHARACTERS - 1)}…`.toString() : text
}

function cutBytes(text: string, limit: number): string {
  const bytes = Buffer.from(text)
  if (bytes.length <= limit) return text
  let end = Math.max(0, limit - 3)
  // Not inside a character: 10xxxxxx goes on with the one before it.
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--
  return `${bytes.toString('utf8', 0, end)}…`
}

/** From the byte order mark or the XML declaration; UTF-8 unless they say otherwise. */
function encodingOf(bytes: Uint8Array): string {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return 'utf-16le'
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return 'utf-16be'
  const head = Buffer.from(bytes.subarray(0, 200)).toString('latin1')
  return /^(?:\xef\xbb\xbf)?<\?xml[^>]*\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']/.exec(head)?.[1] ?? 'utf-8'
}
