import { variableName } from './job-environment.ts'

/** What a person fills in who approves: fields of the environment's gate, as the operator's file has them. */
export interface Form {
  /** Markdown, shown before the fields. */
  readonly instructions?: string
  readonly fields: readonly Field[]
}

export type Field = {
  readonly name: string
  readonly label?: string
  readonly required: boolean
} & (
  | { readonly type: 'text'; readonly pattern?: string; readonly longest: number; readonly default?: string }
  | {
      readonly type: 'number'
      readonly min?: number
      readonly max?: number
      readonly whole: boolean
      readonly default?: number
    }
  | { readonly type: 'choice'; readonly options: readonly string[]; readonly default?: string }
  | { readonly type: 'several'; readonly options: readonly string[]; readonly default?: readonly string[] }
  | { readonly type: 'yes_no'; readonly default?: boolean }
)

export const FIELD_TYPES = ['text', 'number', 'choice', 'several', 'yes_no'] as const satisfies Field['type'][]

export type FieldValue = string | number | boolean | readonly string[]
export type FieldValues = Readonly<Record<string, FieldValue>>

export interface FieldProblem {
  readonly field: string
  readonly problem: string
}

/** Of one text, in characters. */
export const LONGEST_TEXT = 10_000
/** Of one form. */
export const MOST_FIELDS = 50

/** Whether a pattern of the operator's file fits the whole of a text. */
export type Matches = (pattern: string, text: string) => boolean

export type FilledIn =
  | { readonly kind: 'fine'; readonly values: FieldValues }
  | { readonly kind: 'wrong'; readonly problems: readonly FieldProblem[] }

/**
 * Holds what was given against the form: every problem at once, in the form's order. Defaults stand for what is missing.
 *
 * @param isPartial what is required may be missing, and defaults do not stand for it: a rejection, a break-glass
 */
export function fillIn(form: Form | undefined, given: FieldValues, matches: Matches, isPartial: boolean): FilledIn {
  const values: Record<string, FieldValue> = {}
  const problems: FieldProblem[] = []
  const fields = form?.fields ?? []
  for (const field of fields) {
    const { name } = field
    const value = Object.hasOwn(given, name) && given[name] !== '' ? given[name] : isPartial ? undefined : field.default
    if (value === undefined || (field.type === 'several' && Array.isArray(value) && value.length === 0)) {
      if (field.required && !isPartial) problems.push({ field: name, problem: `is required: ${whatIsRight(field)}` })
      continue
    }
    if (isRight(field, value, matches)) values[name] = value
    else problems.push({ field: name, problem: `must be ${whatIsRight(field)}` })
  }
  const known = fields.map(({ name }) => name)
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue
    const which = known.length === 0 ? 'this gate asks for nothing' : `the fields are ${known.join(', ')}`
    problems.push({ field: name, problem: `is no field of the form: ${which}` })
  }
  return problems.length === 0 ? { kind: 'fine', values } : { kind: 'wrong', problems }
}

/** Whether it is a value of the field. Only of values that need no default: `undefined` is never right. */
export function isRight(field: Field, value: unknown, matches: Matches): boolean {
  switch (field.type) {
    case 'text':
      return (
        typeof value === 'string' &&
        value.length <= field.longest &&
        // Line ends and tabs are text; what else steers a terminal is not, and no variable holds a NUL.
        !/[^\P{Cc}\t\n]/u.test(value) &&
        (field.pattern === undefined || matches(field.pattern, value))
      )
    case 'number':
      return (
        typeof value === 'number' &&
        Number.isFinite(value) &&
        (!field.whole || Number.isSafeInteger(value)) &&
        value >= (field.min ?? -Infinity) &&
        value <= (field.max ?? Infinity)
      )
    case 'choice':
      return typeof value === 'string' && field.options.includes(value)
    case 'several':
      return (
        Array.isArray(value) &&
        new Set(value).size === value.length &&
        value.every((one) => typeof one === 'string' && field.options.includes(one))
      )
    case 'yes_no':
      return typeof value === 'boolean'
  }
}

function whatIsRight(field: Field): string {
  switch (field.type) {
    case 'text': {
      const pattern = field.pattern === undefined ? '' : ` that matches ${field.pattern}`
      return `text${pattern} of at most ${field.longest} characters`
    }
    case 'number': {
      const limits = [
        ...(field.min === undefined ? [] : [`at least ${field.min}`]),
        ...(field.max === undefined ? [] : [`at most ${field.max}`]),
      ]
      return `a ${field.whole ? 'whole ' : ''}number${limits.length === 0 ? '' : `, ${limits.join(' and ')}`}`
    }
    case 'choice':
      return `one of ${field.options.join(', ')}`
    case 'several':
      return `some of ${field.options.join(', ')}, each once`
    case 'yes_no':
      return 'true or false'
  }
}

/** Wider than a field's name, so that a slip is told by its name; all else would be text of strangers in our sentences. */
const LIKE_A_NAME = /^[\w.-]{1,100}$/
/** No field takes it. */
const NO_VALUE = '\0'

/** All problems in one sentence. */
export function problemSentence(problems: readonly FieldProblem[]): string {
  return problems.map(({ field, problem }) => `${field} ${problem}`).join('; ')
}

/** What a field is called in the environment of later jobs. */
export function fieldVariable(name: string): string {
  return `CI_GATE_${variableName(name)}`
}

/** The values as later jobs get them: several with commas between, yes and no as true and false. */
export function fieldVariables(values: FieldValues): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      fieldVariable(name),
      Array.isArray(value) ? value.join(',') : String(value),
    ]),
  )
}

/** What somebody typed for a field; what it cannot be stays text, and is refused where it is judged. */
export function fromText(field: Field | undefined, text: string): FieldValue {
  switch (field?.type) {
    case 'number':
      return /^\s*[-+]?\d/.test(text) && Number.isFinite(Number(text)) ? Number(text) : text
    case 'several':
      return text === '' ? [] : text.split(',').map((one) => one.trim())
    case 'yes_no':
      if (/^(?:y|yes|true)$/i.test(text)) return true
      return /^(?:n|no|false)$/i.test(text) ? false : text
    default:
      return text
  }
}

/**
 * What came as fields, from anywhere: only what could be a field and a value of it, and of that only so much. One that is
 * too long stays too long, so that nobody's text is cut and then counted.
 */
export function readFields(payload: unknown): FieldValues | undefined {
  if (typeof payload !== 'object' || payload === null || Array.isArray(payload)) return undefined
  const values: [string, FieldValue][] = []
  for (const [name, value] of Object.entries(payload).slice(0, MOST_FIELDS + 1)) {
    if (!LIKE_A_NAME.test(name)) continue
    if (typeof value === 'string') values.push([name, cut(value)])
    else if (typeof value === 'number' || typeof value === 'boolean') values.push([name, value])
    else if (Array.isArray(value)) {
      const some = value.slice(0, 1000)
      values.push([name, some.map((one) => (typeof one === 'string' ? cut(one) : NO_VALUE))])
    } else values.push([name, NO_VALUE])
  }
  return values.length === 0 ? undefined : Object.fromEntries(values)
}

function cut(text: string): string {
  return text.slice(0, LONGEST_TEXT + 1)
}
