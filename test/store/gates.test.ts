import { expect, test } from 'vitest'
import { gateVariables } from '../../src/approval/released.ts'
import type { GateRules, Subject } from '../../src/core/approval.ts'
import type { Form } from '../../src/core/form.ts'
import type { GateRow, Store } from '../../src/store/types.ts'
import { commit, newRun, onEveryDatabase, push } from './backend.ts'

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

/** A freeze around this moment. */
function frozenAt(now: number): NonNullable<GateRules['window']> {
  const day = (ms: number) => new Date(ms).toISOString().slice(0, 10)
  return { freezes: [{ zone: 'UTC', from: day(now - 86_400_000), to: day(now + 86_400_000), reason: 'fair' }] }
}

function open(store: Store, subject = SUBJECT, rules = RULES) {
  return store.gates.open(RUN, GATE, 'production', rules, subject)
}

async function vote(
  store: Store,
  by: string,
  over: Partial<
    Pick<Parameters<Store['gates']['vote']>[0], 'key' | 'token' | 'answer' | 'fields' | 'comment' | 'now'>
  > & {
    readonly breakGlass?: boolean
  } = {},
) {
  const token = over.token ?? (await store.gates.mintToken(RUN, GATE, by, 'cli', 60_000))
  const { key = `${by}/1`, answer = 'approve', ...more } = over
  return store.gates.vote({
    ...more,
    operators: ['ops'],
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

    expect(first).toEqual({
      verdict: { kind: 'open', approvals: 1, missing: 1 },
      by: 'ada',
      channel: 'cli',
      counts: true,
    })
    expect(second).toEqual({ verdict: { kind: 'approved' }, by: 'bob', channel: 'cli', counts: true })
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

  test('a trusted signal counts only for the opening of the gate that it was sent for', async () => {
    const { store } = lab()
    await newRun(store)
    const { id } = await open(store)
    const sent = (key: string, about: string | null) => {
      const signal = { key, run: RUN, gate: GATE, answer: 'approve', claimedBy: 'ada', channel: 'signal' } as const
      return store.gates.vote({ ...signal, trustSignals: true, about })
    }

    const early = await sent('1', null)
    await open(store, OTHER)
    const old = await sent('2', id)
    const now = await sent('3', `${RUN}/${GATE}/2`)

    expect(early).toMatchObject({ counts: false, why: expect.stringContaining('sent before the gate was open') })
    expect(old).toMatchObject({ counts: false, why: expect.stringContaining('earlier opening of the gate') })
    expect(now).toMatchObject({ counts: true })
    const votes = (await store.gates.ofRun(RUN)).flatMap((gate) => gate.votes)
    expect(votes).toMatchObject([{ why: early.why }, { why: old.why }, { by: 'ada', counts: true }])
  })

  test('A08: approved and rejected at once, a hundred times: one decision each', async () => {
    const { store } = lab()
    await newRun(store)
    const gates = Array.from({ length: 100 }, (_, nth) => `gate-${nth}`)
    for (const name of gates) await store.gates.open(RUN, name, 'production', { ...RULES, quorum: 1 }, SUBJECT)

    const counted = await Promise.all(
      gates.map(async (gate, nth) => {
        const say = async (claimedBy: string, answer: 'approve' | 'reject') => {
          const token = await store.gates.mintToken(RUN, gate, claimedBy, 'cli', 60_000)
          const said = { key: claimedBy, run: RUN, gate, answer, claimedBy, token, channel: 'cli', trustSignals: false }
          return (await store.gates.vote(said)).counts
        }
        const both = [() => say('ada', 'approve'), () => say('bob', 'reject')]
        const votes = await Promise.all((nth % 2 === 0 ? both : both.reverse()).map((one) => one()))
        return votes.filter(Boolean).length
      }),
    )

    expect(counted).toEqual(gates.map(() => 1))
    const decided = (await store.audit.list({ limit: 1000 })).filter(({ action }) =>
      /gate\.(approv|reject)ed/.test(action),
    )
    expect(new Set(decided.map(({ on }) => on)).size).toBe(100)
    expect(decided).toHaveLength(100)
  })

  test('what waits for its window can be rejected until it is released, and again when it was not released after all', async () => {
    const { store, clock } = lab()
    await newRun(store)
    const { id } = await open(store, SUBJECT, { ...RULES, quorum: 1 })
    const now = { gate: id, rules: { ...RULES, quorum: 1, window: frozenAt(clock.now) } }
    const moved = { type: 'promotion.judged.v1', branch: 'production', commit: commit('a') } as const
    const refused = { type: 'promotion.refused.v1', branch: 'production', why: 'protected' } as const

    expect(await store.gates.moves(id, 'judged/1', moved)).toBe(false)
    await vote(store, 'ada')
    expect(await store.gates.moves(id, 'judged/1', moved)).toBe(true)
    expect(await vote(store, 'bob', { answer: 'reject', key: '2', now })).toMatchObject({
      counts: false,
      why: expect.stringContaining('being released'),
    })
    expect((await store.gates.get(RUN, GATE))?.movingSince).toBeDefined()
    await store.gates.stays(id, 'refused/1', refused)
    expect(await vote(store, 'bob', { answer: 'reject', key: '3', now })).toMatchObject({ counts: true })
    // The rejection was first.
    expect(await store.gates.moves(id, 'judged/2', moved)).toBe(false)

    expect(await store.gates.get(RUN, GATE)).toMatchObject({ state: 'rejected' })
    const events = (await store.events.of(RUN)).map(({ event }) => event.type)
    expect(events.filter((type) => type.startsWith('promotion'))).toEqual([
      'promotion.judged.v1',
      'promotion.refused.v1',
    ])
  })

  test('break-glass passes what waits for its window, and marks it as any other does', async () => {
    const { store, clock } = lab()
    const { number } = await newRun(store)
    const { id } = await open(store, SUBJECT, { ...RULES, quorum: 1 })
    await vote(store, 'ada')
    const rules = { ...RULES, quorum: 1, window: frozenAt(clock.now) }
    const token = await store.gates.mintToken(RUN, GATE, 'ops', 'cli', 60_000)

    const broken = await store.gates.vote({
      ...{ key: 'b', run: RUN, gate: GATE, answer: 'approve', claimedBy: 'ops', channel: 'cli', trustSignals: false },
      ...{ token, breakGlass: true, operators: ['ops'], comment: 'the site is down', now: { gate: id, rules } },
    })

    expect(broken).toMatchObject({ counts: true, verdict: { kind: 'approved' } })
    expect((await store.gates.toReview()).map((gate) => gate.id)).toEqual([id])
    expect((await store.runs.byNumber(number))?.broken).toMatchObject({ gate: GATE, by: 'ops' })
  })

  test('when the run has ended no vote counts, and whoever sent it is told, also where there is no gate, once', async () => {
    const { store } = lab()
    await newRun(store)
    const none = { key: 'n', run: RUN, gate: '', answer: 'approve', claimedBy: 'ada', channel: 'signal' } as const
    await open(store)
    await store.events.append(RUN, 'end', [{ type: 'run.finished.v1', try: 1, outcome: 'canceled' }])

    const late = await vote(store, 'ada')
    await store.gates.vote({ ...none, trustSignals: true })
    const nowhere = await store.gates.vote({ ...none, trustSignals: true })

    expect(late).toMatchObject({ counts: false, why: expect.stringContaining('has ended: canceled; retry it first') })
    expect((await store.gates.get(RUN, GATE))?.votes).toMatchObject([{ by: 'ada', why: late.why }])
    expect(nowhere).toMatchObject({ counts: false, why: late.why })
    const told = (await store.audit.list({ limit: 99 })).filter(({ on }) => on === RUN)
    expect(told).toMatchObject([{ by: 'ada', action: 'gate.vote', detail: { counts: false, why: late.why } }])
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

  test('what was filled in is checked here, kept with the vote, and of several approvals the last stands', async () => {
    const { store } = lab()
    await newRun(store)
    const form: Form = {
      fields: [
        { name: 'ticket', type: 'text', required: true, longest: 20, pattern: 'CHG-[0-9]+' },
        { name: 'canary', type: 'number', required: false, whole: true, default: 10 },
      ],
    }
    await open(store, SUBJECT, { ...RULES, form })

    const wrong = await vote(store, 'ada', { key: '1', fields: { ticket: 'x', canary: 'many' } })
    await vote(store, 'ada', { key: '2', fields: { ticket: 'CHG-1' } })
    await vote(store, 'bob', { key: '3', fields: { ticket: 'CHG-2', canary: 50 } })

    const gate = await store.gates.get(RUN, GATE)
    expect(wrong).toMatchObject({
      counts: false,
      why: 'ticket must be text that matches CHG-[0-9]+ of at most 20 characters; canary must be a whole number',
    })
    expect(gate?.state).toBe('approved')
    expect(gate?.votes.map(({ fields }) => fields)).toEqual([
      { ticket: 'x', canary: 'many' },
      { ticket: 'CHG-1', canary: 10 },
      { ticket: 'CHG-2', canary: 50 },
    ])
    expect(gateVariables(gate as GateRow)).toEqual({ CI_GATE_TICKET: 'CHG-2', CI_GATE_CANARY: '50' })
    const votes = (await store.audit.list({ limit: 99 })).filter(({ action }) => action === 'gate.vote')
    expect(votes.map(({ detail }) => detail)).toEqual([
      expect.objectContaining({ counts: false, form, fields: { ticket: 'x', canary: 'many' } }),
      expect.objectContaining({ counts: true, fields: { ticket: 'CHG-1', canary: 10 } }),
      expect.objectContaining({ counts: true, fields: { ticket: 'CHG-2', canary: 50 } }),
    ])
  })

  test('break-glass marks run and gate for ever, and waits for somebody else’s review', async () => {
    const { store } = lab()
    const { number } = await newRun(store)
    const { id } = await open(store)

    const developer = await vote(store, 'dev', { key: '1', breakGlass: true, comment: 'let me' })
    const operator = await vote(store, 'ops', { key: '2', breakGlass: true, comment: 'the site is down' })
    const own = await store.gates.review(id, { by: 'ops', comment: 'all fine', channel: 'cli' })
    const waiting = await store.gates.toReview()
    const review = await store.gates.review(id, { by: 'ada', comment: 'it was', channel: 'cli' })
    const again = await store.gates.review(id, { by: 'bob', comment: 'too late', channel: 'cli' })

    expect(developer).toMatchObject({ counts: false, why: expect.stringContaining('dev may not break the glass') })
    expect(operator).toEqual({ verdict: { kind: 'approved' }, by: 'ops', channel: 'cli', counts: true })
    expect([own, review, again]).toEqual(['own', 'reviewed', 'known'])
    expect(waiting.map((gate) => gate.id)).toEqual([id])
    expect(await store.gates.toReview()).toEqual([])
    const broken = { by: 'ops', reason: 'the site is down' }
    expect(await store.gates.get(RUN, GATE)).toMatchObject({ broken, review: { by: 'ada', comment: 'it was' } })
    expect((await store.runs.byNumber(number))?.broken).toEqual({ gate: GATE, ...broken })
    // Another subject is another gate, which nobody has broken; what was done stays.
    expect(await open(store, OTHER)).not.toHaveProperty('broken')
    expect((await store.gates.ofRun(RUN))[0]).toMatchObject({ state: 'voided', broken })
    expect((await store.runs.byNumber(number))?.broken).toBeDefined()
    const actions = (await store.audit.list({ limit: 99 })).map((row) => `${row.by} ${row.action}`)
    expect(actions).toEqual(expect.arrayContaining(['ops gate.vote', 'ops gate.approved', 'ada gate.reviewed']))
    await expect(store.gates.review('none', { by: 'ada', comment: 'x', channel: 'cli' })).resolves.toBe('not_broken')
  })

  test('an override is a gate that was passed by break-glass: marked for ever, once a person, and to be reviewed', async () => {
    const { store, another } = lab()
    const { number } = await newRun(store)
    const subject = { ...SUBJECT, gate: 'override' }
    const rules = { approvers: [], quorum: 1, excluded: ['dev'], identities: ['dev'] }
    const given = { run: RUN, environment: 'production', rules, subject, reason: 'hotfix', channel: 'cli' }
    const by = (who: string, on = store) => on.gates.override({ ...given, by: who })

    await Promise.all([by('ops'), by('ops', await another())])
    await by('olga')

    const run = await store.runs.byNumber(number)
    expect(run?.override).toEqual({ by: 'ops', reason: 'hotfix' })
    expect(run?.broken).toEqual({ gate: 'override', by: 'ops', reason: 'hotfix' })
    const gates = await store.gates.toReview()
    expect(gates.map(({ id, state, broken }) => [id, state, broken?.by])).toEqual([
      [`${RUN}/override/1`, 'approved', 'ops'],
      [`${RUN}/override/2`, 'approved', 'olga'],
    ])
    expect(gates[0]).toMatchObject({ subject, rules, votes: [{ by: 'ops', breakGlass: true, counts: true }] })
    const id = gates[0]?.id ?? ''
    const reviews = ['ops', 'dev', 'ada', 'bob'].map((who) => ({ by: who, comment: 'seen', channel: 'api' }))
    const answers: string[] = []
    for (const review of reviews) answers.push(await store.gates.review(id, review))
    expect(answers).toEqual(['own', 'author', 'reviewed', 'known'])
    expect((await store.gates.toReview()).map((gate) => gate.id)).toEqual([`${RUN}/override/2`])
    const audit = (await store.audit.list({ limit: 99, run: RUN })).map((row) => `${row.by} ${row.action} ${row.on}`)
    expect(audit).toEqual([
      ...['ops gate.opened', 'ops gate.vote', 'ops gate.approved'].map((one) => `${one} ${RUN}/override/1`),
      ...['olga gate.opened', 'olga gate.vote', 'olga gate.approved'].map((one) => `${one} ${RUN}/override/2`),
      `ada gate.reviewed ${RUN}/override/1`,
    ])
    // A run that waits looks again; each once.
    const signals = (await store.outbox.pending()).filter(({ message }) => message.kind === 'signal')
    expect(signals.map(({ message }) => message)).toEqual(
      Array(2).fill({ kind: 'signal', workflowId: RUN, signal: 'granted', args: [] }),
    )
  })

  test('a commit was rejected if the newest gate of it was, whatever was let pass', async () => {
    const { store } = lab()
    const { change } = await newRun(store)
    const rejection = () => store.gates.rejection('acme/web', change.commit)
    await open(store)
    expect(await rejection()).toBeUndefined()
    const token = await store.gates.mintToken(RUN, GATE, 'ada', 'cli', 60_000)
    await vote(store, 'ada', { token, answer: 'reject' })
    const subject = { ...SUBJECT, gate: 'override' }
    const rules = { approvers: [], quorum: 1, excluded: [] }
    const given = { run: RUN, environment: 'production', rules, subject, reason: 'x', channel: 'cli' }
    await store.gates.override({ ...given, by: 'ops' })

    expect(await rejection()).toMatchObject({ run: RUN, name: GATE, state: 'rejected', votes: [{ by: 'ada' }] })
    expect(await store.gates.rejection('acme/web', commit('b'))).toBeUndefined()
    expect(await store.gates.rejection('acme/api', change.commit)).toBeUndefined()
    // Another gate about it that nobody has answered yet has decided nothing.
    await store.gates.open(RUN, 'again', 'production', RULES, { ...SUBJECT, gate: 'again' })
    expect(await rejection()).toMatchObject({ name: GATE, state: 'rejected' })
    // What has changed since voids it.
    await open(store, OTHER)
    expect(await rejection()).toBeUndefined()
  })

  test.each([
    ['commit', { commit: commit('b') }],
    ['spec digest', { specDigest: 'other' }],
    ['a deliverable’s digest', { deliverables: ['web=sha256:2'] }],
    ['one deliverable more', { deliverables: ['web=sha256:1', 'doc=sha256:3'] }],
    ['environment', { environment: 'canary' }],
  ])('a vote is bound to all it was about: another %s alone voids it, and the token for it', async (_, change) => {
    const { store } = lab()
    await newRun(store)
    await open(store, SUBJECT, { ...RULES, quorum: 1 })
    const token = await store.gates.mintToken(RUN, GATE, 'bob', 'cli', 60_000)
    await vote(store, 'ada')

    const now = await open(store, { ...SUBJECT, ...change }, { ...RULES, quorum: 1 })
    const late = await vote(store, 'bob', { token })

    expect(now).toMatchObject({ state: 'open', votes: [] })
    expect(late).toMatchObject({ counts: false, why: expect.stringContaining('made for another commit') })
    const voided = (await store.audit.list({ limit: 99 })).find(({ action }) => action === 'gate.voided')
    expect(voided?.detail).toMatchObject({ was: 'approved', subject: SUBJECT, now: change })
  })

  test.each([
    ['run', { run: 'acme/web#2' }],
    ['gate', { gate: 'second' }],
  ])('a token for one %s is none for another, though commit, spec and deliverables are the same', async (_, other) => {
    const { store } = lab()
    await newRun(store)
    await newRun(store, push('b', 'a'))
    await open(store)
    const there = { run: RUN, gate: GATE, ...other }
    await store.gates.open(there.run, there.gate, 'production', RULES, { ...SUBJECT, ...there })
    const token = await store.gates.mintToken(RUN, GATE, 'ada', 'cli', 60_000)

    const answer = await store.gates.vote({
      ...{ key: '1', ...there, answer: 'approve', claimedBy: 'ada', token, channel: 'cli', trustSignals: false },
    })

    expect(answer.counts).toBe(false)
    expect((await store.gates.get(there.run, there.gate))?.state).toBe('open')
  })

  test('a vote on a gate that is not there says so', async () => {
    const { store } = lab()
    await newRun(store)

    const answer = await vote(store, 'ada', { token: 'vote_x' })

    expect(answer).toMatchObject({ counts: false, why: 'the run has no gate "approval" yet' })
    await expect(store.gates.mintToken(RUN, GATE, 'ada', 'cli', 1)).rejects.toThrow('has no gate "approval"')
  })

  test('what has changed voids a gate: the row, the event and the answer to an old vote say what', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    const old = await store.gates.mintToken(RUN, GATE, 'ada', 'cli', 60_000)
    const more = { ...RULES, quorum: 3 }

    await open(store, OTHER)
    const stale = await vote(store, 'ada', { token: old })
    await open(store, OTHER, more)

    const bytes = 'deliverable web: 1 → 2'
    const rules = 'rules: 2 of ada or bob → 3 of ada or bob'
    expect(stale).toMatchObject({ counts: false, why: expect.stringContaining(`(${bytes})`) })
    expect((await store.gates.ofRun(RUN)).map(({ state, voided }) => [state, voided])).toEqual([
      ['voided', bytes],
      ['voided', rules],
      ['open', undefined],
    ])
    const events = (await store.events.of(RUN)).map(({ event }) => event)
    expect(events.filter(({ type }) => type === 'gate.voided.v1')).toMatchObject([{ why: bytes }, { why: rules }])
  })

  test('who belongs to a group is brought up to date, and voids nothing', async () => {
    const { store } = lab()
    await newRun(store)
    const team = (...members: string[]): GateRules => ({
      ...{ approvers: members, quorum: 1, excluded: [] },
      groups: [{ from: ['team:qa'], count: 1, members }],
    })
    const first = await open(store, SUBJECT, team('ada'))

    const second = await open(store, SUBJECT, team('ada', 'bob'))

    expect(second).toMatchObject({ id: first.id, rules: { approvers: ['ada', 'bob'] } })
  })

  test('a gate of an earlier version, without groups, keeps its votes when it is opened by today’s rules', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    await vote(store, 'ada')
    const groups = [{ from: ['role:approver'], count: 2, members: ['ada', 'bob'] }]

    const now = await open(store, SUBJECT, { ...RULES, groups })
    const second = await vote(store, 'bob')

    expect(now).toMatchObject({ state: 'open', votes: [{ by: 'ada', counts: true }] })
    expect(second).toMatchObject({ verdict: { kind: 'approved' } })
  })

  test('other rules of the operator wake every run at an open gate, once', async () => {
    const { store } = lab()
    await newRun(store)
    const { id } = await open(store)

    await store.gates.wakeAll('rules/1')
    await store.gates.wakeAll('rules/1')
    await store.gates.wakeAll('rules/2')

    const signals = (await store.outbox.pending()).filter(({ message }) => message.kind === 'signal')
    expect(signals).toHaveLength(2)
    expect(signals.every(({ message }) => message.kind === 'signal' && message.signal === 'granted')).toBe(true)
    expect(id).toContain(RUN)
  })

  test('and every run that waits for an environment: its hours may be others, too', async () => {
    const { store } = lab()
    const [waits, other] = [await newRun(store), await newRun(store, push('b', 'a'))]
    for (const [{ id }, kind] of [
      [waits, 'environment'],
      [other, 'worker'],
    ] as const)
      await store.runs.setStatus(id, 'waiting', { waiting: { kind, sentence: 'waits' } })

    await store.gates.wakeAll('rules/1')
    await store.gates.wakeAll('rules/1')

    const signals = (await store.outbox.pending()).filter(({ message }) => message.kind === 'signal')
    expect(signals.map(({ message }) => message)).toEqual([
      { kind: 'signal', workflowId: waits.id, signal: 'granted', args: [] },
    ])
  })

  test('each reminder is out once, whoever sends it however often', async () => {
    const { store, clock } = lab()
    await newRun(store)
    const { id } = await open(store)

    await Promise.all([store.gates.remind(id, 1, ['ada']), store.gates.remind(id, 1, ['ada'])])
    clock.now += 1000
    await store.gates.remind(id, 1, ['ada'])
    await store.gates.remind(id, 2, ['bob'])

    const events = (await store.events.of(RUN)).map(({ event }) => event)
    expect(events.filter(({ type }) => type === 'gate.reminded.v1')).toMatchObject([
      { number: 1, of: ['ada'] },
      { number: 2, of: ['bob'] },
    ])
    const audit = (await store.audit.list({ limit: 50 })).filter(({ action }) => action === 'gate.reminded')
    expect(audit).toHaveLength(2)
    expect((await store.gates.get(RUN, GATE))?.reminded).toEqual({ count: 2, at: clock.now })
  })

  test('a quorum outside the window waits, does not expire, and passes with the rights of the moment it opens', async () => {
    const { store, clock } = lab()
    await newRun(store)
    clock.now = Date.parse('2026-11-23T18:00:00Z')
    const hours = { zone: 'UTC', days: ['mon', 'tue'], from: '09:00', to: '17:00' } as const
    const rules: GateRules = { ...RULES, expiresAt: clock.now + 1000, window: { hours, freezes: [] } }
    const { id } = await open(store, SUBJECT, rules)
    await vote(store, 'ada')
    const full = await vote(store, 'bob')
    clock.now += 2000
    await store.gates.expire(RUN, GATE)
    await store.gates.settle({ gate: id, rules })
    const early = await store.gates.get(RUN, GATE)
    clock.now = Date.parse('2026-11-24T09:00:00Z')
    await store.gates.settle({ gate: id, rules: { ...rules, approvers: ['ada'] } })
    const without = await store.gates.get(RUN, GATE)
    await store.gates.settle({ gate: id, rules })

    expect(full).toMatchObject({ counts: true, verdict: { kind: 'open', missing: 0 } })
    expect(early?.state).toBe('open')
    expect(without?.state).toBe('open')
    expect(await store.gates.get(RUN, GATE)).toMatchObject({ state: 'approved', decidedAt: clock.now })
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
