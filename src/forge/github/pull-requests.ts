import { z } from 'zod'
import { found, isStatus, read } from '../answers.ts'
import { Pull, toPullRequestOf } from '../pull.ts'
import type { Labeled, PullRequest, PullRequests, Review } from '../types.ts'
import type { Connection } from './connect.ts'

const Login = z.object({ login: z.string() })
const PullReview = z.object({ user: Login.nullish(), state: z.string(), commit_id: z.string().nullish() })

const LabelEvent = z.object({
  id: z.int().positive(),
  event: z.string(),
  actor: Login.nullish(),
  label: z.object({ name: z.string() }).nullish(),
})

/** The words that stand until the same person says another; GitHub writes them in capitals. */
const STANDING: Readonly<Record<string, Review['state']>> = {
  APPROVED: 'approved',
  CHANGES_REQUESTED: 'changes_requested',
  DISMISSED: 'dismissed',
}

export function createPullRequests({ octokit, at }: Connection): PullRequests {
  const fullName = `${at.owner}/${at.repo}`

  const toPullRequest = (pull: Pull) => toPullRequestOf(fullName, pull)

  async function openFrom(head: string, base: string): Promise<Pull | undefined> {
    const asked = { ...at, state: 'open', head: `${at.owner}:${head}`, base } as const
    const pulls = read(z.array(Pull), await octokit.rest.pulls.list(asked))
    // Servers that do not know the filter give them all.
    return pulls.find((one) => one.head.ref === head && one.base.ref === base && !toPullRequest(one).fork)
  }

  return {
    async open({ base } = {}) {
      const pages = octokit.paginate.iterator(octokit.rest.pulls.list, {
        ...at,
        state: 'open',
        sort: 'created',
        direction: 'asc',
        per_page: 100,
        ...(base === undefined ? {} : { base }),
      })
      const all: PullRequest[] = []
      for await (const page of pages) all.push(...read(z.array(Pull), page).map(toPullRequest))
      return base === undefined ? all : all.filter((one) => one.base.branch === base)
    },
    async get(number) {
      const answer = await found(octokit.rest.pulls.get({ ...at, pull_number: number }))
      return answer && toPullRequest(read(Pull, answer))
    },
    async reviews(number) {
      const asked = { ...at, pull_number: number, per_page: 100 }
      const last = new Map<string, Review>()
      for await (const page of octokit.paginate.iterator(octokit.rest.pulls.listReviews, asked)) {
        // In the order in which they were given.
        for (const { user, state, commit_id } of read(z.array(PullReview), page)) {
          const standing = STANDING[state.toUpperCase()]
          if (!user || standing === undefined) continue
          last.set(user.login, { by: user.login, state: standing, ...(commit_id ? { commit: commit_id } : {}) })
        }
      }
      return [...last.values()]
    },
    async labeled(number, name) {
      const asked = { ...at, issue_number: number, per_page: 100 }
      let last: Labeled | undefined
      for await (const page of octokit.paginate.iterator(octokit.rest.issues.listEvents, asked)) {
        // Oldest first.
        for (const { id, event, actor, label } of read(z.array(LabelEvent), page)) {
          if (event === 'labeled' && label?.name === name && actor) last = { id: String(id), by: actor.login }
        }
      }
      return last
    },
    async put({ head, base, title, body }) {
      const open = await openFrom(head, base)
      if (open === undefined) {
        try {
          return toPullRequest(read(Pull, await octokit.rest.pulls.create({ ...at, head, base, title, body })))
        } catch (err) {
          // Opened by a call of ours whose answer was lost.
          const now = isStatus(err, 422) ? await openFrom(head, base) : undefined
          if (now === undefined) throw err
          return toPullRequest(now)
        }
      }
      if (open.title === title && (open.body ?? '') === body) return toPullRequest(open)
      const asked = { ...at, pull_number: open.number, title, body }
      return toPullRequest(read(Pull, await octokit.rest.pulls.update(asked)))
    },
    async close(number) {
      await octokit.rest.pulls.update({ ...at, pull_number: number, state: 'closed' })
    },
  }
}
