import fc from 'fast-check'
import { expect, test } from 'vitest'
import { formatDiagnostic } from '../../src/spec/diagnostic.ts'
import { parseSpec } from '../../src/spec/parse.ts'
import { goldenCases } from '../golden/cases.ts'

/** What a spec may take at most, however it was made. */
const TIME_LIMIT_MS = 500

/** Processor time of this process: what is measured is the parser, not what else the machine does. */
function parseTime(bytes: Uint8Array | string): number {
  const start = process.cpuUsage()
  parseSpec(bytes)
  const { user, system } = process.cpuUsage(start)
  return (user + system) / 1000
}

/** The best of three, as the first also pays for compiling the parser. */
function bestTime(bytes: Uint8Array | string): number {
  return Math.min(...[1, 2, 3].map(() => parseTime(bytes)))
}

function firstLine(text: string): string {
  const result = parseSpec(text)
  return result.kind === 'wrong' && result.diagnostics[0]
    ? (formatDiagnostic(result.diagnostics[0]).split('\n')[0] ?? '')
    : 'ok'
}

const lines = (count: number, line: (index: number) => string) =>
  Array.from({ length: count }, (_, index) => line(index)).join('\n')
const bomb = lines(9, (level) =>
  level === 0
    ? 'a0: &a0 [x, x, x, x, x, x, x, x, x]'
    : `a${level}: &a${level} [${Array(9)
        .fill(`*a${level - 1}`)
        .join(', ')}]`,
)

const HOSTILE: readonly (readonly [string, string, RegExp])[] = [
  [
    'ten thousand open brackets',
    `image: a\ntest: ${'['.repeat(10_000)}`,
    /^\.penstock\.yml:2:\d+: error: nested deeper than 32/,
  ],
  ['a quarter of a megabyte of open brackets', '['.repeat(256 * 1024), /too-many-tokens/],
  [
    'ten thousand closed brackets',
    `image: a\ntest: ${'['.repeat(10_000)}${']'.repeat(10_000)}`,
    /:2:\d+: error: nested deeper than 32/,
  ],
  ['five thousand nested flow mappings', '{a: '.repeat(5000), /:1:\d+: error: nested deeper than 32/],
  [
    'five hundred nested block mappings',
    lines(500, (index) => `${' '.repeat(index)}a:`),
    /:33:33: error: nested deeper than 32/,
  ],
  ['lists on one line', '- '.repeat(10_000), /:1:\d+: error: nested deeper than 32/],
  ['question marks on one line', '? '.repeat(10_000), /:1:\d+: error: nested deeper than 32/],
  ['an alias bomb', bomb, /more than 10,000 nodes after aliases/],
  [
    'aliases that are deep only when followed',
    lines(20, (i) => (i === 0 ? 'a0: &a0 [[x]]' : `a${i}: &a${i} [[*a${i - 1}]]`)),
    /nested deeper than 32 levels after aliases/,
  ],
  ['five thousand keys with values', lines(5000, (index) => `k${index}: v`), /more than 10,000 nodes/],
  ['fifteen hundred merges', `base: &b {}\n${lines(1500, (i) => `k${i}: { <<: *b }`)}`, /merge-key|unknown-key/],
  ['one merge of three thousand', `base: &b {}\n<<: [${Array(3000).fill('*b').join(', ')}]`, /unknown-key|merge-key/],
  ['three hundred thousand bytes', `test: ${'a'.repeat(300_000)}`, /300,006 bytes; the limit is 262,144/],
  ['five megabytes', 'a: b\n'.repeat(1024 * 1024), /5,242,880 bytes/],
  ['a quarter of a megabyte of comments', '#\n'.repeat(128 * 1024), /too-many-tokens/],
  ['a quarter of a megabyte of empty lines', '\n'.repeat(256 * 1024), /error/],
  ['a hundred thousand document marks', '---\n'.repeat(64 * 1024), /too-many-tokens|several-documents/],
  ['one long plain word', 'a'.repeat(256 * 1024), /expected a mapping/],
  ['one long image', `test: x\nimage: ${'a.'.repeat(100_000)}`, /at most 255 characters/],
  ['one long duration', `image: a\ntest: x\ntimeout: ${'1'.repeat(200_000)}h`, /expected a duration/],
  ['one long unknown key', `image: a\ntest: x\n${'k'.repeat(1000)}: v`, /unknown key/],
  ['many unknown keys', `image: a\ntest: x\n${lines(3000, (i) => `imag${i}: v`)}`, /unknown key/],
]

test.each(HOSTILE)('%s: a clear error within 500 ms', (_name, text, expected) => {
  expect(firstLine(text)).toMatch(expected)
  expect(bestTime(text)).toBeLessThan(TIME_LIMIT_MS)
})

test('of very many errors the first hundred are shown, and the others are counted', () => {
  const result = parseSpec(`image: a\ntest: x\n${lines(300, (index) => `zz${index}: v`)}`)

  expect(result.kind).toBe('wrong')
  const diagnostics = result.kind === 'wrong' ? result.diagnostics : []
  expect(diagnostics).toHaveLength(101)
  expect(diagnostics.at(-1)).toMatchObject({ code: 'more', message: 'and 200 more, not shown' })
})

test('arbitrary bytes and text are answered, never thrown at', () => {
  const check = (input: Uint8Array | string) => {
    const result = parseSpec(input)
    if (result.kind === 'wrong') {
      expect(result.diagnostics.length).toBeGreaterThan(0)
      for (const one of result.diagnostics) {
        expect(one.line).toBeGreaterThanOrEqual(1)
        expect(one.column).toBeGreaterThanOrEqual(1)
        expect(one.message).not.toBe('')
      }
    }
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), check), { numRuns: 500 })
  fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 400 }), check), { numRuns: 500 })
  const yamlish = fc.array(
    fc.constantFrom(
      ...'image: |test: |run: |env: |needs: |- |\n|\n  |\n    |[|]|{|}|, |: |&a |*a |<<: |!!x |"|\'|#|>|?|%|---\n|a|1.20|null|__proto__: '.split(
        '|',
      ),
      '|',
    ),
    { maxLength: 60 },
  )
  fc.assert(
    fc.property(
      yamlish.map((parts) => parts.join('')),
      check,
    ),
    { numRuns: 1500 },
  )
})

test('right specs with bytes changed, cut, doubled or moved are answered within the time, and nothing global changes', () => {
  const valid = goldenCases('valid', '').map(({ bytes }) => Buffer.from(bytes).toString('utf8'))
  const inserts = [
    '__proto__: { polluted: 1 }\n',
    'constructor: { prototype: { polluted: 1 } }\n',
    '*a',
    '&a ',
    '<<: ',
    '\t',
    '{',
    '[',
    '"',
    ': ',
    '- ',
    '\n',
    '\u0000',
    '!x ',
  ]
  const mutation = fc.record({
    text: fc.constantFrom(...valid),
    edits: fc.array(
      fc.record({
        at: fc.double({ min: 0, max: 1, noNaN: true }),
        length: fc.nat(20),
        what: fc.constantFrom('cut', 'double', ...inserts),
      }),
      { minLength: 1, maxLength: 6 },
    ),
  })
  let slowest = 0

  fc.assert(
    fc.property(mutation, ({ text, edits }) => {
      let mutated = text
      for (const { at, length, what } of edits) {
        const start = Math.floor(at * mutated.length)
        const part = what === 'cut' ? '' : what === 'double' ? mutated.slice(start, start + length).repeat(2) : what
        const end = what === 'cut' || what === 'double' ? start + length : start
        mutated = mutated.slice(0, start) + part + mutated.slice(end)
      }
      const milliseconds = parseTime(mutated)
      slowest = Math.max(slowest, milliseconds > TIME_LIMIT_MS ? bestTime(mutated) : milliseconds)
    }),
    { numRuns: 1500 },
  )

  expect(slowest).toBeLessThan(TIME_LIMIT_MS)
  expect(({} as { polluted?: unknown }).polluted).toBeUndefined()
  expect(Object.keys(Object.prototype)).toEqual([])
})

test.each(['__proto__', 'constructor', 'prototype'])('the key %s is refused at every depth', (key) => {
  for (const text of [
    `image: a\ntest: x\n${key}: { polluted: 1 }\n`,
    `image: a\ntest: { ${key}: x, a: y }\n`,
    `image: a\ntest: { a: { run: x, ${key}: 1 } }\n`,
    `image: a\ntest: { a: { run: x, env: { ${key}: x } } }\n`,
    `image: a\ntest: { a: { run: x, pool: { rig: { ${key}: 1 } } } }\n`,
    `image: a\ntest: { a: { run: x, resources: { cpus: { ${key}: 1 } } } }\n`,
  ]) {
    expect(firstLine(text)).toContain(`unknown key "${key}"`)
  }
  expect(({} as { polluted?: unknown }).polluted).toBeUndefined()
})
