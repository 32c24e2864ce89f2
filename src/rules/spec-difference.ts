import type { Forge } from '../forge/types.ts'
import { type Mirrors, NoSuchCommit } from '../git/mirrors.ts'

/** How a spec differs from the one at the tip of the branch that the commit wants to go to. */
export interface SpecDifference {
  readonly changed: boolean
  readonly base: string
  /** The tip; absent: there is no such branch, so that there is nothing to compare with. */
  readonly tip?: string
  /** A unified diff; absent: it cannot be shown. */
  readonly text?: string
}

/** Asks forge and git anew each time. What cannot be compared counts as changed. */
export function createSpecDifferences({ mirrors, file }: { readonly mirrors: Mirrors; readonly file: string }) {
  return async function specDifference(
    kept: { readonly name: string; readonly forge: Forge },
    commit: string,
    base: string,
  ): Promise<SpecDifference> {
    const tip = await kept.forge.branchTip(base)
    if (tip === undefined) return { changed: true, base }
    const source = await kept.forge.source()
    try {
      for (const one of [tip, commit]) await mirrors.ensure(kept.name, source, one)
    } catch (err) {
      if (err instanceof NoSuchCommit) return { changed: true, base, tip }
      throw err
    }
    const text = await mirrors.difference(kept.name, tip, commit, file)
    return { changed: text !== '', base, tip, ...(text === undefined ? {} : { text }) }
  }
}

export type SpecDifferenceOf = ReturnType<typeof createSpecDifferences>
