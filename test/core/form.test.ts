import { describe, expect, it } from 'vitest'
import { type Form, fieldVariables, fillIn, fromText, readFields } from '../../src/core/form.ts'
import { matchesPattern, patternProblem } from '../../src/pattern/pattern.ts'

const FORM: Form = {
  fields: [
    { name: 'ticket', type: 'text', required: true, longest: 20, pattern: 'CHG-[0-9]+' },
    { name: 'canary', type: 'number', required: false, whole: true, min: 0, max: 100, default: 10 },
    { name: 'window', type: 'choice', required: false, options: ['now', 'tonight'] },
    { name: 'regions', type: 'several', required: false, options: ['eu', 'us'] },
    { name: 'announced', type: 'yes_no', required: true },
  ],
}
const RIGHT = { ticket: 'CHG-1', announced: false }
const filled = (given: Parameters<typeof fillIn>[1]) => fillIn(FORM, given, matchesPattern, false)

describe('what was filled in', () => {
  it('is taken with defaults for what is missing; no is an answer', () => {
    expect(filled(RIGHT)).toEqual({ kind: 'fine', values: { ticket: 'CHG-1', canary: 10, announced: false } })
  })

  it('is told all its problems at once, field by field, with what would be right', () => {
    const given = { ticket: 'chg-1', canary: 2.5, window: 'later', regions: ['eu', 'eu'], announced: 'yes', who: 'ada' }

    expect(filled(given)).toEqual({
      kind: 'wrong',
      problems: [
        { field: 'ticket', problem: 'must be text that matches CHG-[0-9]+ of at most 20 characters' },
        { field: 'canary', problem: 'must be a whole number, at least 0 and at most 100' },
        { field: 'window', problem: 'must be one of now, tonight' },
        { field: 'regions', problem: 'must be some of eu, us, each once' },
        { field: 'announced', problem: 'must be true or false' },
        {
          field: 'who',
          problem: 'is no field of the form: the fields are ticket, canary, window, regions, announced',
        },
      ],
    })
    expect(filled({})).toMatchObject({ problems: [{ field: 'ticket' }, { field: 'announced' }] })
  })

  it.each([
    ['more than the pattern', { ...RIGHT, ticket: 'CHG-1; rm' }],
    ['empty text where it is required', { ...RIGHT, ticket: '' }],
    ['text that is too long', { ...RIGHT, ticket: `CHG-${'1'.repeat(17)}` }],
    ['a number beneath', { ...RIGHT, canary: -1 }],
    ['a number above', { ...RIGHT, canary: 101 }],
    ['no number', { ...RIGHT, canary: Number.NaN }],
    ['a list for a choice', { ...RIGHT, window: ['now'] }],
    ['text for several', { ...RIGHT, regions: 'eu' }],
    ['text for yes or no', { ...RIGHT, announced: 'true' }],
  ])('is refused: %s', (_, given) => {
    expect(filled(given).kind).toBe('wrong')
  })

  it('may be partial for a rejection, but never wrong', () => {
    expect(fillIn(FORM, {}, matchesPattern, true)).toEqual({ kind: 'fine', values: {} })
    expect(fillIn(FORM, { canary: 101 }, matchesPattern, true).kind).toBe('wrong')
    expect(fillIn(undefined, { canary: 1 }, matchesPattern, true)).toMatchObject({
      problems: [{ problem: 'is no field of the form: this gate asks for nothing' }],
    })
  })

  it('is matched in time linear in the text, whatever the operator wrote', () => {
    const before = performance.now()

    expect(matchesPattern('(a+)+b', 'a'.repeat(10_000))).toBe(false)

    expect(performance.now() - before).toBeLessThan(2000)
    expect(patternProblem('(?=a)')).toBeDefined()
    expect(patternProblem('(a)\\1')).toBeDefined()
  })

  it('reaches later jobs as variables', () => {
    expect(fieldVariables({ 'release-note': 'a\nb', canary: 2.5, regions: ['eu', 'us'], announced: false })).toEqual({
      CI_GATE_RELEASE_NOTE: 'a\nb',
      CI_GATE_CANARY: '2.5',
      CI_GATE_REGIONS: 'eu,us',
      CI_GATE_ANNOUNCED: 'false',
    })
  })

  it('is read from what was typed; what it cannot be stays text', () => {
    const typed = (name: string, text: string) =>
      fromText(
        FORM.fields.find((one) => one.name === name),
        text,
      )

    expect(typed('canary', '5')).toBe(5)
    expect(typed('canary', 'many')).toBe('many')
    expect(typed('regions', 'eu, us')).toEqual(['eu', 'us'])
    expect(typed('announced', 'no')).toBe(false)
    expect(typed('announced', 'perhaps')).toBe('perhaps')
    expect(typed('ticket', '5')).toBe('5')
    expect(typed('unknown', '5')).toBe('5')
  })
})

describe('what a signal carried as fields', () => {
  it('is taken as far as it could be values', () => {
    expect(readFields({ a: 'x', b: 2, c: true, d: ['x', 'y'] })).toEqual({ a: 'x', b: 2, c: true, d: ['x', 'y'] })
    expect(readFields(undefined)).toBeUndefined()
    expect(readFields([1])).toBeUndefined()
    expect(readFields('ticket')).toBeUndefined()
  })

  it('has names that a field could have: none that no database takes, or that would write in a sentence of ours', () => {
    const odd = { 'a\0b': 'x', 'a\u001b[31m': 'x', 'is fine; ticket': 'x', '': 'x', ['n'.repeat(101)]: 'x' }

    expect(readFields(odd)).toBeUndefined()
    expect(readFields({ ...odd, ticket: 'CHG-1', Tikcet: 'x' })).toEqual({ ticket: 'CHG-1', Tikcet: 'x' })
  })

  it('is never right by being something else, cut, or a name of an object’s own', () => {
    const form: Form = { fields: [{ name: 'a', type: 'text', required: false, longest: 10_000 }] }
    const judged = (payload: unknown) => fillIn(form, readFields(payload) ?? {}, matchesPattern, false).kind

    expect(judged({ a: 'x'.repeat(10_000) })).toBe('fine')
    expect(judged({ a: 'x'.repeat(1_000_000) })).toBe('wrong')
    expect(judged({ a: { toString: 'x' } })).toBe('wrong')
    expect(judged({ a: null })).toBe('wrong')
    expect(judged(JSON.parse('{"__proto__":{"a":"x"},"a":"x"}'))).toBe('wrong')
    expect(
      Object.keys(readFields(Object.fromEntries(Array.from({ length: 900 }, (_, n) => [n, 'x']))) ?? {}),
    ).toHaveLength(51)
  })
})
