import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { formatDiagnostic } from '../../src/spec/diagnostic.ts'
import { parseSpec, specDigest } from '../../src/spec/parse.ts'
import { durationSeconds, memoryBytes, workspacePath } from '../../src/spec/schema.ts'

test.each([
  ['1s', 1],
  ['90s', 90],
  ['15m', 900],
  ['1h30m', 5400],
  ['1d', 86_400],
  ['0s', 0],
  ['1h1h', undefined],
  ['1m1h', undefined],
  ['10', undefined],
  ['', undefined],
  ['1.5h', undefined],
  ['500ms', undefined],
  ['-1h', undefined],
])('the duration %j has %j seconds', (text, seconds) => {
  expect(durationSeconds(text)).toBe(seconds)
})

test.each([
  ['512Mi', 512 * 1024 ** 2],
  ['1.5Gi', 1.5 * 1024 ** 3],
  ['1GB', undefined],
  ['512', undefined],
])('the size %j has %j bytes', (text, bytes) => {
  expect(memoryBytes(text)).toBe(bytes)
})

test.each([
  ['.', '/workspace'],
  ['app', '/workspace/app'],
  ['app/../lib/', '/workspace/lib'],
  ['/workspace/app', '/workspace/app'],
  ['..', undefined],
  ['/workspace/..', undefined],
  ['/workspace2', undefined],
  ['/', undefined],
  ['/proc/self/fd/8', undefined],
])('the path %j is %j in the workspace', (path, absolute) => {
  expect(workspacePath(path)).toBe(absolute)
})

test('text and bytes are the same spec, with or without a byte order mark', () => {
  const text = 'image: alpine\ntest: make\n'

  const parsed = parseSpec(text)

  expect(parsed.kind).toBe('ok')
  expect(parseSpec(Buffer.from(text))).toEqual(parsed)
  expect(parseSpec(`\ufeff${text}`)).toEqual(parsed)
})

test('a byte order mark does not move the place of an error', () => {
  const parsed = parseSpec('\ufeffimage: alpine\ntset: make\n')

  expect(parsed).toMatchObject({ kind: 'wrong', diagnostics: [{ line: 2, column: 1 }] })
})

test('a step that may take longer than its job is a warning, and the spec is right', () => {
  const parsed = parseSpec(
    'image: a\ntest:\n  a:\n    timeout: 5m\n    run: [{ run: x, timeout: 10m }, { run: y, timeout: 5m }]\n',
  )

  expect(parsed.kind).toBe('ok')
  const warnings = parsed.kind === 'ok' ? parsed.warnings : []
  expect(warnings.map(formatDiagnostic)).toEqual([
    [
      '.penstock.yml:5:30: warning: the step may take 10m, but its job ends after 5m; give the job a longer timeout [timeout-without-effect]',
      '  5 |     run: [{ run: x, timeout: 10m }, { run: y, timeout: 5m }]',
      '    |                              ^^^',
    ].join('\n'),
  ])
})

test('a diagnostic has every field a program needs', () => {
  const parsed = parseSpec('image: alpine\ntest:\n  unit: { rnu: make }\n', 'ci/spec.yml')

  expect(parsed).toEqual({
    kind: 'wrong',
    diagnostics: [
      {
        severity: 'error',
        code: 'unknown-key',
        message: 'unknown key "rnu" in test.unit',
        file: 'ci/spec.yml',
        line: 3,
        column: 11,
        suggestion: 'did you mean "run"?',
        snippet: '  3 |   unit: { rnu: make }\n    |           ^^^',
      },
    ],
  })
})

test('all that is wrong is told at once, in the order of the file', () => {
  const parsed = parseSpec(
    [
      'image: Alpine',
      'env: { V: 1.20, V: x }',
      'test:',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the very text that is refused
      '  a: { needs: b, tiemout: 5m, run: "echo ${{ x }}" }',
      'zebra: 1',
      '',
    ].join('\n'),
  )

  const found = parsed.kind === 'wrong' ? parsed.diagnostics.map(({ line, code }) => `${line} ${code}`) : []
  expect(found).toEqual([
    '1 bad-value',
    '2 unquoted',
    '2 duplicate-key',
    '4 unknown-need',
    '4 unknown-key',
    '4 template',
    '5 unknown-key',
  ])
})

test('a spec is plain data', () => {
  const parsed = parseSpec('image: a\ntest: { a: &x { run: x }, b: *x }\ndeploy: { staging: ./d }\n')

  expect(parsed.kind).toBe('ok')
  expect(JSON.parse(JSON.stringify(parsed))).toEqual(parsed)
})

test('the digest of a spec is the sha256 of its bytes', () => {
  const bytes = Buffer.from('image: alpine\n')

  expect(specDigest(bytes)).toBe(createHash('sha256').update(bytes).digest('hex'))
  expect(specDigest('image: alpine\n')).toBe(specDigest(bytes))
  expect(specDigest('image: alpine \n')).not.toBe(specDigest(bytes))
})
