import { z } from 'zod'
import { found, isStatus, messageOf, read } from '../answers.ts'
import { createBranches } from '../branches.ts'
import { isNoCommit } from '../incoming.ts'
import type { Branches, Forge, Move } from '../types.ts'
import type { Connection } from './connect.ts'
import type { Lacks } from './lacks.ts'

const GitRef = z.object({ object: z.object({ sha: z.string() }) })

const Branch = z.object({ name: z.string(), commit: z.object({ sha: z.string() }) })
const Activity = z.object({
  before: z.string(),
  after: z.string(),
  timestamp: z.string(),
  actor: z.object({ login: z.string() }).nullish(),
})

type Refs = Required<Pick<Forge, 'branchTip' | 'fastForward' | 'branchHeads' | 'lastMove'>> & {
  readonly branches: Branches
}

export function createRefs({ octokit, at }: Connection, lacks: Lacks): Refs {
  async function branchTip(branch: string): Promise<string | undefined> {
    const answer = await found(octokit.rest.git.getRef({ ...at, ref: `heads/${branch}` }))
    return answer && read(GitRef, answer).object.sha
  }

  return {
    branchTip,
    async branchHeads() {
      const pages = octokit.paginate.iterator(octokit.rest.repos.listBranches, { ...at, per_page: 100 })
      const heads = new Map<string, string>()
      // A branch that is made meanwhile may shift another onto the next page, where it comes again.
      for await (const page of pages) {
        for (const { name, commit } of read(z.array(Branch), page)) heads.set(name, commit.sha)
      }
      return [...heads].map(([branch, commit]) => ({ branch, commit }))
    },
    lastMove: (branch) =>
      lacks.unlessLacking('activity', async () => {
        const asked = { ...at, ref: `refs/heads/${branch}`, per_page: 1 }
        const [newest] = read(z.array(Activity), await octokit.rest.repos.listActivities(asked))
        return newest && toMove(newest)
      }),
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
        // GitHub's own words say which rule of the branch is in the way.
        const why = `GitHub does not take ${commit} as a fast-forward of ${branch}: ${messageOf(err)}`
        return { kind: 'refused', why, ...(now === undefined ? {} : { at: now }) }
      }
    },
    branches: createBranches({
      name: 'GitHub',
      tip: branchTip,
      async make(branch, commit) {
        await octokit.rest.git.createRef({ ...at, ref: `refs/heads/${branch}`, sha: commit })
        return commit
      },
      drop: (branch) => octokit.rest.git.deleteRef({ ...at, ref: `heads/${branch}` }),
    }),
  }
}

function toMove({ before, after, timestamp, actor }: z.infer<typeof Activity>): Move {
  return {
    ...(isNoCommit(before) ? {} : { before }),
    ...(isNoCommit(after) ? {} : { after }),
    ...(actor ? { by: actor.login } : {}),
    at: Date.parse(timestamp),
  }
}
