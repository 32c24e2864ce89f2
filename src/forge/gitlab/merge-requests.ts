import { z } from 'zod'
import { found, isStatus, read } from '../answers.ts'
import type { PullRequest, PullRequests, Review } from '../types.ts'
import { type Connection, User } from './connect.ts'

const MergeRequest = z.object({
  iid: z.int().positive(),
  state: z.string(),
  draft: z.boolean().nullish(),
  title: z.string(),
  description: z.string().nullish(),
  author: User.nullish(),
  labels: z.array(z.string()).nullish(),
  /** The head; null where the branch is gone. */
  sha: z.string().nullish(),
  source_branch: z.string(),
  target_branch: z.string(),
  source_project_id: z.int().nullish(),
  target_project_id: z.int(),
  web_url: z.string().nullish(),
})
type MergeRequest = z.infer<typeof MergeRequest>

const Project = z.object({ path_with_namespace: z.string() })
const Branch = z.object({ commit: z.object({ id: z.string() }) })
const Approvals = z.object({ approved_by: z.array(z.object({ user: User, approved_at: z.string().nullish() })) })
const Reviewer = z.object({ user: User, state: z.string().nullish() })
const LabelEvent = z.object({
  id: z.int().positive(),
  action: z.string(),
  user: User.nullish(),
  label: z.object({ name: z.string() }).nullish(),
})
/** What the head was, and since when. */
const Version = z.object({ head_commit_sha: z.string(), created_at: z.string() })

export function createMergeRequests({ rest, at, repo: fullName }: Connection): PullRequests {
  const list = `${at}/merge_requests`

  /** By id, because a merge request names projects so. None: it is gone, or nothing that we may see. */
  async function nameOf(project: number | null | undefined, target: number): Promise<string | undefined> {
    if (project == null) return undefined
    if (project === target) return fullName
    try {
      const answer = await found(rest.get(`/projects/${project}`))
      return answer && read(Project, answer).path_with_namespace
    } catch (err) {
      if (isStatus(err, 403)) return undefined
      throw err
    }
  }

  async function tipOf(branch: string): Promise<string> {
    const answer = await found(rest.get(`${at}/repository/branches/${encodeURIComponent(branch)}`))
    return answer === undefined ? '' : read(Branch, answer).commit.id
  }

  async function toPullRequest(merge: MergeRequest, base: string): Promise<PullRequest> {
    const repo = await nameOf(merge.source_project_id, merge.target_project_id)
    return {
      number: merge.iid,
      // `locked`: just being merged.
      state: merge.state === 'opened' ? 'open' : 'closed',
      merged: merge.state === 'merged',
      draft: merge.draft ?? false,
      title: merge.title,
      ...(merge.author ? { author: merge.author.username } : {}),
      labels: merge.labels ?? [],
      head: { commit: merge.sha ?? '', branch: merge.source_branch, ...(repo === undefined ? {} : { repo }) },
      base: { branch: merge.target_branch, commit: base },
      fork: merge.source_project_id !== merge.target_project_id,
      url: merge.web_url ?? '',
    }
  }

  async function one(merge: MergeRequest): Promise<PullRequest> {
    return toPullRequest(merge, await tipOf(merge.target_branch))
  }

  async function open(filter: Readonly<Record<string, string | undefined>>): Promise<readonly MergeRequest[]> {
    const asked = { state: 'opened', order_by: 'created_at', sort: 'asc', ...filter }
    const all: MergeRequest[] = []
    for await (const page of rest.pages(list, asked)) all.push(...read(z.array(MergeRequest), page))
    return all
  }

  async function openFrom(head: string, base: string): Promise<MergeRequest | undefined> {
    const all = await open({ source_branch: head, target_branch: base })
    return all.find((merge) => merge.source_project_id === merge.target_project_id)
  }

  /**
   * What the head was when somebody approved: GitLab keeps approvals over pushes unless it is told not to. One that came at
   * the same moment had not been seen.
   */
  async function headAt(number: number): Promise<(time: string | null | undefined) => string | undefined> {
    const all: z.infer<typeof Version>[] = []
    for await (const page of rest.pages(`${list}/${number}/versions`)) all.push(...read(z.array(Version), page))
    const newestFirst = all.sort((one, other) => Date.parse(other.created_at) - Date.parse(one.created_at))
    return (time) =>
      time == null
        ? undefined
        : newestFirst.find(({ created_at }) => Date.parse(created_at) < Date.parse(time))?.head_commit_sha
  }

  return {
    async open({ base } = {}) {
      const tips = new Map<string, string>()
      const pulls: PullRequest[] = []
      for (const merge of await open({ target_branch: base })) {
        const target = merge.target_branch
        if (!tips.has(target)) tips.set(target, await tipOf(target))
        pulls.push(await toPullRequest(merge, tips.get(target) ?? ''))
      }
      return pulls
    },
    async get(number) {
      const answer = await found(rest.get(`${list}/${number}`))
      return answer && one(read(MergeRequest, answer))
    },
    async reviews(number) {
      const { approved_by } = read(Approvals, await rest.get(`${list}/${number}/approvals`))
      const reviewers = read(z.array(Reviewer), await rest.get(`${list}/${number}/reviewers`))
      const commitAt = await headAt(number)
      const approved = approved_by.map(({ user, approved_at }): Review => {
        const commit = commitAt(approved_at)
        return { by: user.username, state: 'approved', ...(commit === undefined ? {} : { commit }) }
      })
      const others = reviewers.filter(({ user }) => !approved.some(({ by }) => by === user.username))
      const wanting = others
        .filter(({ state }) => state === 'requested_changes')
        .map(({ user }): Review => ({ by: user.username, state: 'changes_requested' }))
      return [...approved, ...wanting]
    },
    async labeled(number, name) {
      let last: { readonly id: number; readonly by: string } | undefined
      for await (const page of rest.pages(`${list}/${number}/resource_label_events`)) {
        // Their order is not promised; ids grow.
        for (const { id, action, user, label } of read(z.array(LabelEvent), page)) {
          const isThat = action === 'add' && label?.name === name
          if (isThat && user && id > (last?.id ?? 0)) last = { id, by: user.username }
        }
      }
      return last && { id: String(last.id), by: last.by }
    },
    async put({ head, base, title, body }) {
      const known = await openFrom(head, base)
      if (known === undefined) {
        const asked = { source_branch: head, target_branch: base, title, description: body }
        try {
          return await one(read(MergeRequest, await rest.send('POST', list, asked)))
        } catch (err) {
          // Opened by a call of ours whose answer was lost.
          const now = isStatus(err, 409) ? await openFrom(head, base) : undefined
          if (now === undefined) throw err
          return one(now)
        }
      }
      if (known.title === title && (known.description ?? '') === body) return one(known)
      return one(read(MergeRequest, await rest.send('PUT', `${list}/${known.iid}`, { title, description: body })))
    },
    async close(number) {
      await rest.send('PUT', `${list}/${number}`, { state_event: 'close' })
    },
  }
}
