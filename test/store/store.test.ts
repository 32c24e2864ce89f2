import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { openStore } from '../../src/store/open-store.ts'
import type { Store } from '../../src/store/types.ts'
import { execute, newRun, onEveryDatabase } from './backend.ts'

const DEPLOYMENT = {
  repo: 'acme/web',
  environment: 'staging',
  run: 'acme/web#1',
  try: 1,
  commit: 'c',
  deliverable: 'web',
  digest: 'sha256:1',
  fence: 1,
}
const CANCEL = { kind: 'cancel', run: 'acme/web#1' } as const

await onEveryDatabase((lab) => {
  test('a database opened by several at once is migrated once', async () => {
    const { another } = lab()

    const stores = await Promise.all([another(), another(), another(), another()])

    await newRun(stores[0] as Store)
    expect(await stores[3]?.runs.list({ limit: 9 })).toHaveLength(1)
  })

  test('an intent is recorded once, and finished once', async () => {
    const { store } = lab()

    const first = await store.deployments.intend(DEPLOYMENT)
    const again = await store.deployments.intend(DEPLOYMENT)
    if (first.kind === 'stale') throw new Error('stale')
    await store.deployments.finish(first.row.id, 'unknown', 'no answer')
    const unknown = await store.deployments.current('acme/web', 'staging')
    await store.deployments.finish(first.row.id, 'done')
    await store.deployments.finish(first.row.id, 'failed', 'late')

    expect(first.kind).toBe('intended')
    expect(again).toEqual({ kind: 'known', row: first.row })
    expect(unknown).toBeUndefined()
    expect(await store.deployments.current('acme/web', 'staging')).toMatchObject({ id: first.row.id, state: 'done' })
    await expect(store.deployments.finish(99, 'done')).rejects.toThrow('deployment 99 is unknown')
  })

  test('who lost the environment can start nothing on it any more', async () => {
    const { store } = lab()
    await store.deployments.intend(DEPLOYMENT)
    await store.deployments.intend({ ...DEPLOYMENT, run: 'acme/web#2', digest: 'sha256:2', fence: 2 })

    const late = await store.deployments.intend({ ...DEPLOYMENT, digest: 'sha256:3' })
    const known = await store.deployments.intend(DEPLOYMENT)
    const elsewhere = await store.deployments.intend({ ...DEPLOYMENT, environment: 'production' })

    expect(late).toMatchObject({ kind: 'stale', current: { run: 'acme/web#2', fence: 2 } })
    expect(known.kind).toBe('stale')
    expect(elsewhere.kind).toBe('intended')
  })

  test('a retry with a newer fence finds its deployment, unless another one came between', async () => {
    const { store } = lab()
    const first = await store.deployments.intend(DEPLOYMENT)
    if (first.kind === 'stale') throw new Error('stale')
    await store.deployments.finish(first.row.id, 'done')

    const retried = await store.deployments.intend({ ...DEPLOYMENT, try: 2, fence: 3 })
    const between = await store.deployments.intend({ ...DEPLOYMENT, run: 'acme/web#2', digest: 'sha256:2', fence: 2 })
    const other = await store.deployments.intend({ ...DEPLOYMENT, run: 'acme/web#2', digest: 'sha256:2', fence: 4 })
    if (other.kind === 'stale') throw new Error('stale')
    await store.deployments.finish(other.row.id, 'done')
    const anew = await store.deployments.intend({ ...DEPLOYMENT, try: 3, fence: 5 })

    expect(retried).toMatchObject({ kind: 'known', row: { id: first.row.id, state: 'done', fence: 3 } })
    expect(between.kind).toBe('stale')
    expect(await store.deployments.current('acme/web', 'staging')).toMatchObject({ run: 'acme/web#2' })
    expect(anew).toMatchObject({ kind: 'intended', row: { state: 'intended', fence: 5 } })
    expect(await store.deployments.list({ limit: 9, environment: 'staging' })).toHaveLength(3)
  })

  test('a message is put once by its key, also after it is done', async () => {
    const { store } = lab()
    let heard = 0
    store.outbox.onPut(() => {
      heard += 1
    })

    await store.outbox.put('k', CANCEL)
    await store.outbox.put('k', CANCEL)
    const [row] = await store.outbox.take(9, 1000)
    await store.outbox.done(row?.id ?? 0)
    await store.outbox.put('k', CANCEL)

    expect(row?.message).toEqual(CANCEL)
    expect(await store.outbox.pending()).toEqual([])
    expect(heard).toBe(1)
  })

  test('what is taken is hidden from others, for a while', async () => {
    const { store, another, clock } = lab()
    const other = await another()
    for (let i = 0; i < 20; i++) await store.outbox.put(`k${i}`, CANCEL)

    const taken = (await Promise.all([store.outbox.take(15, 1000), other.outbox.take(15, 1000)])).flat()
    const none = await other.outbox.take(99, 1000)
    clock.now += 1000
    const again = await other.outbox.take(99, 1000)

    expect(taken.map((row) => row.id).sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1))
    expect(none).toEqual([])
    expect(again.map((row) => row.id)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1))
    expect(again[0]?.tries).toBe(2)
  })

  test('what failed comes back after its delay', async () => {
    const { store, clock } = lab()
    await store.outbox.put('k', CANCEL)
    const [row] = await store.outbox.take(9, 1000)

    await store.outbox.failed(row?.id ?? 0, 'refused', 30_000)
    clock.now += 29_999
    const early = await store.outbox.take(9, 1000)
    clock.now += 1
    const due = await store.outbox.take(9, 1000)

    expect([early.length, due.length]).toEqual([0, 1])
  })

  test('a token names its person until it expires or is revoked', async () => {
    const { store, clock } = lab()
    const { token, row } = await store.people.createToken('ada', 100_000)
    const second = await store.people.createToken('bob', 100_000)
    await store.people.revokeToken(second.row.id)

    const ada = await store.people.personOf(token)
    const used = (await store.people.tokens('ada'))[0]?.lastUsedAt
    clock.now += 59_999
    await store.people.personOf(token)
    const soon = (await store.people.tokens('ada'))[0]?.lastUsedAt
    clock.now += 40_001

    expect(token).toMatch(/^pst_[A-Za-z0-9_-]{43}$/)
    expect(row).toMatchObject({ person: 'ada', expiresAt: clock.now })
    expect([ada, used, soon]).toEqual(['ada', clock.now - 100_000, clock.now - 100_000])
    expect(await store.people.personOf(token)).toBeUndefined()
    expect(await store.people.personOf(second.token)).toBeUndefined()
    expect(await store.people.personOf('pst_x')).toBeUndefined()
    expect(await store.people.revokeToken(second.row.id)).toBe(false)
    expect(await store.people.tokens()).toHaveLength(1)
  })

  test('the results of a job attempt are replaced as a whole, however many', async () => {
    const { store } = lab()
    const job = { run: 'acme/web#1', stage: 'test', job: 'unit', attempt: 1 }
    const cases = Array.from({ length: 1201 }, (_, i) => ({ suite: 's', name: `t${i}`, result: 'passed' }) as const)
    await store.results.put(job, cases)
    await store.results.put({ ...job, attempt: 2 }, [{ suite: 's', name: 't', result: 'failed', message: 'no' }])
    const many = await store.results.ofRun(job.run)

    await store.results.put(job, cases.slice(0, 1))

    expect(many).toHaveLength(1202)
    expect(many[1200]).toEqual({ ...cases[1200], stage: 'test', job: 'unit', attempt: 1 })
    expect(await store.results.ofRun(job.run)).toEqual([
      { ...cases[0], stage: 'test', job: 'unit', attempt: 1 },
      { suite: 's', name: 't', result: 'failed', message: 'no', stage: 'test', job: 'unit', attempt: 2 },
    ])
  })

  test('nodes and audit are kept', async () => {
    const { store, clock } = lab()
    await store.nodes.seen('n1', 'old')
    clock.now += 1
    await store.nodes.seen('n1', 'new')
    await store.audit.record({ by: 'ada', channel: 'cli', action: 'a', on: 'x', detail: { n: 1 } })
    await store.audit.record({ by: 'bob', channel: 'cli', action: 'b', on: 'y' })

    expect(await store.nodes.list()).toEqual([{ id: 'n1', hostname: 'new', seenAt: clock.now }])
    expect(await store.audit.list({ after: 1, limit: 9 })).toEqual([
      { id: 2, at: clock.now, by: 'bob', channel: 'cli', action: 'b', on: 'y' },
    ])
    expect((await store.audit.list({ limit: 1 }))[0]?.detail).toEqual({ n: 1 })
  })

  test.each([
    'update audit set "by" = \'eve\'',
    'delete from audit',
    'delete from audit where id = 1',
    'truncate audit',
    "insert or replace into audit (id, at, \"by\", channel, action, \"on\") values (1, 0, 'eve', 'x', 'x', 'x')",
  ])('the database itself refuses to change what stands in the audit: %s', async (statement) => {
    const { store, url } = lab()
    await store.audit.record({ by: 'ada', channel: 'cli', action: 'a', on: 'x' })

    await expect(execute(url, statement)).rejects.toThrow(
      // What is no statement of this database changes nothing either.
      /append-only|syntax error/,
    )

    expect(await store.audit.list({ limit: 9 })).toMatchObject([{ id: 1, by: 'ada' }])
  })
})

describe('opening', () => {
  test('a url of another kind is refused without repeating it', async () => {
    const opened = openStore({ url: 'mysql://user:secret@host/db' })

    await expect(opened).rejects.toThrow(/^the database url must be `sqlite:\/path\/to\/file.db` or/)
  })

  test('no token is in the file in plain text', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'penstock-store-'))
    const file = join(dir, 'a.db')
    const store = await openStore({ url: `sqlite:${file}` })
    await newRun(store)
    const subject = { run: 'acme/web#1', gate: 'g', environment: 'e', commit: 'c', specDigest: 'd', deliverables: [] }
    await store.gates.open('acme/web#1', 'g', 'e', { approvers: ['ada'], quorum: 1, excluded: [] }, subject)

    const plain = [
      (await store.people.createToken('ada', 1000)).token,
      await store.gates.mintToken('acme/web#1', 'g', 'ada', 'cli', 1000),
    ]
    const written = await Promise.all([readFile(file), readFile(`${file}-wal`)])
    await store.close()

    const bytes = Buffer.concat(written).toString('latin1')
    expect(bytes.includes('acme/web#1')).toBe(true)
    for (const token of plain) expect(bytes.includes(token.slice(5))).toBe(false)
    await rm(dir, { recursive: true })
  })
})
