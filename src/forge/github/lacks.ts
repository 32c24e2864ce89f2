import { isStatus } from '../answers.ts'

/** The part of a logger that is used. */
export interface Log {
  warn(fields: object, message: string): void
}

/** A permission may be granted and a server upgraded: it is tried again after this, and said again only if it changed. */
const AGAIN_MS = 3_600_000

export type Lacks = ReturnType<typeof createLacks>

/**
 * Remembers what a server turned out not to have: GitHub's API is spoken by servers that offer less of it, and by GitHub
 * to accounts that were granted less.
 */
export function createLacks({ log, clock }: { readonly log: Log; readonly clock: () => number }) {
  const since = new Map<string, number>()
  const said = new Set<string>()

  return {
    /** Undefined: it is not to be had. Other failures rise. */
    async unlessLacking<T>(what: string, ask: () => Promise<T>): Promise<T | undefined> {
      const at = since.get(what)
      if (at !== undefined && clock() - at < AGAIN_MS) return undefined
      try {
        const answer = await ask()
        since.delete(what)
        said.delete(what)
        return answer
      } catch (err) {
        // 403 without a wish to wait, which has another class: not granted.
        if (!isStatus(err, 403, 404, 405, 410, 501)) throw err
        since.set(what, clock())
        if (!said.has(what)) log.warn({ what, err }, 'the forge does not offer this; commit statuses carry the rest')
        said.add(what)
        return undefined
      }
    },
  }
}
