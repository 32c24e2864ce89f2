import { expect, test } from 'vitest'
import { compilePlan } from '../../src/plan/compile.ts'
import { parseSpec, specDigest } from '../../src/spec/parse.ts'
import { expectedText, goldenCases } from '../golden/cases.ts'

const cases = goldenCases('valid', '.plan.json')

test('there are at least 40 valid specs', () => {
  expect(cases.length).toBeGreaterThanOrEqual(40)
})

test.each(cases)('a valid spec compiles to the plan of its pair: $name', ({ bytes, facts, expectedFile }) => {
  const parsed = parseSpec(bytes)

  expect(parsed).toMatchObject({ kind: 'ok', warnings: [] })
  const compiled =
    parsed.kind === 'ok' ? compilePlan({ ...facts, spec: parsed.spec, specDigest: specDigest(bytes) }) : undefined
  expect(compiled?.kind).toBe('ok')
  const text = `${JSON.stringify(compiled?.kind === 'ok' ? compiled.plan : undefined, null, 2)}\n`
  expect(text).toBe(expectedText(expectedFile, text))
})
