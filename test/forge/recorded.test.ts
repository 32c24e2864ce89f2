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

test('no recorded payload of any event is more than ignored, or breaks the parser', () => {
  const others = RECORDED.filter((one) => one.name !== 'push' && one.name !== 'pull_request')
  const kinds = others.flatMap(({ name, examples }) => examples.map((one) => parseGithub(name, one).kind))

  expect(kinds.length).toBeGreaterThan(100)
  expect(new Set(kinds)).toEqual(new Set(['ignored']))
})
