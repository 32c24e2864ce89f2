import { open } from 'node:fs/promises'
import type { LogKey } from '../core/ids.ts'
import { logPath } from './files.ts'

/** Of the end of a log: what a report of it could show. */
const TAIL_BYTES = 32 * 1024

/** The last lines of a step's stored log; none if there is no log. Reads beside the store, and changes nothing. */
export async function tailOf(dir: string, key: LogKey, most: number): Promise<readonly string[]> {
  const file = await open(`${logPath(dir, key)}.log`, 'r').catch((err: unknown) => {
    if (err instanceof Error && 'code' in err && err.code === 'ENOENT') return undefined
    throw err
  })
  if (file === undefined) return []
  try {
    const { size } = await file.stat()
    const start = Math.max(0, size - TAIL_BYTES)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start)
    const lines = buffer.toString('utf8', 0, bytesRead).split('\n')
    // The first may be the end of a line; after the last line end there is nothing.
    if (start > 0 && lines.length > 1) lines.shift()
    if (lines.at(-1) === '') lines.pop()
    return lines.slice(-most)
  } finally {
    await file.close()
  }
}
