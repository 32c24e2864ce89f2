import { z } from 'zod'
import { isPromotionBranch } from '../../core/ids.ts'
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
  // Seconds, in pushes. Other servers write a date, or leave it out.
  repository: Repository.extend({ pushed_at: z.union([z.int().nonnegative(), z.string()]).nullish().catch(undefined) }),
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

const Numbered = z.object({ number: z.int().positive() })
const Login = z.object({ login: NAME })

/** How each of these is looked at again: the payload tells where. */
const AboutPullRequest = z.object({ pull_request: Numbered })
const IssueComment = z.object({
  action: z.string(),
  issue: z.object({ number: z.int().positive(), pull_request: z.object({}).nullish() }),
  comment: z.object({ id: z.int().positive() }),
})
const CheckRun = z.object({
  action: z.string(),
  check_run: z.object({ head_sha: Sha, external_id: z.string().max(500).nullish() }),
  requested_action: z.object({ identifier: z.string() }).nullish(),
  sender: Login,
})
const CheckSuite = z.object({ action: z.string(), check_suite: z.object({ head_sha: Sha }), sender: Login })
const MergeGroup = z.object({
  action: z.string(),
  merge_group: z.object({ head_sha: Sha, head_ref: Ref, base_ref: Ref }),
})

/** After these the head of a pull request is one that has not been tested; `synchronized` is Gitea's word. */
const ACTIONS_WITH_NEW_HEAD = new Set(['opened', 'reopened', 'synchronize', 'synchronized', 'ready_for_review'])

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
      return aboutPullRequest(body, repo, 'pull_request', () =>
        withShape(PullRequest, event, body, repo, fromPullRequest),
      )
    case 'pull_request_review':
      return aboutPullRequest(body, repo, 'review', () => ignored(repo, 'reviews are asked for by API'))
    case 'issue_comment':
      return withShape(IssueComment, event, body, repo, fromComment)
    case 'check_run':
      return withShape(CheckRun, event, body, repo, fromCheckRun)
    case 'check_suite':
      return withShape(CheckSuite, event, body, repo, fromCheckSuite)
    case 'merge_group':
      return withShape(MergeGroup, event, body, repo, fromMergeGroup)
    default:
      return ignored(repo, `event "${event}" starts nothing`)
  }
}

export function withShape<T>(
  schema: z.ZodType<T>,
  event: string,
  body: unknown,
  repo: string | undefined,
  then: (payload: T, repo: string) => Incoming,
): Incoming {
  if (repo === undefined) return { kind: 'refused', why: 'shape', message: 'the payload names no repository' }
  const parsed = schema.safeParse(body)
  if (parsed.success) return then(parsed.data, repo)
  const fields = [...new Set(parsed.error.issues.map((issue) => issue.path.join('.')))].slice(0, 10)
  return { kind: 'refused', why: 'mismatch', repo, message: `payload is not a ${event}: see ${fields.join(', ')}` }
}

export function ignored(repo: string | undefined, reason: string): Incoming {
  return { kind: 'ignored', reason, ...(repo === undefined ? {} : { repo }) }
}

/** Only the number is needed where the forge can be asked. */
export function aboutPullRequest(
  body: unknown,
  repo: string | undefined,
  kind: 'pull_request' | 'review',
  read: () => Incoming,
): Incoming {
  const named = AboutPullRequest.safeParse(body)
  const number = named.success ? named.data.pull_request.number : Numbered.safeParse(body).data?.number
  if (repo === undefined || number === undefined) return read()
  const notice = kind === 'review' ? { kind, pullRequest: number } : { kind, number }
  return { kind: 'notice', repo, notice, otherwise: read() }
}

export const NEEDS_API = 'it takes access to the API to answer it'

function fromComment({ action, issue, comment }: z.infer<typeof IssueComment>, repo: string): Incoming {
  if (!issue.pull_request) return ignored(repo, 'a comment on an issue starts nothing')
  // What was said once and changed later was not said by those who read it.
  if (action !== 'created') return ignored(repo, `a comment that was ${action} starts nothing`)
  const notice = { kind: 'comment', pullRequest: issue.number, comment: String(comment.id) } as const
  return { kind: 'notice', repo, notice, otherwise: ignored(repo, `a comment: ${NEEDS_API}`) }
}

function fromCheckRun(
  { action, check_run, requested_action, sender }: z.infer<typeof CheckRun>,
  repo: string,
): Incoming {
  const isOurs = action === 'rerequested' || (action === 'requested_action' && requested_action?.identifier === 'retry')
  if (!isOurs) return ignored(repo, `check_run "${action}" starts nothing`)
  const identity = check_run.external_id ? { identity: check_run.external_id } : {}
  const notice = { kind: 'rerun', commit: check_run.head_sha, ...identity, by: sender.login } as const
  return { kind: 'notice', repo, notice, otherwise: ignored(repo, `a button: ${NEEDS_API}`) }
}

function fromCheckSuite({ action, check_suite, sender }: z.infer<typeof CheckSuite>, repo: string): Incoming {
  if (action !== 'rerequested') return ignored(repo, `check_suite "${action}" starts nothing`)
  const notice = { kind: 'rerun', commit: check_suite.head_sha, by: sender.login } as const
  return { kind: 'notice', repo, notice, otherwise: ignored(repo, `a button: ${NEEDS_API}`) }
}

function fromMergeGroup({ action, merge_group }: z.infer<typeof MergeGroup>, repo: string): Incoming {
  if (action !== 'checks_requested') return ignored(repo, `merge_group "${action}" starts nothing`)
  const { head_sha: commit, head_ref: ref, base_ref: base } = merge_group
  const notice = { kind: 'merge_group', commit, ref, base } as const
  return { kind: 'notice', repo, notice, otherwise: ignored(repo, `a merge queue: ${NEEDS_API}`) }
}

export function fromPush(push: Push): Incoming {
  const author = push.head_commit?.author
  const written = [author?.name, author?.email ? `<${author.email}>` : ''].filter(Boolean).join(' ')
  return toPush(
    push.repository.full_name,
    { ...push, title: push.head_commit?.message, at: toTime(push.repository.pushed_at) },
    // The sender is whom GitHub has authenticated; name and address of an author can be typed by anyone.
    { author: author?.username || written, pusher: push.sender?.login ?? push.pusher?.name },
  )
}

function toTime(said: number | string | null | undefined): number | undefined {
  const at = typeof said === 'number' ? said * 1000 : Date.parse(said ?? '')
  return Number.isFinite(at) ? at : undefined
}

export function fromPullRequest(payload: PullRequest): Incoming {
  const { action, number, pull_request: pull, repository, sender } = payload
  const repo = repository.full_name
  if (!ACTIONS_WITH_NEW_HEAD.has(action))
    return ignored(repo, `pull request ${number}: "${action}" brings no new commit`)
  if (pull.head.repo?.full_name.toLowerCase() !== repo.toLowerCase()) {
    // Code of somebody without write access must not run beside secrets and pools by itself.
    return ignored(repo, `pull request ${number} comes from a fork; only branches of ${repo} are run`)
  }
  if (isPromotionBranch(pull.head.ref)) return ignored(repo, `pull request ${number} is one of Penstock’s own`)
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
