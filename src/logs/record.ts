import { crc32 } from 'node:zlib'

/**
 * One commit of a log. The index file is a row of these, each of the same size and with its own checksum: an append
 * counts once its record is whole, and not before.
 */
export interface LogRecord {
  readonly raw: number
  readonly stored: number
  /** Milliseconds since 1970; never less than the record before. */
  readonly at: number
  /** Newlines in the stored bytes. */
  readonly newlines: number
  /** Index into the log's list of versions of the set of secrets. */
  readonly version: number
  readonly truncated: boolean
}

export const RECORD_BYTES = 48
const MAGIC = 0x4c50
const TRUNCATED = 1
const CHECKED_BYTES = 44

export function encodeRecord(record: LogRecord): Buffer {
  const bytes = Buffer.alloc(RECORD_BYTES)
  bytes.writeUInt16LE(MAGIC, 0)
  bytes.writeUInt16LE(record.truncated ? TRUNCATED : 0, 2)
  bytes.writeUInt32LE(record.version, 4)
  bytes.writeBigUInt64LE(BigInt(record.raw), 8)
  bytes.writeBigUInt64LE(BigInt(record.stored), 16)
  bytes.writeBigUInt64LE(BigInt(record.at), 24)
  bytes.writeBigUInt64LE(BigInt(record.newlines), 32)
  bytes.writeUInt32LE(crc32(bytes.subarray(0, CHECKED_BYTES)), CHECKED_BYTES)
  return bytes
}

/** The record at `offset`, or undefined if what is there is not a whole one. */
export function decodeRecord(bytes: Buffer, offset = 0): LogRecord | undefined {
  if (offset + RECORD_BYTES > bytes.length) return undefined
  if (bytes.readUInt16LE(offset) !== MAGIC) return undefined
  if (crc32(bytes.subarray(offset, offset + CHECKED_BYTES)) !== bytes.readUInt32LE(offset + CHECKED_BYTES))
    return undefined
  return {
    raw: Number(bytes.readBigUInt64LE(offset + 8)),
    stored: Number(bytes.readBigUInt64LE(offset + 16)),
    at: Number(bytes.readBigUInt64LE(offset + 24)),
    newlines: Number(bytes.readBigUInt64LE(offset + 32)),
    version: bytes.readUInt32LE(offset + 4),
    truncated: (bytes.readUInt16LE(offset + 2) & TRUNCATED) !== 0,
  }
}
