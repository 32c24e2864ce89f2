import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { RepositoryConfig } from '../../src/config/types.ts'
import type { Forge } from '../../src/forge/types.ts'
import { createAttendant } from '../../src/rules/attendant.ts'
import type { Rule } from '../../src/rules/types.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { Store } from '../../src/store/types.ts'
import { LOG } from './team.ts'

let dir: string
let store: Store
let told: number
/** What the rule below was asked, `<repo>` or `<repo> <pull request>`. */
let asked: string[]
let hangs: Promise<void>
let answer: () => void

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pst-attendant-'))
  store = await openStore({ url: `sqlite:${join(dir, 'penstock.db')}` })
  told = 0
  asked = []
  hangs = new Promise((resolve) => {
    answer = resolve
  })
})
afterEach(async () => {
  answer()
  await store.close()
  await rm(dir, { recursive: true, force: true })
})

/** The forge of acme/slow does not answer. */
const slow: Rule = {
  name: 'slow',
  attend: async ({ repository: { name } }, notice) => {
    asked.push(`${name} ${notice.kind === 'pull_request' ? notice.number : ''}`)
    if (name === 'acme/slow') await hangs
    return undefined
  },
  review: async ({ repository: { name } }) => {
    asked.push(name)
    if (name === 'acme/slow') await hangs
  },
}

function attendantOf(...rules: readonly Rule[]) {
  const named = ['acme/slow', 'acme/web'].map((name) => [name, { name } as RepositoryConfig])
  return createAttendant({
    ...{ notices: store.notices, repositories: Object.fromEntries(named), rules, clock: Date.now, log: LOG },
    patience: { onceMs: 200, reviewMs: 200 },
    forges: () => ({}) as Forge,
  })
}

async function tell(repo: string, number: number): Promise<void> {
  const delivery = { source: 'test', id: String(++told), event: 'test', bodyDigest: 'b' }
  await store.deliveries.recordNotice(delivery, repo, { kind: 'pull_request', number })
}

test('news of a forge that hangs hold up no other repository, however many they are', async () => {
  const attendant = attendantOf(slow)
  for (let number = 1; number <= 60; number++) await tell('acme/slow', number)
  await tell('acme/web', 7)

  expect(await attendant.once()).toBeGreaterThan(0)
  expect(asked).toEqual(['acme/slow 1'])
  await attendant.once()
  expect(asked).toEqual(['acme/slow 1', 'acme/web 7'])

  answer()
  while ((await attendant.once()) > 0);
  expect(asked).toHaveLength(61)
  expect(await store.notices.pending()).toEqual([])
})

test('a repository whose forge hangs is looked at once, and the others again and again', async () => {
  const attendant = attendantOf(slow)

  await attendant.review()
  await attendant.review()

  expect(asked).toEqual(['acme/slow', 'acme/web', 'acme/web'])
})

test('what one rule cannot do yet keeps no other from its own, and is tried again', async () => {
  let isBroken = true
  const broken: Rule = {
    name: 'broken',
    attend: async () => {
      if (isBroken) throw new Error('a head that cannot be fetched')
      return 'mended'
    },
  }
  const attendant = attendantOf(broken, slow)
  await tell('acme/web', 7)

  await attendant.once()
  expect(asked).toEqual(['acme/web 7'])
  expect(await store.notices.pending()).toMatchObject([{ tries: 1 }])
  isBroken = false
  await expect.poll(() => attendant.once(), { timeout: 5_000 }).toBe(1)
  expect(await store.notices.pending()).toEqual([])
})
