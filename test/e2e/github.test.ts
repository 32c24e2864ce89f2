import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { BASE_IMAGES } from '../../src/embedded/images.ts'
import type { RunRow } from '../../src/store/types.ts'
import { ALL_EVENTS, ALL_PERMISSIONS } from '../forge/github.ts'
import { type CheckedGithub, startGithub } from '../helpers/github/github.ts'
import { HOOK_SECRET, REPO, type System, startSystem } from '../helpers/system.ts'

const CLIENT = 'acme/client'
let github: CheckedGithub
let system: System
let released: string

const SPEC = {
  '.penstock.yml': `image: ${BASE_IMAGES.base}
test: "true"
e2e: "true"
deploy:
  staging: echo to staging
  production: echo to production
`,
}
const CLIENTS_SPEC = {
  '.penstock.yml': `on: { upstream: { repo: ${REPO} } }
image: ${BASE_IMAGES.base}
test: echo against $CI_UPSTREAM_COMMIT
`,
}

beforeAll(async () => {
  github = await startGithub()
  const { world } = github
  for (const [repo, files] of [
    [REPO, SPEC],
    [CLIENT, CLIENTS_SPEC],
  ] as const) {
    await world.addRepository(repo)
    for (const login of ['ada', 'ben', 'tess']) world.setAccess(repo, login, 'write')
    const first = await world.push(repo, 'master', { by: 'ben', message: 'Begin', files })
    await execa('git', ['update-ref', 'refs/heads/production', first], { cwd: world.repo(repo).dir })
  }
  released = (await tipOf('production')) ?? ''
  // As docs/github.md has it.
  world.protect(REPO, 'master', { checks: ['penstock/test', 'penstock/up-to-date'], reviews: 1, linear: true })
  world.protect(REPO, 'production', { checks: ['penstock/signoff'], linear: true, onlyBy: ['penstock[bot]'] })
  const { id, privateKey } = world.createApp({ slug: 'penstock', permissions: ALL_PERMISSIONS, events: ALL_EVENTS })
  world.installApp([REPO, CLIENT])
  const forge = `{ github: { api: "${github.url}", app: { id: "${id}", private_key: { env: TEST_APP_KEY } } } }`
  system = await startSystem({
    forge: { yaml: forge, url: `${github.url}/${REPO}.git` },
    repository: `    environments:
      staging: { url: "http://staging.example" }
      production: { approvers: ["role:approver"], quorum: 1, expires: 7d }
    dependents: { blocking: [${CLIENT}], timeout: 10m }
  ${CLIENT}:
    forge: ${forge}
    url: ${github.url}/${CLIENT}.git
    webhook_secrets: [{ env: TEST_HOOK_SECRET }]`,
    env: { TEST_APP_KEY: privateKey },
  })
  for (const repo of [REPO, CLIENT]) {
    world.addWebhook(repo, { url: `${system.url}/hooks/github`, secret: HOOK_SECRET, events: ALL_EVENTS })
  }
}, 240_000)
afterAll(async () => {
  await system?.dispose()
  await github?.stop()
}, 90_000)

async function tipOf(branch: string): Promise<string | undefined> {
  const { dir } = github.world.repo(REPO)
  const { stdout } = await execa('git', ['for-each-ref', '--format=%(objectname)', `refs/heads/${branch}`], {
    cwd: dir,
  })
  return stdout || undefined
}

/** States by context, each as often as it changed, in the order in which GitHub took them. */
function statesOf(commit: string): Record<string, string[]> {
  const states: Record<string, string[]> = {}
  for (const { sha, context, state } of github.world.repo(REPO).statuses) {
    if (sha !== commit) continue
    states[context] ??= []
    if (states[context].at(-1) !== state) states[context].push(state)
  }
  return states
}

/** Contexts in the order in which they became green for good. */
function greens(commit: string): readonly string[] {
  const { statuses } = github.world.repo(REPO)
  const greens = statuses.filter(({ sha, state }) => sha === commit && state === 'success')
  return [...new Set(greens.map(({ context }) => context).toReversed())].toReversed()
}

const runOf = (commit: string, is: (run: RunRow) => boolean) =>
  system.until<RunRow>(
    `a run of ${commit}`,
    async () => (await system.runs()).find((run) => run.change.commit === commit && is(run)),
    60,
  )
const ofPull = ({ trigger }: RunRow) => trigger.kind === 'pull_request'
const ofBranch = (branch: string) => (run: RunRow) => run.change.ref === `refs/heads/${branch}`

const shown = (commit: string, context: string, state: string) =>
  system.until(`${context} ${state}`, async () => statesOf(commit)[context]?.at(-1) === state, 60)
const described = (commit: string, context: string) =>
  github.world.repo(REPO).statuses.findLast((one) => one.sha === commit && one.context === context)?.description

const comments = (pull: number) =>
  github.world
    .repo(REPO)
    .comments.filter((one) => one.pull === pull)
    .map(({ body }) => body)

test('a change goes from its branch to production, and GitHub shows each step', async () => {
  const { world } = github

  // A pull request is tested, and told when it falls behind.
  const early = await world.push(REPO, 'feature', { by: 'ada', message: 'A page', files: { 'page.txt': '1' } })
  const { number } = await world.openPull(REPO, { by: 'ada', head: 'feature', base: 'master', title: 'A page' })
  const first = await runOf(early, ofPull)
  expect(first.change).toMatchObject({ author: 'ada', pullRequest: { number } })
  expect(await system.ended(first.number)).toMatchObject({ status: 'succeeded' })
  await shown(early, 'penstock/test', 'success')
  await shown(early, 'penstock/up-to-date', 'success')
  const other = await world.push(REPO, 'master', { by: 'ben', message: 'Urgent', files: { 'urgent.txt': '1' } })
  await shown(early, 'penstock/up-to-date', 'failure')
  expect(described(early, 'penstock/up-to-date')).toBe('1 commit behind master: rebase')

  // Each push to master is a candidate; staging is one's alone until it is decided on.
  const hasty = await runOf(other, ofBranch('master'))
  await shown(other, 'penstock/staging', 'success')
  await system.until('the sign-off', async () => (await system.run(hasty.number)).waiting?.kind === 'approval', 60)
  await system.call('POST', `/runs/${hasty.number}/gates/signoff/reject`, { as: 'tess', body: { comment: 'wait' } })
  expect(await system.ended(hasty.number)).toMatchObject({ status: 'failed', reason: expect.stringContaining('wait') })
  await shown(other, 'penstock/signoff', 'failure')

  // It is rebased, and merged by fast-forward as soon as it may be.
  const files = { 'page.txt': '2' }
  const commit = await world.push(REPO, 'feature', { by: 'ada', message: 'A page', files, parent: other })
  world.comment(REPO, number, { by: 'ada', body: '/merge' })
  await system.ended((await runOf(commit, ofPull)).number)
  await system.until('what is missing', async () => comments(number).some((body) => /approv/.test(body)), 60)
  expect(await tipOf('master')).toBe(other)
  world.review(REPO, number, { by: 'ben', state: 'APPROVED' })
  await system.until('the merge', async () => world.repo(REPO).pulls[0]?.mergedAt != null, 60)
  expect(await tipOf('master')).toBe(commit)

  // The candidate is built, deployed, tested, and tested against by who depends on it.
  const candidate = await runOf(commit, ofBranch('master'))
  await shown(commit, 'penstock/e2e', 'success')
  await shown(commit, `penstock/dependents/${CLIENT}`, 'success')
  await shown(commit, 'penstock/signoff', 'pending')
  const dependent = (await system.runs()).find((run) => run.repo === CLIENT && run.change.upstream?.commit === commit)
  expect(await system.log(dependent?.number ?? 0, 'test')).toContain(`against ${commit}\n`)

  // A pull request asks for production, which is moved to exactly that commit.
  const promotion = await system.until('the promotion', async () => world.repo(REPO).pulls[1], 60)
  expect(promotion).toMatchObject({ base: 'production', commit, state: 'open' })
  await system.until('the dependents', async () => promotion.body?.includes(`\`${CLIENT}\` (must pass): succeeded`), 60)
  await system.until('who may approve', async () => (described(commit, 'penstock/signoff') ?? '').includes('tess'), 60)
  expect(await tipOf('production')).toBe(released)
  world.review(REPO, promotion.number, { by: 'tess', state: 'APPROVED' })
  expect(await system.ended(candidate.number)).toMatchObject({ status: 'succeeded' })
  expect(await tipOf('production')).toBe(commit)
  const release = await runOf(commit, ofBranch('production'))
  expect(await system.ended(release.number)).toMatchObject({ status: 'succeeded' })
  await shown(commit, 'penstock/production', 'success')
  await shown(commit, 'penstock/run', 'success')
  expect(world.repo(REPO).pulls[1]).toMatchObject({ state: 'closed', mergedAt: expect.any(String) })

  const again = ['pending', 'success', 'pending', 'success']
  const omittedBefore = ['success', 'pending', 'success']
  const once = ['pending', 'success']
  expect(statesOf(commit)).toEqual({
    'penstock/up-to-date': ['success'],
    'penstock/test': again,
    'penstock/staging': omittedBefore,
    'penstock/e2e': omittedBefore,
    [`penstock/dependents/${CLIENT}`]: once,
    'penstock/signoff': once,
    'penstock/promote': once,
    'penstock/production': once,
    'penstock/run': again,
  })
  const order = greens(commit)
  const stages = ['test', 'staging', 'e2e', 'signoff', 'promote', 'production'].map((stage) => `penstock/${stage}`)
  expect(order.filter((context) => stages.includes(context))).toEqual(stages)
  const follows = ['penstock/staging', `penstock/dependents/${CLIENT}`, 'penstock/signoff']
  expect(order.filter((context) => follows.includes(context))).toEqual(follows)
  const deployed = () =>
    world.repo(REPO).deployments.map(({ sha, environment, statuses }) => {
      const { state, environmentUrl } = statuses.at(-1) ?? {}
      return { sha, environment, state, environmentUrl }
    })
  await system.until('the last deployment', async () => deployed().at(-1)?.state === 'success', 60)
  expect(deployed()).toEqual([
    { sha: other, environment: 'staging', state: 'success', environmentUrl: 'http://staging.example' },
    { sha: commit, environment: 'staging', state: 'success', environmentUrl: 'http://staging.example' },
    { sha: commit, environment: 'production', state: 'success', environmentUrl: '' },
  ])
}, 600_000)
