import { describe, expect, test } from 'vitest'
import type { CountedVote, GateRules, GateState, VoteFacts } from '../../src/core/approval.ts'
import { judgeVote, verdictOf } from '../../src/core/approval.ts'
import { matchesPattern } from '../../src/pattern/pattern.ts'

const RULES: GateRules = { approvers: ['ada', 'bob', 'eve'], quorum: 2, excluded: ['eve'], expiresAt: 1000 }
const yes = (by: string): CountedVote => ({ by, answer: 'approve' })
const no = (by: string): CountedVote => ({ by, answer: 'reject' })

describe('the verdict', () => {
  test.each([
    ['is open without votes', [], 0, { kind: 'open', approvals: 0, missing: 2 }],
    ['counts a person once', [yes('ada'), yes('ada')], 0, { kind: 'open', approvals: 1, missing: 1 }],
    ['is approved by a quorum of different people', [yes('ada'), yes('bob')], 0, { kind: 'approved' }],
    ['is rejected by one', [yes('ada'), no('bob')], 0, { kind: 'rejected', by: 'bob' }],
    ['is what was decided first', [yes('ada'), yes('bob'), no('cyd')], 0, { kind: 'approved' }],
    ['lets a person who approved still reject', [yes('ada'), no('ada')], 0, { kind: 'rejected', by: 'ada' }],
    ['expires at its time', [yes('ada')], 1000, { kind: 'expired' }],
    ['is open until then', [yes('ada')], 999, { kind: 'open', approvals: 1, missing: 1 }],
    ['stays approved after its time', [yes('ada'), yes('bob')], 2000, { kind: 'approved' }],
    ['stays rejected after its time', [no('ada')], 2000, { kind: 'rejected', by: 'ada' }],
  ] as const)('%s', (_, votes, now, expected) => {
    expect(verdictOf(RULES, votes, now)).toEqual(expected)
  })

  test('never expires without a time', () => {
    const { expiresAt: _, ...rules } = RULES

    expect(verdictOf(rules, [], Number.MAX_SAFE_INTEGER)).toEqual({ kind: 'open', approvals: 0, missing: 2 })
  })
})

describe('a vote', () => {
  const facts: VoteFacts = {
    state: 'open',
    rules: RULES,
    authenticated: 'ada',
    claimedBy: 'ada',
    trustSignals: false,
    votes: [],
    answer: 'approve',
    now: 0,
    matches: matchesPattern,
  }
  const { authenticated: _, ...signal } = facts

  test('of an approver with a token counts, as the person of the token', () => {
    expect(judgeVote({ ...facts, claimedBy: 'bob' })).toMatchObject({ counts: true, by: 'ada' })
  })

  test('without a token counts only where signals are trusted', () => {
    expect(judgeVote({ ...signal, trustSignals: true })).toMatchObject({ counts: true, by: 'ada' })
    expect(judgeVote(signal)).toMatchObject({
      counts: false,
      why: expect.stringContaining('a signal alone proves nobody'),
    })
  })

  test.each([
    ['unknown', 'is not one of ours'],
    ['used', 'was used before'],
    ['other_subject', 'was made for another commit'],
    ['expired', 'has expired'],
    ['missing', 'a signal alone proves nobody'],
  ] as const)('with a token that is %s does not count, and says so', (tokenProblem, why) => {
    expect(judgeVote({ ...signal, tokenProblem })).toMatchObject({ counts: false, why: expect.stringContaining(why) })
  })

  test.each(['approved', 'rejected', 'expired', 'voided'] satisfies GateState[])(
    'is too late when the gate is %s',
    (state) => {
      expect(judgeVote({ ...facts, state })).toEqual({
        counts: false,
        why: `the gate is ${state}; no further vote is taken`,
      })
    },
  )

  test('is too late at the time of expiry, even if nobody has closed the gate yet', () => {
    expect(judgeVote({ ...facts, now: 999 }).counts).toBe(true)
    expect(judgeVote({ ...facts, now: 1000 })).toEqual({ counts: false, why: 'the gate has expired' })
  })

  test('of the author or pusher never counts, though an approver', () => {
    expect(judgeVote({ ...facts, authenticated: 'eve' })).toMatchObject({
      counts: false,
      why: expect.stringContaining('eve wrote or pushed'),
    })
    expect(judgeVote({ ...signal, claimedBy: 'eve', trustSignals: true }).counts).toBe(false)
  })

  test('of somebody else names the approvers', () => {
    expect(judgeVote({ ...facts, authenticated: 'zoe' })).toEqual({
      counts: false,
      why: 'zoe is not an approver of this environment; approvers: ada, bob, eve',
    })
  })

  test('given a second time does not count, but a change of mind does', () => {
    expect(judgeVote({ ...facts, votes: [yes('ada')] })).toMatchObject({
      counts: false,
      why: expect.stringContaining('already voted'),
    })
    expect(judgeVote({ ...facts, votes: [yes('ada')], answer: 'reject' })).toMatchObject({ counts: true, by: 'ada' })
  })
})

describe('break-glass', () => {
  const facts: VoteFacts = {
    state: 'open',
    rules: RULES,
    authenticated: 'ops',
    claimedBy: 'ops',
    trustSignals: false,
    votes: [],
    answer: 'approve',
    now: 0,
    matches: matchesPattern,
    breakGlass: { operators: ['eve', 'ops'], reason: 'the site is down' },
  }
  const { authenticated: _, ...nobody } = facts

  test('of an operator passes the gate alone, whoever else should approve and whoever objects', () => {
    expect(judgeVote(facts)).toMatchObject({ counts: true, by: 'ops' })
    const vote: CountedVote = { by: 'ops', answer: 'approve', breakGlass: true }
    expect(verdictOf(RULES, [yes('ada'), vote], 0, [{ by: 'bob', why: 'requested changes' }])).toEqual({
      kind: 'approved',
    })
    expect(verdictOf(RULES, [no('ada'), vote], 0)).toEqual({ kind: 'rejected', by: 'ada' })
  })

  test.each([
    ['of a developer', { authenticated: 'ada', breakGlass: { operators: ['ops'], reason: 'x' } }, 'ada may not break'],
    ['without a reason', { breakGlass: { operators: ['ops'], reason: ' ' } }, 'needs a reason'],
    ['of the author, unless the operator’s file allows it', { authenticated: 'eve' }, 'eve wrote or pushed'],
    ['at a gate that has expired', { now: 1000 }, 'the gate has expired'],
    ['at a gate that was rejected', { state: 'rejected' }, 'the gate is rejected'],
    ['as a rejection', { answer: 'reject' }, 'only passes a gate'],
  ] as const)('does not count %s', (_, over, why) => {
    expect(judgeVote({ ...facts, ...over })).toMatchObject({ counts: false, why: expect.stringContaining(why) })
  })

  test('is no matter of trust: a signal that nobody stands for does not count where signals are trusted', () => {
    expect(judgeVote({ ...nobody, trustSignals: true })).toMatchObject({
      counts: false,
      why: expect.stringContaining('must be known'),
    })
  })

  test('of the author counts where the operator’s file says so', () => {
    const rules = { ...RULES, breakGlassByAuthor: true }

    expect(judgeVote({ ...facts, rules, authenticated: 'eve' })).toMatchObject({ counts: true, by: 'eve' })
    expect(judgeVote({ ...facts, rules, authenticated: 'eve', breakGlass: undefined as never }).counts).toBe(false)
  })
})
