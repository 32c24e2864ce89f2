import { z } from 'zod'
import { ignored, NEEDS_API, withShape } from '../github/payload.ts'
import { type Incoming, NAME, type Parse, Ref, Sha, toName, toPush, toTitle } from '../incoming.ts'

const Project = z.object({ path_with_namespace: NAME })
const Envelope = z.object({ project: Project.optional() })
const User = z.object({ username: z.string().nullish() })

const Push = z.object({
  ref: Ref,
  before: Sha,
  after: Sha,
  user_username: z.string().nullish(),
  user_name: z.string().nullish(),
  commits: z
    .array(
      z.object({
        id: z.string(),
        message: z.string().nullish(),
        author: z.object({ name: z.string().nullish(), email: z.string().nullish() }).nullish(),
      }),
    )
    .nullish(),
})

const MergeRequest = z.object({
  user: User.nullish(),
  object_attributes: z.object({
    iid: z.int().positive(),
    action: z.string().max(100).nullish(),
    /** The head before, where there is a new one. */
    oldrev: z.string().nullish(),
    title: z.string().nullish(),
    target_branch: z.string().min(1).max(1024),
    source_project_id: z.int().nullish(),
    target_project_id: z.int().nullish(),
    last_commit: z.object({ id: Sha }).nullish(),
  }),
})
type MergeRequest = z.infer<typeof MergeRequest>

const Note = z.object({
  object_attributes: z.object({
    id: z.int().positive(),
    noteable_type: z.string(),
    /** Older versions tell of new ones only, and do not say so. */
    action: z.string().nullish(),
    system: z.boolean().nullish(),
  }),
  merge_request: z.object({ iid: z.int().positive() }).nullish(),
})

const REVIEWED = new Set(['approved', 'unapproved', 'approval', 'unapproval'])

/** GitLab names its events for people: `Push Hook`, `Merge Request Hook`. */
export const parseGitlab: Parse = (event, body) => {
  const envelope = Envelope.safeParse(body)
  if (!envelope.success) return { kind: 'refused', why: 'shape', message: 'the body is not a payload of GitLab' }
  const repo = envelope.data.project?.path_with_namespace
  switch (event) {
    case 'Push Hook':
      return withShape(Push, event, body, repo, fromPush)
    case 'Merge Request Hook':
      return withShape(MergeRequest, event, body, repo, fromMergeRequest)
    case 'Note Hook':
      return withShape(Note, event, body, repo, fromNote)
    default:
      return ignored(repo, `event "${event}" starts nothing`)
  }
}

function fromPush(push: z.infer<typeof Push>, repo: string): Incoming {
  // At most the last twenty are there.
  const head = push.commits?.find((one) => one.id === push.after)
  const { name, email } = head?.author ?? {}
  const author = [name, email ? `<${email}>` : ''].filter(Boolean).join(' ')
  return toPush(repo, { ...push, title: head?.message }, { author, pusher: push.user_username ?? push.user_name })
}

function fromMergeRequest(payload: MergeRequest, repo: string): Incoming {
  const { iid: number, action } = payload.object_attributes
  if (action != null && REVIEWED.has(action)) {
    const notice = { kind: 'review', pullRequest: number } as const
    return { kind: 'notice', repo, notice, otherwise: ignored(repo, `approvals: ${NEEDS_API}`) }
  }
  return { kind: 'notice', repo, notice: { kind: 'pull_request', number }, otherwise: triggerOf(payload, repo) }
}

function triggerOf({ user, object_attributes: merge }: MergeRequest, repo: string): Incoming {
  const { iid: number, action, last_commit: head } = merge
  const isNew = action === 'open' || action === 'reopen' || (action === 'update' && merge.oldrev != null)
  if (!isNew || !head) return ignored(repo, `merge request ${number}: "${action ?? ''}" brings no new commit`)
  // Also where one of them is not said: code of somebody without write access must not run by itself.
  if (merge.source_project_id == null || merge.source_project_id !== merge.target_project_id) {
    return ignored(repo, `merge request ${number} comes from a fork; only branches of ${repo} are run`)
  }
  const by = user?.username
  return {
    kind: 'trigger',
    trigger: {
      kind: 'pull_request',
      repo,
      requestedBy: by ?? 'merge request',
      change: {
        commit: head.id,
        ref: `refs/pull/${number}/head`,
        ...toTitle(merge.title),
        ...toName('pusher', by),
        pullRequest: { number, base: merge.target_branch },
      },
    },
  }
}

function fromNote({ object_attributes: note, merge_request: merge }: z.infer<typeof Note>, repo: string): Incoming {
  if (note.noteable_type !== 'MergeRequest' || !merge)
    return ignored(repo, 'a comment on no merge request starts nothing')
  if (note.system) return ignored(repo, 'what GitLab itself writes starts nothing')
  // What was said once and changed later was not said by those who read it.
  if ((note.action ?? 'create') !== 'create') return ignored(repo, `a comment after "${note.action}" starts nothing`)
  const notice = { kind: 'comment', pullRequest: merge.iid, comment: commentId(merge.iid, note.id) } as const
  return { kind: 'notice', repo, notice, otherwise: ignored(repo, `a comment: ${NEEDS_API}`) }
}

/** GitLab finds a comment only by its merge request. */
export function commentId(mergeRequest: number, note: number): string {
  return `${mergeRequest}-${note}`
}
