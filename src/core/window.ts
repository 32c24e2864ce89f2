/** When something may pass: hours of the week, and no freeze. Wall clocks are those of an IANA time zone. */
export interface Window {
  readonly hours?: Hours
  readonly freezes: readonly Freeze[]
}

export const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const
export type Day = (typeof DAYS)[number]

export interface Hours {
  readonly zone: string
  readonly days: readonly Day[]
  /** `09:00`; from then on it is open. */
  readonly from: string
  /** `17:00`, up to `24:00`; from then on it is not. */
  readonly to: string
}

export interface Freeze {
  readonly zone: string
  /** `2026-12-20`, from its first moment, or `2026-12-20T18:00`. */
  readonly from: string
  /** `2027-01-02`, to its last moment, or `2027-01-02T08:00`. */
  readonly to: string
  readonly reason: string
}

export interface Closed {
  /** Milliseconds since 1970; absent: not in the next years. */
  readonly until?: number
  /** `until Mon 2027-01-04 09:00 (Europe/Berlin): frozen to 2027-01-02, year end`. */
  readonly why: string
}

const MINUTE_MS = 60_000
const DAY_MS = 86_400_000
/** Longer freezes one after the other end nothing that anybody waits for. */
const MOST_STEPS = 2_000

/** Undefined: it is open at this moment. */
export function closedAt(window: Window | undefined, now: number): Closed | undefined {
  if (window === undefined) return undefined
  const freezes = window.freezes.map((freeze) => ({ freeze, ...spanOf(freeze) }))
  const freezeAt = (at: number) => freezes.find(({ start, end }) => start <= at && at < end)
  const first = freezeAt(now)
  if (first === undefined && isWithin(window.hours, now)) return undefined
  let until: number | undefined
  let at = now
  for (let steps = 0; steps < MOST_STEPS && until === undefined; steps++) {
    const frozen = freezeAt(at)
    if (frozen !== undefined) at = frozen.end
    else if (isWithin(window.hours, at)) until = at
    else {
      const next = window.hours && nextOpening(window.hours, at)
      if (next === undefined) break
      at = next
    }
  }
  const zone = window.hours?.zone ?? first?.freeze.zone ?? 'UTC'
  const reason =
    first === undefined
      ? `outside the hours ${hoursText(window.hours)}`
      : `frozen to ${first.freeze.to}, ${first.freeze.reason}`
  if (until === undefined) return { why: `for years: ${reason}` }
  return { until, why: `until ${wallText(zone, until)} (${zone}): ${reason}` }
}

export function hoursText(hours: Hours | undefined): string {
  return hours === undefined ? '' : `${hours.days.join(', ')} ${hours.from} to ${hours.to} (${hours.zone})`
}

/** Whether this system knows the zone by that name. */
export function isZone(zone: string): boolean {
  if (zone !== 'UTC' && !zone.includes('/')) return false
  try {
    new Intl.DateTimeFormat('en-US', { timeZone: zone })
    return true
  } catch (err) {
    if (err instanceof RangeError) return false
    throw err
  }
}

/** Its first moment, and the first one after it. */
export function spanOf({ zone, from, to }: Pick<Freeze, 'zone' | 'from' | 'to'>): {
  readonly start: number
  readonly end: number
} {
  const isWholeDay = !to.includes('T')
  const start = firstInstant(zone, wallOf(from))
  if (isWholeDay) return { start, end: firstInstant(zone, wallOf(to) + DAY_MS) }
  // In an hour that comes twice both are frozen: nobody is surprised by a freeze that was over an hour early.
  return { start, end: instantsOf(zone, wallOf(to)).at(-1) ?? start }
}

/** A date, or a date with a time, as if it were UTC; not a number where no calendar has it. */
export function wallOf(text: string): number {
  const match = /^(\d{4})-(\d{2})-(\d{2})(?:T(\d{2}):(\d{2}))?$/.exec(text)
  if (match === null) return Number.NaN
  const [year, month, day, hour, minute] = match.slice(1).map((part) => Number(part ?? 0))
  const wall = Date.UTC(year ?? 0, (month ?? 0) - 1, day, hour, minute)
  // The 31st of February is the 3rd of March to Date, and a slip of the pen to people.
  return new Date(wall).toISOString().startsWith(text) ? wall : Number.NaN
}

export function minutesOf(time: string): number {
  const [hour, minute] = time.split(':')
  return Number(hour) * 60 + Number(minute)
}

function isWithin(hours: Hours | undefined, at: number): boolean {
  if (hours === undefined) return true
  const wall = wallAt(hours.zone, at)
  const minutes = Math.floor((wall - startOfDay(wall)) / MINUTE_MS)
  return hours.days.includes(dayOf(wall)) && minutesOf(hours.from) <= minutes && minutes < minutesOf(hours.to)
}

/** What a clock on the wall shows decides: an hour that comes twice is open twice, one that does not come is not. */
function nextOpening(hours: Hours, after: number): number | undefined {
  const today = startOfDay(wallAt(hours.zone, after))
  for (let day = 0; day <= DAYS.length + 1; day++) {
    const midnight = today + day * DAY_MS
    const candidates = [
      ...instantsOf(hours.zone, midnight + minutesOf(hours.from) * MINUTE_MS),
      // Clocks that are put back may come into the hours again.
      ...changesBetween(hours.zone, firstInstant(hours.zone, midnight), firstInstant(hours.zone, midnight + DAY_MS)),
    ]
    const next = candidates.filter((at) => at > after && isWithin(hours, at)).sort((a, b) => a - b)[0]
    if (next !== undefined) return next
  }
  return undefined
}

// ------------------------------------------------------------------ wall clocks

const formats = new Map<string, Intl.DateTimeFormat>()

/** What a clock shows there, as if it were UTC. */
function wallAt(zone: string, at: number): number {
  let format = formats.get(zone)
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      calendar: 'gregory',
      hourCycle: 'h23',
      ...({ year: 'numeric', month: 'numeric', day: 'numeric' } as const),
      ...({ hour: 'numeric', minute: 'numeric', second: 'numeric' } as const),
    })
    formats.set(zone, format)
  }
  const parts = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, Number(value)]))
  const { year = 0, month = 1, day, hour, minute, second } = parts
  return Date.UTC(year, month - 1, day, hour, minute, second) + (((at % 1000) + 1000) % 1000)
}

function offsetAt(zone: string, at: number): number {
  return wallAt(zone, at) - at
}

/** Every moment at which a clock there shows this: none in a gap, two in an overlap; in their order. */
function instantsOf(zone: string, wall: number): readonly number[] {
  const offsets = new Set([offsetAt(zone, wall - DAY_MS), offsetAt(zone, wall + DAY_MS)])
  const all = [...offsets].map((offset) => wall - offset).filter((at) => wallAt(zone, at) === wall)
  if (all.length > 0) return all.sort((a, b) => a - b)
  return [firstInstant(zone, wall)]
}

/** The first moment at which a clock there shows this, or has gone past it. */
function firstInstant(zone: string, wall: number): number {
  const [before, after] = [offsetAt(zone, wall - DAY_MS), offsetAt(zone, wall + DAY_MS)]
  const found = [wall - before, wall - after].filter((at) => wallAt(zone, at) === wall)
  if (found.length > 0) return Math.min(...found)
  return changesBetween(zone, wall - DAY_MS, wall + DAY_MS)[0] ?? wall - after
}

/** When clocks are put forward or back, if they are, between two moments that are no further apart than some days. */
function changesBetween(zone: string, start: number, end: number): readonly number[] {
  const after = offsetAt(zone, end)
  if (offsetAt(zone, start) === after) return []
  let [low, high] = [start, end]
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (offsetAt(zone, middle) === after) high = middle
    else low = middle
  }
  return [high]
}

function startOfDay(wall: number): number {
  return Math.floor(wall / DAY_MS) * DAY_MS
}

function dayOf(wall: number): Day {
  return DAYS[new Date(wall).getUTCDay()] ?? 'sun'
}

const NAMES: Readonly<Record<Day, string>> = {
  ...{ sun: 'Sun', mon: 'Mon', tue: 'Tue', wed: 'Wed' },
  ...{ thu: 'Thu', fri: 'Fri', sat: 'Sat' },
}

/** `Mon 2027-01-04 09:00` */
export function wallText(zone: string, at: number): string {
  const wall = wallAt(zone, at)
  return `${NAMES[dayOf(wall)]} ${new Date(wall).toISOString().slice(0, 16).replace('T', ' ')}`
}
