import { z } from 'zod'
import { whyProtected } from '../protection.ts'
import { commitOf, isAncestor, moveRef, refsOf, removeRef } from '../repositories.ts'
import { type FakeRoute, ok, page, parse, Refusal, repoOf, there } from './route.ts'

const NewRef = z.object({ ref: z.string(), sha: z.string() })
const Update = z.object({ sha: z.string(), force: z.boolean().default(false) })
const NONE = '0'.repeat(40)

/** What git itself decides, it decides here. */
export const refRoutes: readonly FakeRoute[] = [
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/branches',
    needs: { permission: 'contents', level: 'read' },
    async handle(asked) {
      const repo = repoOf(asked)
      const api = asked.world.shapes.apiOf(repo)
      const branches = [...(await refsOf(repo.dir))].flatMap(([ref, sha]) => {
        const name = ref.replace(/^refs\/heads\//, '')
        if (name === ref) return []
        return [{ name, commit: { sha, url: `${api}/commits/${sha}` }, protected: repo.protections.has(name) }]
      })
      return page(asked, `/repos/${repo.fullName}/branches`, branches)
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/git/ref/{ref}',
    needs: { permission: 'contents', level: 'read' },
    async handle(asked) {
      const repo = repoOf(asked)
      const name = `refs/${asked.params.ref}`
      const sha = there((await refsOf(repo.dir)).get(name))
      return ok(asked.world.shapes.ref(repo, name, sha))
    },
  },
  {
    method: 'POST',
    template: '/repos/{owner}/{repo}/git/refs',
    needs: { permission: 'contents', level: 'write' },
    async handle(asked) {
      const repo = repoOf(asked)
      const { ref, sha } = parse(NewRef, asked)
      if ((await commitOf(repo.dir, sha)) !== sha) throw new Refusal(422, 'Object does not exist')
      const before = await refsOf(repo.dir)
      if (before.has(ref) || !(await moveRef(repo.dir, ref, sha, NONE)))
        throw new Refusal(422, 'Reference already exists')
      await asked.world.refsChanged(repo, before, asked.user)
      return ok(asked.world.shapes.ref(repo, ref, sha), 201)
    },
  },
  {
    method: 'PATCH',
    template: '/repos/{owner}/{repo}/git/refs/{ref}',
    needs: { permission: 'contents', level: 'write' },
    async handle(asked) {
      const repo = repoOf(asked)
      const { sha, force } = parse(Update, asked)
      const name = `refs/${asked.params.ref}`
      const before = await refsOf(repo.dir)
      const from = before.get(name)
      if (from === undefined) throw new Refusal(422, 'Reference does not exist')
      if ((await commitOf(repo.dir, sha)) !== sha) throw new Refusal(422, 'Object does not exist')
      if (!force && !(await isAncestor(repo.dir, from, sha))) throw new Refusal(422, 'Update is not a fast forward')
      const why = whyProtected(repo, name.replace(/^refs\/heads\//, ''), { sha, by: asked.user, force })
      if (why !== undefined) throw new Refusal(422, why)
      if (!(await moveRef(repo.dir, name, sha, from))) throw new Refusal(409, 'Reference cannot be updated')
      await asked.world.refsChanged(repo, before, asked.user)
      return ok(asked.world.shapes.ref(repo, name, sha))
    },
  },
  {
    method: 'DELETE',
    template: '/repos/{owner}/{repo}/git/refs/{ref}',
    needs: { permission: 'contents', level: 'write' },
    async handle(asked) {
      const repo = repoOf(asked)
      const name = `refs/${asked.params.ref}`
      const before = await refsOf(repo.dir)
      if (!before.has(name)) throw new Refusal(422, 'Reference does not exist')
      await removeRef(repo.dir, name)
      await asked.world.refsChanged(repo, before, asked.user)
      return { status: 204, body: undefined }
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/activity',
    needs: { permission: 'contents', level: 'read' },
    handle(asked) {
      const repo = repoOf(asked)
      const { query, world } = asked
      // Newest first, and the next page by what was last seen: GitHub counts no pages here.
      const seen = Number(query.get('after') ?? Number.POSITIVE_INFINITY)
      const ref = query.get('ref')
      const older = repo.activities
        .toReversed()
        .filter((one) => one.id < seen && (ref === null || one.ref === ref || one.ref === `refs/heads/${ref}`))
      const shown = older.slice(0, Math.min(world.maxPage, Number(query.get('per_page') ?? 30)))
      const reply = ok(shown.map((one) => world.shapes.activity(one)))
      const last = shown.at(-1)
      if (last === undefined || shown.length === older.length) return reply
      const next = new URLSearchParams(query)
      next.set('after', String(last.id))
      return { ...reply, headers: { link: `<${world.root}/repos/${repo.fullName}/activity?${next}>; rel="next"` } }
    },
  },
]
