import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { Trigger } from '../../src/core/change.ts'
import { compilePlan } from '../../src/plan/compile.ts'
import { parseSpec, specDigest } from '../../src/spec/parse.ts'

const EXAMPLES = new URL('../../examples/', import.meta.url).pathname
/** By example: the stages of a push to a feature branch, to the candidate branch, and to the production branch. */
const STAGES: Readonly<Record<string, readonly [string, string, string]>> = {
  devices: ['test', 'test deliver staging e2e signoff promote', 'production'],
  'go-tool': ['test', 'test', ''],
  minimal: ['test', 'test', ''],
  'node-library': ['test', 'test deliver signoff promote', 'production'],
  'python-service': ['test', 'test deliver staging e2e signoff promote', 'production'],
}

const specs = readdirSync(EXAMPLES).filter((name) => existsSync(`${EXAMPLES}${name}/.penstock.yml`))

test('every example that is expected here is there', () => {
  expect(specs).toEqual(expect.arrayContaining(Object.keys(STAGES)))
})

test.each(specs)('the example %s is a right spec and compiles for every branch', (name) => {
  const bytes = readFileSync(`${EXAMPLES}${name}/.penstock.yml`)

  const parsed = parseSpec(bytes)

  expect(parsed).toMatchObject({ kind: 'ok', warnings: [] })
  const stages = ['feature', 'master', 'production'].map((branch) => {
    if (parsed.kind === 'wrong') return ''
    const trigger: Trigger = {
      kind: 'push',
      repo: 'acme/web',
      requestedBy: 'test',
      change: { commit: 'c'.repeat(40), ref: `refs/heads/${branch}` },
    }
    const compiled = compilePlan({
      spec: parsed.spec,
      specDigest: specDigest(bytes),
      trigger,
      branches: { candidate: 'master', production: 'production' },
      environments: [
        { name: 'staging', gate: false },
        { name: 'production', gate: true },
      ],
    })
    return compiled.kind === 'ok' ? compiled.plan.stages.map((stage) => stage.name).join(' ') : compiled.kind
  })
  if (STAGES[name]) expect(stages).toEqual(STAGES[name])
  else expect(stages).not.toContain('wrong')
})
