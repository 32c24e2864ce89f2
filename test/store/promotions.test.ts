import { expect, test } from 'vitest'
import { commit, newRun, onEveryDatabase } from './backend.ts'

const REPO = 'acme/web'
const GATE = 'acme/web#1/signoff/1'
const BEGUN = { gate: GATE, repo: REPO, branch: 'penstock/promote/1', base: 'production' }

await onEveryDatabase((lab) => {
  test('what was begun is there until it is ended, and nothing that was begun meanwhile is ended with it', async () => {
    const { promotions } = lab().store

    const first = await promotions.begin(BEGUN)
    await promotions.begin(BEGUN)
    await promotions.end(first)
    await promotions.wrote(GATE, 7, 'digest')

    const [row] = await promotions.unended(REPO)
    expect(row).toEqual({ ...BEGUN, pull: 7, written: 'digest', revision: 2 })
    expect(await promotions.unended('acme/other')).toEqual([])
    if (row) await promotions.end(row)
    expect(await promotions.unended(REPO)).toEqual([])
    expect(await promotions.ofPull(REPO, 7)).toMatchObject({ gate: GATE })
    expect(await promotions.ofPull(REPO, 8)).toBeUndefined()
  })

  test('what was said is judged once, whoever comes second', async () => {
    const { store, another } = lab()
    const other = await another()

    const both = await Promise.all([
      store.promotions.judged(REPO, 'comment/1', GATE, 'not an approver'),
      other.promotions.judged(REPO, 'comment/1', GATE, 'not an approver'),
    ])
    const later = await store.promotions.judged(REPO, 'comment/1', GATE)
    await store.promotions.settled(REPO, 'comment/1')

    const judged = { gate: GATE, why: 'not an approver', done: false }
    expect([...both, later]).toEqual([judged, judged, judged])
    expect(await other.promotions.ballot(REPO, 'comment/1')).toEqual({ ...judged, done: true })
    expect(await other.promotions.ballot(REPO, 'comment/2')).toBeUndefined()
  })

  test('a branch has one holder at a time, until it is released or its time is over', async () => {
    const { store, another, clock } = lab()
    const other = await another()

    const both = await Promise.all([
      store.promotions.hold(REPO, 'production', 'one', 1_000),
      other.promotions.hold(REPO, 'production', 'two', 1_000),
    ])
    const [winner, loser] = both[0] === undefined ? ['one', 'two'] : ['two', 'one']
    expect(both.filter((holder) => holder === undefined)).toHaveLength(1)
    expect(await store.promotions.hold(REPO, 'production', winner, 1_000)).toBeUndefined()
    await store.promotions.release(REPO, 'production', loser)
    expect(await store.promotions.hold(REPO, 'production', loser, 1_000)).toBe(winner)
    expect(await store.promotions.hold(REPO, 'other', loser, 1_000)).toBeUndefined()

    clock.now += 1_000
    expect(await store.promotions.hold(REPO, 'production', loser, 1_000)).toBeUndefined()
    await store.promotions.release(REPO, 'production', loser)
    expect(await store.promotions.hold(REPO, 'production', winner, 1_000)).toBeUndefined()
  })

  test('an objection keeps a gate open, and taking it back approves nothing by itself: the run looks at it', async () => {
    const { store } = lab()
    const run = await newRun(store)
    const subject = {
      ...{ run: run.id, gate: 'signoff', environment: 'production', commit: commit('a') },
      ...{ specDigest: 'spec', deliverables: [] },
    }
    const rules = { approvers: ['ada', 'bob'], quorum: 1, excluded: [] }
    const gate = await store.gates.open(run.id, 'signoff', 'production', rules, subject)
    const objection = { by: 'bob', why: 'requested changes', via: 'pull/7' }
    const wakes = async () => (await store.outbox.pending()).filter(({ message }) => message.kind === 'signal')

    await store.gates.object(gate.id, objection)
    await store.gates.object(gate.id, objection)
    const token = await store.gates.mintToken(run.id, 'signoff', 'ada', 'cli', 60_000)
    const voted = await store.gates.vote({
      ...{ key: '1', run: run.id, gate: 'signoff', answer: 'approve', claimedBy: 'ada', token, channel: 'cli' },
      trustSignals: false,
    })
    expect(voted).toEqual({
      by: 'ada',
      channel: 'cli',
      counts: true,
      verdict: { kind: 'open', approvals: 1, missing: 0 },
    })
    expect(await store.gates.get(run.id, 'signoff')).toMatchObject({ state: 'open', objections: [objection] })
    expect(await wakes()).toHaveLength(1)

    await store.gates.withdraw(gate.id, 'bob')
    await store.gates.withdraw(gate.id, 'bob')
    expect(await store.gates.get(run.id, 'signoff')).toMatchObject({ state: 'open', objections: [] })
    expect(await wakes()).toHaveLength(2)
    await store.gates.settle({ gate: gate.id, rules: { ...rules, approvers: ['bob'] } })
    expect(await store.gates.get(run.id, 'signoff')).toMatchObject({ state: 'open' })
    await store.gates.settle({ gate: gate.id, rules })
    expect(await store.gates.get(run.id, 'signoff')).toMatchObject({ state: 'approved' })
    expect((await store.events.of(run.id)).at(-1)?.event).toEqual({
      ...{ type: 'gate.decided.v1', gate: 'signoff', verdict: 'approved' },
    })
    await store.gates.object(gate.id, objection)
    expect((await store.gates.get(run.id, 'signoff'))?.objections).toEqual([])
  })
})
