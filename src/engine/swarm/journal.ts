import type { StepEnd } from '../types.ts'

/**
 * The wrapper's records, one line each, ended by ` .`: a line without that end is still being written. The file is made
 * in advance, full of newlines, so that neither a full disk nor a missing right can stop a record.
 */
export interface Journal {
  readonly gate: 'absent' | 'waiting' | 'open'
  /** SIGTERM reached the wrapper. */
  readonly terminated: boolean
  readonly finished: boolean
  readonly started: ReadonlySet<number>
  readonly ends: ReadonlyMap<number, StepEnd>
  /** Its complete records, as text; only ever grows. */
  readonly text: string
}

export const JOURNAL_BYTES_PER_STEP = 512

const END = /^end (\d+) (\d+) ([01]) (\d+) (\d+) ([0-9a-f]{64}) (.+)$/

export function parseJournal(content: string): Journal {
  const lines: string[] = []
  for (const line of content.split('\n')) {
    if (!line.endsWith(' .')) break
    lines.push(line.slice(0, -2))
  }
  const ends = new Map<number, StepEnd>()
  const started = new Set<number>()
  for (const line of lines) {
    const [word, index] = line.split(' ')
    if (word === 'start') started.add(Number(index))
    const end = END.exec(line)
    if (end !== null) ends.set(Number(end[1]), toStepEnd(end))
  }
  const gate = lines.includes('open') ? 'open' : lines.includes('wait') ? 'waiting' : 'absent'
  return {
    gate,
    terminated: lines.includes('term'),
    finished: lines.includes('finish'),
    started,
    ends,
    text: lines.map((line) => `${line} .\n`).join(''),
  }
}

function toStepEnd(match: RegExpExecArray): StepEnd {
  const [, , code = '', timedOut, pipe = '', file = '', sha256 = '', error = '-'] = match
  return {
    exitCode: Number(code),
    timedOut: timedOut === '1',
    pipeBytes: Number(pipe),
    fileBytes: Number(file),
    sha256,
    ...(error === '-' ? {} : { writeError: error }),
  }
}
