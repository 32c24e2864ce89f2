import { z } from 'zod'
import {
  lackingProperties,
  poolTwin,
  reservedIn,
  reservedSentence,
  toPoolSettings,
  toUnitSettings,
  twinSentence,
} from '../config/pool.ts'
import { personMay } from '../config/roles.ts'
import { name, Pool, Unit } from '../config/schema.ts'
import { percentiles } from '../core/pool/percentiles.ts'
import type { PoolSettings, UnitSettings } from '../core/pool/settings.ts'
import { unitStatistics } from '../core/pool/statistics.ts'
import type { HoldRow, Service } from '../store/pool-types.ts'
import type { ApiDeps } from './deps.ts'
import { poolIn, publicPool, publicUnit, readPools, type ShownPools, unitIn, unlessRefused } from './pool-view.ts'
import { type Asked, invalid, json, NOTHING, type Route } from './route.ts'
import { CHANNEL_QUERY, Channel, channelIn, Said, Why } from './said.ts'

const notes = Said.optional()
const PoolBody = Pool.omit({ units: true }).extend({ notes, channel: Channel })
/** Credentials are in the operator's file only: a name of a variable or a file of the server is nothing to be told by API. */
const UnitBody = Unit.omit({ credentials: true }).extend({ notes, channel: Channel })
const Because = z.strictObject({ reason: Why, channel: Channel })
const Back = z.strictObject({ reason: Said.default(''), channel: Channel })

const UNIT = '/api/v1/pools/:pool/units/:unit'

const HISTORY = 1000

/** Pools and their units: what there is, who has it, and what those who look after it do. */
export function poolRoutes({ config, store }: ApiDeps): readonly Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/pools',
      permission: 'read',
      summary:
        'Every pool with its settings, every unit with who holds it and what keeps it from being given on, and everybody who waits: for what, at which place, since when, who is in the way. Commands, addresses and output of reset and probe are for who has the permission `pools`; the others see that there are such, and how the last ones ended.',
      async handle({ by }) {
        return json(shownTo(by, await readPools(store)))
      },
    },
    {
      method: 'GET',
      path: '/api/v1/pools/:pool',
      permission: 'read',
      summary:
        'One pool with its units, who waits for it, and what has been: of the newest 1000 that held it how long they waited and held (`p50`, `p90`, `p99`, in milliseconds), and of every unit how often jobs failed on it, against the same jobs elsewhere.',
      async handle({ params, by }) {
        const all = await readPools(store)
        const pool = poolIn(all, params.pool)
        const view = shownTo(by, all)
        const isOf = (one: { readonly pool: string }) => one.pool === pool.pool
        return json({
          pool: view.pools.find(isOf),
          units: view.units.filter(isOf),
          waiters: view.waiters.filter(({ requests }) => requests.some(isOf)),
          ...past(await store.leases.history(pool.pool, HISTORY)),
        })
      },
    },
    {
      method: 'PUT',
      path: '/api/v1/pools/:pool',
      permission: 'pools',
      summary:
        'Makes a pool, or sets how it is: as in the operator’s file, without units. Refused for a pool that the file has. Everybody who waits is judged anew.',
      body: { kind: 'json', schema: PoolBody },
      async handle({ params, body, by }) {
        const { channel, ...written } = body as z.infer<typeof PoolBody>
        const settings = toPoolSettings(written)
        const view = await readPools(store)
        const pool = params.pool ?? ''
        const units = view.units.filter((one) => one.pool === pool)
        checkTogether([
          ...nameProblems('pool', pool),
          ...twinProblems(
            pool,
            view.pools.map((one) => one.pool),
          ),
          ...lacking(
            settings,
            units.map(({ unit, properties }) => ({ name: unit, properties })),
          ),
        ])
        unlessRefused(await store.units.putPool({ person: by, channel }, pool, settings))
        return json(poolIn(await readPools(store), pool))
      },
    },
    {
      method: 'DELETE',
      path: '/api/v1/pools/:pool',
      permission: 'pools',
      summary:
        'Takes a pool with its units away. Refused while somebody holds one: drain them before. Refused for a pool that the operator’s file has. Everybody who waits is judged anew: a job that nothing can serve any more fails at once.',
      query: CHANNEL_QUERY,
      async handle({ params, query, by }) {
        const { pool } = poolIn(await readPools(store), params.pool)
        unlessRefused(await store.units.removePool({ person: by, channel: channelIn(query) }, pool))
        return NOTHING
      },
    },
    {
      method: 'PUT',
      path: UNIT,
      permission: 'pools',
      summary:
        'Puts a unit into a pool, or sets how it is: as in the operator’s file, without credentials. Refused for a unit that the file has. Everybody who waits is judged anew.',
      body: { kind: 'json', schema: UnitBody },
      async handle({ params, body, by }) {
        const { channel, ...written } = body as z.infer<typeof UnitBody>
        const settings = toUnitSettings(written)
        const pool = poolIn(await readPools(store), params.pool)
        const unit = params.unit ?? ''
        checkTogether([...nameProblems('unit', unit), ...unitProblems(pool, unit, settings)])
        unlessRefused(await store.units.putUnit({ person: by, channel }, pool.pool, unit, settings))
        return json(unitIn(await readPools(store), pool.pool, unit))
      },
    },
    {
      method: 'DELETE',
      path: UNIT,
      permission: 'pools',
      summary:
        'Takes a unit out of its pool: whoever holds it keeps it to the end. Refused for a unit that the operator’s file has. Everybody who waits is judged anew.',
      query: CHANNEL_QUERY,
      async handle({ params, query, by }) {
        const { pool, unit } = unitIn(await readPools(store), params.pool, params.unit)
        unlessRefused(await store.units.removeUnit({ person: by, channel: channelIn(query) }, pool, unit))
        return NOTHING
      },
    },
    ...(['drain', 'maintenance', 'return-to-service'] as const).map(
      (act): Route => ({
        method: 'POST',
        path: `${UNIT}/${act}`,
        permission: 'pools',
        summary: SERVICE[act].summary,
        body: { kind: 'json', schema: SERVICE[act].body },
        handle: (asked) =>
          tend(asked, (actor, pool, unit, reason) =>
            store.units.setService(actor, pool, unit, SERVICE[act].service, reason),
          ),
      }),
    ),
    {
      method: 'POST',
      path: `${UNIT}/clear`,
      permission: 'pools',
      summary:
        'You vouch for a unit that is quarantined or being reset: it is free again, as soon as what runs of its reset or probe has been stopped. A container of which it was shown that it is not proved gone is taken for gone.',
      body: { kind: 'json', schema: Because },
      handle: (asked) => tend(asked, (actor, pool, unit, reason) => store.units.clear(actor, pool, unit, reason)),
    },
  ]

  function shownTo(person: string, view: ShownPools) {
    if (personMay(config, person, 'pools')) return view
    return { ...view, pools: view.pools.map(publicPool), units: view.units.map(publicUnit) }
  }

  async function tend(
    { params, body, by }: Asked,
    act: (
      actor: { readonly person: string; readonly channel: string },
      pool: string,
      unit: string,
      reason: string,
    ) => ReturnType<typeof store.units.clear>,
  ) {
    const { reason, channel } = body as z.infer<typeof Because>
    const { pool, unit } = unitIn(await readPools(store), params.pool, params.unit)
    unlessRefused(await act({ person: by, channel }, pool, unit, reason))
    return json(unitIn(await readPools(store), pool, unit))
  }
}

function past(holds: readonly HoldRow[]) {
  const jobs = holds.flatMap(({ unit, work, outcome }) =>
    work !== undefined && (outcome === 'succeeded' || outcome === 'failed' || outcome === 'errored')
      ? [{ unit, job: work, outcome } as const]
      : [],
  )
  return {
    waited: percentiles(holds.map(({ askedAt, since }) => since - askedAt)),
    held: percentiles(holds.map(({ since, endedAt }) => endedAt - since)),
    statistics: unitStatistics(jobs),
  }
}

const SERVICE = {
  drain: {
    service: 'draining',
    body: Because,
    summary: 'Nobody more gets the unit; when its holders are through it is in maintenance. You say why.',
  },
  maintenance: {
    service: 'maintenance',
    body: Because,
    summary: 'Nobody gets the unit until it is returned to service. Refused while somebody holds it. You say why.',
  },
  'return-to-service': {
    service: 'in_service',
    body: Back,
    summary: 'Ends drain or maintenance of a unit.',
  },
} as const satisfies Readonly<Record<string, { service: Service; body: z.ZodType; summary: string }>>

type Wrong = Parameters<typeof invalid>[0]

function twinProblems(pool: string, others: readonly string[]): Wrong {
  const twin = poolTwin(pool, others)
  return twin === undefined ? [] : [{ pointer: '{pool}', detail: twinSentence(pool, twin) }]
}

function nameProblems(what: string, text: string): Wrong {
  const checked = name.safeParse(text)
  return checked.success ? [] : [{ pointer: `{${what}}`, detail: checked.error.issues[0]?.message ?? 'is no name' }]
}

function unitProblems(pool: PoolSettings, unit: string, { properties }: UnitSettings): Wrong {
  return [
    ...reservedIn(properties).map((word) => ({ pointer: `/properties/${word}`, detail: reservedSentence(word) })),
    ...lackingProperties(pool, [{ name: unit, properties }]).map(({ step, property }) => ({
      pointer: '/properties',
      detail: `lack "${property}", which the ${step} of the pool needs`,
    })),
  ]
}

function lacking(settings: PoolSettings, units: Parameters<typeof lackingProperties>[1]): Wrong {
  return lackingProperties(settings, units).map(({ step, unit, property }) => ({
    pointer: `/${step}/http`,
    detail: `unit "${unit}" has no property "${property}"`,
  }))
}

/** @throws ProblemError 422 with all of them */
function checkTogether(problems: Wrong): void {
  if (problems.length > 0) throw invalid(problems)
}
