import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Outcome } from '../../src/core/outcome.ts'
import { REPO } from '../forge/github.ts'
import { startTeam, type Team } from './team.ts'

let team: Team
let commit: string

beforeEach(async () => {
  team = await startTeam()
  commit = await team.hub.push('master')
  await team.settle()
})
afterEach(() => team.stop())

async function ends(outcome: Outcome): Promise<void> {
  await team.store.events.append('acme/web#1', `end/${outcome}`, [{ type: 'run.finished.v1', try: 1, outcome }])
}

/** The check of run 1, as the reporter makes it. */
async function check(key = 'acme/web#1/1'): Promise<number> {
  const put = await team.forge.checks?.put({ commit, name: 'penstock', key, state: 'failure', title: '', summary: '' })
  return put?.kind === 'put' ? Number(put.id) : 0
}

const triedAgain = async () => (await team.store.runs.get(REPO, 1))?.try

test('the button beside a failed check tries its run again, once', async () => {
  await ends('failed')
  const id = await check()

  team.world.clickCheck(REPO, id, 'ada', 'retry')
  team.world.clickCheck(REPO, id, 'ada')
  await team.settle()

  expect(await triedAgain()).toBe(2)
  expect((await team.store.events.of('acme/web#1')).map(({ event }) => event)).toContainEqual(
    expect.objectContaining({ type: 'run.retried.v1', by: 'ada' }),
  )
})

test.each([
  ['by somebody who may only read', 'mallory', 'failed', 'acme/web#1/1'],
  ['of a run that succeeded', 'ada', 'succeeded', 'acme/web#1/1'],
  ['of a run of another repository', 'ada', 'failed', 'acme/other#1/1'],
] as const)('a button %s does nothing', async (_how, by, outcome, key) => {
  await ends(outcome)

  team.world.clickCheck(REPO, await check(key), by, 'retry')
  await team.settle()

  expect(await triedAgain()).toBe(1)
  expect(await team.store.notices.pending()).toEqual([])
})

test('a button of a check that is not ours tries the newest run of the commit that failed', async () => {
  await ends('errored')

  team.world.clickCheck(REPO, await check('of-somebody-else'), 'ben')
  await team.settle()

  expect(await triedAgain()).toBe(2)
})

test('a run is found by its commit, however much has run since', async () => {
  await ends('failed')
  const scope = { kind: 'starts', secrets: 'repository', privileged: true } as const
  for (let i = 0; i < 201; i++) {
    const change = { commit: String(i).padStart(40, 'd'), ref: 'refs/heads/other' }
    const delivery = { source: 'git', id: `push-${i}`, bodyDigest: change.commit, event: 'push' }
    await team.store.deliveries.record(delivery, { kind: 'push', repo: REPO, requestedBy: 'ada', change }, scope)
  }

  team.world.clickCheck(REPO, await check('of-somebody-else'), 'ben')
  await team.settle()

  expect(await triedAgain()).toBe(2)
})
