import { readFailure } from '../report/failure.ts'

/** However often it went wrong. */
const LONGEST_MS = 15 * 60_000

/**
 * Looks at each repository at once, and then no more often than every so many milliseconds. After a failure it waits
 * twice as long each time, and as long as the forge asks; what was thrown rises.
 */
export function createPace({ everyMs, clock }: { readonly everyMs: number; readonly clock: () => number }) {
  const next = new Map<string, { readonly at: number; readonly failures: number }>()
  return async (repo: string, look: () => Promise<void>): Promise<void> => {
    const { at = 0, failures = 0 } = next.get(repo) ?? {}
    if (clock() < at) return
    try {
      await look()
      next.set(repo, { at: clock() + everyMs, failures: 0 })
    } catch (err) {
      const asked = readFailure(err, clock()).waitMs ?? 0
      const wait = Math.min(everyMs * 2 ** Math.min(failures + 1, 10), LONGEST_MS)
      next.set(repo, { at: clock() + Math.max(wait, asked), failures: failures + 1 })
      throw err
    }
  }
}
