import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  ACCESS,
  admit,
  DOORS,
  type Door,
  factsOfRun,
  judgeApproval,
  type TrustFacts,
  withheld,
} from '../../src/core/admission.ts'

const WRITTEN = { specChanged: false, approved: false } as const

/** Whose code it is: the columns of the table. */
const CODE = {
  'a branch': { origin: 'branch', ...WRITTEN },
  'pull request of a writer': { origin: 'branch', author: 'write', ...WRITTEN },
  'pull request of a reader': { origin: 'branch', author: 'read', ...WRITTEN },
  'fork, by a writer': { origin: 'fork', author: 'admin', ...WRITTEN },
  'fork, same spec': { origin: 'fork', author: 'read', ...WRITTEN },
  'fork, other spec': { origin: 'fork', author: 'none', specChanged: true, approved: false },
  'fork, other spec, let in': { origin: 'fork', author: 'none', specChanged: true, approved: true },
} as const satisfies Readonly<Record<string, TrustFacts>>
type Code = keyof typeof CODE

/** all: with the secrets of the repository; none: without; waits: without, once somebody lets it; no: refused. */
type Cell = 'all' | 'none' | 'waits' | 'no'

const OPEN: readonly Cell[] = ['all', 'all', 'none', 'none', 'none', 'waits', 'none']
const ONLY_BRANCHES: readonly Cell[] = ['all', 'all', 'no', 'no', 'no', 'no', 'no']

/** In the order of `CODE`, for somebody who may ask. */
const TABLE: Readonly<Record<Door, readonly Cell[]>> = {
  push: ONLY_BRANCHES,
  pull_request: OPEN,
  reopen: OPEN,
  label: OPEN,
  comment: OPEN,
  retry: OPEN,
  api: OPEN,
  cli: OPEN,
  schedule: ONLY_BRANCHES,
  dependent: ONLY_BRANCHES,
  merge_queue: ONLY_BRANCHES,
  promotion: ONLY_BRANCHES,
}
/** By these somebody asks, who must be able to write; the others are told by the forge or the clock. */
const ASKED: readonly Door[] = ['comment', 'retry', 'api', 'cli']

function cell(door: Door, facts: TrustFacts): Cell {
  const admission = admit(door, facts)
  if (admission.kind === 'refused') return 'no'
  expect(admission.privileged).toBe(admission.secrets === 'repository')
  if (admission.kind === 'waits') {
    expect(admission.secrets).toBe('none')
    return 'waits'
  }
  return admission.secrets === 'repository' ? 'all' : 'none'
}

describe('doors, trust and secret scope', () => {
  test.each(DOORS)('%s', (door) => {
    const cells = Object.values(CODE).map((facts) => cell(door, { ...facts, asker: 'write' }))

    expect(cells).toEqual(TABLE[door])
  })

  test.each(DOORS.flatMap((door) => [undefined, ...ACCESS].map((asker) => [door, asker] as const)))(
    '%s, asked for by somebody with access %s',
    (door, asker) => {
      const may = !ASKED.includes(door) || asker === 'write' || asker === 'admin'

      for (const [i, facts] of Object.values(CODE).entries()) {
        expect(cell(door, { ...facts, ...(asker === undefined ? {} : { asker }) })).toBe(may ? TABLE[door][i] : 'no')
      }
    },
  )

  test('whoever asks, and however: code from elsewhere never gets a secret', () => {
    for (const door of DOORS)
      for (const asker of [undefined, ...ACCESS])
        for (const author of [undefined, ...ACCESS])
          for (const specChanged of [true, false])
            for (const approved of [true, false]) {
              const facts = { origin: 'fork', specChanged, approved } as const
              const people = { ...(asker === undefined ? {} : { asker }), ...(author === undefined ? {} : { author }) }
              expect(cell(door, { ...facts, ...people })).not.toBe('all')
            }
  })

  test('the table of the documentation is this one', () => {
    const page = readFileSync(new URL('../../docs/strangers.md', import.meta.url), 'utf8')
    const rows = page
      .split('\n')
      .filter((line) => /^\| `[a-z_]+` \| (yes|no) \|/.test(line))
      .map((line) =>
        line
          .split('|')
          .slice(1, -1)
          .map((one) => one.trim()),
      )
    const header = page.split('\n').find((line) => line.startsWith('| door |'))

    expect(header).toBe(`| door | asked | ${(Object.keys(CODE) as Code[]).join(' | ')} |`)
    expect(rows).toEqual(DOORS.map((door) => [`\`${door}\``, ASKED.includes(door) ? 'yes' : 'no', ...TABLE[door]]))
  })
})

describe('a run that is tried again', () => {
  test('is what it was, whoever asks', () => {
    const kept = ACCESS.map((asker) => [
      cell('retry', factsOfRun({ secrets: 'repository' }, asker)),
      cell('retry', factsOfRun({ secrets: 'none' }, asker)),
      cell('retry', factsOfRun({ secrets: 'none', held: 'the spec is changed' }, asker)),
    ])

    expect(kept).toEqual([
      ['no', 'no', 'no'],
      ['no', 'no', 'no'],
      ['all', 'none', 'waits'],
      ['all', 'none', 'waits'],
    ])
  })
})

test('what is withheld is said by its name, and nothing is withheld from our own', () => {
  for (const kind of ['secret', 'pool', 'environment', 'stage', 'branch'] as const) {
    expect(withheld('repository', { kind, name: 'NAME' })).toBeUndefined()
    expect(withheld('none', { kind, name: 'NAME' })).toMatch(/NAME .*the code is from a fork/)
  }
})

describe('/ok-to-test', () => {
  const head = 'abcdef0123456789abcdef0123456789abcdef01'

  test.each([
    ['names the head', { asker: 'write', named: head }, 'approved'],
    ['names the beginning of the head', { asker: 'admin', named: 'ABCDEF0' }, 'approved'],
    ['names too little of it', { asker: 'write', named: 'abcdef' }, 'refused'],
    ['names another commit', { asker: 'write', named: 'b'.repeat(40) }, 'refused'],
    ['names more than a commit', { asker: 'write', named: `${head}0` }, 'refused'],
    ['by somebody who may only read', { asker: 'read', named: head }, 'refused'],
    ['written after the head was shown', { asker: 'write', at: 2000, shownAt: 1000 }, 'approved'],
    ['written in the second in which it was shown', { asker: 'write', at: 1000, shownAt: 1000 }, 'refused'],
    ['written before the head was shown', { asker: 'write', at: 1000, shownAt: 2000 }, 'refused'],
    ['at a forge that tells no times', { asker: 'write' }, 'refused'],
  ] as const)('%s', (_how, asked, kind) => {
    expect(judgeApproval({ head, ...asked }).kind).toBe(kind)
  })
})

test('whoever makes a run has asked at this door: no file records a trigger without `admit`', () => {
  const root = new URL('../../', import.meta.url)
  const files = ['src', 'activities', 'worker'].flatMap((folder) =>
    readdirSync(new URL(folder, root), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => `${folder}/${name}`),
  )
  const wrong = files.filter((name) => {
    const text = readFileSync(new URL(name, root), 'utf8')
    return /deliveries\??\s*\.record\(/.test(text) && !/\badmit\(/.test(text)
  })

  expect(wrong).toEqual([])
})
