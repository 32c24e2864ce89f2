import type { Comment, Labeling, Pull, Repo, Status, User } from '../../../src/embedded/fake-github/state.ts'
import type { World } from '../../../src/embedded/fake-github/world.ts'

/** Things as Gitea's API has them. */

export function userShape({ id, login }: User) {
  return { id, login, username: login, full_name: '', email: `${login}@noreply.example.org` }
}

export function repositoryShape(world: World, repo: Repo) {
  return {
    ...{
      id: repo.id,
      name: repo.name,
      full_name: repo.fullName,
      private: repo.private,
      fork: repo.parent !== undefined,
    },
    ...{ owner: userShape(repo.owner), default_branch: repo.defaultBranch },
    ...{ clone_url: `${world.root}/${repo.fullName}.git`, html_url: `${world.root}/${repo.fullName}` },
  }
}

export function pullShape(world: World, repo: Repo, pull: Pull) {
  const side = (of: Repo, ref: string, sha: string) => ({
    ...{ label: ref, ref, sha, repo_id: of.id, repo: repositoryShape(world, of) },
  })
  return {
    ...{ id: pull.id, number: pull.number, title: pull.title, body: pull.body ?? '', user: userShape(pull.user) },
    ...{ state: pull.state, draft: pull.draft, merged: pull.mergedAt !== null },
    ...(pull.mergedAt === null ? {} : { merged_at: pull.mergedAt }),
    labels: pull.labels.map((name, id) => ({ id, name, color: 'ededed' })),
    head: side(pull.head.repo, pull.head.branch, pull.commit),
    base: side(repo, pull.base, pull.baseCommit),
    html_url: `${world.root}/${repo.fullName}/pulls/${pull.number}`,
    ...{ created_at: pull.createdAt, updated_at: pull.updatedAt },
  }
}

export function commentShape(world: World, repo: Repo, comment: Comment) {
  const at = `${world.root}/${repo.fullName}/pulls/${comment.pull}`
  return {
    ...{ id: comment.id, body: comment.body, user: userShape(comment.user) },
    ...{ html_url: `${at}#issuecomment-${comment.id}`, pull_request_url: at },
    ...{ created_at: comment.createdAt, updated_at: comment.updatedAt },
  }
}

/** One line of what has happened; with all that Gitea writes for what there is nothing of. */
export function timelineShape(world: World, repo: Repo, pull: Pull, one: TimelineEntry) {
  const { id, user, at } = one
  const label = one.kind === 'label' ? { id: 1, name: one.name, color: 'ededed', description: '', url: '' } : null
  return {
    ...{ id, type: one.kind, user: userShape(user), body: one.body, label, created_at: at, updated_at: at },
    ...{ html_url: '', issue_url: '', pull_request_url: `${world.root}/${repo.fullName}/pulls/${pull.number}` },
    ...{ old_project_id: 0, project_id: 0, old_milestone: null, milestone: null, tracked_time: null },
    ...{ old_title: '', new_title: '', old_ref: '', new_ref: '', review_id: 0, dependent_issue: null },
    ...{ ref_issue: null, ref_comment: null, ref_action: 'none', ref_commit_sha: '' },
    ...{ assignee: null, assignee_team: null, removed_assignee: false, resolve_doer: null },
  }
}

/** `code`: a comment on a line, which is counted and not shown. */
export type TimelineEntry = Pick<Labeling, 'id' | 'user' | 'at'> & { readonly body: string } & (
    | { readonly kind: 'label'; readonly name: string }
    | { readonly kind: 'comment' | 'review' | 'code' }
  )

export function statusShape(status: Status) {
  return {
    ...{ id: status.id, status: status.state, context: status.context, description: status.description ?? '' },
    ...{ target_url: status.targetUrl ?? '', creator: userShape(status.creator) },
    ...{ created_at: status.at, updated_at: status.at },
  }
}
