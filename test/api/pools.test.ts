import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { HandOverStep } from '../../src/core/pool/settings.ts'
import type { ReservationRow } from '../../src/store/pool-types.ts'
import { pool } from '../store/pools.ts'
import { type Running, startServer } from './server.ts'

let server: Running

beforeEach(async () => {
  server = await startServer()
  await server.store.units.configure([
    pool(
      'rig',
      { r1: { labels: ['arch=arm64'], properties: { cam: true } }, r2: { capacity: 2 } },
      { maxHoldMs: 4 * HOUR, share: 3 },
    ),
    pool('vault', { v1: {} }, { privileged: true }),
  ])
})
afterEach(async () => {
  await server.stop()
})

const HOUR = 3_600_000
const RESERVATIONS = '/api/v1/pools/rig/reservations'
const R1 = '/api/v1/pools/rig/units/r1'
const V1_TAKE = '/api/v1/pools/vault/units/v1/take'

type Reply<T> = { readonly status: number; readonly body: T }

async function ask<T = { detail: string; errors?: { pointer: string; detail: string }[] }>(
  person: string,
  method: string,
  path: string,
  body?: unknown,
): Promise<Reply<T>> {
  const { status, body: answer } = await server.ask(person, method, path, body)
  return { status, body: answer }
}

function reserve(person: string, more: object = {}, where = RESERVATIONS): Promise<Reply<ReservationRow>> {
  return ask(person, 'POST', where, { for: '2h', ...more })
}

async function job(name: string, requests = [{ pool: 'rig', count: 1, labels: ['arch=arm64'] }]) {
  const { id } = await server.run()
  const holder = `${id}/e2e/${name}/1`
  const result = await server.store.leases.acquire({
    ...{
      holder,
      run: id,
      workflowId: holder,
      requests,
      priority: 0,
      ttlMs: 12 * HOUR,
      party: 'acme/web',
      work: `acme/web e2e/${name}`,
    },
  })
  return { run: id, holder, result }
}

const ARM = { labels: ['arch=arm64'] }

describe('a person and a job', () => {
  test('wait in the same queue, in the order in which they came', async () => {
    const first = await job('a')
    const ben = await reserve('ben', { ...ARM, id: 'ben-1' })
    const second = await job('b')
    const dev = await reserve('dev', { ...ARM, id: 'dev-1' })

    expect([ben.body.state, ben.body.position, dev.body.position]).toEqual(['waiting', 1, 3])
    expect(second.result).toMatchObject({ kind: 'queued', position: 2 })
    const holderOfR1 = async () => (await server.store.leases.list()).units[0]?.leases.map(({ holder }) => holder)
    const seen = [await holderOfR1()]
    await server.store.leases.release([first.holder])
    seen.push(await holderOfR1())
    await ask('ben', 'DELETE', '/api/v1/reservations/ben-1')
    seen.push(await holderOfR1())
    await server.store.leases.release([second.holder])
    seen.push(await holderOfR1())

    expect(seen).toEqual([[first.holder], ['person:ben/ben-1'], [second.holder], ['person:dev/dev-1']])
  })

  test('are shown who holds what they wait for, since when', async () => {
    const { holder } = await job('a')
    server.now(60_000)
    await reserve('ben', ARM)

    const { body } = await ask<{ waiters: unknown[] }>('eve', 'GET', '/api/v1/pools/rig')

    expect(body.waiters).toMatchObject([
      {
        position: 1,
        since: server.now(),
        sentence: `waits for 1 of pool "rig" with arch=arm64; held by ${holder}`,
        holders: [{ pool: 'rig', unit: 'r1', holder, since: server.now() - 60_000 }],
      },
    ])
  })
})

test('a pool says how long it was waited for and held, and how jobs fared on each unit', async () => {
  for (const [minutes, outcome] of [
    [10, 'succeeded'],
    [30, 'failed'],
  ] as const) {
    const { holder } = await job(outcome)
    server.now(minutes * 60_000)
    await server.store.leases.release([holder], { outcome })
  }

  const { body } = await ask<object>('eve', 'GET', '/api/v1/pools/rig')

  expect(body).toMatchObject({
    waited: { count: 2, p50: 0, p99: 0 },
    held: { count: 2, p50: 600_000, p90: 1_800_000 },
    statistics: [{ unit: 'r1', runs: 2, failed: 1 }],
  })
})

describe('a reservation', () => {
  test('gives what was asked for, is in the audit, and ends when it is given back', async () => {
    const made = await reserve('dev', { ...ARM, note: 'a\nbug' })
    const { id } = made.body

    expect(made).toMatchObject({
      status: 201,
      body: {
        person: 'dev',
        pool: 'rig',
        state: 'held',
        note: 'a\nbug',
        leases: [{ unit: 'r1', properties: { cam: true } }],
      },
    })
    expect((await ask('eve', 'GET', '/api/v1/reservations?person=dev')).body).toMatchObject({ reservations: [{ id }] })
    expect((await ask('eve', 'GET', '/api/v1/reservations?person=ben')).body).toEqual({ reservations: [] })
    const ended = await ask('dev', 'DELETE', `/api/v1/reservations/${id}`)
    const again = await ask('dev', 'DELETE', `/api/v1/reservations/${id}`)

    expect(ended).toMatchObject({ status: 200, body: { state: 'ended', why: 'given back' } })
    expect(again.body).toEqual(ended.body)
    expect((await ask('eve', 'GET', `/api/v1/reservations/${id}`)).body).toEqual(ended.body)
    const actions = (await server.store.audit.list({ after: 0, limit: 10 })).map(({ action, by }) => [action, by])
    expect(actions.slice(0, 2)).toEqual([
      ['reservation.asked', 'dev'],
      ['reservation.returned', 'dev'],
    ])
  })

  test('is made once, however often it is asked for; its id is no key to another one', async () => {
    const first = await reserve('dev', { id: 'mine', count: 2 })
    const same = await reserve('dev', { id: 'mine', count: 2 })

    expect([first.status, same.status]).toEqual([201, 200])
    expect(same.body).toEqual(first.body)
    for (const [person, more] of [
      ['ben', { count: 2 }],
      ['dev', { count: 1 }],
      ['dev', { count: 2, for: '1h' }],
    ] as const) {
      expect(await reserve(person, { id: 'mine', ...more })).toMatchObject({
        status: 409,
        body: { detail: 'the id "mine" was used before, for another reservation' },
      })
    }
    expect((await server.store.reservations.open()).length).toBe(1)
  })

  test('of a privileged pool is for everybody who may reserve: the pool is closed to strangers’ code only', async () => {
    expect((await reserve('dev', {}, '/api/v1/pools/vault/reservations')).body.state).toBe('held')
  })

  test('is shared, extended and handed over within what the pool allows', async () => {
    const { id } = (await reserve('dev', { mode: 'shared', id: 'one' })).body
    const longer = await ask<ReservationRow>('dev', 'POST', `/api/v1/reservations/${id}/extend`, { for: '3h' })
    const handed = await ask<ReservationRow>('dev', 'POST', `/api/v1/reservations/${id}/hand-over`, { to: 'ben' })

    expect(longer.body.leases[0]?.expiresAt).toBe(server.now() + 3 * HOUR)
    expect(handed.body).toMatchObject({ person: 'ben', state: 'held' })
    expect(handed.body.leases[0]?.fence).toBe((longer.body.leases[0]?.fence ?? 0) + 1)
    expect(await ask('ben', 'POST', `/api/v1/reservations/${id}/extend`, { for: '5h' })).toMatchObject({
      status: 409,
      body: { detail: 'pool "rig" lets nobody hold a unit longer than 240 minutes' },
    })
    expect((await ask('dev', 'DELETE', `/api/v1/reservations/${id}`)).status).toBe(403)
  })

  test('is handed only to a person of the operator’s file who may reserve', async () => {
    await reserve('dev', { id: 'one' })
    const to = (person: string) => ask('dev', 'POST', '/api/v1/reservations/one/hand-over', { to: person })

    const details = [await to('eve'), await to('bne'), await to('constructor'), await to('__proto__')].map(
      ({ status, body }) => [status, body.errors?.[0]?.pointer, body.errors?.[0]?.detail],
    )

    expect(details).toEqual([
      [422, '/to', 'eve has no role that may reserve'],
      [422, '/to', '"bne" is not among the people; did you mean "ben"?'],
      [422, '/to', '"constructor" is not among the people; known: ada, ben, cyd, dev, ops'],
      [422, '/to', '"__proto__" is not among the people; known: ada, ben, cyd, dev, ops'],
    ])
  })

  test('of another person is changed by who looks after pools, and by nobody else', async () => {
    await reserve('dev', { id: 'one' })
    const acts = [
      ['POST', '/api/v1/reservations/one/extend', { for: '1h' }],
      ['POST', '/api/v1/reservations/one/hand-over', { to: 'ben' }],
      ['DELETE', '/api/v1/reservations/one', undefined],
    ] as const

    const refused = []
    for (const [method, path, body] of acts) refused.push((await ask('cyd', method, path, body)).body.detail)
    const allowed = []
    for (const [method, path, body] of acts) allowed.push((await ask('ops', method, path, body)).status)

    const why = 'reservation one is that of dev; to change it needs the permission "pools"'
    expect(refused).toEqual([why, why, why])
    expect(allowed).toEqual([200, 200, 200])
    expect((await server.store.reservations.get('one'))?.why).toBe('ended by ops')
  })

  test('goes before others only with the right to look after pools', async () => {
    await job('a')
    await reserve('dev', { ...ARM, id: 'dev-1' })

    expect(await reserve('dev', { ...ARM, priority: 1 })).toMatchObject({
      status: 403,
      body: { detail: 'to go before or after others needs the permission "pools"' },
    })
    expect((await reserve('ops', { ...ARM, priority: 1 })).body.position).toBe(1)
    expect((await server.store.reservations.get('dev-1'))?.position).toBe(2)
  })
})

describe('hostile and mistaken wishes', () => {
  test.each([
    ['nothing', {}, ['/for']],
    ['a duration of nothing', { for: '0h' }, ['/for']],
    ['a number for a duration', { for: 7200 }, ['/for']],
    ['a duration without end', { for: '9d'.repeat(1000) }, ['/for']],
    ['a huge where', { for: '1h', where: 'x'.repeat(50_000) }, ['/where']],
    [
      'wrong types everywhere, all said at once',
      { for: '1h', where: 7, labels: 'arch', count: '2', mode: 'all', note: {}, id: '../x', priority: 1e9, more: 1 },
      ['/id', '/where', '/labels', '/count', '/mode', '/note', '/priority', '/more'],
    ],
    ['no unit', { for: '1h', count: 0 }, ['/count']],
    ['half a unit', { for: '1h', count: 1.5 }, ['/count']],
    ['a note that acts on a terminal', { for: '1h', note: 'a\u001b[2J' }, ['/note']],
    ['a note that PostgreSQL cannot keep', { for: '1h', note: 'a\u0000b' }, ['/note']],
    ['a label that is none', { for: '1h', labels: ['a b'] }, ['/labels/0']],
  ])('%s', async (_what, body, pointers) => {
    const answer = await ask('dev', 'POST', RESERVATIONS, body)

    expect(answer.status).toBe(422)
    expect(answer.body.errors?.map(({ pointer }) => pointer)).toEqual(pointers)
    expect(await server.store.reservations.open()).toEqual([])
  })

  test.each([
    ['ten years', { for: '3650d' }, 'pool "rig" lets nobody hold a unit longer than 240 minutes'],
    ['more than there is', { for: '1h', count: 3 }, 'no units can ever serve 3 of pool "rig": pool "rig" has 2 in all'],
    [
      'a label that no unit has',
      { for: '1h', labels: ['arch=x86'] },
      'no units can ever serve 1 of pool "rig" with arch=x86: pool "rig" has 2 in all, 0 that fit',
    ],
  ])('%s is refused at once, with what would be right', async (_what, body, why) => {
    const { status, body: answer } = await ask('dev', 'POST', RESERVATIONS, body)

    expect(status).toBe(409)
    expect(answer.detail).toContain(why)
  })

  test('what is not there is said, with what was probably meant', async () => {
    await reserve('dev', { id: 'one-1' })
    const asked = [
      ['POST', '/api/v1/pools/rgi/reservations', { for: '1h' }],
      ['POST', '/api/v1/pools/constructor/reservations', { for: '1h' }],
      ['POST', '/api/v1/pools/__proto__/reservations', { for: '1h' }],
      ['POST', '/api/v1/pools/slots:jobs/reservations', { for: '1h' }],
      ['GET', '/api/v1/pools/rig%2Fr1', undefined],
      ['POST', '/api/v1/pools/rig/units/r9/take', { for: '1h', reason: 'why' }],
      ['PUT', '/api/v1/pools/none/units/n1', {}],
      ['GET', '/api/v1/reservations/one-2', undefined],
      ['DELETE', '/api/v1/reservations/__proto__', undefined],
    ] as const

    const answers = []
    for (const [method, path, body] of asked) {
      const { status, body: answer } = await ask('ops', method, path, body)
      answers.push(`${status} ${answer.detail}`)
    }

    expect(answers).toEqual([
      '404 there is no pool "rgi"; did you mean "rig"?',
      '404 there is no pool "constructor"; known: rig, vault',
      '404 there is no pool "__proto__"; known: rig, vault',
      '404 there is no pool "slots:jobs"; known: rig, vault',
      '404 there is no pool "rig/r1"; known: rig, vault',
      '404 pool "rig" has no unit "r9"; did you mean "r1"?',
      '404 there is no pool "none"; known: rig, vault',
      '404 there is no reservation "one-2"; did you mean "one-1"?',
      '404 there is no reservation "__proto__"; see /api/v1/reservations',
    ])
  })
})

describe('reset and probe', () => {
  const RESET: HandOverStep = {
    ...{ kind: 'container', image: 'lab/tools:3', constraints: [], timeoutMs: 1_000 },
    run: ['./wipe.sh --key 1234'],
  }
  const PROBE: HandOverStep = { kind: 'http', url: 'http://10.0.7.11:8080/health', timeoutMs: 1_000 }

  test('are seen by everybody, with how they ended; commands, addresses and output by who looks after pools', async () => {
    const { store } = server
    await store.units.configure([pool('rig', { r9: {} }, { reset: RESET, probe: PROBE })])
    const tried = async (failure?: string) => {
      const care = await store.units.care('rig', 'r9')
      if (care.kind === 'try') await store.units.cared(care, failure)
      server.now(10_000)
    }
    await tried()
    const first = server.now()
    await store.leases.acquire({
      ...{ holder: 'one/a', run: '', workflowId: '', party: 'acme/web', priority: 0, ttlMs: HOUR },
      requests: [{ pool: 'rig', count: 1, labels: [] }],
    })
    await store.leases.release(['one/a'])
    for (let time = 0; time < 3; time++) await tried('exit code 1: no route to 10.0.7.11')
    await reserve('dev', { id: 'dev-1' })

    const paths = ['/api/v1/pools', '/api/v1/pools/rig', '/api/v1/reservations/dev-1']
    const texts = async (person: string) =>
      JSON.stringify(await Promise.all(paths.map(async (path) => (await ask<object>(person, 'GET', path)).body)))
    const seen = { eve: await texts('eve'), dev: await texts('dev'), ops: await texts('ops') }
    const { body } = await ask<{ pool: object; units: object[] }>('eve', 'GET', '/api/v1/pools/rig')

    for (const text of [seen.eve, seen.dev]) {
      for (const hidden of ['wipe.sh', '10.0.7.11', 'lab/tools']) expect(text).not.toContain(hidden)
    }
    for (const shown of ['wipe.sh', 'http://10.0.7.11:8080/health', 'no route to 10.0.7.11']) {
      expect(seen.ops).toContain(shown)
    }
    expect(body).toMatchObject({
      pool: { pool: 'rig', reset: { kind: 'container' }, probe: { kind: 'http' } },
      units: [
        {
          quarantined: 'its reset failed 3 times',
          lastReset: { at: first + 20_000, outcome: 'failed' },
          lastProbe: { at: first - 10_000, outcome: 'passed' },
        },
      ],
    })
  })
})

describe('a pool that was made here', () => {
  test('is removed when nobody holds anything of it; who waits for it is told at once', async () => {
    const { store } = server
    await ask('ops', 'PUT', '/api/v1/pools/phone', {})
    await ask('ops', 'PUT', '/api/v1/pools/phone/units/p1', { properties: { ram: 8 } })
    const wants = [{ pool: 'phone', count: 1, labels: [], where: 'ram > 4' }]
    const first = await job('a', wants as never)
    const second = await job('b', wants as never)
    const person = await reserve('dev', { id: 'dev-1' }, '/api/v1/pools/phone/reservations')

    const tried = [
      await ask('dev', 'DELETE', '/api/v1/pools/phone'),
      await ask('ops', 'DELETE', '/api/v1/pools/phone'),
      await ask('ops', 'DELETE', '/api/v1/pools/rig'),
      await ask('ops', 'DELETE', '/api/v1/pools/phones'),
    ]
    await ask('ops', 'POST', '/api/v1/pools/phone/units/p1/drain', { reason: 'goes away' })
    await store.leases.release([first.holder], { isGone: true })
    const removed = await ask('ops', 'DELETE', '/api/v1/pools/phone')
    const woken = (await store.outbox.pending()).flatMap(({ message }) =>
      message.kind === 'signal' && message.signal === 'granted' ? [message.workflowId] : [],
    )
    const asked = await store.leases.acquire({
      ...{ holder: second.holder, run: second.run, workflowId: second.holder, requests: wants },
      ...{ priority: 0, ttlMs: HOUR, party: 'acme/web' },
    })

    expect(person.body.state).toBe('waiting')
    expect(tried.map(({ status }) => status)).toEqual([403, 409, 409, 404])
    expect(tried[1]?.body.detail).toBe(
      `pool "phone" is held, p1 by ${first.holder}: drain its units, or take them, and try again`,
    )
    expect(tried[2]?.body.detail).toContain('in the operator’s file'.replace('’', "'"))
    expect(removed.status).toBe(204)
    expect(woken).toEqual([second.holder])
    expect(asked).toEqual({
      kind: 'impossible',
      sentence: 'no units can ever serve 1 of pool "phone" where ram > 4: there is no pool "phone"',
    })
    expect((await ask('dev', 'GET', '/api/v1/reservations/dev-1')).body).toMatchObject({
      state: 'ended',
      why: expect.stringContaining('there is no pool "phone"'),
    })
    expect((await ask('ops', 'GET', '/api/v1/pools/phone')).status).toBe(404)
    const entries = await store.audit.list({ after: 0, limit: 20 })
    expect(entries).toContainEqual(expect.objectContaining({ action: 'pool.removed', by: 'ops', on: 'phone' }))
    // Made anew it has none of what it had.
    await ask('ops', 'PUT', '/api/v1/pools/phone', {})
    expect((await ask('ops', 'GET', '/api/v1/pools/phone')).body).toMatchObject({ units: [] })
  })

  test('loses a unit: who can have no other one is told the nearest', async () => {
    const { store } = server
    await ask('ops', 'PUT', '/api/v1/pools/phone', {})
    await ask('ops', 'PUT', '/api/v1/pools/phone/units/p1', { properties: { ram: 8 } })
    await ask('ops', 'PUT', '/api/v1/pools/phone/units/p2', { properties: { ram: 2 } })
    const wants = [{ pool: 'phone', count: 1, labels: [], where: 'ram > 4' }]
    await job('a', wants as never)
    const second = await job('b', wants as never)

    await ask('ops', 'DELETE', '/api/v1/pools/phone/units/p1')
    const asked = await store.leases.acquire({
      ...{ holder: second.holder, run: second.run, workflowId: second.holder, requests: wants },
      ...{ priority: 0, ttlMs: HOUR, party: 'acme/web' },
    })

    expect(asked).toMatchObject({
      kind: 'impossible',
      sentence: expect.stringMatching(/where ram > 4: .*the nearest is p2, which is not ram > 4: its ram is 2$/),
    })
  })
})

describe('who looks after pools', () => {
  test('takes a unit from a run, which is told why, and is the next to get it', async () => {
    const { run, holder } = await job('a', [{ pool: 'vault', count: 1, labels: [] }])
    await server.store.leases.heard(holder, 'node-1')
    await reserve('dev', {}, '/api/v1/pools/vault/reservations')

    const taken = await ask<ReservationRow>('ops', 'POST', V1_TAKE, { reason: 'it smokes', for: '1h', id: 't' })
    const again = await ask<ReservationRow>('ops', 'POST', V1_TAKE, { reason: 'it smokes', for: '1h', id: 't' })

    const why = 'vault/v1 was taken by ops: it smokes'
    expect([taken.status, again.status]).toEqual([201, 200])
    expect(taken.body).toMatchObject({ state: 'waiting', position: 1 })
    expect((await server.store.events.of(run, 0)).map(({ event }) => event)).toContainEqual(
      expect.objectContaining({ type: 'lease.revoked.v1', holder, reason: why }),
    )
    await server.store.leases.release([holder], { isGone: true })
    expect((await server.store.reservations.get('t'))?.state).toBe('held')
  })

  test('takes a unit from a person, whose reservation ends with the reason', async () => {
    await reserve('dev', { ...ARM, id: 'one' })

    await ask('ops', 'POST', `${R1}/take`, { reason: 'it smokes', for: '1h' })

    expect(await server.store.reservations.get('one')).toMatchObject({
      state: 'ended',
      why: 'rig/r1 was taken by ops: it smokes',
    })
  })

  test('drains a unit, has it in maintenance and returns it, each seen with who and why', async () => {
    await reserve('dev', { ...ARM, id: 'one' })
    const service = async (act: string, body: object) => {
      const { status, body: unit } = await ask<{ service: unknown; detail?: string }>(
        'ops',
        'POST',
        `${R1}/${act}`,
        body,
      )
      return status === 200 ? unit.service : `${status} ${unit.detail}`
    }

    const steps = [
      await service('maintenance', { reason: 'cable' }),
      await service('drain', { reason: 'cable' }),
      await service('drain', {}),
      await service('drain', { reason: ' \n' }),
    ]
    await ask('dev', 'DELETE', '/api/v1/reservations/one')
    const drained = await ask<{ units: { service: unknown }[] }>('eve', 'GET', '/api/v1/pools/rig')
    steps.push(drained.body.units[0]?.service as object, await service('return-to-service', {}))

    expect(steps).toEqual([
      '409 rig/r1 is held by person:dev/one: drain it, or take it',
      { kind: 'draining', by: 'ops', reason: 'cable' },
      expect.stringContaining('422 /reason'),
      '422 /reason: must say why',
      { kind: 'maintenance', by: 'ops', reason: 'cable' },
      { kind: 'in_service' },
    ])
  })

  test('clears a unit whose probe fails, with the reason on record', async () => {
    const broken = pool('odd', { o1: {} }, { probe: { kind: 'http', url: 'http://127.0.0.1:9/', timeoutMs: 1000 } })
    await server.store.units.configure([broken])
    for (let tries = 0; tries < 3; tries++) {
      const care = await server.store.units.care('odd', 'o1')
      if (care.kind !== 'try') throw new Error(`nothing to try: ${care.kind}`)
      await server.store.units.cared(care, 'no answer')
      server.now(60_000)
    }
    const before = await ask<{ units: unknown[] }>('eve', 'GET', '/api/v1/pools/odd')

    const cleared = await ask('ops', 'POST', '/api/v1/pools/odd/units/o1/clear', { reason: 'it works by hand' })

    expect(before.body.units).toMatchObject([{ phase: 'probing', quarantined: 'its probe failed 3 times' }])
    expect(cleared.body).toMatchObject({ phase: 'clearing' })
    expect(cleared.body).not.toHaveProperty('quarantined')
    expect((await server.store.audit.list({ after: 0, limit: 10 })).at(-1)).toMatchObject({
      action: 'unit.cleared',
      by: 'ops',
      detail: { reason: 'it works by hand' },
    })
  })

  test('makes pools and units, written as in the operator’s file, and everybody who waits is judged anew', async () => {
    const body = {
      share: 2,
      max_hold: '1h30m',
      probe: { http: 'http://{host}/ok', timeout: '10s' },
    }
    const made = await ask('ops', 'PUT', '/api/v1/pools/phone', body)
    const unit = await ask('ops', 'PUT', '/api/v1/pools/phone/units/p1', {
      properties: { host: 'p1' },
      reset_cost: '5m',
    })
    const more = await ask('ops', 'PUT', '/api/v1/pools/rig/units/r3', { labels: ['arch=arm64'], notes: 'on loan' })

    expect(made).toMatchObject({
      status: 200,
      body: {
        ...{ pool: 'phone', source: 'api', share: 2, maxHoldMs: 5_400_000, warnMs: 600_000, privileged: false },
        probe: { kind: 'http', url: 'http://{host}/ok', timeoutMs: 10_000 },
      },
    })
    expect(unit.body).toMatchObject({ unit: 'p1', source: 'api', phase: 'probing', resetCostMs: 300_000, capacity: 1 })
    expect(more.body).toMatchObject({ unit: 'r3', source: 'api', notes: 'on loan' })
    expect((await ask('ops', 'DELETE', '/api/v1/pools/rig/units/r3')).status).toBe(204)
    expect((await ask('ops', 'DELETE', '/api/v1/pools/rig/units/r3')).status).toBe(404)
  })

  test('cannot change what the operator’s file has, nor name secrets of the server', async () => {
    expect((await ask('ops', 'PUT', '/api/v1/pools/rig', {})).body.detail).toBe(
      'pool "rig" is in the operator\'s file, which alone may change it',
    )
    const inTheFile = 'unit "r1" of pool "rig" is in the operator\'s file, which alone may change it'
    expect(await ask('ops', 'PUT', R1, {})).toMatchObject({ status: 409, body: { detail: inTheFile } })
    expect(await ask('ops', 'DELETE', R1)).toMatchObject({ status: 409, body: { detail: inTheFile } })
    const credentials = await ask('ops', 'PUT', '/api/v1/pools/rig/units/r4', {
      credentials: { X: { env: 'NPM_TOKEN' } },
    })
    expect(credentials).toMatchObject({ status: 422, body: { errors: [{ pointer: '/credentials' }] } })
  })

  test.each([
    ['/api/v1/pools/slots:jobs', {}, ['{pool}']],
    ['/api/v1/pools/env:acme', { probe: { http: 'http://x' } }, ['{pool}']],
    [
      '/api/v1/pools/p',
      { share: 0, max_hold: '0s', units: {}, reset: { image: 'x' } },
      ['/share', '/max_hold', '/reset', '/units'],
    ],
    [
      '/api/v1/pools/rig/units/UP',
      { properties: { unit: 1, labels: 'x' } },
      ['{unit}', '/properties/unit', '/properties/labels'],
    ],
    [
      '/api/v1/pools/rig/units/u',
      { capacity: 1e9, labels: [7], properties: { a: null }, notes: 'a\u0000' },
      ['/labels/0', '/properties/a', '/notes', '/capacity'],
    ],
  ])('is told all that is wrong with %s', async (path, body, pointers) => {
    const answer = await ask('ops', 'PUT', path, body)

    expect(answer.status).toBe(422)
    expect(answer.body.errors?.map(({ pointer }) => pointer).sort()).toEqual([...pointers].sort())
  })

  test('puts no unit into a pool whose probe could not reach it', async () => {
    await ask('ops', 'PUT', '/api/v1/pools/phone', { probe: { http: 'http://{host}:{port}/' } })

    const lacking = await ask('ops', 'PUT', '/api/v1/pools/phone/units/p1', { properties: { host: 'x' } })
    await ask('ops', 'PUT', '/api/v1/pools/phone/units/p1', { properties: { host: 'x', port: 1 } })
    const pool = await ask('ops', 'PUT', '/api/v1/pools/phone', { reset: { http: 'http://{name}/' } })

    expect(lacking.body.errors).toEqual([
      { pointer: '/properties', detail: 'lack "port", which the probe of the pool needs' },
    ])
    expect(pool.body.errors).toEqual([{ pointer: '/reset/http', detail: 'unit "p1" has no property "name"' }])
  })

  test('is nobody without the role: reserving gives none of it', async () => {
    const body = { reason: 'x', for: '1h' }
    const acts = ['take', 'drain', 'maintenance', 'clear', 'return-to-service'].map(
      (act) => ['POST', `${R1}/${act}`, body] as const,
    )
    const wrong: string[] = []
    for (const person of ['eve', 'dev', 'ben']) {
      for (const [method, path, one] of [
        ...acts,
        ['PUT', '/api/v1/pools/new', {}] as const,
        ['PUT', '/api/v1/pools/rig/units/new', {}] as const,
        ['DELETE', R1, undefined] as const,
      ]) {
        const { status } = await ask(person, method, path, one)
        if (status !== 403) wrong.push(`${person} ${method} ${path}: ${status}`)
      }
    }

    expect(wrong).toEqual([])
    expect((await reserve('eve')).status).toBe(403)
  })
})
