import { z } from 'zod'
import {
  commitOf,
  isAncestor,
  moveRef,
  refsOf,
  removeRef,
  subjectOf,
} from '../../../../src/embedded/fake-github/repositories.ts'
import type { Pull, Repo } from '../../../../src/embedded/fake-github/state.ts'
import { NotPossible } from '../../../../src/embedded/fake-github/world.ts'
import { type ApiRoute, type Asked, ok, pageOf, parse, Refusal, there } from '../../forge-server.ts'
import { commentShape, pullShape, statusShape, type TimelineEntry, timelineShape, userShape } from '../shapes.ts'

const NewBranch = z.object({ new_branch_name: z.string(), old_ref_name: z.string().optional() })
const NewPull = z.object({ title: z.string(), head: z.string(), base: z.string(), body: z.string().optional() })
const EditPull = z.object({ title: z.string().optional(), body: z.string().optional(), state: z.string().optional() })
const Merge = z.object({ do: z.string(), head_commit_id: z.string().optional() })
const Text = z.object({ body: z.string() })
const NewStatus = z.object({
  state: z.enum(['pending', 'success', 'error', 'failure']),
  context: z.string(),
  description: z.string().optional(),
  target_url: z.string().optional(),
})

const NONE = '0'.repeat(40)
const AT = '/repos/{owner}/{repo}'
const BRANCH = '/repos/{owner}/{repo}/branches/{branch}'
const PULL = '/repos/{owner}/{repo}/pulls/{index}'

export const repositoryRoutes: readonly ApiRoute[] = [
  {
    method: 'GET',
    template: '/user',
    handle: ({ user }) => ok(userShape(user)),
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
    template: `${AT}/branches`,
    needs: 'write',
    async handle(asked) {
      const repo = repoOf(asked)
      const { new_branch_name: name, old_ref_name: from } = parse(NewBranch, asked)
      // Gitea answers 500 for a commit that it does not have.
      const commit = await commitOf(repo.dir, from ?? repo.defaultBranch)
      if (commit === undefined) throw new Refusal(404, 'object does not exist')
      const before = await refsOf(repo.dir)
      if (!(await moveRef(repo.dir, `refs/heads/${name}`, commit, NONE))) {
        throw new Refusal(409, 'The branch already exists.')
      }
      await asked.world.refsChanged(repo, before, asked.user)
      return ok(await branchShape(repo, name, commit), 201)
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
      if (!before.has(ref)) throw new Refusal(404, 'branch does not exist')
      await removeRef(repo.dir, ref)
      await asked.world.refsChanged(repo, before, asked.user)
      return { status: 204 }
    },
  },
  {
    method: 'GET',
    template: `${AT}/collaborators/{collaborator}/permission`,
    handle(asked) {
      const { world, user, params } = asked
      const repo = repoOf(asked)
      const login = params.collaborator ?? ''
      if (world.levelOf(repo, user.login) !== 'admin' && user.login.toLowerCase() !== login.toLowerCase()) {
        throw new Refusal(403, 'Only admins can query all permissions')
      }
      const known = there(world.users.get(login.toLowerCase()), 'user does not exist')
      const permission = world.levelOf(repo, login) ?? 'none'
      const isOwner = repo.owner.login.toLowerCase() === login.toLowerCase()
      return ok({ permission: isOwner ? 'owner' : permission, role_name: permission, user: userShape(known) })
    },
  },
  {
    method: 'GET',
    template: `${AT}/pulls`,
    handle(asked) {
      const { query, world } = asked
      const repo = repoOf(asked)
      const [state, base] = [query.get('state') ?? 'open', query.get('base_branch')]
      const pulls = repo.pulls.filter(
        (one) => (state === 'all' || one.state === state) && (base === null || one.base === base),
      )
      const ordered = query.get('sort') === 'oldest' ? pulls : pulls.toReversed()
      return page(
        asked,
        ordered.map((one) => pullShape(world, repo, one)),
      )
    },
  },
  {
    method: 'POST',
    template: `${AT}/pulls`,
    needs: 'write',
    async handle(asked) {
      const { world, user } = asked
      const repo = repoOf(asked)
      const { title, head, base, body } = parse(NewPull, asked)
      try {
        const more = body === undefined ? {} : { body }
        const pull = await world.openPull(repo.fullName, { by: user.login, title, head, base, ...more })
        return ok(pullShape(world, repo, pull), 201)
      } catch (err) {
        if (!(err instanceof NotPossible)) throw err
        throw new Refusal(409, err.message)
      }
    },
  },
  {
    method: 'GET',
    template: PULL,
    handle: (asked) => ok(pullShape(asked.world, repoOf(asked), pullOf(asked))),
  },
  {
    method: 'PATCH',
    template: PULL,
    needs: 'write',
    handle(asked) {
      const { world, user } = asked
      const [repo, pull] = [repoOf(asked), pullOf(asked)]
      const { title, body, state } = parse(EditPull, asked)
      pull.title = title ?? pull.title
      pull.body = body ?? pull.body
      if (state === 'closed' && pull.state === 'open') world.closePull(repo.fullName, pull.number, user.login)
      return ok(pullShape(world, repo, pull), 201)
    },
  },
  {
    method: 'POST',
    template: `${PULL}/merge`,
    needs: 'write',
    async handle(asked) {
      const { world, user } = asked
      const [repo, pull] = [repoOf(asked), pullOf(asked)]
      const { do: how, head_commit_id } = parse(Merge, asked)
      if (how !== 'fast-forward-only') throw new Refusal(405, `${how} is not an allowed merge style`)
      if (pull.state === 'closed') throw new Refusal(404, 'closed')
      if (head_commit_id !== undefined && head_commit_id !== pull.commit) throw new Refusal(409, 'head out of date')
      const ref = `refs/heads/${pull.base}`
      const before = await refsOf(repo.dir)
      const from = before.get(ref) ?? NONE
      const isForward = await isAncestor(repo.dir, from, pull.commit)
      if (!isForward || !(await moveRef(repo.dir, ref, pull.commit, from))) throw new Refusal(409, 'push out of date')
      await world.refsChanged(repo, before, user)
      return { status: 200 }
    },
  },
  {
    method: 'GET',
    template: `${PULL}/reviews`,
    handle(asked) {
      const pull = pullOf(asked)
      // A dismissal is no review of its own here: it marks the one that it takes back.
      const isTakenBack = (id: number, by: string) =>
        pull.reviews.some((one) => one.state === 'DISMISSED' && one.user.login === by && one.id > id)
      const reviews = pull.reviews.filter((one) => one.state !== 'DISMISSED')
      const shapes = reviews.map((one) => ({
        ...{ id: one.id, user: userShape(one.user), body: one.body, commit_id: one.commit, submitted_at: one.at },
        state: { APPROVED: 'APPROVED', CHANGES_REQUESTED: 'REQUEST_CHANGES', COMMENTED: 'COMMENT', DISMISSED: '' }[
          one.state
        ],
        ...{ dismissed: isTakenBack(one.id, one.user.login), official: true, stale: one.commit !== pull.commit },
      }))
      return page(asked, shapes)
    },
  },
  {
    method: 'GET',
    template: `${AT}/issues/{index}/comments`,
    handle(asked) {
      const [repo, pull] = [repoOf(asked), pullOf(asked)]
      const comments = repo.comments.filter((one) => one.pull === pull.number)
      return ok(comments.map((one) => commentShape(asked.world, repo, one)))
    },
  },
  {
    method: 'POST',
    template: `${AT}/issues/{index}/comments`,
    handle(asked) {
      const [repo, pull] = [repoOf(asked), pullOf(asked)]
      const { body } = parse(Text, asked)
      const comment = asked.world.comment(repo.fullName, pull.number, { by: asked.user.login, body })
      return ok(commentShape(asked.world, repo, comment), 201)
    },
  },
  {
    method: 'GET',
    template: `${AT}/issues/{index}/timeline`,
    handle(asked) {
      const [repo, pull] = [repoOf(asked), pullOf(asked)]
      const { body } = pageOf(asked, timelineOf(repo, pull), 'limit', () => ({}))
      // Taken out of a page after it was cut; the header counts what is left of it.
      const shown = (body as readonly TimelineEntry[]).filter(({ kind }) => kind !== 'code')
      const shapes = shown.map((one) => timelineShape(asked.world, repo, pull, one))
      // A list of Go that nothing was put into is `null`.
      const headers = { 'x-total-count': String(shapes.length) }
      return { status: 200, body: shapes.length === 0 ? null : shapes, headers }
    },
  },
  {
    method: 'GET',
    template: `${AT}/issues/comments/{id}`,
    handle: (asked) => ok(commentShape(asked.world, repoOf(asked), commentOf(asked))),
  },
  {
    method: 'PATCH',
    template: `${AT}/issues/comments/{id}`,
    needs: 'write',
    handle(asked) {
      const comment = commentOf(asked)
      comment.body = parse(Text, asked).body
      comment.updatedAt = asked.world.now()
      return ok(commentShape(asked.world, repoOf(asked), comment))
    },
  },
  {
    method: 'POST',
    template: `${AT}/statuses/{sha}`,
    needs: 'write',
    async handle(asked) {
      const repo = repoOf(asked)
      const { state, context, description, target_url } = parse(NewStatus, asked)
      const { world, user } = asked
      const status = {
        ...{ id: world.nextId(), sha: there(await commitOf(repo.dir, asked.params.sha ?? '')), state, context },
        ...{ description: description ?? null, targetUrl: target_url ?? null, creator: user, at: world.now() },
      }
      repo.statuses.push(status)
      return ok(statusShape(status), 201)
    },
  },
  {
    method: 'GET',
    template: `${AT}/commits/{ref}/statuses`,
    handle(asked) {
      const statuses = repoOf(asked).statuses.filter((one) => one.sha === asked.params.ref)
      return page(asked, statuses.toReversed().map(statusShape))
    },
  },
]

export function repoOf({ world, params }: Pick<Asked, 'world' | 'params'>): Repo {
  return there(world.find(`${params.owner}/${params.repo}`))
}

function pullOf(asked: Asked): Pull {
  return there(repoOf(asked).pulls.find((one) => one.number === Number(asked.params.index)))
}

function timelineOf(repo: Repo, { number, labelings, reviews }: Pull): readonly TimelineEntry[] {
  const comments = repo.comments.filter((one) => one.pull === number)
  const all: readonly TimelineEntry[] = [
    // `1`: put there. Nothing: taken away.
    ...labelings.map(({ event, ...one }) => ({ ...one, kind: 'label' as const, body: event === 'labeled' ? '1' : '' })),
    ...comments.map(({ createdAt, ...one }) => ({ ...one, kind: 'comment' as const, at: createdAt })),
    // A review that judges nothing stands for a comment on a line.
    ...reviews.map((one) => ({ ...one, kind: one.state === 'COMMENTED' ? ('code' as const) : ('review' as const) })),
  ]
  return all.toSorted((one, other) => one.id - other.id)
}

function commentOf(asked: Asked) {
  return there(repoOf(asked).comments.find((one) => one.id === Number(asked.params.id)))
}

function page(asked: Asked, all: readonly unknown[]) {
  return pageOf(asked, all, 'limit', ({ total }) => ({ 'x-total-count': String(total) }))
}

async function branchShape(repo: Repo, name: string, commit: string) {
  const { message, date } = await subjectOf(repo.dir, commit)
  return { name, commit: { id: commit, message, timestamp: date }, protected: false, user_can_push: true }
}
