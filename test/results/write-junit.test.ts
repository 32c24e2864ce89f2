import { expect, test } from 'vitest'
import { parseJUnit } from '../../src/results/junit.ts'
import { writeJUnit } from '../../src/results/write-junit.ts'
import type { TestCase } from '../../src/store/types.ts'

test('what is written is read as the same cases, whatever people have typed', () => {
  const common = { suite: 'manual & "more"', file: '.penstock.yml' }
  const cases: readonly TestCase[] = [
    {
      ...common,
      name: '<script>alert(1)</script>',
      line: 3,
      result: 'failed',
      message: 'failed by tess: ]]> & "x"\n\tnew line',
    },
    { ...common, name: 'Export', line: 4, result: 'errored', message: 'blocked by ben' },
    { ...common, name: 'Print 🖨', line: 5, result: 'skipped', message: 'nobody answered it' },
    { ...common, name: 'Log in', line: 6, seconds: 1.5, className: 'a.b', result: 'passed' },
  ]

  const read = parseJUnit(Buffer.from(writeJUnit('manual & "more"', cases)))

  expect(read).toEqual({ cases, problems: [] })
})

test('characters that XML cannot carry are replaced, and the rest is there', () => {
  const text = writeJUnit('s', [
    { suite: 's', name: 'a\u0000b\u001b[31m\ud800', result: 'passed', message: 'passed by \ufffe' },
  ])

  const read = parseJUnit(Buffer.from(text))

  expect(read.problems).toEqual([])
  expect(read.cases[0]?.name).toBe('a\ufffdb\ufffd[31m\ufffd')
  expect(text).toContain('<system-out>passed by \ufffd</system-out>')
})
