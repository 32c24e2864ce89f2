import { linkSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { z } from 'zod'
import { readJson } from './files.ts'
import { identify, isAlive, type ProcessId } from './process.ts'

const Holder = z.object({ pid: z.number(), startedAt: z.string() })

export function lockFile(dataDir: string): string {
  return path.join(dataDir, 'supervisor.lock')
}

/** Who holds the data directory, if that process still lives. */
export async function lockHolder(dataDir: string): Promise<ProcessId | undefined> {
  const holder = readJson(lockFile(dataDir), Holder)
  return holder !== undefined && (await isAlive(holder)) ? holder : undefined
}

/** One supervisor a data directory. A lock whose holder is dead counts for nothing. Returns the release. */
export async function takeLock(dataDir: string): Promise<() => void> {
  const me = await identify(process.pid)
  if (me === undefined) throw new Error('this process cannot find itself in the process table')
  const file = lockFile(dataDir)
  const mine = `${file}.${process.pid}`
  writeFileSync(mine, JSON.stringify(me), { mode: 0o600 })
  try {
    for (;;) {
      try {
        // Linking makes the file appear whole, or not at all.
        linkSync(mine, file)
        return () => rmSync(file, { force: true })
      } catch (err) {
        if (!(err instanceof Error && 'code' in err && err.code === 'EEXIST')) throw err
      }
      const holder = await lockHolder(dataDir)
      if (holder !== undefined) {
        throw new Error(
          `Penstock runs already on ${dataDir} (process ${holder.pid}); stop that first, or use another PENSTOCK_DATA`,
        )
      }
      rmSync(file, { force: true })
    }
  } finally {
    rmSync(mine, { force: true })
  }
}
