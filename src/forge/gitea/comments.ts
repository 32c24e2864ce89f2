import { z } from 'zod'
import { found, read } from '../answers.ts'
import { cutBody, toText, Written, withMarker } from '../text.ts'
import type { Comments } from '../types.ts'
import type { Connection } from './connect.ts'

const IssueComment = Written.extend({
  user: z.object({ login: z.string() }).nullish(),
  pull_request_url: z.string().nullish(),
})

/** Gitea has no limit of its own; the text lies in a column of this many bytes on one of its databases. */
const MAX_BODY = 65_535

export function createComments({ rest, at, login }: Connection): Comments {
  async function ours(pullRequest: number, hidden: string) {
    const me = (await login()).toLowerCase()
    // All in one answer: this list has no pages.
    const all = read(z.array(IssueComment), await rest.get(`${at}/issues/${pullRequest}/comments`))
    // Anyone may copy the marker into a comment; what is not by our own account is not ours to change.
    return all.find((one) => one.user?.login.toLowerCase() === me && one.body?.endsWith(hidden))
  }

  async function add(pullRequest: number, body: string) {
    const made = await rest.send('POST', `${at}/issues/${pullRequest}/comments`, { body })
    return { id: String(read(IssueComment, made).id) }
  }

  return {
    async upsert(pullRequest, marker, text) {
      const { body, hidden } = withMarker(marker, text, MAX_BODY)
      const known = await ours(pullRequest, hidden)
      if (known === undefined) return add(pullRequest, body)
      if (known.body !== body) {
        read(IssueComment, await rest.send('PATCH', `${at}/issues/comments/${known.id}`, { body }))
      }
      return { id: String(known.id) }
    },
    add: (pullRequest, text) => add(pullRequest, cutBody(text, MAX_BODY)),
    async get(id) {
      const answer = await found(rest.get(`${at}/issues/comments/${encodeURIComponent(id)}`))
      // 204: an entry that is no comment.
      if (answer?.data === undefined) return undefined
      const { user, pull_request_url, ...comment } = read(IssueComment, answer)
      return {
        id,
        ...(user ? { by: user.login } : {}),
        pullRequest: Number(pull_request_url?.split('/').at(-1)),
        ...toText(comment),
      }
    },
  }
}
