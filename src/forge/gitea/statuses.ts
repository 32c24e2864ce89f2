import { z } from 'zod'
import { read } from '../answers.ts'
import { type Row, standing } from '../standing.ts'
import { cutTo } from '../text.ts'
import { type CommitStatus, ForgeAnswerUnusable, type Statuses, type StatusState } from '../types.ts'
import type { Connection } from './connect.ts'

const Status = z.object({
  id: z.int(),
  status: z.string(),
  context: z.string(),
  description: z.string().nullish(),
  target_url: z.string().nullish(),
})

/** Of others' statuses: a warning is none that one may merge on, and what was skipped is none to wait for. */
const STATES: Readonly<Record<string, StatusState>> = {
  pending: 'pending',
  success: 'success',
  failure: 'failure',
  error: 'error',
  warning: 'failure',
  skipped: 'success',
}

/** What Gitea shows in one line, as GitHub does. */
const MAX_DESCRIPTION = 140

export function createStatuses({ rest, at }: Connection): Statuses {
  async function of(commit: string): Promise<readonly CommitStatus[]> {
    const all: Row[] = []
    for await (const page of rest.pages(`${at}/commits/${commit}/statuses`)) all.push(...read(z.array(Status), page))
    return standing(commit, all, STATES)
  }

  return {
    of,
    async set({ commit, context, state, description, url }) {
      const answer = await rest.send('POST', `${at}/statuses/${commit}`, {
        context,
        state,
        description: cutTo(MAX_DESCRIPTION, description),
        ...(url === undefined ? {} : { target_url: url }),
      })
      const taken = Status.safeParse(answer.data).data
      if (taken?.status === state && taken.context === context) return
      throw new ForgeAnswerUnusable(`the answer does not say that ${context} of ${commit} was taken`)
    },
  }
}
