import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { LogKey } from '../core/ids.ts'

const LONGEST_NAME = 80

/**
 * A file name of `[A-Za-z0-9_.-]` and `%` that no two texts share: other bytes become `%XX`, so neither `/`, `..`, NUL
 * nor an empty name can come out; long names end in a hash of the whole.
 */
export function safeName(text: string): string {
  let name = ''
  for (const byte of Buffer.from(text, 'utf8')) {
    const char = String.fromCharCode(byte)
    const plain = /[A-Za-z0-9_-]/.test(char) || (char === '.' && name !== '')
    name += plain ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }
  if (name === '') return '%'
  if (name.length <= LONGEST_NAME) return name
  // `%%` never comes out of the encoding above, so a cut name cannot equal a whole one.
  return `${name.slice(0, LONGEST_NAME - 34)}%%${createHash('sha256').update(text).digest('hex').slice(0, 32)}`
}

export function runDirectory(dir: string, run: string): string {
  return join(dir, safeName(run))
}

/** Path of a log's files without their endings. */
export function logPath(dir: string, key: LogKey): string {
  for (const number of [key.attempt, key.step]) {
    if (!Number.isSafeInteger(number) || number < 0) throw new RangeError('attempt and step of a log are whole numbers')
  }
  return join(runDirectory(dir, key.run), `${safeName(key.stage)}~${safeName(key.job)}~${key.attempt}~${key.step}`)
}
