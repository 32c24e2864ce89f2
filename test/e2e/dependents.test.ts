import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { BASE_IMAGES } from '../../src/embedded/images.ts'
import type { RunDetail } from '../../src/store/types.ts'
import { type System, startSystem } from '../helpers/system.ts'

const CLIENT = 'acme/client'
let root: string
let bare: string
let system: System

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'penstock-dependents-'))
  bare = join(root, 'client.git')
  await execa('git', ['init', '-q', '--bare', '-b', 'master', bare])
  system = await startSystem({
    repository: `    environments:
      staging: { url: "http://staging.example" }
      production: { approvers: ["role:approver"], quorum: 1, expires: 7d }
    dependents: { blocking: [${CLIENT}], timeout: 10m }
  ${CLIENT}:
    forge: git
    url: ${bare}
    webhook_secrets: [{ env: TEST_HOOK_SECRET }]`,
  })
}, 240_000)
afterAll(async () => {
  await system?.dispose()
  rmSync(root, { recursive: true, force: true })
}, 60_000)

/** What the client has released: its test passes where the file `good` is there. */
async function releaseClient(): Promise<string> {
  const work = mkdtempSync(join(root, 'work-'))
  const git = (...args: string[]) => execa('git', args, { cwd: work })
  await git('init', '-q', '-b', 'production')
  writeFileSync(
    join(work, '.penstock.yml'),
    `on: { upstream: { repo: acme/web } }
image: ${BASE_IMAGES.base}
test: "echo against $CI_UPSTREAM_COMMIT at $CI_UPSTREAM_URL; test $CI_ATTEMPT -gt 1"
`,
  )
  await git('add', '.')
  await git('-c', 'user.name=Ada', '-c', 'user.email=ada@example.org', 'commit', '-q', '-m', 'A release')
  await git('push', '-q', bare, 'production')
  return (await git('rev-parse', 'HEAD')).stdout
}

const CANDIDATE = `image: ${BASE_IMAGES.base}
test: "true"
deploy:
  staging: echo to staging
  production: echo to production
`

test('a dependent that fails against a candidate keeps it from production until it passes', async () => {
  const released = await releaseClient()
  const number = await system.push({ '.penstock.yml': CANDIDATE })
  const commit = (await system.run(number)).change.commit
  await system.until('the gate', async () => (await system.run(number)).waiting?.kind === 'approval', 120)
  const dependent = await system.until<RunDetail>('the dependent', async () => {
    const run = (await system.runs()).find(({ trigger }) => trigger.kind === 'upstream')
    return run && system.run(run.number)
  })
  expect(dependent).toMatchObject({
    repo: CLIENT,
    change: { commit: released, upstream: { repo: 'acme/web', commit } },
  })
  expect(dependent.plan?.stages.map(({ name }) => name) ?? ['test']).toEqual(['test'])
  await system.ended(dependent.number)
  expect(await system.log(dependent.number, 'test')).toContain(`against ${commit} at http://staging.example\n`)

  await system.call('POST', `/runs/${number}/gates/signoff/approve`, { as: 'tess', body: {} })
  const refused = await system.ended(number)
  expect(refused).toMatchObject({
    status: 'failed',
    reason: expect.stringContaining(`run ${dependent.number} of ${CLIENT} failed`),
  })
  expect((await execa('git', ['branch', '--list', 'production'], { cwd: system.bare })).stdout).toBe('')

  await system.call('POST', `/runs/${dependent.number}/retry`, { as: 'olga', body: {} })
  await system.call('POST', `/runs/${number}/retry`, { as: 'olga', body: {} })
  expect(await system.ended(number)).toMatchObject({ status: 'succeeded', try: 2 })
  expect(await system.ended(dependent.number)).toMatchObject({ status: 'succeeded', try: 2 })
  const { stdout } = await execa('git', ['rev-parse', 'production'], { cwd: system.bare })
  expect(stdout).toBe(commit)
}, 240_000)
