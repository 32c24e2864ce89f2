import { randomBytes } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { durationMs } from '../config/duration.ts'
import { personMay } from '../config/roles.ts'
import { duration, label } from '../config/schema.ts'
import type { PoolRequest } from '../core/plan.ts'
import { checkWhereFor, propertyTypes } from '../pools/where.ts'
import { didYouMean, nearest } from '../spec/suggest.ts'
import type { Actor, Refusal, ReservationRow, UnitRow } from '../store/pool-types.ts'
import type { ApiDeps } from './deps.ts'
import { poolIn, readPools, unitIn, unknown, unlessRefused } from './pool-view.ts'
import { ProblemError, problem } from './problem.ts'
import { type Asked, invalid, json, type Reply, type Route } from './route.ts'
import { CHANNEL_QUERY, Channel, channelIn, Said, Why } from './said.ts'

/** As in a spec. */
const LONGEST_WHERE = 1000

const Id = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'must be letters, digits, `.`, `_`, `-`; at most 64, and begin with one')
  .describe('Made here unless said. A second request with the same id is the first.')
const For = duration.describe('How long, from the grant on.')

const Wish = z.strictObject({
  id: Id.optional(),
  where: z
    .string()
    .min(1)
    .max(LONGEST_WHERE, `at most ${LONGEST_WHERE} characters`)
    .describe('What the unit must be: CEL over its properties.')
    .optional(),
  labels: z.array(label).max(64).default([]),
  count: z.int().min(1).max(1000).default(1),
  mode: z.enum(['exclusive', 'shared']).default('exclusive'),
  for: For,
  note: Said.describe('For the others who wait.').optional(),
  priority: z.int().min(-100).max(100).describe('Other than 0 with the permission `pools` only.').default(0),
  channel: Channel,
})
const Take = z.strictObject({ id: Id.optional(), reason: Why, for: For, channel: Channel })
const Longer = z.strictObject({ for: duration.describe('How long from now.'), channel: Channel })
const To = z.strictObject({ to: z.string().max(200).describe('Another person who may reserve.'), channel: Channel })

const ONE = '/api/v1/reservations/:id'

/** People hold units by the same queue as jobs. */
export function reservationRoutes({ config, store }: ApiDeps): readonly Route[] {
  return [
    {
      method: 'POST',
      path: '/api/v1/pools/:pool/reservations',
      permission: 'reserve',
      summary:
        'You ask for units of a pool, and wait for them in the same queue as jobs. `state` says whether you hold them now; `position` and `sentence`, why not. A privileged pool, too: it is closed to the code of people without write access only.',
      body: { kind: 'json', schema: Wish },
      async handle({ params, body, by }) {
        const { id = newId(), priority, ...wish } = body as z.infer<typeof Wish>
        const view = await readPools(store)
        const { pool } = poolIn(view, params.pool)
        checkWhereOf(
          wish.where,
          view.units.filter((one) => one.pool === pool),
        )
        if (priority !== 0 && !may(by, 'pools'))
          throw new ProblemError(problem(403, 'to go before or after others needs the permission "pools"'))
        const { labels, count, mode, where, note } = wish
        const request: PoolRequest = {
          ...{ pool, labels, count },
          ...(mode === 'exclusive' ? {} : { mode }),
          ...(where === undefined ? {} : { where }),
        }
        return made(by, id, { pool, forMs: durationMs(wish.for), request }, (forMs) =>
          store.reservations.ask(actor(by, wish), {
            ...{ id, request, forMs, priority },
            ...(note === undefined ? {} : { note }),
          }),
        )
      },
    },
    {
      method: 'POST',
      path: '/api/v1/pools/:pool/units/:unit/take',
      permission: 'pools',
      summary:
        'Takes a unit from whoever holds it, and you are the next to get it. A run that held it is told why and stops; a person’s reservation ends. The unit goes through its hand-over as always.',
      body: { kind: 'json', schema: Take },
      async handle({ params, body, by }) {
        const { id = newId(), reason, ...wish } = body as z.infer<typeof Take>
        const { pool, unit } = unitIn(await readPools(store), params.pool, params.unit)
        return made(by, id, { pool, forMs: durationMs(wish.for) }, (forMs) =>
          store.reservations.take(actor(by, wish), { id, pool, unit, reason, forMs }),
        )
      },
    },
    {
      method: 'GET',
      path: '/api/v1/reservations',
      permission: 'read',
      summary: 'The reservations of people that wait or hold something, oldest first.',
      query: { person: 'only this person’s' },
      async handle({ query }) {
        const person = query.get('person')
        const open = await store.reservations.open()
        return json({ reservations: open.filter((one) => person === null || one.person === person) })
      },
    },
    {
      method: 'GET',
      path: ONE,
      permission: 'read',
      summary: 'One reservation, also one that has ended, and why.',
      async handle({ params }) {
        return json(await find(params))
      },
    },
    {
      method: 'POST',
      path: `${ONE}/extend`,
      permission: 'reserve',
      summary:
        'You keep what you hold for so long from now, within what the pool allows since the grant. Somebody else’s: with the permission `pools`.',
      body: { kind: 'json', schema: Longer },
      handle: (asked) =>
        change(asked, (by, id) => {
          const { for: text } = asked.body as z.infer<typeof Longer>
          return store.reservations.extend(by, id, durationMs(text))
        }),
    },
    {
      method: 'POST',
      path: `${ONE}/hand-over`,
      permission: 'reserve',
      summary:
        'What you hold becomes another person’s, under a new fencing number, for the rest of the time. Somebody else’s: with the permission `pools`.',
      body: { kind: 'json', schema: To },
      handle: (asked) =>
        change(asked, (by, id) => {
          const { to } = asked.body as z.infer<typeof To>
          checkMayReserve(to)
          return store.reservations.handOver(by, id, to)
        }),
    },
    {
      method: 'DELETE',
      path: ONE,
      permission: 'reserve',
      summary:
        'You give back what you hold, or leave the queue. Somebody else’s: with the permission `pools`. A second time changes nothing.',
      query: CHANNEL_QUERY,
      handle: (asked) => change(asked, (by, id) => store.reservations.giveBack(by, id)),
    },
  ]

  /** The same wish sent twice is one reservation; another one by the same id is refused. */
  async function made(
    by: string,
    id: string,
    { pool, forMs, request }: { readonly pool: string; readonly forMs: number; readonly request?: PoolRequest },
    ask: (forMs: number) => Promise<ReservationRow | Refusal>,
  ): Promise<Reply> {
    const before = await store.reservations.get(id)
    const row = unlessRefused(await ask(forMs))
    // What has ended is known by less.
    const [first = request] = row.requests
    const isSame = request === undefined || isDeepStrictEqual(first, request)
    if (row.person !== by || row.pool !== pool || row.forMs !== forMs || !isSame)
      throw new ProblemError(problem(409, `the id "${id}" was used before, for another reservation`))
    return json(row, before === undefined ? 201 : 200)
  }

  async function change(
    { params, query, body, by }: Asked,
    act: (by: Actor, id: string) => Promise<ReservationRow | Refusal>,
  ): Promise<Reply> {
    const row = await find(params)
    if (row.person !== by && !may(by, 'pools'))
      throw new ProblemError(
        problem(403, `reservation ${row.id} is that of ${row.person}; to change it needs the permission "pools"`),
      )
    return json(
      unlessRefused(
        await act(
          actor(by, body === undefined ? { channel: channelIn(query) } : (body as { channel?: string })),
          row.id,
        ),
      ),
    )
  }

  async function find({ id = '' }: Readonly<Record<string, string>>): Promise<ReservationRow> {
    const row = Id.safeParse(id).success ? await store.reservations.get(id) : undefined
    if (row !== undefined) return row
    const near = nearest(
      id,
      (await store.reservations.open()).map((one) => one.id),
    )
    throw unknown(
      `there is no reservation "${id}"`,
      near === undefined ? 'see /api/v1/reservations' : `did you mean "${near}"?`,
    )
  }

  function checkMayReserve(to: string): void {
    const people = Object.keys(config.people).filter((person) => may(person, 'reserve'))
    if (people.includes(to)) return
    const detail = Object.hasOwn(config.people, to)
      ? `${to} has no role that may reserve`
      : `"${to}" is not among the people; ${didYouMean(to, people, 'person who may reserve')}`
    throw invalid([{ pointer: '/to', detail }])
  }

  function may(person: string, permission: 'reserve' | 'pools'): boolean {
    return personMay(config, person, permission)
  }
}

/** @throws ProblemError 422 */
function checkWhereOf(where: string | undefined, units: readonly Pick<UnitRow, 'properties'>[]): void {
  const wrong = where === undefined ? undefined : checkWhereFor(where, propertyTypes(units))
  if (wrong === undefined) return
  const hint = wrong.suggestion === undefined ? '' : `; ${wrong.suggestion}`
  throw invalid([{ pointer: '/where', detail: `character ${wrong.start + 1}: ${wrong.message}${hint}` }])
}

function actor(person: string, { channel = 'api' }: { readonly channel?: string }): Actor {
  return { person, channel }
}

function newId(): string {
  return randomBytes(6).toString('hex')
}
