import { z } from 'zod'
import { commitOf } from '../repositories.ts'
import type { CheckRun, Repo } from '../state.ts'
import { type Asked, type FakeRoute, ok, page, parse, Refusal, repoOf, there } from './route.ts'

const NewStatus = z.object({
  state: z.enum(['pending', 'success', 'failure', 'error']),
  context: z.string().default('default'),
  description: z.string().max(140).nullish(),
  target_url: z.string().nullish(),
})

const Annotation = z.object({
  path: z.string(),
  start_line: z.int(),
  end_line: z.int(),
  annotation_level: z.enum(['notice', 'warning', 'failure']),
  message: z.string(),
  title: z.string().max(255).optional(),
})
const CheckFields = z.object({
  name: z.string().optional(),
  details_url: z.string().optional(),
  external_id: z.string().optional(),
  status: z.string().optional(),
  conclusion: z.string().optional(),
  output: z
    .object({
      title: z.string().optional(),
      summary: z.string().max(65_535),
      text: z.string().max(65_535).optional(),
      annotations: z.array(Annotation).max(50).default([]),
    })
    .optional(),
  actions: z
    .array(z.object({ identifier: z.string().max(20), label: z.string().max(20), description: z.string().max(40) }))
    .max(3)
    .optional(),
})
const NewCheck = CheckFields.extend({ name: z.string(), head_sha: z.string() })

const NewDeployment = z.object({
  ref: z.string(),
  environment: z.string().default('production'),
  payload: z.union([z.record(z.string(), z.unknown()), z.string()]).default(''),
  description: z.string().max(140).nullish(),
  production_environment: z.boolean().optional(),
})
const NewDeploymentStatus = z.object({
  state: z.enum(['error', 'failure', 'inactive', 'in_progress', 'queued', 'pending', 'success']),
  description: z.string().max(140).default(''),
  log_url: z.string().default(''),
  environment_url: z.string().default(''),
})

const STATUSES = { permission: 'statuses', level: 'write' } as const
const CHECKS = { permission: 'checks', level: 'write' } as const
const DEPLOYMENTS = { permission: 'deployments', level: 'write' } as const
const DEPLOYMENT = '/repos/{owner}/{repo}/deployments/{deployment_id}/statuses'

/** What is said about commits: statuses, checks, deployments. */
export const commitRoutes: readonly FakeRoute[] = [
  {
    method: 'POST',
    template: '/repos/{owner}/{repo}/statuses/{sha}',
    needs: STATUSES,
    async handle(asked) {
      const repo = repoOf(asked)
      const { state, context, description, target_url } = parse(NewStatus, asked)
      const { world, user } = asked
      const status = {
        ...{ id: world.nextId(), sha: await commitIn(repo, asked.params.sha), state, context },
        ...{ description: description ?? null, targetUrl: target_url ?? null, creator: user, at: world.now() },
      }
      repo.statuses.push(status)
      return ok(world.shapes.status(repo, status), 201)
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/commits/{ref}/statuses',
    needs: { ...STATUSES, level: 'read' },
    async handle(asked) {
      const repo = repoOf(asked)
      const sha = await commitIn(repo, asked.params.ref)
      const statuses = repo.statuses.filter((one) => one.sha === sha).toReversed()
      const shapes = statuses.map((one) => asked.world.shapes.status(repo, one))
      return page(asked, `/repos/${repo.fullName}/commits/${sha}/statuses`, shapes)
    },
  },
  {
    method: 'POST',
    template: '/repos/{owner}/{repo}/check-runs',
    needs: CHECKS,
    async handle(asked) {
      const repo = repoOf(asked)
      const { head_sha, ...fields } = parse(NewCheck, asked)
      const check: CheckRun = {
        ...{ id: asked.world.nextId(), sha: await commitIn(repo, head_sha), name: fields.name, status: 'queued' },
        ...{
          conclusion: null,
          externalId: null,
          detailsUrl: asked.world.root,
          startedAt: asked.world.now(),
          completedAt: null,
        },
        ...{ title: null, summary: null, text: null, annotations: [], actions: [] },
      }
      change(asked, check, fields)
      repo.checks.push(check)
      return ok(shapeOf(asked, repo, check), 201)
    },
  },
  {
    method: 'PATCH',
    template: '/repos/{owner}/{repo}/check-runs/{check_run_id}',
    needs: CHECKS,
    handle(asked) {
      const repo = repoOf(asked)
      const check = there(repo.checks.find((one) => one.id === Number(asked.params.check_run_id)))
      change(asked, check, parse(CheckFields, asked))
      return ok(shapeOf(asked, repo, check))
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/commits/{ref}/check-runs',
    needs: { ...CHECKS, level: 'read' },
    async handle(asked) {
      const repo = repoOf(asked)
      const sha = await commitIn(repo, asked.params.ref)
      const name = asked.query.get('check_name')
      const checks = repo.checks.filter((one) => one.sha === sha && (name === null || one.name === name))
      const shapes = checks.map((one) => shapeOf(asked, repo, one))
      return page(asked, `/repos/${repo.fullName}/commits/${sha}/check-runs`, shapes, (check_runs) => ({
        total_count: shapes.length,
        check_runs,
      }))
    },
  },
  {
    method: 'POST',
    template: '/repos/{owner}/{repo}/deployments',
    needs: DEPLOYMENTS,
    async handle(asked) {
      const repo = repoOf(asked)
      const { ref, environment, payload, description, production_environment } = parse(NewDeployment, asked)
      const { world, user } = asked
      const deployment = {
        ...{ id: world.nextId(), sha: await commitIn(repo, ref), ref, environment, payload, creator: user },
        ...{ description: description ?? null, production: production_environment ?? environment === 'production' },
        ...{ at: world.now(), statuses: [] },
      }
      repo.deployments.push(deployment)
      return ok(world.shapes.deployment(repo, deployment), 201)
    },
  },
  {
    method: 'GET',
    template: '/repos/{owner}/{repo}/deployments',
    needs: { ...DEPLOYMENTS, level: 'read' },
    handle(asked) {
      const repo = repoOf(asked)
      const sha = asked.query.get('sha')
      const environment = asked.query.get('environment')
      const deployments = repo.deployments
        .filter((one) => (sha === null || one.sha === sha) && (environment === null || one.environment === environment))
        .toReversed()
      const shapes = deployments.map((one) => asked.world.shapes.deployment(repo, one))
      return page(asked, `/repos/${repo.fullName}/deployments`, shapes)
    },
  },
  {
    method: 'POST',
    template: DEPLOYMENT,
    needs: DEPLOYMENTS,
    handle(asked) {
      const repo = repoOf(asked)
      const deployment = deploymentOf(asked, repo)
      const { state, description, log_url, environment_url } = parse(NewDeploymentStatus, asked)
      const { world, user } = asked
      const status = {
        ...{ id: world.nextId(), state, description, logUrl: log_url, environmentUrl: environment_url },
        ...{ creator: user, at: world.now() },
      }
      deployment.statuses.push(status)
      return ok(world.shapes.deploymentStatus(repo, deployment, status), 201)
    },
  },
  {
    method: 'GET',
    template: DEPLOYMENT,
    needs: { ...DEPLOYMENTS, level: 'read' },
    handle(asked) {
      const repo = repoOf(asked)
      const deployment = deploymentOf(asked, repo)
      const shapes = deployment.statuses.map((one) => asked.world.shapes.deploymentStatus(repo, deployment, one))
      return page(asked, `/repos/${repo.fullName}/deployments/${deployment.id}/statuses`, shapes.toReversed())
    },
  },
]

/** Annotations are added to those that are there; everything else is replaced. */
function change({ world }: Asked, check: CheckRun, fields: z.infer<typeof CheckFields>): void {
  const { name, details_url, external_id, status, conclusion, output, actions } = fields
  check.name = name ?? check.name
  check.detailsUrl = details_url ?? check.detailsUrl
  check.externalId = external_id ?? check.externalId
  check.conclusion = conclusion ?? (status === undefined || status === 'completed' ? check.conclusion : null)
  check.status = conclusion === undefined ? (status ?? check.status) : 'completed'
  check.completedAt = check.status === 'completed' ? world.now() : null
  check.actions = actions ?? check.actions
  if (output === undefined) return
  check.title = output.title ?? check.title
  check.summary = output.summary
  check.text = output.text ?? check.text
  check.annotations.push(
    ...output.annotations.map(({ title, ...rest }) => ({ ...rest, ...(title === undefined ? {} : { title }) })),
  )
}

function shapeOf({ world }: Asked, repo: Repo, check: CheckRun) {
  return world.shapes.check(repo, check, world.app())
}

function deploymentOf({ params }: Asked, repo: Repo) {
  return there(repo.deployments.find((one) => one.id === Number(params.deployment_id)))
}

async function commitIn(repo: Repo, name: string | undefined): Promise<string> {
  const commit = await commitOf(repo.dir, name ?? '')
  if (commit === undefined) throw new Refusal(422, `No commit found for SHA: ${name}`)
  return commit
}
