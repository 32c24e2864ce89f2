import type { ASTNode } from '@marcbachmann/cel-js'
import { Environment } from '@marcbachmann/cel-js'
import { serialize } from '@marcbachmann/cel-js/serialize'
import { distance } from 'fastest-levenshtein'
import { hasLabels } from '../core/pool/labels.ts'

/** What is wrong with an expression. */
export interface Problem {
  readonly message: string
  /** The place in the expression, from 0, in UTF-16 code units. */
  readonly start: number
  readonly end: number
  /** What would be right, as a sentence without a full stop. */
  readonly suggestion?: string
}

export interface DescribedUnit {
  readonly unit: string
  readonly labels: readonly string[]
  readonly properties: Readonly<Record<string, string | number | boolean>>
}

/** `any`: not the same in all units. A number that is whole in all units is an `int`. */
export type PropertyType = 'string' | 'int' | 'double' | 'boolean' | 'any'

export interface Fit {
  readonly fits: boolean
  /** Why not, where it is more than that the expression is false. */
  readonly why?: string
}

/** A unit that comes nearest to what was asked for. */
export interface Nearest {
  readonly unit: string
  /** What does not hold for it: parts of the expression between `&&`, and labels. */
  readonly failed: readonly string[]
  /** What the unit has instead; nothing for what it does not have. */
  readonly values: Readonly<Record<string, string | number | boolean>>
}

const LONGEST = 1000
/** What one expression may consist of. Together with functions that cannot be nested it bounds the time of an evaluation. */
const limits = { maxAstNodes: 300, maxDepth: 40, maxListElements: 100, maxMapEntries: 20, maxCallArguments: 8 }
/** Go through a list. One in the other would multiply their lengths. */
const OVER_LISTS = ['all', 'exists', 'exists_one']
const FUNCTIONS = [
  ...OVER_LISTS,
  ...['has', 'size', 'contains', 'startsWith', 'endsWith', 'lowerAscii', 'upperAscii', 'trim'],
  ...['int', 'double', 'string'],
]
const INSTEAD_OF_PATTERNS = 'use contains, startsWith, endsWith, == or in'
/** Known beside the properties, which do not hide them. */
const GIVEN = ['unit', 'labels', 'properties']
const KEPT = 500

function createEnvironment(unlistedVariablesAreDyn: boolean): Environment {
  const env = new Environment({ unlistedVariablesAreDyn, homogeneousAggregateLiterals: false, limits })
  env.registerVariable('unit', 'string')
  env.registerVariable('labels', 'list<string>')
  env.registerVariable('properties', 'map<string, dyn>')
  // CEL keeps 4 and 4.0 apart. Who writes down units does not: 4 is what fits 4.0.
  const isSame = (a: unknown, b: unknown) => Number(a) === Number(b)
  env.registerOperator('int == double: bool', isSame)
  const arithmetic = {
    '+': (a: number, b: number) => a + b,
    '-': (a: number, b: number) => a - b,
    '*': (a: number, b: number) => a * b,
    '/': (a: number, b: number) => a / b,
  }
  for (const [sign, compute] of Object.entries(arithmetic)) {
    for (const types of [`int ${sign} double`, `double ${sign} int`]) {
      env.registerOperator(`${types}: double`, (a, b) => compute(Number(a), Number(b)))
    }
  }
  return env
}

const untyped = createEnvironment(true)

type Parsed = ReturnType<Environment['parse']>
const known = new Map<string, Parsed | Problem>()

/** What is not right is never evaluated, whoever asks for it. */
function compile(expression: string): Parsed | Problem {
  if (expression.length > LONGEST) {
    return { message: `is longer than ${LONGEST} characters`, start: LONGEST, end: expression.length }
  }
  const compiled = known.get(expression) ?? compileAnew(expression)
  if (known.size >= KEPT) known.clear()
  known.set(expression, compiled)
  return compiled
}

function compileAnew(expression: string): Parsed | Problem {
  if (expression.trim() === '') return { message: 'is empty', start: 0, end: expression.length }
  try {
    const parsed = parseWith(untyped, expression)
    return refusedIn(parsed.ast, false) ?? checkIn(untyped, expression) ?? parsed
  } catch (err) {
    return toProblem(err, expression)
  }
}

function parseWith(env: Environment, expression: string): Parsed {
  const result = env.parse(expression)
  widenLists(result.ast)
  return result
}

/** `5 in [3.3, 5.0]` holds here: a list of numbers with something else in it is compared one by one, by `==`. */
function widenLists(node: ASTNode): void {
  if (node.op === 'in') {
    const list = node.args[1]
    const isOfNumbers = (one: ASTNode) =>
      one.op === '-_' || (one.op === 'value' && /bigint|number/.test(typeof one.args))
    if (list.op === 'list' && list.args.length > 0 && list.args.every(isOfNumbers))
      list.args.push(untyped.parse('null').ast)
  }
  for (const child of childrenOf(node)) widenLists(child)
}

/** Whether it is an expression that says yes or no of a unit, whatever its properties are. */
export function checkWhere(expression: string): Problem | undefined {
  const compiled = compile(expression)
  return 'message' in compiled ? compiled : undefined
}

/** The same, for a pool whose units have these properties. */
export function checkWhereFor(
  expression: string,
  properties: Readonly<Record<string, PropertyType>>,
): Problem | undefined {
  const problem = checkWhere(expression)
  if (problem !== undefined) return problem
  const env = createEnvironment(false)
  const names = Object.keys(properties)
  for (const [name, type] of Object.entries(properties)) {
    if (!isVariable(name)) continue
    env.registerVariable(name, type === 'any' ? 'dyn' : type === 'boolean' ? 'bool' : type)
  }
  const unknown = namesIn(untyped.parse(expression).ast).find(
    ({ name }) => !names.includes(name) && !GIVEN.includes(name),
  )
  if (unknown === undefined) return checkIn(env, expression)
  const { name, start, end } = unknown
  return { message: `no unit has a property ${quoted(name)}`, start, end, suggestion: suggestionFor(name, names) }
}

/** Types of the properties that some units have. */
export function propertyTypes(units: readonly Pick<DescribedUnit, 'properties'>[]): Record<string, PropertyType> {
  const types = new Map<string, PropertyType>()
  for (const { properties } of units) {
    for (const [name, value] of Object.entries(properties)) {
      const type = typeOf(value)
      const before = types.get(name) ?? type
      const isNumber = [before, type].every((one) => one === 'int' || one === 'double')
      types.set(name, before === type ? type : isNumber ? 'double' : 'any')
    }
  }
  return Object.fromEntries(types)
}

/** Whether the unit satisfies the expression. Never throws: what is wrong with the expression is why it does not fit. */
export function evaluateWhere(expression: string, unit: DescribedUnit): Fit {
  const compiled = compile(expression)
  if ('message' in compiled) return { fits: false, why: `${quoted(expression)}: ${compiled.message}` }
  try {
    const value = compiled(contextOf(unit))
    if (typeof value === 'boolean') return { fits: value }
    return { fits: false, why: `${quoted(expression)} is neither true nor false for unit ${quoted(unit.unit)}` }
  } catch (err) {
    const { code, summary } = reasonOf(err)
    const name = /: (.*)$/.exec(summary)?.[1] ?? ''
    if (code === 'unknown_variable' || code === 'no_such_key') {
      return { fits: false, why: `unit ${quoted(unit.unit)} has no property ${quoted(name)}` }
    }
    return { fits: false, why: `unit ${quoted(unit.unit)}: ${summary}` }
  }
}

/** For a request that no unit satisfies: the one for which the most of it holds, the first of several. */
export function nearestUnit(
  wanted: { readonly where?: string; readonly labels: readonly string[] },
  units: readonly DescribedUnit[],
): Nearest | undefined {
  const conjuncts =
    wanted.where === undefined || checkWhere(wanted.where) ? [] : conjunctsOf(untyped.parse(wanted.where).ast)
  let nearest: Nearest | undefined
  for (const unit of units) {
    const failedParts = conjuncts.filter((one) => !evaluateWhere(serialize(one), unit).fits)
    const failedLabels = wanted.labels.filter((label) => !hasLabels(unit.labels, [label]))
    const failed = [...failedParts.map((one) => serialize(one)), ...failedLabels]
    if (nearest !== undefined && nearest.failed.length <= failed.length) continue
    const names = failedParts.flatMap((one) => namesIn(one).map(({ name }) => name))
    const values = Object.entries(unit.properties).filter(([name]) => names.includes(name))
    nearest = { unit: unit.unit, failed, values: Object.fromEntries(values) }
  }
  return nearest
}

function conjunctsOf(node: ASTNode): readonly ASTNode[] {
  return node.op === '&&' ? node.args.flatMap(conjunctsOf) : [node]
}

/** A map, and an object without a prototype: `constructor` is a property like any other, or none. */
function contextOf({ unit, labels, properties }: DescribedUnit): Record<string, unknown> {
  const own = new Map(Object.entries(properties).map(([name, value]) => [name, toCel(value)]))
  const variables: Record<string, unknown> = Object.create(null)
  return Object.assign(variables, Object.fromEntries(own), { unit, labels: [...labels], properties: own })
}

function toCel(value: string | number | boolean): string | number | boolean | bigint {
  return typeOf(value) === 'int' ? BigInt(value) : value
}

function typeOf(value: string | number | boolean): PropertyType {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? 'int' : 'double'
  return typeof value === 'string' ? 'string' : 'boolean'
}

/** Others are reached as `properties["…"]`. */
function isVariable(name: string): boolean {
  if (!/^[A-Za-z][A-Za-z0-9_]*$/.test(name) || GIVEN.includes(name)) return false
  try {
    return untyped.parse(name).ast.op === 'id'
  } catch {
    // A word of the language, such as `in`.
    return false
  }
}

function checkIn(env: Environment, expression: string): Problem | undefined {
  const { valid, type, error } = parseWith(env, expression).check()
  if (!valid) return toProblem(error, expression)
  if (type === 'bool' || type === 'dyn') return undefined
  return { message: `is a ${type}, not true or false`, start: 0, end: expression.length }
}

function refusedIn(node: ASTNode, isOverList: boolean): Problem | undefined {
  const range = { start: node.range.start, end: node.range.end }
  let within = isOverList
  if (node.op === 'call' || node.op === 'rcall') {
    const name = node.args[0]
    if (name === 'matches') {
      const message = `${quoted(name)} cannot be used: a pattern could take hours`
      return { message, ...range, suggestion: INSTEAD_OF_PATTERNS }
    }
    if (!FUNCTIONS.includes(name)) {
      const message = `${quoted(name)} cannot be used`
      return { message, ...range, suggestion: suggestionFor(name, FUNCTIONS) }
    }
    if (OVER_LISTS.includes(name)) {
      if (isOverList)
        return { message: `${quoted(name)} cannot be used within another of ${OVER_LISTS.join(', ')}`, ...range }
      within = true
    }
  }
  for (const child of childrenOf(node)) {
    const problem = refusedIn(child, within)
    if (problem !== undefined) return problem
  }
  return undefined
}

function childrenOf({ args }: ASTNode): readonly ASTNode[] {
  const all: readonly unknown[] = Array.isArray(args) ? args.flat(2) : [args]
  return all.filter(isNode)
}

function isNode(value: unknown): value is ASTNode {
  return typeof value === 'object' && value !== null && 'op' in value && 'range' in value
}

interface Name {
  readonly name: string
  readonly start: number
  readonly end: number
}

/** Of properties, and `unit`, `labels`, `properties`; not what `all` and its like call an element. */
function namesIn(node: ASTNode, hidden: readonly string[] = []): readonly Name[] {
  const range = { start: node.range.start, end: node.range.end }
  if (node.op === 'id') return hidden.includes(node.args) ? [] : [{ name: node.args, ...range }]
  if (node.op === '.' || node.op === '[]') {
    const [of, key] = node.args
    const name =
      typeof key === 'string' ? key : key.op === 'value' && typeof key.args === 'string' ? key.args : undefined
    if (of.op === 'id' && of.args === 'properties' && name !== undefined) return [{ name, ...range }]
  }
  if (node.op === 'rcall' && OVER_LISTS.includes(node.args[0])) {
    const [, list, [element, ...rest]] = node.args
    const inside = element?.op === 'id' ? [...hidden, element.args] : hidden
    return [...namesIn(list, hidden), ...rest.flatMap((one) => namesIn(one, inside))]
  }
  return childrenOf(node).flatMap((one) => namesIn(one, hidden))
}

function toProblem(err: unknown, expression: string): Problem {
  const { summary, range } = reasonOf(err)
  return { message: summary, start: range?.start ?? 0, end: range?.end ?? expression.length }
}

interface Reason {
  readonly code: string
  readonly summary: string
  readonly range?: { readonly start: number; readonly end: number }
}

function reasonOf(err: unknown): Reason {
  if (!(err instanceof Error)) throw err
  const { code = '', summary = err.message, range } = err as Error & Partial<Reason>
  return { code, summary, ...(range === undefined ? {} : { range }) }
}

function suggestionFor(name: string, known: readonly string[]): string {
  const [closest] = [...known].sort((a, b) => distance(name, a) - distance(name, b))
  if (closest !== undefined && distance(name, closest) <= 2) return `did you mean ${quoted(closest)}?`
  return known.length === 0 ? 'there are none' : `known are ${[...known].sort().join(', ')}`
}

function quoted(text: string): string {
  return `"${text}"`
}
