import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { approverProblem, shortageOf } from '../../src/config/gate.ts'
import type { Trigger } from '../../src/core/change.ts'
import type { Plan } from '../../src/core/plan.ts'
import { stageJobs } from '../../src/core/plan.ts'
import type { PlannedEnvironment } from '../../src/plan/compile.ts'
import { compilePlan } from '../../src/plan/compile.ts'
import { formatPlan } from '../../src/plan/format.ts'
import { parseSpec } from '../../src/spec/parse.ts'

const ENVIRONMENTS: readonly PlannedEnvironment[] = [
  { name: 'staging', gate: false },
  { name: 'production', gate: true },
]

function trigger(kind: Trigger['kind'], ref: string): Trigger {
  return { kind, repo: 'acme/web', requestedBy: 'ann', change: { commit: 'c'.repeat(40), ref } }
}

function compile(text: string, by: Trigger, environments = ENVIRONMENTS) {
  const parsed = parseSpec(text)
  if (parsed.kind === 'wrong') throw new Error(`the test's own spec is wrong: ${JSON.stringify(parsed.diagnostics)}`)
  return compilePlan({
    spec: parsed.spec,
    specDigest: 'd'.repeat(64),
    trigger: by,
    branches: { candidate: 'master', production: 'production' },
    environments,
  })
}

function planOf(text: string, by: Trigger, environments = ENVIRONMENTS): Plan {
  const compiled = compile(text, by, environments)
  if (compiled.kind === 'wrong') throw new Error(JSON.stringify(compiled.diagnostics))
  return compiled.plan
}

const WHOLE = `
image: alpine
test: make
deliver: { api: { docker: . } }
e2e: ./e2e.sh
deploy: { staging: { deliverable: api }, production: { deliverable: api } }
`

test.each([
  ['push', 'refs/heads/feature', ['test']],
  ['push', 'refs/heads/feature/master', ['test']],
  ['push', 'refs/tags/master', ['test']],
  ['pull_request', 'refs/heads/master', ['test']],
  ['pull_request', 'refs/heads/production', ['test']],
  ['push', 'refs/heads/master', ['test', 'deliver', 'staging', 'e2e', 'signoff', 'promote']],
  ['manual', 'refs/heads/master', ['test', 'deliver', 'staging', 'e2e', 'signoff', 'promote']],
  ['push', 'refs/heads/production', ['production']],
  ['promotion', 'refs/heads/production', ['production']],
] as const)('a %s of %s runs the stages %j', (kind, ref, stages) => {
  expect(planOf(WHOLE, trigger(kind, ref)).stages.map(({ name }) => name)).toEqual(stages)
})

test.each([
  ['push', 'refs/heads/feature', ['deliver', 'staging', 'e2e']],
  ['pull_request', 'refs/heads/master', ['deliver', 'staging', 'e2e']],
  ['push', 'refs/heads/master', undefined],
  ['push', 'refs/heads/production', undefined],
] as const)('a %s of %s omits the stages %j, and never a sign-off', (kind, ref, omitted) => {
  expect(planOf(WHOLE, trigger(kind, ref)).omitted?.map(({ name }) => name)).toEqual(omitted)
})

test('a plan carries the repository and the digest of its spec', () => {
  expect(planOf(WHOLE, trigger('push', 'refs/heads/x'))).toMatchObject({
    version: 1,
    repo: 'acme/web',
    specDigest: 'd'.repeat(64),
  })
})

test('the same input gives the same plan', () => {
  const by = trigger('push', 'refs/heads/master')

  expect(JSON.stringify(planOf(WHOLE, by))).toBe(JSON.stringify(planOf(WHOLE, by)))
})

test('names of stages are unique in every plan', () => {
  const names = planOf(WHOLE, trigger('push', 'refs/heads/master')).stages.map(({ name }) => name)

  expect(new Set(names).size).toBe(names.length)
})

test('an operator without environments gets a diagnostic for each deployment', () => {
  const compiled = compile(WHOLE, trigger('push', 'refs/heads/x'), [])

  expect(compiled).toMatchObject({
    kind: 'wrong',
    diagnostics: [
      {
        code: 'unknown-environment',
        line: 6,
        column: 11,
        suggestion: 'there is no environment declared for this repository',
      },
      { code: 'unknown-environment', line: 6, column: 42 },
    ],
  })
})

test('segments keep every step in its order, and no two neighbors have the same image', () => {
  const images = fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 30 })

  fc.assert(
    fc.property(images, (list) => {
      const spec = { test: list.map((image, index) => ({ name: `s${index}`, run: 'x', image })) }

      const [job] = planOf(JSON.stringify(spec), trigger('push', 'refs/heads/x')).stages.flatMap(stageJobs)

      const segments = job?.segments ?? []
      expect(segments.flatMap(({ image, steps }) => steps.map(({ name }) => `${name} ${image}`))).toEqual(
        list.map((image, index) => `s${index} ${image}`),
      )
      for (const [index, segment] of segments.entries()) expect(segment.image).not.toBe(segments[index + 1]?.image)
    }),
  )
})

test('a plan is printed for a person: stages, jobs, containers, steps', () => {
  const text = `
image: alpine
test:
  build: { timeout: 1h30m, resources: { cpus: 2, memory: 512Mi }, run: [{ name: compile, run: make, timeout: 90s }] }
  unit: { needs: build, pool: { rig: { count: 2, labels: [arm] } }, secrets: { TOKEN: env }, run: make check }
deliver: { api: { docker: ., to: registry.example/api } }
deploy: { staging: { deliverable: api }, production: ./deploy }
`

  expect(formatPlan(planOf(text, trigger('push', 'refs/heads/master')))).toBe(`test
  build: at most 1h30m, 2 CPUs, 512Mi, 4096 processes; reserves 2 CPUs, 512Mi
    alpine
      - compile (at most 1m30s)
  unit: needs build; at most 1h, 2 CPUs, 2Gi, 4096 processes; holds 2 of pool rig with arm; secrets TOKEN (variable)
    alpine
      - make check
deliver
  api: image of . (Dockerfile), pushed to registry.example/api
staging: releases deliverable api
signoff: waits for the approvals that production asks for
promote: fast-forwards branch production to the commit of the run
`)
})

test('a plan without stages says so', () => {
  expect(formatPlan(planOf('image: a\ne2e: x\n', trigger('push', 'refs/heads/x')))).toBe(
    'nothing to do: the spec has no stage for this event\n',
  )
})

describe('what a spec asks for beside the operator', () => {
  const DEPLOY = 'image: alpine\ndeploy: { production: ./deploy }\n'
  const people = {
    people: Object.fromEntries(
      ['ada', 'ben', 'tess'].map((name) => [name, { name, roles: ['approver'] as const, email: [] }]),
    ),
    teams: { qa: ['tess'] },
  }
  const place = { forge: { kind: 'git' } } as const
  const operators = [{ from: ['role:approver'], count: 2 }]
  const environments: readonly PlannedEnvironment[] = [
    {
      ...{ name: 'production', gate: true },
      rules: {
        expiresSeconds: 7 * 86_400,
        problemOf: (entry) => approverProblem(people, place, entry),
        shortageOf: (added) => shortageOf(people, place, [...operators, ...added]),
      },
    },
  ]
  const push = trigger('push', 'refs/heads/master')
  const problemsOf = (text: string, of = environments) => {
    const compiled = compile(`${DEPLOY}${text}`, push, of)
    return compiled.kind === 'ok'
      ? []
      : compiled.diagnostics.map(({ line, column, code, message }) => `${line}:${column} ${code}: ${message}`)
  }

  test('stands in the plan, as groups and as a shorter time', () => {
    const text = `${DEPLOY}signoff: { approvals: [{ from: [team:qa] }], expires: 2d }`

    const gate = planOf(text, push, environments).stages.find(({ kind }) => kind === 'gate')

    expect(gate).toMatchObject({ approvals: [{ from: ['team:qa'], count: 1 }], expiresSeconds: 2 * 86_400 })
    expect(formatPlan(planOf(text, push, environments))).toContain('and for 1 of team:qa')
  })

  test.each([
    [
      'takes longer than the operator lets it',
      'signoff: { expires: 30d }',
      [
        '3:21 signoff-weakens: 30d is longer than the 7d of the operator for production: a spec may add to a gate, and take nothing away',
      ],
    ],
    [
      'names whom nobody knows',
      'signoff: { approvals: [{ from: [team:qs, eve, "forge:write"] }] }',
      [
        '3:33 unknown-approver: "qs" is not among the teams; did you mean "qa"?',
        '3:42 unknown-approver: "eve" is not among the people; known: ada, ben, tess',
        '3:47 unknown-approver: the forge of this repository cannot be asked who has a permission: it is plain git, or without a token',
      ],
    ],
    [
      'asks for more people than there are',
      'signoff: { approvals: [{ from: [team:qa] }, { from: [ada] }] }',
      [expect.stringContaining('3:24 signoff-without-people: ')],
    ],
  ])('is refused where it %s', (_, text, expected) => {
    expect(problemsOf(text)).toEqual(expected)
  })

  test('needs a gate', () => {
    expect(problemsOf('signoff: { expires: 1d }', [{ name: 'production', gate: false }])).toEqual([
      '3:1 signoff-without-gate: nothing is signed off: no environment under deploy has a gate',
    ])
  })

  test.each(['quorum: 1', 'approvers: [eve]', 'on_expiry: skip', 'hours: {}', 'freezes: []'])(
    'takes nothing away: %s is no key of a spec',
    (rule) => {
      expect(parseSpec(`${DEPLOY}signoff: { expires: 1d, ${rule} }`)).toMatchObject({
        ...{ kind: 'wrong', diagnostics: [{ code: 'unknown-key' }] },
      })
    },
  )
})

test('an expression is checked against the units that there are; a pool that is not there is the job’s affair', () => {
  const text = `image: alpine
test:
  a: { pool: { rig: { where: "arhc == 'arm64'" } }, run: make }
  b: { pool: { rig: { where: "memory == 'four'" } }, run: make }
  c: { pool: { rig: { where: "memory >= 4 && arch == 'arm64'" }, gpu: { where: "anything == 1" } }, run: make }
`
  const parsed = parseSpec(text)
  if (parsed.kind === 'wrong') throw new Error('the spec is wrong')

  const compiled = compilePlan({
    ...{ spec: parsed.spec, specDigest: 'd', trigger: trigger('push', 'refs/heads/x'), environments: [] },
    branches: { candidate: 'master', production: 'production' },
    pools: { rig: { arch: 'string', memory: 'int' } },
  })

  expect(compiled).toMatchObject({
    kind: 'wrong',
    diagnostics: [
      {
        code: 'bad-expression',
        line: 3,
        message: expect.stringContaining('pool "rig"'),
        suggestion: expect.stringContaining('arch'),
      },
      { code: 'bad-expression', line: 4 },
    ],
  })
})
