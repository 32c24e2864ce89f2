import { z } from 'zod'
import { found, read } from '../answers.ts'
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
    branches: {
      async create(branch, commit) {
        try {
          read(Branch, await rest.send('POST', `${at}/repository/branches`, { branch, ref: commit }))
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
          await rest.send('DELETE', pathOf(branch))
        } catch (err) {
          if ((await branchTip(branch)) !== undefined) throw err
        }
      },
    },
  }
}
