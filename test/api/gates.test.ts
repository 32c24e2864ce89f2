import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { excludedOf } from '../../src/config/people.ts'
import type { Form } from '../../src/core/form.ts'
import type { GateRow } from '../../src/store/types.ts'
import { gateOn, sendVotes } from './gate.ts'
import { type Running, startServer } from './server.ts'

let server: Running

beforeEach(async () => {
  server = await startServer()
})
afterEach(async () => {
  await server.stop()
})

function gate(people: { pusher?: string } = {}) {
  return gateOn(server, people)
}

async function signals() {
  return (await server.store.outbox.pending()).map((row) => row.message).filter((one) => one.kind === 'signal')
}

/** What the workflow does with the signal. */
async function deliver(): Promise<{ counts: boolean; why?: string }> {
  const [signal] = await signals()
  const argument = signal?.args[0] as { who: string; token: string; channel: string; key: string; comment?: string }
  const { who, key, ...rest } = argument
  return server.store.gates.vote({
    ...rest,
    key,
    run: signal?.workflowId ?? '',
    gate: 'approval',
    answer: signal?.signal === 'reject' ? 'reject' : 'approve',
    claimedBy: who,
    trustSignals: false,
  })
}

describe('a vote', () => {
  test('of an approver becomes a signal that carries a token of that person, and counts', async () => {
    const { run, path } = await gate()

    const { status } = await server.ask('ben', 'POST', `${path}/approve`, { comment: 'fine' })
    const judged = await deliver()

    expect(status).toBe(202)
    expect(await signals()).toEqual([
      {
        kind: 'signal',
        workflowId: run.id,
        signal: 'approve',
        args: [expect.objectContaining({ who: 'ben', comment: 'fine', channel: 'api', token: expect.any(String) })],
      },
    ])
    expect(judged).toMatchObject({ counts: true, verdict: { kind: 'approved' } })
  })

  test('A02: of a viewer or a developer is refused', async () => {
    const { path } = await gate()

    expect((await server.ask('eve', 'POST', `${path}/approve`, {})).status).toBe(403)
    expect((await server.ask('dev', 'POST', `${path}/approve`, {})).status).toBe(403)
    expect(await signals()).toEqual([])
  })

  test('of an operator who is no approver here is refused, and stands in the audit', async () => {
    const { path } = await gate()

    const { status, body } = await server.ask('ops', 'POST', `${path}/approve`, {})

    expect(status).toBe(403)
    expect((body as { detail: string }).detail).toContain('ops is not an approver of this environment')
    expect(await server.store.audit.list({ limit: 50 })).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ by: 'ops', action: 'gate.vote', detail: expect.objectContaining({ counts: false }) }),
      ]),
    )
  })

  test('A05: of the pusher is refused, naming the commit; the pusher is known by the forge login', async () => {
    const { run, path } = await gate({ pusher: 'ben-o' })

    const { status, body } = await server.ask('ben', 'POST', `${path}/approve`, {})

    expect(status).toBe(403)
    expect((body as { detail: string }).detail).toContain(run.change.commit)
    expect(await signals()).toEqual([])
  })

  test.each([
    ['commit', { commit: '3f2a'.repeat(10) }],
    ['spec', { specDigest: 'e'.repeat(64) }],
    ['deliverables', { deliverables: ['image=sha256:bb'] }],
  ])('A06: on another %s is refused', async (_, stale) => {
    const { path } = await gate()

    expect((await server.ask('ben', 'POST', `${path}/approve`, stale)).status).toBe(409)
    expect(await signals()).toEqual([])
  })

  test('A07: sent twice is one signal; after the decision it is refused', async () => {
    const { path } = await gate()
    await Promise.all([
      server.ask('ben', 'POST', `${path}/approve`, {}),
      server.ask('ben', 'POST', `${path}/approve`, {}),
    ])

    expect(await signals()).toHaveLength(1)
    await deliver()
    const again = await server.ask('cyd', 'POST', `${path}/reject`, { comment: 'late' })
    expect(again.status).toBe(409)
    expect((again.body as { detail: string }).detail).toContain('the gate is approved')
  })

  test('of a run that has ended is refused; of its next try it counts, whatever became of the one before', async () => {
    const { run, path } = await gate()
    await server.store.events.append(run.id, 'started', [{ type: 'run.started.v1', try: 1 }])
    await server.ask('ben', 'POST', `${path}/approve`, {})
    await server.store.events.append(run.id, 'ended', [{ type: 'run.finished.v1', try: 1, outcome: 'canceled' }])

    const late = await server.ask('ben', 'POST', `${path}/approve`, {})
    const token = await server.ask('ben', 'POST', `${path}/token`, {})
    // Told to a try that was ending, the first was lost.
    for (const { id } of await server.store.outbox.pending()) await server.store.outbox.done(id)
    await server.store.runs.retry(run.id, 1, 'ada')
    const again = await server.ask('ben', 'POST', `${path}/approve`, {})

    expect(late).toMatchObject({ status: 409, body: { detail: expect.stringContaining('has ended: canceled') } })
    expect(token.status).toBe(409)
    expect(again.status).toBe(202)
    expect(await signals()).toHaveLength(1)
  })

  test('at a gate that is not there, or of a run that is not there, finds nothing', async () => {
    const { run } = await gate()

    expect((await server.ask('ben', 'POST', `/api/v1/runs/${run.number}/gates/other/approve`, {})).status).toBe(404)
    expect((await server.ask('ben', 'POST', '/api/v1/runs/999/gates/approval/approve', {})).status).toBe(404)
  })
})

test('a vote token is given only to whose vote would count', async () => {
  const { path } = await gate({ pusher: 'ben' })

  expect((await server.ask('ben', 'POST', `${path}/token`, {})).status).toBe(403)
  const { status, body } = await server.ask('cyd', 'POST', `${path}/token`, {})
  expect(status).toBe(201)
  expect(body).toMatchObject({ token: expect.stringMatching(/^vote_/), signal: { argument: { who: 'cyd' } } })
})

test('of a gate that waits one is told who may approve, and why it may never be enough', async () => {
  const { path } = await gate({ pusher: 'ben' })
  const runs = path.replace(/\/approval$/, '')

  const { body } = await server.ask('eve', 'GET', runs)
  expect(body).toMatchObject({ gates: [{ standing: { approvals: [], may: ['ada', 'cyd'], missing: 1 } }] })

  const [{ id, run, rules, subject }] = (await server.store.gates.waiting()) as [GateRow]
  const narrow = { ...rules, approvers: ['ben'] }
  const other = { ...subject, specDigest: 'e'.repeat(64) }
  await server.store.gates.open(run, 'approval', 'production', narrow, other)
  const now = await server.ask('eve', 'GET', '/api/v1/gates')
  expect(now.body).toMatchObject({
    gates: [
      { standing: { may: [], shortage: expect.stringContaining('nobody else may approve: ben wrote or pushed') } },
    ],
  })
  expect(id).not.toBe((now.body as { gates: GateRow[] }).gates[0]?.id)
})

test('nothing is started by hand on a branch of a promotion', async () => {
  const start = { repo: 'acme/web', ref: 'penstock/promote/7' }

  const { status, body } = await server.ask('ada', 'POST', '/api/v1/runs', start)

  expect(status).toBe(422)
  expect(JSON.stringify(body)).toContain('is a branch of Penstock’s own')
})

test('who asks for a run by hand cannot approve it', async () => {
  const { status } = await server.ask('ada', 'POST', '/api/v1/runs', { repo: 'acme/web', ref: 'master' })
  const [run] = await server.store.runs.list({ limit: 1 })

  expect(status).toBe(202)
  expect(run && excludedOf(server.config, run.change)).toEqual(['ada'])
})

describe('a gate with a form', () => {
  const form: Form = {
    instructions: 'Look at **staging**.',
    fields: [
      { name: 'ticket', type: 'text', required: true, longest: 20, pattern: 'CHG-[0-9]+' },
      { name: 'announced', type: 'yes_no', required: true },
    ],
  }

  test('tells all that is wrong at once, and takes what is right', async () => {
    const { path, run } = await gateOn(server, { form })

    const wrong = await server.ask('ben', 'POST', `${path}/approve`, { fields: { ticket: 'x', announced: 'yes' } })
    const right = await server.ask('ben', 'POST', `${path}/approve`, { fields: { ticket: 'CHG-1', announced: true } })
    const sent = await sendVotes(server)

    expect(wrong).toMatchObject({
      status: 422,
      body: {
        errors: [{ pointer: '/fields/ticket' }, { pointer: '/fields/announced', detail: 'must be true or false' }],
      },
    })
    expect(right.status).toBe(202)
    expect(sent).toMatchObject([{ counts: true }])
    const { body } = await server.ask('eve', 'GET', `/api/v1/runs/${run.number}/gates`)
    expect(body).toMatchObject({
      gates: [{ rules: { form }, votes: [{ fields: { ticket: 'CHG-1', announced: true } }] }],
    })
  })

  test('is rejected without being filled in', async () => {
    const { path } = await gateOn(server, { form })

    expect((await server.ask('ben', 'POST', `${path}/reject`, { comment: 'no' })).status).toBe(202)
    expect(await sendVotes(server)).toMatchObject([{ counts: true }])
  })
})

test('whoever is refused at the answer to several gates, or a vote token, stands in the audit of each gate', async () => {
  const first = await gateOn(server, { pusher: 'ben' })
  const second = await gateOn(server)
  const gates = [{ run: first.run.number }, { run: second.run.number, gate: 'approval' }, { run: 999_999 }]

  const answers = [
    await server.ask('dev', 'POST', '/api/v1/gates/answer', { answer: 'approve', gates }),
    await server.ask('dev', 'POST', '/api/v1/gates/answer', { answer: 'approve' }),
    await server.ask('dev', 'POST', `${first.path}/token`, {}),
    await server.ask('ben', 'POST', `${first.path}/token`, {}),
  ]

  expect(answers.map(({ status }) => status)).toEqual([403, 403, 403, 403])
  const refused = (await server.store.audit.list({ limit: 50 })).filter(({ action }) => action === 'gate.vote')
  const [one, other] = [`${first.run.id}/approval/1`, `${second.run.id}/approval/1`]
  expect(refused.map(({ by, on, detail }) => `${by} ${on} ${(detail as { counts: boolean }).counts}`).sort()).toEqual(
    [`ben ${one} false`, `dev ${one} false`, `dev ${one} false`, `dev ${other} false`].sort(),
  )
})

describe('break-glass', () => {
  test('is not reviewed by whoever wrote the change', async () => {
    const { path } = await gateOn(server, { pusher: 'ada', quorum: 2 })
    await server.ask('ops', 'POST', `${path}/break-glass`, { reason: 'the site is down' })
    await sendVotes(server)

    const author = await server.ask('ada', 'POST', `${path}/review`, { comment: 'my change is fine' })
    const other = await server.ask('ben', 'POST', `${path}/review`, { comment: 'it was needed' })

    const late = await server.ask('cyd', 'POST', `${path}/review`, { comment: 'me too' })

    expect([author.status, other.status, late.status]).toEqual([403, 201, 409])
    const refused = (await server.store.audit.list({ limit: 50 })).flatMap(({ by, action, detail }) => {
      const { counts, why, review, comment } = detail as Record<string, unknown>
      return action === 'gate.vote' && counts === false ? [{ by, why, review, comment }] : []
    })
    const own = 'ada wrote or pushed this change; another person must review it'
    expect(refused).toEqual([
      { by: 'ada', why: own, review: true, comment: 'my change is fine' },
      { by: 'cyd', why: 'it was reviewed by ben', review: true, comment: 'me too' },
    ])
  })

  test('of an operator passes the gate, is seen at run and gate, and is reviewed by somebody else', async () => {
    const { path, run } = await gateOn(server, { quorum: 2 })

    const { status } = await server.ask('ops', 'POST', `${path}/break-glass`, { reason: 'the site is down' })
    await sendVotes(server)
    const gates = await server.ask('eve', 'GET', '/api/v1/gates')
    const own = await server.ask('ops', 'POST', `${path}/review`, { comment: 'all fine' })
    const empty = await server.ask('ben', 'POST', `${path}/review`, { comment: ' ' })
    const review = await server.ask('ben', 'POST', `${path}/review`, { comment: 'it was needed' })

    const broken = { by: 'ops', reason: 'the site is down' }
    expect(status).toBe(202)
    expect(gates.body).toMatchObject({ gates: [], toReview: [{ run: run.id, state: 'approved', broken }] })
    expect([own.status, empty.status, review.status]).toEqual([403, 422, 201])
    expect((await server.ask('eve', 'GET', '/api/v1/gates')).body).toMatchObject({ toReview: [] })
    const shown = await server.ask('eve', 'GET', `/api/v1/runs/${run.number}`)
    expect(shown.body).toMatchObject({ broken })
  })

  test('is refused to developers, approvers, and to the operator who pushed it; each refusal is in the audit', async () => {
    const { path } = await gateOn(server, { pusher: 'ada' })
    const reason = 'let me'

    const dev = await server.ask('dev', 'POST', `${path}/break-glass`, { reason })
    const approver = await server.ask('ben', 'POST', `${path}/break-glass`, { reason })
    const author = await server.ask('ada', 'POST', `${path}/break-glass`, { reason })
    const silent = await server.ask('ops', 'POST', `${path}/break-glass`, { reason: ' ' })

    expect([dev, approver, author, silent].map(({ status }) => status)).toEqual([403, 403, 403, 422])
    expect(await signals()).toEqual([])
    const refused = (await server.store.audit.list({ limit: 50 })).filter(({ action }) => action === 'gate.vote')
    expect(refused.map(({ by, detail }) => [by, detail])).toEqual(
      ['dev', 'ben', 'ada'].map((by) => [by, expect.objectContaining({ counts: false, breakGlass: true })]),
    )
  })

  test('by a signal is judged by the same function: a vote token of an approver is not enough', async () => {
    const { path, run } = await gateOn(server, { quorum: 2 })
    const { body } = await server.ask('ben', 'POST', `${path}/token`, {})
    const { token } = body as { token: string }

    const judged = await server.store.gates.vote({
      ...{ key: 'x', run: run.id, gate: 'approval', answer: 'approve', claimedBy: 'ops', channel: 'signal' },
      ...{ token, trustSignals: true, comment: 'let me', breakGlass: true, operators: ['ada', 'ops'] },
    })

    expect(judged).toMatchObject({ counts: false, why: expect.stringContaining('ben may not break the glass') })
  })
})

describe('several gates at once', () => {
  test('are judged each for itself, told each for itself, and all recorded', async () => {
    const [one, two, pushed, other] = [
      await gateOn(server),
      await gateOn(server),
      await gateOn(server, { pusher: 'ben-o' }),
      await gateOn(server),
    ]

    const { status, body } = await server.ask('ben', 'POST', '/api/v1/gates/answer', {
      answer: 'approve',
      comment: 'the four of today',
      gates: [
        { run: one.run.number, gate: 'approval' },
        { run: two.run.number },
        { run: pushed.run.number },
        { run: other.run.number, commit: '3f2a'.repeat(10) },
        { run: 999 },
      ],
    })

    expect(status).toBe(200)
    expect((body as { results: object[] }).results).toMatchObject([
      { run: one.run.number, accepted: true },
      { run: two.run.number, accepted: true },
      { run: pushed.run.number, accepted: false, status: 403, why: expect.stringContaining('ben wrote or pushed') },
      { run: other.run.number, accepted: false, status: 409, why: expect.stringContaining('you decided on commit') },
      { run: 999, accepted: false, status: 404 },
    ])
    expect(await sendVotes(server)).toMatchObject([{ counts: true }, { counts: true }])
    const votes = (await server.store.audit.list({ limit: 50 })).filter(({ action }) => action === 'gate.vote')
    expect(votes.map(({ on, detail }) => [on, (detail as { counts: boolean }).counts]).sort()).toEqual(
      [one, two, pushed, other].map(({ run }, n) => [`${run.id}/approval/1`, n < 2]),
    )
  })

  test('need the right to vote, and one gate at least', async () => {
    const gates = [{ run: 1 }]

    expect((await server.ask('dev', 'POST', '/api/v1/gates/answer', { answer: 'approve', gates })).status).toBe(403)
    expect((await server.ask('ben', 'POST', '/api/v1/gates/answer', { answer: 'approve', gates: [] })).status).toBe(422)
  })
})
