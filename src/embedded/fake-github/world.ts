import { generateKeyPairSync } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { isNoCommit } from '../../forge/incoming.ts'
import { missingCheck } from './protection.ts'
import {
  commitOf,
  fetchRef,
  initBare,
  isAncestor,
  moveRef,
  refsOf,
  removeRef,
  subjectOf,
  writeCommit,
  writeMerge,
} from './repositories.ts'
import { createShapes } from './shapes.ts'
import type {
  App,
  Caller,
  CheckRun,
  Comment,
  Hook,
  Labeling,
  Level,
  MergeGroup,
  Protection,
  Pull,
  Repo,
  Review,
  Role,
  User,
} from './state.ts'
import { createWebhooks, type WebhooksDeps } from './webhooks.ts'

export interface WorldOptions {
  /** Where the repositories are kept; made if it is not there. */
  readonly dir: string
  readonly root: string
  readonly clock: () => number
  /** How much of a list one answer holds at most. */
  readonly maxPage: number
  readonly onPayload?: WebhooksDeps['onPayload']
}

export interface NewPull {
  readonly by: string
  /** `branch`, or `owner:branch` of a fork. */
  readonly head: string
  readonly base: string
  readonly title: string
  readonly body?: string
  readonly draft?: boolean
  readonly labels?: readonly string[]
}

export interface NewApp {
  readonly slug: string
  readonly permissions: Readonly<Record<string, string>>
  readonly events: readonly string[]
  readonly hook?: { readonly url: string; readonly secret: string }
}

/** People and programs cannot do this to a GitHub like this one. */
export class NotPossible extends Error {
  override readonly name = 'NotPossible'
}

const NONE = '0'.repeat(40)

export type World = ReturnType<typeof createWorld>

/** The state, and everything that may happen to it, with the deliveries that follow. */
export function createWorld({ dir, root, clock, maxPage, onPayload }: WorldOptions) {
  const users = new Map<string, User>()
  const repos = new Map<string, Repo>()
  const tokens = new Map<string, Caller>()
  const shapes = createShapes(root)
  let app: App | undefined
  let last = 1000
  const nextId = () => ++last
  const now = () => `${new Date(clock()).toISOString().slice(0, 19)}Z`
  const webhooks = createWebhooks({ nextId, now, app: () => app, onPayload })

  function user(login: string, type: User['type'] = 'User'): User {
    const known = users.get(login.toLowerCase())
    if (known !== undefined) return known
    const made = { id: nextId(), login, type }
    users.set(login.toLowerCase(), made)
    return made
  }

  function repo(fullName: string): Repo {
    const known = repos.get(fullName.toLowerCase())
    if (known === undefined) throw new NotPossible(`there is no repository ${fullName}`)
    return known
  }

  function pullOf(repo: Repo, number: number): Pull {
    const known = repo.pulls.find((one) => one.number === number)
    if (known === undefined) throw new NotPossible(`${repo.fullName} has no pull request ${number}`)
    return known
  }

  function roleOf(of: Repo, login: string): Role | undefined {
    return of.access.get(login.toLowerCase()) ?? (of.private ? undefined : 'read')
  }

  function levelOf(of: Repo, login: string): Level | undefined {
    const role = roleOf(of, login)
    return role === 'maintain' ? 'write' : role
  }

  function labeling(event: Labeling['event'], name: string, by: User): Labeling {
    return { id: nextId(), event, name, user: by, at: now() }
  }

  const repositoryOf = (of: Repo) => shapes.repository(of)

  function tellOfPull(
    of: Repo,
    pull: Pull,
    action: string,
    sender: User,
    more: Readonly<Record<string, unknown>> = {},
  ) {
    pull.updatedAt = now()
    webhooks.send(of, 'pull_request', {
      ...{ action, number: pull.number, ...more },
      ...{ pull_request: shapes.fullPull(of, pull), repository: repositoryOf(of), sender: shapes.user(sender) },
    })
  }

  async function tellOfPush(of: Repo, ref: string, before: string, after: string, sender: User): Promise<void> {
    if (!webhooks.isHeard(of)) return
    const deleted = isNoCommit(after)
    const created = isNoCommit(before)
    const forced = !created && !deleted && !(await isAncestor(of.dir, before, after))
    webhooks.send(of, 'push', {
      ...{ ref, before, after, created, deleted, forced, base_ref: null, commits: [] },
      compare: `${root}/${of.fullName}/compare/${before.slice(0, 12)}...${after.slice(0, 12)}`,
      head_commit: deleted ? null : await headCommit(of, after),
      // Seconds here, as only GitHub's pushes have it.
      repository: { ...repositoryOf(of), created_at: 1, pushed_at: Math.floor(clock() / 1000) },
      pusher: {
        name: sender.login,
        email: sender.type === 'Bot' ? null : `${sender.login.replace(/\W/g, '-')}@example.org`,
      },
      sender: shapes.user(sender),
    })
  }

  async function tellOfGroup(of: Repo, group: MergeGroup, action: string, more = {}): Promise<void> {
    webhooks.send(of, 'merge_group', {
      ...{ action, ...more, merge_group: shapes.mergeGroup(group, await subjectOf(of.dir, group.commit)) },
      ...{ repository: repositoryOf(of), sender: shapes.user(user('github-merge-queue[bot]', 'Bot')) },
    })
  }

  async function headCommit(of: Repo, commit: string) {
    const { tree, name, email, date, message } = await subjectOf(of.dir, commit)
    const person = { name, email, ...(users.has(name.toLowerCase()) ? { username: name } : {}) }
    return {
      ...{ id: commit, tree_id: tree, distinct: true, message, timestamp: date },
      url: `${root}/${of.fullName}/commit/${commit}`,
      ...{ author: person, committer: person, added: [], removed: [], modified: [] },
    }
  }

  /** All that follows from refs that moved: pushes are told, heads of pull requests follow, and what is contained is merged. */
  async function refsChanged(of: Repo, before: ReadonlyMap<string, string>, sender: User): Promise<void> {
    const after = await refsOf(of.dir)
    const moved = [...new Set([...before.keys(), ...after.keys()])].filter(
      (ref) => !ref.startsWith('refs/pull/') && before.get(ref) !== after.get(ref),
    )
    for (const ref of moved) {
      await keepActivity(of, ref, before.get(ref), after.get(ref), sender)
      await tellOfPush(of, ref, before.get(ref) ?? NONE, after.get(ref) ?? NONE, sender)
      await followPulls(of, ref.replace(/^refs\/heads\//, ''), after.get(ref), sender)
    }
  }

  async function keepActivity(
    of: Repo,
    ref: string,
    before: string | undefined,
    after: string | undefined,
    actor: User,
  ): Promise<void> {
    const kind =
      before === undefined
        ? 'branch_creation'
        : after === undefined
          ? 'branch_deletion'
          : (await isAncestor(of.dir, before, after))
            ? 'push'
            : 'force_push'
    of.activities.push({ id: nextId(), ref, before: before ?? NONE, after: after ?? NONE, kind, actor, at: now() })
  }

  async function followPulls(of: Repo, branch: string, commit: string | undefined, sender: User): Promise<void> {
    for (const into of repos.values()) {
      for (const pull of into.pulls.filter((one) => one.state === 'open')) {
        if (pull.head.repo === of && pull.head.branch === branch) await followHead(into, pull, commit, sender)
        if (into === of && pull.base === branch && commit !== undefined) await followBase(into, pull, commit, sender)
      }
    }
  }

  async function followHead(into: Repo, pull: Pull, commit: string | undefined, sender: User): Promise<void> {
    if (commit === undefined) {
      close(pull)
      tellOfPull(into, pull, 'closed', sender)
      return
    }
    const before = pull.commit
    pull.commit = commit
    await keepPullRef(into, pull)
    tellOfPull(into, pull, 'synchronize', sender, { before, after: commit })
  }

  async function followBase(into: Repo, pull: Pull, commit: string, sender: User): Promise<void> {
    // A pull request from a branch that has nothing more than its base was opened so; only news merges it.
    if (pull.state !== 'open' || !(await isAncestor(into.dir, pull.commit, commit))) return
    close(pull)
    pull.mergedAt = now()
    pull.mergedBy = sender
    tellOfPull(into, pull, 'closed', sender)
  }

  function close(pull: Pull): void {
    pull.state = 'closed'
    pull.closedAt = now()
  }

  /** As GitHub keeps it: the commits of a fork can be fetched from the repository that it was forked from. */
  async function keepPullRef(into: Repo, pull: Pull): Promise<void> {
    await fetchRef(into.dir, pull.head.repo.dir, pull.commit, `refs/pull/${pull.number}/head`)
  }

  const world = {
    root,
    dir,
    shapes,
    webhooks,
    nextId,
    now,
    clock,
    maxPage,
    users,
    tokens,
    user,
    repo,
    pullOf,
    levelOf,
    roleOf,
    refsChanged,
    tellOfPull,
    find: (fullName: string): Repo | undefined => repos.get(fullName.toLowerCase()),
    repos: (): readonly Repo[] => [...repos.values()],
    app: (): App | undefined => app,

    async addRepository(
      fullName: string,
      options: { readonly private?: boolean; readonly defaultBranch?: string; readonly parent?: string } = {},
    ): Promise<Repo> {
      const [owner = '', name = ''] = fullName.split('/')
      const made: Repo = {
        ...{ id: nextId(), name, fullName, private: options.private ?? false },
        owner: user(owner, options.parent === undefined ? 'Organization' : 'User'),
        ...(options.parent === undefined ? {} : { parent: repo(options.parent) }),
        dir: join(dir, owner, `${name}.git`),
        defaultBranch: options.defaultBranch ?? 'master',
        createdAt: now(),
        access: new Map([[owner.toLowerCase(), 'admin']]),
        ...{ pulls: [], comments: [], statuses: [], checks: [], deployments: [], hooks: [], activities: [] },
        protections: new Map(),
      }
      await mkdir(join(dir, owner), { recursive: true })
      await initBare(made.dir, made.defaultBranch)
      if (made.parent !== undefined) await fetchRef(made.dir, made.parent.dir, 'refs/heads/*', 'refs/heads/*')
      repos.set(fullName.toLowerCase(), made)
      return made
    },

    setAccess(fullName: string, login: string, level: Role | 'none'): void {
      user(login)
      if (level === 'none') repo(fullName).access.delete(login.toLowerCase())
      else repo(fullName).access.set(login.toLowerCase(), level)
    },

    /** With scopes: a classic token. Without: a fine-grained one, of which GitHub tells nothing. */
    addToken(login: string, token: string, scopes?: readonly string[]): void {
      tokens.set(token, { kind: 'person', user: user(login), ...(scopes === undefined ? {} : { scopes }) })
    },

    addWebhook(
      fullName: string,
      hook: { readonly url: string; readonly secret: string; readonly events: readonly string[] },
    ): Hook {
      const made: Hook = { ...hook, id: nextId(), active: true, createdAt: now(), deliveries: [] }
      repo(fullName).hooks.push(made)
      return made
    },

    /** One App is all that this GitHub has. */
    createApp({ slug, permissions, events, hook }: NewApp): { readonly id: number; readonly privateKey: string } {
      const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
      app = {
        ...{ id: nextId(), slug, permissions, events, installations: [], createdAt: now() },
        publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
        ...(hook === undefined
          ? {}
          : { hook: { ...hook, id: nextId(), events, active: true, createdAt: now(), deliveries: [] } }),
        bot: user(`${slug}[bot]`, 'Bot'),
      }
      return { id: app.id, privateKey: privateKey.export({ type: 'pkcs1', format: 'pem' }).toString() }
    },

    installApp(repositories: readonly string[]): number {
      if (app === undefined) throw new NotPossible('there is no App')
      const account = repo(repositories[0] ?? '').owner
      const made = { id: nextId(), account, repositories: [...repositories], permissions: app.permissions }
      app.installations.push(made)
      for (const one of repositories) repo(one).access.set(app.bot.login.toLowerCase(), 'write')
      return made.id
    },

    protect(fullName: string, branch: string, protection: Protection): void {
      repo(fullName).protections.set(branch, protection)
    },

    /** A commit on a branch, pushed. With `parent` it goes there, by force if need be. */
    async push(
      fullName: string,
      branch: string,
      commit: {
        readonly by: string
        readonly message: string
        readonly files: Readonly<Record<string, string>>
        readonly parent?: string
      },
    ): Promise<string> {
      const of = repo(fullName)
      const before = await refsOf(of.dir)
      const parent = commit.parent ?? before.get(`refs/heads/${branch}`) ?? before.get(`refs/heads/${of.defaultBranch}`)
      const made = await writeCommit(of.dir, {
        ...{ branch, message: commit.message, by: commit.by, at: clock(), files: commit.files },
        ...(parent === undefined ? {} : { parent }),
      })
      await refsChanged(of, before, user(commit.by))
      return made
    },

    async removeBranch(fullName: string, branch: string, by: string): Promise<void> {
      const of = repo(fullName)
      const before = await refsOf(of.dir)
      await removeRef(of.dir, `refs/heads/${branch}`)
      await refsChanged(of, before, user(by))
    },

    /** @throws NotPossible in GitHub's own words */
    async openPull(fullName: string, { by, head, base, title, body, draft, labels }: NewPull): Promise<Pull> {
      const into = repo(fullName)
      const [owner, branch] = head.includes(':') ? (head.split(':') as [string, string]) : [into.owner.login, head]
      const from =
        owner.toLowerCase() === into.owner.login.toLowerCase()
          ? into
          : [...repos.values()].find(
              (one) => one.parent === into && one.owner.login.toLowerCase() === owner.toLowerCase(),
            )
      const commit = from && (await commitOf(from.dir, `refs/heads/${branch}`))
      const baseCommit = await commitOf(into.dir, `refs/heads/${base}`)
      if (from === undefined || commit === undefined) throw new NotPossible('head is invalid')
      if (baseCommit === undefined) throw new NotPossible('base is invalid')
      if (
        into.pulls.some(
          (one) => one.state === 'open' && one.head.repo === from && one.head.branch === branch && one.base === base,
        )
      ) {
        throw new NotPossible(`A pull request already exists for ${owner}:${branch}.`)
      }
      const pull: Pull = {
        ...{ id: nextId(), number: into.pulls.length + 1, title, body: body ?? null, user: user(by) },
        ...{ head: { repo: from, branch }, base, commit, baseCommit, state: 'open', draft: draft ?? false },
        ...{ mergedAt: null, mergedBy: null, closedAt: null, reviews: [] },
        ...{
          labels: [...(labels ?? [])],
          labelings: (labels ?? []).map((name) => labeling('labeled', name, user(by))),
        },
        ...{ createdAt: now(), updatedAt: now() },
      }
      await keepPullRef(into, pull)
      if (await isAncestor(into.dir, commit, baseCommit))
        throw new NotPossible(`No commits between ${base} and ${branch}`)
      into.pulls.push(pull)
      tellOfPull(into, pull, 'opened', pull.user)
      return pull
    },

    closePull(fullName: string, number: number, by: string): void {
      const into = repo(fullName)
      const pull = pullOf(into, number)
      close(pull)
      tellOfPull(into, pull, 'closed', user(by))
    },

    reopenPull(fullName: string, number: number, by: string): void {
      const into = repo(fullName)
      const pull = pullOf(into, number)
      pull.state = 'open'
      pull.closedAt = null
      tellOfPull(into, pull, 'reopened', user(by))
    },

    label(fullName: string, number: number, name: string, by: string): void {
      const into = repo(fullName)
      const pull = pullOf(into, number)
      if (pull.labels.includes(name)) return
      pull.labels = [...pull.labels, name]
      pull.labelings.push(labeling('labeled', name, user(by)))
      const label = shapes.pull(into, pull).labels.find((one) => one.name === name)
      tellOfPull(into, pull, 'labeled', user(by), { label })
    },

    unlabel(fullName: string, number: number, name: string, by: string): void {
      const into = repo(fullName)
      const pull = pullOf(into, number)
      const label = shapes.pull(into, pull).labels.find((one) => one.name === name)
      pull.labels = pull.labels.filter((one) => one !== name)
      pull.labelings.push(labeling('unlabeled', name, user(by)))
      tellOfPull(into, pull, 'unlabeled', user(by), { label })
    },

    review(
      fullName: string,
      number: number,
      given: { readonly by: string; readonly state: Review['state']; readonly body?: string },
    ): Review {
      const into = repo(fullName)
      const pull = pullOf(into, number)
      const review = {
        ...{ id: nextId(), user: user(given.by), state: given.state, body: given.body ?? '' },
        ...{ commit: pull.commit, at: now() },
      }
      pull.reviews.push(review)
      webhooks.send(into, 'pull_request_review', {
        action: 'submitted',
        // Small letters here, capitals in the API.
        review: { ...shapes.review(into, pull, review), state: review.state.toLowerCase() },
        ...{ pull_request: shapes.pull(into, pull), repository: repositoryOf(into), sender: shapes.user(review.user) },
      })
      return review
    },

    /** Somebody changes what a comment says. */
    editComment(fullName: string, id: number, body: string): void {
      const comment = repo(fullName).comments.find((one) => one.id === id)
      if (comment === undefined) throw new NotPossible(`${fullName} has no comment ${id}`)
      comment.body = body
      // At least one second later, which is as fine as GitHub's times are.
      comment.updatedAt = `${new Date(Date.parse(comment.createdAt) + 1000).toISOString().slice(0, 19)}Z`
    },

    setDraft(fullName: string, number: number, draft: boolean, by: string): void {
      const into = repo(fullName)
      const pull = pullOf(into, number)
      pull.draft = draft
      tellOfPull(into, pull, draft ? 'converted_to_draft' : 'ready_for_review', user(by))
    },

    comment(fullName: string, number: number, { by, body }: { readonly by: string; readonly body: string }): Comment {
      const into = repo(fullName)
      const pull = pullOf(into, number)
      const comment = { id: nextId(), pull: number, user: user(by), body, createdAt: now(), updatedAt: now() }
      into.comments.push(comment)
      webhooks.send(into, 'issue_comment', {
        ...{ action: 'created', issue: shapes.issue(into, pull), comment: shapes.comment(into, comment) },
        ...{ repository: repositoryOf(into), sender: shapes.user(comment.user) },
      })
      return comment
    },

    /** Of another program. */
    addCheck(fullName: string, commit: string, name: string, conclusion: string | null): void {
      const status = conclusion === null ? 'in_progress' : 'completed'
      repo(fullName).checks.push({
        ...{ id: nextId(), sha: commit, name, status, conclusion, externalId: null, detailsUrl: root },
        ...{ startedAt: now(), completedAt: conclusion === null ? null : now(), annotations: [], actions: [] },
        ...{ title: null, summary: null, text: null },
      })
    },

    /** GitHub's own merge queue takes a pull request: what it would come to is to be judged. */
    async enqueue(fullName: string, number: number): Promise<MergeGroup> {
      const into = repo(fullName)
      const pull = pullOf(into, number)
      const before = await refsOf(into.dir)
      const baseRef = `refs/heads/${pull.base}`
      const base = before.get(baseRef) ?? NONE
      const ref = `refs/heads/gh-readonly-queue/${pull.base}/pr-${number}-${base}`
      const message = `Merge pull request #${number} from ${pull.head.repo.owner.login}/${pull.head.branch}`
      const commit = await writeMerge(into.dir, { ref, base, head: pull.commit, message })
      if (commit === undefined) throw new NotPossible(`${number} cannot be merged`)
      const group = { pull: number, commit, ref, base, baseRef }
      await refsChanged(into, before, user('github-merge-queue[bot]', 'Bot'))
      await tellOfGroup(into, group, 'checks_requested')
      return group
    },

    /** What the queue does as soon as the required checks have passed. @throws NotPossible until then */
    async land(fullName: string, group: MergeGroup): Promise<void> {
      const into = repo(fullName)
      const branch = group.baseRef.replace(/^refs\/heads\//, '')
      const missing = missingCheck(into, branch, group.commit)
      if (missing !== undefined) throw new NotPossible(`Required status check "${missing}" is expected.`)
      const before = await refsOf(into.dir)
      if (!(await moveRef(into.dir, group.baseRef, group.commit, group.base)))
        throw new NotPossible('the base has moved')
      await removeRef(into.dir, group.ref)
      await refsChanged(into, before, user('github-merge-queue[bot]', 'Bot'))
      await tellOfGroup(into, group, 'destroyed', { reason: 'merged' })
    },

    /** A click: on "Re-run", or on the button of that identifier. */
    clickCheck(fullName: string, id: number, by: string, identifier?: string): void {
      const of = repo(fullName)
      const check = of.checks.find((one) => one.id === id)
      if (check === undefined || app === undefined) throw new NotPossible(`${fullName} has no check ${id}`)
      webhooks.send(of, 'check_run', {
        action: identifier === undefined ? 'rerequested' : 'requested_action',
        ...(identifier === undefined ? {} : { requested_action: { identifier } }),
        check_run: checkInPayload(of, check, app),
        ...{ repository: repositoryOf(of), sender: shapes.user(user(by)) },
      })
    },
  }
  return world

  function checkInPayload(of: Repo, check: CheckRun, of_: App) {
    const shape = shapes.check(of, check, of_)
    const suite = {
      ...{
        id: 1,
        node_id: 'CS_1',
        head_branch: null,
        head_sha: check.sha,
        status: 'completed',
        conclusion: check.conclusion,
      },
      ...{ url: `${shapes.apiOf(of)}/check-suites/1`, before: null, after: null, pull_requests: [] },
      ...{ app: shape.app, created_at: now(), updated_at: now(), repository: repositoryOf(of) },
    }
    return { ...shape, check_suite: suite }
  }
}
