import { describe, expect, test } from 'vitest'
import type { HoldHistory, QueueOutlook } from '../../../src/core/pool/expected-start.ts'
import { expectedStart, expectedStarts } from '../../../src/core/pool/expected-start.ts'
import type { PoolUnit, WaitingRequest } from '../../../src/core/pool/state.ts'
import { held, NOW, some, unit, wants } from './pools.ts'

const USUAL: HoldHistory = { low: 10, middle: 20, high: 40 }
const ANY = some(1, ['u', 'v'])

function outlook(
  units: readonly PoolUnit[],
  waiting: readonly WaitingRequest[],
  over: Partial<QueueOutlook> = {},
): QueueOutlook {
  return { state: { units, waiting, shares: {} }, now: NOW, since: () => NOW - 5, holds: () => USUAL, ...over }
}

describe('expectedStart', () => {
  test('what is free starts now', () => {
    expect(expectedStart(outlook([unit('u')], [wants('a', 1, ANY)]), 'a')).toEqual({ earliest: NOW, latest: NOW })
  })

  test('the next starts when the holder ends, those behind it a hold later each', () => {
    const waiting = [wants('a', 1, ANY), wants('b', 2, ANY), wants('c', 3, ANY)]
    const queue = outlook([unit('u', held('x'))], waiting)

    expect(expectedStart(queue, 'a')).toEqual({ earliest: NOW + 5, latest: NOW + 35 })
    expect(expectedStart(queue, 'c')).toEqual({ earliest: NOW + 25, latest: NOW + 115 })
    expect(expectedStarts(queue).get('b')).toEqual({ earliest: NOW + 15, latest: NOW + 75 })
  })

  test('a request for all units waits for the last of them', () => {
    const units = [unit('u', held('x')), unit('v', held('y'))]
    const since = (holder: string) => (holder === 'x' ? NOW - 5 : NOW)

    expect(
      expectedStart(outlook(units, [wants('a', 1, some(2, ['u', 'v'])), wants('b', 2, ANY)], { since }), 'a'),
    ).toEqual({ earliest: NOW + 10, latest: NOW + 40 })
  })

  test('the hand-over counts', () => {
    const reset = unit('u', { resetCostMs: 7, ...held('x') })
    const returning = unit('u', { resetCostMs: 7, isOpen: false, isReturning: true })

    expect(expectedStart(outlook([reset], [wants('a', 1, ANY)]), 'a')).toEqual({ earliest: NOW + 12, latest: NOW + 42 })
    expect(expectedStart(outlook([returning], [wants('a', 1, ANY)]), 'a')).toEqual({ earliest: NOW, latest: NOW + 7 })
  })

  test('who holds longer than anybody before leaves the end open', () => {
    const queue = outlook([unit('u', held('x'))], [wants('a', 1, ANY)], { since: () => NOW - 50 })

    expect(expectedStart(queue, 'a')).toEqual({ earliest: NOW })
  })

  test('without a history, with units that do not work, or for who does not wait nothing is said', () => {
    const units = [unit('u', held('x'))]

    expect(expectedStart(outlook(units, [wants('a', 1, ANY)], { holds: () => undefined }), 'a')).toBeUndefined()
    expect(expectedStart(outlook([unit('u', { isOpen: false })], [wants('a', 1, ANY)]), 'a')).toBeUndefined()
    expect(expectedStart(outlook(units, [wants('a', 1, ANY)]), 'b')).toBeUndefined()
  })

  test('a history of the unit’s other users is enough where the unknown one is not in the way', () => {
    const units = [unit('u', held('known')), unit('v', held('unknown'))]
    const holds = (holder: string) => (holder === 'unknown' ? undefined : USUAL)

    expect(expectedStart(outlook(units, [wants('a', 1, ANY)], { holds }), 'a')).toMatchObject({ earliest: NOW + 5 })
  })

  test('a queue longer than anybody plans by ends, and soon', () => {
    const waiting = Array.from({ length: 900 }, (_, nth) => wants(`h${nth}`, nth, ANY))
    const queue = outlook([unit('u', held('x'))], waiting)

    expect(expectedStart(queue, 'h100')).toBeUndefined()
    expect(expectedStart(queue, 'h99')).toMatchObject({ earliest: NOW + 5 + 990 })
  })
})
