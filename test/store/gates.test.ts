import { expect, test } from 'vitest'
import type { GateRules, Subject } from '../../src/core/approval.ts'
import type { Store } from '../../src/store/types.ts'
import { commit, newRun, onEveryDatabase } from './backend.ts'

const RUN = 'acme/web#1'
const GATE = 'approval'
const RULES: GateRules = { approvers: ['ada', 'bob'], quorum: 2, excluded: ['eve'] }
const SUBJECT: Subject = {
  run: RUN,
  gate: GATE,
  environment: 'production',
  commit: commit('a'),
  specDigest: 'spec',
  deliverables: ['web=sha256:1'],
}
const OTHER: Subject = { ...SUBJECT, deliverables: ['web=sha256:2'] }

function open(store: Store, subject = SUBJECT, rules = RULES) {
  return store.gates.open(RUN, GATE, 'production', rules, subject)
}

async function vote(
  store: Store,
  by: string,
  over: { key?: string; token?: string; answer?: 'approve' | 'reject' } = {},
) {
  const token = over.token ?? (await store.gates.mintToken(RUN, GATE, by, 'cli', 60_000))
  const { key = `${by}/1`, answer = 'approve' } = over
  return store.gates.vote({
    key,
    run: RUN,
    gate: GATE,
    answer,
    claimedBy: by,
    token,
    channel: 'cli',
    trustSignals: false,
  })
}

await onEveryDatabase((lab) => {
  test('the quorum approves, and votes, decision and audit say by whom', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)

    const first = await vote(store, 'ada')
    const second = await vote(store, 'bob')

    expect(first).toEqual({ verdict: { kind: 'open', approvals: 1, missing: 1 }, counts: true })
    expect(second).toEqual({ verdict: { kind: 'approved' }, counts: true })
    expect(await store.gates.get(RUN, GATE)).toMatchObject({ state: 'approved', votes: [{ by: 'ada' }, { by: 'bob' }] })
    const actions = (await store.audit.list({ limit: 9 })).map((row) => `${row.by} ${row.action}`)
    expect(actions).toEqual([
      'penstock gate.opened',
      'ada gate.token',
      'ada gate.vote',
      'bob gate.token',
      'bob gate.vote',
      'bob gate.approved',
    ])
  })

  test('one rejection rejects', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    await vote(store, 'ada')

    const rejected = await vote(store, 'bob', { answer: 'reject' })

    expect(rejected.verdict).toEqual({ kind: 'rejected', by: 'bob' })
    expect((await store.gates.get(RUN, GATE))?.state).toBe('rejected')
  })

  test('a vote is taken once by its key, also with its token used up', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    const token = await store.gates.mintToken(RUN, GATE, 'ada', 'cli', 60_000)

    const first = await vote(store, 'ada', { token })
    const again = await vote(store, 'ada', { token })

    expect(again).toEqual(first)
    expect((await store.gates.get(RUN, GATE))?.votes).toHaveLength(1)
  })

  test('a vote without a good token is recorded and does not count', async () => {
    const { store, clock } = lab()
    await newRun(store)
    await open(store)
    const used = await store.gates.mintToken(RUN, GATE, 'ada', 'cli', 60_000)
    await vote(store, 'ada', { token: used })
    const old = await store.gates.mintToken(RUN, GATE, 'bob', 'cli', 1000)
    clock.now += 1000
    const signal = { key: 's', run: RUN, gate: GATE, answer: 'approve', claimedBy: 'bob', channel: 'signal' } as const

    const answers = [
      await store.gates.vote({ ...signal, trustSignals: false }),
      await vote(store, 'bob', { key: '2', token: 'vote_x' }),
      await vote(store, 'bob', { key: '3', token: used }),
      await vote(store, 'bob', { key: '4', token: old }),
    ]

    expect(answers.map((one) => one.counts)).toEqual([false, false, false, false])
    expect(answers.map((one) => one.why)).toEqual([
      expect.stringContaining('a signal alone proves nobody'),
      expect.stringContaining('not one of ours'),
      expect.stringContaining('was used before'),
      expect.stringContaining('has expired'),
    ])
    expect((await store.gates.get(RUN, GATE))?.votes.map((one) => one.counts)).toEqual([
      true,
      false,
      false,
      false,
      false,
    ])
  })

  test('a vote token ends when a token of its person is revoked, and those of others do not', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    const stolen = await store.people.createToken('ada', 60_000)
    const hers = await store.gates.mintToken(RUN, GATE, 'ada', 'signal', 60_000)
    const his = await store.gates.mintToken(RUN, GATE, 'bob', 'signal', 60_000)

    await store.people.revokeToken(stolen.row.id)

    expect(await vote(store, 'ada', { token: hers })).toMatchObject({
      counts: false,
      why: expect.stringContaining('expired') as string,
    })
    expect(await vote(store, 'bob', { token: his })).toMatchObject({ counts: true })
  })

  test('a token stands for its person, whoever the message claims to be from', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    const token = await store.gates.mintToken(RUN, GATE, 'mallory', 'cli', 60_000)

    const answer = await vote(store, 'ada', { token })

    expect(answer).toMatchObject({ counts: false, why: expect.stringContaining('mallory is not an approver') })
  })

  test('a trusted signal counts without a token, and the audit tells', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)

    const answer = await store.gates.vote({
      key: 's',
      run: RUN,
      gate: GATE,
      answer: 'approve',
      claimedBy: 'ada',
      channel: 'signal',
      trustSignals: true,
    })

    expect(answer.counts).toBe(true)
    expect((await store.audit.list({ limit: 9 }))[1]?.detail).toMatchObject({
      ...{ counts: true, authenticated: false, proof: 'trusted_signal', claimedBy: 'ada', subject: SUBJECT },
    })
  })

  test('a new subject voids the gate, its votes and its tokens', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    await vote(store, 'ada')
    const token = await store.gates.mintToken(RUN, GATE, 'bob', 'cli', 60_000)

    const reopened = await open(store, OTHER)
    const stale = await vote(store, 'bob', { token })
    const fresh = await vote(store, 'bob', { key: 'bob/2' })

    expect(reopened).toMatchObject({ state: 'open', votes: [], subject: OTHER })
    expect(stale).toMatchObject({ counts: false, why: expect.stringContaining('made for another commit') })
    expect(fresh.verdict).toEqual({ kind: 'open', approvals: 1, missing: 1 })
    expect((await store.gates.ofRun(RUN)).map((gate) => gate.state)).toEqual(['voided', 'open'])
  })

  test('an approval does not come back with a subject that was voided', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store, SUBJECT, { ...RULES, quorum: 1 })
    await vote(store, 'ada')
    await open(store, OTHER)

    const back = await open(store)

    expect(back).toMatchObject({ state: 'open', votes: [] })
  })

  test('the same subject keeps votes and decision', async () => {
    const { store } = lab()
    await newRun(store)
    const first = await open(store)
    await vote(store, 'ada')
    const second = await open(store, { ...SUBJECT })
    await vote(store, 'bob')

    const third = await open(store)

    expect(second).toMatchObject({ id: first.id, state: 'open', votes: [{ by: 'ada', counts: true }] })
    expect(third).toMatchObject({ id: first.id, state: 'approved' })
  })

  test('a gate that expired takes no vote, and gets new time by a retry only', async () => {
    const { store, clock } = lab()
    await newRun(store)
    const rules = { ...RULES, expiresAt: clock.now + 1000 }
    await open(store, SUBJECT, rules)
    await vote(store, 'ada')
    clock.now += 1000
    await store.gates.expire(RUN, GATE)

    const late = await vote(store, 'bob')
    const sameCall = await open(store, SUBJECT, rules)
    const retried = await open(store, SUBJECT, { ...rules, expiresAt: clock.now + 1000 })

    expect(late).toMatchObject({ counts: false, verdict: { kind: 'expired' } })
    expect(sameCall.state).toBe('expired')
    expect(retried).toMatchObject({ state: 'open', votes: [] })
    expect((await store.gates.ofRun(RUN)).map((gate) => gate.state)).toEqual(['expired', 'open'])
  })

  test('no clock but the database’s own closes a gate, and none before its time', async () => {
    const { store, clock } = lab()
    await newRun(store)
    await open(store, SUBJECT, { ...RULES, expiresAt: clock.now + 1000 })

    clock.now += 999
    await store.gates.expire(RUN, GATE)
    const before = await store.gates.get(RUN, GATE)
    clock.now += 1
    await store.gates.expire(RUN, GATE)

    expect(before?.state).toBe('open')
    expect((await store.gates.get(RUN, GATE))?.state).toBe('expired')
    expect((await store.audit.list({ limit: 9 })).map(({ action }) => action)).toEqual(['gate.opened', 'gate.expired'])
  })

  test('a vote on a gate that is not there says so', async () => {
    const { store } = lab()
    await newRun(store)

    const answer = await vote(store, 'ada', { token: 'vote_x' })

    expect(answer).toMatchObject({ counts: false, why: 'the run has no gate "approval" yet' })
    await expect(store.gates.mintToken(RUN, GATE, 'ada', 'cli', 1)).rejects.toThrow('has no gate "approval"')
  })

  test('gates wait as long as they are open and their run is', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    const waiting = await store.gates.waiting()
    await store.events.append(RUN, 'end', [{ type: 'run.finished.v1', try: 1, outcome: 'canceled' }])

    expect(waiting.map((gate) => gate.run)).toEqual([RUN])
    expect(await store.gates.waiting()).toEqual([])
  })
})
