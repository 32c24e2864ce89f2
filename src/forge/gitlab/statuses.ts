import { z } from 'zod'
import { isStatus, read } from '../answers.ts'
import { type Row, standing } from '../standing.ts'
import { cutTo } from '../text.ts'
import { type CommitStatus, ForgeAnswerUnusable, type Statuses, type StatusState } from '../types.ts'
import type { Connection } from './connect.ts'

const Status = z.object({
  id: z.int(),
  status: z.string(),
  name: z.string(),
  description: z.string().nullish(),
  target_url: z.string().nullish(),
})

/** GitLab has jobs, and knows no error beside a failure. */
const WRITTEN: Readonly<Record<StatusState, string>> = {
  pending: 'pending',
  success: 'success',
  failure: 'failed',
  error: 'failed',
}

/** Of its own pipelines, too: what waits for a person or for its time is not there yet. */
const STATES: Readonly<Record<string, StatusState>> = {
  created: 'pending',
  waiting_for_resource: 'pending',
  preparing: 'pending',
  pending: 'pending',
  running: 'pending',
  manual: 'pending',
  scheduled: 'pending',
  success: 'success',
  skipped: 'success',
  failed: 'failure',
  canceled: 'error',
}

const MAX_DESCRIPTION = 255

export function createStatuses({ rest, at }: Connection): Statuses {
  async function of(commit: string): Promise<readonly CommitStatus[]> {
    // One for each ref that the commit is on.
    const all: Row[] = []
    for await (const page of rest.pages(`${at}/repository/commits/${commit}/statuses`))
      all.push(...read(z.array(Status), page).map((one) => ({ ...one, context: one.name })))
    return standing(commit, all, STATES)
  }

  return {
    of,
    // Of a status that waits the first words stay.
    isShownAs: (wanted, there) =>
      WRITTEN[wanted.state] === WRITTEN[there.state] &&
      (wanted.state === 'pending' || cutTo(MAX_DESCRIPTION, wanted.description) === there.description),
    async set({ commit, context, state, description, url }) {
      const wanted = WRITTEN[state]
      try {
        const answer = await rest.send('POST', `${at}/statuses/${commit}`, {
          name: context,
          state: wanted,
          description: cutTo(MAX_DESCRIPTION, description),
          ...(url === undefined ? {} : { target_url: url }),
        })
        const taken = Status.safeParse(answer.data).data
        if (taken?.status === wanted && taken.name === context) return
        throw new ForgeAnswerUnusable(`the answer does not say that ${context} of ${commit} was taken`)
      } catch (err) {
        // What is pending cannot become pending again, not even with other words: the state is what counts.
        if (!isStatus(err, 400)) throw err
        const stands = (await of(commit)).find((one) => one.context === context)
        if (stands === undefined || WRITTEN[stands.state] !== wanted) throw err
      }
    },
  }
}
