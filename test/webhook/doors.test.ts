import { createHmac } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import express from 'express'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createHttpServer } from '../../src/api/app.ts'
import { loadConfig } from '../../src/config/load.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { Store } from '../../src/store/types.ts'
import { createWebhookRouter } from '../../src/webhook/router.ts'
import { giteaComment, giteaPush, gitlabMergeRequest, gitlabPush } from '../forge/other-payloads.ts'
import { COMMIT } from '../forge/payloads.ts'

/** How the doors of other forges know who sends. What holds for every door is tested at GitHub's: router.test.ts. */

const SECRET = 'secret-of-the-repository-32-bytes'
const SIGNING_KEY = Buffer.from('0123456789abcdef0123456789abcdef')
const SIGNING_TOKEN = `whsec_${SIGNING_KEY.toString('base64')}`
const OTHER = 'secret-of-another-one-of-32-bytes'

let dir: string
let store: Store
let server: Server
let url: string

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pst-doors-'))
  const file = join(dir, 'penstock.config.yml')
  await writeFile(
    file,
    `
server: { listen: "127.0.0.1:0", url: "http://ci.test" }
repositories:
  acme/web:
    forge: { gitea: { api: "http://gitea.test/api/v1", token: { env: TOKEN } } }
    url: /srv/git/web.git
    webhook_secrets: [{ env: SECRET }]
  acme/bare:
    forge: { gitea: { api: "http://gitea.test/api/v1" } }
    url: /srv/git/bare.git
    webhook_secrets: [{ env: OTHER }]
  acme/group/web:
    forge: { gitlab: { token: { env: TOKEN } } }
    url: /srv/git/group.git
    webhook_secrets: [{ env: SECRET }, { env: SIGNING_TOKEN }]
  acme/api:
    forge: { gitlab: { token: { env: TOKEN } } }
    url: /srv/git/api.git
    webhook_secrets: [{ env: OTHER }]
`,
  )
  const env = { PENSTOCK_DATA: dir, TOKEN: 'token-of-the-forge', SECRET, OTHER, SIGNING_TOKEN }
  const config = await loadConfig({ file, env })
  store = await openStore({ url: `sqlite:${join(dir, 'penstock.db')}`, clock: Date.now })
  server = createHttpServer(express().use(createWebhookRouter({ config, store, log: pino({ level: 'silent' }) })))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterEach(async () => {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  await store.close()
  await rm(dir, { recursive: true, force: true })
})

async function post(path: string, body: unknown, headers: Readonly<Record<string, string>>) {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const type = { 'content-type': 'application/json' }
  const response = await fetch(`${url}${path}`, { method: 'POST', headers: { ...type, ...headers }, body: text })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

const hex = (body: unknown, secret = SECRET) => createHmac('sha256', secret).update(JSON.stringify(body)).digest('hex')

const runs = () => store.runs.list({ limit: 100 })

describe('the door of Gitea and Forgejo', () => {
  const signed = (body: unknown, prefix = 'x-gitea', more: Readonly<Record<string, string>> = {}) => ({
    [`${prefix}-signature`]: hex(body),
    [`${prefix}-event`]: 'push',
    [`${prefix}-delivery`]: 'f6266f16-1bf3-46a5-9ea4-602e06ead473',
    ...more,
  })

  test.each(['x-gitea', 'x-forgejo'])('a push signed in the header %s-Signature becomes a run', async (prefix) => {
    const push = giteaPush()

    const answer = await post('/hooks/gitea', push, signed(push, prefix))

    expect(answer.status).toBe(202)
    expect((await runs()).map(({ change }) => change.commit)).toEqual([COMMIT])
  })

  test.each([
    ['nothing', {}, 'signature missing'],
    ['an empty signature, as a webhook without a secret sends it', { 'x-gitea-signature': '' }, 'signature missing'],
    ['a signature of another secret', { 'x-gitea-signature': 'a'.repeat(64) }, 'does not match'],
    ['a signature written as GitHub does', { 'x-gitea-signature': `sha256=${'a'.repeat(64)}` }, '64 hex digits'],
    ['a signature in a header of GitHub alone', { 'x-hub-signature-256': `sha256=${hex(giteaPush())}` }, 'missing'],
  ])('%s is refused, and nothing is written', async (_, headers, detail) => {
    const answer = await post('/hooks/gitea', giteaPush(), { ...headers, 'x-gitea-event': 'push' })

    expect(answer).toMatchObject({ status: 401, body: { detail: expect.stringContaining(detail) } })
    expect(await runs()).toEqual([])
  })

  test('what is not authenticated is not parsed', async () => {
    const answer = await post('/hooks/gitea', '{"ref":', signed('{}'))

    expect(answer.status).toBe(401)
  })

  test('a comment on a pull request is noted where the API can be asked', async () => {
    const comment = giteaComment()

    const answer = await post('/hooks/gitea', comment, signed(comment, 'x-gitea', { 'x-gitea-event': 'issue_comment' }))

    expect(answer).toMatchObject({ status: 202, body: { noted: 'comment' } })
    expect((await store.notices.pending()).map(({ notice }) => notice)).toEqual([
      { kind: 'comment', pullRequest: 7, comment: '4711' },
    ])
  })

  test('one repository cannot speak for another', async () => {
    const push = giteaPush({ repository: { full_name: 'acme/bare' } })

    const answer = await post('/hooks/gitea', push, signed(push))

    expect(answer.status).toBe(403)
    expect(await runs()).toEqual([])
  })
})

describe('the door of GitLab', () => {
  const event = (more: Readonly<Record<string, string>>) => ({
    'x-gitlab-event': 'Push Hook',
    'idempotency-key': 'f5e5f430-f57b-4e6e-9fac-d9128cd7232f',
    ...more,
  })
  const standardly = (body: unknown, key: Buffer, id = 'evt_1', time = '1795000000') => ({
    'webhook-id': id,
    'webhook-timestamp': time,
    'webhook-signature': `v1,${createHmac('sha256', key)
      .update(`${id}.${time}.${JSON.stringify(body)}`)
      .digest('base64')}`,
  })

  test('a push with the token of the repository becomes a run, whichever door of it is taken', async () => {
    const push = gitlabPush()

    const one = await post('/hooks/gitlab', push, event({ 'x-gitlab-token': SECRET }))
    const same = await post('/hooks/gitlab/acme/group/web', push, event({ 'x-gitlab-token': SECRET }))

    expect([one.status, same.status]).toEqual([202, 200])
    expect((await runs()).map(({ repo, change }) => [repo, change.commit])).toEqual([['acme/group/web', COMMIT]])
  })

  test.each([
    ['nothing', {}],
    ['an empty token', { 'x-gitlab-token': '' }],
    ['another token', { 'x-gitlab-token': `${SECRET}x` }],
    ['a longer beginning of the token', { 'x-gitlab-token': SECRET.slice(0, -1) }],
    ['a signature by another key', standardly(gitlabPush(), Buffer.from(SECRET))],
    ['a signature of another body', standardly(gitlabPush({ after: '1'.repeat(40) }), SIGNING_KEY)],
    [
      'a signature of another id',
      { ...standardly(gitlabPush(), SIGNING_KEY), 'webhook-id': 'evt_2', 'x-gitlab-token': SECRET },
    ],
    ['a signature of no known version', { ...standardly(gitlabPush(), SIGNING_KEY), 'webhook-signature': 'v2,AA==' }],
  ])('%s is refused, and nothing is written', async (_, headers) => {
    const answer = await post('/hooks/gitlab', gitlabPush(), event(headers))

    expect(answer.status).toBe(401)
    expect(await runs()).toEqual([])
  })

  test('a push with a signature becomes a run, and its id is the one that is signed', async () => {
    const push = gitlabPush()
    const headers = standardly(push, SIGNING_KEY)

    const first = await post('/hooks/gitlab', push, event(headers))
    const replayed = await post('/hooks/gitlab', push, event({ ...headers, 'idempotency-key': 'another' }))

    expect([first.status, replayed.status]).toEqual([202, 200])
    expect(replayed.body).toMatchObject({ duplicate: 'id' })
  })

  test('a merge request is looked at by API', async () => {
    const answer = await post('/hooks/gitlab', gitlabMergeRequest(), {
      'x-gitlab-token': SECRET,
      'x-gitlab-event': 'Merge Request Hook',
      'x-gitlab-webhook-uuid': '0c9f3f1c-5e2b-4a63-a5a5-a4bd0b1a3b9a',
    })

    expect(answer).toMatchObject({ status: 202, body: { noted: 'pull_request' } })
  })

  test('one repository cannot speak for another', async () => {
    const push = gitlabPush({ project: { path_with_namespace: 'acme/api' } })

    const answer = await post('/hooks/gitlab', push, event({ 'x-gitlab-token': SECRET }))

    expect(answer.status).toBe(403)
  })
})
