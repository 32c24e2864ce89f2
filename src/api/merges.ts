import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import type { ApiDeps } from './deps.ts'
import { ProblemError, problem } from './problem.ts'
import { invalid, json, notFound, numberIn, type Route } from './route.ts'

const CHANNELS = ['api', 'cli'] as const
const NewMerge = z.strictObject({
  repo: z.string().max(400),
  pullRequest: z.int().positive(),
  /** What one has looked at; where given, it must be the head. */
  commit: z.string().max(64).optional(),
  channel: z.enum(CHANNELS).default('api'),
})

/** The name of a repository has slashes, which proxies do not leave alone in a path: it stands in the body, as for runs. */
export function mergeRoutes({ config, store, forges }: ApiDeps): readonly Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/merges',
      permission: 'read',
      summary: 'Who asked for the merge of which pull request, newest first, and what has become of it.',
      query: { repo: 'only this repository', limit: 'from 1 to 200; 50 unless said' },
      async handle({ query }) {
        const limit = numberIn(query, 'limit', { least: 1, most: 200, otherwise: 50 })
        const repo = query.get('repo')
        return json({ merges: await store.merges.list({ limit, ...(repo === null ? {} : { repo }) }) })
      },
    },
    {
      method: 'POST',
      path: '/api/v1/merges',
      permission: 'run',
      summary:
        'Asks for a pull request to be merged by fast-forward as soon as the rules hold, as `/merge` does. Who has no write access at the forge (or, without an account there, is no operator) is refused when it comes to it.',
      body: { kind: 'json', schema: NewMerge },
      async handle({ body, by, header }) {
        const { repo, pullRequest, commit, channel } = body as z.infer<typeof NewMerge>
        const repository = Object.hasOwn(config.repositories, repo) ? config.repositories[repo] : undefined
        if (repository === undefined) {
          throw invalid([
            { pointer: '/repo', detail: `unknown; known: ${Object.keys(config.repositories).join(', ') || 'none'}` },
          ])
        }
        const { pullRequests } = forges(repository)
        if (pullRequests === undefined)
          throw new ProblemError(problem(409, `${repo} has no pull requests at its forge`))
        const pull = await pullRequests.get(pullRequest)
        if (pull === undefined) throw notFound()
        const { head } = pull
        if (commit !== undefined && commit !== head.commit) {
          throw new ProblemError(problem(409, `you looked at ${commit}; the head is ${head.commit}`))
        }
        if (pull.state === 'closed') throw new ProblemError(problem(409, `pull request ${pullRequest} is closed`))
        const key = `api/${by}/${(header('idempotency-key') ?? randomUUID()).slice(0, 200)}`
        const asked = { key, repo, pullRequest, commit: head.commit, by, channel }
        return json(await store.merges.ask(asked, { wake: true }), 202)
      },
    },
  ]
}
