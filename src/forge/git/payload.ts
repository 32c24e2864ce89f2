import { z } from 'zod'
import { NAME, type Parse, Ref, Sha, toPush } from '../incoming.ts'

/** What the post-receive hook of a plain repository sends, one ref a delivery. */
export const GitPush = z.object({
  repository: NAME,
  ref: Ref,
  before: Sha,
  after: Sha,
  /** As the host of the repository has it; authenticated by nobody but that host. */
  pusher: z.string().nullish(),
  author: z.string().nullish(),
  title: z.string().nullish(),
})
export type GitPush = z.infer<typeof GitPush>

const Envelope = z.object({ repository: NAME })

export const parseGit: Parse = (event, body) => {
  const envelope = Envelope.safeParse(body)
  if (!envelope.success) return { kind: 'refused', why: 'shape', message: 'the body names no repository' }
  const { repository: repo } = envelope.data
  if (event !== 'push') return { kind: 'ignored', repo, reason: `event "${event}" starts nothing` }
  const push = GitPush.safeParse(body)
  if (push.success) return toPush(repo, push.data, push.data)
  const fields = [...new Set(push.error.issues.map((issue) => issue.path.join('.')))]
  return { kind: 'refused', why: 'mismatch', repo, message: `payload is not a push: see ${fields.join(', ')}` }
}
