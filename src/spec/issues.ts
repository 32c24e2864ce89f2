import type { z } from 'zod'
import type { Diagnostic } from './diagnostic.ts'
import { diagnosticAt, quoted } from './diagnostic.ts'
import { KNOWN_KEYS } from './schema.ts'
import { nearest } from './suggest.ts'
import type { Path, Tree } from './tree.ts'

type Issue = z.core.$ZodIssue

/** What the schema found, as diagnostics in the words and the places of the file. */
export function issueDiagnostics(issues: readonly Issue[], tree: Tree): Diagnostic[] {
  const flat = issues.flatMap((issue) => settle(issue, []))
  const meant = new Set<string>()
  const misplaced = new Set<string>()
  const diagnostics: Diagnostic[] = []
  for (const { issue, path } of flat) {
    if (issue.code !== 'unrecognized_keys') continue
    const known = issue.message.replace(KNOWN_KEYS, '').split(' ')
    for (const key of issue.keys) {
      const hint = keyHint(key, known, path)
      if (hint.means) meant.add(JSON.stringify([...path, hint.means]))
      diagnostics.push(
        diagnosticAt(tree.placeOfKey([...path, key]), {
          code: hint.code,
          message: hint.message,
          suggestion: hint.suggestion,
        }),
      )
    }
  }
  for (const { issue, path } of flat) {
    if (issue.code === 'unrecognized_keys') continue
    if (issue.code === 'invalid_key') {
      const message = issue.issues[0]?.message ?? issue.message
      const parent = JSON.stringify(path.slice(0, -1))
      const isJobKey = message.endsWith('cannot be the name of a job')
      // One mistake, however many keys of a job stand there.
      if (isJobKey && misplaced.has(parent)) continue
      if (isJobKey) misplaced.add(parent)
      const suggestion = isJobKey
        ? `a mapping here holds jobs by name; write ${pathText(path.slice(0, -1))}: ${path.at(-1) === 'checklist' ? '{ manual: { checklist: … } }' : '{ unit: { run: … } }'}`
        : undefined
      diagnostics.push(
        diagnosticAt(tree.placeOfKey(path), {
          code: 'bad-name',
          message: `${pathText(path)}: ${message}`,
          suggestion,
        }),
      )
      continue
    }
    const value = valueAt(tree.value, path)
    if (value === undefined) {
      // "rnu" was reported as a slip for "run"; that "run" is missing then says the same again.
      if (meant.has(JSON.stringify(path))) continue
      diagnostics.push(
        diagnosticAt(tree.placeOfKey(path.slice(0, -1)), {
          code: 'missing-key',
          message: `${pathText(path)} is missing`,
          suggestion: issue.message,
        }),
      )
      continue
    }
    const got = issue.message.startsWith('expected ') ? `, got ${described(value)}` : ''
    diagnostics.push(
      diagnosticAt(tree.placeOf(path), { code: 'bad-value', message: `${pathText(path)}: ${issue.message}${got}` }),
    )
  }
  return diagnostics
}

interface Settled {
  readonly issue: Issue
  readonly path: Path
}

/** For a union, the issues of the alternative that was most likely meant. */
function settle(issue: Issue, base: Path): Settled[] {
  const path: Path = [...base, ...issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part))]
  if (issue.code !== 'invalid_union') return [{ issue, path }]
  const fitting = issue.errors.filter(
    (branch) => !branch.some((inner) => inner.code === 'invalid_type' && inner.path.length === 0),
  )
  const [first, ...others] = fitting
  if (first === undefined) return [{ issue, path }]
  // Keys that an alternative does not know speak against it; what is wrong within its own keys does not.
  const isBetter = (one: readonly Issue[], other: readonly Issue[]) =>
    foreignKeys(one) - foreignKeys(other) || weight(one) - weight(other)
  const best = others.reduce((least, branch) => (isBetter(branch, least) < 0 ? branch : least), first)
  return best.flatMap((inner) => settle(inner, path))
}

function weight(issues: readonly Issue[]): number {
  return issues.reduce((sum, issue) => sum + (issue.code === 'unrecognized_keys' ? issue.keys.length : 1), 0)
}

function foreignKeys(issues: readonly Issue[]): number {
  return weight(issues.filter((issue) => issue.code === 'unrecognized_keys' && issue.path.length === 0))
}

function valueAt(value: unknown, path: Path): unknown {
  let current = value
  for (const part of path) {
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, part)) return undefined
    current = (current as Record<string | number, unknown>)[part]
  }
  return current
}

/** `test.unit.run[1]` */
export function pathText(path: Path): string {
  if (path.length === 0) return 'the file'
  return path
    .map((part, index) => {
      if (typeof part === 'number') return `[${part}]`
      const shown = /^[\w-]{1,60}$/.test(part) ? part : quoted(part)
      return index === 0 ? shown : `.${shown}`
    })
    .join('')
}

function described(value: unknown): string {
  if (value === null) return 'nothing'
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list'
  if (typeof value === 'string') return value === '' ? 'an empty string' : quoted(value)
  if (typeof value === 'object') return 'a mapping'
  return String(value)
}

/** What other systems call our keys. */
const SYNONYMS: Readonly<Record<string, string>> = {
  step: 'run',
  steps: 'run',
  script: 'run',
  scripts: 'run',
  command: 'run',
  commands: 'run',
  cmd: 'run',
  container: 'image',
  environment: 'env',
  variables: 'env',
  vars: 'env',
  depends_on: 'needs',
  dependencies: 'needs',
  require: 'needs',
  requires: 'needs',
  'timeout-minutes': 'timeout',
  'working-directory': 'workdir',
  working_dir: 'workdir',
  workingDirectory: 'workdir',
  pools: 'pool',
  placement: 'constraints',
  'runs-on': 'constraints',
  tags: 'constraints',
  build: 'deliver',
  deliverables: 'deliver',
  deployment: 'deploy',
  tests: 'test',
}

const LATER = new Set(['matrix', 'services', 'cache', 'caches', 'artifacts', 'when', 'if', 'retry'])

/** What a spec can never ask for: it would reach beyond its container. */
const NEVER = new Set([
  'privileged',
  'volumes',
  'volume',
  'mounts',
  'mount',
  'binds',
  'devices',
  'device',
  'network',
  'networks',
  'network_mode',
  'ports',
  'pid',
  'ipc',
  'userns_mode',
  'user',
  'cap_add',
  'capabilities',
  'security_opt',
  'sysctls',
  'sysctl',
  'docker_socket',
])

interface Hint {
  readonly code: string
  readonly message: string
  readonly suggestion?: string
  readonly means?: string
}

function keyHint(key: string, known: readonly string[], path: Path): Hint {
  const synonym = SYNONYMS[key]
  const shown = `key ${quoted(key)}${path.length > 0 ? ` in ${pathText(path)}` : ''}`
  if (/\s/.test(key) && known.includes('run')) {
    return {
      code: 'unknown-key',
      message: `unknown ${shown}`,
      suggestion: 'if this is a command, quote all of it: YAML reads ": " as the end of a key',
      means: 'run',
    }
  }
  if (key === 'manual' && known.includes('run')) {
    const isOfTest = path[0] === 'test' || path[0] === 'e2e'
    return {
      code: 'unknown-key',
      message: isOfTest ? `${shown} stands beside run` : `${shown} is not possible here`,
      suggestion: isOfTest
        ? 'a job has either run or manual; make two jobs of it'
        : 'people test in jobs of test and e2e',
      means: 'run',
    }
  }
  if (LATER.has(key)) {
    return { code: 'unsupported-key', message: `${shown} is not supported in this version`, suggestion: 'remove it' }
  }
  if (NEVER.has(key)) {
    return {
      code: 'refused-key',
      message: `${shown} is refused`,
      suggestion: 'a spec cannot add mounts, devices, networks, ports or privileges to its containers',
    }
  }
  if (Object.hasOwn(SYNONYMS, key) && synonym && known.includes(synonym)) {
    return {
      code: 'unknown-key',
      message: `unknown ${shown}`,
      suggestion: `did you mean "${synonym}"?`,
      means: synonym,
    }
  }
  const near = nearest(key, known)
  if (near)
    return { code: 'unknown-key', message: `unknown ${shown}`, suggestion: `did you mean "${near}"?`, means: near }
  return { code: 'unknown-key', message: `unknown ${shown}`, suggestion: `known here: ${known.join(', ')}` }
}
