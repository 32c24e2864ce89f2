import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { Command, InvalidArgumentError } from 'commander'
import type { PublicPool } from '../../api/pool-view.ts'
import { printDiagnostic, readYaml, toDiagnostics } from '../../config/positions.ts'
import { Pool } from '../../config/schema.ts'
import { EXIT_CODES } from '../../core/outcome.ts'
import type { Percentiles } from '../../core/pool/percentiles.ts'
import type { UnitStatistics } from '../../core/pool/statistics.ts'
import type { CareResult, LeaseRow, PoolRow, ReservationRow, UnitRow } from '../../store/pool-types.ts'
import { type Context, command, newName, printJson } from '../context.ts'
import { duration, table, visible } from '../text.ts'
import { untilReached } from './run.ts'

export interface Waiter {
  readonly holder: string
  readonly run: string
  readonly requests: readonly { readonly pool: string }[]
  readonly position: number
  readonly since: number
  readonly sentence: string
  readonly expected?: { readonly earliest: number; readonly latest?: number }
  readonly holders: readonly Pick<LeaseRow, 'pool' | 'unit' | 'holder' | 'since'>[]
}

interface Past {
  readonly waited?: Percentiles
  readonly held?: Percentiles
  readonly statistics: readonly Pick<UnitStatistics, 'unit' | 'sentence'>[]
}

interface Pools {
  readonly units: readonly UnitRow[]
  readonly waiters: readonly Waiter[]
}

interface Options {
  readonly json?: boolean
}

const POLL_MS = 500

export function poolCommand(context: Context): Command {
  const pool = new Command('pool').description('pools of scarce things: who has what, who waits, and your own turn')
  pool.addCommand(
    command('list', 'every unit with its holder, and who waits for what').action(async (options: Options) => {
      const pools = await context.api().get<Pools>('/pools')
      if (options.json) return printJson(context, pools)
      context.terminal.out(poolsText(context, pools))
    }),
  )
  pool.addCommand(
    command('show', 'one pool: its rules, its units, who waits')
      .argument('<pool>')
      .action(async (name: string, options: Options) => {
        const shown = await context.api().get<Pools & Past & { pool: PublicPool }>(`/pools/${encodeURIComponent(name)}`)
        if (options.json) return printJson(context, shown)
        context.terminal.out(
          `${rulesText(shown.pool)}\n${poolsText(context, shown)}${careText(context, shown)}${pastText(shown)}`,
        )
      }),
  )
  pool.addCommand(reserveCommand(context))
  pool.addCommand(
    command('reservations', 'what people have reserved or wait for')
      .option('--person <name>', 'only this person’s')
      .action(async (options: Options & { person?: string }) => {
        const query = options.person === undefined ? '' : `?person=${encodeURIComponent(options.person)}`
        const answer = await context.api().get<{ reservations: ReservationRow[] }>(`/reservations${query}`)
        if (options.json) return printJson(context, answer)
        const rows = answer.reservations.map((one) => [
          ...[one.id, one.person, one.pool, one.state],
          ...[until(one), one.leases.map(({ unit }) => unit).join(' '), one.sentence ?? one.note ?? ''],
        ])
        context.terminal.out(table([['ID', 'PERSON', 'POOL', 'STATE', 'UNTIL', 'UNITS', 'ABOUT'], ...rows]))
      }),
  )
  pool.addCommand(
    ofReservation('extend', 'keep what you hold for so long from now')
      .requiredOption('--for <duration>', 'for example 2h')
      .action((id: string, options: Options & { for: string }) => change(id, 'extend', { for: options.for }, options)),
  )
  pool.addCommand(
    ofReservation('hand-over', 'what you hold becomes another person’s')
      .requiredOption('--to <person>', 'as the operator’s file names them')
      .action((id: string, options: Options & { to: string }) => change(id, 'hand-over', { to: options.to }, options)),
  )
  pool.addCommand(
    ofReservation('return', 'give back what you hold, or leave the queue').action(
      async (id: string, options: Options) => {
        await context.api().remove(`/reservations/${encodeURIComponent(id)}`)
        if (options.json) printJson(context, { returned: id })
        else context.terminal.out(`reservation ${visible(id)} has ended\n`)
      },
    ),
  )
  pool.addCommand(
    ofUnit('take', 'take a unit from whoever holds it, who is told why and stops; you are the next')
      .requiredOption('--reason <text>', 'why; whoever held it is told')
      .requiredOption('--for <duration>', 'how long you need it, for example 2h')
      .action(async (unit: UnitName, options: Options & { reason: string; for: string }) => {
        const body = { id: newName(), reason: options.reason, for: options.for, channel: 'cli' }
        const row = await context.api().post<ReservationRow>(`${at(unit)}/take`, body)
        show(row, options)
      }),
  )
  for (const [name, act, description] of [
    ['drain', 'drain', 'give a unit to nobody more; when its holders are through it is in maintenance'],
    ['maintenance', 'maintenance', 'give a unit to nobody until it is returned to service'],
    ['clear', 'clear', 'vouch for a unit that is quarantined or being made ready: it is free again'],
  ] as const) {
    pool.addCommand(
      ofUnit(name, description)
        .requiredOption('--reason <text>', 'why; it is shown and recorded')
        .action((unit: UnitName, options: Options & { reason: string }) =>
          tend(unit, act, { reason: options.reason }, options),
        ),
    )
  }
  pool.addCommand(
    ofUnit('service', 'end drain or maintenance of a unit')
      .option('--reason <text>', 'what to record with it')
      .action((unit: UnitName, { reason, ...options }: Options & { reason?: string }) =>
        tend(unit, 'return-to-service', reason === undefined ? {} : { reason }, options),
      ),
  )
  pool.addCommand(addCommand(context))
  pool.addCommand(
    command('remove', 'take a unit out of its pool, or a pool that nobody holds anything of; of those added here')
      .argument('<pool[/unit]>', 'for example rig/rig-7')
      .action(async (name: string, options: Options) => {
        const unit = name.includes('/') ? unitName(name) : undefined
        await context.api().remove(unit === undefined ? `/pools/${encodeURIComponent(name)}` : at(unit))
        if (options.json) printJson(context, { removed: unit ?? { pool: name } })
        else context.terminal.out(`${visible(name)} is removed\n`)
      }),
  )
  return pool

  async function change(id: string, act: string, body: object, options: Options): Promise<void> {
    const where = `/reservations/${encodeURIComponent(id)}/${act}`
    show(await context.api().post<ReservationRow>(where, { ...body, channel: 'cli' }), options)
  }

  async function tend(unit: UnitName, act: string, body: object, options: Options): Promise<void> {
    const row = await context.api().post<UnitRow>(`${at(unit)}/${act}`, { ...body, channel: 'cli' })
    if (options.json) return printJson(context, row)
    context.terminal.out(`${visible(`${row.pool}/${row.unit}: ${stateOf(row)}`)}\n`)
  }

  function show(row: ReservationRow, options: Options): void {
    if (options.json) printJson(context, row)
    else context.terminal.out(reservationText(row))
  }
}

interface Reserve extends Options {
  readonly where?: string
  readonly label: readonly string[]
  readonly count?: string
  readonly shared?: boolean
  readonly for: string
  readonly note?: string
  readonly wait?: boolean
}

function reserveCommand(context: Context): Command {
  return command('reserve', 'ask for units of a pool, in the same queue as jobs')
    .argument('<pool>')
    .requiredOption('--for <duration>', 'how long you need them, for example 2h')
    .option('--where <expression>', 'what a unit must be, as in a spec: arch == "arm64"')
    .option('--label <label>', 'that a unit must have; several times', collected, [])
    .option('--count <number>', 'how many units; 1 unless said')
    .option('--shared', 'a place on a unit that others share')
    .option('--note <text>', 'for the others who wait')
    .option('--wait', 'until you have them; Ctrl-C gives your place up')
    .action(async (pool: string, options: Reserve) => {
      const { where, label: labels, count, shared, note } = options
      const api = context.api()
      const wish = {
        ...{ id: newName(), for: options.for, labels, channel: 'cli' },
        ...(where === undefined ? {} : { where }),
        ...(count === undefined ? {} : { count: Number(count) }),
        ...(shared ? { mode: 'shared' } : {}),
        ...(note === undefined ? {} : { note }),
      }
      const ask = () => api.post<ReservationRow>(`/pools/${encodeURIComponent(pool)}/reservations`, wish)
      if (!options.wait) {
        const row = await ask()
        if (options.json) printJson(context, row)
        else context.terminal.out(reservationText(row))
        return
      }
      const interruption = context.interruption()
      const row = await waitThrough(context, await ask(), interruption)
      if (interruption.aborted && row.state !== 'ended') {
        await api.remove(`/reservations/${row.id}`)
        context.terminal.err(`reservation ${row.id} is given up, and with it your place in the queue\n`)
        return context.terminal.exit(EXIT_CODES.canceled)
      }
      if (options.json) printJson(context, row)
      else context.terminal.out(reservationText(row))
      if (row.state === 'ended') context.terminal.exit(EXIT_CODES.failed)
    })
}

/** Says each change of the place, or of why; comes back when there is no more to wait for, or when interrupted. */
async function waitThrough(context: Context, first: ReservationRow, signal: AbortSignal): Promise<ReservationRow> {
  let said = ''
  let row = first
  while (row.state === 'waiting' && !signal.aborted) {
    const text = placeText(row)
    if (text !== said) context.terminal.err(text)
    said = text
    await sleep(POLL_MS, undefined, { signal }).catch((err: unknown) => {
      if (!signal.aborted) throw err
    })
    if (!signal.aborted) row = await untilReached(context, () => context.api().get(`/reservations/${first.id}`))
  }
  return row
}

function placeText({ id, position, sentence }: ReservationRow): string {
  return `reservation ${id}: place ${position}: ${visible(sentence ?? '')}\n`
}

function reservationText(row: ReservationRow): string {
  if (row.state === 'waiting') return placeText(row)
  if (row.state === 'ended') return `reservation ${row.id} has ended: ${visible(row.why ?? '')}\n`
  const units = row.leases.map(({ pool, unit, fence, properties }) => [
    ...[`  ${pool}/${unit}`, `fence ${fence}`],
    Object.entries(properties)
      .map(([name, value]) => `${name}=${value}`)
      .join(' '),
  ])
  return `reservation ${row.id}: held by ${visible(row.person)} until ${until(row)}\n${table(units)}`
}

function until({ leases: [lease] }: ReservationRow): string {
  return lease === undefined ? '' : new Date(lease.expiresAt).toISOString()
}

interface Add extends Options {
  readonly label: readonly string[]
  readonly property: readonly string[]
  readonly capacity?: string
  readonly notes?: string
  readonly resetCost?: string
  readonly settings?: string
}

function addCommand(context: Context): Command {
  return command('add', 'add a unit to a pool, or set how it is; without a unit, a pool')
    .argument('<pool[/unit]>', 'for example rig/rig-7')
    .option('--label <label>', 'of the unit: `key` or `key=value`; several times', collected, [])
    .option('--property <name=value>', 'of the unit; true, false and numbers are such; several times', named, [])
    .option('--capacity <number>', 'of the unit: how many may share it')
    .option('--notes <text>', 'for people')
    .option('--reset-cost <duration>', 'of the unit: what its hand-over costs')
    .option(
      '--settings <file>',
      'of the pool: YAML or JSON, as in the operator’s file (share, max_hold, reset, probe, …)',
    )
    .action(async (name: string, options: Add) => {
      const isUnit = name.includes('/')
      const { label, property, capacity, notes, resetCost, settings } = options
      const said = { channel: 'cli', ...(notes === undefined ? {} : { notes }) }
      if (!isUnit) {
        const own = label.length + property.length > 0 || capacity !== undefined || resetCost !== undefined
        if (own) throw new Error('labels, properties, capacity and reset cost are those of a unit: write POOL/UNIT')
        const written = settings === undefined ? {} : await readSettings(settings)
        const row = await context.api().put<PoolRow>(`/pools/${encodeURIComponent(name)}`, { ...written, ...said })
        if (options.json) return printJson(context, row)
        return context.terminal.out(rulesText(row))
      }
      if (settings !== undefined) throw new Error('settings are those of a pool: write POOL without a unit')
      const body = {
        ...said,
        labels: label,
        properties: Object.fromEntries(property.map(toProperty)),
        ...(capacity === undefined ? {} : { capacity: Number(capacity) }),
        ...(resetCost === undefined ? {} : { reset_cost: resetCost }),
      }
      const row = await context.api().put<UnitRow>(at(unitName(name)), body)
      if (options.json) return printJson(context, row)
      context.terminal.out(`${visible(`${row.pool}/${row.unit}: ${stateOf(row)}`)}\n`)
    })
}

const SETTINGS_HINT = 'a comma, bracket or quote may be missing; right would be {"share": 1, "max_hold": "1h"}'
const Settings = Pool.omit({ units: true })

/** @throws Error with all that is wrong, and where */
async function readSettings(file: string): Promise<object> {
  const text = await readFile(file, 'utf8').catch((err: unknown) => {
    throw new Error(`${file} cannot be read: ${err instanceof Error ? err.message : String(err)}`, { cause: err })
  })
  const located = readYaml(file, text)
  const parsed = Settings.safeParse(located.value ?? {}, { reportInput: true })
  // The first is where a comma, bracket or quote is missing or too many; the others follow from it.
  const [broken] = located.syntax
  const wrong =
    broken === undefined
      ? toDiagnostics(located, parsed.error?.issues ?? [], Settings)
      : [{ ...broken, message: `is neither JSON nor YAML here (${broken.message}); ${SETTINGS_HINT}` }]
  if (wrong.length > 0) throw new Error(wrong.map(printDiagnostic).join('; '))
  // As it is written: what is left out has its default on the server.
  return (located.value ?? {}) as object
}

interface UnitName {
  readonly pool: string
  readonly unit: string
}

function ofUnit(name: string, description: string): Command {
  return command(name, description).argument('<pool/unit>', 'for example rig/rig-1', unitName)
}

function ofReservation(name: string, description: string): Command {
  return command(name, description).argument('<id>', 'of the reservation, as `pool reservations` shows it')
}

function unitName(text: string): UnitName {
  const [, pool, unit] = /^([^/]+)\/([^/]+)$/.exec(text) ?? []
  if (pool === undefined || unit === undefined)
    throw new InvalidArgumentError('must be POOL/UNIT, for example rig/rig-1')
  return { pool, unit }
}

function at({ pool, unit }: UnitName): string {
  return `/pools/${encodeURIComponent(pool)}/units/${encodeURIComponent(unit)}`
}

function collected(one: string, before: readonly string[]): readonly string[] {
  return [...before, one]
}

function named(one: string, before: readonly string[]): readonly string[] {
  if (one.indexOf('=') < 1) throw new InvalidArgumentError('must be name=value')
  return [...before, one]
}

/** `0012` is a text: only what a number is written as is one. */
function toProperty(text: string): [string, string | number | boolean] {
  const cut = text.indexOf('=')
  const value = text.slice(cut + 1)
  const typed =
    value === 'true' || value === 'false' ? value === 'true' : String(Number(value)) === value ? Number(value) : value
  return [text.slice(0, cut), typed]
}

function poolsText(context: Context, { units, waiters }: Pools): string {
  const rows = units.map((one) => [
    ...[one.pool, one.unit, stateOf(one)],
    one.leases[0] ? duration(context.now() - one.leases[0].since) : '',
    one.leases.map(({ holder }) => holder).join(' '),
    one.labels.join(' '),
    one.notes ?? '',
  ])
  const all = table([['POOL', 'UNIT', 'STATE', 'SINCE', 'HOLDER', 'LABELS', 'NOTES'], ...rows])
  if (waiters.length === 0) return all
  const queue = waiters.map((one) => [
    ...[
      String(one.position),
      one.holder,
      duration(context.now() - one.since),
      expectedText(context, one),
      one.sentence,
    ],
  ])
  return `${all}\n${table([['PLACE', 'WAITING', 'SINCE', 'STARTS IN', 'FOR'], ...queue])}`
}

/** `2m to 9m`; `-` where the history says nothing. */
export function expectedText(context: Context, { expected }: Pick<Waiter, 'expected'>): string {
  if (expected === undefined) return '-'
  const from = (time: number) => duration(Math.max(0, time - context.now()))
  const { earliest, latest } = expected
  return latest === undefined ? `${from(earliest)} or more` : `${from(earliest)} to ${from(latest)}`
}

/** What one wants to know first of a unit: whether it can be had, and if not, why. */
function stateOf({ service, quarantined, phase, leases, capacity }: UnitRow): string {
  const why = service.reason === undefined ? '' : `: ${service.reason}`
  const isShared = leases.every(({ mode }) => mode === 'shared')
  const held = capacity > 1 && isShared ? `held, ${leases.length} of ${capacity} places` : 'held'
  if (service.kind === 'maintenance') return `maintenance${why}`
  if (service.kind === 'draining') return `draining${why}`
  if (quarantined !== undefined) return `quarantined: ${quarantined}`
  if (phase !== 'ready') return WAY[phase]
  return leases.length > 0 ? held : 'free'
}

const WAY = {
  resetting: 'being reset',
  probing: 'being probed',
  clearing: 'free when its reset or probe has ended',
} as const satisfies Record<Exclude<UnitRow['phase'], 'ready'>, string>

/** How the newest reset and probe of each unit ended. */
function careText(context: Context, { units }: Pools): string {
  const ended = (what: string, how: CareResult | undefined) =>
    how === undefined ? [] : [`last ${what} ${how.outcome} ${duration(context.now() - how.at)} ago`]
  const lines = units.flatMap(({ unit, lastReset, lastProbe }) => {
    const how = [...ended('reset', lastReset), ...ended('probe', lastProbe)]
    return how.length === 0 ? [] : [visible(`${unit}: ${how.join(', ')}`)]
  })
  return lines.length === 0 ? '' : `\n${lines.join('\n')}\n`
}

/** What has been: how long one waited and held, and units that fail more often than others. */
function pastText({ waited, held, statistics }: Past): string {
  const lines = Object.entries({ waited, held }).flatMap(([what, one]) =>
    one === undefined
      ? []
      : `${what} ${duration(one.p50)} in half of ${one.count} cases, ${duration(one.p90)} in nine of ten, ${duration(one.p99)} at the most but one in a hundred`,
  )
  for (const { unit, sentence } of statistics) if (sentence !== undefined) lines.push(visible(`${unit} ${sentence}`))
  return lines.length === 0 ? '' : `\n${lines.join('\n')}\n`
}

function rulesText({ pool, source, privileged, notes, share, maxHoldMs, reset, probe }: PublicPool): string {
  const rules = [
    source === 'file' ? 'from the operator’s file' : 'made by API',
    ...(privileged ? ['closed to strangers’ code'] : []),
    ...(share === undefined ? [] : [`at most ${share} to one repository or person`]),
    ...(maxHoldMs === undefined ? [] : [`for at most ${duration(maxHoldMs)}`]),
    ...(reset === undefined ? [] : ['reset before the next holder']),
    ...(probe === undefined ? [] : ['probed before the next holder']),
    ...(notes === undefined ? [] : [notes]),
  ]
  return `${visible(`${pool}: ${rules.join('; ')}`)}\n`
}
