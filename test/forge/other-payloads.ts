import { BEFORE, COMMIT } from './payloads.ts'

/** As Gitea and GitLab send them, with the fields that are read among some that are not. */

const GITEA_REPOSITORY = {
  ...{ id: 12, name: 'web', full_name: 'acme/web', private: true, default_branch: 'master' },
  owner: { id: 3, login: 'acme', username: 'acme' },
  clone_url: 'https://evil.example/acme/web.git',
}
const GITEA_ADA = {
  id: 4,
  login: 'ada-l',
  login_name: '',
  full_name: 'Ada',
  email: 'ada@noreply.example.org',
  username: 'ada-l',
}

export function giteaPush(over: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const author = { name: 'Ada', email: 'ada@example.org', username: 'ada-l' }
  const commit = {
    ...{
      id: COMMIT,
      message: 'Add a page\n\nWith a longer text.\n',
      url: `http://gitea.test/acme/web/commit/${COMMIT}`,
    },
    ...{ author, committer: author, verification: null, timestamp: '2026-01-31T12:00:00Z' },
    ...{ added: ['page.html'], removed: [], modified: [] },
  }
  return {
    ...{ ref: 'refs/heads/master', before: BEFORE, after: COMMIT, compare_url: '', total_commits: 1 },
    ...{ commits: [commit], head_commit: commit, repository: GITEA_REPOSITORY, pusher: GITEA_ADA, sender: GITEA_ADA },
    ...over,
  }
}

export function giteaPullRequest(
  over: { readonly action?: string; readonly headRepo?: string | null; readonly review?: unknown } = {},
): Record<string, unknown> {
  const { action = 'opened', headRepo = 'acme/web', review = null } = over
  const side = (ref: string, sha: string, repo: string | null) => ({
    ...{ label: ref, ref, sha, repo_id: 12, repo: repo === null ? null : { ...GITEA_REPOSITORY, full_name: repo } },
  })
  return {
    ...{ action, number: 7, repository: GITEA_REPOSITORY, sender: GITEA_ADA, commit_id: '', review },
    pull_request: {
      ...{
        id: 77,
        number: 7,
        title: 'Add a page',
        body: '',
        state: 'open',
        user: GITEA_ADA,
        draft: false,
        merged: false,
      },
      head: side('page', COMMIT, headRepo),
      base: side('master', BEFORE, 'acme/web'),
    },
  }
}

export function giteaComment(over: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return {
    action: 'created',
    issue: { id: 77, number: 7, title: 'Add a page', user: GITEA_ADA },
    comment: { id: 4711, body: '/merge', user: GITEA_ADA, created_at: '2026-01-31T12:00:00Z' },
    ...{ repository: GITEA_REPOSITORY, sender: GITEA_ADA, is_pull: true },
    ...over,
  }
}

const GITLAB_PROJECT = {
  ...{ id: 15, name: 'Web', description: '', web_url: 'http://gitlab.test/acme/group/web', avatar_url: null },
  ...{ git_http_url: 'http://evil.example/web.git', namespace: 'Group', visibility_level: 0, default_branch: 'master' },
  path_with_namespace: 'acme/group/web',
}
const GITLAB_ADA = { id: 4, name: 'Ada', username: 'ada-l', avatar_url: null, email: '[REDACTED]' }

export function gitlabPush(over: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const commit = (id: string, message: string) => ({
    ...{ id, message, title: message, timestamp: '2026-01-31T12:00:00+02:00', url: 'http://gitlab.test/x' },
    author: { name: 'Ada', email: 'ada@example.org' },
    ...{ added: [], modified: ['page.html'], removed: [] },
  })
  return {
    ...{ object_kind: 'push', event_name: 'push', before: BEFORE, after: COMMIT, ref: 'refs/heads/master' },
    ...{
      ref_protected: true,
      checkout_sha: COMMIT,
      message: null,
      user_id: 4,
      user_name: 'Ada',
      user_username: 'ada-l',
    },
    ...{ user_email: '', user_avatar: '', project_id: 15, project: GITLAB_PROJECT, total_commits_count: 2 },
    commits: [commit('1'.repeat(40), 'One before'), commit(COMMIT, 'Add a page\n\nWith a longer text.\n')],
    ...over,
  }
}

export function gitlabMergeRequest(
  over: Readonly<Record<string, unknown>> = {},
  more: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> {
  return {
    ...{ object_kind: 'merge_request', event_type: 'merge_request', user: GITLAB_ADA, project: GITLAB_PROJECT },
    object_attributes: {
      ...{ id: 93, iid: 7, title: 'Add a page', state: 'opened', action: 'open', draft: false, description: '' },
      ...{ source_branch: 'page', target_branch: 'master', source_project_id: 15, target_project_id: 15 },
      ...{ created_at: '2026-01-31 12:00:00 UTC', merge_status: 'unchecked' },
      last_commit: { id: COMMIT, message: 'Add a page', author: { name: 'Ada', email: 'ada@example.org' } },
      ...over,
    },
    labels: [],
    ...more,
  }
}

export function gitlabNote(over: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return {
    ...{ object_kind: 'note', event_type: 'note', user: GITLAB_ADA, project_id: 15, project: GITLAB_PROJECT },
    object_attributes: {
      ...{ id: 1244, note: '/reject too early', noteable_type: 'MergeRequest', author_id: 4, system: false },
      ...{ action: 'create', noteable_id: 93, created_at: '2026-01-31 12:00:00 UTC' },
      ...over,
    },
    merge_request: { id: 93, iid: 7, target_branch: 'master', source_branch: 'page', source_project_id: 15 },
  }
}
