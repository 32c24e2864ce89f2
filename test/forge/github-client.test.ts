import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createGithubClient } from '../../src/forge/github/client.ts'
import { BEFORE, COMMIT } from './payloads.ts'

interface Seen {
  readonly method: string
  readonly path: string
  readonly authorization: string | undefined
  readonly body: unknown
}

let server: Server
let seen: Seen[]
let branch: string | undefined
let redirect: string | undefined

/** The three endpoints as GitHub documents them: a ref, its update, a status. */
beforeEach(async () => {
  seen = []
  branch = BEFORE
  redirect = undefined
  server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString()
    const body: unknown = text === '' ? undefined : JSON.parse(text)
    const { method = '', url: path = '' } = request
    seen.push({ method, path, authorization: request.headers.authorization, body })
    const send = (status: number, value: unknown) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
    if (redirect !== undefined) return response.writeHead(302, { location: redirect }).end()
    if (path === '/repos/acme/web/git/ref/heads%2Fproduction' && method === 'GET') {
      return branch === undefined ? send(404, { message: 'Not Found' }) : send(200, { object: { sha: branch } })
    }
    if (method === 'PATCH') {
      const { sha } = body as { sha: string }
      if (sha.startsWith('dead')) return send(422, { message: 'Update is not a fast forward' })
      branch = sha
      return send(200, { object: { sha } })
    }
    if (method === 'POST') {
      if (path.endsWith('/git/refs')) branch = (body as { sha: string }).sha
      return send(201, {})
    }
    return send(404, { message: 'Not Found' })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})
afterEach(async () => {
  await new Promise((resolve) => server.close(resolve))
})

function forge() {
  const { port } = server.address() as AddressInfo
  return createGithubClient({ repo: 'acme/web', api: `http://127.0.0.1:${port}`, token: 'ghp_token' })
}

describe('fast-forward', () => {
  test('moves the branch without force, and only once', async () => {
    const first = await forge().fastForward('production', COMMIT)
    const second = await forge().fastForward('production', COMMIT)

    expect([first, second]).toEqual([{ kind: 'moved', from: BEFORE }, { kind: 'already' }])
    expect(branch).toBe(COMMIT)
    expect(seen.filter((one) => one.method === 'PATCH').map((one) => one.body)).toEqual([{ sha: COMMIT, force: false }])
  })

  test('says where the branch is when GitHub finds that it is none', async () => {
    const answer = await forge().fastForward('production', 'dead'.repeat(10))

    expect(answer).toMatchObject({
      kind: 'refused',
      at: BEFORE,
      why: expect.stringContaining('fast-forward of production'),
    })
    expect(branch).toBe(BEFORE)
  })

  test('makes a branch that is not there', async () => {
    branch = undefined

    const answer = await forge().fastForward('production', COMMIT)

    expect(answer).toEqual({ kind: 'moved' })
    expect(branch).toBe(COMMIT)
  })
})

test('a status is cut to the length that GitHub takes', async () => {
  await forge().setStatus({
    commit: COMMIT,
    context: 'penstock',
    state: 'pending',
    description: 'x'.repeat(200),
    url: 'http://ci/1',
  })

  expect(seen[0]).toMatchObject({
    path: `/repos/acme/web/statuses/${COMMIT}`,
    authorization: 'token ghp_token',
    body: { state: 'pending', context: 'penstock', target_url: 'http://ci/1', description: `${'x'.repeat(139)}…` },
  })
})

test('a redirect is not followed: it would take the token to another host', async () => {
  const { port } = server.address() as AddressInfo
  redirect = `http://127.0.0.1:${port}/elsewhere`

  await expect(forge().fastForward('production', COMMIT)).rejects.toThrow()
  expect(seen.map((one) => one.path)).not.toContain('/elsewhere')
})
