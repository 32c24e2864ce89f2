import { constants, type FileHandle, open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { EngineRefused } from '../types.ts'
import { readAt } from './hostile-files.ts'

/** A workspace may hold a million files; a pattern that needs more looks than this is not worth them. */
const ENTRY_LIMIT = 200_000

const FOLDER = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW
const FILE = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/**
 * Regular files below `root` whose path matches a pattern (`*`, `?` within a name, `**` across folders), sorted by path.
 * Each folder is opened from its parent's descriptor, so that no link is followed at any depth, and nothing outside is
 * reached. More files or bytes than allowed is refused, not cut.
 */
export async function readMatching(
  root: string,
  patterns: readonly string[],
  limits: { readonly files: number; readonly bytes: number },
): Promise<readonly { readonly path: string; readonly bytes: Buffer }[]> {
  const matchers = patterns.map(toMatcher)
  const found: { path: string; bytes: Buffer }[] = []
  let bytes = 0
  let entries = 0

  async function visit(folder: FileHandle, path: readonly string[]): Promise<void> {
    const here = `/proc/self/fd/${folder.fd}`
    for (const entry of await readdir(here, { withFileTypes: true })) {
      entries += 1
      if (entries > ENTRY_LIMIT)
        throw new EngineRefused(
          `the workspace has more than ${ENTRY_LIMIT} files; name the folder of the reports more exactly`,
        )
      const names = [...path, entry.name]
      if (entry.isDirectory()) {
        if (!matchers.some((matcher) => matcher.mayContain(names))) continue
        const child = await openUnlinked(join(here, entry.name), FOLDER)
        if (child === undefined) continue
        try {
          await visit(child, names)
        } finally {
          await child.close()
        }
      } else if (entry.isFile() && matchers.some((matcher) => matcher.matches(names))) {
        await take(join(here, entry.name), names.join('/'))
      }
    }
  }

  async function take(place: string, path: string): Promise<void> {
    const file = await openUnlinked(place, FILE)
    if (file === undefined) return
    try {
      const stats = await file.stat()
      if (!stats.isFile()) return
      bytes += stats.size
      if (found.length >= limits.files)
        throw new EngineRefused(`more than ${limits.files} files match ${patterns.join(', ')}`)
      if (bytes > limits.bytes)
        throw new EngineRefused(`the files that match ${patterns.join(', ')} have more than ${limits.bytes} bytes`)
      found.push({ path, bytes: await readAt(file, 0, stats.size) })
    } finally {
      await file.close()
    }
  }

  const top = await open(root, FOLDER)
  try {
    await visit(top, [])
  } finally {
    await top.close()
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))
}

/** Undefined for what became a link or went away since it was listed. */
async function openUnlinked(path: string, flags: number): Promise<FileHandle | undefined> {
  try {
    return await open(path, flags)
  } catch (error) {
    if (
      error instanceof Error &&
      'code' in error &&
      ['ELOOP', 'ENOTDIR', 'ENOENT', 'ENXIO'].includes(String(error.code))
    )
      return undefined
    throw error
  }
}

interface Matcher {
  matches(names: readonly string[]): boolean
  /** Whether something below the folder could match. */
  mayContain(names: readonly string[]): boolean
}

function toMatcher(pattern: string): Matcher {
  const parts = pattern.split('/').filter((part) => part !== '' && part !== '.')
  const names = parts.map((part) => (part === '**' ? undefined : nameMatcher(part)))
  const match = (path: readonly string[], at: number, part: number): boolean => {
    if (part === names.length) return at === path.length
    const name = names[part]
    if (name === undefined) return match(path, at, part + 1) || (at < path.length && match(path, at + 1, part))
    return at < path.length && name.test(path[at] ?? '') && match(path, at + 1, part + 1)
  }
  const prefix = (path: readonly string[], at: number): boolean => {
    if (at === path.length) return at < names.length
    const name = names[at]
    if (at >= names.length) return false
    if (name === undefined) return true
    return name.test(path[at] ?? '') && prefix(path, at + 1)
  }
  return { matches: (path) => match(path, 0, 0), mayContain: (path) => prefix(path, 0) }
}

function nameMatcher(part: string): RegExp {
  const source = part
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '[^/]*')
    .replaceAll('?', '[^/]')
  return new RegExp(`^${source}$`, 's')
}
