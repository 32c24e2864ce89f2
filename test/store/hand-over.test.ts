import { expect, test } from 'vitest'
import type { HandOverStep, PoolSettings } from '../../src/core/pool/settings.ts'
import type { AcquireResult, Store } from '../../src/store/types.ts'
import { delivery, execute, type Lab, onEveryDatabase, push } from './backend.ts'
import { pool } from './pools.ts'

const ADA = { person: 'ada', channel: 'cli' }
const BEN = { person: 'ben', channel: 'api' }
const HOUR = 3_600_000
const STEP: HandOverStep = { kind: 'http', url: 'http://rig.example/ready', timeoutMs: 1_000 }
const NODE = 'node-1'

function ask(store: Store, holder: string, over: Partial<Parameters<Store['leases']['acquire']>[0]> = {}) {
  return store.leases.acquire({
    ...{ holder, run: holder.split('/')[0] ?? '', workflowId: holder, party: 'acme/web' },
    ...{ requests: [{ pool: 'rig', count: 1, labels: [] }], priority: 0, ttlMs: 100 * HOUR },
    ...over,
  })
}

async function unitOf({ store }: Lab, name = 'r1') {
  const unit = (await store.leases.list()).units.find((one) => one.unit === name)
  if (unit === undefined) throw new Error(`there is no unit ${name}`)
  return unit
}

async function signals({ store }: Lab): Promise<string[]> {
  const rows = await store.outbox.pending()
  return rows.flatMap(({ message }) => {
    if (message.kind === 'care') return [`care ${message.pool}/${message.unit}`]
    return message.kind === 'signal' ? [`${message.signal} ${message.workflowId}`] : []
  })
}

function configure({ store }: Lab, settings: Partial<PoolSettings> = {}, capacity = 1) {
  return store.units.configure([pool('rig', { r1: { capacity } }, settings)])
}

const kinds = (answers: readonly AcquireResult[]) => answers.map(({ kind }) => kind)

await onEveryDatabase((lab) => {
  // -------------------------------------------------------------- the holder's container is proved gone

  test('a unit whose holder has been at work is given on when nothing of it runs any more, not before', async () => {
    const { store } = lab()
    await configure(lab())
    await ask(store, 'one/a')
    expect(await store.leases.heard('one/a', NODE)).toBe(true)
    await ask(store, 'two/a')

    await store.leases.release(['one/a'], { outcome: 'errored' })
    const meanwhile = await ask(store, 'two/a')
    const unproved = await store.leases.unproved()
    await store.leases.proveGone('one/a')

    expect(meanwhile).toMatchObject({
      kind: 'queued',
      sentence: expect.stringContaining('it is not proved that the container of one/a is gone'),
    })
    expect(unproved).toEqual([expect.objectContaining({ holder: 'one/a', node: NODE })])
    expect(await ask(store, 'two/a')).toMatchObject({ kind: 'granted', leases: [{ fence: 2 }] })
    expect(await store.leases.history('rig', 10)).toMatchObject([{ unit: 'r1', holder: 'one/a', outcome: 'errored' }])
  })

  test('who never came to a node, and who is proved gone with his end, leaves the unit free at once', async () => {
    const { store } = lab()
    await configure(lab())

    await ask(store, 'one/a')
    await store.leases.release(['one/a'])
    const second = await ask(store, 'two/a')
    await store.leases.heard('two/a', NODE)
    await store.leases.release(['two/a'], { isGone: true })

    expect(second.kind).toBe('granted')
    expect((await unitOf(lab())).leases).toEqual([])
  })

  test('an end that is told again, late, or by the sweep proves nothing', async () => {
    const { store } = lab()
    await configure(lab())
    await ask(store, 'one/a')
    await store.leases.heard('one/a', NODE)

    await store.leases.release(['one/a'])
    await store.leases.releaseRun('one')
    await store.leases.release(['one/a'])
    await store.leases.proveGone('two/a')
    const heard = await store.leases.heard('one/a', NODE)

    expect(heard).toBe(false)
    expect((await unitOf(lab())).leases).toEqual([expect.objectContaining({ holder: 'one/a' })])
    await store.leases.proveGone('one/a')
    await store.leases.proveGone('one/a')
    expect((await unitOf(lab())).leases).toEqual([])
  })

  test('an attempt that has ended gets nothing more, and takes nothing from the others, however late it asks', async () => {
    const { store } = lab()
    await configure(lab(), {}, 2)
    const told = await store.deliveries.record(delivery(), push('a'))
    const run = told.kind === 'run' ? told.run.id : ''
    const shared = { run, requests: [{ pool: 'rig', count: 1, labels: [], mode: 'shared' as const }] }
    const job = `${run}/e2e/rig/1`
    await ask(store, job, shared)
    await store.leases.heard(job, NODE)
    const at = { stage: 'e2e', job: 'rig', attempt: 1 }
    await store.events.append(run, 'started', [{ type: 'job.started.v1', ...at }])
    await store.events.append(run, 'finished', [{ type: 'job.finished.v1', ...at, outcome: 'errored' }])
    await store.leases.release([job], { outcome: 'errored' })

    const late = await ask(store, job, shared)
    const other = await ask(store, 'other/a', shared)
    await store.leases.proveGone(job)

    expect(late).toEqual({ kind: 'impossible', sentence: `${job} has ended already: errored` })
    // Beside a container that may still be at work nobody is put.
    expect(other.kind).toBe('queued')
    expect((await ask(store, 'other/a', shared)).kind).toBe('granted')
  })

  test('who still holds a place of a unit from an earlier time is not given another one there', async () => {
    const { store } = lab()
    await configure(lab(), {}, 2)
    const shared = { requests: [{ pool: 'rig', count: 1, labels: [], mode: 'shared' as const }] }
    await ask(store, 'one/a', shared)
    await store.leases.heard('one/a', NODE)
    await store.leases.release(['one/a'])

    expect((await ask(store, 'one/a', shared)).kind).toBe('queued')
    await store.leases.release(['two/a'])
    await store.leases.proveGone('one/a')
    expect((await store.leases.list()).units).toMatchObject([{ leases: [] }])
  })

  test('a unit whose last holder is not proved gone is not waited for by who wants the whole pool', async () => {
    const { store } = lab()
    await store.units.configure([pool('rig', { r1: {}, r2: {} })])
    await ask(store, 'lost/a')
    await store.leases.heard('lost/a', NODE)
    await store.leases.release(['lost/a'])

    const big = await ask(store, 'big/a', { requests: [{ pool: 'rig', count: 2, labels: [] }] })
    const small = await ask(store, 'small/a')

    expect([big.kind, small.kind]).toEqual(['queued', 'granted'])
  })

  test('a lease that was taken back is not shown to its holder as granted again', async () => {
    const { store } = lab()
    await configure(lab())
    await ask(store, 'one/a', { run: '' })
    await store.reservations.take(ADA, { id: 't', pool: 'rig', unit: 'r1', reason: 'it smokes', forMs: HOUR })

    expect(await ask(store, 'one/a')).toEqual({
      kind: 'impossible',
      sentence: 'rig/r1 was taken by ada: it smokes',
    })
  })

  test('a unit that was taken out of the file while it was to be reset is reset when it is put back', async () => {
    const { store } = lab()
    await configure(lab(), { reset: STEP, probe: STEP })
    const care = await store.units.care('rig', 'r1')
    if (care.kind === 'try') await store.units.cared(care, undefined)
    await ask(store, 'one/a')
    await store.units.configure([pool('rig', {}, { reset: STEP, probe: STEP })])
    await store.leases.release(['one/a'], { isGone: true })

    await configure(lab(), { reset: STEP, probe: STEP })

    expect((await unitOf(lab())).phase).toBe('resetting')
  })

  test('a unit whose holder ends while its pool is out of the file is reset when the pool is back', async () => {
    const { store } = lab()
    await configure(lab(), { reset: STEP })
    await ask(store, 'one/a')
    await store.units.configure([])
    await store.leases.release(['one/a'], { isGone: true })

    await configure(lab(), { reset: STEP })
    expect((await unitOf(lab())).phase).toBe('resetting')
    await store.units.configure([])
    await configure(lab())

    expect((await unitOf(lab())).phase).toBe('clearing')
  })

  test('a pool that loses its reset and probe frees what is on its way, or broken, when nothing of that runs any more', async () => {
    const { store } = lab()
    const settings = { privileged: false, warnMs: 60_000, probeEveryMs: 60_000 }
    await store.units.putPool(ADA, 'own', { ...settings, probe: STEP })
    await store.units.putUnit(ADA, 'own', 'u1', { labels: [], properties: {}, capacity: 1, resetCostMs: 0 })
    for (let nth = 0; nth < 3; nth++) {
      const care = await store.units.care('own', 'u1')
      if (care.kind === 'try') await store.units.cared(care, 'no answer')
      lab().clock.now += 5_000
    }
    lab().clock.now += 60_000
    const last = await store.units.care('own', 'u1')
    if (last.kind !== 'try') throw new Error('it is not tried again')
    expect(await store.units.isWanted(last)).toBe(true)

    await store.units.putPool(ADA, 'own', settings)

    expect(await store.units.isWanted(last)).toBe(false)
    // Whoever is at it by the old settings decides nothing any more.
    await store.units.cared(last, 'no answer')
    const care = await store.units.care('own', 'u1')
    expect(care).toMatchObject({ kind: 'try', phase: 'clearing' })
    if (care.kind === 'try') await store.units.cared(care, undefined)
    const unit = (await store.leases.inventory()).units.find((one) => one.unit === 'u1')
    expect(unit).toMatchObject({ phase: 'ready' })
    expect(unit?.quarantined).toBeUndefined()
  })

  test('units that people have added go with the pool of the file', async () => {
    const { store } = lab()
    await configure(lab(), { probe: STEP })
    await store.units.putUnit(ADA, 'rig', 'own', { labels: ['own'], properties: {}, capacity: 1, resetCostMs: 0 })
    const own = { requests: [{ pool: 'rig', count: 1, labels: ['own'] }] }
    await ask(store, 'one/a', own)

    await store.units.configure([])

    expect((await ask(store, 'one/a', own)).kind).toBe('impossible')
    expect(await store.units.caredFor()).toEqual([])
  })

  test('a unit in maintenance is left alone by reset and probe, and goes on with them after it', async () => {
    const { store } = lab()
    await configure(lab(), { probe: STEP })
    await store.units.setService(ADA, 'rig', 'r1', 'maintenance', 'in parts')
    const meanwhile = [await store.units.care('rig', 'r1'), await store.units.caredFor()]

    await store.units.setService(ADA, 'rig', 'r1', 'in_service', '')

    expect(meanwhile).toEqual([{ kind: 'nothing' }, []])
    expect(await store.units.care('rig', 'r1')).toMatchObject({ kind: 'try', phase: 'probing' })
  })

  test('a clock that was set back does not make a unit wait as long as it was wrong', async () => {
    const { store, clock } = lab()
    await configure(lab(), { probe: STEP })

    clock.now -= 24 * HOUR

    expect(await store.units.care('rig', 'r1')).toEqual({ kind: 'wait', ms: 5_000 })
  })

  test('nobody stops somebody for a unit that his share does not let him have; what is handed over frees a share', async () => {
    const { store } = lab()
    await store.units.configure([pool('rig', { r1: {}, r2: {} }, { share: 1 })])
    const one = { request: { pool: 'rig', count: 1, labels: [] }, forMs: HOUR }
    await store.reservations.ask(ADA, { id: 'a1', ...one })
    await ask(store, 'one/a')

    const refused = await store.reservations.take(ADA, {
      id: 't',
      pool: 'rig',
      unit: 'r2',
      reason: 'mine',
      forMs: HOUR,
    })
    await store.leases.release(['one/a'], { isGone: true })
    await store.reservations.ask(ADA, { id: 'a2', ...one })
    await store.reservations.handOver(ADA, 'a1', 'ben')

    expect(refused).toMatchObject({ why: expect.stringContaining('you hold 1 of pool "rig"') })
    expect(await store.reservations.get('a2')).toMatchObject({ state: 'held' })
  })

  test('a person vouches for a unit whose last holder cannot be proved gone', async () => {
    const { store } = lab()
    await configure(lab())
    await ask(store, 'one/a')
    await store.leases.heard('one/a', NODE)
    await store.leases.release(['one/a'])

    await store.units.clear(ADA, 'rig', 'r1', 'the node was scrapped')

    expect((await ask(store, 'two/a')).kind).toBe('granted')
    const entries = await store.audit.list({ after: 0, limit: 10 })
    expect(entries).toMatchObject([{ action: 'unit.cleared', by: 'ada', on: 'rig/r1' }])
  })

  test('a unit that is cleared while its reset is at work is free when that has ended, not before', async () => {
    const { store } = lab()
    await configure(lab(), { reset: STEP })
    await ask(store, 'one/a')
    await store.leases.release(['one/a'], { isGone: true })
    const reset = await store.units.care('rig', 'r1')
    if (reset.kind !== 'try') throw new Error(reset.kind)
    await ask(store, 'two/a')
    const before = await store.units.isWanted(reset)

    await store.units.clear(ADA, 'rig', 'r1', 'it works by hand')
    const during = await ask(store, 'two/a')
    const phase = (await unitOf(lab())).phase
    const wanted = await store.units.isWanted(reset)
    // What the reset says of itself after that is nothing any more.
    await store.units.cared(reset, undefined)
    await store.units.strand(reset, 'node n2 cannot be reached')
    const late = await ask(store, 'two/a')
    const clearing = await store.units.care('rig', 'r1')
    if (clearing.kind !== 'try') throw new Error(clearing.kind)
    await store.units.cared(clearing, undefined)

    expect([before, phase, wanted, clearing.phase]).toEqual([true, 'clearing', false, 'clearing'])
    expect(during).toMatchObject({
      kind: 'queued',
      sentence: expect.stringContaining('r1 is free when what is left of its hand-over has ended'),
    })
    expect(late.kind).toBe('queued')
    expect((await ask(store, 'two/a')).kind).toBe('granted')
  })

  test('a reset out of reach is seen as a quarantine, and goes on by itself when it can be reached', async () => {
    const { store, clock } = lab()
    await store.units.configure([pool('rig', { r1: {}, r2: {} }, { reset: STEP })])
    await ask(store, 'one/a', { requests: [{ pool: 'rig', count: 1, labels: [], where: 'unit == "r1"' }] })
    await store.leases.release(['one/a'], { isGone: true })
    await ask(store, 'big/a', { requests: [{ pool: 'rig', count: 2, labels: [] }] })
    const reset = await store.units.care('rig', 'r1')
    if (reset.kind !== 'try') throw new Error(reset.kind)
    const before = await ask(store, 'small/a')

    await store.units.strand(reset, 'node n2, where its container may still run, cannot be reached')
    await store.units.strand(reset, 'node n2, where its container may still run, cannot be reached')
    const seen = (await unitOf(lab())).quarantined
    const after = await ask(store, 'small/a')
    const pause = await store.units.care('rig', 'r1')
    clock.now += 10_000
    const again = await store.units.care('rig', 'r1')
    await store.units.cared(reset, undefined)

    // It no longer counts as coming: what the big one kept back for it goes to the others.
    expect([before.kind, after.kind]).toEqual(['queued', 'granted'])
    expect(seen).toBe('its reset: node n2, where its container may still run, cannot be reached')
    expect(pause).toEqual({ kind: 'wait', ms: 10_000 })
    expect(again).toMatchObject({ kind: 'try', phase: 'resetting', number: reset.number })
    expect(await unitOf(lab())).toMatchObject({ phase: 'ready' })
    expect((await unitOf(lab())).quarantined).toBeUndefined()
    const actions = (await store.audit.list({ after: 0, limit: 10 })).map(({ action }) => action)
    expect(actions).toEqual(['unit.quarantined', 'unit.cleared'])
  })

  test('a person who was shown that a reset is out of reach may take it for gone', async () => {
    const { store } = lab()
    await configure(lab(), { reset: STEP })
    await ask(store, 'one/a')
    await store.leases.release(['one/a'], { isGone: true })
    const reset = await store.units.care('rig', 'r1')
    if (reset.kind !== 'try') throw new Error(reset.kind)
    await store.units.strand(reset, 'node n2 cannot be reached')

    await store.units.clear(ADA, 'rig', 'r1', 'n2 was scrapped')

    expect((await ask(store, 'two/a')).kind).toBe('granted')
  })

  // -------------------------------------------------------------- reset and probe

  test('a unit is reset, then probed, then free; each step once, whoever asks', async () => {
    const { store } = lab()
    await configure(lab(), { reset: STEP, probe: STEP })
    const first = await store.units.care('rig', 'r1')
    if (first.kind === 'try') await store.units.cared(first, undefined)
    await ask(store, 'one/a')
    await ask(store, 'two/a')
    await store.leases.release(['one/a'], { isGone: true })

    const reset = await store.units.care('rig', 'r1')
    const again = await store.units.care('rig', 'r1')
    if (reset.kind !== 'try') throw new Error(reset.kind)
    await store.units.cared(reset, undefined)
    const probe = await store.units.care('rig', 'r1')
    const late = await ask(store, 'two/a')
    // What was told twice counts once: it must not pass for the probe.
    await store.units.cared(reset, undefined)
    const stillProbing = (await unitOf(lab())).phase
    if (probe.kind !== 'try') throw new Error(probe.kind)
    await store.units.cared(probe, undefined)

    expect(first).toMatchObject({ kind: 'try', phase: 'probing' })
    expect([reset, again]).toEqual([reset, reset])
    expect([reset.phase, probe.phase, stillProbing, late.kind]).toEqual(['resetting', 'probing', 'probing', 'queued'])
    expect(await ask(store, 'two/a')).toMatchObject({ kind: 'granted', leases: [{ fence: 2 }] })
    expect(await signals(lab())).toEqual(['care rig/r1', 'care rig/r1', 'granted two/a'])
  })

  test('repeated failures quarantine a unit, with the reason; the next probe that passes frees it', async () => {
    const { store, clock } = lab()
    await configure(lab(), { reset: STEP, probe: STEP })
    const fail = async (why: string) => {
      const care = await store.units.care('rig', 'r1')
      if (care.kind !== 'try') throw new Error(care.kind)
      await store.units.cared(care, why)
    }
    const pass = async () => {
      const care = await store.units.care('rig', 'r1')
      if (care.kind === 'try') await store.units.cared(care, undefined)
      return care.kind === 'try' ? care.phase : care.kind
    }
    await ask(store, 'one/a')

    await fail('exit code 1: no answer')
    const pause = await store.units.care('rig', 'r1')
    clock.now += 5_000
    await fail('exit code 1: no answer')
    clock.now += 5_000
    const before = await unitOf(lab())
    await fail('exit code 1: no answer')
    const broken = await unitOf(lab())
    const waiting = await ask(store, 'one/a')
    const tooEarly = await pass()
    clock.now += 60_000
    const tries = [await pass(), await pass()]

    expect(pause).toEqual({ kind: 'wait', ms: 5_000 })
    expect(before.quarantined).toBeUndefined()
    expect(broken.quarantined).toBe('its reset failed 3 times: exit code 1: no answer')
    expect(waiting).toMatchObject({ sentence: expect.stringContaining('r1 is quarantined: its reset failed 3 times') })
    expect(tooEarly).toBe('wait')
    // What failed to be reset is reset, and not only asked.
    expect(tries).toEqual(['resetting', 'probing'])
    expect((await unitOf(lab())).quarantined).toBeUndefined()
    expect((await ask(store, 'one/a')).kind).toBe('granted')
    const actions = (await store.audit.list({ after: 0, limit: 10 })).map(({ action }) => action)
    expect(actions).toEqual(['unit.quarantined', 'unit.cleared'])
  })

  test('a shared unit is reset when its last holder has left', async () => {
    const { store } = lab()
    await configure(lab(), { reset: STEP }, 2)
    const shared = { requests: [{ pool: 'rig', count: 1, labels: [], mode: 'shared' as const }] }
    const answers = [await ask(store, 'a/1', shared), await ask(store, 'b/1', shared), await ask(store, 'c/1', shared)]

    await store.leases.release(['a/1'], { isGone: true })
    const after = await ask(store, 'c/1', shared)
    const phase = (await unitOf(lab())).phase
    await store.leases.release(['b/1', 'c/1'], { isGone: true })

    expect(kinds(answers)).toEqual(['granted', 'granted', 'queued'])
    expect([after.kind, phase]).toEqual(['granted', 'ready'])
    expect((await unitOf(lab())).phase).toBe('resetting')
  })

  test('of what has been held a pool keeps the newest thousand, and nothing older than a year', async () => {
    const { store, clock } = lab()
    await store.units.configure([pool('rig', { r1: {} }), pool('old', { o1: {} })])
    const hold = async (name: string, holder: string) => {
      await ask(store, holder, { run: '', requests: [{ pool: name, count: 1, labels: [] }] })
      await store.leases.release([holder], { isGone: true })
      clock.now += 1_000
    }
    await hold('old', 'old/a')
    clock.now += 365 * 24 * HOUR
    await hold('old', 'old/b')
    const rows = Array.from({ length: 1_100 }, (_, number) => {
      const ended = clock.now + Math.floor(number / 2)
      return `(${1_000 + number}, 'rig', 'r1', 'one/${number}', 'acme/web', 0, 0, ${ended})`
    })
    const columns = 'id, pool, unit, holder, party, asked_at, since, ended_at'
    await execute(lab().url, `insert into holds (${columns}) values ${rows.join()}`)

    await store.leases.pruneHistory()
    await store.leases.pruneHistory()

    const kept = (await store.leases.history('rig', 5_000)).map(({ holder }) => holder)
    expect([kept.length, kept[0], kept.at(-1)]).toEqual([1_000, 'one/1099', 'one/100'])
    expect((await store.leases.history('old', 10)).map(({ holder }) => holder)).toEqual(['old/b'])
  })

  // -------------------------------------------------------------- silence, and the longest time

  test('a silent node keeps what its jobs hold; that the server was away is nobody’s silence', async () => {
    const { store, clock } = lab()
    await configure(lab(), {}, 2)
    const shared = { requests: [{ pool: 'rig', count: 1, labels: [], mode: 'shared' as const }] }
    await ask(store, 'a/1', shared)
    await store.leases.heard('a/1', NODE)
    const upSince = clock.now
    const look = (since = upSince) => store.leases.watch({ upSince: since, graceMs: 60_000, silentMs: 45_000 })

    clock.now += 2 * HOUR
    const afterRestart = [await look(clock.now), await look(clock.now - 61_000)]
    const silent = await look(clock.now - HOUR)
    const meanwhile = await ask(store, 'b/1', shared)
    const quarantined = (await unitOf(lab())).quarantined
    await store.leases.heard('a/1', NODE)

    expect(afterRestart).toEqual([[], [{ holder: 'a/1', what: 'silent' }]])
    expect(silent).toEqual([])
    expect(meanwhile).toMatchObject({ kind: 'queued', sentence: expect.stringContaining('the node of a/1 is silent') })
    expect(quarantined).toContain('the node of a/1 is silent')
    expect((await ask(store, 'b/1', shared)).kind).toBe('granted')
    expect((await unitOf(lab())).leases).toHaveLength(2)
  })

  test('who holds a unit for too long is warned, told to stop, and keeps it until he has', async () => {
    const { store, clock } = lab()
    await configure(lab(), { maxHoldMs: HOUR, warnMs: 600_000 })
    const told = await store.deliveries.record(delivery(), push('a'))
    const run = told.kind === 'run' ? told.run.id : ''
    const job = `${run}/e2e/rig/1`
    const granted = await ask(store, job, { run })
    const upSince = clock.now
    const look = () => store.leases.watch({ upSince, graceMs: 60_000, silentMs: 10 * HOUR })
    await store.leases.heard(job, NODE)

    clock.now += HOUR - 600_001
    const before = await look()
    clock.now += 1
    const warned = [await look(), await look()]
    clock.now += 600_000
    const revoked = [await look(), await look()]
    const heard = await store.leases.heard(job, NODE)

    expect(granted).toMatchObject({ leases: [{ expiresAt: upSince + HOUR }] })
    expect([before, ...warned, ...revoked].map((seen) => seen.map(({ what }) => what))).toEqual([
      ...[[], ['warned'], [], ['revoked'], []],
    ])
    expect(heard).toBe(false)
    expect((await signals(lab())).filter((one) => one.startsWith('revoked'))).toEqual([`revoked ${job}`])
    const events = (await store.events.of(run)).map(({ event }) => event.type)
    expect(events.filter((type) => type.startsWith('lease.'))).toEqual(['lease.warned.v1', 'lease.revoked.v1'])
    expect((await unitOf(lab())).leases).toMatchObject([{ holder: job, revoked: expect.stringContaining('60 min') }])
  })

  test('no repository holds more than its share, and what is more than that is refused at once', async () => {
    const { store } = lab()
    await store.units.configure([pool('rig', { r1: {}, r2: {}, r3: {} }, { share: 2 })])
    const answers = [await ask(store, 'a/1'), await ask(store, 'b/1'), await ask(store, 'c/1')]
    const other = await ask(store, 'd/1', { party: 'acme/api' })
    const many = await ask(store, 'e/1', { requests: [{ pool: 'rig', count: 3, labels: [] }] })

    expect(kinds(answers)).toEqual(['granted', 'granted', 'queued'])
    expect(answers[2]).toMatchObject({ sentence: expect.stringContaining('acme/web holds 2 of the 2 that it may') })
    expect(other.kind).toBe('granted')
    expect(many).toMatchObject({ kind: 'impossible', sentence: expect.stringContaining('more than 2 of pool "rig"') })
  })

  // -------------------------------------------------------------- maintenance

  test('a drained unit ends with its holder and rests in maintenance; in service it is given on again', async () => {
    const { store } = lab()
    await configure(lab())
    await ask(store, 'one/a')

    const refused = await store.units.setService(ADA, 'rig', 'r1', 'maintenance', 'new cable')
    await store.units.setService(ADA, 'rig', 'r1', 'draining', 'new cable')
    const waiting = await ask(store, 'two/a')
    await store.leases.release(['one/a'], { isGone: true })
    const drained = (await unitOf(lab())).service
    const stillWaiting = await ask(store, 'two/a')
    await store.units.setService(ADA, 'rig', 'r1', 'in_service', '')

    expect(refused).toEqual({ kind: 'refused', why: 'rig/r1 is held by one/a: drain it, or take it' })
    expect(waiting).toMatchObject({ sentence: expect.stringContaining('r1 is given to nobody more: new cable') })
    expect(drained).toEqual({ kind: 'maintenance', by: 'ada', reason: 'new cable' })
    expect(stillWaiting).toMatchObject({ sentence: expect.stringContaining('r1 is in maintenance: new cable') })
    expect(await signals(lab())).toEqual(['granted two/a'])
  })

  test('pools and units that people keep by the API stay when the file is read again; those of the file are its own', async () => {
    const { store } = lab()
    await configure(lab())
    const settings = { labels: [], properties: { memory: 4 }, capacity: 1, resetCostMs: 0 }

    const own = await store.units.putUnit(ADA, 'rig', 'r9', settings)
    const fromFile = await store.units.putUnit(ADA, 'rig', 'r1', settings)
    const nowhere = await store.units.putUnit(ADA, 'gpu', 'g1', settings)
    await store.units.putPool(ADA, 'gpu', { privileged: false, warnMs: 0, probeEveryMs: 60_000 })
    await store.units.putUnit(ADA, 'gpu', 'g1', settings)
    const waiting = await ask(store, 'a/1', { requests: [{ pool: 'gpu', count: 2, labels: [] }] })
    await configure(lab())
    const units = (await store.leases.list()).units.map((unit) => `${unit.pool}/${unit.unit}`)
    await store.units.removeUnit(ADA, 'gpu', 'g1')
    const gone = await ask(store, 'b/1', { requests: [{ pool: 'gpu', count: 1, labels: [] }] })

    expect(own).toBeUndefined()
    expect(fromFile).toMatchObject({ why: expect.stringContaining("is in the operator's file") })
    expect(nowhere).toMatchObject({ why: 'there is no pool "gpu"; there are: rig' })
    expect(waiting.kind).toBe('impossible')
    expect(units).toEqual(['gpu/g1', 'rig/r1', 'rig/r9'])
    expect(gone.kind).toBe('impossible')
  })

  // -------------------------------------------------------------- people

  test('a person waits in the same queue as jobs, and holds until his time is over', async () => {
    const { store, clock } = lab()
    await configure(lab())
    await ask(store, 'one/a')
    const wish = { id: 'res-1', request: { pool: 'rig', count: 1, labels: [] }, forMs: HOUR, note: 'the flaky test' }

    const asked = await store.reservations.ask(ADA, wish)
    const again = await store.reservations.ask(ADA, wish)
    await ask(store, 'two/a')
    await store.leases.release(['one/a'], { isGone: true })
    const held = await store.reservations.get('res-1')
    clock.now += 30 * 60_000
    const extended = await store.reservations.extend(ADA, 'res-1', HOUR)
    const tooLong = await store.reservations.extend(ADA, 'res-1', 9 * HOUR)
    clock.now += HOUR
    // The server is just up again: who could not extend his time meanwhile gets some more.
    const early = await store.leases.watch({ upSince: clock.now - 30_000, graceMs: 60_000, silentMs: HOUR })
    const seen = await store.leases.watch({ upSince: clock.now - 2 * HOUR, graceMs: 60_000, silentMs: HOUR })

    expect(asked).toMatchObject({ state: 'waiting', position: 1, sentence: expect.stringContaining('held by one/a') })
    expect(again).toEqual(asked)
    expect(held).toMatchObject({ state: 'held', leases: [{ unit: 'r1', fence: 2 }] })
    expect(extended).toMatchObject({ leases: [{ expiresAt: clock.now }] })
    expect(tooLong).toMatchObject({ why: expect.stringContaining('longer than 480 minutes') })
    expect([early, seen]).toEqual([[], [{ holder: 'person:ada/res-1', what: 'expired' }]])
    expect(await store.reservations.get('res-1')).toMatchObject({ state: 'ended', why: 'its time was over' })
    expect((await ask(store, 'two/a')).kind).toBe('granted')
  })

  test('people whose time ends at the same moment leave at once: the unit they share is handed over, once', async () => {
    const { store, clock } = lab()
    await store.units.configure([pool('rig', { r1: { capacity: 2 }, r2: { capacity: 2 } }, { reset: STEP })])
    const wish = (count: number) => ({
      request: { pool: 'rig', count, labels: [], mode: 'shared' as const },
      forMs: HOUR,
    })
    await store.reservations.ask(ADA, { id: 'a', ...wish(2) })
    await store.reservations.ask(BEN, { id: 'b', ...wish(2) })

    clock.now += HOUR
    const seen = await store.leases.watch({ upSince: 0, graceMs: 0, silentMs: HOUR })

    expect(seen.map(({ holder }) => holder).sort()).toEqual(['person:ada/a', 'person:ben/b'])
    expect([(await unitOf(lab())).phase, (await unitOf(lab(), 'r2')).phase]).toEqual(['resetting', 'resetting'])
    expect((await store.leases.history('rig', 10)).length).toBe(4)
    expect(await signals(lab())).toEqual(['care rig/r1', 'care rig/r2'])
  })

  test('a person hands his unit over under a new fencing number, and gives it back', async () => {
    const { store } = lab()
    await configure(lab())
    await store.reservations.ask(ADA, { id: 'r', request: { pool: 'rig', count: 1, labels: [] }, forMs: HOUR })

    const handed = await store.reservations.handOver(ADA, 'r', 'ben')
    const twice = await store.reservations.handOver(ADA, 'r', 'ben')
    const back = await store.reservations.giveBack(BEN, 'r')
    const backAgain = await store.reservations.giveBack(BEN, 'r')

    expect(handed).toMatchObject({ person: 'ben', state: 'held', leases: [{ holder: 'person:ben/r', fence: 2 }] })
    expect(twice).toEqual(handed)
    expect([back, backAgain]).toEqual([back, back])
    expect(back).toMatchObject({ state: 'ended', why: 'given back' })
    expect((await unitOf(lab())).leases).toEqual([])
  })

  test('who takes a unit is next, before all who waited; its holder is told why and stops', async () => {
    const { store } = lab()
    await configure(lab())
    await ask(store, 'one/a', { run: '' })
    await store.leases.heard('one/a', NODE)
    await ask(store, 'two/a', { priority: 50 })

    const wish = { id: 't', pool: 'rig', unit: 'r1', reason: 'it smokes', forMs: HOUR }
    const taken = await store.reservations.take(ADA, wish)
    await store.reservations.take(ADA, wish)
    await store.leases.release(['one/a'], { isGone: true })

    expect(taken).toMatchObject({ state: 'waiting', position: 1 })
    expect(await signals(lab())).toEqual(['revoked one/a'])
    expect(await store.reservations.get('t')).toMatchObject({ state: 'held', leases: [{ unit: 'r1' }] })
    const [entry] = await store.audit.list({ after: 0, limit: 10 })
    expect(entry).toMatchObject({
      action: 'unit.taken',
      by: 'ada',
      detail: { reason: 'it smokes', victims: ['one/a'] },
    })
  })

  test('who waits is told when it will start, as the history of the pool has it', async () => {
    const { store, clock } = lab()
    await configure(lab())
    await ask(store, 'first/a')
    await ask(store, 'second/a')
    const without = await store.leases.expectedStarts()
    for (const [minutes, holder] of [
      [10, 'first/a'],
      [20, 'second/a'],
    ] as const) {
      clock.now += minutes * 60_000
      await store.leases.release([holder], { isGone: true })
    }
    await ask(store, 'one/a')
    clock.now += 60_000
    for (const holder of ['two/a', 'three/a']) await ask(store, holder)

    const minutes = Object.entries(await store.leases.expectedStarts()).map(([holder, { earliest, latest }]) => [
      holder,
      ...[earliest, latest ?? Number.NaN].map((at) => (at - clock.now) / 60_000),
    ])

    expect(without).toEqual({})
    expect(minutes).toEqual([
      ['two/a', 9, 19],
      ['three/a', 19, 39],
    ])
  })

  test('after a restart of everything: the same leases, the same order of who waits', async () => {
    const { store, another } = lab()
    await configure(lab())
    await ask(store, 'one/a')
    for (const holder of ['two/a', 'three/a', 'four/a']) await ask(store, holder)
    const before = await store.leases.list()

    const later = await another()
    await later.units.configure([pool('rig', { r1: {} })])

    expect(await later.leases.list()).toEqual(before)
  })

  test('a change of the file is told to all who wait for what will not come, people too', async () => {
    const { store } = lab()
    await store.units.configure([pool('rig', { r1: {}, r2: { labels: ['camera'] } })])
    const camera = { pool: 'rig', count: 1, labels: ['camera'] }
    await ask(store, 'one/a', { requests: [camera] })
    await ask(store, 'two/a', { requests: [camera] })
    await store.reservations.ask(ADA, { id: 'r', request: camera, forMs: HOUR })

    await configure(lab())

    expect(await signals(lab())).toEqual(['granted two/a'])
    expect(await ask(store, 'two/a')).toMatchObject({ kind: 'impossible' })
    const why = expect.stringContaining('no units can ever serve 1 of pool "rig" with camera')
    expect(await store.reservations.get('r')).toMatchObject({ state: 'ended', why })
  })
})
