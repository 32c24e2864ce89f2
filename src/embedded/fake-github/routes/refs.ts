import { z } from 'zod'
import { isNoCommit } from '../../../forge/incoming.ts'
import { commitOf, isAncestor, moveRef, refsOf, removeRef } from '../repositories.ts'
import type { Activity, Repo } from '../state.ts'
import { type Asked, type FakeRoute, ok, page, parse, Refusal, repoOf, there } from './route.ts'

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
    template: '/repos/{owner}/{repo}/activity',
    needs: { permission: 'contents', level: 'read' },
    async handle(asked) {
      const repo = repoOf(asked)
      const ref = asked.query.get('ref')
      const all = repo.activities.filter((one) => ref === null || one.ref === ref || one.ref === `refs/heads/${ref}`)
      const size = Number(asked.query.get('per_page') ?? 30)
      const newest = all.toReversed().slice(0, size)
      return ok(
        await Promise.all(
          newest.map(async (one) => ({
            ...{ id: one.id, node_id: `A_${one.id}`, before: one.before, after: one.after, ref: one.ref },
            ...{ timestamp: one.at, activity_type: await kindOf(repo, one), actor: asked.world.shapes.user(one.actor) },
          })),
        ),
      )
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
      checkProtection(asked, repo, name, sha, force)
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
]

async function kindOf(repo: Repo, { before, after }: Activity): Promise<string> {
  if (isNoCommit(before)) return 'branch_creation'
  if (isNoCommit(after)) return 'branch_deletion'
  return (await isAncestor(repo.dir, before, after)) ? 'push' : 'force_push'
}

function checkProtection({ user }: Asked, repo: Repo, ref: string, sha: string, force: boolean): void {
  const protection = repo.protections.get(ref.replace(/^refs\/heads\//, ''))
  if (protection === undefined) return
  if (force && !protection.allowForce) throw new Refusal(422, 'Cannot force-push to this branch')
  if (protection.onlyBy !== undefined && !protection.onlyBy.includes(user.login)) {
    throw new Refusal(422, `Protected branch update failed for ${ref}. You're not authorized to push to this branch.`)
  }
  const missing = (protection.checks ?? []).filter((context) => {
    const newest = repo.statuses.findLast((one) => one.sha === sha && one.context === context)
    const check = repo.checks.findLast((one) => one.sha === sha && one.name === context)
    return newest?.state !== 'success' && check?.conclusion !== 'success'
  })
  if (missing.length > 0) throw new Refusal(422, `Required status check "${missing[0]}" is expected.`)
}
