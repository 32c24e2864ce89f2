import { z } from 'zod'
import type { Pull, Repo } from '../state.ts'
import { NotPossible } from '../world.ts'
import { type Asked, type FakeRoute, ok, page, parse, Refusal, repoOf, there } from './route.ts'

const NewPull = z.object({
  title: z.string(),
  head: z.string(),
  base: z.string(),
  body: z.string().optional(),
  draft: z.boolean().optional(),
})
const Update = z.object({
  title: z.string().optional(),
  body: z.string().optional(),
  state: z.enum(['open', 'closed']).optional(),
})
const Text = z.object({ body: z.string() })

const PULLS = '/repos/{owner}/{repo}/pulls'
const READ = { permission: 'pull_requests', level: 'read' } as const
const WRITE = { permission: 'pull_requests', level: 'write' } as const

export const pullRoutes: readonly FakeRoute[] = [
  {
    method: 'GET',
    template: PULLS,
    needs: READ,
    handle(asked) {
      const repo = repoOf(asked)
      const { query, world } = asked
      const state = query.get('state') ?? 'open'
      const head = query.get('head')
      const base = query.get('base')
      const pulls = repo.pulls.filter(
        (one) =>
          (state === 'all' || one.state === state) &&
          (base === null || one.base === base) &&
          (head === null || head === `${one.head.repo.owner.login}:${one.head.branch}`),
      )
      const ordered = query.get('direction') === 'asc' ? pulls : pulls.toReversed()
      return page(
        asked,
        `/repos/${repo.fullName}/pulls`,
        ordered.map((one) => world.shapes.pull(repo, one)),
      )
    },
  },
  {
    method: 'POST',
    template: PULLS,
    needs: WRITE,
    async handle(asked) {
      const repo = repoOf(asked)
      const { title, head, base, body, draft } = parse(NewPull, asked)
      try {
        const pull = await asked.world.openPull(repo.fullName, {
          ...{ by: asked.user.login, title, head, base },
          ...(body === undefined ? {} : { body }),
          ...(draft === undefined ? {} : { draft }),
        })
        return ok(asked.world.shapes.fullPull(repo, pull), 201)
      } catch (err) {
        if (!(err instanceof NotPossible)) throw err
        throw new Refusal(422, 'Validation Failed', [{ resource: 'PullRequest', code: 'custom', message: err.message }])
      }
    },
  },
  {
    method: 'GET',
    template: `${PULLS}/{pull_number}`,
    needs: READ,
    handle(asked) {
      const repo = repoOf(asked)
      return ok(asked.world.shapes.fullPull(repo, pullOf(asked, repo, 'pull_number')))
    },
  },
  {
    method: 'PATCH',
    template: `${PULLS}/{pull_number}`,
    needs: WRITE,
    handle(asked) {
      const repo = repoOf(asked)
      const pull = pullOf(asked, repo, 'pull_number')
      const { title, body, state } = parse(Update, asked)
      pull.title = title ?? pull.title
      pull.body = body ?? pull.body
      if (title !== undefined || body !== undefined)
        asked.world.tellOfPull(repo, pull, 'edited', asked.user, { changes: {} })
      if (state === 'closed' && pull.state === 'open')
        asked.world.closePull(repo.fullName, pull.number, asked.user.login)
      if (state === 'open' && pull.state === 'closed')
        asked.world.reopenPull(repo.fullName, pull.number, asked.user.login)
      return ok(asked.world.shapes.fullPull(repo, pull))
    },
  },
  {
    method: 'GET',
    template: `${PULLS}/{pull_number}/reviews`,
    needs: READ,
    handle(asked) {
      const repo = repoOf(asked)
      const pull = pullOf(asked, repo, 'pull_number')
      const reviews = pull.reviews.map((one) => asked.world.shapes.review(repo, pull, one))
      return page(asked, `/repos/${repo.fullName}/pulls/${pull.number}/reviews`, reviews)
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/issues/{issue_number}/events',
    needs: READ,
    handle(asked) {
      const repo = repoOf(asked)
      const pull = pullOf(asked, repo, 'issue_number')
      const events = pull.labelings.map((one) => asked.world.shapes.labeling(repo, one))
      return page(asked, `/repos/${repo.fullName}/issues/${pull.number}/events`, events)
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/issues/{issue_number}/comments',
    needs: READ,
    handle(asked) {
      const repo = repoOf(asked)
      const { number } = pullOf(asked, repo, 'issue_number')
      const comments = repo.comments.filter((one) => one.pull === number)
      const shapes = comments.map((one) => asked.world.shapes.comment(repo, one))
      return page(asked, `/repos/${repo.fullName}/issues/${number}/comments`, shapes)
    },
  },
  {
    method: 'POST',
    template: '/repos/{owner}/{repo}/issues/{issue_number}/comments',
    needs: WRITE,
    handle(asked) {
      const repo = repoOf(asked)
      const { number } = pullOf(asked, repo, 'issue_number')
      const { body } = parse(Text, asked)
      if (body.length > 65_536) throw new Refusal(422, 'Validation Failed')
      const comment = asked.world.comment(repo.fullName, number, { by: asked.user.login, body })
      return ok(asked.world.shapes.comment(repo, comment), 201)
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/issues/comments/{comment_id}',
    needs: READ,
    handle(asked) {
      const repo = repoOf(asked)
      return ok(asked.world.shapes.comment(repo, commentOf(asked, repo)))
    },
  },
  {
    method: 'PATCH',
    template: '/repos/{owner}/{repo}/issues/comments/{comment_id}',
    needs: WRITE,
    handle(asked) {
      const repo = repoOf(asked)
      const comment = commentOf(asked, repo)
      comment.body = parse(Text, asked).body
      comment.updatedAt = asked.world.now()
      return ok(asked.world.shapes.comment(repo, comment))
    },
  },
]

function pullOf({ params }: Asked, repo: Repo, name: string): Pull {
  return there(repo.pulls.find((one) => one.number === Number(params[name])))
}

function commentOf({ params }: Asked, repo: Repo) {
  return there(repo.comments.find((one) => one.id === Number(params.comment_id)))
}
