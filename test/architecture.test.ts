import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const ROOTS = ['src', 'workflows', 'activities', 'worker']
/** Parts whose code must run inside a workflow: no Node.js either. */
const PURE = ['src/core', 'workflows']

interface Rule {
  readonly parts: readonly string[]
  readonly types: readonly string[]
  readonly packages: readonly string[]
}

function readTable(): Map<string, Rule> {
  const text = readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8')
  const rows = text.slice(text.indexOf('## Who may import whom')).matchAll(/^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$/gm)
  const rules = new Map<string, Rule>()
  for (const [, part = '', imports = '', packages = ''] of rows) {
    if (part === 'part' || part.startsWith('---')) continue
    const names = imports.split(', ').filter((name) => name !== 'nothing')
    rules.set(part.trim(), {
      parts: names.filter((name) => !name.startsWith('types of ')),
      types: names.filter((name) => name.startsWith('types of ')).map((name) => name.slice('types of '.length)),
      packages: packages.split(', ').filter((name) => name !== 'none'),
    })
  }
  return rules
}

function files(dir: string): string[] {
  return readdirSync(dir).flatMap((name) => {
    const path = join(dir, name)
    if (statSync(path).isDirectory()) return files(path)
    return name.endsWith('.ts') ? [path] : []
  })
}

interface Import {
  readonly from: string
  readonly typeOnly: boolean
}

function importsOf(file: string): Import[] {
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, true)
  const found: Import[] = []
  const visit = (node: ts.Node): void => {
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier) {
      const typeOnly = ts.isImportDeclaration(node)
        ? node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword
        : node.isTypeOnly
      found.push({ from: (node.moduleSpecifier as ts.StringLiteral).text, typeOnly })
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [name] = node.arguments
      if (name && ts.isStringLiteral(name)) found.push({ from: name.text, typeOnly: false })
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

function partOf(path: string, rules: ReadonlyMap<string, Rule>): string | undefined {
  return [...rules.keys()].find((part) => path === part || path.startsWith(`${part}/`))
}

function violations(file: string, rules: ReadonlyMap<string, Rule>): string[] {
  const path = relative(ROOT, file)
  const part = partOf(path, rules)
  const rule = part === undefined ? undefined : rules.get(part)
  if (part === undefined || rule === undefined) return [`${path} is in no part of the table`]
  return importsOf(file).flatMap(({ from, typeOnly }) => {
    const refuse = (what: string) => [`${path} (${part}) must not import ${what}`]
    if (from.startsWith('.')) {
      const target = partOf(relative(ROOT, resolve(dirname(file), from)), rules)
      if (target === undefined) return refuse(from)
      if (target === part || target === 'src/core' || rule.parts.includes('everything')) return []
      if (rule.parts.includes(target) || (typeOnly && rule.types.includes(target))) return []
      return refuse(typeOnly ? `types of ${target}` : target)
    }
    const isBuiltin = from.startsWith('node:') || builtinModules.includes(from)
    if (isBuiltin) return PURE.includes(part) ? refuse(from) : []
    const name = from
      .split('/')
      .slice(0, from.startsWith('@') ? 2 : 1)
      .join('/')
    return rule.packages.includes('any') || rule.packages.includes(name) ? [] : refuse(name)
  })
}

describe('the architecture', () => {
  const rules = readTable()

  it('imports only what the table in docs/architecture.md allows', () => {
    const all = ROOTS.flatMap((dir) => files(join(ROOT, dir)))

    const found = all.flatMap((file) => violations(file, rules))

    expect(all.length).toBeGreaterThan(50)
    expect(found).toEqual([])
  })

  it('sees a planted violation', () => {
    const dir = mkdtempSync(join(ROOT, 'src/core/planted-'))
    const file = join(dir, 'x.ts')
    writeFileSync(
      file,
      "import { readFileSync } from 'node:fs'\nimport { openStore } from '../../store/open-store.ts'\n",
    )
    try {
      expect(violations(file, rules)).toHaveLength(2)
    } finally {
      rmSync(dir, { recursive: true })
    }
  })

  it('names every package of the table in package.json', () => {
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { dependencies: object }
    const named = new Set([...rules.values()].flatMap((rule) => rule.packages).filter((name) => name !== 'any'))

    for (const name of named) expect(Object.keys(dependencies)).toContain(name)
  })
})
