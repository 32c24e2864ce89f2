import { failedSentence } from '../core/pool/care.ts'
import type { PoolSettings, UnitSettings } from '../core/pool/settings.ts'
import { JOB_SLOTS } from '../core/pool/state.ts'
import type { Database, Writing } from './database.ts'
import { recordAudit } from './database.ts'
import type { Actor, Care, CareResult, Refusal, Units } from './pool-types.ts'
import { changeUnit, firstPhase, grant, judgeAnew, leave, NEW_UNIT, startCare } from './pools/queue.ts'
import { ENVIRONMENT_POOL, isHandedOver, readTables, type Tables, type Unit } from './pools/tables.ts'

/** So often reset or probe may fail before the unit counts as broken. */
const MOST_FAILURES = 3
const TRY_AGAIN_MS = 5_000
/** Between looks for a node that cannot be reached. */
const STRANDED_LOOK_MS = 10_000

export function createUnits(database: Database): Units {
  /** A change that a person makes to one unit: refused, or recorded in the audit. */
  function change(
    by: Actor,
    at: { readonly pool: string; readonly unit: string },
    action: string,
    detail: object,
    act: (tx: Writing, tables: Tables, unit: Unit) => Promise<Refusal | undefined>,
  ): Promise<Refusal | undefined> {
    return database.write(async (tx) => {
      const tables = await readTables(tx.db)
      const unit = findUnit(tables, at.pool, at.unit)
      if (unit === undefined) return noUnit(tables, at.pool, at.unit)
      const refused = await act(tx, tables, unit)
      if (refused !== undefined) return refused
      await recordAudit(tx, { by: by.person, channel: by.channel, action, on: `${at.pool}/${at.unit}`, detail })
      return undefined
    })
  }

  return {
    configure: (pools) =>
      database.write(async (tx) => {
        const before = await readTables(tx.db)
        const { db } = tx
        await db.updateTable('pools').set({ gone: 1 }).where('source', '=', 'file').execute()
        await db
          .updateTable('units')
          .set({ gone: 1 })
          .where('source', '=', 'file')
          .where('pool', 'not like', `${ENVIRONMENT_POOL}%`)
          .where('pool', '!=', JOB_SLOTS)
          .execute()
        for (const { name, units, ...settings } of pools) {
          await storePool(tx, before, name, settings, 'file')
          for (const { name: unit, ...known } of units) {
            await storeUnit(tx, before, { pool: name, unit, settings, source: 'file' }, known)
          }
        }
        await judgeAnew(tx)
      }),

    putPool: (by, pool, settings) =>
      database.write(async (tx) => {
        const tables = await readTables(tx.db)
        if (tables.pools.get(pool)?.source === 'file') return inTheFile(`pool "${pool}"`)
        await storePool(tx, tables, pool, settings, 'api')
        await recordAudit(tx, { by: by.person, channel: by.channel, action: 'pool.put', on: pool, detail: settings })
        await judgeAnew(tx)
        return undefined
      }),

    putUnit: (by, pool, unit, settings) =>
      database.write(async (tx) => {
        const tables = await readTables(tx.db)
        const known = tables.pools.get(pool)
        if (known === undefined) return noPool(tables, pool)
        if (findUnit(tables, pool, unit)?.source === 'file') return inTheFile(`unit "${unit}" of pool "${pool}"`)
        await storeUnit(tx, tables, { pool, unit, settings: known, source: 'api' }, settings)
        const on = `${pool}/${unit}`
        await recordAudit(tx, { by: by.person, channel: by.channel, action: 'unit.put', on, detail: settings })
        await judgeAnew(tx)
        return undefined
      }),

    removeUnit: (by, pool, unit) =>
      change(by, { pool, unit }, 'unit.removed', {}, async (tx, _tables, known) => {
        if (known.source === 'file') return inTheFile(`unit "${unit}" of pool "${pool}"`)
        await changeUnit(tx, pool, unit, { gone: 1 })
        await judgeAnew(tx)
        return undefined
      }),

    removePool: (by, pool) =>
      database.write(async (tx) => {
        const tables = await readTables(tx.db)
        const known = tables.pools.get(pool)
        if (known === undefined) return noPool(tables, pool)
        if (known.source === 'file') return inTheFile(`pool "${pool}"`)
        const held = tables.units.filter((one) => one.pool === pool && one.leases.length > 0)
        if (held.length > 0) {
          const who = held.map(({ unit, leases }) => `${unit} by ${leases.map(({ holder }) => holder).join(', ')}`)
          return refused(`pool "${pool}" is held, ${who.join('; ')}: drain its units, or take them, and try again`)
        }
        await tx.db.updateTable('units').set({ gone: 1 }).where('pool', '=', pool).execute()
        await tx.db.updateTable('pools').set({ gone: 1 }).where('pool', '=', pool).execute()
        await recordAudit(tx, { by: by.person, channel: by.channel, action: 'pool.removed', on: pool })
        await judgeAnew(tx)
        return undefined
      }),

    setService: (by, pool, unit, service, reason) =>
      change(by, { pool, unit }, `unit.${service}`, { reason }, async (tx, _tables, { leases, phase }) => {
        if (service === 'maintenance' && leases.length > 0) {
          const holders = leases.map(({ holder }) => holder).join(', ')
          return refused(`${pool}/${unit} is held by ${holders}: drain it, or take it`)
        }
        const isEmpty = service === 'draining' && leases.length === 0
        await changeUnit(tx, pool, unit, {
          service: isEmpty ? 'maintenance' : service,
          service_by: service === 'in_service' ? null : by.person,
          service_reason: service === 'in_service' || reason === '' ? null : reason,
        })
        // What rested meanwhile goes on.
        if (service === 'in_service' && phase !== 'ready') await startCare(tx, pool, unit, phase)
        await grant(tx)
        return undefined
      }),

    clear: (by, pool, unit, reason) =>
      change(by, { pool, unit }, 'unit.cleared', { reason }, async (tx, tables, { leases, phase, stranded }) => {
        const ended = leases.filter((lease) => lease.ended_at !== null).map(({ holder }) => holder)
        await leave(tx, tables, ended, { isGone: true })
        await changeUnit(tx, pool, unit, { quarantined: null, phase: 'ready', failures: 0, stranded: 0 })
        // A reset that is at work must not be so beside the next holder.
        if (phase !== 'ready' && stranded === 0) await startCare(tx, pool, unit, 'clearing')
        await grant(tx)
        return undefined
      }),

    caredFor: () =>
      database.read(async (db) => {
        const { units } = await readTables(db)
        return units
          .filter((one) => one.phase !== 'ready' && one.gone === 0 && one.service !== 'maintenance')
          .map(({ pool, unit }) => ({ pool, unit }))
      }),

    care: (pool, unit) =>
      database.read(async (db): Promise<Care> => {
        const tables = await readTables(db)
        const known = findUnit(tables, pool, unit)
        const settings = tables.pools.get(pool)
        if (known === undefined || settings === undefined || known.phase === 'ready') return { kind: 'nothing' }
        // In maintenance a person has it in his hands.
        if (known.service === 'maintenance') return { kind: 'nothing' }
        // A clock that was set back must not make a unit wait for as long as it was wrong.
        const longest = known.quarantined === null ? TRY_AGAIN_MS : settings.probeEveryMs
        const ms = Math.min(known.due_at - database.now(), longest)
        if (ms > 0) return { kind: 'wait', ms }
        const { phase, properties, tries, fence } = known
        return { kind: 'try', pool, unit, phase, number: tries, settings, properties, fence }
      }),

    cared: ({ pool, unit, number }, failure) =>
      database.write(async (tx) => {
        const tables = await readTables(tx.db)
        const known = findUnit(tables, pool, unit)
        if (known === undefined || known.phase === 'ready' || known.tries !== number) return
        const settings = tables.pools.get(pool)
        const outcome = failure === undefined ? 'passed' : 'failed'
        const result = JSON.stringify({ at: tx.now, outcome } satisfies CareResult)
        const next = {
          ...{ tries: number + 1, due_at: tx.now, stranded: 0 },
          ...(known.phase === 'resetting' ? { last_reset: result } : {}),
          ...(known.phase === 'probing' ? { last_probe: result } : {}),
        }
        if (failure === undefined) {
          if (known.phase === 'resetting' && settings?.probe !== undefined) {
            await changeUnit(tx, pool, unit, { ...next, phase: 'probing' })
            return
          }
          await changeUnit(tx, pool, unit, { ...next, phase: 'ready', failures: 0, quarantined: null })
          if (known.quarantined !== null) {
            const on = `${pool}/${unit}`
            await recordAudit(tx, { by: 'penstock', channel: 'probe', action: 'unit.cleared', on })
          }
          await grant(tx)
          return
        }
        const failures = known.failures + 1
        const isBroken = failures >= MOST_FAILURES
        const what = known.phase === 'resetting' ? 'reset' : 'probe'
        const reason = failedSentence(what, failures, failure)
        await changeUnit(tx, pool, unit, {
          ...next,
          failures,
          // What was begun on a unit that is broken is begun anew: a reset that failed may have left anything.
          phase: firstPhase(settings),
          due_at: tx.now + (isBroken ? (settings?.probeEveryMs ?? TRY_AGAIN_MS) : TRY_AGAIN_MS),
          ...(isBroken ? { quarantined: reason } : {}),
        })
        if (isBroken && known.quarantined === null) {
          const on = `${pool}/${unit}`
          const detail = { reason }
          await recordAudit(tx, { by: 'penstock', channel: 'probe', action: 'unit.quarantined', on, detail })
        }
        // Who keeps back other units for this one may let them go.
        if (isBroken) await grant(tx)
      }),

    isWanted: ({ pool, unit, number }) =>
      database.read(async (db) => {
        // Asked every second of every unit on its way: so one row, and not all that wait.
        const known = await db
          .selectFrom('units')
          .innerJoin('pools', 'pools.pool', 'units.pool')
          .select(['units.phase', 'units.tries', 'units.service'])
          .where('units.pool', '=', pool)
          .where('units.unit', '=', unit)
          .where('units.gone', '=', 0)
          .where('pools.gone', '=', 0)
          .executeTakeFirst()
        if (known === undefined || known.service === 'maintenance') return false
        return known.phase !== 'ready' && known.tries === number
      }),

    strand: ({ pool, unit, number }, why) =>
      database.write(async (tx) => {
        const known = findUnit(await readTables(tx.db), pool, unit)
        if (known === undefined || known.phase === 'ready' || known.tries !== number) return
        const what = { resetting: 'its reset', probing: 'its probe', clearing: 'its hand-over' }[known.phase]
        const reason = `${what}: ${why}`
        await changeUnit(tx, pool, unit, { stranded: 1, quarantined: reason, due_at: tx.now + STRANDED_LOOK_MS })
        if (known.quarantined === reason) return
        await recordAudit(tx, {
          ...{ by: 'penstock', channel: 'probe', action: 'unit.quarantined', on: `${pool}/${unit}` },
          detail: { reason },
        })
        // Who keeps back other units for this one may let them go.
        await grant(tx)
      }),
  }
}

async function storePool(
  tx: Writing,
  before: Tables,
  pool: string,
  settings: PoolSettings,
  source: 'file' | 'api',
): Promise<void> {
  const now = { settings: JSON.stringify(settings), source, gone: 0 }
  await tx.db
    .insertInto('pools')
    .values({ pool, ...now })
    .onConflict((conflict) => conflict.column('pool').doUpdateSet(now))
    .execute()
  if (firstPhase(settings) !== 'ready') return
  // What is on its way is free when nothing of that runs any more: nobody would finish a hand-over without steps.
  for (const one of before.units) {
    if (one.pool !== pool || !isOnItsWay(one)) continue
    await changeUnit(tx, pool, one.unit, { quarantined: null })
    await startCare(tx, pool, one.unit, 'clearing')
  }
}

async function storeUnit(
  tx: Writing,
  before: Tables,
  at: {
    readonly pool: string
    readonly unit: string
    readonly settings: PoolSettings
    readonly source: 'file' | 'api'
  },
  { labels, properties, notes, capacity, resetCostMs }: UnitSettings,
): Promise<void> {
  const { pool, unit, settings, source } = at
  const now = {
    labels: JSON.stringify(labels),
    properties: JSON.stringify(properties),
    notes: notes ?? null,
    capacity,
    reset_cost: resetCostMs,
    source,
    gone: 0,
  }
  await tx.db
    .insertInto('units')
    .values({ ...NEW_UNIT, pool, unit, ...now })
    // The fence stays: it must not fall when a unit is taken out and put back.
    .onConflict((conflict) => conflict.columns(['pool', 'unit']).doUpdateSet(now))
    .execute()
  const known = before.units.find((one) => one.pool === pool && one.unit === unit)
  // Nobody knows of a unit that is new, or was away, whether it works.
  const isNew = known === undefined || known.gone === 1
  if (isNew && settings.probe !== undefined && (known?.leases.length ?? 0) === 0) {
    await startCare(tx, pool, unit, known?.phase === 'resetting' ? 'resetting' : 'probing')
  }
}

function isOnItsWay({ phase }: Unit): boolean {
  return phase !== 'ready' && phase !== 'clearing'
}

export function findUnit({ units }: Tables, pool: string, unit: string): Unit | undefined {
  if (!isHandedOver(pool)) return undefined
  return units.find((one) => one.pool === pool && one.unit === unit && one.gone === 0)
}

export function refused(why: string): Refusal {
  return { kind: 'refused', why }
}

function inTheFile(what: string): Refusal {
  return refused(`${what} is in the operator's file, which alone may change it`)
}

export function noPool({ pools }: Tables, pool: string): Refusal {
  return refused(`there is no pool "${pool}"; there are: ${[...pools.keys()].join(', ') || 'none'}`)
}

export function noUnit(tables: Tables, pool: string, unit: string): Refusal {
  if (!tables.pools.has(pool)) return noPool(tables, pool)
  const units = tables.units.filter((one) => one.pool === pool && one.gone === 0).map((one) => one.unit)
  return refused(`pool "${pool}" has no unit "${unit}"; it has: ${units.join(', ') || 'none'}`)
}
