import { describe, expect, test } from 'vitest'
import { sessionCases } from '../../../src/core/session.ts'
import { checkOf, commentOf, deploymentsOf, plan, progress, run, statusOf, TESTED } from './runs.ts'

const FAILED = run({
  change: { commit: 'c'.repeat(40), ref: 'refs/heads/x', pullRequest: { number: 7, base: 'master' } },
  plan: plan(['test'], ['e2e']),
  status: 'failed',
  reason: 'test: unit: exit code 1',
  progress: progress({ test: 'failed' }),
  tests: {
    total: 9,
    failed: 1,
    shown: [{ stage: 'test', job: 'unit', name: 'adds', file: 'src/add.py', line: 12, message: '2 != 3' }],
  },
  failure: { stage: 'test', job: 'unit', step: 'pytest', lines: Array.from({ length: 30 }, (_, i) => `line ${i + 1}`) },
})

describe('the check', () => {
  test.each([
    ['queued', { kind: 'queued' }],
    ['running', { kind: 'running' }],
    ['waiting', { kind: 'running' }],
    ['failed', { kind: 'ended', conclusion: 'failure' }],
    ['errored', { kind: 'ended', conclusion: 'failure' }],
    ['canceled', { kind: 'ended', conclusion: 'canceled' }],
  ] as const)('of a run that is %s', (status, expected) => {
    expect(checkOf(run({ status })).state).toEqual(expected)
  })

  test('of a run that passed', () => {
    const passed = run({ plan: plan(['test']), status: 'succeeded', progress: progress({ test: 'succeeded' }) })

    expect(checkOf(passed).state).toEqual({ kind: 'ended', conclusion: 'success' })
  })

  test('is of one try', () => {
    expect(checkOf(run({ try: 2 })).identity).toBe('acme/web#42/2')
  })

  test('of a release has a name of its own, for the candidate run of the same commit has one, too', () => {
    expect([checkOf(run()).name, checkOf(run({ plan: plan(['staging']) })).name]).toEqual([
      'penstock',
      'penstock/staging',
    ])
  })

  test('points at the lines of failed tests', () => {
    expect(checkOf(FAILED).annotations).toEqual([
      { path: 'src/add.py', line: 12, title: 'unit: adds', message: '2 != 3' },
    ])
  })

  test('of a run that waits for testers says who, where, and what to type, as that of a gate does', () => {
    const session = {
      ...{ stage: 'e2e', job: 'manual', attempt: 2, mayTest: ['tess', 'theo'], paused: false },
      address: 'http://staging.test',
    }
    const sentence = 'waits for testers: 0 of 3 items answered; nobody has joined yet'
    const waits = {
      stage: 'e2e',
      progress: progress({ ...TESTED, e2e: undefined }),
      waitingJobs: [{ job: 'manual', sentence }],
    }
    const one = run({ ...waits, sessions: [session] })
    const two = run({ ...waits, sessions: [session, { ...session, job: 'tablet', paused: true, mayTest: [] }] })

    expect(statusOf(one, 'e2e')).toBe(`pending: manual ${sentence}; may test: tess, theo`)
    expect(checkOf(one).summary).toContain(
      'Next: look at the [checklist](https://ci.example/runs/42/sessions/e2e/manual/2) with `penstock session show 42`, ' +
        'try it against `http://staging.test`, answer with `penstock session answer 42 ITEM passed` (or failed, blocked), ' +
        'and end with `penstock session finish 42`. May test: `tess, theo`.',
    )
    expect(checkOf(two).summary).toContain('`penstock session finish 42 --job manual`')
    expect(checkOf(two).summary).toContain('Next: resume the test with `penstock session resume 42 --job tablet`, look')
  })

  test('points at the lines of the checklist for what people did not pass', () => {
    const checklist = [
      { name: 'Log in', required: true, line: 9 },
      { name: 'Export', required: true, line: 10 },
    ]
    const answers = [
      { item: 1, result: 'passed', by: 'tess', at: 1 },
      { item: 2, result: 'failed', by: 'theo', comment: 'the total is wrong', at: 2 },
    ] as const
    const cases = sessionCases({ state: 'finished', checklist, answers }, 'manual', '.penstock.yml')
    const shown = cases
      .filter(({ result }) => result === 'failed')
      .map(({ suite, ...one }) => ({ ...one, stage: 'e2e', job: suite }))

    expect(checkOf(run({ status: 'failed', tests: { total: 2, failed: 1, shown } })).annotations).toEqual([
      { path: '.penstock.yml', line: 10, title: 'manual: Export', message: 'failed by theo: the total is wrong' },
    ])
  })

  test.each([
    ['/workspace/src/a.py', ['src/a.py']],
    ['./src//a.py', ['src/a.py']],
    ['/etc/passwd', []],
    ['../../etc/passwd', []],
    ['', []],
  ])('points at %s only as far as it is in the repository', (file, paths) => {
    const shown = [{ stage: 'test', job: 'unit', name: 'adds', file }]

    expect(checkOf({ ...FAILED, tests: { total: 1, failed: 1, shown } }).annotations.map(({ path }) => path)).toEqual(
      paths,
    )
  })

  test('points at the lines of a wrong spec, and offers no button that would lead to the same', () => {
    const { plan: _, ...refused } = run({ status: 'failed' })
    const wrong = {
      code: 'unknown-need',
      file: '.penstock.yml',
      line: 14,
      column: 5,
      message: 'no job "biuld"',
      suggestion: 'did you mean "build"?',
    }

    const { annotations, actions } = checkOf({ ...refused, diagnostics: [wrong] })

    expect(annotations).toEqual([
      { path: '.penstock.yml', line: 14, title: 'no job "biuld"', message: 'no job "biuld"; did you mean "build"?' },
    ])
    expect(actions).toEqual([])
  })

  test('shows the last 20 lines of the first failure', () => {
    const { text = '' } = checkOf(FAILED)

    expect(text).toContain('`test / unit / pytest`')
    expect(text.match(/^line \d+$/gm)).toEqual(Array.from({ length: 20 }, (_, i) => `line ${i + 11}`))
  })

  test('takes no more annotations than GitHub does, and says so', () => {
    const shown = Array.from({ length: 60 }, (_, line) => ({
      stage: 'test',
      job: 'unit',
      name: 'a',
      file: 'a.py',
      line,
    }))

    const { annotations, summary } = checkOf({ ...FAILED, tests: { total: 60, failed: 60, shown } })

    expect(annotations).toHaveLength(50)
    expect(summary).toContain('10 annotations more')
  })

  test.each([
    ['failed', undefined, 1],
    ['errored', undefined, 1],
    ['canceled', { by: 'ada', reason: 'oops' }, 1],
    ['canceled', { by: 'penstock', reason: 'superseded by acme/web#12' }, 0],
    ['running', undefined, 0],
  ] as const)('of a run that %s (%j) has %i buttons', (status, cancel, buttons) => {
    expect(checkOf(run({ status, ...(cancel ? { cancel } : {}) })).actions).toHaveLength(buttons)
  })
})

describe('the comment', () => {
  test('is there for pull requests only', () => {
    expect(commentOf(run())).toBeUndefined()
  })

  test('has every stage, failed tests, a link, the log and what to do next', () => {
    const { body = '', pullRequest } = commentOf(FAILED) ?? {}

    expect(pullRequest).toBe(7)
    for (const part of [
      '[Run 42](https://ci.example/runs/42)',
      '| ❌ | `test` | `1 test failed: adds` |',
      '| ➖ | `e2e` | `runs once master has it` |',
      '**1 of 9 tests failed**',
      '- `adds` at `src/add.py:12`',
      'line 30',
      '`penstock run retry 42`',
    ])
      expect(body).toContain(part)
  })

  test('names anybody and anything in code, where nothing begins', () => {
    const evil = '`</code>@acme/all ![x](https://evil.example/p) <img src=x onerror=alert(1)> | a |\n# head\u202E #1'
    const hostile = {
      ...FAILED,
      reasons: { test: evil },
      tests: { total: 1, failed: 1, shown: [{ stage: 'test', job: 'unit', name: evil, className: evil, file: evil }] },
      failure: { stage: 'test', job: 'unit', step: evil, lines: ['```', '<!-- penstock -->', evil, '\u001b[31mred'] },
    }

    const { body = '' } = commentOf(hostile) ?? {}
    const outside = body.replace(/^(`{3,})text\n[\s\S]*?\n\1$/gm, '').replace(/`[^`\n]*`/g, '')

    expect(outside).not.toMatch(/evil|@acme|<|!\[|#1|\u202E/)
    for (const hidden of ['\u202E', '\u001b']) expect(body).not.toContain(hidden)
    expect(body).toContain('\n````text\n')
    for (const row of body.split('\n').filter((line) => line.startsWith('| ❌')))
      expect(row.match(/\|/g)).toHaveLength(4)
  })

  test.each([
    ['succeeded', {}, 'Every stage of this run has passed.'],
    ['errored', {}, 'nothing says that the change is wrong'],
    ['canceled', { cancel: { by: 'penstock', reason: 'superseded by acme/web#12' } }, 'run 12 goes on'],
    ['waiting', { waiting: { kind: 'approval', sentence: '' } }, '`penstock approve 42`'],
  ] as const)('of a run that is %s says what is next', (status, over, expected) => {
    const { reason: _, ...of } = FAILED
    const passed = progress({ test: 'succeeded' })

    expect(commentOf({ ...of, status, progress: passed, ...over })?.body).toContain(expected)
  })
})

describe('deployments', () => {
  test('are shown once they have begun, with the address', () => {
    const before = run({ progress: progress({ test: 'succeeded' }) })
    const during = run({
      stage: 'staging',
      progress: progress({ test: 'succeeded', deliver: 'succeeded', staging: undefined }),
    })

    expect(deploymentsOf(before)).toEqual([])
    expect(deploymentsOf(during)).toMatchObject([
      { environment: 'staging', identity: 'acme/web#42/staging', state: 'running', address: 'https://staging.example' },
    ])
    expect(deploymentsOf(run({ progress: progress(TESTED) }))).toMatchObject([{ state: 'success' }])
    expect(
      deploymentsOf(run({ status: 'failed', progress: progress({ ...TESTED, staging: 'failed' }) })),
    ).toMatchObject([{ state: 'failure' }])
  })
})
