import { createRequire } from 'node:module'
import { expect, test } from 'vitest'
import { parseGithub } from '../../src/forge/github/payload.ts'

interface Recorded {
  readonly name: string
  readonly examples: readonly unknown[]
}

/** Payloads that GitHub has sent. */
const RECORDED = createRequire(import.meta.url)('@octokit/webhooks-examples') as readonly Recorded[]

test.each(RECORDED.filter((one) => one.name === 'push' || one.name === 'pull_request'))(
  'every recorded $name is understood',
  ({ name, examples }) => {
    const refused = examples.map((one) => parseGithub(name, one)).filter((one) => one.kind === 'refused')

    expect(examples.length).toBeGreaterThan(4)
    expect(refused).toEqual([])
  },
)

test('no other recorded payload starts a run or breaks the parser; some are a reason to ask GitHub', () => {
  const others = RECORDED.filter((one) => one.name !== 'push' && one.name !== 'pull_request')
  const noted = new Set<string>()
  const kinds = others.flatMap(({ name, examples }) =>
    examples.map((one) => {
      const incoming = parseGithub(name, one)
      if (incoming.kind !== 'notice') return incoming.kind
      noted.add(name)
      return incoming.otherwise.kind
    }),
  )

  expect(kinds.length).toBeGreaterThan(100)
  expect(new Set(kinds)).toEqual(new Set(['ignored']))
  // The recorded comments are all on issues.
  expect([...noted].sort()).toEqual(['check_run', 'check_suite', 'merge_group', 'pull_request_review'])
})
