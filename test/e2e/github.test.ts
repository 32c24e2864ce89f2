import { afterAll, beforeAll, expect, test } from 'vitest'
import { BASE_IMAGES } from '../../src/embedded/images.ts'
import type { RunDetail } from '../../src/store/types.ts'
import { ALL_EVENTS, ALL_PERMISSIONS } from '../forge/github.ts'
import { type CheckedGithub, startGithub } from '../helpers/github/github.ts'
import { HOOK_SECRET, REPO, type System, startSystem } from '../helpers/system.ts'

let github: CheckedGithub
let system: System

beforeAll(async () => {
  github = await startGithub()
  const { world } = github
  await world.addRepository(REPO)
  for (const login of ['ada', 'tess']) world.setAccess(REPO, login, 'write')
  const { id, privateKey } = world.createApp({ slug: 'penstock', permissions: ALL_PERMISSIONS, events: ALL_EVENTS })
  world.installApp([REPO])
  system = await startSystem({
    forge: {
      yaml: `{ github: { api: "${github.url}", app: { id: "${id}", private_key: { env: TEST_APP_KEY } } } }`,
      url: `${github.url}/${REPO}.git`,
    },
    env: { TEST_APP_KEY: privateKey },
  })
  world.addWebhook(REPO, { url: `${system.url}/hooks/github`, secret: HOOK_SECRET, events: ALL_EVENTS })
}, 240_000)
afterAll(async () => {
  await system?.dispose()
  await github?.stop()
}, 90_000)

const SPEC = {
  '.penstock.yml': `image: ${BASE_IMAGES.base}
test: "true"
e2e: "true"
deploy:
  staging: echo to staging
  production: echo to production
`,
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

const runFor = (what: string, is: (run: RunDetail) => boolean) =>
  system.until<RunDetail>(what, async () => {
    for (const { number } of await system.runs()) {
      const run = await system.run(number)
      if (is(run)) return run
    }
    return undefined
  })

const shown = (commit: string, context: string, state: string) =>
  system.until(`${context} ${state}`, async () => statesOf(commit)[context]?.at(-1) === state, 60)

test('a change goes from its pull request to production, and GitHub shows each step', async () => {
  const { world } = github
  await world.push(REPO, 'master', {
    by: 'ada',
    message: 'Begin',
    files: { 'README.md': 'x', '.penstock.yml': 'image: a\n' },
  })
  const commit = await world.push(REPO, 'feature', { by: 'ada', message: 'A page', files: SPEC })
  const { number } = await world.openPull(REPO, { by: 'ada', head: 'feature', base: 'master', title: 'A page' })

  const tested = await runFor('the run of the pull request', (run) => run.trigger.kind === 'pull_request')
  expect(tested.change).toMatchObject({ commit, pullRequest: { number } })
  expect(await system.ended(tested.number)).toMatchObject({ status: 'succeeded' })
  await shown(commit, 'penstock/test', 'success')
})
