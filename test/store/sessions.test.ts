import { describe, expect, test } from 'vitest'
import type { ManualTest } from '../../src/core/plan.ts'
import { SESSION_LIMITS, type SessionSubject } from '../../src/core/session.ts'
import type { SessionActor, Store } from '../../src/store/types.ts'
import { newRun, onEveryDatabase } from './backend.ts'

const RUN = 'acme/web#1'
const KEY = { run: RUN, stage: 'e2e', job: 'manual', attempt: 1 }
const MANUAL: ManualTest = {
  checklist: [
    { name: 'Log in on a phone', required: true, line: 4 },
    { name: 'Export a report', required: true, line: 5 },
    { name: 'Print', required: false, line: 6 },
  ],
  by: ['role:approver'],
  expiresSeconds: 3600,
}
const SUBJECT: SessionSubject = { commit: 'c0ffee', specDigest: 'spec', deliverables: ['web=sha256:1'] }
const TESS: SessionActor = { by: 'tess', channel: 'cli' }
const BEN: SessionActor = { by: 'ben', channel: 'api' }

const MAY = ['ben', 'tess']

function open(store: Store, attempt = 1, subject = SUBJECT, may: readonly string[] = MAY) {
  const units = [{ pool: 'phone', unit: 'p1', properties: { os: 'android' }, expiresAt: 2_000_000_000_000 }]
  return store.sessions.open({ key: { ...KEY, attempt }, manual: MANUAL, subject, units, may, url: 'http://staging' })
}

async function actions(store: Store): Promise<string[]> {
  const rows = await store.audit.list({ limit: 1000 })
  return rows.filter(({ action }) => action.startsWith('session.')).map(({ by, action }) => `${by} ${action}`)
}

function signals(store: Store) {
  return store.outbox
    .pending()
    .then((rows) =>
      rows.filter(({ message }) => message.kind === 'signal' && message.workflowId === `${RUN}/e2e/manual/1`),
    )
}

async function waitingSentence(store: Store): Promise<string | undefined> {
  const last = (await store.events.of(RUN)).map(({ event }) => event).findLast(({ type }) => type === 'job.waiting.v1')
  return last?.type === 'job.waiting.v1' ? last.waitingFor.sentence : undefined
}

await onEveryDatabase((lab) => {
  test('a session is opened once, says that its job has begun, and shows what is leased for it', async () => {
    const { store } = lab()
    await newRun(store)

    const first = await open(store)
    const again = await open(store)

    expect(again).toEqual(first)
    expect(first).toMatchObject({
      key: KEY,
      state: 'open',
      url: 'http://staging',
      units: [{ pool: 'phone', unit: 'p1', properties: { os: 'android' } }],
      expiresAt: first.openedAt + 3_600_000,
      answers: [],
    })
    expect((await store.runs.byNumber(1))?.attempts).toMatchObject([{ stage: 'e2e', job: 'manual', attempt: 1 }])
    expect(await actions(store)).toEqual(['penstock session.opened'])
    expect((await store.sessions.waiting()).map(({ key }) => key)).toEqual([KEY])
    expect(await waitingSentence(store)).toBe('waits for testers: 0 of 3 items answered; nobody has joined yet')
  })

  test('several people answer at once; who said what is recorded, and each change tells the workflow to look', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)

    await store.sessions.join(KEY, TESS)
    await store.sessions.answer(KEY, TESS, { item: 1, result: 'passed' })
    const done = await store.sessions.answer(KEY, BEN, { item: 2, result: 'failed', comment: 'the total is wrong' })

    if (done.kind !== 'done') throw new Error(done.why)
    expect(done.session.testers.map(({ person }) => person)).toEqual(['ben', 'tess'])
    expect(done.session.answers).toMatchObject([
      { item: 1, result: 'passed', by: 'tess' },
      { item: 2, result: 'failed', by: 'ben', comment: 'the total is wrong' },
    ])
    expect(await actions(store)).toEqual([
      'penstock session.opened',
      'tess session.joined',
      'tess session.answered',
      'ben session.answered',
    ])
    expect(await signals(store)).toHaveLength(4)
    expect(await waitingSentence(store)).toBe(
      'waits for testers: 2 of 3 items answered, 1 not passed; testing: ben, tess',
    )
  })

  test('the same said twice is said once: no second answer, entry, event or signal', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    const all = async () => {
      await store.sessions.join(KEY, TESS)
      await store.sessions.answer(KEY, TESS, { item: 1, result: 'passed', comment: 'fine' })
      await store.sessions.attach(KEY, TESS, { item: 1, name: 'a.png', digest: 'sha256:1', size: 10 })
      await store.sessions.pause(KEY, TESS, 'lunch')
      await store.sessions.pause(KEY, TESS, 'lunch')
      await store.sessions.resume(KEY, TESS)
      await store.sessions.resume(KEY, TESS)
    }

    await all()
    const once = { events: await store.events.of(RUN), actions: await actions(store) }
    await store.sessions.join(KEY, TESS)
    await store.sessions.answer(KEY, TESS, { item: 1, result: 'passed', comment: 'fine' })
    await store.sessions.attach(KEY, TESS, { item: 1, name: 'a.png', digest: 'sha256:1', size: 10 })
    await store.sessions.resume(KEY, TESS)

    expect({ events: await store.events.of(RUN), actions: await actions(store) }).toEqual(once)
    expect((await store.sessions.get(KEY))?.evidence).toHaveLength(1)
  })

  test('an answer can be changed until the end; the last one stands', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    await store.sessions.answer(KEY, TESS, { item: 1, result: 'failed' })
    await store.sessions.answer(KEY, BEN, { item: 1, result: 'passed' })
    await store.sessions.answer(KEY, BEN, { item: 2, result: 'passed' })

    const done = await store.sessions.finish(KEY, BEN, MAY)
    const again = await store.sessions.finish(KEY, BEN, MAY)
    const late = await store.sessions.answer(KEY, TESS, { item: 1, result: 'failed' })

    expect(done).toMatchObject({ kind: 'done', session: { state: 'finished', endedBy: 'ben' } })
    expect(again).toEqual(done)
    expect(late).toEqual({ kind: 'refused', why: 'the session is finished' })
    expect((await store.events.of(RUN)).map(({ event }) => event).at(-1)).toEqual({
      type: 'session.finished.v1',
      stage: 'e2e',
      job: 'manual',
      attempt: 1,
      by: 'ben',
      outcome: 'succeeded',
    })
    expect(await store.sessions.waiting()).toEqual([])
  })

  test('it is not finished while required items are open, and says which', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    await store.sessions.answer(KEY, TESS, { item: 1, result: 'passed' })

    const refused = await store.sessions.finish(KEY, TESS, MAY)

    expect(refused).toEqual({ kind: 'refused', why: 'these items have no answer yet: "Export a report"' })
    expect((await store.sessions.get(KEY))?.state).toBe('open')
  })

  test('while it is paused nobody answers or finishes; its time goes on', async () => {
    const { store, clock } = lab()
    await newRun(store)
    await open(store)
    await store.sessions.pause(KEY, TESS, 'the phone charges')

    const answered = await store.sessions.answer(KEY, BEN, { item: 1, result: 'passed' })
    const finished = await store.sessions.finish(KEY, BEN, MAY)
    const again = await store.sessions.pause(KEY, BEN, 'lunch')
    clock.now += 3_600_000
    const expired = await store.sessions.expire(KEY, MAY)

    const why = 'the session was paused by tess: the phone charges; resume it first'
    expect([answered, finished, again]).toEqual(Array(3).fill({ kind: 'refused', why }))
    expect(expired).toMatchObject({ state: 'expired' })
  })

  test('whoever hands over is no tester any more, and the other one is', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    const before = await store.sessions.handOver(KEY, TESS, 'ben')
    await store.sessions.join(KEY, TESS)

    const done = await store.sessions.handOver(KEY, TESS, 'ben')
    await store.sessions.handOver(KEY, TESS, 'ben')

    expect(before).toEqual({ kind: 'refused', why: 'tess has not joined this session: there is nothing to hand over' })
    if (done.kind !== 'done') throw new Error(done.why)
    expect(done.session.testers).toMatchObject([
      { person: 'ben' },
      { person: 'tess', handedTo: 'ben', until: done.session.openedAt },
    ])
    expect((await actions(store)).filter((one) => one === 'tess session.handed_over')).toHaveLength(1)
  })

  test('it expires at its time by the clock of the store, not before, and takes nothing then', async () => {
    const { store, clock } = lab()
    await newRun(store)
    await open(store)

    clock.now += 3_600_000 - 1
    const early = await store.sessions.expire(KEY, MAY)
    clock.now += 1
    const late = await store.sessions.answer(KEY, TESS, { item: 1, result: 'passed' })
    const expired = await store.sessions.expire(KEY, MAY)
    await store.sessions.expire(KEY, MAY)

    expect(early?.state).toBe('open')
    expect(late).toEqual({ kind: 'refused', why: 'the session has expired' })
    expect(expired?.state).toBe('expired')
    expect((await actions(store)).filter((one) => one.endsWith('expired'))).toEqual(['penstock session.expired'])
  })

  test('it ends with its run at once: a cancelation leaves nobody who could answer', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)

    await store.runs.requestCancel(RUN, 'ada', 'wrong branch')
    const late = await store.sessions.answer(KEY, TESS, { item: 1, result: 'passed' })

    expect(late).toEqual({ kind: 'refused', why: `run ${RUN} is being canceled` })
    expect((await store.sessions.get(KEY))?.state).toBe('ended')
    expect(await store.sessions.waiting()).toEqual([])
  })

  test('it ends with its job, however that ends', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)

    const { stage, job, attempt } = KEY
    await store.events.append(RUN, 'end', [{ type: 'job.finished.v1', stage, job, attempt, outcome: 'errored' }])

    expect((await store.sessions.get(KEY))?.state).toBe('ended')
  })

  test('a retry about the same bytes keeps what passed, with who and when, and its evidence; nothing else', async () => {
    const { store, clock } = lab()
    await newRun(store)
    await open(store)
    await store.sessions.answer(KEY, TESS, { item: 1, result: 'passed' })
    await store.sessions.attach(KEY, TESS, { item: 1, name: 'phone.png', digest: 'sha256:1', size: 10 })
    await store.sessions.attach(KEY, TESS, { item: 2, name: 'report.pdf', digest: 'sha256:2', size: 10 })
    await store.sessions.answer(KEY, BEN, { item: 2, result: 'failed' })
    await store.sessions.finish(KEY, BEN, MAY)
    const at = clock.now
    clock.now += 60_000

    const second = await open(store, 2)
    await store.sessions.answer({ ...KEY, attempt: 2 }, TESS, { item: 3, result: 'passed' })
    const third = await open(store, 3)
    const other = await open(store, 4, { ...SUBJECT, deliverables: ['web=sha256:2'] })

    expect(second.answers).toEqual([{ item: 1, result: 'passed', by: 'tess', at, keptFrom: 1 }])
    expect(second.evidence.map(({ name }) => name)).toEqual(['phone.png'])
    expect(third.answers).toEqual([
      { item: 1, result: 'passed', by: 'tess', at, keptFrom: 1 },
      { item: 3, result: 'passed', by: 'tess', at: clock.now, keptFrom: 2 },
    ])
    const why = 'no answer of attempt 3 is kept: the deliverable web=sha256:1 is web=sha256:2 now'
    expect(other).toMatchObject({ answers: [], evidence: [], askedAgain: [{ why }] })
  })

  test('at the end each answer is judged by who may test then: one that does not count is to be given anew', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    await store.sessions.answer(KEY, BEN, { item: 1, result: 'failed' })
    await store.sessions.answer(KEY, TESS, { item: 1, result: 'passed' })
    await store.sessions.answer(KEY, BEN, { item: 2, result: 'passed' })

    const refused = await store.sessions.finish(KEY, BEN, ['ben'])
    await store.sessions.answer(KEY, BEN, { item: 1, result: 'passed' })
    const done = await store.sessions.finish(KEY, BEN, ['ben'])

    const why = 'these are to be answered again: "Log in on a phone" (passed by tess: tess may not test here now)'
    expect(refused).toEqual({ kind: 'refused', why })
    expect(done).toMatchObject({ kind: 'done', session: { state: 'finished' } })
  })

  test('what did not count when it expired is void from then on', async () => {
    const { store, clock } = lab()
    await newRun(store)
    await open(store)
    await store.sessions.answer(KEY, TESS, { item: 1, result: 'passed' })
    await store.sessions.answer(KEY, BEN, { item: 2, result: 'passed' })
    clock.now += 3_600_000

    await store.sessions.expire(KEY, ['ben'])
    const again = await store.sessions.expire(KEY, MAY)

    expect(again?.answers).toMatchObject([{ by: 'tess', void: 'tess may not test here now' }, { by: 'ben' }])
    expect(again?.answers[1]).not.toHaveProperty('void')
    const [entry] = (await store.audit.list({ limit: 100 })).filter(({ action }) => action === 'session.expired')
    expect(entry?.detail).toEqual({ missing: ['Log in on a phone'] })
  })

  test('a retry keeps nothing of whoever may not test then, and says why', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    await store.sessions.answer(KEY, TESS, { item: 1, result: 'passed' })
    await store.sessions.attach(KEY, TESS, { item: 1, name: 'phone.png', digest: 'sha256:1', size: 10 })
    await store.sessions.answer(KEY, BEN, { item: 2, result: 'passed' })
    await store.sessions.answer(KEY, BEN, { item: 3, result: 'failed' })
    await store.sessions.finish(KEY, BEN, MAY)

    const second = await open(store, 2, SUBJECT, ['ben'])
    const unchanged = await open(store, 2, SUBJECT, MAY)

    expect(second.answers).toMatchObject([{ item: 2, by: 'ben', keptFrom: 1 }])
    expect(second.evidence).toEqual([])
    expect(second.askedAgain).toEqual([
      { item: 1, why: 'passed by tess in attempt 1: tess may not test here now' },
      { item: 3, why: 'failed by ben in attempt 1' },
    ])
    expect(unchanged).toEqual(second)
    const opened = (await store.audit.list({ limit: 100 })).filter(({ action }) => action === 'session.opened')
    expect(opened[1]?.detail).toMatchObject({ kept: 1, askedAgain: second.askedAgain })
  })

  describe('a file of evidence', () => {
    const FILE = { item: 1, name: 'phone.png', digest: 'sha256:1', size: 10 }
    const tess = { ...TESS, isOperator: false }
    const ops = { by: 'ops', channel: 'api', isOperator: true }

    test('is deleted once by whoever attached it; the record of it stays, and its number is not given again', async () => {
      const { store } = lab()
      await newRun(store)
      await open(store)
      await store.sessions.attach(KEY, TESS, FILE)

      const other = await store.sessions.deleteEvidence(KEY, { ...BEN, isOperator: false }, { id: 1 })
      const done = await store.sessions.deleteEvidence(KEY, tess, { id: 1, why: 'a name is in it' })
      const again = await store.sessions.deleteEvidence(KEY, tess, { id: 1 })
      const gone = await store.sessions.goneEvidence()
      await store.sessions.attach(KEY, TESS, FILE)

      expect(other).toEqual({ kind: 'refused', why: 'the file is that of tess; an operator can delete it' })
      expect(done).toMatchObject({ session: { evidence: [{ id: 1, gone: { by: 'tess', why: 'a name is in it' } }] } })
      expect(again).toEqual(done)
      expect(gone).toEqual(['sha256:1'])
      // The same bytes were attached once more.
      expect(await store.sessions.goneEvidence()).toEqual([])
      expect(await store.sessions.goneEvidence(['sha256:1'])).toEqual([])
      expect((await store.sessions.get(KEY))?.evidence.map(({ id, gone: is }) => [id, is === undefined])).toEqual([
        [1, false],
        [2, true],
      ])
      const entries = (await store.audit.list({ limit: 100 })).filter(({ action }) => action.endsWith('_deleted'))
      expect(entries).toMatchObject([
        {
          by: 'tess',
          channel: 'cli',
          on: `${RUN}/e2e/manual/1`,
          detail: {
            item: 'Log in on a phone',
            name: 'phone.png',
            digest: 'sha256:1',
            size: 10,
            attachedBy: 'tess',
            attempts: [1],
            why: 'a name is in it',
          },
        },
      ])
    })

    test('is an operator’s to delete after the end, from all attempts; the workflow that has ended is told nothing', async () => {
      const { store } = lab()
      await newRun(store)
      await open(store)
      await store.sessions.attach(KEY, TESS, FILE)
      await store.sessions.answer(KEY, TESS, { item: 1, result: 'passed' })
      await store.sessions.answer(KEY, TESS, { item: 2, result: 'failed' })
      await store.sessions.finish(KEY, TESS, MAY)
      await open(store, 2)
      const before = await signals(store)

      const late = await store.sessions.deleteEvidence(KEY, tess, { id: 1 })
      const kept = await store.sessions.deleteEvidence({ ...KEY, attempt: 2 }, tess, { id: 1 })
      await store.sessions.deleteEvidence(KEY, ops, { id: 1, why: 'a customer is in it' })

      expect(late).toEqual({ kind: 'refused', why: 'the session is finished; an operator can delete it' })
      expect(kept).toEqual({
        kind: 'refused',
        why: 'it was attached in attempt 1, which has ended; an operator can delete it',
      })
      const [first, second] = await store.sessions.ofRun(RUN)
      expect(first?.evidence).toMatchObject([{ gone: { by: 'ops', why: 'a customer is in it' } }])
      expect(second?.evidence).toMatchObject([{ gone: { by: 'ops', why: 'a customer is in it' } }])
      expect(await store.sessions.goneEvidence()).toEqual(['sha256:1'])
      expect(await signals(store)).toEqual(before)
      expect((await open(store, 3)).evidence).toEqual([])
    })

    test('that was deleted makes room for another', async () => {
      const { store } = lab()
      await newRun(store)
      await open(store)
      const half = SESSION_LIMITS.evidenceBytes / 2 + 1
      await store.sessions.attach(KEY, TESS, { ...FILE, size: half })
      const more = { ...FILE, digest: 'sha256:2', size: half }
      const full = await store.sessions.attach(KEY, TESS, more)

      await store.sessions.deleteEvidence(KEY, tess, { id: 1 })

      expect(full.kind).toBe('refused')
      expect((await store.sessions.attach(KEY, TESS, more)).kind).toBe('done')
    })
  })

  test('evidence is bounded in number and bytes; what is there can still be answered and finished', async () => {
    const { store } = lab()
    await newRun(store)
    await open(store)
    const tooBig = await store.sessions.attach(KEY, TESS, {
      item: 1,
      name: 'film.mp4',
      digest: 'sha256:f',
      size: SESSION_LIMITS.evidenceBytes + 1,
    })
    for (let n = 0; n < SESSION_LIMITS.evidence; n++) {
      await store.sessions.attach(KEY, TESS, { item: 1, name: `${n}.png`, digest: `sha256:${n}`, size: 1 })
    }

    const oneMore = await store.sessions.attach(KEY, TESS, { item: 1, name: 'x.png', digest: 'sha256:x', size: 1 })

    expect(tooBig).toMatchObject({ kind: 'refused' })
    expect(oneMore).toMatchObject({ kind: 'refused', why: expect.stringContaining('at most 200 files') })
    expect((await store.sessions.get(KEY))?.evidence).toHaveLength(SESSION_LIMITS.evidence)
  }, 60_000)

  test('two processes finish at once: one end, one event', async () => {
    const { store, another } = lab()
    await newRun(store)
    await open(store)
    for (const item of [1, 2]) await store.sessions.answer(KEY, TESS, { item, result: 'passed' })
    const other = await another()

    await Promise.all([store.sessions.finish(KEY, TESS, MAY), other.sessions.finish(KEY, BEN, MAY)])

    const ends = (await store.events.of(RUN)).filter(({ event }) => event.type === 'session.finished.v1')
    expect(ends).toHaveLength(1)
  })
})
