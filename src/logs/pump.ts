import { createHash } from 'node:crypto'
import type { LogKey } from '../core/ids.ts'
import type { StepEnd } from '../engine/types.ts'
import type { LogAppend, LogCursor, LogEnd, ServerPort } from '../internal/types.ts'
import { LogMoved } from '../internal/types.ts'
import { compileMasker, type Masker } from './masker.ts'
import type { SecretValue } from './needles.ts'

export interface LogPumpDeps {
  readonly server: Pick<ServerPort, 'logState' | 'appendLog' | 'finishLog'>
  /** Raw bytes of the step's log from `offset`, at most `limit`; empty at the present end. */
  readonly read: (offset: number, limit: number) => Promise<Buffer>
  readonly log: LogKey
  readonly secrets: { readonly version: string; readonly values: readonly SecretValue[] }
  /** Nobody has stored anything of this log: the server need not be asked where it stands. */
  readonly isNew?: boolean
  /** Bytes of one read, and about those of one append. */
  readonly pieceBytes?: number
}

/**
 * Moves one step's log to the server: raw file, masker, store. Goes on where the store's cursor stands, whoever wrote
 * so far. Calls take effect one after the other; one that failed may be repeated.
 */
export interface LogPump {
  /** Moves what is there now (of a flood, some; call again). `true` if there was anything. */
  pump(): Promise<boolean>
  /**
   * Moves the rest, compares it with what the step's wrapper counted, and closes the log. Without an `end` (the
   * container was lost, or its files cannot be trusted) it takes what can be read, and the log has a gap.
   */
  finish(end: StepEnd | undefined, why?: string): Promise<LogEnd['proof']>
}

const PIECE_BYTES = 512 * 1024
/** So that a step that prints without end does not keep the caller from its other steps. */
const PIECES_A_CALL = 64
/** Instead of a version of the secrets: the last append was the marker line of a gap, which is written once. */
const GAP_MARKED = 'penstock:gap-marked'
const NO_END = 'the step ended without a record of its end'

/** Streams of one set of secrets share the prepared search. */
const compiled = new WeakMap<readonly SecretValue[], (rawStart?: number) => Masker>()

function maskerFor(values: readonly SecretValue[], rawStart: number): Masker {
  let create = compiled.get(values)
  if (!create) {
    create = compileMasker(values)
    compiled.set(values, create)
  }
  return create(rawStart)
}

/** The raw log could not be read; `cause` says why. Told apart from a server that could not be reached. */
class RawUnreadable extends Error {
  override readonly name = 'RawUnreadable'
}

interface Stream {
  readonly masker: Masker
  cursor: LogCursor
  /** Raw bytes given to the masker. */
  read: number
  /** Raw bytes that the appends made so far, and the one on its way, account for. */
  sentRaw: number
  inFlight: Promise<void>
  /** The last byte of output was not a newline. */
  openLine: boolean
  /** What stands before the cursor could not be read again. */
  readonly unreadable?: RawUnreadable
}

export function createLogPump(deps: LogPumpDeps): LogPump {
  const { server, read, log, secrets, pieceBytes = PIECE_BYTES } = deps
  let isNew = deps.isNew ?? false
  /** Over the raw log from its start, whoever stored it; never goes back when the stream does. */
  const hash = createHash('sha256')
  let hashed = 0
  let stream: Stream | undefined
  let turn: Promise<unknown> = Promise.resolve()

  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = turn.then(work)
    turn = mine.catch(() => undefined)
    return mine
  }

  function count(bytes: Buffer, offset: number): void {
    const fresh = offset + bytes.length - hashed
    if (fresh <= 0) return
    hash.update(fresh === bytes.length ? bytes : bytes.subarray(bytes.length - fresh))
    hashed += fresh
  }

  async function readRaw(offset: number, limit: number): Promise<Buffer> {
    try {
      return await read(offset, limit)
    } catch (err) {
      throw new RawUnreadable('the raw log cannot be read', { cause: err })
    }
  }

  async function resume(cursor: LogCursor): Promise<Stream> {
    const fresh = {
      masker: maskerFor(secrets.values, cursor.raw),
      cursor,
      read: cursor.raw,
      sentRaw: cursor.raw,
      inFlight: Promise.resolve(),
      openLine: cursor.stored > 0,
    }
    try {
      while (hashed < cursor.raw) {
        const bytes = await readRaw(hashed, Math.min(pieceBytes, cursor.raw - hashed))
        if (bytes.length === 0) break
        count(bytes, hashed)
      }
      const last = cursor.raw > 0 ? await readRaw(cursor.raw - 1, 1) : NOTHING
      return { ...fresh, openLine: last.length > 0 && last[0] !== NEWLINE }
    } catch (err) {
      if (!(err instanceof RawUnreadable)) throw err
      return { ...fresh, unreadable: err }
    }
  }

  /** Hands over one append; the one before it must have been answered, so one is on its way while the next is made. */
  async function send(to: Stream, bytes: Buffer, rawEnd: number, version = secrets.version): Promise<void> {
    if (bytes.length === 0 && rawEnd === to.sentRaw) return
    await to.inFlight
    if (bytes.length > 0) to.openLine = bytes.at(-1) !== NEWLINE
    to.sentRaw = rawEnd
    to.inFlight = deliver(to, { at: to.cursor.stored, rawEnd, secretsVersion: version, bytes })
    // Its failure is met at the next `await`; until then nobody listens.
    to.inFlight.catch(() => undefined)
  }

  async function deliver(to: Stream, append: LogAppend): Promise<void> {
    try {
      to.cursor = await server.appendLog(log, append)
    } catch (err) {
      if (!(err instanceof LogMoved)) throw err
      // Going back to where it says it stands would lead here again.
      if (err.cursor.stored === append.at && !err.cursor.finished) {
        throw new Error('the server refused an append that follows its end', { cause: err })
      }
      throw err
    }
  }

  /** Where to begin; a wrong belief that the log is new is corrected by the first append. */
  async function standing(): Promise<LogCursor> {
    if (!isNew) return server.logState(log)
    isNew = false
    return { raw: 0, stored: 0, finished: false }
  }

  /** Works on the stream; where the log has moved under it, starts anew from where it stands now. */
  async function onStream<T>(work: (current: Stream) => Promise<T>): Promise<T> {
    for (;;) {
      try {
        stream ??= await resume(await standing())
        const result = await work(stream)
        await stream.inFlight
        return result
      } catch (err) {
        await stream?.inFlight.catch(() => undefined)
        // What was masked and not stored is read again.
        stream = undefined
        if (err instanceof RawUnreadable) throw err.cause
        if (!(err instanceof LogMoved)) throw err
      }
    }
  }

  /** Moves raw bytes up to `end`; `false` once there are none. */
  async function move(current: Stream, end: number): Promise<boolean> {
    const limit = Math.min(pieceBytes, end - current.read)
    if (limit <= 0) return false
    const bytes = await readRaw(current.read, limit)
    if (bytes.length === 0) return false
    count(bytes, current.read)
    current.read += bytes.length
    const { out, rawEnd } = current.masker.push(bytes)
    await send(current, out, rawEnd)
    return true
  }

  const pump = () =>
    onStream(async (current) => {
      if (current.unreadable) throw current.unreadable
      if (current.cursor.finished) return false
      let moved = false
      for (let piece = 0; piece < PIECES_A_CALL && (await move(current, Number.POSITIVE_INFINITY)); piece++)
        moved = true
      return moved
    })

  const finish = (end: StepEnd | undefined, why: string | undefined) =>
    onStream(async (current) => {
      let problem = end ? undefined : (why ?? NO_END)
      if (current.unreadable && !isForGood(current.unreadable, end)) throw current.unreadable
      problem ??= reasonOf(current.unreadable)
      if (!isClosed(current.cursor)) {
        try {
          while (await move(current, end?.fileBytes ?? Number.POSITIVE_INFINITY));
        } catch (err) {
          if (!(err instanceof RawUnreadable && isForGood(err, end))) throw err
          problem ??= reasonOf(err)
        }
        const rest = current.masker.flush()
        await send(current, rest.out, rest.rawEnd)
      }
      const proof = verdict(end, { read: Math.min(hashed, current.read), sha256: hash.copy().digest('hex'), problem })
      if (proof.kind === 'gap' && !isClosed(current.cursor)) {
        const marker = Buffer.from(`${current.openLine ? '\n' : ''}${markerLine(proof)}\n`)
        await send(current, marker, current.sentRaw, GAP_MARKED)
      }
      await current.inFlight
      await server.finishLog(log, { rawBytes: current.read, proof })
      return proof
    })

  return {
    pump: () => inTurn(pump),
    finish: (end, why) => inTurn(() => finish(end, why)),
  }
}

const NEWLINE = 10
const NOTHING = Buffer.alloc(0)

function isClosed(cursor: LogCursor): boolean {
  return cursor.finished || cursor.secretsVersion === GAP_MARKED
}

/** Whether it will never be readable again: a tampered file, or whatever is wrong after the container was lost. */
function isForGood(err: RawUnreadable, end: StepEnd | undefined): boolean {
  return end === undefined || (err.cause instanceof Error && err.cause.name === 'Tampered')
}

function reasonOf(err: RawUnreadable | undefined): string | undefined {
  if (!err) return undefined
  return err.cause instanceof Error ? err.cause.message : String(err.cause)
}

interface Taken {
  readonly read: number
  readonly sha256: string
  readonly problem: string | undefined
}

function verdict(end: StepEnd | undefined, { read, sha256, problem }: Taken): LogEnd['proof'] {
  if (!end) return { kind: 'gap', reason: problem ?? NO_END }
  const missing = Math.max(0, end.pipeBytes - read)
  const reason =
    end.writeError ??
    problem ??
    (read < end.fileBytes ? 'the log file is shorter than its record says' : undefined) ??
    (read > end.fileBytes ? 'the log file is longer than its record says' : undefined) ??
    (missing > 0 ? 'the log file lacks bytes that the step wrote' : undefined) ??
    (sha256 === end.sha256 ? undefined : 'the log file is not what the step wrote')
  if (reason === undefined) return { kind: 'complete' }
  return { kind: 'gap', reason, ...(missing > 0 && { missingBytes: missing }) }
}

function markerLine(gap: { readonly reason: string; readonly missingBytes?: number }): string {
  const reason = gap.reason.replace(/[\r\n]+/g, ' ')
  if (gap.missingBytes === undefined) return `[penstock] this log may not be complete: ${reason}`
  const bytes = `${gap.missingBytes.toLocaleString('en-US')} ${gap.missingBytes === 1 ? 'byte' : 'bytes'}`
  return `[penstock] ${bytes} of this log were lost: ${reason}`
}
