import { describe, expect, it } from 'vitest'
import {
  type ItemAnswer,
  type ItemResult,
  judgeAnswers,
  keptAnswers,
  missingItems,
  type SessionFacts,
  type SessionState,
  sessionCases,
  sessionEnd,
  sessionSubject,
  whyUnfinished,
} from '../../src/core/session.ts'

const CHECKLIST = [
  { name: 'Log in', required: true, line: 3 },
  { name: 'Export', required: true, line: 4 },
  { name: 'Print', required: false, line: 5 },
]

function answered(...results: readonly (ItemResult | undefined)[]): ItemAnswer[] {
  return results.flatMap((result, index) => (result ? [{ item: index + 1, result, by: 'tess', at: 1 }] : []))
}

function facts(answers: readonly ItemAnswer[], state: SessionState = 'finished'): SessionFacts {
  return { state, checklist: CHECKLIST, answers }
}

describe('how a session ends its job', () => {
  it.each<[string, SessionFacts, ReturnType<typeof sessionEnd>]>([
    ['all passed', facts(answered('passed', 'passed', 'passed')), { outcome: 'succeeded' }],
    ['an optional item is open', facts(answered('passed', 'passed')), { outcome: 'succeeded' }],
    ['an optional item is blocked', facts(answered('passed', 'passed', 'blocked')), { outcome: 'succeeded' }],
    [
      'an optional item failed',
      facts(answered('passed', 'passed', 'failed')),
      { outcome: 'failed', reason: 'failed "Print"' },
    ],
    [
      'required ones failed and were blocked',
      facts(answered('failed', 'blocked')),
      { outcome: 'failed', reason: 'failed "Log in"; blocked "Export"' },
    ],
    [
      'an answer was changed',
      facts([...answered('failed', 'passed'), ...answered('passed')]),
      { outcome: 'succeeded' },
    ],
    [
      'it expired half-way',
      facts(answered('passed'), 'expired'),
      { outcome: 'failed', reason: 'expired without an answer to "Export"' },
    ],
    [
      'it expired before somebody finished it',
      facts(answered('passed', 'passed'), 'expired'),
      { outcome: 'failed', reason: 'expired before it was finished' },
    ],
    ['people are at it', facts(answered('failed'), 'open'), undefined],
    ['people pause', facts([], 'paused'), undefined],
    ['its run ended', facts([], 'ended'), { outcome: 'canceled', reason: 'the session ended with its run' }],
  ])('%s', (_, session, end) => {
    expect(sessionEnd(session)).toEqual(end)
  })

  it('names a few of very many, and says how many more', () => {
    const checklist = Array.from({ length: 9 }, (_, n) => ({ name: `i${n}`, required: true, line: 1 }))
    const answers = checklist.map((_, n): ItemAnswer => ({ item: n + 1, result: 'failed', by: 'tess', at: 1 }))

    const end = sessionEnd({ state: 'finished', checklist, answers })

    expect(end?.reason).toBe('failed "i0", "i1", "i2", "i3", "i4" and 4 more')
  })
})

it('only required items without an answer keep it from being finished', () => {
  expect(missingItems(facts(answered(undefined, 'blocked')))).toEqual(['Log in'])
})

describe('the answer of somebody who may not test now', () => {
  const answers = judgeAnswers(
    [
      { item: 1, result: 'passed', by: 'tess', at: 1 },
      { item: 1, result: 'passed', by: 'theo', at: 2 },
      { item: 3, result: 'failed', by: 'theo', comment: 'blank', at: 3 },
    ],
    ['tess'],
  )

  it('keeps its item open, required or not: it may have failed', () => {
    expect(missingItems(facts(answers))).toEqual(['Log in', 'Export'])
    expect(whyUnfinished(facts(answers))).toBe(
      'these items have no answer yet: "Export"; these are to be answered again: ' +
        '"Log in" (passed by theo: theo may not test here now), "Print" (failed by theo: theo may not test here now)',
    )
  })

  it('is no result of a test case, and says why', () => {
    expect(sessionCases(facts(answers, 'expired'), 'manual', 'f')).toMatchObject([
      { name: 'Log in', result: 'errored', message: 'passed by theo (does not count: theo may not test here now)' },
      { name: 'Export', result: 'errored', message: 'nobody answered it' },
      {
        name: 'Print',
        result: 'skipped',
        message: 'failed by theo (does not count: theo may not test here now): blank',
      },
    ])
  })

  it('is forgotten once somebody who may answers', () => {
    const after = [...answers, ...answered('passed', 'passed', 'passed')]

    expect(whyUnfinished(facts(after))).toBeUndefined()
    expect(sessionEnd(facts(after))).toEqual({ outcome: 'succeeded' })
  })
})

it('as test cases: who said what, where the spec has it; what nobody could prove is no failure of the code', () => {
  const answers = [
    ...answered('failed', 'blocked'),
    { item: 1, result: 'failed', by: 'ben', comment: 'no button', at: 2 } as const,
  ]

  const cases = sessionCases(facts(answers), 'manual', '.penstock.yml')

  const common = { suite: 'manual', file: '.penstock.yml' }
  expect(cases).toEqual([
    { ...common, name: 'Log in', line: 3, result: 'failed', message: 'failed by ben: no button' },
    { ...common, name: 'Export', line: 4, result: 'errored', message: 'blocked by tess' },
    { ...common, name: 'Print', line: 5, result: 'skipped', message: 'nobody answered it' },
  ])
})

describe('what a retry keeps', () => {
  const subject = sessionSubject('c', 's', [
    { name: 'web', digest: 'sha256:1' },
    { name: 'api', digest: 'sha256:2' },
  ])
  const earlier = { attempt: 2, subject, answers: answered('passed', 'failed', 'blocked') }
  const may = ['tess']

  it('is what passed, with the attempt it was first given in', () => {
    const { kept, askedAgain } = keptAnswers(earlier, subject, may)
    const again = keptAnswers({ attempt: 3, subject, answers: kept }, subject, may)

    expect(kept).toEqual([{ item: 1, result: 'passed', by: 'tess', at: 1, keptFrom: 2 }])
    expect(askedAgain).toEqual([
      { item: 2, why: 'failed by tess in attempt 2' },
      { item: 3, why: 'blocked by tess in attempt 2' },
    ])
    expect(again).toEqual({ kept, askedAgain: [] })
  })

  it('is nothing that passed first and failed later', () => {
    const answers = [...answered('passed'), ...answered('failed')]

    expect(keptAnswers({ ...earlier, answers }, subject, may).kept).toEqual([])
  })

  it('is nothing of somebody who may not test now, who is named; what others said before does not take its place', () => {
    const answers = [
      { item: 1, result: 'passed', by: 'tess', at: 1 },
      { item: 1, result: 'passed', by: 'theo', at: 2 },
    ] as const

    expect(keptAnswers({ ...earlier, answers }, subject, may)).toEqual({
      kept: [],
      askedAgain: [{ item: 1, why: 'passed by theo in attempt 2: theo may not test here now' }],
    })
  })

  it.each([
    ['commit', { ...subject, commit: 'd' }, 'the commit was c and is d'],
    ['spec', { ...subject, specDigest: 't' }, 'the spec is another one'],
    [
      'deliverables',
      { ...subject, deliverables: ['web=sha256:9', 'doc=sha256:3'] },
      'the deliverable api=sha256:2 is gone; the deliverable web=sha256:1 is web=sha256:9 now; the deliverable doc=sha256:3 is new',
    ],
    [
      'all',
      { commit: 'd', specDigest: 't', deliverables: subject.deliverables.slice(0, 1) },
      'the commit was c and is d; the spec is another one; the deliverable web=sha256:1 is gone',
    ],
  ])('is nothing where the %s is another, and says what', (_, other, why) => {
    expect(keptAnswers(earlier, other, may)).toEqual({
      kept: [],
      askedAgain: [{ why: `no answer of attempt 2 is kept: ${why}` }],
    })
  })

  it('does not depend on the order of the deliverables', () => {
    const other = { ...subject, deliverables: [...subject.deliverables].reverse() }

    expect(keptAnswers(earlier, other, may).kept).toHaveLength(1)
  })
})
