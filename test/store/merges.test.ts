import { expect, test } from 'vitest'
import { commit, newRun, onEveryDatabase, push } from './backend.ts'

const REPO = 'acme/web'
const LEASE = 60_000
const asked = (over: { key?: string; pullRequest?: number; commit?: string; by?: string } = {}) => ({
  ...{ key: 'comment/1', repo: REPO, pullRequest: 7, commit: commit('a'), by: 'ada', channel: 'comment' },
  ...over,
})

await onEveryDatabase((lab) => {
  test('the same asked twice is one wish, whatever has become of it; another for the same commit joins it', async () => {
    const { store } = lab()

    const first = await store.merges.ask(asked())
    const again = await store.merges.ask(asked({ commit: commit('b') }))
    const joined = await store.merges.ask(asked({ key: 'comment/2', by: 'ben' }))
    const other = await store.merges.ask(asked({ key: 'comment/3', pullRequest: 8 }))

    expect(again).toEqual(first)
    expect([first, joined, other].map(({ state }) => state)).toEqual(['waiting', 'joined', 'waiting'])
    expect((await store.merges.open(REPO)).map(({ id }) => id)).toEqual([first.id, other.id])
    expect((await store.merges.open(REPO, 8)).map(({ id }) => id)).toEqual([other.id])
    expect((await store.merges.list({ limit: 2, repo: REPO })).map(({ id }) => id)).toEqual([other.id, joined.id])
    expect(await store.merges.list({ limit: 2, repo: 'acme/other' })).toEqual([])
  })

  test('one of two workers has it; what the slower one still wants to say of it changes nothing', async () => {
    const { store, another, clock } = lab()
    const { id } = await store.merges.ask(asked())
    const other = await another()

    const both = await Promise.all([store.merges.take(id, LEASE), other.merges.take(id, LEASE)])
    const [mine] = both.filter((one) => one !== undefined)
    expect(both.filter((one) => one === undefined)).toHaveLength(1)
    clock.now += LEASE
    const theirs = await other.merges.take(id, LEASE)
    if (mine === undefined || theirs === undefined) throw new Error('both had it once')
    await other.merges.end(theirs, 'ended', 'behind')
    await store.merges.end(mine, 'merged', 'master is there')
    await store.merges.done(mine)

    expect(await store.merges.open(REPO)).toMatchObject([{ state: 'ended', why: 'behind' }])
    expect((await store.audit.list({ limit: 9 })).map(({ action }) => action)).toEqual(['pull.merge_asked'])
  })

  test('what has ended stays to be told until that is done; a delay is kept', async () => {
    const { store, clock } = lab()
    const { id } = await store.merges.ask(asked(), { wake: true })
    const taken = await store.merges.take(id, LEASE)
    if (taken === undefined) throw new Error('nobody has it')
    await store.merges.told(taken, 'waits')
    await store.merges.end(taken, 'merged', 'master is there')
    await store.merges.release(taken, { kind: 'failed', delayMs: 5_000 })

    expect(await store.merges.take(id, LEASE)).toBeUndefined()
    clock.now += 5_000
    const later = await store.merges.take(id, LEASE)
    expect(later).toMatchObject({ state: 'merged', told: 'waits', tries: 2 })
    if (later !== undefined) await store.merges.done(later)
    expect(await store.merges.open(REPO)).toEqual([])
    expect((await store.audit.list({ limit: 9 })).map(({ action }) => action)).toEqual([
      'pull.merge_asked',
      'pull.merge',
    ])
    expect((await store.notices.pending()).map(({ notice }) => notice)).toEqual([{ kind: 'pull_request', number: 7 }])
  })

  test('runs are found by their commit', async () => {
    const { store } = lab()
    await newRun(store, push('a'))
    const run = await newRun(store, push('b', 'a'))

    expect((await store.runs.list({ repo: REPO, commit: commit('b'), limit: 9 })).map(({ id }) => id)).toEqual([run.id])
  })
})
