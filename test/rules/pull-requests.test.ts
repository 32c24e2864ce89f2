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

const pulls = async () => (await team.runs()).filter(({ trigger }) => trigger.kind === 'pull_request')

test('each head of a pull request gets one run, however often GitHub tells of it', async () => {
  const commit = await team.hub.push('feature')
  const { number } = await team.world.openPull(REPO, { by: 'ada', head: 'feature', base: 'master', title: 'A page' })
  await team.settle()
  team.world.label(REPO, number, 'ready', 'ada')
  await team.settle()
  const later = await team.hub.push('feature')
  await team.settle()

  expect((await pulls()).map(({ change }) => change)).toEqual([
    {
      commit: later,
      ref: `refs/pull/${number}/head`,
      before: first,
      title: 'A page',
      author: 'ada',
      pullRequest: { number, base: 'master' },
    },
    expect.objectContaining({ commit }),
  ])
})

test('while GitHub does not answer, nothing is lost', async () => {
  await team.hub.push('feature')
  await team.settle()
  team.hub.github.fault({ kind: 'status', status: 503, times: 1000 })
  await team.world.openPull(REPO, { by: 'ada', head: 'feature', base: 'master', title: 'A page' })
  await team.settle()
  expect(await pulls()).toEqual([])

  team.hub.github.clearFaults()
  team.pass(120_000)
  await team.settle()

  expect(await pulls()).toHaveLength(1)
})
