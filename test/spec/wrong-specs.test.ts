import { expect, test } from 'vitest'
import { compilePlan } from '../../src/plan/compile.ts'
import { formatDiagnostic } from '../../src/spec/diagnostic.ts'
import { parseSpec, specDigest } from '../../src/spec/parse.ts'
import { expectedText, goldenCases } from '../golden/cases.ts'

const cases = goldenCases('wrong', '.diagnostics.txt')

test('there are at least 60 wrong specs', () => {
  expect(cases.length).toBeGreaterThanOrEqual(60)
})

test.each(cases)('a wrong spec is told apart in the words of its pair: $name', ({ bytes, facts, expectedFile }) => {
  const parsed = parseSpec(bytes)
  const result =
    parsed.kind === 'ok' ? compilePlan({ ...facts, spec: parsed.spec, specDigest: specDigest(bytes) }) : parsed

  expect(result.kind).toBe('wrong')
  const diagnostics = result.kind === 'wrong' ? result.diagnostics : []
  const text = `${diagnostics.map(formatDiagnostic).join('\n\n')}\n`
  expect(text).toBe(expectedText(expectedFile, text))
})
