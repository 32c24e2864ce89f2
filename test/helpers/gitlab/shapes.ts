import type { Comment, Labeling, Pull, Repo, Status, User } from '../../../src/embedded/fake-github/state.ts'
import type { World } from '../../../src/embedded/fake-github/world.ts'

/** Things as GitLab's API has them. */

export function userShape(world: World, { id, login }: User) {
  return { id, username: login, name: login, state: 'active', avatar_url: null, web_url: `${world.root}/${login}` }
}

export function projectShape(world: World, repo: Repo) {
  return {
    ...{ id: repo.id, name: repo.name, path: repo.name, path_with_namespace: repo.fullName },
    ...{ visibility: repo.private ? 'private' : 'public', default_branch: repo.defaultBranch },
    ...{ http_url_to_repo: `${world.root}/${repo.fullName}.git`, web_url: `${world.root}/${repo.fullName}` },
  }
}

export function mergeRequestShape(world: World, repo: Repo, pull: Pull) {
  return {
    ...{ id: pull.id, iid: pull.number, project_id: repo.id, title: pull.title, description: pull.body },
    state: pull.mergedAt !== null ? 'merged' : pull.state === 'open' ? 'opened' : 'closed',
    ...{ draft: pull.draft, author: userShape(world, pull.user), labels: pull.labels, sha: pull.commit },
    ...{ source_branch: pull.head.branch, target_branch: pull.base },
    ...{ source_project_id: pull.head.repo.id, target_project_id: repo.id },
    web_url: `${world.root}/${repo.fullName}/-/merge_requests/${pull.number}`,
    ...{ created_at: pull.createdAt, updated_at: pull.updatedAt, merged_at: pull.mergedAt },
  }
}

export function labelEventShape(world: World, pull: Pull, { id, event, name, user, at }: Labeling) {
  return {
    ...{ id, user: userShape(world, user), created_at: at, resource_type: 'MergeRequest', resource_id: pull.id },
    ...{ label: { id: 1, name, color: '#ededed', description: '' }, action: event === 'labeled' ? 'add' : 'remove' },
  }
}

export function noteShape(world: World, comment: Comment) {
  return {
    ...{ id: comment.id, body: comment.body, author: userShape(world, comment.user), system: false },
    ...{ noteable_type: 'MergeRequest', noteable_iid: comment.pull },
    ...{ created_at: comment.createdAt, updated_at: comment.updatedAt },
  }
}

export interface GitlabStatus extends Omit<Status, 'state'> {
  readonly ref: string
  state: string
}

export function statusShape(world: World, status: GitlabStatus) {
  return {
    ...{ id: status.id, sha: status.sha, ref: status.ref, status: status.state, name: status.context },
    ...{ description: status.description, target_url: status.targetUrl, author: userShape(world, status.creator) },
    ...{ created_at: status.at, allow_failure: false },
  }
}
