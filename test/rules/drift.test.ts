import { afterEach, beforeEach, expect, test } from 'vitest'
import type { DesiredState, StatusState } from '../../src/core/report/types.ts'
import { createReportPort } from '../../src/forge/report-port.ts'
import { createSender, type Sender } from '../../src/report/sender.ts'
import { REPO } from '../forge/github.ts'
import { LOG, startTeam, type Team } from './team.ts'

let team: Team
let sender: Sender
let commit: string

const TURN_MS = 5 * 60_000
const DAY_MS = 24 * 3_600_000
const STATUSES = 'GET /repos/{owner}/{repo}/commits/{ref}/statuses'

beforeEach(async () => {
  team = await startTeam()
  const port = createReportPort({ forge: team.forge, isProduction: () => false })
  sender = createSender({ reports: team.store.reports, portOf: () => port, clock: team.clock, log: LOG })
  commit = await team.hub.push('master')
  await team.settle()
})
afterEach(() => team.stop())

function status(name: string, state: StatusState): DesiredState {
  const content = { commit, context: name, state, description: `${name} is ${state}`, url: 'http://ci.test/1' }
  return { kind: 'status', subject: commit, name, weight: 2, content }
}

function deployment(run: number, of = commit): DesiredState {
  const content = {
    ...{ commit: of, environment: 'staging', identity: `${REPO}#${run}/staging`, state: 'success' as const },
    ...{ description: 'deployed', url: 'http://ci.test/1' },
  }
  return { kind: 'deployment', subject: of, name: 'staging', weight: 2, content }
}

let version = 100
async function shows(run: number, ...states: DesiredState[]): Promise<void> {
  await team.store.reports.record({ id: `${REPO}#${run}`, repo: REPO, number: run, version: ++version }, states)
  await sender.once()
}

async function turn(): Promise<void> {
  team.pass(TURN_MS)
  await team.settle()
  await sender.once()
}

async function ends(run: number): Promise<void> {
  await team.store.events.append(`${REPO}#${run}`, 'end', [{ type: 'run.finished.v1', try: 1, outcome: 'succeeded' }])
}

const standing = async () =>
  Object.fromEntries(((await team.forge.statuses?.of(commit)) ?? []).map(({ context, state }) => [context, state]))
const drifts = async () => (await team.store.audit.list({ limit: 50 })).filter(({ action }) => action === 'forge.drift')
const deployments = () => team.world.repo(REPO).deployments.map(({ statuses }) => statuses.map(({ state }) => state))

test('a status that is gone from GitHub, or that somebody has overwritten, is ours again, and that is reported', async () => {
  await shows(
    1,
    status('penstock/test', 'failure'),
    status('penstock/e2e', 'success'),
    status('penstock/run', 'pending'),
  )
  const { statuses } = team.world.repo(REPO)
  statuses.splice(
    statuses.findIndex(({ context }) => context === 'penstock/e2e'),
    1,
  )
  await team.forge.statuses?.set({ commit, context: 'penstock/test', state: 'success', description: 'trust me' })

  await turn()

  expect(await standing()).toEqual({
    'penstock/test': 'failure',
    'penstock/e2e': 'success',
    'penstock/run': 'pending',
  })
  expect((await drifts()).map(({ on, detail }) => [on, detail])).toEqual([
    [`${REPO} penstock/e2e`, expect.objectContaining({ shown: 'nothing', run: 1 })],
    [`${REPO} penstock/test`, expect.objectContaining({ shown: 'success: trust me', commit })],
  ])
  await turn()
  expect(await drifts()).toHaveLength(2)
})

test('who overwrites it again and again is answered less and less often', async () => {
  await shows(1, status('penstock/test', 'failure'))
  const sent = () => team.world.repo(REPO).statuses.filter(({ state }) => state === 'failure').length

  for (let turns = 0; turns < 8; turns++) {
    await team.forge.statuses?.set({ commit, context: 'penstock/test', state: 'success', description: 'trust me' })
    await turn()
  }

  expect(sent()).toBe(1 + 4)
})

test('a deployment whose state got lost, or that is gone, is told again; an inactive one and an older one are not', async () => {
  const later = await team.hub.push('master')
  await team.settle()
  await shows(1, deployment(1))
  await shows(2, deployment(2, later))
  const [old, newest] = team.world.repo(REPO).deployments
  old?.statuses.splice(0)
  newest?.statuses.splice(0)
  await turn()
  expect(deployments()).toEqual([[], ['success']])

  newest?.statuses.push({ ...(newest.statuses[0] as NonNullable<(typeof newest.statuses)[0]>), state: 'inactive' })
  await turn()

  expect(deployments()).toEqual([[], ['success', 'inactive']])
  expect(await drifts()).toHaveLength(1)
})

test('only what is open or has ended within a day is compared; what is unchanged costs nothing of the limit', async () => {
  await shows(1, status('penstock/test', 'success'))
  await ends(1)
  await turn()
  const [first] = team.hub.github.exchanges.filter((one) => `${one.method} ${one.template}` === STATUSES)
  await turn()
  const asked = team.hub.github.exchanges.filter((one) => `${one.method} ${one.template}` === STATUSES)
  expect([first?.notModified, asked.length, asked[1]?.notModified]).toEqual([false, 2, true])

  team.pass(DAY_MS)
  await turn()

  expect(team.hub.calls(STATUSES)).toBe(2)
})

test('what a run has shown is forgotten a month after its end, and not before', async () => {
  await ends(1)
  for (const run of await team.store.reports.changed(9)) await team.store.reports.record(run, [])
  await shows(1, status('penstock/test', 'success'))
  const wanted = async () => {
    const [run] = await team.runs()
    const { id, repo, number } = run ?? { id: '', repo: '', number: 0 }
    // The same again changes nothing where it is known, and is to be sent where it is not.
    await team.store.reports.record({ id, repo, number, version }, [status('penstock/test', 'success')])
    return (await team.store.reports.unsent()).length
  }
  team.pass(29 * DAY_MS)
  await turn()
  expect(await wanted()).toBe(0)

  team.pass(2 * DAY_MS)
  await team.settle()

  expect(await wanted()).toBe(1)
})
