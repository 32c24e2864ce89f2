import { z } from 'zod'
import { found, read } from '../answers.ts'
import { cutBody, toText, Written, withMarker } from '../text.ts'
import type { Comments } from '../types.ts'
import type { Connection } from './connect.ts'

const IssueComment = Written.extend({
  user: z.object({ login: z.string() }).nullish(),
  issue_url: z.string().nullish(),
})

const MAX_BODY = 65_536

export function createComments({ octokit, at, login }: Connection): Comments {
  async function ours(pullRequest: number, marker: string) {
    const asked = { ...at, issue_number: pullRequest, per_page: 100 }
    const me = (await login()).toLowerCase()
    for await (const page of octokit.paginate.iterator(octokit.rest.issues.listComments, asked)) {
      // Anyone may copy the marker into a comment; what is not by our own account is not ours to change.
      const comment = read(z.array(IssueComment), page).find(
        (one) => one.user?.login.toLowerCase() === me && one.body?.endsWith(marker),
      )
      if (comment !== undefined) return comment
    }
    return undefined
  }

  return {
    async upsert(pullRequest, marker, text) {
      const { body, hidden } = withMarker(marker, text, MAX_BODY)
      const known = await ours(pullRequest, hidden)
      if (known === undefined) {
        const made = await octokit.rest.issues.createComment({ ...at, issue_number: pullRequest, body })
        return { id: String(read(IssueComment, made).id) }
      }
      if (known.body !== body) {
        read(IssueComment, await octokit.rest.issues.updateComment({ ...at, comment_id: known.id, body }))
      }
      return { id: String(known.id) }
    },
    async add(pullRequest, text) {
      const body = cutBody(text, MAX_BODY)
      const made = await octokit.rest.issues.createComment({ ...at, issue_number: pullRequest, body })
      return { id: String(read(IssueComment, made).id) }
    },
    async get(id) {
      const answer = await found(octokit.rest.issues.getComment({ ...at, comment_id: Number(id) }))
      if (answer === undefined) return undefined
      const { user, issue_url, ...comment } = read(IssueComment, answer)
      return {
        id,
        ...(user ? { by: user.login } : {}),
        pullRequest: Number(issue_url?.split('/').at(-1)),
        ...toText(comment),
      }
    },
  }
}
