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
import type { StatusState } from '../../src/core/report/types.ts'
import { createForges } from '../../src/forge/index.ts'
import { createReportPort } from '../../src/forge/report-port.ts'
import type { Forge } from '../../src/forge/types.ts'
import { createMirrors } from '../../src/git/mirrors.ts'
import { createSender } from '../../src/report/sender.ts'
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
/** Time goes by for the database and the rules, and not for the forge. */
let ahead: number

const MINUTE = 60_000
const clock = () => Date.now() + ahead

async function start(kind: 'gitea' | 'gitlab', api: string): Promise<void> {
  const { world } = forgeServer
  await world.addRepository(REPO)
  world.addToken('penstock', TOKEN)
  world.setAccess(REPO, 'penstock', 'admin')
  world.setAccess(REPO, 'ada', 'write')
  world.setAccess(REPO, 'ben', 'write')
  ahead = 0
  dir = await mkdtemp(join(tmpdir(), 'pst-others-'))
  const file = join(dir, 'penstock.config.yml')
  await writeFile(
    file,
    `
server: { listen: "127.0.0.1:0", url: "http://ci.test" }
people: { ada: { roles: [developer], ${kind}: ada }, ben: { roles: [approver], ${kind}: ben } }
repositories:
  ${REPO}:
    forge: { ${kind}: { api: "${forgeServer.url}${api}", token: { env: TOKEN } } }
    url: ${forgeServer.url}/${REPO}.git
    webhook_secrets: [{ env: HOOK_SECRET }]
    merge_label: ship
`,
  )
  const config = await loadConfig({ file, env: { PENSTOCK_DATA: dir, TOKEN, HOOK_SECRET } })
  store = await openStore({ url: `sqlite:${join(dir, 'penstock.db')}`, clock })
  const mirrors = createMirrors({ dir: join(dir, 'mirrors') })
  const forges = createForges({ mirrors, url: config.server.url, log: LOG, clock })
  const { repositories } = config
  forge = forges(repositories[REPO] as RepositoryConfig)
  const rules = createRules({ config, store, forges, mirrors, clock, log: LOG })
  attendant = createAttendant({ notices: store.notices, repositories, forges, rules, clock, log: LOG })
  receiver = createServer(express().use(createWebhookRouter({ config, store, log: LOG })))
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hooks/${kind}`
  forgeServer.hook(REPO, { url, secret: HOOK_SECRET })
}

async function settle(): Promise<void> {
  do await forgeServer.world.webhooks.settled()
  while ((await attendant.once()) > 0)
}

/** Every rule looks at the forge, so often, a minute apart. */
async function looks(times = 1): Promise<void> {
  for (let look = 0; look < times; look++) {
    await settle()
    await attendant.review()
    ahead += MINUTE
  }
  await settle()
}

/** What happens while this is done is told by nobody. */
async function silently<T>(act: () => Promise<T> | T): Promise<T> {
  const { webhooks } = forgeServer.world
  await webhooks.settled()
  webhooks.fault({ kind: 'silent', times: 1 })
  return act()
}

async function succeeds(commit: string): Promise<void> {
  for (const run of await store.runs.list({ repo: REPO, commit, limit: 10 })) {
    const finished = { type: 'run.finished.v1', try: run.try, outcome: 'succeeded' } as const
    await store.events.append(run.id, `end/${run.try}`, [finished])
  }
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

    const upToDate = { commit, context: 'penstock/up-to-date', description: 'up to date with master' }
    const standing = (await forge.statuses?.of(commit)) ?? []
    expect(standing).toHaveLength(2)
    expect(standing).toContainEqual({ ...status, state: 'success', description: 'passed' })
    expect(standing).toContainEqual({ ...upToDate, state: 'success' })
    expect(world.repo(REPO).comments.map(({ body }) => body)).toEqual(['passed\n\n<!-- penstock:summary -->'])
  })

  test('a push that nobody told of has its run, once; so has the head of a pull request', async () => {
    const { world } = forgeServer
    const first = await push('master')
    const page = await push('page')
    await world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })
    await looks()
    const second = await silently(() => push('next'))
    await looks(2)

    const known = async () => (await changes()).map(({ kind: by, change }) => [by, change.commit]).toReversed()
    expect(await known()).toEqual([
      ['push', first],
      ['push', page],
      ['pull_request', page],
      ['push', second],
    ])

    world.webhooks.fault({ kind: 'silent', times: 100 })
    const third = await push('page', 'better')
    await looks(3)

    expect((await known()).slice(4)).toEqual(
      expect.arrayContaining([
        ['push', third],
        ['pull_request', third],
      ]),
    )
    expect(await known()).toHaveLength(6)
  })

  test('what a forge shows as far as it can is no drift; what somebody else has made of it is', async () => {
    const commit = await push('master')
    await looks()
    const port = createReportPort({ forge, isProduction: () => false })
    const sender = createSender({ reports: store.reports, portOf: () => port, clock, log: LOG })
    let version = 0
    const shows = async (states: Readonly<Record<string, StatusState>>, words: string) => {
      version += 1
      const by = { id: `${REPO}#1`, repo: REPO, number: 1, version }
      await store.reports.record(
        by,
        Object.entries(states).map(([context, state]) => {
          const content = { commit, context, state, description: words, url: 'http://ci.test/1' }
          return { kind: 'status', subject: commit, name: context, weight: 2, content }
        }),
      )
      await sender.once()
    }
    const drifts = async () =>
      (await store.audit.list({ limit: 50 })).filter(({ action }) => action === 'forge.drift').map(({ on }) => on)
    await shows({ 'penstock/test': 'pending', 'penstock/e2e': 'pending', 'penstock/run': 'pending' }, 'waits')
    await shows({ 'penstock/test': 'error', 'penstock/e2e': 'success', 'penstock/run': 'pending' }, 'now otherwise')
    await looks(6)
    expect(await drifts()).toEqual([])

    await forge.statuses?.set({ commit, context: 'penstock/test', state: 'success', description: 'trust me' })
    await looks(6)
    await sender.once()

    expect(await drifts()).toEqual([`${REPO} penstock/test`])
    const shown = (await forge.statuses?.of(commit))?.find(({ context }) => context === 'penstock/test')
    expect(shown?.state).toBe(kind === 'gitlab' ? 'failure' : 'error')
  })

  test('the label merges by fast-forward what is approved and green, and says so', async () => {
    const { world } = forgeServer
    const first = await push('master')
    const page = await push('page')
    const { number } = await world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })
    await looks()
    world.label(REPO, number, 'ship', 'ada')
    await looks()
    const comment = () => world.repo(REPO).comments.map(({ body }) => body)
    expect(comment()).toEqual([expect.stringContaining('an approval of')])
    expect(await forge.branchTip('master')).toBe(first)

    await succeeds(page)
    world.review(REPO, number, { by: 'ben', state: 'APPROVED' })
    await looks()

    expect(await forge.branchTip('master')).toBe(page)
    expect(await forge.pullRequests?.get(number)).toMatchObject({ state: 'closed', merged: true })
    expect(comment()).toEqual([expect.stringMatching(/Merged.*`ada`/)])
    expect(await store.audit.list({ limit: 100 })).toContainEqual(
      expect.objectContaining({ by: 'ada', action: 'pull.merge', channel: 'label' }),
    )
  })

  test('the label of somebody who may only read merges nothing', async () => {
    const { world } = forgeServer
    world.setAccess(REPO, 'mallory', 'read')
    const first = await push('master')
    const page = await push('page')
    const { number } = await world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })
    await looks()
    await succeeds(page)
    world.review(REPO, number, { by: 'ben', state: 'APPROVED' })
    world.label(REPO, number, 'ship', 'mallory')
    await looks()

    expect(await forge.branchTip('master')).toBe(first)
    expect(world.repo(REPO).comments.at(-1)?.body).toContain('`mallory` may not write')
  })
})
