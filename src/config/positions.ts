import { distance } from 'fastest-levenshtein'
import { isMap, isNode, isScalar, LineCounter, parseDocument } from 'yaml'
import type { z } from 'zod'

export interface Diagnostic {
  /** File, or the name of the environment variable. */
  readonly at: string
  readonly line?: number
  readonly column?: number
  readonly message: string
}

export function printDiagnostic({ at, line, column, message }: Diagnostic): string {
  return line === undefined ? `${at}: ${message}` : `${at}:${line}:${column ?? 1} ${message}`
}

/** How often aliases may repeat what they name, in all. */
const MAX_ALIASES = 100

type Path = readonly PropertyKey[]

/** A YAML text whose parts can be found again by their path. */
export interface Located {
  readonly value: unknown
  readonly syntax: readonly Diagnostic[]
  /** Where the value at the path is; the nearest thing around it that exists. */
  at(path: Path, message: string): Diagnostic
  /** Where the key is, rather than its value. */
  atKey(path: Path, key: string, message: string): Diagnostic
}

export function readYaml(file: string, text: string): Located {
  const lines = new LineCounter()
  const doc = parseDocument(text, { lineCounter: lines, prettyErrors: false, merge: false, strict: true })
  const here = (offset: number | undefined, message: string): Diagnostic => {
    if (offset === undefined) return { at: file, line: 1, column: 1, message }
    const { line, col } = lines.linePos(offset)
    return { at: file, line, column: col, message }
  }
  const syntax = [...doc.errors, ...doc.warnings].map((problem) => here(problem.pos[0], problem.message))
  let value: unknown
  try {
    if (syntax.length === 0) value = doc.toJS({ maxAliasCount: MAX_ALIASES })
  } catch (err) {
    // What `yaml` says of aliases that multiply, or that name nothing.
    if (!(err instanceof ReferenceError)) throw err
    syntax.push(here(undefined, err.message))
  }

  const keyOffset = (path: Path, key: string): number | undefined => {
    const parent = path.length === 0 ? doc.contents : doc.getIn([...path], true)
    if (!isMap(parent)) return undefined
    const pair = parent.items.find((item) => isScalar(item.key) && String(item.key.value) === key)
    return isNode(pair?.key) ? pair.key.range?.[0] : undefined
  }
  const valueOffset = (path: Path): number | undefined => {
    for (let length = path.length; length > 0; length--) {
      const found = doc.getIn(path.slice(0, length), true)
      if (isNode(found)) {
        const key = path[length - 1]
        // What is missing inside a mapping is reported at the mapping's own key.
        const missing = length < path.length && typeof key === 'string'
        return (missing ? keyOffset(path.slice(0, length - 1), key) : undefined) ?? found.range?.[0]
      }
    }
    return isNode(doc.contents) ? doc.contents.range?.[0] : undefined
  }

  return {
    value,
    syntax,
    at: (path, message) => here(valueOffset(path), message),
    atKey: (path, key, message) => here(keyOffset(path, key) ?? valueOffset(path), message),
  }
}

/** One diagnostic for each thing that is wrong, at its place, with what would be right where that can be told. */
export function toDiagnostics(located: Located, issues: readonly z.core.$ZodIssue[], schema: z.ZodType): Diagnostic[] {
  return issues.flatMap((issue): Diagnostic[] => {
    const name = issue.path.map(String).join('.')
    if (issue.code === 'unrecognized_keys') {
      const known = keysAt(schema, issue.path)
      return issue.keys.map((key) => located.atKey(issue.path, key, unknownKey(key, name, known)))
    }
    if (issue.code === 'invalid_union') {
      // Of several forms the one that was begun: what is wrong inside of it says more than that no form fits.
      const begun = issue.errors.find((inner) => inner.every((one) => one.path.length > 0))
      if (begun !== undefined) {
        const inner = begun.map((one) => ({ ...one, path: [...issue.path, ...one.path] }))
        return toDiagnostics(located, inner, schema)
      }
    }
    if (issue.code === 'invalid_key') {
      const key = String(issue.path.at(-1))
      const why = issue.issues[0]?.message ?? 'is not a valid name'
      return [located.atKey(issue.path.slice(0, -1), key, `name "${key}" ${why}`)]
    }
    const missing =
      issue.code === 'invalid_type' && issue.input === undefined && valueAt(located.value, issue.path) === undefined
    if (missing) return [located.at(issue.path, `${name} is missing`)]
    return [located.at(issue.path, name === '' ? issue.message : `${name}: ${issue.message}`)]
  })
}

function unknownKey(key: string, where: string, known: readonly string[]): string {
  const guess = nearest(key, known)
  const place = where === '' ? '' : ` in ${where}`
  const right =
    guess === undefined ? (known.length > 0 ? `; known: ${known.join(', ')}` : '') : `; did you mean "${guess}"?`
  return `unknown key "${key}"${place}${right}`
}

export function nearest(word: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((one) => ({ one, far: distance(word.toLowerCase(), one.toLowerCase()) }))
    .sort((a, b) => a.far - b.far)
  const best = ranked[0]
  return best !== undefined && best.far < word.length && best.far <= Math.max(2, Math.floor(word.length / 3))
    ? best.one
    : undefined
}

function valueAt(value: unknown, path: Path): unknown {
  let current = value
  for (const key of path) {
    if (typeof current !== 'object' || current === null) return undefined
    current = Object.getOwnPropertyDescriptor(current, key)?.value
  }
  return current
}

interface Definition {
  readonly type: string
  readonly shape?: Readonly<Record<string, z.core.$ZodType>>
  readonly innerType?: z.core.$ZodType
  readonly valueType?: z.core.$ZodType
  readonly element?: z.core.$ZodType
  readonly options?: readonly z.core.$ZodType[]
}

/** The keys that the schema knows at a path of the data. */
function keysAt(schema: z.core.$ZodType, path: Path): readonly string[] {
  const definition = schema._zod.def as unknown as Definition
  if (definition.innerType !== undefined) return keysAt(definition.innerType, path)
  if (definition.options !== undefined) return definition.options.flatMap((option) => keysAt(option, path))
  const [head, ...rest] = path
  if (head === undefined) return Object.keys(definition.shape ?? {})
  const next = definition.shape?.[String(head)] ?? definition.valueType ?? definition.element
  return next === undefined ? [] : keysAt(next, rest)
}
