import { createHmac } from 'node:crypto'
import { type Delivery, type ForgeServer, newId, startForgeServer, type Told } from '../forge-server.ts'
import { readDescription } from '../openapi.ts'
import { repositoryRoutes } from './routes/repository.ts'
import { commentShape, pullShape, repositoryShape, userShape } from './shapes.ts'

const { problemsOf } = readDescription({ file: new URL('gitea.json', import.meta.url), forge: 'Gitea', zeroes: true })

/** A Gitea in which what is pushed into a branch merges the pull requests that it contains: `autodetect_manual_merge`. */
export function startGitea(
  options: { readonly maxPage?: number; readonly forgejo?: boolean } = {},
): Promise<ForgeServer> {
  const names = options.forgejo === true ? ['X-Forgejo', 'X-Gitea'] : ['X-Gitea']
  return startForgeServer({
    prefix: '/api/v1',
    routes: repositoryRoutes,
    problemsOf,
    tokenOf: (authorization) => /^token (.+)$/.exec(authorization)?.[1],
    repoOf: (world, { owner, repo }) => world.find(`${owner}/${repo}`),
    deliveryOf,
    prove: (body, secret) => headers('Signature', createHmac('sha256', secret).update(body).digest('hex')),
    ...(options.maxPage === undefined ? {} : { maxPage: options.maxPage }),
  })

  function headers(name: string, value: string) {
    return Object.fromEntries(names.map((prefix) => [`${prefix}-${name}`, value]))
  }

  function deliveryOf(told: Told): Delivery | undefined {
    const met = inGiteasWords(told)
    if (met === undefined) return undefined
    const [event, body] = met
    return { headers: { ...headers('Event', event), ...headers('Delivery', newId()) }, body }
  }
}

const ACTIONS: Readonly<Record<string, string>> = { synchronize: 'synchronized', labeled: 'label_updated' }
const REVIEWS: Readonly<Record<string, string>> = {
  approved: 'pull_request_approved',
  changes_requested: 'pull_request_rejected',
  commented: 'pull_request_comment',
}

function inGiteasWords({ world, repo, event, payload }: Told): readonly [string, unknown] | undefined {
  const sender = userShape(world.user(payload.sender.login))
  const common = { repository: repositoryShape(world, repo), sender }
  const pull = () => pullShape(world, repo, world.pullOf(repo, payload.pull_request?.number ?? payload.issue.number))
  switch (event) {
    case 'push': {
      const { ref, before, after, head_commit } = payload
      const commit = head_commit && { ...head_commit, author: { ...head_commit.author, username: '' } }
      const commits = commit ? [commit] : []
      return ['push', { ref, before, after, commits, total_commits: 1, head_commit: commit, pusher: sender, ...common }]
    }
    case 'pull_request': {
      const action = ACTIONS[payload.action] ?? payload.action
      return ['pull_request', { action, number: payload.number, pull_request: pull(), ...common }]
    }
    case 'pull_request_review': {
      const name = REVIEWS[payload.review.state]
      const review = { type: name, content: '' }
      // Gitea tells nobody that a review was dismissed.
      return name === undefined
        ? undefined
        : [name, { action: 'reviewed', number: pull().number, pull_request: pull(), review, ...common }]
    }
    case 'issue_comment': {
      const comment = repo.comments.find((one) => one.id === payload.comment.id)
      const shape = comment && commentShape(world, repo, comment)
      const issue = { number: payload.issue.number, title: payload.issue.title }
      return [
        'issue_comment',
        { action: 'created', issue, comment: shape, is_pull: true, pull_request: pull(), ...common },
      ]
    }
    default:
      return undefined
  }
}
