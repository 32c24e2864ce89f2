import { expect, test } from 'vitest'
import { commit, delivery, onEveryDatabase, push } from './backend.ts'

await onEveryDatabase((lab) => {
  test('a delivery becomes a run with its number, its event and its start in the outbox', async () => {
    const { store, clock } = lab()

    const recorded = await store.deliveries.record(delivery(), push('b', 'a'))

    expect(recorded).toMatchObject({
      kind: 'run',
      run: { repo: 'acme/web', number: 1, id: 'acme/web#1', status: 'queued', try: 1, createdAt: clock.now },
    })
    const events = await store.events.of('acme/web#1')
    expect(events.map(({ seq, event }) => [seq, event.type])).toEqual([[1, 'run.queued.v1']])
    const pending = await store.outbox.pending()
    expect(pending.map((row) => row.message)).toEqual([{ kind: 'start', run: 'acme/web#1', try: 1, retry: false }])
  })

  test('fifty identical deliveries at once, by several stores, make one run', async () => {
    const { store, another } = lab()
    const stores = [store, await another(), await another()]
    const same = delivery()

    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, i) => stores[i % 3]?.deliveries.record(same, push('b', 'a'))),
    )

    expect(answers.filter((one) => one?.kind === 'run')).toHaveLength(1)
    expect(answers.filter((one) => one?.kind === 'duplicate' && one.by === 'id' && one.run?.number === 1)).toHaveLength(
      49,
    )
    expect(await store.runs.list({ limit: 10 })).toHaveLength(1)
    expect(await store.outbox.pending()).toHaveLength(1)
  })

  test('of writes asked for at once, one that fails takes nothing of the others with it', async () => {
    const { store } = lab()

    const answers = await Promise.allSettled([
      store.deliveries.record(delivery(), push('b', 'a', 'refs/heads/one')),
      store.events.append('acme/web#99', 'key', [{ type: 'run.started.v1', try: 1 }]),
      store.deliveries.record(delivery(), push('b', 'a', 'refs/heads/two')),
    ])

    expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect((await store.runs.list({ limit: 10 })).map(({ number }) => number)).toEqual([2, 1])
    expect(await store.events.of('acme/web#99')).toEqual([])
  })

  test('deliveries at once are numbered over all repositories, without a gap', async () => {
    const { store, another } = lab()
    const other = await another()
    const repos = ['acme/web', 'acme/api']

    await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        (i % 2 === 0 ? store : other).deliveries.record(delivery(), {
          ...push('b', 'a', `refs/heads/f${i}`),
          repo: repos[i % 2] ?? '',
        }),
      ),
    )

    const numbers = (await store.runs.list({ limit: 100 })).map((run) => run.number)
    expect(numbers).toEqual(Array.from({ length: 40 }, (_, i) => 40 - i))
  })

  test('the same id with another body is a conflict and changes nothing', async () => {
    const { store } = lab()
    await store.deliveries.record(delivery({ id: 'x', bodyDigest: '1' }), push('b', 'a'))

    const answer = await store.deliveries.record(delivery({ id: 'x', bodyDigest: '2' }), push('c', 'b'))

    expect(answer).toEqual({ kind: 'conflict' })
    expect(await store.runs.list({ limit: 10 })).toHaveLength(1)
  })

  test('the same id from another source is another delivery', async () => {
    const { store } = lab()
    await store.deliveries.record(delivery({ id: 'x' }), push('b', 'a'))

    const answer = await store.deliveries.record(delivery({ id: 'x', source: 'api' }), push('c', 'b'))

    expect(answer.kind).toBe('run')
  })

  test('the same push under another id is a duplicate by meaning, and says which run it was', async () => {
    const { store } = lab()
    await store.deliveries.record(delivery(), push('b', 'a'))

    const again = delivery()
    const answer = await store.deliveries.record(again, push('b', 'a'))
    const redelivered = await store.deliveries.record(again, push('b', 'a'))

    expect(answer).toMatchObject({ kind: 'duplicate', by: 'meaning', run: { number: 1 } })
    expect(redelivered).toMatchObject({ kind: 'duplicate', by: 'id', run: { number: 1 } })
  })

  test('an old push told again after newer ones is a duplicate, and does not turn the branch back', async () => {
    const { store } = lab()
    await store.deliveries.record(delivery(), push('b', 'a'))
    await store.deliveries.record(delivery(), push('c', 'b'))

    const old = await store.deliveries.record(delivery(), push('b', 'a'))
    const newest = await store.deliveries.record(delivery(), push('c', 'b'))

    expect(old).toMatchObject({ kind: 'duplicate', by: 'meaning', run: { number: 1 } })
    expect(newest).toMatchObject({ kind: 'duplicate', by: 'meaning', run: { number: 2 } })
  })

  test('a branch deleted and pushed again makes a new run', async () => {
    const { store } = lab()
    await store.deliveries.record(delivery(), push('b', undefined, 'refs/heads/f'))

    const deleted = await store.deliveries.recordBranchDeleted(delivery(), 'acme/web', 'refs/heads/f')
    const answer = await store.deliveries.record(delivery(), push('b', undefined, 'refs/heads/f'))
    const again = await store.deliveries.record(delivery(), push('b', undefined, 'refs/heads/f'))

    expect(deleted).toEqual({ kind: 'ignored', reason: 'branch deleted' })
    expect(answer).toMatchObject({ kind: 'run', run: { number: 2 } })
    expect(again).toMatchObject({ kind: 'duplicate', by: 'meaning', run: { number: 2 } })
  })

  test('a branch forced back and pushed forward again makes a new run each time', async () => {
    const { store } = lab()
    await store.deliveries.record(delivery(), push('b', 'a'))

    const back = await store.deliveries.record(delivery(), push('a', 'b'))
    const forward = await store.deliveries.record(delivery(), push('b', 'a'))
    const told = await store.deliveries.record(delivery(), push('b', 'a'))

    expect(back).toMatchObject({ kind: 'run', run: { number: 2 } })
    expect(forward).toMatchObject({ kind: 'run', run: { number: 3 } })
    expect(told).toMatchObject({ kind: 'duplicate', by: 'meaning', run: { number: 3 } })
  })

  test('a promotion and the push that the forge reports for it are one run', async () => {
    const { store } = lab()
    const production = push('b', 'a', 'refs/heads/production')

    const promotion = await store.deliveries.record(delivery({ source: 'promotion' }), {
      ...production,
      kind: 'promotion',
    })
    const reported = await store.deliveries.record(delivery(), production)

    expect(promotion.kind).toBe('run')
    expect(reported).toMatchObject({ kind: 'duplicate', by: 'meaning', run: { number: 1 } })
  })

  test('a pull request is known by its number and head, and a person may ask for a run as often as wanted', async () => {
    const { store } = lab()
    const change = { commit: commit('b'), ref: 'refs/pull/7/head', pullRequest: { number: 7, base: 'master' } }
    const pr = { kind: 'pull_request', repo: 'acme/web', change, requestedBy: 'github' } as const
    const manual = { ...push('b', 'a'), kind: 'manual' } as const

    const kinds = []
    for (const trigger of [pr, pr, { ...pr, change: { ...change, commit: commit('c') } }, manual, manual]) {
      kinds.push((await store.deliveries.record(delivery(), trigger)).kind)
    }

    expect(kinds).toEqual(['run', 'duplicate', 'run', 'run', 'run'])
  })

  test('an ignored delivery is known when it comes again', async () => {
    const { store } = lab()
    const ping = delivery({ event: 'ping' })

    const first = await store.deliveries.recordIgnored(ping, 'ping')
    const second = await store.deliveries.recordIgnored(ping, 'ping')

    expect(first).toEqual({ kind: 'ignored', reason: 'ping' })
    expect(second).toEqual({ kind: 'duplicate', by: 'id' })
  })

  test('a push that comes after the one that follows it gets its run, and copies of both stay copies', async () => {
    const { store } = lab()
    await store.deliveries.record(delivery(), push('a'))
    await store.deliveries.record(delivery(), push('c', 'b'))

    const late = await store.deliveries.record(delivery(), push('b', 'a'))
    const copyOfLate = await store.deliveries.record(delivery(), push('b', 'a'))
    const copyOfNewest = await store.deliveries.record(delivery(), push('c', 'b'))

    expect(late).toMatchObject({ kind: 'run', run: { number: 3 } })
    expect(copyOfLate).toMatchObject({ kind: 'duplicate', by: 'meaning', run: { number: 3 } })
    expect(copyOfNewest).toMatchObject({ kind: 'duplicate', by: 'meaning', run: { number: 2 } })
  })

  test('a promotion that does not know where the branch came from is the push that the forge reports', async () => {
    const { store } = lab()
    const ref = 'refs/heads/production_1%'
    const promotion = { ...push('b', undefined, ref), kind: 'promotion' as const }
    await store.deliveries.record(delivery(), push('a', undefined, ref))
    const first = await store.deliveries.record(delivery(), push('b', 'a', ref))

    const second = await store.deliveries.record(delivery({ source: 'promotion' }), promotion)

    expect(first).toMatchObject({ kind: 'run' })
    expect(second).toMatchObject({ kind: 'duplicate', by: 'meaning', run: { number: 2 } })
  })
})
