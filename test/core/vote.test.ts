import { describe, expect, it } from 'vitest'
import { readVote } from '../../src/core/vote.ts'

describe('what a vote signal carried', () => {
  it('is taken as it is when it is what a vote looks like', () => {
    const vote = { who: 'tess', comment: 'looks good', channel: 'cli', token: 'a-token' }

    expect(readVote(vote)).toEqual(vote)
  })

  it('may carry fields, and the wish to break the glass, which is true or nothing', () => {
    expect(readVote({ who: 'tess', fields: { ticket: 'CHG-1' }, breakGlass: true })).toEqual({
      who: 'tess',
      fields: { ticket: 'CHG-1' },
      breakGlass: true,
    })
    expect(readVote({ who: 'tess', fields: 'x', breakGlass: 'yes' })).toEqual({ who: 'tess' })
  })

  it.each([
    ['nothing', undefined],
    ['null', null],
    ['text', 'approve'],
    ['a number', 42],
    ['a list', ['tess']],
    ['an object of other things', { name: 'tess', __proto__: { who: 'tess' } }],
    ['fields that are no text', { who: { name: 'tess' }, comment: 5, channel: ['x'], token: null }],
  ])('names nobody when it is %s', (_, payload) => {
    expect(readVote(payload)).toEqual({ who: '' })
  })

  it('is cut where it is longer than the API would take it, and loses the character no database takes', () => {
    const vote = readVote({ who: 'tess', comment: `a\0b${'x'.repeat(1_000_000)}`, token: 't'.repeat(500) })

    expect(vote.comment).toMatch(/^abx+$/)
    expect(vote.comment?.length).toBeLessThanOrEqual(2000)
    expect(vote.token).toHaveLength(200)
  })
})
