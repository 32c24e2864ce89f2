import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ManualTest } from '../../src/core/plan.ts'
import { SESSION_LIMITS, sessionSubject } from '../../src/core/session.ts'
import { parseJUnit } from '../../src/results/junit.ts'
import type { Sessions } from '../../src/store/types.ts'
import { type Running, startServer } from './server.ts'

let server: Running

beforeEach(async () => {
  server = await startServer()
})
afterEach(async () => {
  await server.stop()
})

/** ben and cyd are approvers, dev is named; eve only looks on. */
const MANUAL: ManualTest = {
  checklist: [
    { name: 'Log in on a phone', required: true, line: 4 },
    { name: 'Export a report', instructions: 'Open **Reports**.', required: true, line: 5 },
    { name: 'Print', required: false, line: 6 },
  ],
  by: ['role:approver', 'dev'],
  expiresSeconds: 3600,
}

async function session() {
  const run = await server.run()
  const key = { run: run.id, stage: 'e2e', job: 'manual', attempt: 1 }
  const open = (over: Partial<Parameters<Sessions['open']>[0]> = {}) =>
    server.store.sessions.open({
      key,
      manual: MANUAL,
      subject: sessionSubject(run.change.commit, 'spec', []),
      may: ['ben', 'cyd', 'dev'],
      environment: 'staging',
      url: 'http://staging.test',
      units: [{ pool: 'rig', unit: 'rig-1', properties: { arch: 'arm64' }, expiresAt: server.now() + 60_000 }],
      ...over,
    })
  await open()
  const path = `/api/v1/runs/${run.number}/sessions/e2e/manual/1`
  const post = (person: string, where: string, body: unknown = {}) =>
    server.ask(person, 'POST', `${path}${where}`, body)
  return { run, key, path, post, open }
}

async function upload(path: string, person: string, bytes: Uint8Array, query: string) {
  const response = await fetch(`${server.url}${path}?${query}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${await server.token(person)}`,
      'content-type': 'application/octet-stream',
    },
    body: Buffer.from(bytes),
  })
  return { status: response.status, body: (await response.json()) as { detail?: string } }
}

async function entries(action: string) {
  return (await server.store.audit.list({ limit: 100 })).filter((one) => one.action === action)
}

describe('a session', () => {
  test('is seen by everybody who may read, with address, units, and who may test by the operator’s file of now', async () => {
    const { run, path } = await session()

    const list = await server.ask('eve', 'GET', '/api/v1/sessions')
    const one = await server.ask('eve', 'GET', path)
    const ofRun = await server.ask('eve', 'GET', `/api/v1/runs/${run.number}/sessions`)

    expect(one).toMatchObject({
      status: 200,
      body: {
        id: `${run.id}/e2e/manual/1`,
        run: run.number,
        state: 'open',
        environment: 'staging',
        url: 'http://staging.test',
        units: [{ pool: 'rig', unit: 'rig-1', properties: { arch: 'arm64' } }],
        mayTest: ['ben', 'cyd', 'dev'],
        checklist: [{ item: 1, answer: null }, { item: 2, instructions: 'Open **Reports**.' }, { required: false }],
      },
    })
    expect(list.body).toEqual({ sessions: [one.body] })
    expect(ofRun.body).toEqual({ sessions: [one.body] })
  })

  test('is answered by the people whom it names and nobody else, whatever their roles; refusals are in the audit', async () => {
    const { post } = await session()

    const answers = await Promise.all(
      ['eve', 'ops', 'ada', 'dev', 'ben'].map((person) => post(person, '/items/1', { result: 'passed' })),
    )
    const others = await Promise.all(
      ['/join', '/resume', '/finish'].map(async (where) => (await post('eve', where)).status),
    )
    const paused = await post('ops', '/pause', { reason: 'lunch' })

    expect(answers.map(({ status }) => status)).toEqual([403, 403, 403, 200, 200])
    expect(answers[0]?.body).toMatchObject({ detail: 'eve may not test here; may test: ben, cyd, dev' })
    expect(others).toEqual([403, 403, 403])
    expect(paused.status).toBe(403)
    expect(await entries('session.refused')).toHaveLength(7)
  })

  test('goes from answers to its end; finishing too early names what is open', async () => {
    const { post, path, run } = await session()
    await post('ben', '/join')
    await post('ben', '/items/1', { result: 'failed', comment: 'the button is gone' })

    const early = await post('ben', '/finish')
    await post('dev', '/items/2', { result: 'passed' })
    const end = await post('ben', '/finish', { channel: 'cli' })
    const again = await post('ben', '/finish', { channel: 'cli' })
    const late = await post('ben', '/items/1', { result: 'passed' })

    expect(early).toMatchObject({ status: 409, body: { detail: 'these items have no answer yet: "Export a report"' } })
    expect(end).toMatchObject({ status: 200, body: { state: 'finished', endedBy: 'ben' } })
    expect(again.status).toBe(200)
    expect(late).toMatchObject({ status: 409, body: { detail: 'the session is finished' } })
    expect(await entries('session.finished')).toMatchObject([
      { by: 'ben', channel: 'cli', on: `${run.id}/e2e/manual/1`, detail: { outcome: 'failed' } },
    ])
    const junit = await server.ask('eve', 'GET', `${path}/junit`)
    expect(junit.headers.get('content-disposition')).toContain('attachment')
    expect(parseJUnit(Buffer.from(String(junit.body))).cases).toMatchObject([
      { suite: 'manual', name: 'Log in on a phone', result: 'failed', message: 'failed by ben: the button is gone' },
      { name: 'Export a report', result: 'passed' },
      { name: 'Print', result: 'skipped' },
    ])
    expect((await server.ask('eve', 'GET', '/api/v1/sessions')).body).toEqual({ sessions: [] })
  })

  test('that pauses says what goes on meanwhile, and is handed over only to somebody who may test', async () => {
    const { post } = await session()
    await post('ben', '/join')

    const paused = await post('ben', '/pause', { reason: 'the phone charges' })
    const answered = await post('dev', '/items/1', { result: 'passed' })
    const resumed = await post('dev', '/resume')
    const wrong = await post('ben', '/hand-over', { to: 'eve' })
    const handed = await post('ben', '/hand-over', { to: 'cyd' })

    expect(paused.body).toMatchObject({ warning: expect.stringContaining('nobody else can have rig/rig-1 meanwhile') })
    expect(answered).toMatchObject({
      status: 409,
      body: { detail: 'the session was paused by ben: the phone charges; resume it first' },
    })
    expect(resumed.body).not.toHaveProperty('warning')
    expect(wrong).toMatchObject({ status: 422, body: { detail: expect.stringContaining('cyd, dev') } })
    expect(handed.body).toMatchObject({ testers: [{ person: 'ben', handedTo: 'cyd' }, { person: 'cyd' }] })
  })

  test('of a run that is being canceled takes nothing more', async () => {
    const { run, post, path } = await session()
    await server.ask('dev', 'POST', `/api/v1/runs/${run.number}/cancel`, { reason: 'wrong branch' })

    const late = await post('ben', '/items/1', { result: 'passed' })
    const file = await upload(`${path}/items/1/evidence`, 'ben', Buffer.from('x'), 'name=a.png')

    expect(late).toMatchObject({ status: 409, body: { detail: `run ${run.id} is being canceled` } })
    expect(file.status).toBe(409)
  })
})

describe('whoever may not test any more', () => {
  /** As if the operator had taken the person out of the file. */
  function leaves(person: string) {
    delete (server.config.people as Record<string, unknown>)[person]
  }

  test('has answered nothing that counts: it is shown as open with the reason, in the test cases, and at the end', async () => {
    const { post, path } = await session()
    await post('cyd', '/items/1', { result: 'passed' })
    await post('ben', '/items/2', { result: 'passed' })
    await post('cyd', '/items/3', { result: 'failed', comment: 'blank' })
    leaves('cyd')

    const shown = await server.ask('ben', 'GET', path)
    const junit = await server.ask('ben', 'GET', `${path}/junit`)
    const early = await post('ben', '/finish')
    await post('dev', '/items/1', { result: 'passed' })
    await post('dev', '/items/3', { result: 'blocked' })
    const end = await post('ben', '/finish')

    expect(shown.body).toMatchObject({
      checklist: [
        { answer: null, askedAgain: 'passed by cyd: cyd may not test here now' },
        { answer: { by: 'ben' } },
        { answer: null, askedAgain: 'failed by cyd: cyd may not test here now' },
      ],
    })
    expect(parseJUnit(Buffer.from(String(junit.body))).cases.map(({ result }) => result)).toEqual([
      'errored',
      'passed',
      'skipped',
    ])
    expect(early).toMatchObject({
      status: 409,
      body: {
        detail:
          'these are to be answered again: "Log in on a phone" (passed by cyd: cyd may not test here now), ' +
          '"Print" (failed by cyd: cyd may not test here now)',
      },
    })
    expect(end).toMatchObject({ status: 200, body: { state: 'finished' } })
    expect(end.body).not.toHaveProperty('checklist.0.askedAgain')
    // What has ended is not judged anew.
    leaves('ben')
    expect((await server.ask('dev', 'GET', path)).body).toMatchObject({
      checklist: [{}, { answer: { by: 'ben' } }, {}],
    })
  })

  test('why a retry asks again is said of the item, or of the whole', async () => {
    const { key, run, post, open } = await session()
    await post('cyd', '/items/1', { result: 'passed' })
    await post('ben', '/items/2', { result: 'passed' })
    await open({ key: { ...key, attempt: 2 }, may: ['ben', 'dev'] })
    await open({ key: { ...key, attempt: 3 }, subject: sessionSubject(run.change.commit, 'other', []) })

    const { body } = await server.ask('eve', 'GET', `/api/v1/runs/${run.number}/sessions`)

    expect(body).toMatchObject({
      sessions: [
        {},
        {
          checklist: [
            { answer: null, askedAgain: 'passed by cyd in attempt 1: cyd may not test here now' },
            { answer: { by: 'ben', keptFrom: 1 } },
            {},
          ],
        },
        { notKept: 'no answer of attempt 2 is kept: the spec is another one', checklist: [{ answer: null }, {}, {}] },
      ],
    })
  })
})

describe('hostile input', () => {
  test.each<[string, string, unknown, number]>([
    ['a huge comment', '/items/1', { result: 'failed', comment: 'x'.repeat(4001) }, 422],
    ['a body beyond all bounds', '/items/1', { result: 'failed', comment: 'x'.repeat(100_000) }, 413],
    ['a NUL', '/items/1', { result: 'failed', comment: 'a\u0000b' }, 422],
    ['a terminal’s escape', '/items/1', { result: 'failed', comment: '\u001b[2J' }, 422],
    ['an unknown item', '/items/4', { result: 'passed' }, 422],
    ['item 0', '/items/0', { result: 'passed' }, 422],
    ['an item that is no number', '/items/first', { result: 'passed' }, 422],
    ['an unknown result', '/items/1', { result: 'ok' }, 422],
    ['an unknown key', '/items/1', { result: 'passed', by: 'cyd' }, 422],
    ['a pause without a word', '/pause', { reason: ' \n' }, 422],
    ['another attempt', '/../2/join', {}, 404],
  ])('%s is refused, and nothing of it stays', async (_, where, body, status) => {
    const { post, key } = await session()
    const before = await server.store.sessions.get(key)

    const answer = await post('ben', where, body)

    expect(answer.status).toBe(status)
    expect(await server.store.sessions.get(key)).toEqual(before)
  })

  test('names that are no sessions lead nowhere', async () => {
    const { run } = await session()

    for (const name of ['e2e/other/1', 'test/manual/1', 'e2e/manual/2', 'e2e/manual/x', 'e2e/manual%2F1/1'])
      expect((await server.ask('ben', 'POST', `/api/v1/runs/${run.number}/sessions/${name}/join`, {})).status).toBe(404)
  })
})

describe('evidence', () => {
  test('is kept by its content, once, listed with its item, and comes back as it was', async () => {
    const { path } = await session()
    const bytes = Buffer.from('\u0000\u00ff any bytes')

    await upload(`${path}/items/2/evidence`, 'ben', bytes, 'name=Bericht%20%C3%BC.pdf')
    await upload(`${path}/items/2/evidence`, 'ben', bytes, 'name=Bericht%20%C3%BC.pdf&channel=cli')

    const { body } = await server.ask('eve', 'GET', path)
    expect(body).toMatchObject({
      testers: [{ person: 'ben' }],
      checklist: [
        { evidence: [] },
        { evidence: [{ id: 1, name: 'Bericht ü.pdf', size: bytes.length, by: 'ben' }] },
        {},
      ],
    })
    expect(await entries('session.evidence')).toHaveLength(1)
    const response = await fetch(`${server.url}${path}/evidence/1`, {
      headers: { authorization: `Bearer ${await server.token('eve')}` },
    })
    expect(Buffer.from(await response.arrayBuffer())).toEqual(bytes)
    expect(response.headers.get('content-disposition')).toBe(
      `attachment; filename="Bericht__.pdf"; filename*=UTF-8''Bericht%20%C3%BC.pdf`,
    )
  })

  test('that is HTML is never shown as a page', async () => {
    const { path } = await session()
    const page = Buffer.from('<script>alert(document.cookie)</script>')
    await upload(`${path}/items/1/evidence`, 'ben', page, 'name=a.html')

    const { headers } = await server.ask('eve', 'GET', `${path}/evidence/1`)

    expect(headers.get('content-type')).toBe('application/octet-stream')
    expect(headers.get('x-content-type-options')).toBe('nosniff')
    expect(headers.get('content-disposition')).toMatch(/^attachment;/)
    expect(headers.get('content-security-policy')).toBe("sandbox; default-src 'none'")
  })

  test.each([
    ['a path', 'name=..%2F..%2Fetc%2Fpasswd'],
    ['a path of another system', 'name=C%3A%5Cx.png'],
    ['the folder above', 'name=..'],
    ['nothing', 'name='],
    ['no name', ''],
    ['a line end', 'name=a%0Ab.png'],
    ['text turned around', 'name=a%E2%80%AEgnp.exe'],
    ['a very long one', `name=${'x'.repeat(201)}`],
    ['two', 'name=a.png&name=b.png'],
  ])('with %s for its name is refused', async (_, query) => {
    const { path } = await session()

    const { status } = await upload(`${path}/items/1/evidence`, 'ben', Buffer.from('x'), query)

    expect(status).toBe(422)
    expect((await server.ask('eve', 'GET', path)).body).toMatchObject({ checklist: [{ evidence: [] }, {}, {}] })
  })

  test('that is too big, empty, of no item, or from somebody who may not test is refused', async () => {
    const { path, post } = await session()
    const evidence = `${path}/items/1/evidence`
    const x = Buffer.from('x')

    expect((await upload(evidence, 'ben', Buffer.alloc(10 * 1024 * 1024 + 1), 'name=a')).status).toBe(413)
    expect((await upload(evidence, 'ben', Buffer.alloc(0), 'name=a')).status).toBe(422)
    expect((await upload(`${path}/items/9/evidence`, 'ben', x, 'name=a')).status).toBe(422)
    expect((await upload(evidence, 'eve', x, 'name=a')).status).toBe(403)
    await post('ben', '/pause', { reason: 'lunch' })
    expect((await upload(evidence, 'ben', x, 'name=a')).status).toBe(409)
    expect((await server.ask('eve', 'GET', `${path}/evidence/1`)).status).toBe(404)
  })

  test('is deleted by whoever attached it while the session is open, or by an operator with a reason; its bytes, too', async () => {
    const { path, post, key } = await session()
    const bytes = Buffer.from('a password')
    const name = encodeURIComponent('phone.png')
    for (const item of [1, 2]) await upload(`${path}/items/${item}/evidence`, 'ben', bytes, `name=${name}`)
    const digest = (await server.store.sessions.get(key))?.evidence[0]?.digest ?? ''
    const remove = (person: string, id: number, query = '') =>
      server.ask(person, 'DELETE', `${path}/evidence/${id}${query}`)

    const refused = [await remove('dev', 1), await remove('ops', 1), await remove('ops', 1, '?reason=%20')]
    const strange = [await remove('ben', 9), await remove('ben', 1, '?channel=pigeon')]
    const own = await remove('ben', 1, '?channel=cli')
    const other = await server.deps.evidence.open(digest)
    other?.stream.destroy()
    await post('ben', '/items/1', { result: 'passed' })
    await post('ben', '/items/2', { result: 'passed' })
    await post('ben', '/finish')
    const late = await remove('ben', 2)
    const operator = await remove('ops', 2, '?reason=a%20password%20is%20in%20it')
    const again = await remove('ops', 2, '?reason=again')

    expect(refused.map(({ status }) => status)).toEqual([403, 422, 422])
    expect(strange.map(({ status }) => status)).toEqual([404, 422])
    expect(own).toMatchObject({ status: 200, body: { checklist: [{ evidence: [{ gone: { by: 'ben' } }] }, {}, {}] } })
    // The other item has the same bytes.
    expect(other?.size).toBe(bytes.length)
    expect(late).toMatchObject({ status: 409, body: { detail: 'the session is finished; an operator can delete it' } })
    expect([operator.status, again.status]).toEqual([200, 200])
    expect(await server.ask('eve', 'GET', `${path}/evidence/2`)).toMatchObject({
      status: 410,
      body: { detail: 'the file was deleted by ops: a password is in it' },
    })
    expect(await server.deps.evidence.open(digest)).toBeUndefined()
    const size = bytes.length
    expect(await entries('session.evidence_deleted')).toMatchObject([
      { by: 'ben', channel: 'cli', detail: { name: 'phone.png', digest, size, attachedBy: 'ben' } },
      { by: 'ops', channel: 'api', detail: { name: 'phone.png', digest, size, why: 'a password is in it' } },
    ])
    expect(await entries('session.refused')).toMatchObject([{ by: 'dev' }])
    const junit = await server.ask('eve', 'GET', `${path}/junit`)
    expect(String(junit.body)).not.toMatch(/phone\.png|evidence|sha256/)
  })

  test('whose record was deleted before a kill loses its bytes when it is deleted again', async () => {
    const { path, key } = await session()
    await upload(`${path}/items/1/evidence`, 'ben', Buffer.from('x'), 'name=a')
    const file = (await server.store.sessions.get(key))?.evidence[0]
    await server.store.sessions.deleteEvidence(key, { by: 'ben', channel: 'api', isOperator: false }, { id: 1 })

    await server.ask('ben', 'DELETE', `${path}/evidence/1`)

    expect(await server.deps.evidence.open(file?.digest ?? '')).toBeUndefined()
  })

  test('attached and deleted by many at once is whole or gone, never listed without its bytes', async () => {
    const { path, key } = await session()
    const bytes = Buffer.from('the same')
    for (let round = 0; round < 8; round++) {
      await Promise.all([
        upload(`${path}/items/1/evidence`, 'ben', bytes, `name=${round}`),
        server.ask('ben', 'DELETE', `${path}/evidence/${round}`),
        server.ask('ben', 'DELETE', `${path}/evidence/${round + 1}`),
      ])
      const there = (await server.store.sessions.get(key))?.evidence.filter(({ gone }) => gone === undefined) ?? []
      for (const { digest } of there) {
        const file = await server.deps.evidence.open(digest)
        expect(file?.size).toBe(bytes.length)
        file?.stream.destroy()
      }
    }
  })

  test('beyond the bound of the session is not even kept', async () => {
    const { path, key } = await session()
    for (let n = 0; n < SESSION_LIMITS.evidence; n++) {
      const file = { item: 1, name: `${n}`, digest: `sha256:${n}`, size: 1 }
      await server.store.sessions.attach(key, { by: 'ben', channel: 'api' }, file)
    }
    const kept: string[] = []
    const put = server.deps.evidence.put.bind(server.deps.evidence)
    server.deps.evidence.put = async (bytes) => {
      kept.push(bytes.toString())
      return put(bytes)
    }

    const { status } = await upload(`${path}/items/1/evidence`, 'ben', Buffer.from('one more'), 'name=a')

    expect(status).toBe(409)
    expect(kept).toEqual([])
  })
})
