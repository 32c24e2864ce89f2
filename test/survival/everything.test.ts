import { copyFileSync, existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Client, Connection } from '@temporalio/client'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { JobKey } from '../../src/core/ids.ts'
import type { RunDetail } from '../../src/store/types.ts'
import { progress } from '../../workflows/messages.ts'
import {
  containersOf,
  endedRows,
  expectedNumbered,
  grows,
  leaks,
  nothingLeft,
  SECRET,
  say,
  spec,
  startTarget,
  startWhole,
  type Target,
  type Whole,
} from '../helpers/survival.ts'
import { REPO, type System, startSystem } from '../helpers/system.ts'

let system: System
let whole: Whole
let target: Target
beforeAll(async () => {
  target = await startTarget()
  system = await startSystem({
    repository: `    secrets: { DEPLOY_KEY: { env: TEST_DEPLOY_KEY } }
    environments:
      staging: {}
      production: { approvers: ["role:approver"], quorum: 1, expires: 7d }`,
    env: { TEST_DEPLOY_KEY: SECRET },
  })
  whole = await startWhole(system)
}, 300_000)
afterAll(async () => {
  await whole?.stop()
  await system?.dispose()
  await target?.close()
}, 120_000)

const candidate = () =>
  spec(`test: echo tested
e2e:
  suite: { secrets: { DEPLOY_KEY: env }, run: sh numbered.sh }
deploy:
  staging: ${target.call('staging')}
  production: ${target.call('production')}
`)
const suite = (number: number): JobKey => ({ run: `${REPO}#${number}`, stage: 'e2e', job: 'suite', attempt: 1 })

const atGate = (number: number) =>
  system.until(
    'the gate',
    async () => {
      const run = await system.run(number)
      return run.waiting?.kind === 'approval' ? run : undefined
    },
    180,
  )

async function approve(number: number): Promise<void> {
  await system.until(
    'the vote to be taken',
    async () => {
      const [gate] = await system.gates(number)
      if (!gate) return false
      await system.call('POST', `/runs/${number}/gates/${gate.name}/approve`, { as: 'tess', body: { comment: 'fine' } })
      return true
    },
    60,
  )
}

/** The production branch, and the run that released it, are at the commit. */
async function released(run: RunDetail): Promise<void> {
  const { commit } = run.change
  const release = await system.until(
    'the release',
    async () =>
      (await system.runs()).find((one) => one.change.ref === 'refs/heads/production' && one.change.commit === commit),
    60,
  )
  expect(await system.ended(release.number, 180)).toMatchObject({ status: 'succeeded' })
  expect((await execa('git', ['ls-remote', system.bare, 'refs/heads/production'])).stdout.slice(0, 40)).toBe(commit)
}

it('everything killed at once, while a step runs and while a gate waits: the run goes on where it was', async () => {
  target.calls.length = 0
  const number = await system.push(candidate())
  await grows(system, number, 'suite', 30)
  const before = await system.run(number)
  const containers = await containersOf(system, suite(number))

  whole.killAll()
  await whole.start()
  await grows(system, number, 'suite', 30)
  expect(await containersOf(system, suite(number))).toEqual(containers)
  await say(system, suite(number))
  const waiting = await atGate(number)
  whole.killAll()
  await whole.start()
  await approve(number)
  const run = await system.ended(number, 180)

  expect(containers).toHaveLength(1)
  expect(run).toMatchObject({ status: 'succeeded', try: 1 })
  expect(endedRows(run, ['test', 'staging'])).toEqual(endedRows(before, ['test', 'staging']))
  expect(endedRows(run, ['test', 'staging', 'e2e'])).toEqual(endedRows(waiting, ['test', 'staging', 'e2e']))
  const log = await system.log(number, 'suite')
  expect(log).toBe(expectedNumbered(log))
  expect(leaks(log)).toEqual([])
  expect(run.attempts.find((one) => one.job === 'suite' && one.step === 0)?.log).toMatchObject({ kind: 'complete' })
  await released(run)
  expect(target.calls).toEqual(['staging', 'production'])
  await nothingLeft(system)
}, 600_000)

it('a run that Temporal has forgotten, in part or whole, goes on from what the database knows; nothing is deployed twice', async () => {
  target.calls.length = 0
  await whole.stop()
  keepTemporal('before the run')
  await whole.start()
  const number = await system.push(candidate())
  await grows(system, number, 'suite', 10)
  whole.killAll()
  keepTemporal('in the middle of e2e')
  await whole.start()
  await grows(system, number, 'suite', 10)
  await say(system, suite(number))
  const waiting = await atGate(number)

  whole.killAll()
  putTemporalBack('in the middle of e2e')
  await whole.start()
  // Temporal believes that e2e runs; what the database has recorded stands.
  await system.until('Temporal to be at the gate, too', async () => (await waitingIn(number)) === 'approval', 120)
  expect(endedRows(await system.run(number), ['test', 'staging', 'e2e'])).toEqual(waiting.attempts.filter(isDone))
  whole.killAll()
  putTemporalBack('before the run')
  await whole.start()
  // At once, while there is nobody yet to take it.
  await approve(number)
  const run = await system.ended(number, 180)

  expect(run).toMatchObject({ status: 'succeeded', try: 1 })
  expect(endedRows(run, ['test', 'staging', 'e2e'])).toEqual(waiting.attempts.filter(isDone))
  const reused = (await system.events(number)).filter(({ event }) => event.type === 'stage.reused.v1')
  expect(reused.map(({ event }) => 'stage' in event && event.stage)).toEqual(['test', 'staging', 'e2e'])
  await released(run)
  expect(target.calls).toEqual(['staging', 'production'])
  await nothingLeft(system)
}, 900_000)

/** What the run's workflow says it waits for. */
async function waitingIn(number: number): Promise<string | undefined> {
  const connection = await Connection.connect({ address: system.embedded.addresses.temporal })
  try {
    const workflow = new Client({ connection }).workflow.getHandle(`${REPO}#${number}`)
    return (await workflow.query(progress)).waiting?.kind
  } finally {
    await connection.close()
  }
}

const isDone = ({ stage }: { readonly stage: string }) => ['test', 'staging', 'e2e'].includes(stage)

/** The whole of the file that Temporal keeps its executions in, as it is now; nothing runs meanwhile. */
function keepTemporal(name: string): void {
  for (const part of ['', '-wal', '-shm']) {
    const file = join(system.dataDir, `temporal.db${part}`)
    const copy = `${file}.${name}`
    rmSync(copy, { force: true })
    if (existsSync(file)) copyFileSync(file, copy)
  }
}

function putTemporalBack(name: string): void {
  for (const part of ['', '-wal', '-shm']) {
    const file = join(system.dataDir, `temporal.db${part}`)
    rmSync(file, { force: true })
    if (existsSync(`${file}.${name}`)) copyFileSync(`${file}.${name}`, file)
  }
}
