import { afterEach, beforeEach, expect, test } from 'vitest'
import { REPO } from '../forge/github.ts'
import { startTeam, type Team } from './team.ts'

let team: Team
let first: string

beforeEach(async () => {
  team = await startTeam()
  first = await team.hub.push('master')
  await team.settle()
})
afterEach(() => team.stop())

const open = (head: string, base = 'master') => team.world.openPull(REPO, { by: 'ada', head, base, title: head })
const all = () => team.world.repo(REPO).statuses.filter(({ context }) => context === 'penstock/up-to-date')
const newest = (commit: string) => {
  const status = all().findLast(({ sha }) => sha === commit)
  return status && `${status.state}: ${status.description}`
}

test('every open pull request into the candidate branch says how far it is behind, each time the tip moves', async () => {
  const page = await team.hub.push('page', first)
  const text = await team.hub.push('text', first)
  await open('page')
  await open('text')
  await team.settle()
  expect([newest(page), newest(text)]).toEqual(Array(2).fill('success: up to date with master'))

  await team.hub.push('master')
  await team.settle()
  expect([newest(page), newest(text)]).toEqual(Array(2).fill('failure: 1 commit behind master: rebase'))

  const tip = await team.hub.push('master')
  const rebased = await team.hub.push('text', tip)
  await team.settle()
  expect([newest(page), newest(rebased)]).toEqual([
    'failure: 2 commits behind master: rebase',
    'success: up to date with master',
  ])
})

test('a pull request into another branch is none of its business, and one from a fork is', async () => {
  await team.hub.push('production', first)
  const tip = await team.hub.push('master')
  await open('master', 'production')
  await team.world.addRepository('mallory/web', { parent: REPO })
  const mine = await team.world.push('mallory/web', 'mine', { by: 'mallory', message: 'Mine', files: { m: '1' } })
  await team.world.openPull(REPO, { by: 'mallory', head: 'mallory:mine', base: 'master', title: 'Mine' })
  await team.settle()

  expect(newest(mine)).toBe('success: up to date with master')
  expect(newest(tip)).toBeUndefined()
})

test('what stands is not set again; what somebody else has set is set right', async () => {
  const page = await team.hub.push('page', first)
  const { number } = await open('page')
  await team.settle()
  team.world.label(REPO, number, 'ready', 'ada')
  await team.settle()
  team.pass(61_000)
  await team.settle()
  expect(all()).toHaveLength(1)

  const wrong = { context: 'penstock/up-to-date', state: 'failure', description: 'no' } as const
  await team.forge.statuses?.set({ commit: page, ...wrong })
  team.pass(61_000)
  await team.settle()
  expect(newest(page)).toBe('success: up to date with master')
})

test('without a delivery the next review makes it good', async () => {
  const page = await team.hub.push('page', first)
  await open('page')
  await team.settle()
  team.world.webhooks.fault({ kind: 'silent', times: 100 })
  await team.hub.push('master')
  await team.settle()

  expect(newest(page)).toBe('failure: 1 commit behind master: rebase')
})

test('a head that cannot be fetched keeps no other from its status', async () => {
  await team.hub.push('gone', first)
  const gone = await open('gone')
  const page = await team.hub.push('page', first)
  await open('page')
  gone.commit = 'd'.repeat(40)
  await team.settle()

  expect(newest(page)).toBe('success: up to date with master')
})

test('a forge that asks to be left alone in the midst of it is, by this rule and all others', async () => {
  const commit = await team.hub.push('master')
  for (const head of ['one', 'two', 'three']) {
    await team.hub.push(head, commit)
    await open(head)
  }
  await team.settle()
  await team.hub.push('master')
  const before = team.hub.github.exchanges.length
  const isStatus = (template: string) => template === 'POST /repos/{owner}/{repo}/statuses/{sha}'
  team.hub.github.fault({ kind: 'too_many', retryAfter: 300, times: 100, on: isStatus })

  await team.settle()
  await team.settle()

  const asked = team.hub.github.exchanges.slice(before).map(({ method, template }) => `${method} ${template}`)
  expect(asked.filter(isStatus)).toHaveLength(1)
  expect(isStatus(asked.at(-1) ?? '')).toBe(true)
})
