import { z } from 'zod'
import { commitOf, moveRef, refsOf, removeRef, subjectOf } from '../../../src/embedded/fake-github/repositories.ts'
import type { Pull, Repo } from '../../../src/embedded/fake-github/state.ts'
import { NotPossible, type World } from '../../../src/embedded/fake-github/world.ts'
import { type ApiRoute, type Asked, ok, pageOf, parse, Refusal, there } from '../forge-server.ts'
import {
  type GitlabStatus,
  labelEventShape,
  mergeRequestShape,
  noteShape,
  projectShape,
  statusShape,
  userShape,
} from './shapes.ts'

const NewMergeRequest = z.strictObject({
  source_branch: z.string(),
  target_branch: z.string(),
  title: z.string(),
  description: z.string().optional(),
})
const EditMergeRequest = z.strictObject({
  title: z.string().optional(),
  description: z.string().optional(),
  state_event: z.enum(['close', 'reopen']).optional(),
})
const NewNote = z.strictObject({ body: z.string().max(1_000_000) })
const NewStatus = z.strictObject({
  state: z.enum(['pending', 'running', 'success', 'failed', 'canceled', 'skipped']),
  name: z.string(),
  description: z.string().max(255).optional(),
  target_url: z.string().max(255).optional(),
})
const DEPLOYED = z.enum(['running', 'success', 'failed', 'canceled'])
const NewDeployment = z.strictObject({
  environment: z.string(),
  sha: z.string(),
  ref: z.string(),
  tag: z.boolean(),
  status: DEPLOYED,
})

interface Deployment {
  readonly id: number
  readonly environment: string
  readonly sha: string
  readonly ref: string
  status: string
}

/** Beside the world, which knows them as GitHub has them. */
interface Own {
  readonly statuses: GitlabStatus[]
  readonly deployments: Deployment[]
}

const owns = new WeakMap<Repo, Own>()
const NONE = '0'.repeat(40)
const LEVELS = { read: 20, write: 30, maintain: 40, admin: 50 }
const AT = '/projects/{id}'
const BRANCH = '/projects/{id}/repository/branches/{branch}'
const MERGE = '/projects/{id}/merge_requests/{iid}'
const PAGED = ['page', 'per_page']

/** `query`: what may be asked; anything else fails the test. GitLab itself would not say a word. */
export const routes: readonly (ApiRoute & { readonly query?: readonly string[] })[] = [
  { method: 'GET', template: '/user', handle: ({ world, user }) => ok(userShape(world, user)) },
  {
    method: 'GET',
    template: '/users',
    query: ['username'],
    handle({ world, query }) {
      const known = world.users.get((query.get('username') ?? '').toLowerCase())
      return ok(known === undefined ? [] : [userShape(world, known)])
    },
  },
  { method: 'GET', template: AT, handle: (asked) => ok(projectShape(asked.world, repoOf(asked))) },
  {
    method: 'GET',
    template: `${AT}/members/all/{user}`,
    handle(asked) {
      const { world, params } = asked
      const known = there([...world.users.values()].find((one) => String(one.id) === params.user))
      const level = there(repoOf(asked).access.get(known.login.toLowerCase()), '404 Not found')
      return ok({ ...userShape(world, known), access_level: LEVELS[level], membership_state: 'active' })
    },
  },
  {
    method: 'GET',
    template: BRANCH,
    async handle(asked) {
      const repo = repoOf(asked)
      const name = asked.params.branch ?? ''
      return ok(await branchShape(repo, name, there((await refsOf(repo.dir)).get(`refs/heads/${name}`))))
    },
  },
  {
    method: 'POST',
    template: `${AT}/repository/branches`,
    needs: 'write',
    async handle(asked) {
      const repo = repoOf(asked)
      const { branch, ref } = parse(z.strictObject({ branch: z.string(), ref: z.string() }), asked)
      const commit = await commitOf(repo.dir, ref)
      if (commit === undefined) throw new Refusal(400, `Invalid reference name: ${ref}`)
      const before = await refsOf(repo.dir)
      if (!(await moveRef(repo.dir, `refs/heads/${branch}`, commit, NONE))) {
        throw new Refusal(400, 'Branch already exists')
      }
      await asked.world.refsChanged(repo, before, asked.user)
      return ok(await branchShape(repo, branch, commit), 201)
    },
  },
  {
    method: 'DELETE',
    template: BRANCH,
    needs: 'write',
    async handle(asked) {
      const repo = repoOf(asked)
      const ref = `refs/heads/${asked.params.branch}`
      const before = await refsOf(repo.dir)
      if (!before.has(ref)) throw new Refusal(404, '404 Branch Not Found')
      await removeRef(repo.dir, ref)
      await asked.world.refsChanged(repo, before, asked.user)
      return { status: 204 }
    },
  },
  {
    method: 'GET',
    template: `${AT}/merge_requests`,
    query: ['state', 'order_by', 'sort', 'source_branch', 'target_branch', ...PAGED],
    handle(asked) {
      const { world, query } = asked
      const repo = repoOf(asked)
      const [state, source, target] = ['state', 'source_branch', 'target_branch'].map((name) => query.get(name))
      const shapes = repo.pulls.map((one) => mergeRequestShape(world, repo, one))
      const met = shapes.filter(
        (one) =>
          (state == null || state === 'all' || one.state === state) &&
          (source == null || one.source_branch === source) &&
          (target == null || one.target_branch === target),
      )
      return page(asked, query.get('sort') === 'asc' ? met : met.toReversed())
    },
  },
  {
    method: 'POST',
    template: `${AT}/merge_requests`,
    needs: 'write',
    async handle(asked) {
      const { world, user } = asked
      const repo = repoOf(asked)
      const { source_branch: head, target_branch: base, title, description } = parse(NewMergeRequest, asked)
      try {
        const more = description === undefined ? {} : { body: description }
        const pull = await world.openPull(repo.fullName, { by: user.login, title, head, base, ...more })
        return ok(mergeRequestShape(world, repo, pull), 201)
      } catch (err) {
        if (!(err instanceof NotPossible)) throw err
        throw new Refusal(409, `Another open merge request already exists for this source branch: ${err.message}`)
      }
    },
  },
  {
    method: 'GET',
    template: MERGE,
    handle: (asked) => ok(mergeRequestShape(asked.world, repoOf(asked), pullOf(asked))),
  },
  {
    method: 'PUT',
    template: MERGE,
    needs: 'write',
    handle(asked) {
      const { world, user } = asked
      const [repo, pull] = [repoOf(asked), pullOf(asked)]
      const { title, description, state_event } = parse(EditMergeRequest, asked)
      pull.title = title ?? pull.title
      pull.body = description ?? pull.body
      if (state_event === 'close' && pull.state === 'open') world.closePull(repo.fullName, pull.number, user.login)
      return ok(mergeRequestShape(world, repo, pull))
    },
  },
  {
    method: 'GET',
    template: `${MERGE}/approvals`,
    handle(asked) {
      const standing = lastWords(asked).filter((one) => one.state === 'APPROVED')
      const approved_by = standing.map((one) => ({ user: userShape(asked.world, one.user), approved_at: one.at }))
      return ok({ approved: approved_by.length > 0, approved_by })
    },
  },
  {
    method: 'GET',
    template: `${MERGE}/reviewers`,
    handle(asked) {
      const states = { APPROVED: 'approved', CHANGES_REQUESTED: 'requested_changes', DISMISSED: 'unapproved' }
      const words = lastWords(asked).filter((one) => one.state !== 'COMMENTED')
      return ok(
        words.map((one) => ({
          user: userShape(asked.world, one.user),
          state: states[one.state as keyof typeof states],
          created_at: one.at,
        })),
      )
    },
  },
  {
    method: 'GET',
    template: `${MERGE}/versions`,
    query: PAGED,
    handle(asked) {
      const { world } = asked
      const pull = pullOf(asked)
      // The heads that somebody has spoken about, each a second older than the first word; the one that is there now.
      const heads = new Map<string, string>()
      for (const { commit, at } of pull.reviews) {
        if (!heads.has(commit)) heads.set(commit, new Date(Date.parse(at) - 1000).toISOString())
      }
      if (!heads.has(pull.commit)) heads.set(pull.commit, world.now())
      const versions = [...heads].map(([head_commit_sha, created_at], id) => ({ id, head_commit_sha, created_at }))
      return page(asked, versions.toReversed())
    },
  },
  {
    method: 'GET',
    template: `${MERGE}/resource_label_events`,
    query: PAGED,
    handle(asked) {
      const pull = pullOf(asked)
      return page(
        asked,
        pull.labelings.map((one) => labelEventShape(asked.world, pull, one)),
      )
    },
  },
  {
    method: 'GET',
    template: `${MERGE}/notes`,
    query: ['order_by', 'sort', ...PAGED],
    handle(asked) {
      const [repo, pull] = [repoOf(asked), pullOf(asked)]
      const notes = repo.comments.filter((one) => one.pull === pull.number)
      const shapes = notes.map((one) => noteShape(asked.world, one))
      return page(asked, asked.query.get('sort') === 'asc' ? shapes : shapes.toReversed())
    },
  },
  {
    method: 'POST',
    template: `${MERGE}/notes`,
    handle(asked) {
      const { body } = parse(NewNote, asked)
      const by = asked.user.login
      const comment = asked.world.comment(repoOf(asked).fullName, pullOf(asked).number, { by, body })
      return ok(noteShape(asked.world, comment), 201)
    },
  },
  {
    method: 'GET',
    template: `${MERGE}/notes/{note}`,
    handle: (asked) => ok(noteShape(asked.world, noteOf(asked))),
  },
  {
    method: 'PUT',
    template: `${MERGE}/notes/{note}`,
    handle(asked) {
      const note = noteOf(asked)
      note.body = parse(NewNote, asked).body
      note.updatedAt = asked.world.now()
      return ok(noteShape(asked.world, note))
    },
  },
  {
    method: 'POST',
    template: `${AT}/statuses/{sha}`,
    needs: 'write',
    async handle(asked) {
      const { world, user } = asked
      const repo = repoOf(asked)
      const { name, state, description, target_url } = parse(NewStatus, asked)
      const sha = there(await commitOf(repo.dir, asked.params.sha ?? ''), '404 Commit Not Found')
      const { statuses } = ownOf(repo)
      const open = statuses.findLast((one) => one.sha === sha && one.context === name && isOpen(one.state))
      if (open?.state === state) throw new Refusal(400, `Cannot transition status via :enqueue from :${state}`)
      const status: GitlabStatus = {
        ...{ id: open?.id ?? world.nextId(), sha, context: name, state, ref: 'master', at: world.now(), creator: user },
        ...{ description: description ?? null, targetUrl: target_url ?? null },
      }
      if (open === undefined) statuses.push(status)
      else statuses[statuses.indexOf(open)] = status
      return ok(statusShape(world, status), 201)
    },
  },
  {
    method: 'GET',
    template: `${AT}/repository/commits/{sha}/statuses`,
    query: PAGED,
    handle(asked) {
      const all = ownOf(repoOf(asked)).statuses.filter((one) => one.sha === asked.params.sha)
      const latest = all.filter((one) => all.findLast(({ context }) => context === one.context) === one)
      return page(
        asked,
        latest.map((one) => statusShape(asked.world, one)),
      )
    },
  },
  {
    method: 'GET',
    template: `${AT}/deployments`,
    query: ['environment', 'order_by', 'sort', ...PAGED],
    handle(asked) {
      const name = asked.query.get('environment')
      const met = ownOf(repoOf(asked)).deployments.filter((one) => name === null || one.environment === name)
      return page(asked, asked.query.get('sort') === 'desc' ? met.toReversed() : met)
    },
  },
  {
    method: 'POST',
    template: `${AT}/deployments`,
    needs: 'write',
    async handle(asked) {
      const repo = repoOf(asked)
      const { environment, sha, ref, status } = parse(NewDeployment, asked)
      if ((await commitOf(repo.dir, sha)) === undefined) throw new Refusal(400, 'The commit does not exist')
      if ((await commitOf(repo.dir, ref)) === undefined) throw new Refusal(400, 'The branch or tag does not exist')
      const made = { id: asked.world.nextId(), environment, sha, ref, status }
      ownOf(repo).deployments.push(made)
      return ok(made, 201)
    },
  },
  {
    method: 'GET',
    template: `${AT}/deployments/{deployment}`,
    handle: (asked) => ok(deploymentOf(asked)),
  },
  {
    method: 'PUT',
    template: `${AT}/deployments/{deployment}`,
    needs: 'write',
    handle(asked) {
      const deployment = deploymentOf(asked)
      const { status } = parse(z.strictObject({ status: DEPLOYED }), asked)
      if (status === 'running' || status === deployment.status) throw new Refusal(400, 'Status cannot transition')
      deployment.status = status
      return ok(deployment)
    },
  },
]

export function projectOf(world: World, id: string | undefined): Repo | undefined {
  return id !== undefined && /^\d+$/.test(id)
    ? world.repos().find((one) => String(one.id) === id)
    : world.find(id ?? '')
}

function repoOf({ world, params }: Asked): Repo {
  return there(projectOf(world, params.id), '404 Project Not Found')
}

function pullOf(asked: Asked): Pull {
  return there(repoOf(asked).pulls.find((one) => one.number === Number(asked.params.iid)))
}

function noteOf(asked: Asked) {
  const { number } = pullOf(asked)
  return there(repoOf(asked).comments.find((one) => one.pull === number && one.id === Number(asked.params.note)))
}

function deploymentOf(asked: Asked): Deployment {
  return there(ownOf(repoOf(asked)).deployments.find((one) => one.id === Number(asked.params.deployment)))
}

function ownOf(repo: Repo): Own {
  const known = owns.get(repo) ?? { statuses: [], deployments: [] }
  owns.set(repo, known)
  return known
}

/** Of each person, the last that was more than a comment. */
function lastWords(asked: Asked) {
  const { reviews } = pullOf(asked)
  const words = reviews.filter((one) => one.state !== 'COMMENTED')
  return words.filter((one) => words.findLast(({ user }) => user === one.user) === one)
}

function isOpen(state: string): boolean {
  return state === 'pending' || state === 'running'
}

function page(asked: Asked, all: readonly unknown[]) {
  return pageOf(asked, all, 'per_page', ({ total, next }) => ({
    'x-total': String(total),
    'x-next-page': next === undefined ? '' : String(next),
  }))
}

async function branchShape(repo: Repo, name: string, commit: string) {
  const { message, date } = await subjectOf(repo.dir, commit)
  return { name, commit: { id: commit, message, committed_date: date }, merged: false, protected: false }
}
