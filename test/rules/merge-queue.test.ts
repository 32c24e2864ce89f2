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

async function pull(base = 'master', head = 'page'): Promise<number> {
  await team.hub.push(head, first)
  return (await team.world.openPull(REPO, { by: 'ada', head, base, title: head })).number
}
const runsOf = async (commit: string) => (await team.runs()).filter(({ change }) => change.commit === commit)

test('what GitHub’s merge queue puts together gets one run and its statuses, and lands when they are green', async () => {
  team.world.protect(REPO, 'master', { checks: ['penstock/up-to-date', 'penstock/test'] })
  const group = await team.world.enqueue(REPO, await pull())
  await team.settle()

  const runs = await runsOf(group.commit)
  expect(runs.map(({ change }) => change.ref)).toEqual([group.ref])
  await expect(team.world.land(REPO, group)).rejects.toThrow('"penstock/test" is expected')
  // As the reporter does it when the run has ended.
  const passed = { context: 'penstock/test', state: 'success', description: 'passed' } as const
  await team.forge.statuses?.set({ commit: group.commit, ...passed })
  await team.world.land(REPO, group)
  expect(await team.forge.branchTip('master')).toBe(group.commit)
})

test('one run, too, when only one of the two deliveries comes, whichever it is', async () => {
  const number = await pull()
  await team.settle()
  team.world.webhooks.fault({ kind: 'silent', on: (event) => event === 'push' })
  const group = await team.world.enqueue(REPO, number)
  await team.settle()

  expect(await runsOf(group.commit)).toHaveLength(1)
})

test('a queue of another branch is not answered, nor a group that was taken apart meanwhile', async () => {
  await team.forge.branches?.create('release', first)
  const other = await team.world.enqueue(REPO, await pull('release'))
  await team.settle()
  const gone = await team.world.enqueue(REPO, await pull('master', 'more'))
  await team.world.removeBranch(REPO, gone.ref.replace('refs/heads/', ''), 'ada')
  await team.settle()

  const statuses = team.world.repo(REPO).statuses.filter(({ sha }) => sha === other.commit || sha === gone.commit)
  expect(statuses).toEqual([])
})
