import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { EVENTS, PERMISSIONS } from '../../src/forge/github/permissions.ts'

test('docs/github.md lists each permission and event with its reason, and no other', async () => {
  const text = await readFile('docs/github.md', 'utf8')

  const rows = [...text.matchAll(/^\| (\w+) \| (?:\w+ \| )?(?:needed|advised) \| .+ \|$/gm)].map(([row]) => row)

  expect(rows).toEqual([
    ...PERMISSIONS.map(({ name, level, weight, why }) => `| ${name} | ${level} | ${weight} | ${why} |`),
    ...EVENTS.map(({ name, weight, why }) => `| ${name} | ${weight} | ${why} |`),
  ])
})
