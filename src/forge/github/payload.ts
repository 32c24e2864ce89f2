import { z } from 'zod'
import { type Incoming, NAME, type Parse, Ref, Sha, toName, toPush, toTitle } from '../incoming.ts'

const Repository = z.object({ full_name: NAME })
const Envelope = z.object({
  repository: Repository.optional(),
  zen: z.string().optional(),
  action: z.string().optional(),
})

const Author = z.object({
  name: z.string().nullish(),
  email: z.string().nullish(),
  username: z.string().nullish(),
})

export const Push = z.object({
  ref: Ref,
  before: Sha,
  after: Sha,
  repository: Repository,
  head_commit: z.object({ message: z.string().nullish(), author: Author.nullish() }).nullish(),
  pusher: z.object({ name: z.string().nullish() }).nullish(),
  sender: z.object({ login: z.string() }).nullish(),
})
export type Push = z.infer<typeof Push>

const Side = z.object({ sha: Sha, ref: z.string().min(1).max(1024), repo: z.object({ full_name: NAME }).nullish() })

export const PullRequest = z.object({
  action: z.string().min(1).max(100),
  number: z.int().positive(),
  repository: Repository,
  pull_request: z.object({
    title: z.string().nullish(),
    user: z.object({ login: z.string() }).nullish(),
    head: Side,
    base: Side,
  }),
  sender: z.object({ login: z.string() }).nullish(),
})
export type PullRequest = z.infer<typeof PullRequest>

/** After these the head of a pull request is one that has not been tested. */
const ACTIONS_WITH_NEW_HEAD = new Set(['opened', 'reopened', 'synchronize', 'ready_for_review'])

export const parseGithub: Parse = (event, body) => {
  const envelope = Envelope.safeParse(body)
  if (!envelope.success) return { kind: 'refused', why: 'shape', message: 'the body is not a payload of GitHub' }
  const repo = envelope.data.repository?.full_name
  switch (event) {
    case 'ping':
      return ignored(repo, 'ping')
    case 'push':
      return withShape(Push, event, body, repo, fromPush)
    case 'pull_request':
      return withShape(PullRequest, event, body, repo, fromPullRequest)
    default:
      return ignored(repo, `event "${event}" starts nothing`)
  }
}

function withShape<T>(
  schema: z.ZodType<T>,
  event: string,
  body: unknown,
  repo: string | undefined,
  then: (payload: T) => Incoming,
): Incoming {
  if (repo === undefined) return { kind: 'refused', why: 'shape', message: 'the payload names no repository' }
  const parsed = schema.safeParse(body)
  if (parsed.success) return then(parsed.data)
  const fields = [...new Set(parsed.error.issues.map((issue) => issue.path.join('.')))].slice(0, 10)
  return { kind: 'refused', why: 'mismatch', repo, message: `payload is not a ${event}: see ${fields.join(', ')}` }
}

function ignored(repo: string | undefined, reason: string): Incoming {
  return { kind: 'ignored', reason, ...(repo === undefined ? {} : { repo }) }
}

function fromPush(push: Push): Incoming {
  const author = push.head_commit?.author
  const written = [author?.name, author?.email ? `<${author.email}>` : ''].filter(Boolean).join(' ')
  return toPush(
    push.repository.full_name,
    { ...push, title: push.head_commit?.message },
    // The sender is whom GitHub has authenticated; name and address of an author can be typed by anyone.
    { author: author?.username || written, pusher: push.sender?.login ?? push.pusher?.name },
  )
}

function fromPullRequest(payload: PullRequest): Incoming {
  const { action, number, pull_request: pull, repository, sender } = payload
  const repo = repository.full_name
  if (!ACTIONS_WITH_NEW_HEAD.has(action))
    return ignored(repo, `pull request ${number}: "${action}" brings no new commit`)
  if (pull.head.repo?.full_name.toLowerCase() !== repo.toLowerCase()) {
    // Code of somebody without write access must not run beside secrets and pools by itself.
    return ignored(repo, `pull request ${number} comes from a fork; only branches of ${repo} are run`)
  }
  return {
    kind: 'trigger',
    trigger: {
      kind: 'pull_request',
      repo,
      requestedBy: sender?.login ?? 'pull request',
      change: {
        commit: pull.head.sha,
        // Not the branch: a pull request from the candidate branch is no push to it.
        ref: `refs/pull/${number}/head`,
        before: pull.base.sha,
        ...toTitle(pull.title),
        ...toName('author', pull.user?.login),
        ...toName('pusher', sender?.login),
        pullRequest: { number, base: pull.base.ref },
      },
    },
  }
}
