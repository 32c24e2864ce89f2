import { z } from 'zod'
import { found, isStatus, read } from '../answers.ts'
import { Pull, toPullRequestOf } from '../pull.ts'
import { ForgeAnswerUnusable, type Labeled, type PullRequest, type PullRequests, type Review } from '../types.ts'
import type { Connection } from './connect.ts'

const Login = z.object({ login: z.string() })
const PullReview = z.object({
  id: z.int(),
  user: Login.nullish(),
  state: z.string(),
  commit_id: z.string().nullish(),
  dismissed: z.boolean().nullish(),
})

/** Written in Go: what there is nothing of is `null`, a list that is empty, and an entry that could not be read, too. */
const Timeline = z
  .array(
    z
      .object({
        id: z.int().positive(),
        type: z.string(),
        user: Login.nullish(),
        body: z.string().nullish(),
        label: z.object({ name: z.string() }).nullish(),
      })
      .nullable(),
  )
  .nullish()
  .transform((entries) => (entries ?? []).filter((one) => one !== null))

const TIMELINE_PAGE = 50
/** So many in a row end a timeline: an answer leaves out comments on lines, and all of a page may have been such. */
const EMPTY_PAGES = 2
const MOST_PAGES = 500

/** The words that stand until the same person says another. */
const STANDING: Readonly<Record<string, Review['state']>> = {
  APPROVED: 'approved',
  REQUEST_CHANGES: 'changes_requested',
}

/** Where the API does not say whether it is a draft (before 1.21), the title does: Gitea has no other mark. */
const DRAFT = /^(?:wip:|\[wip\])/i

export function createPullRequests({ rest, at, repo: fullName }: Connection): PullRequests & {
  /** The one that is open from exactly this commit into `base`. */
  openAt(commit: string, base: string): Promise<number | undefined>
} {
  function toPullRequest(pull: Pull): PullRequest {
    return toPullRequestOf(fullName, { ...pull, draft: pull.draft ?? DRAFT.test(pull.title) })
  }

  async function* open(base?: string): AsyncGenerator<Pull> {
    const asked = { state: 'open', sort: 'oldest', base_branch: base }
    for await (const page of rest.pages(`${at}/pulls`, asked)) {
      // Servers that do not know the filter give them all.
      for (const pull of read(z.array(Pull), page)) if (base === undefined || pull.base.ref === base) yield pull
    }
  }

  /** Oldest first. What its answers say of the whole is said of their own page only, and so is no help. */
  async function* timeline(number: number): AsyncGenerator<z.infer<typeof Timeline>[number]> {
    const path = `${at}/issues/${number}/timeline`
    for (let page = 1, empty = 0; empty < EMPTY_PAGES; page++) {
      if (page > MOST_PAGES) throw new ForgeAnswerUnusable(`the list ${path} has no end`)
      const entries = read(Timeline, await rest.get(path, { page, limit: TIMELINE_PAGE }))
      empty = entries.length === 0 ? empty + 1 : 0
      yield* entries
    }
  }

  async function openFrom(head: string, base: string): Promise<Pull | undefined> {
    for await (const pull of open(base)) if (pull.head.ref === head && !toPullRequest(pull).fork) return pull
    return undefined
  }

  return {
    async open({ base } = {}) {
      const all: PullRequest[] = []
      for await (const pull of open(base)) all.push(toPullRequest(pull))
      return all
    },
    async get(number) {
      const answer = await found(rest.get(`${at}/pulls/${number}`))
      return answer && toPullRequest(read(Pull, answer))
    },
    async reviews(number) {
      const all: z.infer<typeof PullReview>[] = []
      for await (const page of rest.pages(`${at}/pulls/${number}/reviews`)) all.push(...read(z.array(PullReview), page))
      const last = new Map<string, Review>()
      for (const { user, state, commit_id, dismissed } of all.sort((one, other) => one.id - other.id)) {
        const said = STANDING[state]
        if (!user || said === undefined) continue
        const standing = dismissed ? 'dismissed' : said
        last.set(user.login, { by: user.login, state: standing, ...(commit_id ? { commit: commit_id } : {}) })
      }
      return [...last.values()]
    },
    async labeled(number, name) {
      let last: Labeled | undefined
      for await (const { id, type, user, body, label } of timeline(number)) {
        // `1`: put there. Nothing: taken away.
        if (type === 'label' && body === '1' && label?.name === name && user) last = { id: String(id), by: user.login }
      }
      return last
    },
    async put({ head, base, title, body }) {
      const known = await openFrom(head, base)
      if (known === undefined) {
        try {
          return toPullRequest(read(Pull, await rest.send('POST', `${at}/pulls`, { head, base, title, body })))
        } catch (err) {
          // Opened by a call of ours whose answer was lost.
          const now = isStatus(err, 409, 422) ? await openFrom(head, base) : undefined
          if (now === undefined) throw err
          return toPullRequest(now)
        }
      }
      if (known.title === title && (known.body ?? '') === body) return toPullRequest(known)
      return toPullRequest(read(Pull, await rest.send('PATCH', `${at}/pulls/${known.number}`, { title, body })))
    },
    async close(number) {
      await rest.send('PATCH', `${at}/pulls/${number}`, { state: 'closed' })
    },
    async openAt(commit, base) {
      for await (const pull of open(base)) if (pull.head.sha === commit) return pull.number
      return undefined
    },
  }
}
