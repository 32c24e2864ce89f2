import { setImmediate } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { type Admitted, admit } from '../../src/core/admission.ts'
import type { Subject } from '../../src/core/approval.ts'
import type { Trigger } from '../../src/core/change.ts'
import type { RunEvent } from '../../src/core/events.ts'
import type { Plan } from '../../src/core/plan.ts'
import type { Store } from '../../src/store/types.ts'
import { commit, newRun, onEveryDatabase, push } from './backend.ts'

const RUN = 'acme/web#1'
const job = { stage: 'test', job: 'unit', attempt: 1 }
const IMAGE = { name: 'web', digest: 'sha256:1', reference: 'sha256:1' }

async function end(store: Store, outcome: 'failed' | 'succeeded' | 'errored' | 'canceled', attempt = 1) {
  await store.events.append(RUN, `end/${attempt}`, [
    { type: 'run.started.v1', try: attempt },
    { type: 'run.finished.v1', try: attempt, outcome },
  ])
}

await onEveryDatabase((lab) => {
  test('events are kept in order, without a gap, once by key', async () => {
    const { store, another } = lab()
    await newRun(store)
    const other = await another()

    const appends = Array.from({ length: 30 }, (_, i): [string, RunEvent[]] => [
      `k${i % 15}`,
      [
        { type: 'stage.started.v1', stage: `s${i % 15}`, attempt: 1 },
        { type: 'stage.finished.v1', stage: `s${i % 15}`, attempt: 1, outcome: 'succeeded' },
      ],
    ])
    await Promise.all(appends.map(([key, events], i) => (i % 2 ? store : other).events.append(RUN, key, events)))

    const events = await store.events.of(RUN)
    expect(events.map((row) => row.seq)).toEqual(Array.from({ length: 31 }, (_, i) => i + 1))
    for (let i = 1; i < 31; i += 2)
      expect(events[i + 1]?.event).toMatchObject({ ...events[i]?.event, type: 'stage.finished.v1' })
    expect(await store.events.of(RUN, 29)).toEqual(events.slice(29))
  })

  test('a reader that follows positions never misses an event that was committed late', async () => {
    const { store, another } = lab()
    const other = await another()
    await newRun(store)
    await newRun(store, push('b', 'a'))
    const seen: number[] = []
    let cursor = 0
    const follow = async () => {
      // SQLite answers without a pause: the writers need one.
      await setImmediate()
      for (const row of await other.events.since(cursor, 7)) {
        seen.push(row.position)
        cursor = row.position
      }
    }

    const writers = Array.from({ length: 60 }, (_, i) =>
      (i % 3 === 0 ? other : store).events.append(`acme/web#${(i % 2) + 1}`, `k${i}`, [
        { type: 'stage.reused.v1', stage: `s${i}` },
      ]),
    )
    let writing = true
    const all = Promise.all(writers).then(() => {
      writing = false
    })
    while (writing) await follow()
    await all
    while (seen.length < 62) await follow()

    expect(seen).toEqual(Array.from({ length: 62 }, (_, i) => i + 1))
  })

  test('events of an unknown run are refused', async () => {
    await expect(
      lab().store.events.append('acme/web#9', 'k', [{ type: 'stage.reused.v1', stage: 's' }]),
    ).rejects.toThrow('the run acme/web#9 is unknown')
  })

  test('attempts are derived from events, with node, service, exit code and times', async () => {
    const { store, clock } = lab()
    await newRun(store)
    const started = clock.now
    await store.events.append(RUN, '1', [
      { type: 'stage.started.v1', stage: 'test', attempt: 1 },
      { type: 'job.started.v1', ...job },
      { type: 'job.placed.v1', ...job, node: 'n1', service: 'pst-1', container: 'c1' },
      { type: 'step.started.v1', ...job, step: 0, name: 'pytest' },
    ])

    clock.now += 5000
    await store.events.append(RUN, '2', [
      { type: 'step.finished.v1', ...job, step: 0, name: 'pytest', outcome: 'failed', exitCode: 3 },
      { type: 'job.finished.v1', ...job, outcome: 'failed', reason: 'step "pytest" exited with 3' },
      { type: 'job.finished.v1', stage: 'test', job: 'late', attempt: 1, outcome: 'skipped' },
      { type: 'stage.finished.v1', stage: 'test', attempt: 1, outcome: 'failed' },
    ])
    const times = { startedAt: started, finishedAt: clock.now }

    const run = await store.runs.byNumber(1)
    expect(run?.attempts).toEqual([
      { stage: 'test', attempt: 1, outcome: 'failed', ...times },
      {
        ...job,
        outcome: 'failed',
        reason: 'step "pytest" exited with 3',
        node: 'n1',
        service: 'pst-1',
        container: 'c1',
        ...times,
      },
      { ...job, step: 0, name: 'pytest', outcome: 'failed', exitCode: 3, ...times },
      { stage: 'test', job: 'late', attempt: 1, outcome: 'skipped', startedAt: clock.now, finishedAt: clock.now },
    ])
    expect(run?.stage).toBe('test')
  })

  test('an attempt that has ended never changes', async () => {
    const { store, clock } = lab()
    await newRun(store)
    await store.events.append(RUN, '1', [
      { type: 'job.started.v1', ...job },
      { type: 'job.placed.v1', ...job, node: 'n1', service: 'pst-1' },
      { type: 'job.finished.v1', ...job, outcome: 'succeeded' },
    ])
    const before = (await store.runs.byNumber(1))?.attempts

    clock.now += 1000
    await store.events.append(RUN, '2', [
      { type: 'job.started.v1', ...job },
      { type: 'job.placed.v1', ...job, node: 'n2', service: 'pst-2' },
      { type: 'job.finished.v1', ...job, outcome: 'errored', reason: 'lost' },
    ])

    expect((await store.runs.byNumber(1))?.attempts).toEqual(before)
  })

  test('progress is the newest attempt of each stage and job over all tries', async () => {
    const { store } = lab()
    await newRun(store)
    await store.events.append(RUN, '1', [
      { type: 'stage.started.v1', stage: 'test', attempt: 1 },
      { type: 'job.started.v1', ...job },
      { type: 'job.started.v1', ...job, job: 'constructor' },
      { type: 'job.finished.v1', ...job, outcome: 'succeeded' },
      { type: 'job.finished.v1', ...job, job: 'constructor', outcome: 'failed' },
      { type: 'stage.finished.v1', stage: 'test', attempt: 1, outcome: 'failed' },
      { type: 'run.finished.v1', try: 1, outcome: 'failed' },
    ])
    await store.runs.retry(RUN, 1, 'ada')
    await store.events.append(RUN, '2', [
      { type: 'stage.started.v1', stage: 'test', attempt: 2 },
      { type: 'job.started.v1', ...job, job: 'constructor', attempt: 2 },
    ])

    expect((await store.runs.byNumber(1))?.progress).toEqual({
      stages: {
        test: { attempt: 2, jobs: { unit: { attempt: 1, outcome: 'succeeded' }, constructor: { attempt: 2 } } },
      },
      deliverables: [],
    })
  })

  test('a deliverable is what was built first in a try', async () => {
    const { store } = lab()
    await newRun(store)
    const plan = { version: 1, repo: 'acme/web', specDigest: 'd', stages: [] } satisfies Plan
    const job = {
      name: 'p',
      needs: [],
      segments: [],
      env: {},
      secrets: [],
      workdir: '/workspace',
      timeoutSeconds: 1,
      constraints: [],
      pools: [],
    }
    const resources = { cpus: { reserve: 1, limit: 1 }, memory: { reserve: 1, limit: 1 }, pids: 1 }
    const built = {
      kind: 'package',
      name: 'dist',
      files: '*',
      job: { ...job, resources, reports: { junit: [] }, onLost: 'fail' },
    } as const
    await store.runs.setPlan(RUN, { ...plan, stages: [{ kind: 'deliver', name: 'deliver', deliverables: [built] }] })
    await store.events.append(RUN, '1', [
      { type: 'deliverable.built.v1', ...IMAGE },
      { type: 'deliverable.built.v1', name: 'dist', digest: 'sha256:d', reference: 'a.whl' },
    ])
    await store.events.append(RUN, '2', [{ type: 'deliverable.built.v1', ...IMAGE, digest: 'sha256:2' }])

    const first = await store.results.deliverables(RUN)
    await end(store, 'failed')
    await store.runs.retry(RUN, 1, 'ada')
    const kept = await store.results.deliverables(RUN)
    await store.events.append(RUN, '3', [{ type: 'deliverable.built.v1', ...IMAGE, digest: 'sha256:3' }])

    expect(first).toEqual([
      { name: 'dist', kind: 'package', digest: 'sha256:d', reference: 'a.whl' },
      { kind: 'image', ...IMAGE },
    ])
    expect(kept).toEqual(first)
    expect((await store.runs.byNumber(1))?.progress.deliverables).toEqual([
      first[0],
      { ...IMAGE, kind: 'image', digest: 'sha256:3' },
    ])
  })

  test('the status of a run follows its events, and an ended run stays ended', async () => {
    const { store, clock } = lab()
    await newRun(store)
    await store.events.append(RUN, '1', [{ type: 'run.started.v1', try: 1 }])
    const running = await store.runs.byNumber(1)
    await store.runs.setStatus(RUN, 'waiting', {
      stage: 'gate',
      waiting: { kind: 'approval', sentence: 'needs 1 of ada' },
    })
    const waiting = await store.runs.byNumber(1)
    clock.now += 10
    await store.events.append(RUN, '2', [{ type: 'run.finished.v1', try: 1, outcome: 'failed', reason: 'rejected' }])
    await store.runs.setStatus(RUN, 'running', {})
    await store.events.append(RUN, '3', [{ type: 'run.finished.v1', try: 1, outcome: 'succeeded' }])
    const ended = await store.runs.byNumber(1)

    expect(running).toMatchObject({ status: 'running', startedAt: clock.now - 10 })
    expect(waiting).toMatchObject({ status: 'waiting', stage: 'gate', waiting: { sentence: 'needs 1 of ada' } })
    expect(ended).toMatchObject({ status: 'failed', reason: 'rejected', finishedAt: clock.now })
    expect(ended?.waiting).toBeUndefined()
    expect(await store.runs.open()).toEqual([])
  })

  test('a run that nobody has asked about meets no secret, in no try', async () => {
    const { store } = lab()
    await newRun(store)
    await end(store, 'failed')
    await store.runs.retry(RUN, 1, 'ada')

    expect(await store.runs.byNumber(1)).toMatchObject({ try: 2, secrets: 'none' })
  })

  test('a run that waits is started by nothing but the admission of its commit, once', async () => {
    const { store, another } = lab()
    const other = await another()
    const held = admit('pull_request', { origin: 'fork', specChanged: true, approved: false }) as Admitted
    const { change } = await newRun(store, push('a'), held)
    const messages = async () => (await store.outbox.pending()).map(({ message }) => message)

    expect(await store.runs.byNumber(1)).toMatchObject({ status: 'waiting', waiting: { kind: 'admission' } })
    expect([await messages(), await store.runs.open()]).toEqual([[], []])
    expect(await store.runs.retry(RUN, 1, 'ada')).toMatchObject({ why: 'not_ended' })
    expect(await store.runs.admit(RUN, commit('b'), 'ada', 'api')).toBe('another_commit')
    expect(await messages()).toEqual([])
    const answers = await Promise.all([
      store.runs.admit(RUN, change.commit, 'ada', 'api'),
      other.runs.admit(RUN, change.commit, 'ben', 'api'),
    ])
    expect(answers.sort()).toEqual(['admitted', 'not_held'])
    expect(await messages()).toEqual([{ kind: 'start', run: RUN, try: 1, retry: false }])
    expect(await store.runs.byNumber(1)).toMatchObject({ status: 'queued', secrets: 'none' })
    expect((await store.runs.open()).map(({ id }) => id)).toEqual([RUN])
  })

  test('a run that is canceled while it waits has ended, and is not started by a retry', async () => {
    const { store } = lab()
    const held = admit('pull_request', { origin: 'fork', specChanged: true, approved: false }) as Admitted
    const { change } = await newRun(store, push('a'), held)

    expect(await store.runs.requestCancel(RUN, 'ada', 'no')).toBe(true)
    expect(await store.runs.byNumber(1)).toMatchObject({ status: 'canceled', reason: 'canceled by ada: no' })
    expect(await store.runs.retry(RUN, 1, 'ada')).toEqual({ kind: 'refused', why: 'held' })
    expect(await store.outbox.pending()).toEqual([])
    await store.runs.admit(RUN, change.commit, 'ada', 'api')

    expect(await store.runs.byNumber(1)).toMatchObject({ status: 'queued', try: 2, secrets: 'none' })
    expect((await store.outbox.pending()).map(({ message }) => message)).toEqual([
      { kind: 'start', run: RUN, try: 2, retry: true },
    ])
  })

  test('what asks twice for a retry gets one', async () => {
    const { store } = lab()
    await newRun(store)
    await end(store, 'failed')
    await store.runs.retry(RUN, 1, 'ada', 'comment/7')
    await end(store, 'failed', 2)

    expect(await store.runs.retry(RUN, 2, 'ada', 'comment/7')).toEqual({ kind: 'refused', why: 'alreadyRetried' })
    expect(await store.runs.retry(RUN, 2, 'ada', 'comment/8')).toEqual({ kind: 'retried', try: 3 })
  })

  test('a retry is refused unless the run has ended otherwise than well, and only once a try', async () => {
    const { store } = lab()
    await newRun(store)

    const unknown = await store.runs.retry('acme/web#9', 1, 'ada')
    const early = await store.runs.retry(RUN, 1, 'ada')
    await end(store, 'failed')
    const retries = await Promise.all([store.runs.retry(RUN, 1, 'ada'), store.runs.retry(RUN, 1, 'bob')])
    const running = await store.runs.retry(RUN, 2, 'ada')
    await end(store, 'succeeded', 2)
    const passed = await store.runs.retry(RUN, 2, 'ada')

    expect(unknown).toEqual({ kind: 'refused', why: 'unknown' })
    expect(early).toEqual({ kind: 'refused', why: 'not_ended' })
    expect(retries).toEqual([
      { kind: 'retried', try: 2 },
      { kind: 'refused', why: 'alreadyRetried' },
    ])
    expect(running).toEqual({ kind: 'refused', why: 'not_ended' })
    expect(passed).toEqual({ kind: 'refused', why: 'succeeded' })
    const starts = (await store.outbox.pending()).map((row) => row.message)
    expect(starts).toEqual([
      { kind: 'start', run: RUN, try: 1, retry: false },
      { kind: 'start', run: RUN, try: 2, retry: true },
    ])
  })

  test('a report of an earlier try does not end the newer one', async () => {
    const { store } = lab()
    await newRun(store)
    await end(store, 'errored')
    await store.runs.retry(RUN, 1, 'ada')

    await store.events.append(RUN, 'late', [{ type: 'run.finished.v1', try: 1, outcome: 'failed' }])

    expect(await store.runs.byNumber(1)).toMatchObject({ status: 'queued', try: 2 })
  })

  test('the first request to cancel stands, and is told once', async () => {
    const { store } = lab()
    await newRun(store)

    const answers = [
      await store.runs.requestCancel(RUN, 'ada', 'wrong branch'),
      await store.runs.requestCancel(RUN, 'bob', 'me too'),
    ]

    expect(answers).toEqual([true, true])
    expect((await store.runs.byNumber(1))?.cancel).toEqual({ by: 'ada', reason: 'wrong branch' })
    const types = (await store.events.of(RUN)).map((row) => row.event.type)
    expect(types).toEqual(['run.queued.v1', 'run.cancel_requested.v1'])
    expect((await store.outbox.pending()).map((row) => row.message.kind)).toEqual(['start', 'cancel'])
    expect((await store.audit.list({ limit: 9 })).map((row) => [row.by, row.action])).toEqual([['ada', 'run.cancel']])
  })

  test('a run that has ended cannot be canceled, and an undelivered cancel does not reach its retry', async () => {
    const { store } = lab()
    await newRun(store)
    await store.runs.requestCancel(RUN, 'ada', 'wrong branch')
    await end(store, 'canceled')

    const late = await store.runs.requestCancel(RUN, 'bob', 'too late')
    await store.runs.retry(RUN, 1, 'ada')

    expect(late).toBe(false)
    expect((await store.runs.byNumber(1))?.cancel).toBeUndefined()
    expect((await store.outbox.pending()).map((row) => row.message.kind)).toEqual(['start', 'start'])
    expect(await store.runs.requestCancel(RUN, 'bob', 'again')).toBe(true)
  })

  test('releases are the commits to which runs have moved the branch, newest first, whoever else was released', async () => {
    const { store, another } = lab()
    const released = async (trigger: Trigger, branch = 'production') => {
      const { id, change } = await newRun(store, trigger)
      const moved = { type: 'branch.promoted.v1', branch, commit: change.commit } as const
      await store.events.append(id, `promoted/${branch}`, [moved])
      await store.events.append(id, `promoted/${branch}`, [moved])
    }
    expect(await store.runs.releases('acme/web', 'production', 9)).toEqual([])
    const [older, newer] = [await newRun(store, push('a')), push('c', 'b')]
    await released(newer)
    // What was moved last counts, and not which run is the newest.
    const last = { type: 'branch.promoted.v1', branch: 'production', commit: older.change.commit } as const
    await store.events.append(older.id, 'promoted/production', [last])
    await released(push('d', 'c'), 'stable')
    await released({ ...push('e', 'd'), repo: 'acme/api' })
    await newRun(store, push('f', 'e'))

    expect(await store.runs.releases('acme/web', 'production', 9)).toEqual([commit('a'), commit('c')])
    expect(await (await another()).runs.releases('acme/web', 'production', 1)).toEqual([commit('a')])
    expect(await store.runs.releases('acme/web', 'none', 9)).toEqual([])
  })

  test('a list of runs is filtered, newest first, and goes on before a number', async () => {
    const { store } = lab()
    for (const [after, before] of [
      ['b', 'a'],
      ['c', 'b'],
      ['d', 'c'],
    ] as const)
      await newRun(store, push(after, before))
    await newRun(store, { ...push('e', 'd', 'refs/heads/f'), repo: 'acme/api' })
    const numbers = async (query: Parameters<Store['runs']['list']>[0]) =>
      (await store.runs.list(query)).map((run) => run.number)

    expect(await numbers({ limit: 2 })).toEqual([4, 3])
    expect(await numbers({ limit: 2, before: 3 })).toEqual([2, 1])
    expect(await numbers({ limit: 9, repo: 'acme/api' })).toEqual([4])
    expect(await numbers({ limit: 9, ref: 'refs/heads/master' })).toEqual([3, 2, 1])
    expect(await numbers({ limit: 9, status: 'failed' })).toEqual([])
    expect(await store.runs.get('acme/web', 4)).toBeUndefined()
  })

  test('the proof of a log stays with its step, and a complete one stands', async () => {
    const { store } = lab()
    await newRun(store)
    await store.events.append(RUN, '1', [{ type: 'step.started.v1', ...job, step: 0, name: 'a' }])
    const log = { run: RUN, ...job, step: 0 }
    const early = store.runs.recordLog({ ...log, step: 1 }, { kind: 'complete', bytes: 2, lines: 1 })

    await expect(early).rejects.toThrow('has not begun')
    await store.runs.recordLog(log, { kind: 'gap', storedBytes: 1, reason: 'disk full' })
    await store.runs.recordLog(log, { kind: 'complete', bytes: 2, lines: 1 })
    await store.runs.recordLog(log, { kind: 'gap', storedBytes: 1, reason: 'late' })

    expect((await store.runs.byNumber(1))?.attempts[0]?.log).toEqual({ kind: 'complete', bytes: 2, lines: 1 })
  })

  test('a candidate is released when its gate approved exactly this commit and these deliverables', async () => {
    const { store } = lab()
    await newRun(store, push('b', 'a'))
    await store.events.append(RUN, '1', [
      { type: 'run.started.v1', try: 1 },
      { type: 'deliverable.built.v1', ...IMAGE },
    ])
    const subject: Subject = {
      run: RUN,
      gate: 'approval',
      environment: 'production',
      commit: commit('b'),
      specDigest: 'd',
      deliverables: ['web=sha256:1'],
    }
    const rules = { approvers: ['ada'], quorum: 1, excluded: [] }
    const released = () => store.runs.releasedCandidate('acme/web', 'refs/heads/master', commit('b'))
    await store.gates.open(RUN, 'approval', 'production', rules, subject)
    const open = await released()
    const vote = {
      run: RUN,
      gate: 'approval',
      answer: 'approve',
      claimedBy: 'ada',
      channel: 'api',
      trustSignals: true,
    } as const
    await store.gates.vote({ ...vote, key: '1' })

    const approved = await released()
    const otherCommit = await store.runs.releasedCandidate('acme/web', 'refs/heads/master', commit('a'))
    const otherRef = await store.runs.releasedCandidate('acme/web', 'refs/heads/production', commit('b'))
    await store.events.append(RUN, '2', [{ type: 'run.finished.v1', try: 1, outcome: 'failed' }])
    const failed = await released()
    await store.runs.retry(RUN, 1, 'ada')
    await store.events.append(RUN, '3', [{ type: 'run.started.v1', try: 2 }])
    const retried = await released()
    await store.events.append(RUN, '4', [{ type: 'deliverable.built.v1', ...IMAGE, digest: 'sha256:2' }])
    const rebuilt = await released()

    expect(open).toBeUndefined()
    expect(approved).toMatchObject({ number: 1, progress: { deliverables: [{ kind: 'image', ...IMAGE }] } })
    expect([otherCommit, otherRef, failed]).toEqual([undefined, undefined, undefined])
    expect(retried?.number).toBe(1)
    expect(rebuilt).toBeUndefined()
  })

  test('who is behind commits is who was told when runs of them were made, in that repository', async () => {
    const { store } = lab()
    const by = (trigger: Trigger, people: { author?: string; pusher?: string }): Trigger => ({
      ...trigger,
      change: { ...trigger.change, ...people },
    })
    await newRun(store, by(push('a'), { author: 'ada', pusher: 'ben' }))
    await newRun(store, by(push('a', undefined, 'refs/heads/feature'), { pusher: 'cyd' }))
    await newRun(store, by(push('b', 'a'), { pusher: 'dan' }))
    await newRun(store, { ...by(push('a'), { pusher: 'eve' }), repo: 'acme/api' })

    const behind = await store.runs.peopleBehind('acme/web', [commit('a'), commit('c')])

    expect(behind).toHaveLength(2)
    expect(behind).toEqual(expect.arrayContaining([{ author: 'ada', pusher: 'ben' }, { pusher: 'cyd' }]))
    expect(await store.runs.peopleBehind('acme/web', [])).toEqual([])
  })
})
