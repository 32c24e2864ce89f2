import { z } from 'zod'
import {
  aboutPullRequest,
  fromPullRequest,
  fromPush,
  ignored,
  NEEDS_API,
  PullRequest,
  Push,
  withShape,
} from '../github/payload.ts'
import { type Incoming, NAME, type Parse } from '../incoming.ts'

const Envelope = z.object({ repository: z.object({ full_name: NAME }).optional() })

const IssueComment = z.object({
  action: z.string(),
  issue: z.object({ number: z.int().positive() }),
  comment: z.object({ id: z.int().positive() }),
  is_pull: z.boolean().nullish(),
})

/** Gitea and Forgejo. Their payloads are shaped as GitHub's are, under other names of events. */
export const parseGitea: Parse = (event, body) => {
  const envelope = Envelope.safeParse(body)
  if (!envelope.success) return { kind: 'refused', why: 'shape', message: 'the body is not a payload of Gitea' }
  const repo = envelope.data.repository?.full_name
  switch (event) {
    case 'push':
      return withShape(Push, event, body, repo, fromPush)
    case 'pull_request':
      return aboutPullRequest(body, repo, 'pull_request', () =>
        withShape(PullRequest, event, body, repo, fromPullRequest),
      )
    // A review; the last of them is one with comments only.
    case 'pull_request_approved':
    case 'pull_request_rejected':
    case 'pull_request_comment':
      return aboutPullRequest(body, repo, 'review', () => ignored(repo, 'reviews are asked for by API'))
    case 'issue_comment':
      return withShape(IssueComment, event, body, repo, fromComment)
    default:
      return ignored(repo, `event "${event}" starts nothing`)
  }
}

function fromComment({ action, issue, comment, is_pull }: z.infer<typeof IssueComment>, repo: string): Incoming {
  if (!is_pull) return ignored(repo, 'a comment on an issue starts nothing')
  // What was said once and changed later was not said by those who read it.
  if (action !== 'created') return ignored(repo, `a comment that was ${action} starts nothing`)
  const notice = { kind: 'comment', pullRequest: issue.number, comment: String(comment.id) } as const
  return { kind: 'notice', repo, notice, otherwise: ignored(repo, `a comment: ${NEEDS_API}`) }
}
