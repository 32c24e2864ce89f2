import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { within } from '../../src/forge/deadline.ts'
import { createRest, ForgeRefused, type Rest } from '../../src/forge/rest.ts'
import { ForgeAnswerUnusable, ForgeBusy } from '../../src/forge/types.ts'
import { readFailure } from '../../src/report/failure.ts'

let server: Server | undefined

afterEach(async () => {
  server?.closeAllConnections()
  await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)))
})

async function serving(answer: RequestListener): Promise<Rest> {
  server = createServer(answer)
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve))
  const api = `http://127.0.0.1:${(server.address() as AddressInfo).port}/api`
  return createRest({ name: 'The forge', api, authorization: 'token secret-token', pageSize: 'limit' })
}

async function failureOf(asked: Promise<unknown>): Promise<unknown> {
  return asked.then(
    () => undefined,
    (err: unknown) => err,
  )
}

test.each([
  [{ 'retry-after': '7' }, 7_000],
  [{}, 60_000],
])('a forge that asks to wait is waited for: %o', async (headers, ms) => {
  const rest = await serving((_, response) => response.writeHead(429, headers).end())

  const err = await failureOf(rest.get('/user'))

  expect(err).toBeInstanceOf(ForgeBusy)
  expect(readFailure(err, Date.now())).toEqual({ kind: 'limited', waitMs: ms })
})

test.each([
  [422, 'refused'],
  [403, 'refused'],
  [500, 'again'],
  [502, 'again'],
] as const)('an answer of %i means: %s, and its words are kept', async (status, kind) => {
  const rest = await serving((_, response) => response.writeHead(status).end('{"message":"because"}'))

  const err = await failureOf(rest.send('POST', '/x', { a: 1 }))

  expect(err).toBeInstanceOf(ForgeRefused)
  expect(String(err)).toContain('because')
  expect(String(err)).not.toContain('secret-token')
  expect(readFailure(err, Date.now()).kind).toBe(kind)
})

test('a page of somebody’s proxy is no answer', async () => {
  const rest = await serving((_, response) => response.writeHead(200).end('<html>Sign in</html>'))

  expect(await failureOf(rest.get('/user'))).toBeInstanceOf(ForgeAnswerUnusable)
})

test('no other host gets the token: a redirect is followed nowhere', async () => {
  let asked = 0
  const rest = await serving((_, response) => {
    asked += 1
    response.writeHead(302, { location: '/api/elsewhere' }).end()
  })

  expect(await failureOf(rest.get('/user'))).toBeInstanceOf(TypeError)
  expect(asked).toBe(1)
})

test('after the deadline of whoever asks, nothing is on its way any more', async () => {
  const rest = await serving(() => {})

  const err = await failureOf(within(50, () => rest.get('/user')))

  expect((err as Error).name).toBe('TimeoutError')
  expect(readFailure(err, Date.now()).kind).toBe('again')
})

test('a list that never ends is given up', async () => {
  const rest = await serving((_, response) => response.writeHead(200).end('[1]'))
  const all = async () => {
    for await (const _ of rest.pages('/x'));
  }

  expect(await failureOf(all())).toBeInstanceOf(ForgeAnswerUnusable)
})

test('a list is followed to its end where the forge says nothing of the whole', async () => {
  const rest = await serving((request, response) => {
    const page = Number(new URL(request.url ?? '', 'http://x').searchParams.get('page'))
    response.writeHead(200).end(JSON.stringify(page > 3 ? [] : [page]))
  })
  const seen: unknown[] = []
  for await (const { data } of rest.pages('/x')) seen.push(...(data as unknown[]))

  expect(seen).toEqual([1, 2, 3])
})
