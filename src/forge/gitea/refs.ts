import { z } from 'zod'
import type { Mirrors, Source } from '../../git/mirrors.ts'
import { found, isStatus, read } from '../answers.ts'
import { createBranches } from '../branches.ts'
import type { Branches, Forge } from '../types.ts'
import { type Connection, inPath } from './connect.ts'

const Branch = z.object({ commit: z.object({ id: z.string() }) })

export function createRefs(
  { rest, at, repo }: Connection,
  deps: {
    readonly mirrors: Mirrors
    readonly source: () => Promise<Source>
    /** The pull request that is open from exactly this commit into this branch. */
    readonly openAt: (commit: string, base: string) => Promise<number | undefined>
  },
): Pick<Forge, 'branchTip' | 'fastForward'> & { readonly branches: Branches } {
  async function branchTip(branch: string): Promise<string | undefined> {
    const answer = await found(rest.get(`${at}/branches/${inPath(branch)}`))
    return answer && read(Branch, answer).commit.id
  }

  /** What is pushed past a pull request leaves it open: Gitea looks for that only where a repository's settings say so. */
  async function merge(branch: string, commit: string): Promise<boolean> {
    const number = await deps.openAt(commit, branch)
    if (number === undefined) return false
    try {
      await rest.send('POST', `${at}/pulls/${number}/merge`, { do: 'fast-forward-only', head_commit_id: commit })
    } catch (err) {
      // Not allowed here, not mergeable yet, or taken with its answer lost: git and the ref decide.
      if (!isStatus(err, 403, 404, 405, 409, 422)) throw err
    }
    return (await branchTip(branch)) === commit
  }

  return {
    branchTip,
    async fastForward(branch, commit) {
      const from = await branchTip(branch)
      if (from !== undefined && from !== commit && (await merge(branch, commit))) return { kind: 'moved', from }
      return deps.mirrors.fastForward(repo, await deps.source(), branch, commit)
    },
    branches: createBranches({
      name: 'Gitea',
      tip: branchTip,
      async make(branch, commit) {
        const asked = { new_branch_name: branch, old_ref_name: commit }
        return read(Branch, await rest.send('POST', `${at}/branches`, asked)).commit.id
      },
      drop: (branch) => rest.send('DELETE', `${at}/branches/${inPath(branch)}`),
    }),
  }
}
