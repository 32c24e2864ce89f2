import { z } from 'zod'
import { read } from '../answers.ts'
import type { Pushes } from '../types.ts'
import type { Connection } from './connect.ts'
import type { Lacks } from './lacks.ts'

const Activity = z.object({
  after: z.string(),
  actor: z.object({ login: z.string() }).nullish(),
})

/** A hundred moves of branches each. */
const MOST_PAGES = 10

export function createPushes({ octokit, at }: Connection, { unlessLacking }: Lacks): Pushes {
  return {
    async pushersOf(commits) {
      const wanted = new Set(commits)
      const found = new Set<string>()
      await unlessLacking('the activity of a repository', async () => {
        let pages = 0
        // Newest first.
        for await (const page of octokit.paginate.iterator(octokit.rest.repos.listActivities, {
          ...at,
          per_page: 100,
        })) {
          for (const { after, actor } of read(z.array(Activity), page)) {
            if (actor && wanted.has(after)) found.add(actor.login)
          }
          if (++pages >= MOST_PAGES) break
        }
      })
      return [...found].sort()
    },
  }
}
