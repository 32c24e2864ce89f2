import { createHash } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import express from 'express'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createHttpServer } from '../../src/api/app.ts'
import { sign } from '../../src/forge/signature.ts'
import { createWebhookRouter } from '../../src/webhook/router.ts'
import { HOOK_SECRET, OLD_SECRET, OTHER_SECRET, PLAIN_SECRET, type Running, startServer } from '../api/server.ts'
import { BEFORE, COMMIT, githubPullRequest, githubPush, NO_COMMIT } from '../forge/payloads.ts'

let server: Running
let deliveries = 0

beforeEach(async () => {
  server = await startServer()
})
afterEach(async () => {
  await server.stop()
})

interface Sending {
  readonly body?: unknown
  readonly raw?: Buffer
  readonly secret?: string
  readonly path?: string
  readonly headers?: Readonly<Record<string, string | undefined>>
}

async function send({
  body = githubPush(),
  raw,
  secret = HOOK_SECRET,
  path = '/hooks/github',
  headers = {},
}: Sending = {}) {
  const bytes = raw ?? Buffer.from(JSON.stringify(body))
  const all = {
    'content-type': 'application/json',
    'x-hub-signature-256': sign(bytes, secret),
    'x-github-event': 'push',
    'x-github-delivery': `delivery-${++deliveries}`,
    ...headers,
  }
  const present = Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined)
  const response = await fetch(`${server.url}${path}`, {
    method: 'POST',
    headers: present,
    body: new Uint8Array(bytes),
  })
  return {
    status: response.status,
    headers: response.headers,
    body: (await response.json()) as Record<string, unknown>,
  }
}

async function runs() {
  return server.store.runs.list({ limit: 100 })
}

describe('a delivery that is right', () => {
  test('becomes a run whose start is certain, and is told which', async () => {
    const answer = await send()

    expect(answer.status).toBe(202)
    expect(answer.body).toEqual({ run: 1, id: 'acme/web#1', url: 'http://ci.test/api/v1/runs/1' })
    expect((await server.store.outbox.pending()).map((row) => row.message)).toEqual([
      { kind: 'start', run: 'acme/web#1', try: 1, retry: false },
    ])
    expect((await runs())[0]?.change).toMatchObject({
      commit: COMMIT,
      ref: 'refs/heads/master',
      before: BEFORE,
      pusher: 'ben-o',
    })
  })

  test('may be signed with either of two secrets while they are rotated', async () => {
    expect((await send({ secret: OLD_SECRET })).status).toBe(202)
  })

  test('may come to the address of its repository', async () => {
    expect((await send({ path: '/hooks/github/acme/web' })).status).toBe(202)
    expect((await send({ path: '/hooks/github/acme/other' })).status).toBe(401)
  })

  test('of a pull request becomes a run of its own', async () => {
    const answer = await send({ body: githubPullRequest(), headers: { 'x-github-event': 'pull_request' } })

    expect(answer.status).toBe(202)
    expect((await runs())[0]?.trigger.kind).toBe('pull_request')
    // There is nobody here to ask: GitHub has signed that its head is a branch of the repository.
    expect((await runs())[0]).toMatchObject({ status: 'queued', secrets: 'repository' })
  })

  const plainPush = (pusher: string | undefined) => {
    const body = { repository: 'acme/plain', ref: 'refs/heads/master', before: NO_COMMIT, after: COMMIT, pusher }
    const bytes = Buffer.from(JSON.stringify(body))
    const id = { 'x-penstock-signature-256': sign(bytes, PLAIN_SECRET), 'x-penstock-delivery': `d-${++deliveries}` }
    return send({ raw: bytes, secret: PLAIN_SECRET, path: '/hooks/git', headers: id })
  }

  test.each([
    ['a person', 'ben'],
    ['a person by the login at its host', 'Cyd-P'],
  ])('of a plain repository, pushed by %s, becomes a run', async (_who, pusher) => {
    const { status } = await plainPush(pusher)

    expect(status).toBe(202)
    expect((await runs())[0]).toMatchObject({ repo: 'acme/plain', change: { pusher, commit: COMMIT } })
  })

  test.each([
    ['somebody unknown', 'git'],
    ['nobody', undefined],
  ])('of a plain repository, pushed by %s, starts nothing where the operator says so', async (_who, pusher) => {
    const { status, body } = await plainPush(pusher)

    expect(status).toBe(200)
    expect(body.ignored).toMatch(new RegExp(`knows nobody who is "${pusher ?? ''}"`))
    expect(await runs()).toEqual([])
  })

  test('of a branch that Penstock made for a promotion starts nothing, by either door', async () => {
    const ref = 'refs/heads/penstock/promote/7'
    const plain = Buffer.from(JSON.stringify({ repository: 'acme/plain', ref, before: NO_COMMIT, after: COMMIT }))
    const pull = githubPullRequest()
    Object.assign((pull.pull_request as { head: object }).head, { ref: 'penstock/promote/7' })

    const answers = [
      await send({ body: githubPush({ ref }) }),
      await send({ body: pull, headers: { 'x-github-event': 'pull_request' } }),
      await send({
        ...{ raw: plain, secret: PLAIN_SECRET, path: '/hooks/git' },
        headers: { 'x-penstock-signature-256': sign(plain, PLAIN_SECRET), 'x-penstock-delivery': 'd-1' },
      }),
    ]

    expect(answers.map(({ body }) => String(body.ignored).includes('Penstock’s own'))).toEqual([true, true, true])
    expect(await runs()).toEqual([])
  })

  test.each([
    ['ping', { zen: 'Keep it simple' }],
    ['issues', { action: 'opened', repository: { full_name: 'acme/web' } }],
  ])('of the event %s is acknowledged and ignored by name', async (event, body) => {
    const answer = await send({ body, headers: { 'x-github-event': event } })

    expect(answer.status).toBe(200)
    expect(answer.body.ignored).toContain(event)
    expect(await runs()).toEqual([])
  })
})

describe('threat', () => {
  test('W01: without a signature it is refused, and nothing is written', async () => {
    const answer = await send({ headers: { 'x-hub-signature-256': undefined } })

    expect(answer.status).toBe(401)
    expect(answer.headers.get('content-type')).toContain('application/problem+json')
    expect(answer.body.detail).toBe('signature missing')
    expect(await runs()).toEqual([])
  })

  test('W02: signed with another secret', async () => {
    expect((await send({ secret: 'another-secret-of-32-bytes-......' })).status).toBe(401)
  })

  test('W03: signed with SHA-1 only', async () => {
    const sha1 = `sha1=${createHash('sha1').update('x').digest('hex')}`
    const answer = await send({ headers: { 'x-hub-signature-256': undefined, 'x-hub-signature': sha1 } })

    expect(answer.status).toBe(401)
    expect(answer.body.detail).toBe('sha256 signature required')
  })

  test('W04: one space was added to the body', async () => {
    const bytes = Buffer.from(JSON.stringify(githubPush()))
    const answer = await send({
      raw: Buffer.concat([bytes, Buffer.from(' ')]),
      headers: { 'x-hub-signature-256': sign(bytes, HOOK_SECRET) },
    })

    expect(answer.status).toBe(401)
    expect(await runs()).toEqual([])
  })

  test.each([
    ['63 digits', `sha256=${'a'.repeat(63)}`],
    ['no digits', `sha256=${'z'.repeat(64)}`],
    ['10 KiB', `sha256=${'a'.repeat(10 * 1024)}`],
    ['é', 'sha256=é'],
  ])('W05: a signature of %s', async (_, signature) => {
    expect((await send({ headers: { 'x-hub-signature-256': signature } })).status).toBe(401)
  })

  test('W06: a body over 25 MiB is refused before it is read', async () => {
    const declared = await new Promise<number | undefined>((resolve, reject) => {
      const request = httpRequest(`${server.url}/hooks/github`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'x-hub-signature-256': `sha256=${'a'.repeat(64)}`,
          'content-length': 26 * 1024 * 1024 + 1,
        },
      })
      request.on('response', (response) => {
        resolve(response.statusCode)
        request.destroy()
      })
      request.on('error', reject)
      request.write('{')
    })

    expect(declared).toBe(413)
  })

  test('W06: nor is one that does not say its length', async () => {
    const status = await new Promise<number | undefined>((resolve, reject) => {
      let answered = false
      const request = httpRequest(`${server.url}/hooks/github`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-hub-signature-256': `sha256=${'a'.repeat(64)}` },
      })
      request.on('response', (response) => {
        answered = true
        resolve(response.statusCode)
        request.destroy()
      })
      request.on('error', (err) => answered || reject(err))
      const piece = Buffer.alloc(1024 * 1024, 0x20)
      const more = (left: number): void => {
        if (left > 0 && !answered) request.write(piece, () => more(left - 1))
      }
      more(27)
    })

    expect(status).toBe(413)
  })

  test('W07: a body that trickles in is refused when its time is over; others are served meanwhile', async () => {
    const app = express()
    const limits = { maxBytes: 1000, timeoutMs: 300, maxInFlight: 1000 }
    app.use(createWebhookRouter({ config: server.config, store: server.store, log: pino({ level: 'silent' }), limits }))
    const slow = createHttpServer(app)
    await new Promise<void>((resolve) => slow.listen(0, '127.0.0.1', resolve))
    const address = slow.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const socket = connect(port, '127.0.0.1')
    const answer = new Promise<string>((resolve) => socket.once('data', (data) => resolve(data.toString())))
    socket.write(
      `POST /hooks/github HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\nx-hub-signature-256: sha256=${'a'.repeat(64)}\r\n\r\n{`,
    )

    const status = (await answer).split(' ')[1]
    socket.destroy()
    slow.closeAllConnections()
    await new Promise((resolve) => slow.close(resolve))

    expect(status).toBe('408')
  })

  test('W08: the same delivery twice, at once and later, is one run, and says which', async () => {
    const headers = { 'x-github-delivery': 'twice' }
    const [first, second] = await Promise.all([send({ headers }), send({ headers })])
    server.now(3_600_000)
    const third = await send({ headers })

    expect([first.status, second.status].sort()).toEqual([200, 202])
    expect(third.body).toEqual({ duplicate: 'id', run: 1, id: 'acme/web#1', url: 'http://ci.test/api/v1/runs/1' })
    expect(await runs()).toHaveLength(1)
  })

  test('W09: the same body under another id makes no second run', async () => {
    await send()
    const second = await send()

    expect(second.status).toBe(200)
    expect(second.body).toMatchObject({ duplicate: 'meaning', run: 1 })
    expect(await runs()).toHaveLength(1)
  })

  test('W10: the same id with another body is refused and stands in the audit', async () => {
    const headers = { 'x-github-delivery': 'reused' }
    await send({ headers })
    const second = await send({ headers, body: githubPush({ after: '1'.repeat(40) }) })

    expect(second.status).toBe(409)
    expect(await server.store.audit.list({ limit: 10 })).toEqual(
      expect.arrayContaining([expect.objectContaining({ action: 'delivery.conflict', on: 'reused' })]),
    )
    expect(await runs()).toHaveLength(1)
  })

  test('W11: a pull request that calls itself a push', async () => {
    const answer = await send({ body: githubPullRequest() })

    expect(answer.status).toBe(422)
    expect(answer.body.detail).toContain('payload is not a push')
  })

  test('W12: signed by one repository for another: the same answer as for an unknown one', async () => {
    const other = await send({ secret: OTHER_SECRET })
    const unknown = await send({ body: githubPush({ repository: { full_name: 'nobody/knows' } }) })

    expect(other.status).toBe(403)
    expect(unknown.status).toBe(403)
    expect(other.body).toEqual(unknown.body)
    expect(await runs()).toEqual([])
  })

  test('W13: an older push that comes after a newer one has its own run', async () => {
    await send({ body: githubPush({ before: COMMIT, after: '2'.repeat(40) }) })
    const older = await send()

    expect(older.status).toBe(202)
    expect((await runs()).map((run) => run.change.commit)).toEqual([COMMIT, '2'.repeat(40)])
  })

  test.each([
    ['null', 'null'],
    ['a list', '[]'],
    ['a string', '"x"'],
    ['an empty object', '{}'],
    ['100,000 brackets', '['.repeat(100_000)],
    ['a key twice', '{"ref":"refs/heads/a","ref":"refs/heads/b"}'],
    ['half of a surrogate pair', '{"ref":"\\ud800"}'],
    ['no JSON', 'payload=x'],
    ['nothing', ''],
  ])('W14: %s', async (_, text) => {
    const answer = await send({ raw: Buffer.from(text) })

    expect(answer.status).toBe(400)
    expect(answer.body.detail).not.toMatch(/ at .*\.ts|node_modules/)
    expect(await runs()).toEqual([])
  })

  test('W14: broken UTF-8', async () => {
    expect((await send({ raw: Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]) })).status).toBe(400)
  })

  test('W15: a form', async () => {
    const answer = await send({
      raw: Buffer.from('payload=%7B%7D'),
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    })

    expect(answer.status).toBe(415)
    expect(answer.body.detail).toContain('application/json')
  })

  test('W16: a deleted branch', async () => {
    const answer = await send({ body: githubPush({ after: NO_COMMIT, head_commit: null }) })

    expect(answer.status).toBe(200)
    expect(answer.body).toEqual({ ignored: 'branch deleted' })
  })

  test('nothing changes by GET', async () => {
    const response = await fetch(`${server.url}/hooks/github`)

    expect(response.status).toBe(405)
    expect(response.headers.get('allow')).toBe('POST')
  })

  test.each([
    ['x-github-delivery', undefined],
    ['x-github-delivery', '../../etc'],
    ['x-github-event', undefined],
    ['x-github-event', 'Push!'],
  ])('a header %s of %j is refused', async (name, value) => {
    expect((await send({ headers: { [name]: value } })).status).toBe(400)
  })
})

test('a branch that is deleted and pushed again is news, though it is the same push', async () => {
  const made = githubPush({ before: NO_COMMIT })
  await send({ body: made })
  await send({ body: githubPush({ before: COMMIT, after: NO_COMMIT, head_commit: null }) })
  const again = await send({ body: made })

  expect(again.status).toBe(202)
  expect(await runs()).toHaveLength(2)
})

test('bodies that are read at one time have a common limit', async () => {
  const app = express()
  const limits = { maxBytes: 1000, timeoutMs: 5000, maxInFlight: 100 }
  app.use(createWebhookRouter({ config: server.config, store: server.store, log: pino({ level: 'silent' }), limits }))
  const small = createHttpServer(app)
  await new Promise<void>((resolve) => small.listen(0, '127.0.0.1', resolve))
  const address = small.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const response = await fetch(`http://127.0.0.1:${port}/hooks/github`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-hub-signature-256': `sha256=${'a'.repeat(64)}` },
    body: ' '.repeat(200),
  })
  small.closeAllConnections()
  await new Promise((resolve) => small.close(resolve))

  expect(response.status).toBe(503)
  expect(response.headers.get('retry-after')).toBe('5')
})
