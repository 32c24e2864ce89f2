import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parseGithub } from '../../src/forge/github/payload.ts'
import type { Incoming } from '../../src/forge/incoming.ts'
import { parseJson } from '../../src/forge/json.ts'
import { isSignedWith } from '../../src/forge/signature.ts'
import { createMirrors } from '../../src/git/mirrors.ts'
import { ALL_EVENTS, HOOK_SECRET, type Hub, installedApp, REPO, startHub } from './github.ts'

interface Received {
  readonly event: string
  readonly action: unknown
  readonly guid: string
  readonly signed: boolean
  readonly incoming: Incoming
}

let hub: Hub
let server: Server
let received: Received[]
let answer: number
let hook: { readonly url: string; readonly secret: string }

beforeEach(async () => {
  received = []
  answer = 202
  server = createServer(async (request: IncomingMessage, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const bytes = Buffer.concat(chunks)
    const event = String(request.headers['x-github-event'])
    const body = parseJson(bytes)
    received.push({
      event,
      action: (body as { action?: unknown }).action,
      guid: String(request.headers['x-github-delivery']),
      signed: isSignedWith(bytes, String(request.headers['x-hub-signature-256']), HOOK_SECRET),
      incoming: parseGithub(event, body),
    })
    response.writeHead(answer).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks/github`
  hook = { url, secret: HOOK_SECRET }
  hub = await startHub()
  hub.hook = url
})
afterEach(async () => {
  await hub.github.stop()
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})

const names = () => received.map((one) => (one.action === undefined ? one.event : `${one.event} ${one.action}`))

describe('what happens at GitHub is delivered', () => {
  test('signed, in order, and so that our parser takes it', async () => {
    const { world } = hub.github
    world.addWebhook(REPO, { ...hook, events: ALL_EVENTS })
    const first = await hub.push('master')
    const commit = await hub.push('page', first)
    await world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })
    world.review(REPO, 1, { by: 'ben', state: 'APPROVED' })
    world.comment(REPO, 1, { by: 'ben', body: '/merge' })
    world.label(REPO, 1, 'ship', 'ben')
    const next = await hub.push('page')
    await hub.forge().fastForward('master', next)
    await world.removeBranch(REPO, 'page', 'ada')
    await world.webhooks.settled()

    expect(names()).toEqual([
      'push',
      'push',
      'pull_request opened',
      'pull_request_review submitted',
      'issue_comment created',
      'pull_request labeled',
      'push',
      'pull_request synchronize',
      'push',
      'pull_request closed',
      'push',
    ])
    expect(received.every((one) => one.signed)).toBe(true)
    expect(received.filter((one) => one.incoming.kind === 'refused')).toEqual([])
    expect(received[2]?.incoming).toMatchObject({
      kind: 'notice',
      notice: { kind: 'pull_request', number: 1 },
      otherwise: {
        trigger: { kind: 'pull_request', change: { commit, pullRequest: { number: 1, base: 'master' } } },
      },
    })
    expect(received[8]?.incoming).toMatchObject({
      trigger: { requestedBy: 'penstock', change: { commit: next, before: first, ref: 'refs/heads/master' } },
    })
    expect(received[10]?.incoming).toMatchObject({ kind: 'branch_deleted', ref: 'refs/heads/page' })
  })

  test('a push by git over http is decided by git, and told with who pushed', async () => {
    const { world } = hub.github
    world.addWebhook(REPO, { ...hook, events: ['push'] })
    await hub.push('master')
    const mirrors = createMirrors({ dir: `${world.dir}/mirrors` })
    const source = await hub.forge().source()
    const second = await hub.push('next')

    const moved = await mirrors.fastForward(REPO, source, 'master', second)
    await world.webhooks.settled()

    expect(moved.kind).toBe('moved')
    expect(received.at(-1)?.incoming).toMatchObject({
      trigger: { requestedBy: 'penstock', change: { commit: second, ref: 'refs/heads/master' } },
    })
  })

  test('an App gets its own, with the click on a button of a check', async () => {
    const access = installedApp(hub, undefined, hook)
    const commit = await hub.push('master')
    const put = await hub
      .forge(access)
      .checks?.put({ commit, name: 'test', key: 'k', state: 'failure', title: 't', summary: 's' })
    const id = put?.kind === 'put' ? Number(put.id) : 0

    hub.github.world.clickCheck(REPO, id, 'ada')
    hub.github.world.clickCheck(REPO, id, 'ada', 'retry')
    await hub.github.world.webhooks.settled()

    expect(names()).toEqual(['push', 'check_run rerequested', 'check_run requested_action'])
  })
})

describe.each(['a token', 'an App'])('deliveries that got lost, with %s', (kind) => {
  function setUp() {
    if (kind === 'an App') return hub.forge(installedApp(hub, undefined, hook))
    hub.github.world.addWebhook(REPO, { ...hook, events: ALL_EVENTS })
    return hub.forge()
  }

  test('are listed once each, oldest first, and sent again on demand under the same id', async () => {
    const { webhooks } = hub.github.world
    const forge = setUp()
    await hub.push('master')
    webhooks.fault({ kind: 'lost', times: 1 })
    await hub.push('master')
    answer = 503
    await hub.push('master')
    await webhooks.settled()
    answer = 202

    const lost = (await forge.deliveries?.list(0)) ?? []
    for (const { id } of lost) await forge.deliveries?.redeliver(id)
    await webhooks.settled()

    expect(lost.map((one) => [one.event, one.answer])).toEqual([
      ['push', 0],
      ['push', 503],
    ])
    expect(received.slice(-2).map((one) => one.guid)).toEqual(lost.map((one) => one.guid))
    expect(await forge.deliveries?.list(0)).toEqual([])
  })

  test('are looked for since a time, through all pages', async () => {
    ;(hub.github.world as { maxPage: number }).maxPage = 2
    const forge = setUp()
    answer = 500
    for (let count = 0; count < 5; count++) await hub.push('master')
    await hub.github.world.webhooks.settled()

    expect(await forge.deliveries?.list(0)).toHaveLength(5)
    expect(await forge.deliveries?.list(Date.now() + 10_000)).toEqual([])
  })

  test('are none where nobody has a webhook that leads here', async () => {
    const forge = kind === 'an App' ? hub.forge(installedApp(hub, undefined, hook)) : hub.forge()

    expect(await forge.deliveries?.list(0)).toEqual([])
  })
})
