export const COMMIT = '3f2a'.repeat(10)
export const BEFORE = '9c1e'.repeat(10)
export const NO_COMMIT = '0'.repeat(40)

/** The few fields that are read, among some that are not, as GitHub sends them. */
export function githubPush(over: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return {
    ref: 'refs/heads/master',
    before: BEFORE,
    after: COMMIT,
    created: false,
    deleted: false,
    forced: false,
    repository: { id: 1, full_name: 'acme/web', clone_url: 'https://evil.example/web.git', private: true },
    head_commit: {
      id: COMMIT,
      message: 'Add a page\n\nWith a longer text.',
      author: { name: 'Ada', email: 'ada@example.org', username: 'ada-l' },
    },
    pusher: { name: 'ben-o', email: 'ben@example.org' },
    sender: { login: 'ben-o', id: 2, type: 'User' },
    ...over,
  }
}

export function githubPullRequest(
  over: { readonly action?: string; readonly headRepo?: string | null; readonly commit?: string } = {},
): Record<string, unknown> {
  const { action = 'opened', headRepo = 'acme/web', commit = COMMIT } = over
  return {
    action,
    number: 7,
    repository: { id: 1, full_name: 'acme/web' },
    pull_request: {
      title: 'Add a page',
      user: { login: 'ada-l' },
      head: { sha: commit, ref: 'page', repo: headRepo === null ? null : { full_name: headRepo } },
      base: { sha: BEFORE, ref: 'master', repo: { full_name: 'acme/web' } },
    },
    sender: { login: 'ben-o' },
  }
}
