import { request as httpRequest } from 'node:http'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { routeTable } from '../../src/api/app.ts'
import type { RoutePermission } from '../../src/api/caller.ts'
import type { Role } from '../../src/config/types.ts'
import { COMMIT } from '../forge/payloads.ts'
import { type Running, startServer, WORKER_TOKEN } from './server.ts'

let server: Running

beforeEach(async () => {
  server = await startServer()
})
afterEach(async () => {
  await server.stop()
})

/** As the documentation promises it, not as the code has it. */
const MAY: Readonly<Record<Role, readonly RoutePermission[]>> = {
  viewer: ['open', 'read'],
  developer: ['open', 'read', 'run', 'reserve'],
  approver: ['open', 'read', 'reserve', 'vote'],
  operator: ['open', 'read', 'run', 'reserve', 'vote', 'override', 'pools', 'forge', 'audit'],
  admin: ['open', 'read', 'run', 'reserve', 'vote', 'override', 'pools', 'forge', 'audit', 'tokens'],
}
const PEOPLE: Readonly<Record<Role, string>> = {
  viewer: 'eve',
  developer: 'dev',
  approver: 'ben',
  operator: 'ops',
  admin: 'ada',
}

function concrete(path: string): string {
  return path.replace(/:[a-z]+/g, '999999')
}

describe('every route', () => {
  test('gives each kind of token exactly what the table says', async () => {
    const table = routeTable(server.deps)
    const wrong: string[] = []
    for (const { method, path, permission } of table) {
      for (const [role, person] of Object.entries(PEOPLE) as [Role, string][]) {
        const { status } = await server.ask(person, method, concrete(path))
        const isInternal = path.startsWith('/internal')
        const expected = isInternal
          ? status === 401
          : MAY[role].includes(permission)
            ? status !== 401 && status !== 403
            : status === 403
        if (!expected) wrong.push(`${method} ${path} as ${role}: ${status}`)
      }
    }

    expect(wrong).toEqual([])
    expect(table.length).toBeGreaterThan(30)
  })

  test('gives a worker its own part and nothing else', async () => {
    const wrong: string[] = []
    for (const { method, path, permission } of routeTable(server.deps)) {
      const { status } = await server.ask('worker', method, concrete(path))
      const isRight =
        permission === 'worker' ? status !== 401 && status !== 403 : permission === 'open' || status === 401
      if (!isRight) wrong.push(`${method} ${path}: ${status}`)
    }

    expect(wrong).toEqual([])
  })

  test('refuses who shows no token, an unknown, an expired or a revoked one, or is no longer in the operator’s file', async () => {
    const expired = (await server.store.people.createToken('ada', 1)).token
    server.now(10)
    const revoked = await server.store.people.createToken('ada', 86_400_000)
    await server.store.people.revokeToken(revoked.row.id)
    const gone = (await server.store.people.createToken('nobody', 86_400_000)).token
    const tokens = [
      undefined,
      'Bearer pst_unknown_token',
      `Bearer ${expired}`,
      `Bearer ${revoked.token}`,
      `Bearer ${gone}`,
      'Basic YTpi',
    ]
    const wrong: string[] = []
    for (const { method, path, permission } of routeTable(server.deps)) {
      if (permission === 'open') continue
      for (const authorization of tokens) {
        server.now(60_001)
        const response = await fetch(`${server.url}${concrete(path)}`, {
          method,
          ...(authorization === undefined ? {} : { headers: { authorization } }),
        })
        if (response.status !== 401) wrong.push(`${method} ${path} with ${authorization}: ${response.status}`)
      }
    }

    expect(wrong).toEqual([])
  })

  test('carries the security headers, also on errors', async () => {
    for (const path of ['/api/v1/health', '/api/v1/runs', '/nothing', '/hooks/github']) {
      const { headers } = await fetch(`${server.url}${path}`)
      expect(headers.get('x-content-type-options')).toBe('nosniff')
      expect(headers.get('content-security-policy')).toContain("frame-ancestors 'none'")
      expect(headers.get('x-powered-by')).toBeNull()
    }
  })
})

describe('an override', () => {
  async function release(pusher?: string, commit = COMMIT) {
    const change = { commit, ref: 'refs/heads/production', ...(pusher === undefined ? {} : { pusher }) }
    const recorded = await server.store.deliveries.record(
      { source: 'git', id: `release/${pusher}`, event: 'push', bodyDigest: 'd' },
      { kind: 'push', repo: 'acme/web', requestedBy: 'ops', change },
    )
    if (recorded.kind !== 'run') throw new Error(`it is ${recorded.kind}`)
    await server.store.events.append(recorded.run.id, 'end', [{ type: 'run.finished.v1', try: 1, outcome: 'failed' }])
    return recorded.run
  }
  const override = (number: number, by = 'ops') =>
    server.ask(by, 'POST', `/api/v1/runs/${number}/override`, { reason: 'approved by phone', channel: 'cli' })
  const refusals = async (run: string) =>
    (await server.store.audit.list({ limit: 99, run })).flatMap(({ by, action, on, detail }) =>
      action === 'gate.vote' ? [[by, on, (detail as { why: string }).why]] : [],
    )

  test('lets only a push to the production branch pass that was stopped, marked and to be reviewed as break-glass is', async () => {
    const candidate = await server.run()
    const { id, number } = await release()

    expect((await override(candidate.number)).status).toBe(409)
    expect((await override(number)).status).toBe(202)

    expect(await server.store.runs.byNumber(candidate.number)).not.toHaveProperty('override')
    expect((await server.ask('eve', 'GET', `/api/v1/runs/${number}`)).body).toMatchObject({
      broken: { gate: 'override', by: 'ops', reason: 'approved by phone' },
    })
    expect((await server.ask('eve', 'GET', '/api/v1/gates')).body).toMatchObject({
      gates: [],
      toReview: [{ run: id, name: 'override', environment: 'production' }],
    })
    const review = (by: string) =>
      server.ask(by, 'POST', `/api/v1/runs/${number}/gates/override/review`, { comment: 'it was needed' })
    expect([(await review('ops')).status, (await review('ben')).status]).toEqual([403, 201])
    expect(await refusals(candidate.id)).toEqual([
      [
        'ops',
        `${candidate.id}/override`,
        `run ${candidate.number} is no push to the production branch: nothing stops it`,
      ],
    ])
  })

  test('is not for whoever wrote or pushed it, unless the operator’s file lets them, nor for whoever is no operator', async () => {
    const { id, number } = await release('ops')

    expect(await override(number)).toMatchObject({
      status: 403,
      body: { detail: expect.stringContaining('ops wrote or pushed this change and may not break the glass for it') },
    })
    expect((await override(number, 'dev')).status).toBe(403)
    expect(await server.store.runs.byNumber(number)).not.toHaveProperty('broken')
    expect(await refusals(id)).toEqual([
      ['ops', `${id}/override`, expect.stringContaining('ops wrote or pushed')],
      ['dev', `${id}/override`, 'none of the roles of dev allows it'],
    ])

    const gate = server.config.repositories['acme/web']?.environments.production?.gate
    Object.assign(gate as object, { breakGlassByAuthor: true })
    expect((await override(number)).status).toBe(202)
    Object.assign(gate as object, { breakGlassByAuthor: undefined })
    expect((await override(number, 'ada')).status).toBe(202)
  })

  test('lets nothing pass that was rejected, and says so when nobody can tell who wrote it', async () => {
    const candidate = await server.run()
    const { commit } = candidate.change
    const { id, number } = await release('dev', commit)
    const subject = { run: candidate.id, gate: 'signoff', environment: 'production', commit, specDigest: 's' }
    const rules = { approvers: ['ben'], quorum: 1, excluded: [] }
    await server.store.gates.open(candidate.id, 'signoff', 'production', rules, { ...subject, deliverables: [] })
    const token = await server.store.gates.mintToken(candidate.id, 'signoff', 'ben', 'cli', 60_000)
    const vote = { key: '1', run: candidate.id, gate: 'signoff', claimedBy: 'ben', channel: 'cli', token } as const
    await server.store.gates.vote({ ...vote, answer: 'reject', trustSignals: false })

    const why = `was rejected by ben at signoff of ${candidate.id}: push a new commit`
    expect(await override(number)).toMatchObject({ status: 403, body: { detail: expect.stringContaining(why) } })
    expect(await refusals(id)).toEqual([['ops', `${id}/override`, expect.stringContaining(why)]])
    const deps = server.deps as { -readonly [K in keyof typeof server.deps]: (typeof server.deps)[K] }
    const { authorsOf } = deps
    deps.authorsOf = async () => {
      throw new Error('the forge is down')
    }
    expect(await override(number)).toMatchObject({
      ...{ status: 503, body: { detail: expect.stringContaining('try again: the forge is down') } },
    })
    deps.authorsOf = authorsOf
  })
})

describe('threat', () => {
  test('A03: nothing changes by GET', async () => {
    const run = await server.run()
    for (const act of ['cancel', 'retry', 'override', 'gates/g/approve']) {
      const { status, headers } = await server.ask('ada', 'GET', `/api/v1/runs/${run.number}/${act}`)
      expect([act, status, headers.get('allow')]).toEqual([act, 405, 'POST'])
    }
    expect((await server.store.runs.byNumber(run.number))?.status).toBe('queued')
  })

  test('A04: a form from another page is refused even with a token', async () => {
    const run = await server.run()
    const response = await fetch(`${server.url}/api/v1/runs/${run.number}/cancel`, {
      method: 'POST',
      headers: { authorization: `Bearer ${await server.token('dev')}`, 'content-type': 'text/plain' },
      body: '{"reason":"x"}',
    })

    expect(response.status).toBe(415)
  })

  test.each([
    '/api/v1/runs/1;.jsp',
    '/api/v1//runs',
    '/api/v1/%2e%2e/v1/runs',
    '/nothing?jsp=/api/v1/runs',
    '/api/v1/./runs',
    '/internal/../api/v1/runs',
  ])('A09: %s gives a stranger nothing', async (path) => {
    const status = await new Promise((resolve, reject) => {
      const url = new URL(server.url)
      // `fetch` would tidy the path up.
      httpRequest({ host: url.hostname, port: url.port, path }, (response) => resolve(response.resume().statusCode))
        .on('error', reject)
        .end()
    })

    expect([400, 401, 404]).toContain(status)
  })

  test.each(['-1', '1000000000', 'NaN', '..%2f', '0x1', '1e3', '1'.repeat(10_000)])(
    'A10: run %s is not there',
    async (number) => {
      const { status } = await server.ask('eve', 'GET', `/api/v1/runs/${number}`)

      expect([400, 404]).toContain(status)
    },
  )

  test('A11: a body that is too large or too deep is refused', async () => {
    const large = await server.ask('dev', 'POST', '/api/v1/runs', { repo: 'x'.repeat(5 * 1024 * 1024) })
    const deep = await fetch(`${server.url}/api/v1/runs`, {
      method: 'POST',
      headers: { authorization: `Bearer ${await server.token('dev')}`, 'content-type': 'application/json' },
      body: `${'['.repeat(10_000)}${']'.repeat(10_000)}`,
    })

    expect(large.status).toBe(413)
    expect(deep.status).toBe(400)
  })

  test('of the tokens that one address guesses, at most ten a minute are looked at; who was right before goes on', async () => {
    await server.ask('eve', 'GET', '/api/v1/me')
    const statuses: number[] = []
    for (let guess = 0; guess < 15; guess++) {
      const response = await fetch(`${server.url}/api/v1/me`, {
        headers: { authorization: `Bearer pst_guess_${guess}` },
      })
      statuses.push(response.status)
    }

    expect(statuses).toEqual([...Array(10).fill(401), ...Array(5).fill(429)])
    expect((await server.ask('eve', 'GET', '/api/v1/me')).status).toBe(200)
    server.now(60_001)
    expect((await server.ask('ben', 'GET', '/api/v1/me')).status).toBe(200)
  })

  test('what is wrong with a request is told all at once', async () => {
    const { status, body } = await server.ask('ada', 'POST', '/api/v1/tokens', { persn: 'ben' })

    expect(status).toBe(422)
    expect((body as { errors: { pointer: string }[] }).errors.map((one) => one.pointer).sort()).toEqual(
      ['/expiresInDays', '/person', '/persn'].sort(),
    )
  })

  test('a token without an end, or with one too far, is refused', async () => {
    expect((await server.ask('ada', 'POST', '/api/v1/tokens', { person: 'ben' })).status).toBe(422)
    expect((await server.ask('ada', 'POST', '/api/v1/tokens', { person: 'ben', expiresInDays: 366 })).status).toBe(422)
    expect((await server.ask('ada', 'POST', '/api/v1/tokens', { person: 'ben', expiresInDays: 365 })).status).toBe(201)
  })

  test('A15: a stream ends within 5 s of the revocation of its token', async () => {
    const run = await server.run()
    const { token, row } = await server.store.people.createToken('eve', 86_400_000)
    const response = await fetch(`${server.url}/api/v1/runs/${run.number}/events`, {
      headers: { authorization: `Bearer ${token}`, accept: 'text/event-stream' },
    })
    expect(response.status).toBe(200)

    await server.store.people.revokeToken(row.id)
    const start = performance.now()
    await response.text().catch(() => undefined)

    expect(performance.now() - start).toBeLessThan(5000)
  })
})

test('the worker’s token is compared whole', async () => {
  for (const token of [WORKER_TOKEN.slice(0, -1), `${WORKER_TOKEN}x`, WORKER_TOKEN.toUpperCase()]) {
    const response = await fetch(`${server.url}/internal/v1/alive`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}` },
    })
    expect(response.status).toBe(401)
  }
})

test('a path that cannot be decoded is refused without a word about the installation', async () => {
  const response = await fetch(`${server.url}/hooks/git/%zz/x`, { method: 'POST' })

  expect(response.status).toBe(400)
  expect(await response.json()).toMatchObject({ detail: expect.stringContaining('written plainly') })
})
