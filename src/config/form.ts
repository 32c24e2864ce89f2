import { type Field, type Form, fieldVariable, isRight, MOST_FIELDS } from '../core/form.ts'
import { matchesPattern, patternProblem } from '../pattern/pattern.ts'
import type { FormField, OperatorFile } from './schema.ts'

const LONGEST_UNLESS_SAID = 1000

type Written = OperatorFile['repositories'][string]['environments'][string]['form']
type Wrong = (path: readonly string[], message: string) => void

/** Which keys say something for which types. */
const TYPES_OF = {
  pattern: ['text'],
  longest: ['text'],
  min: ['number'],
  max: ['number'],
  whole: ['number'],
  options: ['choice', 'several'],
} as const satisfies Partial<Record<keyof FormField, readonly FormField['type'][]>>

/** The form of a gate; everything that is wrong with it goes to `wrong`. */
export function readForm(written: Written, wrong: Wrong): Form | undefined {
  if (written === undefined) return undefined
  const names = Object.keys(written.fields)
  if (names.length > MOST_FIELDS) wrong(['fields'], `has ${names.length} fields; a form has at most ${MOST_FIELDS}`)
  if (names.length === 0 && written.instructions === undefined)
    wrong([], 'says nothing; give it `fields` or `instructions`')
  const fields = Object.entries(written.fields).map(([name, field], index) => {
    const twin = names.slice(0, index).find((other) => fieldVariable(other) === fieldVariable(name))
    if (twin !== undefined) {
      wrong(['fields', name], `"${name}" and "${twin}" would both be ${fieldVariable(name)} in later jobs; rename one`)
    }
    return readField(name, field, (path, message) => wrong(['fields', name, ...path], message))
  })
  return { ...(written.instructions === undefined ? {} : { instructions: written.instructions }), fields }
}

function readField(name: string, written: FormField, wrong: Wrong): Field {
  const { type, label, required, pattern, min, max, options } = written
  for (const [key, types] of Object.entries(TYPES_OF)) {
    const isSaid = written[key as keyof typeof TYPES_OF] !== undefined
    if (isSaid && !(types as readonly string[]).includes(type)) {
      wrong([key], `goes with type ${types.join(' or ')}, not with ${type}`)
    }
  }
  const problem = pattern === undefined ? undefined : patternProblem(pattern)
  if (problem !== undefined) wrong(['pattern'], `is no pattern that can be matched in linear time (RE2): ${problem}`)
  if (min !== undefined && max !== undefined && min > max)
    wrong(['max'], `is less than min, ${min}: no number is right`)
  if (options !== undefined && new Set(options).size < options.length) wrong(['options'], 'names an option twice')
  const isChoice = type === 'choice' || type === 'several'
  if (isChoice && options === undefined) wrong([], `a field of type ${type} needs \`options\``)
  const field = {
    ...{ name, type, required, options: options ?? [], longest: written.longest ?? LONGEST_UNLESS_SAID },
    ...{ whole: written.whole ?? false },
    ...(label === undefined ? {} : { label }),
    ...(pattern === undefined ? {} : { pattern }),
    ...(min === undefined ? {} : { min }),
    ...(max === undefined ? {} : { max }),
  }
  const bare = only(field as Field)
  if (written.default === undefined) return bare
  if (problem === undefined && !isRight(bare, written.default, matchesPattern)) {
    wrong(['default'], `${JSON.stringify(written.default)} is no value that the field itself takes`)
  }
  return { ...bare, default: written.default } as Field
}

/** Without what does not go with the type: the form is stored with each gate. */
function only(field: Field): Field {
  const kept = Object.entries(field).filter(
    ([key]) => !(key in TYPES_OF) || (TYPES_OF[key as keyof typeof TYPES_OF] as readonly string[]).includes(field.type),
  )
  return Object.fromEntries(kept) as unknown as Field
}
