import { expect, test } from 'vitest'
import { delivery, onEveryDatabase, push } from './backend.ts'

const REPO = 'acme/web'
const pull = (number: number) => ({ kind: 'pull_request', number }) as const

await onEveryDatabase((lab) => {
  test('a notice is kept once a delivery, and goes when it is dealt with', async () => {
    const { store } = lab()
    const same = delivery()

    const answers = [
      await store.deliveries.recordNotice(same, REPO, pull(1)),
      await store.deliveries.recordNotice(same, REPO, pull(1)),
      await store.deliveries.recordNotice(delivery(), REPO, pull(2)),
    ]

    expect(answers.map(({ kind }) => kind)).toEqual(['noted', 'duplicate', 'noted'])
    const taken = await store.notices.take(10, 60_000)
    expect(taken.map(({ id, notice, tries }) => [id, notice, tries])).toEqual([
      [1, pull(1), 1],
      [2, pull(2), 1],
    ])
    await store.notices.done(1, 'run 7')
    expect((await store.notices.pending()).map(({ id }) => id)).toEqual([2])
  })

  test('a push brings its notice with it, unless the delivery is known', async () => {
    const { store } = lab()
    const [one, branch] = [delivery(), { kind: 'branch', ref: 'refs/heads/master' } as const]

    await store.deliveries.record(one, push('b', 'a'), undefined, branch)
    await store.deliveries.record(one, push('b', 'a'), undefined, branch)
    await store.deliveries.recordBranchDeleted(delivery(), REPO, branch.ref, branch)

    expect((await store.notices.pending()).map(({ notice }) => notice)).toEqual([branch, branch])
  })

  test('what is taken is nobody else’s until its time is over; what failed comes again later', async () => {
    const { store, another, clock } = lab()
    const other = await another()
    await store.deliveries.recordNotice(delivery(), REPO, pull(1))
    await store.deliveries.recordNotice(delivery(), REPO, pull(2))

    const [mine, theirs] = await Promise.all([store.notices.take(2, 60_000), other.notices.take(2, 60_000)])
    expect([...mine, ...theirs].map(({ id }) => id)).toEqual([1, 2])
    await store.notices.failed(2, 'nobody there', 5_000)
    clock.now += 5_000
    expect((await other.notices.take(2, 60_000)).map(({ id, tries }) => [id, tries])).toEqual([[2, 2]])
    clock.now += 60_000
    expect((await other.notices.take(2, 60_000)).map(({ id }) => id)).toEqual([1, 2])
  })

  test('those of a repository that is busy are left, and fill nobody’s hands', async () => {
    const { store } = lab()
    for (const number of [1, 2, 3]) await store.deliveries.recordNotice(delivery(), REPO, pull(number))
    await store.deliveries.recordNotice(delivery(), 'acme/api', pull(4))

    expect((await store.notices.take(2, 60_000, [REPO])).map(({ id }) => id)).toEqual([4])
    expect(await store.notices.take(2, 60_000, [REPO])).toEqual([])
    expect((await store.notices.take(2, 60_000)).map(({ id }) => id)).toEqual([1, 2])
  })
})
