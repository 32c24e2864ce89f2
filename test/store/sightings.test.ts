import { describe, expect, test } from 'vitest'
import type { KnownBranch, NewDelivery, Recorded, Store } from '../../src/store/types.ts'
import { commit, delivery, onEveryDatabase, push } from './backend.ts'

const REPO = 'acme/web'
const MASTER = 'refs/heads/master'
/** As the forge has it, whose clock goes as ours does. */
const at = (minute: number) => ({ at: 1_800_000_000_000 + minute * 60_000 })

const known = async (store: Store, ref = MASTER): Promise<KnownBranch | undefined> =>
  (await store.sightings.of(REPO))?.find((one) => one.ref === ref)

const tip = async (store: Store) => (await known(store))?.commit

/** Nobody has told of it; it was seen at the forge by somebody who knew the branch as it is now, or as said. */
async function see(
  store: Store,
  after: string,
  over: Partial<NewDelivery> & { readonly before?: string; readonly knew?: KnownBranch | undefined } = {},
): Promise<Recorded> {
  const { before, knew, ...rest } = over
  const seen = { known: 'knew' in over ? knew : await known(store), isMoveKnown: before !== undefined }
  return store.deliveries.record(delivery({ source: 'sweep', seen, ...rest }), push(after, before))
}

await onEveryDatabase((lab) => {
  const begin = () => lab().store.sightings.begin(REPO, [{ ref: MASTER, commit: commit('a') }])

  describe('the first sight', () => {
    test('takes what is there as known, once, and leaves alone what was told', async () => {
      const { store } = lab()
      await store.deliveries.record(delivery(), push('b', 'a', 'refs/heads/told'))
      expect(await store.sightings.of(REPO)).toBeUndefined()

      await store.sightings.begin(REPO, [
        { ref: MASTER, commit: commit('a') },
        { ref: 'refs/heads/told', commit: commit('c') },
        { ref: 'refs/pull/1/head', commit: commit('d') },
      ])
      await store.sightings.begin(REPO, [{ ref: 'refs/heads/later', commit: commit('e') }])

      const branches = (await store.sightings.of(REPO)) ?? []
      expect(Object.fromEntries(branches.map(({ ref, commit }) => [ref, commit]))).toEqual({
        [MASTER]: commit('a'),
        'refs/heads/told': commit('b'),
      })
      expect(await store.runs.list({ limit: 9 })).toHaveLength(1)
    })

    test('tells heads of pull requests apart: told, there before, looked into, untold', async () => {
      const { store } = lab()
      await store.sightings.begin(REPO, [{ ref: 'refs/pull/1/head', commit: commit('a') }])
      const change = { commit: commit('b'), ref: 'refs/pull/2/head', pullRequest: { number: 2, base: 'master' } }
      await store.deliveries.record(delivery(), { kind: 'pull_request', repo: REPO, change, requestedBy: 'ada' })
      await store.sightings.sawPull(REPO, { number: 3, commit: commit('c') })
      const head = (number: number, digit: string) => ({ number, commit: commit(digit) })

      const untold = await store.sightings.untold(REPO, [
        ...[head(1, 'a'), head(2, 'b'), head(3, 'c')],
        ...[head(1, 'd'), head(2, 'd'), head(3, 'd'), head(4, 'd')],
      ])

      expect(untold.map(({ number, commit }) => [number, commit[0]])).toEqual([1, 2, 3, 4].map((n) => [n, 'd']))
    })
  })

  describe('what was seen at the forge', () => {
    test('is a run, and the delivery that tells of it afterwards is the same, whether the forge named the move or not', async () => {
      const { store } = lab()
      await begin()

      const named = await see(store, 'c', { before: 'b' })
      const toldOfNamed = await store.deliveries.record(delivery(), push('c', 'b'))
      const unnamed = await see(store, 'e')
      const next = await store.deliveries.record(delivery(), push('f', 'e'))
      const toldOfUnnamed = await store.deliveries.record(delivery(), push('e', 'd'))

      expect([named.kind, unnamed.kind, next.kind]).toEqual(['run', 'run', 'run'])
      expect(toldOfNamed).toMatchObject({ kind: 'duplicate', run: { number: 1 } })
      expect(toldOfUnnamed).toMatchObject({ kind: 'duplicate', run: { number: 2 } })
      expect(await tip(store)).toBe(commit('f'))
    })

    test('does not count when a delivery has told of the branch since', async () => {
      const { store, clock } = lab()
      await begin()
      const knew = await known(store)
      clock.now += 1000
      await store.deliveries.record(delivery(), push('c', 'a'))

      const old = await see(store, 'b', { knew })
      const looked = delivery({ source: 'sweep', seen: { known: knew, isMoveKnown: false } })
      const gone = await store.deliveries.recordBranchDeleted(looked, REPO, MASTER)

      expect([old.kind, gone.kind]).toEqual(['ignored', 'ignored'])
      expect(await tip(store)).toBe(commit('c'))
      expect(await store.runs.list({ limit: 9 })).toHaveLength(1)
    })

    test('has its run already when a delivery brought it that seemed to come late', async () => {
      const { store, clock } = lab()
      await begin()
      clock.now += 1000
      const late = await store.deliveries.record(delivery(), push('c', 'b'))
      expect(await tip(store)).toBe(commit('a'))

      const seen = await see(store, 'c')

      expect([late.kind, seen.kind]).toEqual(['run', 'duplicate'])
      expect(await tip(store)).toBe(commit('c'))
    })

    test('stands against old pushes and old ends, which cannot say when they were', async () => {
      const { store } = lab()
      await begin()
      await see(store, 'd')

      const old = await store.deliveries.record(delivery(), push('b', 'a'))
      await store.deliveries.recordBranchDeleted(delivery(), REPO, MASTER, undefined, commit('b'))

      expect(old.kind).toBe('run')
      expect(await tip(store)).toBe(commit('d'))
    })
  })

  describe('of two moves of a branch, by the forge’s time', () => {
    test('the later one stands, in whatever order they come', async () => {
      const { store } = lab()
      await begin()
      await store.deliveries.record(delivery(at(9)), push('d', 'c'))

      const old = await store.deliveries.record(delivery(at(3)), push('b', 'a'))
      await store.deliveries.recordBranchDeleted(delivery(at(4)), REPO, MASTER, undefined, commit('b'))

      expect(old.kind).toBe('run')
      expect(await tip(store)).toBe(commit('d'))
      await store.deliveries.recordBranchDeleted(delivery(at(10)), REPO, MASTER, undefined, commit('d'))
      expect(await tip(store)).toBeUndefined()
      await store.deliveries.recordBranchDeleted(delivery(at(4)), REPO, MASTER, undefined, commit('b'))
      await store.deliveries.record(delivery(at(7)), push('c'))
      expect(await tip(store)).toBeUndefined()
    })

    test('a move that is told again is news only if it is later', async () => {
      const { store } = lab()
      await begin()
      await store.deliveries.record(delivery(at(1)), push('b', 'a'))
      await store.deliveries.record(delivery(at(2)), push('a', 'b'))

      const copy = await store.deliveries.record(delivery(at(1)), push('b', 'a'))
      const again = await store.deliveries.record(delivery(at(3)), push('b', 'a'))

      expect([copy.kind, again.kind]).toEqual(['duplicate', 'run'])
    })
  })

  test('the list says of each delivery what became of it, and what the rules did', async () => {
    const { store, clock } = lab()
    await store.deliveries.recordIgnored(delivery({ event: 'ping' }), 'ping')
    clock.now += 1
    const same = delivery()
    await store.deliveries.record(same, push('b', 'a'))
    clock.now += 1
    await store.deliveries.record(delivery(), push('b', 'a'))
    clock.now += 1
    const about = { kind: 'pull_request', number: 7 } as const
    await store.deliveries.recordNotice(delivery({ event: 'pull_request' }), 'acme/api', about)
    await store.notices.take(9, 1000)
    await store.notices.done(1, 'run 9')

    const all = await store.deliveries.list({ limit: 9 })

    expect(all).toEqual([
      expect.objectContaining({
        ...{ event: 'pull_request', repo: 'acme/api', outcome: 'noted', receivedAt: clock.now },
        notice: { about, tries: 1, doneAt: clock.now, outcome: 'run 9' },
      }),
      expect.objectContaining({ outcome: 'duplicate', run: 1, repo: REPO }),
      expect.objectContaining({ id: same.id, outcome: 'run', run: 1, repo: REPO }),
      expect.objectContaining({ event: 'ping', outcome: 'ignored', reason: 'ping' }),
    ])
    expect(await store.deliveries.list({ limit: 9, repo: REPO, before: all[1]?.receivedAt ?? 0 })).toEqual([all[2]])
  })
})
