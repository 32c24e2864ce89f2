import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Lab, REPO, startGitlabLab } from './labs.ts'

let lab: Lab
let first: string

beforeEach(async () => {
  lab = await startGitlabLab()
  first = await lab.push('master')
})
afterEach(() => lab.stop())

test('an approval is of the head that was there when it was given: GitLab keeps it over a push', async () => {
  const { world } = lab.server
  const approved = await lab.push('page', first)
  const { number } = await world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })
  world.review(REPO, number, { by: 'ben', state: 'APPROVED' })
  await lab.push('page')

  expect(await lab.forge.pullRequests?.reviews(number)).toEqual([{ by: 'ben', state: 'approved', commit: approved }])
})

test('a status that waits may be told again; one that has ended can begin anew', async () => {
  const status = { commit: first, context: 'penstock/test', url: 'http://ci.test/1' } as const
  const states = ['pending', 'pending', 'failure', 'pending', 'success'] as const
  const seen: (string | undefined)[] = []
  for (const state of states) {
    await lab.forge.statuses?.set({ ...status, state, description: state })
    seen.push((await lab.forge.statuses?.of(first))?.[0]?.state)
  }

  expect(seen).toEqual(states)
})

test('a deployment that has ended takes the end of the next try of the same commit', async () => {
  const deployment = { commit: first, environment: 'staging', key: '1', production: false, description: '' }
  const put = await lab.forge.deployments?.put(deployment)
  const id = put?.kind === 'put' ? put.id : ''
  for (const state of ['failure', 'in_progress', 'success'] as const) {
    await lab.forge.deployments?.setState(id, { state, description: '' })
  }

  expect(await lab.forge.deployments?.stateOf(id)).toBe('success')
})

test('the newest labelling is the one of the highest id, in whatever order they are told', async () => {
  const { world } = lab.server
  await lab.push('page', first)
  const { number, labelings } = await world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })
  for (const by of ['ada', 'ben']) {
    world.label(REPO, number, 'ship', by)
    world.unlabel(REPO, number, 'ship', by)
  }
  labelings.reverse()

  expect(await lab.forge.pullRequests?.labeled(number, 'ship')).toMatchObject({ by: 'ben' })
})

test('a deployment that waits, or that is tried again, is shown as well as GitLab can; another end is not its end', () => {
  const isShownAs = lab.forge.deployments?.isShownAs

  expect(isShownAs?.('queued', 'in_progress')).toBe(true)
  expect(isShownAs?.('in_progress', 'failure')).toBe(true)
  expect(isShownAs?.('success', 'failure')).toBe(false)
  expect(isShownAs?.('failure', 'in_progress')).toBe(false)
})
