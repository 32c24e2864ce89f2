import { describe, expect, test } from 'vitest'
import type { DesiredState, StatusState } from '../../src/core/report/types.ts'
import type { Store } from '../../src/store/types.ts'
import { commit, newRun, onEveryDatabase } from './backend.ts'

const REPO = 'acme/web'
const COMMIT = commit('a')
const CLAIM_MS = 10_000
const DOUBT_MS = 20_000

function status(state: StatusState, description = state as string, weight = 2): DesiredState {
  const context = 'penstock/test'
  const content = { commit: COMMIT, context, state, description, url: 'http://ci/1' }
  return { kind: 'status', subject: COMMIT, name: context, weight, content }
}

function check(identity: string, title: string): DesiredState {
  const content = {
    commit: COMMIT,
    name: 'penstock',
    identity,
    state: { kind: 'running' } as const,
    title,
    summary: '',
    annotations: [],
    actions: [],
    url: '',
  }
  return { kind: 'check', subject: COMMIT, name: 'penstock', weight: 2, content }
}

const version = (number: number, version: number) => ({ id: `${REPO}#${number}`, repo: REPO, number, version })

/** What would be sent now; it is marked as sent. */
async function send(store: Store): Promise<string[]> {
  const claimed = await store.reports.take(99, CLAIM_MS)
  for (const one of claimed) await store.reports.sent(one)
  return claimed.map(({ reported }) => (reported.kind === 'status' ? reported.content.description : reported.kind))
}

await onEveryDatabase((lab) => {
  describe('runs that have changed', () => {
    test('are those with an event or another waiting sentence since they were last reported', async () => {
      const { store } = lab()
      const run = await newRun(store)

      const [queued] = await store.reports.changed(9)
      if (queued) await store.reports.record(queued, [])
      const reported = await store.reports.changed(9)
      await store.runs.setStatus(run.id, 'waiting', { waiting: { kind: 'environment', sentence: 'waits' } })
      const [waiting] = await store.reports.changed(9)
      await store.events.append(run.id, 'k', [{ type: 'run.started.v1', try: 1 }])
      const [started] = await store.reports.changed(9)

      expect(queued).toMatchObject({ id: run.id, repo: REPO, number: run.number })
      expect(reported).toEqual([])
      expect((waiting?.version ?? 0) > (queued?.version ?? 0)).toBe(true)
      expect((started?.version ?? 0) > (waiting?.version ?? 0)).toBe(true)
    })

    test('stay changed when they changed while they were reported', async () => {
      const { store } = lab()
      const run = await newRun(store)
      const [seen] = await store.reports.changed(9)

      await store.events.append(run.id, 'k', [{ type: 'run.started.v1', try: 1 }])
      if (seen) await store.reports.record(seen, [])

      expect(await store.reports.changed(9)).toHaveLength(1)
      expect(await store.reports.changed(9, [run.id])).toEqual([])
    })
  })

  describe('which state is desired', () => {
    test.each([
      ['a later version of the run', version(1, 2), 2, version(1, 3), 2, 'second'],
      ['an earlier version that comes late', version(1, 3), 2, version(1, 2), 2, 'first'],
      ['a newer run of the same commit', version(1, 9), 2, version(2, 1), 2, 'second'],
      ['an older run that comes late, or is retried', version(2, 1), 2, version(1, 9), 2, 'first'],
      ['a newer run that leaves the stage out', version(1, 9), 2, version(2, 1), 1, 'first'],
      ['an older run that has the stage', version(2, 1), 1, version(1, 9), 2, 'second'],
    ] as const)('%s', async (_, first, firstWeight, second, secondWeight, expected) => {
      const { store } = lab()

      await store.reports.record(first, [status('pending', 'first', firstWeight)])
      await store.reports.record(second, [status('success', 'second', secondWeight)])

      expect(await send(store)).toEqual([expected])
    })

    test('what is the same is not sent again', async () => {
      const { store } = lab()
      await store.reports.record(version(1, 1), [status('pending')])
      await send(store)

      await store.reports.record(version(1, 2), [status('pending')])

      expect(await send(store)).toEqual([])
    })
  })

  describe('sending', () => {
    test('one sender at a time has a key, and only its newest state', async () => {
      const { store, another, clock } = lab()
      const other = await another()
      await store.reports.record(version(1, 1), [status('pending')])
      await store.reports.record(version(1, 2), [status('success')])

      const [taken] = await store.reports.take(9, CLAIM_MS)
      await store.reports.record(version(1, 3), [status('failure')])
      const meanwhile = await other.reports.take(9, CLAIM_MS)
      if (taken) await store.reports.sent(taken)
      const then = await send(other)
      clock.now += DOUBT_MS

      expect(taken?.reported.content).toMatchObject({ state: 'success' })
      expect(meanwhile).toEqual([])
      expect(then).toEqual(['failure'])
      expect(await send(store)).toEqual([])
    })

    test('a state whose sender was killed is sent again, and once more when the request can no longer arrive', async () => {
      const { store, clock } = lab()
      await store.reports.record(version(1, 1), [status('pending')])
      await store.reports.take(9, CLAIM_MS)

      clock.now += CLAIM_MS
      const again = await send(store)
      const atOnce = await send(store)
      clock.now += DOUBT_MS
      const certain = await send(store)

      expect([again, atOnce, certain, await send(store)]).toEqual([['pending'], [], ['pending'], []])
    })

    test('a sender that was overtaken makes the newest go out again', async () => {
      const { store, another, clock } = lab()
      const slow = await another()
      await store.reports.record(version(1, 1), [status('pending')])
      const [old] = await slow.reports.take(9, CLAIM_MS)
      clock.now += CLAIM_MS
      await store.reports.record(version(1, 2), [status('success')])
      await send(store)
      clock.now += DOUBT_MS
      await send(store)
      const settled = await send(store)

      if (old) await slow.reports.sent(old)

      expect(settled).toEqual([])
      expect(await send(store)).toEqual(['success'])
    })

    test('a sender that was overtaken makes what is on its way at that moment go out again, too', async () => {
      const { store, another, clock } = lab()
      const slow = await another()
      await store.reports.record(version(1, 1), [status('pending')])
      const [old] = await slow.reports.take(9, CLAIM_MS)
      clock.now += CLAIM_MS
      await send(store)
      clock.now += DOUBT_MS
      await store.reports.record(version(1, 2), [status('success')])
      const [underWay] = await store.reports.take(9, CLAIM_MS)

      if (old) await slow.reports.sent(old)
      if (underWay) await store.reports.sent(underWay)
      clock.now += DOUBT_MS

      expect(await send(store)).toEqual(['success'])
    })

    test('what may yet take effect is followed by the newest once more', async () => {
      const { store, clock } = lab()
      await store.reports.record(version(1, 1), [status('pending')])
      const [cut] = await store.reports.take(9, CLAIM_MS)
      if (cut) await store.reports.failed(cut, { error: 'cut', delayMs: 500, isDoubtful: true })
      await store.reports.record(version(1, 2), [status('success')])

      const early = await send(store)
      clock.now += 500
      const due = await send(store)
      clock.now += DOUBT_MS

      expect([early, due, await send(store), await send(store)]).toEqual([[], ['success'], ['success'], []])
    })

    test('a new state waits at most 15 s for what an earlier one was refused for', async () => {
      const { store, clock } = lab()
      await store.reports.record(version(1, 1), [status('pending')])
      const [refused] = await store.reports.take(9, CLAIM_MS)
      if (refused) await store.reports.failed(refused, { error: '404', delayMs: 300_000, isDoubtful: false })

      await store.reports.record(version(1, 2), [status('success')])
      clock.now += 15_000

      expect(await send(store)).toEqual(['success'])
    })

    test('nothing goes out for a repository that pauses, whatever is new', async () => {
      const { store, clock } = lab()
      await store.reports.record(version(1, 1), [status('pending')])
      await store.reports.pause(REPO, 60_000)
      await store.reports.pause(REPO, 1_000)
      await store.reports.record(version(1, 2), [status('success')])

      clock.now += 59_999
      const before = await send(store)
      clock.now += 1

      expect([before, await send(store)]).toEqual([[], ['success']])
    })

    test('what was given up is sent when it changes', async () => {
      const { store } = lab()
      await store.reports.record(version(1, 1), [status('pending')])
      const [refused] = await store.reports.take(9, CLAIM_MS)
      const gone = { error: '422', delayMs: 0, isDoubtful: false, givesUp: true }
      if (refused) await store.reports.failed(refused, gone)
      const unsent = await store.reports.unsent()

      await store.reports.record(version(1, 2), [status('success')])

      expect(unsent).toEqual([])
      expect(await send(store)).toEqual(['success'])
    })

    test('what the forge calls it is known for the same try, and for no other', async () => {
      const { store } = lab()
      await store.reports.record(version(1, 1), [check('acme/web#1/1', 'a')])
      const [first] = await store.reports.take(9, CLAIM_MS)
      if (first) await store.reports.sent(first, 'remote-7')

      await store.reports.record(version(1, 2), [check('acme/web#1/1', 'b')])
      const [second] = await store.reports.take(9, CLAIM_MS)
      await store.reports.record(version(1, 3), [check('acme/web#1/2', 'c')])
      if (second) await store.reports.sent(second, 'remote-7')
      const [third] = await store.reports.take(9, CLAIM_MS)

      expect([first?.known, second?.known, third?.known]).toEqual([undefined, 'remote-7', undefined])
    })
  })
})
