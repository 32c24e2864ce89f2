import type { CST, Node } from 'yaml'
import { Composer, isAlias, isMap, isScalar, isSeq, Lexer, Parser } from 'yaml'
import type { Diagnostic, Place, Problem, Source } from './diagnostic.ts'
import { diagnosticAt, quoted } from './diagnostic.ts'

export const MAX_DEPTH = 32
export const MAX_NODES = 10_000
/** 10,000 nodes need about half of it; what else there may be is comments and empty lines. */
const MAX_TOKENS = 60_000
/** More would not help anybody; the rest is counted in a last diagnostic. */
const MAX_DIAGNOSTICS = 100

export type Path = readonly (string | number)[]

/** A YAML file as plain data, and where each part of it stands. */
export interface Tree {
  /** What is wrong but did not keep the rest from being read: a key written twice, an unquoted version, … */
  readonly diagnostics: readonly Diagnostic[]
  readonly value: unknown
  /** Place of the value at a path, or of the nearest part above it that exists. */
  placeOf(path: Path): Place
  /** Place of the key that holds the value at a path (a list item: the value itself). */
  placeOfKey(path: Path): Place
  /** Place of a part of the text at a path, where it stands there as it is read; else of the whole. */
  placeIn(path: Path, part: { readonly start: number; readonly end: number }): Place
}

const FORBIDDEN_KEYS = new Set(['__proto__', 'constructor', 'prototype'])

export function parseTree(
  source: Source,
): { readonly kind: 'ok'; readonly tree: Tree } | { readonly kind: 'wrong'; readonly diagnostics: Diagnostic[] } {
  const { diagnostics: structural, tokens } = checkStructure(source)
  if (structural.length > 0) return { kind: 'wrong', diagnostics: capped(structural) }

  const composer = new Composer({
    uniqueKeys: false, // checked below, where both lines are known
    merge: false,
    prettyErrors: false,
    strict: true,
    logLevel: 'silent',
  })
  const [document] = composer.compose(tokens, true, source.text.length)
  if (document === undefined) throw new Error('a YAML stream without a document, though one was asked for')
  if (document.errors.length > 0) {
    const diagnostics = document.errors.map((error) =>
      // What is missing at the end of the file is shown at its last word, not in the empty line after it.
      diagnosticAt(
        source.placeAt(Math.min(error.pos[0], Math.max(0, source.text.trimEnd().length - 1)), error.pos[1]),
        syntaxProblem(error.code, error.message),
      ),
    )
    return { kind: 'wrong', diagnostics: capped(withoutRepeats(diagnostics)) }
  }
  if (document.contents === null || (isScalar(document.contents) && document.contents.value === null)) {
    return {
      kind: 'wrong',
      diagnostics: [
        diagnosticAt(source.placeAt(0), {
          code: 'empty',
          message: 'the file has no content',
          suggestion: 'write at least `image` and `test`',
        }),
      ],
    }
  }
  return copyTree(source, document.contents)
}

/**
 * Depth, tags, directives and number of documents, on the token tree and without recursion: the parser that builds
 * nodes from it is recursive, and must never see what would exhaust its stack.
 */
function checkStructure(source: Source): { readonly diagnostics: Diagnostic[]; readonly tokens: readonly CST.Token[] } {
  const diagnostics: Diagnostic[] = []
  const report = (offset: number, length: number, problem: Problem) =>
    diagnostics.push(diagnosticAt(source.placeAt(offset, offset + length), problem))
  let documents = 0
  let tooDeep = false

  const tokens = readTokens(source.text)
  if (tokens === undefined) {
    report(0, 1, {
      code: 'too-many-tokens',
      message: `more than ${MAX_TOKENS.toLocaleString('en-US')} words, marks and line ends`,
      suggestion: 'move work into scripts of the repository',
    })
    return { diagnostics, tokens: [] }
  }
  for (const token of tokens) {
    if (token.type === 'directive') {
      report(token.offset, token.source.length, {
        code: 'directive',
        message: `YAML directives such as ${quoted(token.source.trim())} are not allowed`,
        suggestion: 'remove the line',
      })
    }
    if (token.type !== 'document') continue
    documents += 1
    if (documents === 2) {
      report(token.offset, 3, {
        code: 'several-documents',
        message: 'the file holds more than one YAML document; exactly one is allowed',
        suggestion: 'remove the `---` line and what follows',
      })
      break
    }
    const open: { readonly token: CST.Token; readonly depth: number }[] = [{ token, depth: 0 }]
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      const { token: part, depth } = next
      if (depth > MAX_DEPTH && isCollection(part) && !tooDeep) {
        tooDeep = true
        report('offset' in part ? part.offset : 0, 1, DEEPER)
      }
      if (tooDeep) break
      for (const tag of tagsOf(part)) {
        report(tag.offset, tag.source.length, {
          code: 'tag',
          message: `tags are not allowed: ${quoted(tag.source)}`,
          suggestion: 'write the plain value',
        })
      }
      switch (part.type) {
        case 'document':
          if (part.value) open.push({ token: part.value, depth: 1 })
          break
        case 'block-map':
        case 'block-seq':
        case 'flow-collection':
          // Reversed, so that what stands first in the file is reported first.
          for (let index = part.items.length - 1; index >= 0; index--) {
            const item = part.items[index]
            if (item?.value) open.push({ token: item.value, depth: depth + 1 })
            if (item?.key) open.push({ token: item.key, depth: depth + 1 })
          }
          break
        default:
          break
      }
    }
  }
  return { diagnostics, tokens }
}

/** The token tree, or nothing when there are too many tokens: both parsers take some microseconds for each. */
function readTokens(text: string): readonly CST.Token[] | undefined {
  const parser = new Parser()
  const tokens: CST.Token[] = []
  let count = 0
  for (const lexeme of new Lexer().lex(text)) {
    count += 1
    if (count > MAX_TOKENS) return undefined
    for (const token of parser.next(lexeme)) tokens.push(token)
  }
  tokens.push(...parser.end())
  return tokens
}

const DEEPER: Problem = { code: 'too-deep', message: `nested deeper than ${MAX_DEPTH} levels` }

function isCollection(token: CST.Token): boolean {
  return token.type === 'block-map' || token.type === 'block-seq' || token.type === 'flow-collection'
}

function* tagsOf(token: CST.Token): Generator<CST.SourceToken> {
  const lists: (readonly CST.SourceToken[] | undefined)[] = []
  switch (token.type) {
    case 'document':
      lists.push(token.start)
      break
    case 'block-map':
    case 'block-seq':
    case 'flow-collection':
      for (const item of token.items) lists.push(item.start, item.sep)
      break
    case 'block-scalar':
      lists.push(token.props.filter((prop): prop is CST.SourceToken => prop.type === 'tag'))
      break
    default:
      break
  }
  for (const list of lists) for (const one of list ?? []) if (one.type === 'tag') yield one
}

function syntaxProblem(code: string, message: string): Problem {
  switch (code) {
    case 'TAB_AS_INDENT':
      return { code: 'tab', message: 'a tab is used for indentation', suggestion: 'indent with spaces' }
    case 'MULTIPLE_DOCS':
      return {
        code: 'several-documents',
        message: 'the file holds more than one YAML document; exactly one is allowed',
      }
    case 'MULTILINE_IMPLICIT_KEY':
    case 'BLOCK_AS_IMPLICIT_KEY':
      return {
        code: 'syntax',
        message: `YAML: ${message}`,
        suggestion: 'check the indentation, and quote a value that contains ": "',
      }
    case 'MISSING_CHAR':
      return message.includes('quote')
        ? { code: 'syntax', message: 'YAML: a quote is opened and never closed' }
        : { code: 'syntax', message: `YAML: ${message}` }
    case 'BAD_SCALAR_START':
      return { code: 'syntax', message: `YAML: ${message}`, suggestion: 'put the value in quotes' }
    default:
      return { code: 'syntax', message: `YAML: ${message}` }
  }
}

interface Span {
  readonly start: number
  readonly end: number
}

function copyTree(
  source: Source,
  contents: Node,
): { readonly kind: 'ok'; readonly tree: Tree } | { readonly kind: 'wrong'; readonly diagnostics: Diagnostic[] } {
  const diagnostics: Diagnostic[] = []
  let unreadable = false
  const report = (span: Span, problem: Problem) =>
    diagnostics.push(diagnosticAt(source.placeAt(span.start, span.end), problem))
  const reportUnreadable = (span: Span, problem: Problem) => {
    unreadable = true
    report(span, problem)
  }

  /** What stands behind an anchor: its size and height count again at each alias, without being walked again. */
  const anchors = new Map<string, { readonly node: Node; size?: number; height?: number }>()
  const resolved = new Map<Node, Node>()

  /** First walk: sizes, aliases, keys. The depth of nodes as written is bounded by now, so recursion is, too. */
  function measure(node: unknown): { size: number; height: number } {
    if (isAlias(node)) {
      const target = anchors.get(node.source)
      if (target === undefined) {
        reportUnreadable(spanOf(node), {
          code: 'alias',
          message: `alias ${quoted(`*${node.source}`)} has no anchor before it`,
        })
        return { size: 1, height: 0 }
      }
      if (target.size === undefined || target.height === undefined) {
        reportUnreadable(spanOf(node), {
          code: 'cyclic-alias',
          message: `cyclic alias: ${quoted(`*${node.source}`)} stands inside of what it names`,
        })
        return { size: 1, height: 0 }
      }
      resolved.set(node, target.node)
      return { size: target.size, height: target.height }
    }
    const anchor: { node: Node; size?: number; height?: number } | undefined =
      isNode(node) && node.anchor !== undefined ? { node } : undefined
    if (anchor && isNode(node) && node.anchor !== undefined) anchors.set(node.anchor, anchor)
    let size = 1
    let height = 0
    const add = (part: { size: number; height: number }) => {
      // Stays exact far beyond the limit and never becomes Infinity.
      size = Math.min(size + part.size, Number.MAX_SAFE_INTEGER)
      height = Math.max(height, part.height)
    }
    if (isSeq(node)) {
      for (const item of node.items) add(measure(item))
    } else if (isMap(node)) {
      const seen = new Map<string, Span>()
      for (const pair of node.items) {
        checkKey(pair.key, seen)
        add(measure(pair.key))
        add(measure(pair.value))
      }
    } else if (isScalar(node) && typeof node.value === 'string' && node.value.includes('\0')) {
      report(spanOf(node), { code: 'control-character', message: 'a value contains a NUL character' })
    }
    // Only lists and mappings nest.
    if (isSeq(node) || isMap(node)) height += 1
    if (anchor) {
      anchor.size = size
      anchor.height = height
    }
    return { size, height }
  }

  function checkKey(key: unknown, seen: Map<string, Span>): void {
    const span = spanOf(key)
    if (!isScalar(key)) {
      report(span, { code: 'key', message: 'a key must be a plain name, not a list, a mapping or an alias' })
      return
    }
    const name = keyName(key)
    if (name === '<<') {
      report(span, {
        code: 'merge-key',
        message: 'merge keys (`<<`) are not supported',
        suggestion: 'write the keys out, or use an alias for a whole value',
      })
    } else if (FORBIDDEN_KEYS.has(name)) {
      report(span, { code: 'unknown-key', message: `unknown key ${quoted(name)}` })
    }
    const first = seen.get(name)
    if (first === undefined) seen.set(name, span)
    else {
      report(span, {
        code: 'duplicate-key',
        message: `key ${quoted(name)} is written twice: first in line ${source.placeAt(first.start).line}, again in line ${source.placeAt(span.start).line}`,
        suggestion: 'remove one of them',
      })
    }
  }

  const { size, height } = measure(contents)
  if (size > MAX_NODES) {
    reportUnreadable(spanOf(contents), {
      code: 'too-many-nodes',
      message: `more than 10,000 nodes after aliases (${size.toLocaleString('en-US')})`,
      suggestion: 'use fewer aliases, or move work into scripts of the repository',
    })
  } else if (height > MAX_DEPTH) {
    reportUnreadable(spanOf(contents), { ...DEEPER, message: `${DEEPER.message} after aliases` })
  }
  if (unreadable) return { kind: 'wrong', diagnostics: capped(diagnostics) }

  const values = new Map<string, Span>()
  const keys = new Map<string, Span>()

  function copy(node: unknown, path: Path): unknown {
    const target = isAlias(node) ? resolved.get(node) : node
    // An error is shown where the value was used: for an alias, at the alias.
    values.set(pathKey(path), spanOf(node))
    if (isSeq(target)) return target.items.map((item, index) => copy(item, [...path, index]))
    if (isMap(target)) {
      const result: Record<string, unknown> = {}
      for (const pair of target.items) {
        if (!isScalar(pair.key)) continue
        const name = keyName(pair.key)
        if (name === '<<' || FORBIDDEN_KEYS.has(name) || Object.hasOwn(result, name)) continue
        const inner = [...path, name]
        keys.set(pathKey(inner), spanOf(pair.key))
        result[name] = copy(pair.value, inner)
      }
      return result
    }
    if (!isScalar(target)) return null
    return scalarValue(target.value, target.source, path)
  }

  function scalarValue(value: unknown, written: string | undefined, path: Path): unknown {
    if (typeof value === 'bigint') return Number(value)
    const inEnv = path.length >= 2 && path[path.length - 2] === 'env'
    if (
      inEnv &&
      (typeof value === 'number' || typeof value === 'boolean') &&
      written !== undefined &&
      Number.isFinite(Number(value)) &&
      String(value) !== written
    ) {
      const span = values.get(pathKey(path)) ?? { start: 0, end: 1 }
      report(span, {
        code: 'unquoted',
        message: `YAML reads ${written} as ${String(value)}, so the variable would not be what is written here`,
        suggestion: `quote it: "${written}"`,
      })
    }
    return value
  }

  const value = copy(contents, [])

  const nearest = (path: Path): Span => {
    for (let length = path.length; length >= 0; length--) {
      const part = path.slice(0, length)
      const span =
        length === path.length ? values.get(pathKey(part)) : (keys.get(pathKey(part)) ?? values.get(pathKey(part)))
      if (span) return span
    }
    return { start: 0, end: 1 }
  }
  return {
    kind: 'ok',
    tree: {
      value,
      diagnostics,
      placeOf: (path) => {
        const span = nearest(path)
        return source.placeAt(span.start, span.end)
      },
      placeOfKey: (path) => {
        const span = keys.get(pathKey(path)) ?? nearest(path)
        return source.placeAt(span.start, span.end)
      },
      placeIn: (path, part) => {
        const span = nearest(path)
        const read = path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key], value)
        const written = source.text.slice(span.start, span.end)
        const at = typeof read === 'string' ? written.indexOf(read) : -1
        if (at === -1) return source.placeAt(span.start, span.end)
        const start = span.start + at
        return source.placeAt(start + part.start, start + Math.max(part.end, part.start + 1))
      },
    },
  }
}

function isNode(node: unknown): node is Node & { anchor?: string } {
  return isScalar(node) || isMap(node) || isSeq(node)
}

/** YAML may read a key as a number or a boolean; a name is what is written. */
function keyName(key: { value: unknown; source?: string }): string {
  return typeof key.value === 'string' ? key.value : (key.source ?? String(key.value ?? ''))
}

function pathKey(path: Path): string {
  return JSON.stringify(path)
}

function spanOf(node: unknown): Span {
  const range = (node as { range?: readonly [number, number, number] | null } | null)?.range
  return range ? { start: range[0], end: Math.max(range[0] + 1, range[1]) } : { start: 0, end: 1 }
}

function withoutRepeats(diagnostics: readonly Diagnostic[]): Diagnostic[] {
  const seen = new Set<string>()
  return diagnostics.filter((one) => {
    const key = `${one.line}:${one.code}:${one.message}`
    return !seen.has(key) && seen.add(key)
  })
}

/** In the order of the file; when there are very many, the first hundred and the number of the others. */
export function capped(diagnostics: readonly Diagnostic[]): Diagnostic[] {
  const sorted = [...diagnostics].sort((a, b) => a.line - b.line || a.column - b.column)
  if (sorted.length <= MAX_DIAGNOSTICS) return sorted
  const shown = sorted.slice(0, MAX_DIAGNOSTICS)
  const last = sorted[MAX_DIAGNOSTICS - 1]
  if (last) {
    const more = sorted.length - MAX_DIAGNOSTICS
    shown.push({ ...last, code: 'more', message: `and ${more} more, not shown`, snippet: '' })
  }
  return shown
}
