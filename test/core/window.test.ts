import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { closedAt, isZone, spanOf, type Window, wallOf } from '../../src/core/window.ts'

const at = (iso: string) => Date.parse(iso)
const until = (window: Window, now: string) => {
  const closed = closedAt(window, at(now))
  if (closed === undefined) return 'open'
  return closed.until === undefined ? 'never' : new Date(closed.until).toISOString()
}
const BERLIN: Window = {
  hours: { zone: 'Europe/Berlin', days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '09:00', to: '17:00' },
  freezes: [],
}
const daily = (zone: string, from: string, to: string): Window => ({
  hours: { zone, days: ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'], from, to },
  freezes: [],
})

describe('a freeze that ends in the hour that comes twice', () => {
  test.each([
    ['at a time: when that comes for the last time', '2026-10-25T02:30', '2026-10-25T01:30:00.000Z'],
    ['with the day: at its midnight', '2026-10-25', '2026-10-25T23:00:00.000Z'],
  ])('%s', (_, to, expected) => {
    const { end } = spanOf({ zone: 'Europe/Berlin', from: '2026-10-24', to })

    expect(new Date(end).toISOString()).toBe(expected)
  })
})

describe('hours', () => {
  test.each([
    ['just before they begin', '2026-11-23T07:59:59.999Z', '2026-11-23T08:00:00.000Z'],
    ['when they begin', '2026-11-23T08:00:00Z', 'open'],
    ['just before they end', '2026-11-23T15:59:59.999Z', 'open'],
    ['when they end', '2026-11-23T16:00:00Z', '2026-11-24T08:00:00.000Z'],
    ['over a weekend', '2026-11-27T16:00:00Z', '2026-11-30T08:00:00.000Z'],
    ['over the weekend on which clocks are put forward', '2026-03-27T16:00:00Z', '2026-03-30T07:00:00.000Z'],
    ['over the weekend on which clocks are put back', '2026-10-23T15:00:00Z', '2026-10-26T08:00:00.000Z'],
  ])('in Berlin, %s', (_, now, expected) => {
    expect(until(BERLIN, now)).toBe(expected)
  })

  // Berlin, 29 March 2026: 01:59:59 is followed by 03:00:00.
  test.each([
    ['begin in the gap: open when it is over', '02:30', '04:00', '2026-03-29T00:59:00Z', '2026-03-29T01:00:00.000Z'],
    ['lie in the gap: not that day', '02:10', '02:50', '2026-03-29T00:59:00Z', '2026-03-30T00:10:00.000Z'],
    ['end in the gap: closed when it begins', '01:00', '02:30', '2026-03-29T00:59:59Z', 'open'],
    ['have ended in the gap', '01:00', '02:30', '2026-03-29T01:00:00Z', '2026-03-29T23:00:00.000Z'],
  ])('that %s', (_, from, to, now, expected) => {
    expect(until(daily('Europe/Berlin', from, to), now)).toBe(expected)
  })

  // Berlin, 25 October 2026: 02:59:59 (+2) is followed by 02:00:00 (+1).
  test.each([
    ['begin in the hour that comes twice', '02:30', '04:00', '2026-10-25T00:29:59Z', '2026-10-25T00:30:00.000Z'],
    ['begin there, after clocks were put back', '02:30', '04:00', '2026-10-25T01:00:00Z', '2026-10-25T01:30:00.000Z'],
    ['lie in it: open a second time', '02:00', '02:30', '2026-10-25T00:30:00Z', '2026-10-25T01:00:00.000Z'],
    ['end in it: open again when it comes again', '01:30', '02:30', '2026-10-25T00:30:00Z', '2026-10-25T01:00:00.000Z'],
    ['have ended in it for good', '01:30', '02:30', '2026-10-25T01:30:00Z', '2026-10-26T00:30:00.000Z'],
  ])('that %s', (_, from, to, now, expected) => {
    expect(until(daily('Europe/Berlin', from, to), now)).toBe(expected)
  })

  test.each([
    ['New York, forward', 'America/New_York', '09:00', '10:00', '2026-03-08T05:00:00Z', '2026-03-08T13:00:00.000Z'],
    ['New York, back', 'America/New_York', '09:00', '10:00', '2026-11-01T04:00:00Z', '2026-11-01T14:00:00.000Z'],
    [
      'Lord Howe, half an hour',
      'Australia/Lord_Howe',
      '02:15',
      '03:00',
      '2026-10-03T15:00:00Z',
      '2026-10-03T15:30:00.000Z',
    ],
    ['Kathmandu', 'Asia/Kathmandu', '00:00', '24:00', '2026-01-01T00:00:00Z', 'open'],
    // In Beirut clocks go from 24:00 to 01:00: that day has no midnight.
    ['a day without midnight', 'Asia/Beirut', '00:00', '02:00', '2026-03-28T21:59:00Z', '2026-03-28T22:00:00.000Z'],
  ])('in %s', (_, zone, from, to, now, expected) => {
    expect(until(daily(zone, from, to), now)).toBe(expected)
  })
})

describe('a freeze', () => {
  const freeze = { zone: 'Europe/Berlin', from: '2026-12-20', to: '2027-01-02', reason: 'year end' }
  const window: Window = { ...BERLIN, freezes: [freeze] }

  test.each([
    ['the moment before', '2026-12-19T22:59:59.999Z', '2027-01-04T08:00:00.000Z'],
    ['its last moment', '2027-01-02T22:59:59.999Z', '2027-01-04T08:00:00.000Z'],
    ['the Friday before', '2026-12-18T15:00:00Z', 'open'],
    ['the Monday after', '2027-01-04T08:00:00Z', 'open'],
  ])('is from its first to its last day: %s', (_, now, expected) => {
    expect(until(window, now)).toBe(expected)
  })

  test('says until when and why', () => {
    expect(closedAt(window, at('2026-12-24T12:00:00Z'))?.why).toBe(
      'until Mon 2027-01-04 09:00 (Europe/Berlin): frozen to 2027-01-02, year end',
    )
    expect(closedAt(BERLIN, at('2026-11-28T12:00:00Z'))?.why).toBe(
      'until Mon 2026-11-30 09:00 (Europe/Berlin): outside the hours mon, tue, wed, thu, fri 09:00 to 17:00 (Europe/Berlin)',
    )
  })

  test('may have times, and no hours beside it', () => {
    const short = { ...freeze, from: '2026-12-20T18:00', to: '2026-12-21T06:00' }

    expect(until({ freezes: [short] }, '2026-12-20T16:59:59Z')).toBe('open')
    expect(until({ freezes: [short] }, '2026-12-20T17:00:00Z')).toBe('2026-12-21T05:00:00.000Z')
  })

  test('may follow another at once', () => {
    const next = { ...freeze, from: '2027-01-03', to: '2027-01-05' }

    expect(until({ ...BERLIN, freezes: [next, freeze] }, '2026-12-24T12:00:00Z')).toBe('2027-01-06T08:00:00.000Z')
  })
})

test('what is open is open, and what is closed opens exactly then, in every zone and at every time', () => {
  const zones = ['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Asia/Beirut', 'America/St_Johns', 'UTC']
  const minutes = fc.integer({ min: 0, max: 1439 })
  const clock = (all: number) => `${String(Math.floor(all / 60)).padStart(2, '0')}:${String(all % 60).padStart(2, '0')}`
  fc.assert(
    fc.property(
      fc.constantFrom(...zones),
      fc.tuple(minutes, minutes).filter(([from, to]) => from < to),
      fc.integer({ min: at('2026-01-01T00:00:00Z'), max: at('2028-01-01T00:00:00Z') }),
      (zone, [from, to], now) => {
        const window = daily(zone, clock(from), clock(to))
        const closed = closedAt(window, now)
        if (closed === undefined) return
        const { until = 0 } = closed
        expect(until).toBeGreaterThan(now)
        expect(closedAt(window, until)).toBeUndefined()
        // Nothing between now and then is open.
        for (let i = 1; i <= 20; i++) {
          const between = now + Math.floor(((until - now) * i) / 21)
          if (between < until) expect(closedAt(window, between)?.until).toBe(until)
        }
      },
    ),
    { numRuns: 300 },
  )
})

test('a zone and a date are those of the world', () => {
  expect(['Europe/Berlin', 'UTC', 'America/Argentina/Ushuaia'].every(isZone)).toBe(true)
  expect(['Europe/Berln', 'CET+1', '', 'EST'].some(isZone)).toBe(false)
  expect(wallOf('2026-02-28')).toBe(at('2026-02-28T00:00:00Z'))
  expect(wallOf('2026-02-29')).toBeNaN()
  expect(wallOf('2026-12-20T24:30')).toBeNaN()
})
