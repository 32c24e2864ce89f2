import { describe, expect, test } from 'vitest'
import { AGEING_MS, computeGrants, inTurn, isPossible } from '../../../src/core/pool/grants.ts'
import { hasLabels } from '../../../src/core/pool/labels.ts'
import { granted, held, NOW, sharing, some, unit, wants } from './pools.ts'

const ONE = some(1, ['u'])

describe('computeGrants', () => {
  test('grants with the next fence, from now until the time to live', () => {
    const grants = computeGrants({ units: [unit('u', { fence: 6 })], waiting: [wants('a', 1, ONE)], shares: {} }, NOW)

    const lease = { pool: 'rig', unit: 'u', mode: 'exclusive', fence: 7, since: NOW, expiresAt: NOW + 60 }
    expect(grants).toEqual([{ holder: 'a', units: [lease] }])
  })

  test('serves by priority, then by age', () => {
    expect(granted([unit('u')], [wants('young', 2, ONE), wants('old', 1, ONE)])).toEqual({ old: ['u'] })
    expect(granted([unit('u')], [wants('high', 2, ONE, { priority: 1 }), wants('old', 1, ONE)])).toEqual({
      high: ['u'],
    })
  })

  test('an older request goes before a higher one that came more than the ageing time after it', () => {
    const old = wants('old', 1, ONE, { since: NOW - AGEING_MS })
    const older = wants('older', 1, ONE, { since: NOW - AGEING_MS - 1 })
    const high = wants('high', 2, ONE, { priority: 1 })

    expect(granted([unit('u')], [high, old])).toEqual({ old: ['u'] })
    expect(granted([unit('u')], [high, older])).toEqual({ older: ['u'] })
    expect(granted([unit('u')], [high, { ...old, since: old.since + 1 }])).toEqual({ high: ['u'] })
    expect(inTurn([wants('c', 3, ONE), high, older]).map((one) => one.holder)).toEqual(['older', 'high', 'c'])
  })

  test('keeps free units for a big request, from small ones that come later', () => {
    const units = [unit('u1'), unit('u2', held('x'))]
    const big = wants('big', 1, some(2, ['u1', 'u2']))
    const small = some(1, ['u1', 'u2'])

    expect(granted(units, [big, wants('small', 2, small), wants('low', 3, small, { priority: -1 })])).toEqual({})
    expect(granted(units, [big, wants('urgent', 2, small, { priority: 1 })])).toEqual({ urgent: ['u1'] })
  })

  test('lets later ones have what those ahead cannot use', () => {
    const any = some(1, ['u1', 'u2', 'u3'])
    const units = [unit('u1'), unit('u2'), unit('u3'), unit('x', { pool: 'gpu', ...held('y') })]
    const both = wants('both', 1, [any, some(1, ['x'], 'exclusive', 'gpu')])

    expect(granted(units, [both, wants('b', 2, any), wants('c', 3, any), wants('d', 4, any)])).toEqual({
      b: ['u2'],
      c: ['u3'],
    })
  })

  test('grants from several pools all or nothing, and one unit at most once', () => {
    const both = wants('a', 1, [ONE, some(1, ['x'], 'exclusive', 'gpu')])

    expect(granted([unit('u'), unit('x', { pool: 'gpu' })], [both])).toEqual({ a: ['u', 'x'] })
    expect(granted([unit('u'), unit('x', { pool: 'gpu', ...held('y') })], [both])).toEqual({})
    expect(granted([unit('u', { capacity: 3 })], [wants('a', 1, some(2, ['u'], 'shared'))])).toEqual({})
  })

  test('units of one name in two pools are two units', () => {
    const units = [unit('1'), unit('1', { pool: 'gpu' })]

    expect(granted(units, [wants('a', 1, some(1, ['1'], 'exclusive', 'gpu')), wants('b', 2, some(1, ['1']))])).toEqual({
      a: ['1'],
      b: ['1'],
    })
  })

  test('units that can do little go first, then those cheap to reset, then those shared already', () => {
    const all = some(1, ['much', 'dear', 'cheap'])
    const units = [
      unit('much', { versatility: 2 }),
      unit('dear', { resetCostMs: 9 }),
      unit('cheap', { resetCostMs: 1 }),
    ]
    const places = [unit('a', { capacity: 2 }), unit('b', { capacity: 2, ...sharing('x') })]

    expect(granted(units, [wants('1', 1, all), wants('2', 2, all), wants('3', 3, all)])).toEqual({
      1: ['cheap'],
      2: ['dear'],
      3: ['much'],
    })
    expect(granted(places, [wants('1', 1, some(1, ['a', 'b'], 'shared'))])).toEqual({ 1: ['b'] })
  })

  test('finds the only way to fill requests that overlap', () => {
    const units = [unit('xy'), unit('x')]
    const wanted = [some(1, ['xy', 'x']), some(1, ['xy'])]

    expect(granted(units, [wants('a', 1, wanted)])).toEqual({ a: ['x', 'xy'] })
    expect(granted(units, [wants('a', 1, [...wanted].reverse())])).toEqual({ a: ['x', 'xy'] })
  })

  test('a request that no working unit could serve keeps nothing from others', () => {
    const big = wants('big', 1, some(2, ['u', 'bad']))
    const small = wants('small', 2, some(1, ['u', 'bad']))

    expect(granted([unit('u'), unit('bad', { isOpen: false })], [big, small])).toEqual({ small: ['u'] })
    expect(granted([unit('u'), unit('bad', { isOpen: false, ...held('x') })], [big, small])).toEqual({ small: ['u'] })
  })

  test('a unit that is being handed over counts as coming: what goes with it is kept back', () => {
    const units = [unit('u'), unit('reset', { isOpen: false, isReturning: true })]
    const any = some(1, ['u', 'reset'])

    expect(granted(units, [wants('big', 1, some(2, ['u', 'reset'])), wants('small', 2, any)])).toEqual({})
    expect(granted(units, [wants('one', 1, any), wants('two', 2, any)])).toEqual({ one: ['u'] })
  })

  test('a unit is shared up to its capacity, with one fence for each', () => {
    const place = some(1, ['u'], 'shared')
    const waiting = [wants('a', 1, place), wants('b', 2, place), wants('c', 3, place)]

    const grants = computeGrants({ units: [unit('u', { capacity: 2 })], waiting, shares: {} }, NOW)

    expect(grants.map((one) => [one.holder, one.units[0]?.mode, one.units[0]?.fence])).toEqual([
      ['a', 'shared', 1],
      ['b', 'shared', 2],
    ])
  })

  test('who wants a unit alone has it alone', () => {
    const place = some(1, ['u'], 'shared')
    const shared = unit('u', { capacity: 3, ...sharing('x') })

    expect(granted([shared], [wants('a', 1, ONE)])).toEqual({})
    expect(granted([unit('u', { capacity: 3, ...held('x') })], [wants('a', 1, place)])).toEqual({})
    expect(granted([unit('u', { capacity: 3 })], [wants('a', 1, ONE), wants('b', 2, place)])).toEqual({ a: ['u'] })
  })

  test('a shared unit that somebody waits to have alone takes nobody new', () => {
    const units = [unit('u', { capacity: 3, ...sharing('x') }), unit('v', { capacity: 3, ...sharing('x') })]
    const place = (name: string) => some(1, [name], 'shared')
    const alone = wants('alone', 2, ONE)

    expect(granted(units, [wants('before', 1, place('u')), alone])).toEqual({ before: ['u'] })
    expect(granted(units, [alone, wants('after', 3, place('u')), wants('else', 4, place('v'))])).toEqual({
      else: ['v'],
    })
    expect(granted(units, [alone, wants('high', 3, place('u'), { priority: 1 })])).toEqual({ high: ['u'] })
  })

  test('a shared unit goes on being shared where it is another pool for which somebody waits', () => {
    const units = [
      unit('u', { capacity: 3 }),
      unit('v', { capacity: 3, ...sharing('x') }),
      unit('gpu', { pool: 'gpu', ...held('x') }),
    ]
    const alone = wants('alone', 1, [some(1, ['u', 'v']), some(1, ['gpu'], 'exclusive', 'gpu')])

    expect(granted(units, [alone, wants('after', 2, some(1, ['u', 'v'], 'shared'))])).toEqual({ after: ['v'] })
  })

  test('what is kept back of whole units is not given up for a place on a shared one', () => {
    // a needs v alone and one of both besides: while v is shared, it is u that is kept, for v becomes free anyway.
    const units = [unit('v', { capacity: 3, ...sharing('x') }), unit('u', { versatility: 1 })]
    const a = wants('a', 1, [some(1, ['u', 'v'], 'shared'), some(1, ['v'])])

    expect(granted(units, [a, wants('b', 2, some(1, ['u']))])).toEqual({})
  })
})

describe('shares', () => {
  const any = some(1, ['u1', 'u2', 'u3'])
  const units = [unit('u1', held({ holder: 'a1', group: 'a', mode: 'exclusive' })), unit('u2'), unit('u3')]

  test('a group never holds more than its share, and others go on', () => {
    const waiting = [
      wants('a2', 1, any, { group: 'a' }),
      wants('a3', 2, any, { group: 'a' }),
      wants('b1', 3, any, { group: 'b' }),
    ]

    expect(granted(units, waiting, { rig: 2 })).toEqual({ a2: ['u2'], b1: ['u3'] })
    expect(granted(units, waiting, { rig: 1 })).toEqual({ b1: ['u2'] })
    expect(granted(units, waiting, { gpu: 1 })).toEqual({ a2: ['u2'], a3: ['u3'] })
  })

  test('small requests of a group leave the share to a big one of the same group that came before them', () => {
    const big = wants('big', 1, some(2, ['u1', 'u2', 'u3']), { group: 'a' })
    const small = wants('small', 2, any, { group: 'a' })

    expect(granted(units, [big, small, wants('b', 3, any)], { rig: 2 })).toEqual({ b: ['u2'] })
  })

  test('more than the share is impossible', () => {
    const two = [some(2, ['u1', 'u2', 'u3'])]

    expect(isPossible(two, units, { rig: 2 })).toBe(true)
    expect(isPossible(two, units, { rig: 1 })).toBe(false)
    expect(granted(units, [wants('a', 1, two), wants('b', 2, any)], { rig: 1 })).toEqual({ b: ['u2'] })
  })

  test('a pool whose name objects have by nature has no share', () => {
    expect(isPossible([some(1, ['u'], 'shared', 'constructor')], [unit('u', { pool: 'constructor' })], {})).toBe(true)
  })
})

describe('isPossible', () => {
  test('counts what is held or closed, and no unit twice', () => {
    const units = [unit('u', held('x')), unit('v', { isOpen: false })]

    expect(isPossible([some(2, ['u', 'v'])], units)).toBe(true)
    expect(isPossible([some(2, ['u', 'v']), ONE], units)).toBe(false)
    expect(isPossible([some(1, [])], units)).toBe(false)
  })
})

describe('hasLabels', () => {
  test.each([
    [['arch=arm64'], ['arch=arm64'], true],
    [['arch=arm64', 'gpu'], ['arch', 'gpu'], true],
    [['arch=arm64'], ['arch=x86'], false],
    [['arch=arm64'], ['arc'], false],
    [['gpu'], ['gpu='], false],
    [[], [], true],
  ])('%j for %j: %s', (labels, wanted, expected) => {
    expect(hasLabels(labels, wanted)).toBe(expected)
  })
})
