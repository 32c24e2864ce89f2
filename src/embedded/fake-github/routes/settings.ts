import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import type { App, Delivery, Hook, Installation, Protection, Repo } from '../state.ts'
import { type Asked, type FakeRoute, ok, page, parse, Refusal, repoOf, there } from './route.ts'

const ADMINISTRATION = { permission: 'administration', level: 'read' } as const
const HOOKS = { permission: 'repository_hooks', level: 'read' } as const
const HOUR_MS = 3_600_000

const NewToken = z.object({
  repositories: z.array(z.string()).optional(),
  permissions: z.record(z.string(), z.string()).optional(),
})

/** Who may do what, what protects branches, where deliveries go, and the App. */
export const settingsRoutes: readonly FakeRoute[] = [
  {
    method: 'GET',
    template: '/user',
    needs: 'anyone',
    handle({ world, user }) {
      return ok({
        ...world.shapes.user(user),
        ...{ name: null, company: null, blog: null, location: null, email: null, hireable: null, bio: null },
        ...{ public_repos: 0, public_gists: 0, followers: 0, following: 0 },
        ...{ created_at: world.now(), updated_at: world.now() },
      })
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}',
    needs: { permission: 'metadata', level: 'read' },
    handle(asked) {
      const repo = repoOf(asked)
      return ok(asked.world.shapes.fullRepository(repo, asked.world.levelOf(repo, asked.user.login)))
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/collaborators/{username}/permission',
    needs: { permission: 'metadata', level: 'read' },
    handle(asked) {
      const repo = repoOf(asked)
      const { world, params } = asked
      const user = there(world.users.get((params.username ?? '').toLowerCase()))
      const permission = world.levelOf(repo, user.login) ?? 'none'
      const role_name = world.roleOf(repo, user.login) ?? 'none'
      return ok({ permission, role_name, user: { ...world.shapes.user(user), role_name } })
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/branches/{branch}/protection',
    needs: ADMINISTRATION,
    handle(asked) {
      const repo = repoOf(asked)
      const branch = asked.params.branch ?? ''
      const protection = repo.protections.get(branch)
      if (protection === undefined) throw new Refusal(404, 'Branch not protected')
      return ok(protectionShape(asked, repo, branch, protection))
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/rules/branches/{branch}',
    needs: { permission: 'metadata', level: 'read' },
    handle(asked) {
      repoOf(asked)
      return ok([])
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/hooks',
    needs: HOOKS,
    handle(asked) {
      const repo = repoOf(asked)
      return page(
        asked,
        `/repos/${repo.fullName}/hooks`,
        repo.hooks.map((one) => asked.world.shapes.hook(repo, one)),
      )
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/hooks/{hook_id}/deliveries',
    needs: HOOKS,
    handle(asked) {
      const repo = repoOf(asked)
      const hook = hookOf(asked, repo)
      return deliveriesOf(asked, `/repos/${repo.fullName}/hooks/${hook.id}/deliveries`, hook)
    },
  },
  {
    method: 'POST',
    template: '/repos/{owner}/{repo}/hooks/{hook_id}/deliveries/{delivery_id}/attempts',
    needs: { ...HOOKS, level: 'write' },
    handle(asked) {
      const hook = hookOf(asked, repoOf(asked))
      asked.world.webhooks.redeliver(hook, deliveryOf(asked, hook))
      return ok({}, 202)
    },
  },
  {
    method: 'GET',
    template: '/app',
    needs: 'app',
    handle(asked) {
      return ok(asked.world.shapes.integration(appOf(asked)))
    },
  },
  {
    method: 'GET',
    template: '/app/hook/config',
    needs: 'app',
    handle(asked) {
      return ok(asked.world.shapes.hookConfig(there(appOf(asked).hook)))
    },
  },
  {
    method: 'GET',
    template: '/app/hook/deliveries',
    needs: 'app',
    handle(asked) {
      return deliveriesOf(asked, '/app/hook/deliveries', there(appOf(asked).hook))
    },
  },
  {
    method: 'POST',
    template: '/app/hook/deliveries/{delivery_id}/attempts',
    needs: 'app',
    handle(asked) {
      const hook = there(appOf(asked).hook)
      asked.world.webhooks.redeliver(hook, deliveryOf(asked, hook))
      return ok({}, 202)
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/installation',
    needs: 'app',
    handle(asked) {
      const app = appOf(asked)
      const repo = repoOf(asked)
      const installation = there(app.installations.find((one) => one.repositories.includes(repo.fullName)))
      return ok(asked.world.shapes.installation(app, installation))
    },
  },
  {
    method: 'GET',
    template: '/app/installations/{installation_id}',
    needs: 'app',
    handle(asked) {
      return ok(asked.world.shapes.installation(appOf(asked), installationOf(asked)))
    },
  },
  {
    method: 'POST',
    template: '/app/installations/{installation_id}/access_tokens',
    needs: 'app',
    handle(asked) {
      const app = appOf(asked)
      const { world } = asked
      const installation = installationOf(asked)
      const { repositories, permissions } = parse(NewToken, asked)
      const all = installation.repositories
      const chosen =
        repositories === undefined ? all : all.filter((one) => repositories.includes(one.split('/')[1] ?? ''))
      const given = permissions ?? installation.permissions
      const beyond = Object.entries(given).some(([name, level]) => !reaches(installation.permissions[name], level))
      if (beyond || (repositories !== undefined && chosen.length < repositories.length)) {
        throw new Refusal(422, 'The permissions requested are not granted to this installation.')
      }
      const token = `ghs_${randomBytes(18).toString('base64url').replace(/[-_]/g, 'x')}`
      world.tokens.set(token, { kind: 'installation', user: app.bot, repositories: chosen, permissions: given })
      const expires_at = `${new Date(world.clock() + HOUR_MS).toISOString().slice(0, 19)}Z`
      return ok({ token, expires_at, permissions: given, repository_selection: 'selected' }, 201)
    },
  },
]

export function reaches(given: string | undefined, wanted: string): boolean {
  const ranks = ['read', 'write', 'admin']
  return given !== undefined && ranks.indexOf(given) >= ranks.indexOf(wanted)
}

function appOf({ world }: Asked): App {
  return there(world.app())
}

function installationOf(asked: Asked): Installation {
  return there(appOf(asked).installations.find((one) => one.id === Number(asked.params.installation_id)))
}

function hookOf({ params }: Asked, repo: Repo): Hook {
  return there(repo.hooks.find((one) => one.id === Number(params.hook_id)))
}

function deliveryOf({ params }: Asked, hook: Hook): Delivery {
  return there(hook.deliveries.find((one) => one.id === Number(params.delivery_id)))
}

/** Newest first, paged by a cursor: new ones do not shift the pages. */
function deliveriesOf(asked: Asked, path: string, hook: Hook) {
  const size = Math.min(asked.world.maxPage, Number(asked.query.get('per_page') ?? 30))
  const before = Number(asked.query.get('cursor') ?? Number.POSITIVE_INFINITY)
  const rest = hook.deliveries.filter((one) => one.id < before).toSorted((a, b) => b.id - a.id)
  const rows = rest.slice(0, size)
  const last = rows.at(-1)
  const body = rows.map((one) => asked.world.shapes.delivery(one, null))
  if (last === undefined || rest.length <= size) return ok(body)
  const query = new URLSearchParams(asked.query)
  query.set('cursor', String(last.id))
  return { status: 200, body, headers: { link: `<${asked.world.root}${path}?${query}>; rel="next"` } }
}

function protectionShape({ world }: Asked, repo: Repo, branch: string, protection: Protection) {
  const url = `${world.shapes.apiOf(repo)}/branches/${branch}/protection`
  const { checks, reviews, linear, allowForce, allowDeletion, onlyBy } = protection
  const lists = { users_url: `${url}/users`, teams_url: `${url}/teams`, apps_url: `${url}/apps` }
  const users = (onlyBy ?? [])
    .filter((login) => !login.endsWith('[bot]'))
    .map((login) => world.shapes.user(world.user(login)))
  return {
    url,
    ...(checks === undefined
      ? {}
      : {
          required_status_checks: {
            ...{
              url: `${url}/required_status_checks`,
              contexts_url: `${url}/contexts`,
              strict: true,
              contexts: checks,
            },
            checks: checks.map((context) => ({ context, app_id: null })),
          },
        }),
    ...(reviews === undefined
      ? {}
      : {
          required_pull_request_reviews: {
            ...{ url: `${url}/required_pull_request_reviews`, dismiss_stale_reviews: true },
            ...{ require_code_owner_reviews: false, required_approving_review_count: reviews },
          },
        }),
    ...(onlyBy === undefined
      ? {}
      : { restrictions: { url: `${url}/restrictions`, ...lists, users, teams: [], apps: [] } }),
    enforce_admins: { url: `${url}/enforce_admins`, enabled: true },
    required_linear_history: { enabled: linear ?? false },
    allow_force_pushes: { enabled: allowForce ?? false },
    allow_deletions: { enabled: allowDeletion ?? false },
  }
}
