import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { excludedOf } from '../../src/config/people.ts'
import type { Subject } from '../../src/core/approval.ts'
import { type Running, startServer } from './server.ts'

let server: Running

beforeEach(async () => {
  server = await startServer()
})
afterEach(async () => {
  await server.stop()
})

async function gate(people: { pusher?: string } = {}) {
  const run = await server.run(people)
  const subject: Subject = {
    run: run.id,
    gate: 'approval',
    environment: 'production',
    commit: run.change.commit,
    specDigest: 'd'.repeat(64),
    deliverables: ['image=sha256:aa'],
  }
  const rules = { approvers: ['ada', 'ben', 'cyd'], quorum: 1, excluded: excludedOf(server.config, run.change) }
  await server.store.gates.open(run.id, 'approval', 'production', rules, subject)
  return { run, subject, path: `/api/v1/runs/${run.number}/gates/approval` }
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

test('who asks for a run by hand cannot approve it', async () => {
  const { status } = await server.ask('ada', 'POST', '/api/v1/runs', { repo: 'acme/web', ref: 'master' })
  const [run] = await server.store.runs.list({ limit: 1 })

  expect(status).toBe(202)
  expect(run && excludedOf(server.config, run.change)).toEqual(['ada'])
})
