import { type FileHandle, mkdir, open, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { LogKey } from '../core/ids.ts'
import type { LogAppend, LogCursor, LogEnd } from '../internal/types.ts'
import { LogMoved } from '../internal/types.ts'
import { logPath, runDirectory } from './files.ts'
import { decodeRecord, encodeRecord, type LogRecord, RECORD_BYTES } from './record.ts'
import { withTimestamps } from './timestamps.ts'

export interface LogState extends LogCursor {
  /** Lines, a last one without newline included. */
  readonly lines: number
  /** The step wrote more than the limit; a line in the log says so. */
  readonly truncated: boolean
  /** Time of the last append; absent before the first. */
  readonly changedAt?: number
  /** What stands as proven; present once finished. */
  readonly end?: LogEnd
}

/** Bytes from `start` up to, not including, `end`; both are cut to what is stored. */
export interface LogRange {
  readonly start?: number
  readonly end?: number
}

/**
 * One log for each step of a job attempt, stored once. Calls for the same log take effect one after the other; a log
 * that nobody wrote to reads as empty and unfinished.
 */
export interface LogStore {
  state(key: LogKey): Promise<LogState>
  /**
   * Stores the bytes and the cursor together: after a crash both are there or neither is. Throws `LogMoved` when `at` is
   * not where the log ends, or when it is finished: its cursor tells a caller whose answer was lost that its append
   * stands. Beyond the limit bytes are dropped, a marker line and `truncated` say so, and `raw` goes on.
   */
  append(key: LogKey, append: LogAppend): Promise<LogState>
  /** Closes the log. The first end stands and is returned, also when called again with another. */
  finish(key: LogKey, end: LogEnd): Promise<LogEnd>
  read(key: LogKey, range?: LogRange): AsyncIterable<Buffer>
  /** As `read`, each line with the time (RFC 3339, UTC, milliseconds) of the append that completed it before it. */
  readWithTimestamps(key: LogKey, range?: LogRange): AsyncIterable<Buffer>
  sizeOf(key: LogKey): Promise<number>
  /** Where the first line starts that was completed at `ms` or later; the log's size if there is none. */
  sinceOffset(key: LogKey, ms: number): Promise<number>
  /** New bytes from `offset` on as they come; ends when the log is finished or removed, or on `signal`. */
  follow(key: LogKey, offset: number, signal: AbortSignal): AsyncIterable<Buffer>
  /** Removes all logs of a run; ends its followers. */
  remove(run: string): Promise<void>
  /** Closes the files. Followers end. */
  close(): Promise<void>
}

export interface LogStoreOptions {
  readonly dir: string
  /** Milliseconds since 1970. */
  readonly clock: () => number
  /** Of one step; 64 MiB unless told. */
  readonly maxBytes?: number
}

export const DEFAULT_MAX_BYTES = 64 * 1024 * 1024
/** Files kept open between appends (two a log): opening them anew for each would cost more than the write. */
const OPEN_LOGS = 64
/** Logs whose state is kept in memory. */
const KNOWN_LOGS = 2_000
const READ_BYTES = 256 * 1024
const NEWLINE = 10

interface Log {
  readonly path: string
  readonly run: string
  /** The last call on this log; the next one waits for it. */
  tail: Promise<unknown>
  users: number
  loaded?: Loaded
  files?: { readonly data: FileHandle; readonly index: FileHandle }
}

interface Loaded {
  last: LogRecord | undefined
  records: number
  versions: readonly string[]
  /** The last stored byte is not a newline. */
  openLine: boolean
  end?: LogEnd
}

interface Follower {
  readonly run: string
  gone: boolean
}

interface EndFile {
  readonly end: LogEnd
  readonly stored: number
}

export function createLogStore({ dir, clock, maxBytes = DEFAULT_MAX_BYTES }: LogStoreOptions): LogStore {
  const logs = new Map<string, Log>()
  const waiting = new Map<string, Set<() => void>>()
  const followers = new Set<Follower>()
  let openLogs = 0
  let closed = false

  function logOf(key: LogKey): Log {
    const path = logPath(dir, key)
    const known = logs.get(path)
    const log = known ?? { path, run: key.run, tail: Promise.resolve(), users: 0 }
    // Last used goes last: the map's order is the order of eviction.
    if (known) logs.delete(path)
    logs.set(path, log)
    return log
  }

  async function exclusively<T>(log: Log, work: () => Promise<T>): Promise<T> {
    log.users++
    const turn = log.tail.then(work)
    log.tail = turn.then(
      () => undefined,
      () => undefined,
    )
    try {
      return await turn
    } finally {
      log.users--
      await evict()
    }
  }

  async function evict(): Promise<void> {
    if (openLogs <= OPEN_LOGS && logs.size <= KNOWN_LOGS) return
    const closing: Promise<void>[] = []
    for (const log of logs.values()) {
      if (openLogs <= OPEN_LOGS && logs.size <= KNOWN_LOGS) break
      if (log.users > 0) continue
      logs.delete(log.path)
      closing.push(closeFiles(log))
    }
    await Promise.all(closing)
  }

  async function load(log: Log): Promise<Loaded> {
    log.loaded ??= await readLog(log.path)
    return log.loaded
  }

  async function openFiles(log: Log): Promise<{ readonly data: FileHandle; readonly index: FileHandle }> {
    if (log.files) return log.files
    await mkdir(dirname(log.path), { recursive: true, mode: 0o700 })
    const data = await openForUpdate(`${log.path}.log`)
    try {
      log.files = { data, index: await openForUpdate(`${log.path}.idx`) }
    } catch (err) {
      await data.close()
      throw err
    }
    openLogs++
    return log.files
  }

  async function closeFiles(log: Log): Promise<void> {
    const files = log.files
    if (!files) return
    delete log.files
    openLogs--
    await Promise.all([files.data.close(), files.index.close()])
  }

  function wake(path: string): void {
    const listeners = waiting.get(path)
    if (!listeners) return
    waiting.delete(path)
    for (const listener of listeners) listener()
  }

  /** Resolves at the next change; registered before this returns, so a change after the caller's look is not missed. */
  function nextChange(
    path: string,
    signal: AbortSignal,
  ): { readonly changed: Promise<void>; readonly forget: () => void } {
    const listeners = waiting.get(path) ?? new Set()
    waiting.set(path, listeners)
    let resolve: () => void = () => undefined
    const changed = new Promise<void>((done) => {
      resolve = done
    })
    listeners.add(resolve)
    signal.addEventListener('abort', resolve, { once: true })
    const forget = () => {
      listeners.delete(resolve)
      if (listeners.size === 0 && waiting.get(path) === listeners) waiting.delete(path)
      signal.removeEventListener('abort', resolve)
      resolve()
    }
    return { changed, forget }
  }

  async function state(key: LogKey): Promise<LogState> {
    const log = logOf(key)
    return exclusively(log, async () => toState(await load(log)))
  }

  async function append(key: LogKey, request: LogAppend): Promise<LogState> {
    const log = logOf(key)
    return exclusively(log, async () => {
      const loaded = await load(log)
      const before = loaded.last
      const stored = before?.stored ?? 0
      if (loaded.end || request.at !== stored) throw new LogMoved(toState(loaded))
      if (!Number.isSafeInteger(request.rawEnd) || request.rawEnd < (before?.raw ?? 0)) {
        throw new RangeError(`the log stands at ${before?.raw ?? 0} raw bytes and cannot go back to ${request.rawEnd}`)
      }
      const kept = before?.truncated
        ? { bytes: Buffer.alloc(0), truncated: true }
        : withinLimit(request.bytes, { room: maxBytes - stored, openLine: loaded.openLine, maxBytes })
      try {
        const files = await openFiles(log)
        const version = await versionIndex(log, loaded, request.secretsVersion)
        const record: LogRecord = {
          raw: request.rawEnd,
          stored: stored + kept.bytes.length,
          at: Math.max(before?.at ?? 0, Math.trunc(clock())),
          newlines: (before?.newlines ?? 0) + countNewlines(kept.bytes),
          version,
          truncated: kept.truncated,
        }
        await writeAll(files.data, kept.bytes, stored)
        await writeAll(files.index, encodeRecord(record), loaded.records * RECORD_BYTES)
        loaded.last = record
        loaded.records++
        if (kept.bytes.length > 0) loaded.openLine = kept.bytes.at(-1) !== NEWLINE
      } catch (err) {
        // What is on disk is not known now: the next call reads it again and cuts what was not committed.
        delete log.loaded
        await closeFiles(log)
        throw err
      }
      wake(log.path)
      return toState(loaded)
    })
  }

  async function versionIndex(log: Log, loaded: Loaded, version: string): Promise<number> {
    const known = loaded.versions.lastIndexOf(version)
    if (known >= 0) return known
    const versions = [...loaded.versions, version]
    await replaceFile(`${log.path}.ver`, JSON.stringify(versions))
    loaded.versions = versions
    return versions.length - 1
  }

  async function finish(key: LogKey, end: LogEnd): Promise<LogEnd> {
    const log = logOf(key)
    return exclusively(log, async () => {
      const loaded = await load(log)
      if (loaded.end) return loaded.end
      await mkdir(dirname(log.path), { recursive: true, mode: 0o700 })
      const content: EndFile = { end, stored: loaded.last?.stored ?? 0 }
      await replaceFile(`${log.path}.end`, JSON.stringify(content))
      loaded.end = end
      await closeFiles(log)
      wake(log.path)
      return end
    })
  }

  async function* read(key: LogKey, range: LogRange = {}): AsyncGenerator<Buffer> {
    const { stored } = await state(key)
    const from = Math.max(0, range.start ?? 0)
    const to = Math.min(stored, range.end ?? stored)
    if (from >= to) return
    const file = await open(`${logPath(dir, key)}.log`, 'r')
    try {
      yield* readRange(file, from, to)
    } finally {
      await file.close()
    }
  }

  async function* readWithTimestamps(key: LogKey, range: LogRange = {}): AsyncGenerator<Buffer> {
    const { stored } = await state(key)
    const from = Math.max(0, range.start ?? 0)
    const to = Math.min(stored, range.end ?? stored)
    if (from >= to) return
    const path = logPath(dir, key)
    const data = await open(`${path}.log`, 'r')
    try {
      const index = await open(`${path}.idx`, 'r')
      try {
        yield* withTimestamps({
          from,
          to,
          chunks: (start) => readRange(data, start, to),
          records: readRecords(index),
        })
      } finally {
        await index.close()
      }
    } finally {
      await data.close()
    }
  }

  async function sinceOffset(key: LogKey, ms: number): Promise<number> {
    const log = logOf(key)
    return exclusively(log, async () => {
      const loaded = await load(log)
      if (!loaded.last || loaded.last.at < ms) return loaded.last?.stored ?? 0
      const index = await open(`${log.path}.idx`, 'r')
      let start: number
      try {
        start = await storedBefore(index, loaded.records, ms)
      } finally {
        await index.close()
      }
      if (start === 0) return 0
      const data = await open(`${log.path}.log`, 'r')
      try {
        return await lineStart(data, start)
      } finally {
        await data.close()
      }
    })
  }

  async function* follow(key: LogKey, offset: number, signal: AbortSignal): AsyncGenerator<Buffer> {
    const path = logPath(dir, key)
    let at = Math.max(0, offset)
    const follower: Follower = { run: key.run, gone: false }
    followers.add(follower)
    try {
      while (!signal.aborted && !follower.gone && !closed) {
        const { changed, forget } = nextChange(path, signal)
        try {
          const now = await state(key)
          if (now.stored > at) {
            for await (const chunk of read(key, { start: at, end: now.stored })) {
              if (signal.aborted) return
              at += chunk.length
              yield chunk
            }
          } else if (now.finished) return
          else await changed
        } catch (err) {
          if (!follower.gone) throw err
        } finally {
          forget()
        }
      }
    } finally {
      followers.delete(follower)
    }
  }

  async function remove(run: string): Promise<void> {
    for (const follower of followers) if (follower.run === run) follower.gone = true
    const own = [...logs.values()].filter((log) => log.run === run)
    await Promise.all(
      own.map((log) =>
        exclusively(log, async () => {
          await closeFiles(log)
          delete log.loaded
        }),
      ),
    )
    await rm(runDirectory(dir, run), { recursive: true, force: true })
    const prefix = `${runDirectory(dir, run)}/`
    for (const path of [...waiting.keys()]) if (path.startsWith(prefix)) wake(path)
  }

  async function close(): Promise<void> {
    closed = true
    await Promise.all([...logs.values()].map((log) => exclusively(log, () => closeFiles(log))))
    for (const path of [...waiting.keys()]) wake(path)
  }

  return {
    state,
    append,
    finish,
    read,
    readWithTimestamps,
    sizeOf: async (key) => (await state(key)).stored,
    sinceOffset,
    follow,
    remove,
    close,
  }
}

function toState(loaded: Loaded): LogState {
  const { last, end } = loaded
  const version = last && loaded.versions[last.version]
  return {
    raw: last?.raw ?? 0,
    stored: last?.stored ?? 0,
    lines: (last?.newlines ?? 0) + (loaded.openLine ? 1 : 0),
    truncated: last?.truncated ?? false,
    finished: end !== undefined,
    ...(version !== undefined && { secretsVersion: version }),
    ...(last && { changedAt: last.at }),
    ...(end && { end }),
  }
}

/** The log as last committed. Cuts off what a crash left uncommitted. */
async function readLog(path: string): Promise<Loaded> {
  const index = await readIfThere(`${path}.idx`)
  const dataBytes = await sizeIfThere(`${path}.log`)
  let records = Math.floor((index?.length ?? 0) / RECORD_BYTES)
  let last: LogRecord | undefined
  for (; index && records > 0; records--) {
    const record = decodeRecord(index, (records - 1) * RECORD_BYTES)
    // Bytes that a record promises and the file has not (power loss) make the record void, too.
    if (record && record.stored <= dataBytes) {
      last = record
      break
    }
  }
  const stored = last?.stored ?? 0
  if (dataBytes > stored) await truncate(`${path}.log`, stored)
  if (index && index.length > records * RECORD_BYTES) await truncate(`${path}.idx`, records * RECORD_BYTES)
  const end = await readEnd(path, stored)
  return {
    last,
    records,
    versions: await readVersions(path),
    openLine: stored > 0 && (await byteAt(`${path}.log`, stored - 1)) !== NEWLINE,
    ...(end && { end }),
  }
}

async function readEnd(path: string, stored: number): Promise<LogEnd | undefined> {
  const text = await readIfThere(`${path}.end`)
  if (!text) return undefined
  const file: EndFile = JSON.parse(text.toString('utf8'))
  if (file.stored <= stored) return file.end
  const missingBytes = file.stored - stored
  return {
    rawBytes: file.end.rawBytes,
    proof: { kind: 'gap', reason: 'the log store lost the end of this log after it was complete', missingBytes },
  }
}

async function readVersions(path: string): Promise<readonly string[]> {
  const text = await readIfThere(`${path}.ver`)
  return text ? JSON.parse(text.toString('utf8')) : []
}

function withinLimit(
  bytes: Buffer,
  { room, openLine, maxBytes }: { readonly room: number; readonly openLine: boolean; readonly maxBytes: number },
): { readonly bytes: Buffer; readonly truncated: boolean } {
  if (bytes.length <= room) return { bytes, truncated: false }
  const fitting = bytes.subarray(0, Math.max(0, room))
  const lastNewline = fitting.lastIndexOf(NEWLINE)
  // Whole lines where there are any; a log that is one endless line is cut where the room ends.
  const kept =
    lastNewline >= 0 || !openLine ? fitting.subarray(0, lastNewline >= 0 ? lastNewline + 1 : fitting.length) : fitting
  const midLine = kept.length > 0 ? kept.at(-1) !== NEWLINE : openLine
  const marker = `${midLine ? '\n' : ''}[penstock] log truncated: the step wrote more than ${maxBytes.toLocaleString('en-US')} bytes; the rest is not stored\n`
  return { bytes: Buffer.concat([kept, Buffer.from(marker)]), truncated: true }
}

/** Four bytes at a time: one `indexOf` a line would cost more than the write where lines are short. */
function countNewlines(bytes: Buffer): number {
  let count = 0
  const misaligned = (4 - (bytes.byteOffset % 4)) % 4
  const words =
    bytes.length < 8
      ? new Int32Array(0)
      : new Int32Array(bytes.buffer, bytes.byteOffset + misaligned, (bytes.length - misaligned) >> 2)
  const first = words.length === 0 ? 0 : misaligned
  for (let i = 0; i < words.length; i++) {
    // A byte of `difference` is 0 where a newline is; `found` has the top bit of those bytes and no other.
    const difference = (words[i] as number) ^ 0x0a0a0a0a
    const found = ~(((difference & 0x7f7f7f7f) + 0x7f7f7f7f) | difference | 0x7f7f7f7f)
    count += Math.imul(found >>> 7, 0x01010101) >>> 24
  }
  for (let i = 0; i < first; i++) if (bytes[i] === NEWLINE) count++
  for (let i = first + words.length * 4; i < bytes.length; i++) if (bytes[i] === NEWLINE) count++
  return count
}

/** What was stored before the first record of `ms` or later. There is one. */
async function storedBefore(index: FileHandle, records: number, ms: number): Promise<number> {
  let low = 0
  let high = records - 1
  while (low < high) {
    const middle = (low + high) >> 1
    const record = await recordAt(index, middle)
    if (record && record.at >= ms) high = middle
    else low = middle + 1
  }
  return low === 0 ? 0 : ((await recordAt(index, low - 1))?.stored ?? 0)
}

async function recordAt(index: FileHandle, position: number): Promise<LogRecord | undefined> {
  const bytes = Buffer.alloc(RECORD_BYTES)
  const { bytesRead } = await index.read(bytes, 0, RECORD_BYTES, position * RECORD_BYTES)
  return decodeRecord(bytes.subarray(0, bytesRead))
}

/** Start of the line that has the byte at `offset`. */
async function lineStart(data: FileHandle, offset: number): Promise<number> {
  let end = offset
  while (end > 0) {
    const start = Math.max(0, end - READ_BYTES)
    const chunk = Buffer.alloc(end - start)
    const { bytesRead } = await data.read(chunk, 0, chunk.length, start)
    const newline = chunk.subarray(0, bytesRead).lastIndexOf(NEWLINE)
    if (newline >= 0) return start + newline + 1
    end = start
  }
  return 0
}

async function* readRange(file: FileHandle, from: number, to: number): AsyncGenerator<Buffer> {
  for (let at = from; at < to; ) {
    const chunk = Buffer.allocUnsafe(Math.min(READ_BYTES, to - at))
    const { bytesRead } = await file.read(chunk, 0, chunk.length, at)
    if (bytesRead === 0) return
    at += bytesRead
    yield chunk.subarray(0, bytesRead)
  }
}

async function* readRecords(index: FileHandle): AsyncGenerator<LogRecord> {
  const bytes = Buffer.allocUnsafe(RECORD_BYTES * 1_000)
  for (let at = 0; ; ) {
    const { bytesRead } = await index.read(bytes, 0, bytes.length, at)
    const whole = bytesRead - (bytesRead % RECORD_BYTES)
    if (whole === 0) return
    for (let offset = 0; offset < whole; offset += RECORD_BYTES) {
      const record = decodeRecord(bytes, offset)
      if (!record) return
      yield record
    }
    at += whole
  }
}

async function writeAll(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}

async function replaceFile(path: string, content: string): Promise<void> {
  await writeFile(`${path}.new`, content, { mode: 0o600 })
  await rename(`${path}.new`, path)
}

async function openForUpdate(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r+')
  } catch (err) {
    if (!isMissing(err)) throw err
    return open(path, 'wx+', 0o600)
  }
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path)
  } catch (err) {
    if (isMissing(err)) return undefined
    throw err
  }
}

async function sizeIfThere(path: string): Promise<number> {
  try {
    return (await stat(path)).size
  } catch (err) {
    if (isMissing(err)) return 0
    throw err
  }
}

async function byteAt(path: string, offset: number): Promise<number | undefined> {
  const file = await open(path, 'r')
  try {
    const byte = Buffer.alloc(1)
    const { bytesRead } = await file.read(byte, 0, 1, offset)
    return bytesRead === 1 ? byte[0] : undefined
  } finally {
    await file.close()
  }
}

function isMissing(err: unknown): boolean {
  return err instanceof Error && 'code' in err && err.code === 'ENOENT'
}
