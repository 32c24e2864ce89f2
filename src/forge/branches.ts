import { type Branches, ForgeAnswerUnusable } from './types.ts'

/** Branches by three calls of a forge. Whatever an answer said, or did not say, the ref decides. */
export function createBranches(forge: {
  /** As people call it. */
  readonly name: string
  readonly tip: (branch: string) => Promise<string | undefined>
  /** Returns the commit that it was made at. */
  readonly make: (branch: string, commit: string) => Promise<string>
  readonly drop: (branch: string) => Promise<unknown>
}): Branches {
  const { name, tip, make, drop } = forge

  async function remove(branch: string): Promise<void> {
    try {
      await drop(branch)
    } catch (err) {
      if ((await tip(branch)) !== undefined) throw err
    }
  }

  return {
    async create(branch, commit) {
      try {
        if ((await make(branch, commit)) === commit) return { kind: 'made' }
      } catch (err) {
        const now = await tip(branch)
        if (now === commit) return { kind: 'already' }
        if (now !== undefined) return { kind: 'taken', at: now }
        throw err
      }
      // A server that does not know the key of the commit begins at its default branch.
      await remove(branch)
      throw new ForgeAnswerUnusable(`${name} made ${branch} at another commit than it was asked for`)
    },
    remove,
  }
}
