import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { ApprovalGroup, CountedVote, GateRules, GateState, Subject, VoteFacts } from '../../src/core/approval.ts'
import {
  gateSentence,
  judgeVote,
  placesOf,
  rulesChange,
  standingOf,
  subjectChanges,
  verdictOf,
} from '../../src/core/approval.ts'
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
    // A gate that is approved takes no vote any more; one that waits for its window does.
    [
      'is rejected by one, however many approved',
      [yes('ada'), yes('bob'), no('cyd')],
      0,
      { kind: 'rejected', by: 'cyd' },
    ],
    ['does not count who wrote or pushed it', [yes('ada'), yes('eve')], 0, { kind: 'open', approvals: 1, missing: 1 }],
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

describe('a forge that cannot be asked', () => {
  const UNASKED = rulesOf([{ ...group(1), unasked: 'it is down' }, group(1, 'ben')], { expiresAt: 1000 })
  const open = { kind: 'open', approvals: 1, missing: 1 }

  test('expires no gate that has all its approvals', () => {
    expect(verdictOf(UNASKED, [yes('ada'), yes('ben')], 2000)).toEqual(open)
  })

  test('keeps no gate open whose approvals would not do even then', () => {
    expect(verdictOf(UNASKED, [yes('ada')], 2000)).toEqual({ kind: 'expired' })
    expect(verdictOf(UNASKED, [yes('ada'), yes('ben')], 2000, [{ by: 'cyd', why: 'x' }])).toEqual({ kind: 'expired' })
    expect(verdictOf({ ...UNASKED, excluded: ['ada'] }, [yes('ada'), yes('ben')], 2000)).toEqual({ kind: 'expired' })
  })

  test('gives no time to approve in: only to reject', () => {
    const rules = { ...UNASKED, approvers: ['ben', 'tess'] }
    const facts = {
      ...({ state: 'open', rules, authenticated: 'tess', claimedBy: 'tess', now: 2000 } as const),
      ...{ trustSignals: false, votes: [yes('ada'), yes('ben')], matches: matchesPattern },
    }

    expect(judgeVote({ ...facts, answer: 'approve' })).toMatchObject({
      why: expect.stringContaining('the time of the gate is over'),
    })
    expect(judgeVote({ ...facts, answer: 'reject' })).toMatchObject({ counts: true })
  })
})

function rulesOf(groups: readonly ApprovalGroup[], more: Partial<GateRules> = {}): GateRules {
  const approvers = [...new Set(groups.flatMap(({ members }) => members))].sort()
  return { approvers, quorum: groups.reduce((sum, { count }) => sum + count, 0), excluded: [], groups, ...more }
}

function group(count: number, ...members: string[]): ApprovalGroup {
  return { from: [`team:${members.join('-')}`], count, members }
}

describe('groups', () => {
  const QA_AND_TWO = rulesOf([group(1, 'tess', 'ben'), group(2, 'ada', 'ben', 'cyd')])

  test.each([
    ['a person of two groups fills one place', ['ben', 'ada'], { kind: 'open', approvals: 2, missing: 1 }],
    ['whoever can stand elsewhere makes room', ['ben', 'ada', 'tess'], { kind: 'approved' }],
    ['in any order', ['tess', 'ada', 'ben'], { kind: 'approved' }],
    ['whoever is of two groups stands where somebody is missing', ['ada', 'cyd', 'ben'], { kind: 'approved' }],
    ['nobody stands for a group of others', ['ada', 'cyd'], { kind: 'open', approvals: 2, missing: 1 }],
  ] as const)('%s', (_, people, expected) => {
    expect(verdictOf(QA_AND_TWO, people.map(yes), 0)).toEqual(expected)
  })

  const PEOPLE = ['a', 'b', 'c', 'd', 'e', 'f'] as const
  const anyRules = fc
    .tuple(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 3 }), fc.subarray([...PEOPLE], { minLength: 1 })), {
        minLength: 1,
        maxLength: 4,
      }),
      fc.subarray([...PEOPLE]),
    )
    .map(([groups, excluded]) =>
      rulesOf(
        groups.map(([count, members]) => group(count, ...members)),
        { excluded },
      ),
    )

  /** Every way to give each person one place, tried out. */
  function mostPlaces(rules: GateRules, people: readonly string[]): number {
    const room = (rules.groups ?? []).map(({ count }) => count)
    const best = (rest: readonly string[]): number => {
      const [person, ...others] = rest
      if (person === undefined) return 0
      let most = best(others)
      for (const [index, one] of (rules.groups ?? []).entries()) {
        if (!one.members.includes(person) || (room[index] ?? 0) === 0) continue
        room[index] = (room[index] ?? 0) - 1
        most = Math.max(most, 1 + best(others))
        room[index] = (room[index] ?? 0) + 1
      }
      return most
    }
    return best([...new Set(people)].filter((one) => !rules.excluded.includes(one)))
  }

  test('the verdict does not depend on the order of votes, nor on a vote given twice', () => {
    const anyVotes = fc.array(
      fc.record({ by: fc.constantFrom(...PEOPLE), answer: fc.constantFrom('approve', 'approve', 'approve', 'reject') }),
      { maxLength: 8 },
    ) as fc.Arbitrary<CountedVote[]>
    fc.assert(
      fc.property(
        anyRules,
        anyVotes.chain((votes) =>
          fc.tuple(fc.constant(votes), fc.shuffledSubarray(votes, { minLength: votes.length })),
        ),
        (rules, [votes, shuffled]) => {
          const [verdict, other] = [verdictOf(rules, votes, 0), verdictOf(rules, [...shuffled, ...votes], 0)]
          expect(other.kind).toBe(verdict.kind)
          if (verdict.kind !== 'rejected') expect(other).toEqual(verdict)
        },
      ),
      { numRuns: 500 },
    )
  })

  test('a person fills one place, of a group they belong to, and no way to place them fills more', () => {
    fc.assert(
      fc.property(anyRules, fc.subarray([...PEOPLE]), (rules, people) => {
        const places = placesOf(rules, people)
        const all = places.flat()
        expect(new Set(all).size).toBe(all.length)
        expect(all.every((one) => people.includes(one as never) && !rules.excluded.includes(one))).toBe(true)
        for (const [index, held] of places.entries()) {
          expect(held.length).toBeLessThanOrEqual(rules.groups?.[index]?.count ?? 0)
          expect(held.every((one) => rules.groups?.[index]?.members.includes(one))).toBe(true)
        }
        expect(all.length).toBe(mostPlaces(rules, people))
      }),
      { numRuns: 500 },
    )
  })

  test('whoever is said to be missing fills a place, and a shortage is one exactly if all together are too few', () => {
    fc.assert(
      fc.property(anyRules, fc.subarray([...PEOPLE]), (rules, people) => {
        const approvals = people.filter((one) => rules.approvers.includes(one) && !rules.excluded.includes(one))
        const standing = standingOf(rules, approvals.map(yes))
        const before = mostPlaces(rules, approvals)
        expect(standing.missing).toBe(rules.quorum - before)
        if (standing.missing > 0)
          for (const one of standing.may) expect(mostPlaces(rules, [...approvals, one])).toBe(before + 1)
        expect(standing.shortage !== undefined).toBe(mostPlaces(rules, rules.approvers) < rules.quorum)
      }),
      { numRuns: 500 },
    )
  })

  test('what is missing is said by group, with who may', () => {
    const gate = { environment: 'production', rules: QA_AND_TWO, votes: [yes('ada')], objections: [] }

    expect(gateSentence(gate)).toBe(
      '1 of 3 approval(s) for production (team:tess-ben 0 of 1, team:ada-ben-cyd 1 of 2); may approve: ben, cyd, tess',
    )
    const short = { ...QA_AND_TWO, excluded: ['tess', 'ben'] }
    expect(gateSentence({ ...gate, rules: short })).toContain(
      "only cyd may approve (1 of team:tess-ben): tess, ben wrote or pushed what is to be released; the operator's file",
    )
  })

  test('a forge that cannot be asked is no shortage, and is said', () => {
    const asked: ApprovalGroup = { from: ['forge:write'], count: 1, members: [], unasked: 'github did not answer' }
    const rules = rulesOf([asked])

    const sentence = gateSentence({ environment: 'production', rules, votes: [], objections: [] })

    expect(standingOf(rules, []).shortage).toBeUndefined()
    expect(sentence).toContain('forge:write: github did not answer')
  })
})

describe('a window', () => {
  const at = (iso: string) => Date.parse(iso)
  const hours = { zone: 'Europe/Berlin', days: ['mon', 'tue'], from: '09:00', to: '17:00' } as const
  const rules: GateRules = { ...RULES, expiresAt: at('2026-11-24T00:00:00Z'), window: { hours, freezes: [] } }
  const [inside, outside] = [at('2026-11-23T12:00:00Z'), at('2026-11-23T18:00:00Z')]

  test('that is closed lets nothing pass, takes votes, and keeps what has its approvals from expiring', () => {
    const both = [yes('ada'), yes('bob')]
    const late = at('2026-11-25T12:00:00Z')

    expect(verdictOf(rules, both, inside)).toEqual({ kind: 'approved' })
    expect(verdictOf(rules, both, outside)).toMatchObject({
      ...{ kind: 'open', missing: 0 },
      closed: { until: at('2026-11-24T08:00:00Z') },
    })
    expect(verdictOf(rules, both, late)).toMatchObject({ kind: 'open', closed: { until: at('2026-11-30T08:00:00Z') } })
    expect(verdictOf(rules, [yes('ada')], late)).toEqual({ kind: 'expired' })
    expect(verdictOf(rules, [...both, no('bob')], late)).toEqual({ kind: 'rejected', by: 'bob' })
    const vote = {
      state: 'open',
      rules,
      claimedBy: 'ada',
      trustSignals: false,
      votes: both,
      now: late,
      matches: matchesPattern,
    } as const
    expect(judgeVote({ ...vote, authenticated: 'ada', answer: 'reject' })).toMatchObject({ counts: true, by: 'ada' })
  })

  test('is said with what waits for it', () => {
    const votes = [yes('ada'), yes('bob')]
    const verdict = verdictOf(rules, votes, outside)
    const closed = verdict.kind === 'open' ? verdict.closed : undefined

    const sentence = gateSentence({
      environment: 'production',
      rules,
      votes,
      objections: [],
      ...(closed && { closed }),
    })

    expect(sentence).toBe(
      '2 of 2 approval(s) for production; enough, and waits until Tue 2026-11-24 09:00 (Europe/Berlin): outside the hours mon, tue 09:00 to 17:00 (Europe/Berlin)',
    )
  })
})

describe('what has changed since a gate was opened', () => {
  const subject: Subject = {
    ...{ run: 'acme/web#1', gate: 'signoff', environment: 'production' },
    ...{ commit: 'a'.repeat(40), specDigest: 'b'.repeat(64) },
    deliverables: [`api=sha256:${'1'.repeat(64)}`, `web=sha256:${'2'.repeat(64)}`],
  }

  test('is said piece by piece, old and new', () => {
    const now = {
      ...subject,
      commit: 'c'.repeat(40),
      deliverables: [`new=sha256:${'3'.repeat(64)}`, `web=sha256:${'4'.repeat(64)}`],
    }

    expect(subjectChanges(subject, now)).toEqual([
      'commit: aaaaaaaaaaaa → cccccccccccc',
      'deliverable api: 111111111111 → none',
      'deliverable new: none → 333333333333',
      'deliverable web: 222222222222 → 444444444444',
    ])
    expect(subjectChanges(subject, { ...subject, deliverables: [...subject.deliverables].reverse() })).toEqual([])
  })

  test('is no change of who belongs to a group; who is asked and how many is one', () => {
    const one = { from: ['team:qa'], count: 1, members: ['tess'] }
    const before = rulesOf([one])

    expect(rulesChange(before, rulesOf([{ ...one, members: ['tess', 'ben'] }]))).toBeUndefined()
    expect(rulesChange(before, rulesOf([{ ...one, count: 2 }]))).toBe('rules: 1 of team:qa → 2 of team:qa')
    expect(rulesChange(before, rulesOf([one, { ...one, from: ['ada'], source: 'spec' }]))).toBe(
      'rules: 1 of team:qa → 1 of team:qa and 1 of ada (asked for by the spec)',
    )
  })

  test('of a gate of an earlier version is only how many are asked for', () => {
    const before: GateRules = { approvers: ['ada', 'ben'], quorum: 2, excluded: [] }

    expect(rulesChange(before, rulesOf([group(2, 'ada', 'ben', 'cyd')]))).toBeUndefined()
    expect(rulesChange(before, rulesOf([group(3, 'ada', 'ben', 'cyd')]))).toContain('rules: 2 of ada or ben → 3 of')
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

  test('that proves nobody counts only for what was shown when it was sent, wherever signals are trusted', () => {
    const trusted = { ...signal, trustSignals: true, untimely: 'it was sent before the gate was open' }

    expect(judgeVote(trusted)).toEqual({ counts: false, why: 'it was sent before the gate was open' })
    // A token is itself about one opening of the gate.
    expect(judgeVote({ ...trusted, authenticated: 'ada' })).toMatchObject({ counts: true })
  })

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

  const freezes = [{ zone: 'UTC', from: '1969-12-30', to: '1970-01-02', reason: 'fair' }]
  const held = { ...facts, state: 'approved', rules: { ...RULES, window: { freezes } }, votes: [yes('ada')] } as const

  test('passes what is approved and waits for its window, and nothing that waits for none, is released, or is broken', () => {
    const broken = { by: 'ops', answer: 'approve', breakGlass: true } as const

    // Long after the gate would have expired: it was decided in time.
    expect(judgeVote({ ...held, now: 86_400_000 })).toMatchObject({ counts: true, by: 'ops' })
    expect(judgeVote({ ...held, rules: RULES })).toMatchObject({ why: expect.stringContaining('waits for no window') })
    expect(judgeVote({ ...held, isMoving: true })).toMatchObject({ why: expect.stringContaining('being released') })
    expect(judgeVote({ ...held, votes: [broken] })).toMatchObject({ why: expect.stringContaining('already') })
    expect(judgeVote({ ...held, authenticated: 'ada' })).toMatchObject({
      why: expect.stringContaining('may not break'),
    })
  })

  test('is not the only word on what waits for its window: who may reject may, until it is released', () => {
    const { breakGlass: __, ...vote } = held
    const rejection = { ...vote, answer: 'reject', authenticated: 'bob', now: 86_400_000 } as const

    expect(judgeVote(rejection)).toMatchObject({ counts: true, by: 'bob' })
    // Taken while it waited, and brought when the window was open: it was in time.
    const opens = 30 * 86_400_000
    expect(judgeVote({ ...rejection, now: opens, sentAt: 86_400_000 })).toMatchObject({ counts: true })
    expect(judgeVote({ ...rejection, now: opens })).toMatchObject({ counts: false })
    const broken = { ...rejection, votes: [{ by: 'ops', answer: 'approve', breakGlass: true }] } as const
    expect(judgeVote(broken)).toMatchObject({ why: 'the gate was passed by break-glass already' })
    // Without a window it is decided, once for all.
    expect(judgeVote({ ...rejection, rules: RULES })).toMatchObject({ why: expect.stringContaining('no further vote') })
    expect(judgeVote({ ...rejection, isMoving: true })).toMatchObject({ counts: false })
    expect(judgeVote({ ...rejection, authenticated: 'zoe' })).toMatchObject({
      why: expect.stringContaining('approvers:'),
    })
    expect(judgeVote({ ...rejection, answer: 'approve' })).toMatchObject({
      why: expect.stringMatching(/waits until .*fair; it needs no further approval/),
    })
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
