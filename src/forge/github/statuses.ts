import { z } from 'zod'
import { read } from '../answers.ts'
import type { CommitStatus, Statuses } from '../types.ts'
import { ForgeAnswerUnusable } from '../types.ts'
import type { Connection } from './connect.ts'

const Status = z.object({
  state: z.enum(['pending', 'success', 'failure', 'error']),
  context: z.string(),
  description: z.string().nullish(),
  target_url: z.string().nullish(),
})
const Taken = Status.pick({ state: true }).extend({ context: z.string().nullish() })

/** GitHub cuts nothing: a longer description is refused. */
const MAX_DESCRIPTION = 140

export function createStatuses({ octokit, at }: Connection): Statuses {
  async function of(commit: string): Promise<readonly CommitStatus[]> {
    const asked = { ...at, ref: commit, per_page: 100 }
    const standing = new Map<string, CommitStatus>()
    for await (const page of octokit.paginate.iterator(octokit.rest.repos.listCommitStatusesForRef, asked)) {
      // Newest first.
      for (const { state, context, description, target_url } of read(z.array(Status), page)) {
        if (standing.has(context)) continue
        const url = target_url ? { url: target_url } : {}
        standing.set(context, { commit, context, state, description: description ?? '', ...url })
      }
    }
    return [...standing.values()]
  }

  return {
    of,
    async set({ commit, context, state, description, url }) {
      const characters = [...description]
      const short =
        characters.length > MAX_DESCRIPTION ? `${characters.slice(0, MAX_DESCRIPTION - 1).join('')}…` : description
      const { data } = await octokit.rest.repos.createCommitStatus({
        ...at,
        sha: commit,
        context,
        state,
        description: short,
        ...(url === undefined ? {} : { target_url: url }),
      })
      const taken = Taken.safeParse(data).data
      if (taken?.state === state && (taken.context ?? context) === context) return
      // A page of somebody's proxy, or a server that answers with less: what stands tells.
      const stands = (await of(commit)).find((one) => one.context === context)
      if (stands?.state === state && stands.description === short) return
      throw new ForgeAnswerUnusable(`the answer does not say that ${context} of ${commit} was taken`)
    },
  }
}
