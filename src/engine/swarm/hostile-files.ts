import type { Stats } from 'node:fs'
import { constants, type FileHandle, open } from 'node:fs/promises'

/** Something in a volume is not what was made there: a link, another file, a shorter one. */
export class Tampered extends Error {
  override readonly name = 'Tampered'
}

/** A file as it was made; another one under its name is not it. */
export interface FileIdentity {
  readonly dev: number
  readonly ino: number
}

export function identityOf(stats: Stats): FileIdentity {
  return { dev: stats.dev, ino: stats.ino }
}

const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** The machine's trouble, whatever the file is. */
const NOT_OF_THE_FILE = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EIO', 'EINTR'])

/**
 * Opens a direct child of a volume that user code may have changed: never a link, never something that blocks. Throws
 * `Tampered`, or what kept the machine from opening it.
 */
export async function openMade(path: string, made: FileIdentity): Promise<{ file: FileHandle; size: number }> {
  let file: FileHandle
  try {
    file = await open(path, READ)
  } catch (error) {
    if (error instanceof Error && 'code' in error && NOT_OF_THE_FILE.has(String(error.code))) throw error
    throw new Tampered(`${path} cannot be opened as the file that was made there`, { cause: error })
  }
  try {
    const stats = await file.stat()
    if (!stats.isFile()) throw new Tampered(`${path} is not a regular file any more`)
    if (stats.dev !== made.dev || stats.ino !== made.ino) throw new Tampered(`${path} was replaced by another file`)
    return { file, size: stats.size }
  } catch (error) {
    await file.close()
    throw error
  }
}

/** Bytes from `offset`, at most `limit`; fewer only at the end. */
export async function readAt(file: FileHandle, offset: number, limit: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(limit)
  let filled = 0
  while (filled < limit) {
    const { bytesRead } = await file.read(buffer, filled, limit - filled, offset + filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return buffer.subarray(0, filled)
}
