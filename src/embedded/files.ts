import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { z } from 'zod'

/** A sentence for the person who started the program. */
export type Say = (sentence: string) => void

const MARK = '.made-by-penstock'

/** Where the data directory is, from the environment. */
export function dataDirOf(env: Readonly<Record<string, string | undefined>>): string {
  return path.resolve(env.PENSTOCK_DATA || '.penstock')
}

/** Makes the data directory if it is absent. One that we made or found empty is marked, so that it may be removed again. */
export function openDataDir(dataDir: string): string {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  const real = realpathSync(dataDir)
  if (readdirSync(real).length === 0) writeFileSync(path.join(real, MARK), '')
  return real
}

export function isDataDir(dataDir: string): boolean {
  return existsSync(path.join(dataDir, MARK))
}

/**
 * Tells installations apart that share one Docker engine. It follows from the place of the data directory, so that what
 * was left behind can still be found when the directory itself is gone.
 */
export function instanceOf(dataDir: string): string {
  const absolute = path.resolve(dataDir)
  // The directory itself may be gone; then its parent says where it was.
  const real = existsSync(absolute)
    ? realpathSync(absolute)
    : path.join(
        existsSync(path.dirname(absolute)) ? realpathSync(path.dirname(absolute)) : path.dirname(absolute),
        path.basename(absolute),
      )
  return `p${createHash('sha256').update(real).digest('hex').slice(0, 12)}`
}

/** Written beside and renamed, so that a reader never sees half a file. */
export function writeJson(file: string, value: unknown): void {
  mkdirSync(path.dirname(file), { recursive: true })
  const beside = `${file}.${process.pid}`
  writeFileSync(beside, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 })
  renameSync(beside, file)
}

/** What a file of ours holds; undefined when it is absent or not what we wrote. */
export function readJson<T>(file: string, shape: z.ZodType<T>): T | undefined {
  if (!existsSync(file)) return undefined
  try {
    return shape.parse(JSON.parse(readFileSync(file, 'utf8')))
  } catch (err) {
    // A record that was cut off by a crash is no record; whoever reads it looks at the world instead.
    if (err instanceof SyntaxError || err instanceof z.ZodError) return undefined
    throw err
  }
}

/** The last lines of a log, for a person who has to see why something ended. */
export function tail(file: string, lines = 20): string {
  if (!existsSync(file)) return ''
  return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-lines).join('\n')
}
