import { z } from 'zod'
import { found, read } from '../answers.ts'
import { createBranches } from '../branches.ts'
import type { Branches, Forge } from '../types.ts'
import type { Connection } from './connect.ts'

const Branch = z.object({ commit: z.object({ id: z.string() }) })

export function createRefs({ rest, at }: Connection): Pick<Forge, 'branchTip'> & { readonly branches: Branches } {
  const pathOf = (branch: string) => `${at}/repository/branches/${encodeURIComponent(branch)}`

  async function branchTip(branch: string): Promise<string | undefined> {
    const answer = await found(rest.get(pathOf(branch)))
    return answer && read(Branch, answer).commit.id
  }

  return {
    branchTip,
    branches: createBranches({
      name: 'GitLab',
      tip: branchTip,
      async make(branch, commit) {
        const asked = { branch, ref: commit }
        return read(Branch, await rest.send('POST', `${at}/repository/branches`, asked)).commit.id
      },
      drop: (branch) => rest.send('DELETE', pathOf(branch)),
    }),
  }
}
