import { z } from 'zod'
import { found, isStatus, read } from '../answers.ts'
import type { Branches, Forge } from '../types.ts'
import type { Connection } from './connect.ts'

const GitRef = z.object({ object: z.object({ sha: z.string() }) })

export function createRefs({ octokit, at }: Connection): Pick<Forge, 'branchTip' | 'fastForward'> & {
  readonly branches: Branches
} {
  async function branchTip(branch: string): Promise<string | undefined> {
    const answer = await found(octokit.rest.git.getRef({ ...at, ref: `heads/${branch}` }))
    return answer && read(GitRef, answer).object.sha
  }

  return {
    branchTip,
    async fastForward(branch, commit) {
      const current = await branchTip(branch)
      if (current === commit) return { kind: 'already' }
      try {
        if (current === undefined) {
          await octokit.rest.git.createRef({ ...at, ref: `refs/heads/${branch}`, sha: commit })
          return { kind: 'moved' }
        }
        await octokit.rest.git.updateRef({ ...at, ref: `heads/${branch}`, sha: commit, force: false })
        return { kind: 'moved', from: current }
      } catch (err) {
        // The answer may have been lost: the ref decides. It is read again whatever the error was.
        const now = await branchTip(branch)
        if (now === commit) return { kind: 'moved', ...(current === undefined ? {} : { from: current }) }
        if (!isStatus(err, 409, 422)) throw err
        const why = `GitHub does not take ${commit} as a fast-forward of ${branch}`
        return { kind: 'refused', why, ...(now === undefined ? {} : { at: now }) }
      }
    },
    branches: {
      async create(branch, commit) {
        try {
          await octokit.rest.git.createRef({ ...at, ref: `refs/heads/${branch}`, sha: commit })
          return { kind: 'made' }
        } catch (err) {
          const now = await branchTip(branch)
          if (now === commit) return { kind: 'already' }
          if (now !== undefined) return { kind: 'taken', at: now }
          throw err
        }
      },
      async remove(branch) {
        try {
          await octokit.rest.git.deleteRef({ ...at, ref: `heads/${branch}` })
        } catch (err) {
          if ((await branchTip(branch)) !== undefined) throw err
        }
      },
    },
  }
}
