import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import express from 'express'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'
import type { RepositoryConfig } from '../../src/config/types.ts'
import { createForges } from '../../src/forge/index.ts'
import { createReportPort } from '../../src/forge/report-port.ts'
import type { Forge } from '../../src/forge/types.ts'
import { createMirrors } from '../../src/git/mirrors.ts'
import { type Attendant, createAttendant } from '../../src/rules/attendant.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { Store } from '../../src/store/types.ts'
import { createWebhookRouter } from '../../src/webhook/router.ts'
import { createRules } from '../../worker/rules.ts'
import type { ForgeServer } from '../helpers/forge-server.ts'
import { startGitea } from '../helpers/gitea/gitea.ts'
import { startGitlab } from '../helpers/gitlab/gitlab.ts'
import { REPO, TOKEN } from './labs.ts'

/** Deliveries, receiver, database, rules and API of forges that are not GitHub, all of them real but the forge. */

const HOOK_SECRET = 'secret-of-acme-web-32-bytes-long'
const LOG = pino({ level: process.env.PENSTOCK_TEST_LOG ?? 'silent' })

let dir: string
let forgeServer: ForgeServer
let receiver: Server
let store: Store
let forge: Forge
let attendant: Attendant

async function start(kind: 'gitea' | 'gitlab', api: string): Promise<void> {
  const { world } = forgeServer
  await world.addRepository(REPO)
  world.addToken('penstock', TOKEN)
  world.setAccess(REPO, 'penstock', 'admin')
  world.setAccess(REPO, 'ada', 'write')
  dir = await mkdtemp(join(tmpdir(), 'pst-others-'))
  const file = join(dir, 'penstock.config.yml')
  await writeFile(
    file,
    `
server: { listen: "127.0.0.1:0", url: "http://ci.test" }
people: { ada: { roles: [developer], ${kind}: ada } }
repositories:
  ${REPO}:
    forge: { ${kind}: { api: "${forgeServer.url}${api}", token: { env: TOKEN } } }
    url: ${forgeServer.url}/${REPO}.git
    webhook_secrets: [{ env: HOOK_SECRET }]
`,
  )
  const config = await loadConfig({ file, env: { PENSTOCK_DATA: dir, TOKEN, HOOK_SECRET } })
  store = await openStore({ url: `sqlite:${join(dir, 'penstock.db')}`, clock: Date.now })
  const mirrors = createMirrors({ dir: join(dir, 'mirrors') })
  const forges = createForges({ mirrors, url: config.server.url, log: LOG, clock: Date.now })
  const { repositories } = config
  forge = forges(repositories[REPO] as RepositoryConfig)
  const rules = createRules({ config, store, forges, mirrors, clock: Date.now, log: LOG })
  attendant = createAttendant({ notices: store.notices, repositories, forges, rules, clock: Date.now, log: LOG })
  receiver = createServer(express().use(createWebhookRouter({ config, store, log: LOG })))
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hooks/${kind}`
  forgeServer.hook(REPO, { url, secret: HOOK_SECRET })
}

async function settle(): Promise<void> {
  do await forgeServer.world.webhooks.settled()
  while ((await attendant.once()) > 0)
}

const push = (branch: string, message = `On ${branch}`) =>
  forgeServer.world.push(REPO, branch, { by: 'ada', message, files: { [branch]: message } })

const changes = async () =>
  (await store.runs.list({ limit: 50 })).map(({ trigger, change }) => ({ ...trigger, change }))

afterEach(async () => {
  receiver.closeAllConnections()
  await new Promise((resolve) => receiver.close(resolve))
  await forgeServer.stop()
  await store.close()
  await rm(dir, { recursive: true, force: true })
})

describe.each([
  ['Gitea', 'gitea', '/api/v1', () => startGitea()],
  ['Forgejo', 'gitea', '/api/v1', () => startGitea({ forgejo: true })],
  ['GitLab', 'gitlab', '/api/v4', () => startGitlab()],
] as const)('%s', (_, kind, api, begin) => {
  beforeEach(async () => {
    forgeServer = await begin()
    await start(kind, api)
  })

  test('a push becomes a run, with the commit, who pushed it, and its title', async () => {
    const commit = await push('master', 'A page\n\nand more')
    await settle()

    expect(await changes()).toEqual([
      expect.objectContaining({
        kind: 'push',
        change: expect.objectContaining({ commit, ref: 'refs/heads/master', title: 'A page', pusher: 'ada' }),
      }),
    ])
  })

  test('each head of a pull request gets one run; one from a fork gets one without secrets', async () => {
    const { world } = forgeServer
    await push('master')
    const first = await push('page')
    const { number } = await world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })
    await settle()
    world.label(REPO, number, 'ready', 'ada')
    await settle()
    const second = await push('page', 'better')
    await world.addRepository('mallory/web', { parent: REPO })
    await world.push('mallory/web', 'evil', { by: 'mallory', message: 'x', files: { x: 'x' } })
    await world.openPull(REPO, { by: 'mallory', head: 'mallory:evil', base: 'master', title: 'Hi' })
    await settle()

    const pulls = (await changes()).filter((one) => one.kind === 'pull_request')

    expect(pulls.map(({ change }) => change)).toEqual([
      expect.objectContaining({ author: 'mallory' }),
      expect.objectContaining({ commit: second, author: 'ada', pullRequest: { number, base: 'master' } }),
      expect.objectContaining({ commit: first }),
    ])
    expect(await store.notices.pending()).toEqual([])
  })

  test('comments and reviews are noted with what finds them again', async () => {
    const { world } = forgeServer
    await push('master')
    await push('page')
    const { number } = await world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })
    await settle()
    world.comment(REPO, number, { by: 'ada', body: '/merge' })
    world.review(REPO, number, { by: 'ada', state: 'APPROVED' })
    await world.webhooks.settled()

    const notices = (await store.notices.pending()).map(({ notice }) => notice)

    expect(notices).toEqual([
      { kind: 'comment', pullRequest: number, comment: expect.any(String) },
      { kind: 'review', pullRequest: number },
    ])
    const comment = notices[0]?.kind === 'comment' ? notices[0].comment : ''
    expect(await forge.comments?.get(comment)).toMatchObject({ by: 'ada', body: '/merge', pullRequest: number })
  })

  test('the reporter shows statuses, and one comment', async () => {
    const { world } = forgeServer
    await push('master')
    const commit = await push('page')
    const { number } = await world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })
    const port = createReportPort({ forge, isProduction: () => false })
    const status = { commit, context: 'penstock/test', url: 'http://ci.test/1' } as const

    await port.setStatus?.({ ...status, state: 'pending', description: 'waits for a node' })
    await port.setStatus?.({ ...status, state: 'pending', description: 'runs' })
    await port.setStatus?.({ ...status, state: 'success', description: 'passed' })
    await port.upsertComment?.({ pullRequest: number, marker: 'summary', body: 'runs' })
    await port.upsertComment?.({ pullRequest: number, marker: 'summary', body: 'passed' })
    await settle()

    expect(await forge.statuses?.of(commit)).toEqual([{ ...status, state: 'success', description: 'passed' }])
    expect(world.repo(REPO).comments.map(({ body }) => body)).toEqual(['passed\n\n<!-- penstock:summary -->'])
  })
})
