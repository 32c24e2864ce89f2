import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { percentiles } from '../../../src/core/pool/percentiles.ts'
import type { UnitHistoryRow } from '../../../src/core/pool/statistics.ts'
import { unitStatistics } from '../../../src/core/pool/statistics.ts'

function rows(unit: string, job: string, failed: number, runs: number): UnitHistoryRow[] {
  return Array.from({ length: runs }, (_, nth) => ({ unit, job, outcome: nth < failed ? 'failed' : 'succeeded' }))
}

function sentences(history: readonly UnitHistoryRow[]): Record<string, string | undefined> {
  return Object.fromEntries(unitStatistics(history).map((one) => [one.unit, one.sentence]))
}

describe('unitStatistics', () => {
  test('a unit on which the same jobs fail more often is named with the counts', () => {
    const history = [...rows('bad', 'j', 12, 15), ...rows('good', 'j', 3, 15)]

    expect(unitStatistics(history)).toEqual([
      {
        unit: 'bad',
        runs: 15,
        failed: 12,
        compared: { here: { runs: 15, failed: 12 }, elsewhere: { runs: 15, failed: 3 }, ratio: 4 },
        sentence: 'fails 4.0 times as often as the same jobs elsewhere (12 of 15 against 3 of 15)',
      },
      {
        unit: 'good',
        runs: 15,
        failed: 3,
        compared: { here: { runs: 15, failed: 3 }, elsewhere: { runs: 15, failed: 12 }, ratio: 0.25 },
      },
    ])
  })

  test('where nothing fails elsewhere there is no ratio', () => {
    expect(sentences([...rows('bad', 'j', 6, 8), ...rows('good', 'j', 0, 20)])).toEqual({
      bad: 'fails, and the same jobs elsewhere never do (6 of 8 against 0 of 20)',
      good: undefined,
    })
  })

  test('few runs say nothing', () => {
    expect(sentences([...rows('bad', 'j', 4, 4), ...rows('good', 'j', 0, 100)])).toEqual({})
    expect(sentences([...rows('bad', 'j', 3, 6), ...rows('good', 'j', 1, 6)])).toEqual({})
    expect(unitStatistics([])).toEqual([])
  })

  test('Fisher’s own example is decided as in the book: p is 17 of 70 for three of four, 1 of 70 for all', () => {
    const twice = (failed: number) => [
      ...rows('bad', 'j', failed, 4),
      ...rows('good', 'j', 4 - failed, 4),
      ...rows('bad', 'k', 1, 1),
      ...rows('good', 'k', 1, 1),
    ]

    expect(sentences(twice(3)).bad).toBeUndefined()
    // Of 70, times two units that are looked at: below 0.05.
    expect(sentences(twice(4)).bad).toContain('5 of 5 against 1 of 5')
  })

  test('a unit that gets the difficult jobs is not accused', () => {
    const history = [
      ...rows('lab', 'hard', 40, 50),
      ...rows('other', 'hard', 8, 10),
      ...rows('lab', 'easy', 1, 10),
      ...rows('other', 'easy', 5, 50),
    ]

    expect(sentences(history)).toEqual({ lab: undefined, other: undefined })
    expect(unitStatistics(history)[0]?.compared.ratio).toBeCloseTo(1, 5)
  })

  test('jobs that ran nowhere else, and those that errored, are not compared', () => {
    const errored = Array.from({ length: 30 }, () => ({ unit: 'u', job: 'j', outcome: 'errored' as const }))
    const [u] = unitStatistics([...rows('u', 'only here', 20, 20), ...errored, ...rows('v', 'j', 0, 20)])

    expect(u).toEqual({
      unit: 'u',
      runs: 20,
      failed: 20,
      compared: { here: { runs: 0, failed: 0 }, elsewhere: { runs: 0, failed: 0 } },
    })
  })

  test('of units that are all alike, hardly ever one is accused', () => {
    let accused = 0
    const worlds = 300
    fc.assert(
      fc.property(
        fc.array(fc.record({ unit: fc.nat(9), job: fc.nat(3), luck: fc.nat(9) }), { minLength: 200, maxLength: 200 }),
        (runs) => {
          const found = unitStatistics(
            runs.map(({ unit, job, luck }) => ({
              unit: `u${unit}`,
              job: `j${job}`,
              outcome: luck < 1 + job ? 'failed' : 'succeeded',
            })),
          )
          if (found.some((one) => one.sentence !== undefined)) accused += 1
        },
      ),
      { numRuns: worlds, seed: 1 },
    )

    expect(accused).toBeLessThan(worlds * 0.05)
  })

  test('order and names of jobs do not matter, and counts never exceed what ran', () => {
    const history = fc.array(
      fc.record({
        unit: fc.constantFrom('a', 'b', 'c'),
        job: fc.constantFrom('x', 'y'),
        outcome: fc.constantFrom('succeeded' as const, 'failed' as const, 'errored' as const),
      }),
      { maxLength: 80 },
    )
    fc.assert(
      fc.property(history, (rows) => {
        const found = unitStatistics(rows)

        expect(unitStatistics([...rows].reverse())).toEqual(found)
        expect(unitStatistics(rows.map((row) => ({ ...row, job: `${row.job}'` })))).toEqual(found)
        for (const { unit, runs, failed, compared, sentence } of found) {
          expect(runs).toBe(rows.filter((row) => row.unit === unit && row.outcome !== 'errored').length)
          expect(failed).toBeLessThanOrEqual(runs)
          expect(compared.here.runs).toBeLessThanOrEqual(runs)
          if (sentence !== undefined) expect(compared.ratio ?? 2).toBeGreaterThan(1)
        }
      }),
    )
  })
})

describe('percentiles', () => {
  test('are values that did occur, by nearest rank', () => {
    const hundred = Array.from({ length: 100 }, (_, nth) => 100 - nth)

    expect(percentiles(hundred)).toEqual({ count: 100, p50: 50, p90: 90, p99: 99 })
    expect(percentiles([7])).toEqual({ count: 1, p50: 7, p90: 7, p99: 7 })
    expect(percentiles([1, 9])).toEqual({ count: 2, p50: 1, p90: 9, p99: 9 })
    expect(percentiles([])).toBeUndefined()
  })
})
