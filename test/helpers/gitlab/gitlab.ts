import { type Delivery, type ForgeServer, newId, startForgeServer, type Told } from '../forge-server.ts'
import type { Held } from '../openapi.ts'
import { projectOf, routes } from './routes.ts'

/**
 * A GitLab, written after its own source. Its description of its API is not to be had here in one piece, so that each route
 * says itself what may be asked of it, and refuses the rest.
 */
export function startGitlab(options: { readonly maxPage?: number } = {}): Promise<ForgeServer> {
  return startForgeServer({
    prefix: '/api/v4',
    routes,
    problemsOf,
    tokenOf: (authorization) => /^Bearer (.+)$/.exec(authorization)?.[1],
    repoOf: (world, { id }) => projectOf(world, id),
    deliveryOf,
    prove: (_, secret) => ({ 'X-Gitlab-Token': secret }),
    ...(options.maxPage === undefined ? {} : { maxPage: options.maxPage }),
  })
}

function problemsOf({ method, template, path, query, status, responseBody }: Held): readonly string[] {
  const route = routes.find((one) => one.method === method && one.template === template)
  if (route === undefined) return [`${method} ${path} is no call of the API of GitLab`]
  const unknown = [...query.keys()].filter((key) => !route.query?.includes(key))
  return [
    ...unknown.map((key) => `request ${method} ${template}: the parameter "${key}" is not known`),
    // A body that no route would take.
    ...(status === 422 ? [`request ${method} ${template}: ${JSON.stringify(responseBody)}`] : []),
  ]
}

const ACTIONS: Readonly<Record<string, string>> = { opened: 'open', closed: 'close', reopened: 'reopen' }

function deliveryOf({ world, repo, event, payload }: Told): Delivery | undefined {
  const user = { username: payload.sender.login, name: payload.sender.login }
  const common = { user, project: { id: repo.id, path_with_namespace: repo.fullName } }
  const as = (name: string, body: unknown) => ({
    headers: { 'X-Gitlab-Event': name, 'Idempotency-Key': newId(), 'X-Gitlab-Webhook-UUID': newId() },
    body,
  })
  const merge = (number: number) => {
    const pull = world.pullOf(repo, number)
    return {
      ...{ id: pull.id, iid: number, title: pull.title, state: pull.state === 'open' ? 'opened' : 'closed' },
      ...{ source_branch: pull.head.branch, target_branch: pull.base, last_commit: { id: pull.commit } },
      ...{ source_project_id: pull.head.repo.id, target_project_id: repo.id },
    }
  }
  switch (event) {
    case 'push': {
      const { ref, before, after, head_commit: head } = payload
      const commits = head ? [{ id: head.id, message: head.message, author: head.author }] : []
      const by = { user_username: payload.sender.login, user_name: payload.sender.login }
      return as('Push Hook', { object_kind: 'push', ref, before, after, commits, ...by, ...common })
    }
    case 'pull_request': {
      const action = ACTIONS[payload.action] ?? 'update'
      const more = payload.action === 'synchronize' ? { oldrev: payload.before } : {}
      const object_attributes = { ...merge(payload.number), action, ...more }
      return as('Merge Request Hook', { object_kind: 'merge_request', object_attributes, ...common })
    }
    case 'pull_request_review': {
      if (payload.review.state !== 'approved') return undefined
      const object_attributes = { ...merge(payload.pull_request.number), action: 'approved' }
      return as('Merge Request Hook', { object_kind: 'merge_request', object_attributes, ...common })
    }
    case 'issue_comment': {
      const { id, body } = payload.comment
      const object_attributes = { id, note: body, noteable_type: 'MergeRequest', action: 'create', system: false }
      return as('Note Hook', {
        ...{ object_kind: 'note', object_attributes, merge_request: merge(payload.issue.number) },
        ...common,
      })
    }
    default:
      return undefined
  }
}
