import type { LogRecord } from './record.ts'

const NEWLINE = 10
/** A line longer than this is not kept in memory until its end is seen: its end is looked for first. */
const LONG_LINE = 1024 * 1024

export interface TimestampSource {
  readonly from: number
  readonly to: number
  /** Stored bytes from `start` to `to`. */
  readonly chunks: (start: number) => AsyncIterable<Buffer>
  /** All records of the log, in order. */
  readonly records: AsyncIterable<LogRecord>
}

/** The lines, each with the time before it at which its last byte was stored. */
export async function* withTimestamps({ from, to, chunks, records }: TimestampSource): AsyncGenerator<Buffer> {
  const timeAt = completionTimes(records)
  let at = from
  let lineIsOpen = false
  let pending: Buffer[] = []
  let pendingBytes = 0
  for await (const chunk of chunks(from)) {
    const out: Buffer[] = []
    for (let start = 0; start < chunk.length; ) {
      const newline = chunk.indexOf(NEWLINE, start)
      const end = newline < 0 ? chunk.length : newline + 1
      const part = chunk.subarray(start, end)
      start = end
      if (newline >= 0) {
        if (!lineIsOpen) out.push(prefix(await timeAt(at + newline)))
        out.push(...pending, part)
        pending = []
        pendingBytes = 0
        lineIsOpen = false
      } else if (lineIsOpen) {
        out.push(part)
      } else {
        pending.push(part)
        pendingBytes += part.length
        if (pendingBytes > LONG_LINE) {
          out.push(prefix(await timeAt(await nextNewline(chunks, at + end, to))), ...pending)
          pending = []
          pendingBytes = 0
          lineIsOpen = true
        }
      }
    }
    at += chunk.length
    if (out.length > 0) yield Buffer.concat(out)
  }
  if (pendingBytes > 0) yield Buffer.concat([prefix(await timeAt(at - 1)), ...pending])
}

/** Offset of the next newline, or of the last byte before `to`. */
async function nextNewline(chunks: TimestampSource['chunks'], from: number, to: number): Promise<number> {
  let at = from
  for await (const chunk of chunks(from)) {
    const newline = chunk.indexOf(NEWLINE)
    if (newline >= 0) return at + newline
    at += chunk.length
  }
  return to - 1
}

/** When the byte at an offset was stored; offsets must not go back. */
function completionTimes(records: AsyncIterable<LogRecord>): (offset: number) => Promise<number> {
  const iterator = records[Symbol.asyncIterator]()
  let current: LogRecord | undefined
  return async (offset) => {
    while (!current || current.stored <= offset) {
      const next = await iterator.next()
      if (next.done) break
      current = next.value
    }
    return current?.at ?? 0
  }
}

function prefix(ms: number): Buffer {
  return Buffer.from(`${new Date(ms).toISOString()} `, 'latin1')
}
