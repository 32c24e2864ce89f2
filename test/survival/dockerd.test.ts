import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type Docker from 'dockerode'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { controlVolume, type JobKey, workspaceVolume } from '../../src/core/ids.ts'
import { isOutcome } from '../../src/core/outcome.ts'
import { connectDocker } from '../../src/engine/docker.ts'
import { containersOf, nothingLeft, pathOf, say, spec } from '../helpers/survival.ts'
import { REPO, type System, startSystem } from '../helpers/system.ts'

/** The engine that is killed is one of its own, never the machine's. */
const LAB = fileURLToPath(new URL('../swarm-lab/swarm-lab', import.meta.url))

let system: System
let folder: string
let engine: Docker
let lab: (...args: string[]) => Promise<unknown>
beforeAll(async () => {
  // The path of a unix socket has at most 108 bytes.
  folder = await mkdtemp(join(tmpdir(), 'lab-'))
  const env = { ...process.env, SWARM_LAB_DIR: folder, SWARM_LAB_NET: '198.18.91' }
  lab = (...args) => promisify(execFile)(LAB, args, { env })
  await lab('up', '1')
  const DOCKER_HOST = `unix://${folder}/nodes/n1/docker.sock`
  engine = connectDocker({ DOCKER_HOST })
  system = await startSystem({ env: { DOCKER_HOST } })
}, 300_000)
afterAll(async () => {
  await system?.dispose()
  await lab?.('down')
  if (folder) await rm(folder, { recursive: true, force: true })
}, 180_000)

const keyOf = (number: number, job: string, attempt = 1): JobKey => ({
  run: `${REPO}#${number}`,
  stage: 'test',
  job,
  attempt,
})

it('a step that the returning engine killed is errored with its cause, run again where the spec says so; one that ended meanwhile counts as it ended', async () => {
  const until = (code: number) => `echo begun; until [ -e enough ]; do usleep 50000; done; exit ${code}`
  const number = await system.push(
    spec(`test:
  killed: ${until(0)}
  again: { on_lost: retry, run: "${until(0)}" }
  passed: ${until(0)}
  failed: ${until(4)}
`),
  )
  for (const job of ['killed', 'again', 'passed', 'failed']) {
    await system.until(`${job} to begin`, async () => (await system.log(number, job)).includes('\nbegun\n'), 120)
  }

  const ending = await Promise.all(
    ['passed', 'failed'].map(async (job) => ({
      enough: join(await pathOf(workspaceVolume(system.instance, keyOf(number, job)), engine), 'enough'),
      journal: join(await pathOf(controlVolume(system.instance, keyOf(number, job), 0), engine), 'journal'),
    })),
  )

  await lab('crash-dockerd', 'n1')
  // The steps run on while the engine is away: these two come to their end in the meantime.
  for (const { enough, journal } of ending) {
    writeFileSync(enough, '')
    await system.until('its end', async () => /^finish/m.test(readFileSync(journal, 'latin1')), 60)
  }
  await lab('start-node', 'n1')
  await system.until(
    'the second attempt',
    async () => {
      const { status, reason } = await system.run(number)
      if (isOutcome(status)) expect.fail(`the run has ended: ${reason}`)
      return (await containersOf(system, keyOf(number, 'again', 2), engine)).length === 1
    },
    180,
  )
  await system.until('it to begin', async () => (await system.log(number, 'again')).includes('\nbegun\n'), 120)
  await say(system, keyOf(number, 'again', 2), engine)
  const run = await system.ended(number, 300)

  const jobs = run.attempts.filter((one) => one.job !== undefined && one.step === undefined)
  const attemptsOf = (job: string) => jobs.filter((one) => one.job === job).map(({ outcome }) => outcome)
  expect(attemptsOf('passed')).toEqual(['succeeded'])
  expect(attemptsOf('failed')).toEqual(['failed'])
  expect(attemptsOf('killed')).toEqual(['errored'])
  expect(attemptsOf('again')).toEqual(['errored', 'succeeded'])
  for (const lost of jobs.filter((one) => one.outcome === 'errored')) {
    expect(lost.reason).toMatch(/Docker on this node went away without warning, and ended the container/)
  }
  expect(jobs.find((one) => one.job === 'failed')?.reason).toContain('exit code 4')
  await nothingLeft(system, engine)
}, 900_000)
