import type {
  Activity,
  App,
  CheckRun,
  Comment,
  Delivery,
  Deployment,
  DeploymentStatus,
  Hook,
  Installation,
  Labeling,
  Level,
  MergeGroup,
  Pull,
  Repo,
  Review,
  Status,
  User,
} from './state.ts'

const REPOSITORY_LINKS = {
  archive_url: '/{archive_format}{/ref}',
  assignees_url: '/assignees{/user}',
  blobs_url: '/git/blobs{/sha}',
  branches_url: '/branches{/branch}',
  collaborators_url: '/collaborators{/collaborator}',
  comments_url: '/comments{/number}',
  commits_url: '/commits{/sha}',
  compare_url: '/compare/{base}...{head}',
  contents_url: '/contents/{+path}',
  contributors_url: '/contributors',
  deployments_url: '/deployments',
  downloads_url: '/downloads',
  events_url: '/events',
  forks_url: '/forks',
  git_commits_url: '/git/commits{/sha}',
  git_refs_url: '/git/refs{/sha}',
  git_tags_url: '/git/tags{/sha}',
  hooks_url: '/hooks',
  issue_comment_url: '/issues/comments{/number}',
  issue_events_url: '/issues/events{/number}',
  issues_url: '/issues{/number}',
  keys_url: '/keys{/key_id}',
  labels_url: '/labels{/name}',
  languages_url: '/languages',
  merges_url: '/merges',
  milestones_url: '/milestones{/number}',
  notifications_url: '/notifications{?since,all,participating}',
  pulls_url: '/pulls{/number}',
  releases_url: '/releases{/id}',
  stargazers_url: '/stargazers',
  statuses_url: '/statuses/{sha}',
  subscribers_url: '/subscribers',
  subscription_url: '/subscription',
  tags_url: '/tags',
  teams_url: '/teams',
  trees_url: '/git/trees{/sha}',
} as const

const USER_LINKS = {
  events_url: '/events{/privacy}',
  followers_url: '/followers',
  following_url: '/following{/other_user}',
  gists_url: '/gists{/gist_id}',
  organizations_url: '/orgs',
  received_events_url: '/received_events',
  repos_url: '/repos',
  starred_url: '/starred{/owner}{/repo}',
  subscriptions_url: '/subscriptions',
} as const

/** Everything as GitHub's API writes it. `root`: address of the fake, also of its API. */
export function createShapes(root: string) {
  const nodeOf = (kind: string, id: number) => Buffer.from(`${kind}${id}`).toString('base64url')

  function links<T extends Readonly<Record<string, string>>>(base: string, of: T): Record<keyof T, string> {
    return Object.fromEntries(Object.entries(of).map(([key, path]) => [key, base + path])) as Record<keyof T, string>
  }

  function user(one: User) {
    const url = `${root}/users/${encodeURIComponent(one.login)}`
    return {
      login: one.login,
      id: one.id,
      node_id: nodeOf('U', one.id),
      avatar_url: `${root}/avatars/${one.id}`,
      gravatar_id: '',
      html_url: `${root}/${encodeURIComponent(one.login)}`,
      url,
      ...links(url, USER_LINKS),
      type: one.type,
      site_admin: false,
    }
  }

  function apiOf(repo: Repo): string {
    return `${root}/repos/${repo.fullName}`
  }

  function repository(repo: Repo) {
    const page = `${root}/${repo.fullName}`
    const open = repo.pulls.filter((pull) => pull.state === 'open').length
    return {
      id: repo.id,
      node_id: nodeOf('R', repo.id),
      name: repo.name,
      full_name: repo.fullName,
      private: repo.private,
      visibility: repo.private ? 'private' : 'public',
      owner: user(repo.owner),
      html_url: page,
      description: null,
      fork: repo.parent !== undefined,
      url: apiOf(repo),
      ...links(apiOf(repo), REPOSITORY_LINKS),
      clone_url: `${page}.git`,
      git_url: `${page}.git`,
      ssh_url: `ssh://git@localhost/${repo.fullName}.git`,
      svn_url: page,
      mirror_url: null,
      homepage: null,
      language: null,
      license: null,
      default_branch: repo.defaultBranch,
      forks: 0,
      forks_count: 0,
      open_issues: open,
      open_issues_count: open,
      size: 1,
      stargazers_count: 0,
      watchers: 0,
      watchers_count: 0,
      has_downloads: true,
      has_issues: true,
      has_projects: false,
      has_wiki: false,
      has_pages: false,
      has_discussions: false,
      archived: false,
      disabled: false,
      allow_forking: true,
      is_template: false,
      web_commit_signoff_required: false,
      topics: [],
      created_at: repo.createdAt,
      pushed_at: repo.createdAt,
      updated_at: repo.createdAt,
    }
  }

  function fullRepository(repo: Repo, level: Level | undefined) {
    return {
      ...repository(repo),
      network_count: 0,
      subscribers_count: 0,
      permissions: {
        pull: level !== undefined,
        push: level === 'write' || level === 'admin',
        admin: level === 'admin',
      },
    }
  }

  function associationOf(repo: Repo, { login }: User): string {
    return login === repo.owner.login ? 'OWNER' : repo.access.has(login) ? 'COLLABORATOR' : 'NONE'
  }

  /** As in lists. */
  function pull(repo: Repo, one: Pull) {
    const url = `${apiOf(repo)}/pulls/${one.number}`
    const issue = `${apiOf(repo)}/issues/${one.number}`
    const page = `${root}/${repo.fullName}/pull/${one.number}`
    const statuses = `${apiOf(repo)}/statuses/${one.commit}`
    const href = (to: string) => ({ href: to })
    const side = (of: Repo, ref: string, sha: string) => ({
      label: `${of.owner.login}:${ref}`,
      ref,
      sha,
      user: user(of.owner),
      repo: repository(of),
    })
    return {
      id: one.id,
      node_id: nodeOf('PR', one.id),
      number: one.number,
      state: one.state,
      locked: false,
      title: one.title,
      body: one.body,
      user: user(one.user),
      labels: one.labels.map((name, index) => ({
        id: index + 1,
        node_id: nodeOf('L', index + 1),
        url: `${apiOf(repo)}/labels/${encodeURIComponent(name)}`,
        name,
        description: '',
        color: 'ededed',
        default: false,
      })),
      url,
      html_url: page,
      diff_url: `${page}.diff`,
      patch_url: `${page}.patch`,
      issue_url: issue,
      commits_url: `${url}/commits`,
      review_comments_url: `${url}/comments`,
      review_comment_url: `${apiOf(repo)}/pulls/comments{/number}`,
      comments_url: `${issue}/comments`,
      statuses_url: statuses,
      created_at: one.createdAt,
      updated_at: one.updatedAt,
      closed_at: one.closedAt,
      merged_at: one.mergedAt,
      merge_commit_sha: one.mergedAt === null ? null : one.commit,
      assignee: null,
      assignees: [],
      requested_reviewers: [],
      requested_teams: [],
      milestone: null,
      draft: one.draft,
      head: side(one.head.repo, one.head.branch, one.commit),
      base: side(repo, one.base, one.baseCommit),
      _links: {
        self: href(url),
        html: href(page),
        issue: href(issue),
        comments: href(`${issue}/comments`),
        review_comments: href(`${url}/comments`),
        review_comment: href(`${apiOf(repo)}/pulls/comments{/number}`),
        commits: href(`${url}/commits`),
        statuses: href(statuses),
      },
      author_association: associationOf(repo, one.user),
      auto_merge: null,
      active_lock_reason: null,
    }
  }

  function fullPull(repo: Repo, one: Pull) {
    return {
      ...pull(repo, one),
      merged: one.mergedAt !== null,
      merged_by: one.mergedBy === null ? null : user(one.mergedBy),
      mergeable: null,
      rebaseable: null,
      mergeable_state: 'unknown',
      comments: repo.comments.filter((comment) => comment.pull === one.number).length,
      review_comments: 0,
      maintainer_can_modify: false,
      commits: 1,
      additions: 0,
      deletions: 0,
      changed_files: 0,
    }
  }

  function review(repo: Repo, one: Pull, given: Review) {
    const page = `${root}/${repo.fullName}/pull/${one.number}#pullrequestreview-${given.id}`
    const url = `${apiOf(repo)}/pulls/${one.number}`
    return {
      id: given.id,
      node_id: nodeOf('PRR', given.id),
      user: user(given.user),
      body: given.body,
      state: given.state,
      commit_id: given.commit,
      submitted_at: given.at,
      html_url: page,
      pull_request_url: url,
      author_association: associationOf(repo, given.user),
      _links: { html: { href: page }, pull_request: { href: url } },
    }
  }

  function comment(repo: Repo, one: Comment) {
    return {
      id: one.id,
      node_id: nodeOf('IC', one.id),
      url: `${apiOf(repo)}/issues/comments/${one.id}`,
      html_url: `${root}/${repo.fullName}/pull/${one.pull}#issuecomment-${one.id}`,
      issue_url: `${apiOf(repo)}/issues/${one.pull}`,
      user: user(one.user),
      body: one.body,
      created_at: one.createdAt,
      updated_at: one.updatedAt,
      author_association: associationOf(repo, one.user),
      performed_via_github_app: null,
      reactions: reactions(`${apiOf(repo)}/issues/comments/${one.id}`),
    }
  }

  function labeling(repo: Repo, one: Labeling) {
    return {
      id: one.id,
      node_id: nodeOf('LE', one.id),
      url: `${apiOf(repo)}/issues/events/${one.id}`,
      actor: user(one.user),
      event: one.event,
      ...{ commit_id: null, commit_url: null, created_at: one.at, performed_via_github_app: null },
      label: { name: one.name, color: 'ededed' },
    }
  }

  /** As `merge_group` has it. */
  function mergeGroup(
    group: MergeGroup,
    head: { readonly tree: string; readonly date: string; readonly message: string },
  ) {
    const person = { name: 'GitHub', email: 'noreply@github.com' }
    return {
      ...{ head_sha: group.commit, head_ref: group.ref, base_sha: group.base, base_ref: group.baseRef },
      head_commit: {
        ...{ id: group.commit, tree_id: head.tree, message: head.message, timestamp: head.date },
        ...{ author: person, committer: person },
      },
    }
  }

  function reactions(of: string) {
    const none = { total_count: 0, '+1': 0, '-1': 0, laugh: 0, hooray: 0, confused: 0, heart: 0, rocket: 0, eyes: 0 }
    return { url: `${of}/reactions`, ...none }
  }

  /** A pull request as the issue that it also is, for `issue_comment`. */
  function issue(repo: Repo, one: Pull) {
    const { id, node_id, number, title, body, labels, state, locked, assignee, assignees, milestone } = pull(repo, one)
    const url = `${apiOf(repo)}/issues/${number}`
    const page = `${root}/${repo.fullName}/pull/${number}`
    return {
      ...{ id, node_id, number, title, body, labels, state, locked, assignee, assignees, milestone },
      user: user(one.user),
      url,
      html_url: page,
      repository_url: apiOf(repo),
      labels_url: `${url}/labels{/name}`,
      comments_url: `${url}/comments`,
      events_url: `${url}/events`,
      comments: repo.comments.filter((comment) => comment.pull === number).length,
      created_at: one.createdAt,
      updated_at: one.updatedAt,
      closed_at: one.closedAt,
      author_association: associationOf(repo, one.user),
      active_lock_reason: null,
      draft: one.draft,
      pull_request: {
        url: `${apiOf(repo)}/pulls/${number}`,
        html_url: page,
        diff_url: `${page}.diff`,
        patch_url: `${page}.patch`,
        merged_at: one.mergedAt,
      },
      reactions: reactions(url),
    }
  }

  function status(repo: Repo, one: Status) {
    return {
      id: one.id,
      node_id: nodeOf('SC', one.id),
      url: `${apiOf(repo)}/statuses/${one.sha}`,
      avatar_url: `${root}/avatars/${one.creator.id}`,
      state: one.state,
      context: one.context,
      description: one.description,
      target_url: one.targetUrl,
      creator: user(one.creator),
      created_at: one.at,
      updated_at: one.at,
    }
  }

  function integration(app: App) {
    return {
      id: app.id,
      client_id: `Iv1.${app.id}`,
      slug: app.slug,
      node_id: nodeOf('A', app.id),
      owner: user(app.bot),
      name: app.slug,
      description: null,
      external_url: root,
      html_url: `${root}/apps/${app.slug}`,
      permissions: app.permissions,
      events: app.events,
      created_at: app.createdAt,
      updated_at: app.createdAt,
    }
  }

  function check(repo: Repo, one: CheckRun, app: App | undefined) {
    const url = `${apiOf(repo)}/check-runs/${one.id}`
    return {
      id: one.id,
      node_id: nodeOf('CR', one.id),
      head_sha: one.sha,
      name: one.name,
      external_id: one.externalId,
      url,
      html_url: `${root}/${repo.fullName}/runs/${one.id}`,
      details_url: one.detailsUrl,
      status: one.status,
      conclusion: one.conclusion,
      started_at: one.startedAt,
      completed_at: one.completedAt,
      output: {
        title: one.title,
        summary: one.summary,
        text: one.text,
        annotations_count: one.annotations.length,
        annotations_url: `${url}/annotations`,
      },
      check_suite: { id: 1 },
      app: app === undefined ? null : integration(app),
      pull_requests: [],
    }
  }

  function deployment(repo: Repo, one: Deployment) {
    const url = `${apiOf(repo)}/deployments/${one.id}`
    return {
      id: one.id,
      node_id: nodeOf('D', one.id),
      sha: one.sha,
      ref: one.ref,
      task: 'deploy',
      payload: one.payload,
      environment: one.environment,
      original_environment: one.environment,
      production_environment: one.production,
      transient_environment: false,
      description: one.description,
      creator: user(one.creator),
      url,
      statuses_url: `${url}/statuses`,
      repository_url: apiOf(repo),
      created_at: one.at,
      updated_at: one.statuses.at(-1)?.at ?? one.at,
    }
  }

  function deploymentStatus(repo: Repo, of: Deployment, one: DeploymentStatus) {
    const url = `${apiOf(repo)}/deployments/${of.id}`
    return {
      id: one.id,
      node_id: nodeOf('DS', one.id),
      state: one.state,
      description: one.description,
      environment: of.environment,
      ...(one.environmentUrl === '' ? {} : { environment_url: one.environmentUrl }),
      ...(one.logUrl === '' ? {} : { log_url: one.logUrl }),
      target_url: one.logUrl || url,
      creator: user(one.creator),
      url: `${url}/statuses/${one.id}`,
      deployment_url: url,
      repository_url: apiOf(repo),
      created_at: one.at,
      updated_at: one.at,
    }
  }

  function hook(repo: Repo, one: Hook) {
    const url = `${apiOf(repo)}/hooks/${one.id}`
    const code = one.deliveries.at(-1)?.code
    return {
      id: one.id,
      type: 'Repository',
      name: 'web',
      active: one.active,
      events: one.events,
      config: hookConfig(one),
      url,
      test_url: `${url}/test`,
      ping_url: `${url}/pings`,
      deliveries_url: `${url}/deliveries`,
      last_response: { code: code ?? null, status: code === undefined ? 'unused' : 'active', message: null },
      created_at: one.createdAt,
      updated_at: one.createdAt,
    }
  }

  function hookConfig(one: Hook) {
    return { url: one.url, content_type: 'json', insecure_ssl: '0', secret: '********' }
  }

  function delivery(one: Delivery, installation: number | null) {
    return {
      id: one.id,
      guid: one.guid,
      delivered_at: one.at,
      redelivery: one.redelivery,
      duration: one.duration,
      status: one.code === 0 ? 'timed out' : one.code < 300 ? 'OK' : `Invalid HTTP Response: ${one.code}`,
      status_code: one.code,
      event: one.event,
      action: one.action,
      installation_id: installation,
      repository_id: one.repository,
      throttled_at: null,
    }
  }

  function installation(app: App, one: Installation) {
    return {
      id: one.id,
      account: user(one.account),
      app_id: app.id,
      app_slug: app.slug,
      target_id: one.account.id,
      target_type: one.account.type,
      repository_selection: 'selected',
      access_tokens_url: `${root}/app/installations/${one.id}/access_tokens`,
      repositories_url: `${root}/installation/repositories`,
      html_url: `${root}/settings/installations/${one.id}`,
      permissions: one.permissions,
      events: app.events,
      single_file_name: null,
      suspended_by: null,
      suspended_at: null,
      created_at: app.createdAt,
      updated_at: app.createdAt,
    }
  }

  function ref(repo: Repo, name: string, sha: string) {
    return {
      ref: name,
      node_id: Buffer.from(name).toString('base64url'),
      url: `${apiOf(repo)}/git/${name}`,
      object: { type: 'commit', sha, url: `${apiOf(repo)}/git/commits/${sha}` },
    }
  }

  function activity(one: Activity) {
    return {
      id: one.id,
      node_id: nodeOf('PSH', one.id),
      before: one.before,
      after: one.after,
      ref: one.ref,
      timestamp: one.at,
      activity_type: one.kind,
      actor: user(one.actor),
    }
  }

  return {
    root,
    apiOf,
    user,
    repository,
    fullRepository,
    pull,
    fullPull,
    review,
    comment,
    labeling,
    mergeGroup,
    issue,
    status,
    integration,
    check,
    deployment,
    deploymentStatus,
    hook,
    hookConfig,
    delivery,
    installation,
    ref,
    activity,
  }
}
