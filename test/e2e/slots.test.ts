import { afterAll, beforeAll, expect, it } from 'vitest'
import { isOutcome } from '../../src/core/outcome.ts'
import { BASE_IMAGES } from '../../src/embedded/images.ts'
import { nothingLeft } from '../helpers/survival.ts'
import { type System, startSystem } from '../helpers/system.ts'

/** More than the networks that Docker has room for on a node (about 30). */
const RUNS = 40
const SLOTS = 4

let system: System
beforeAll(async () => {
  system = await startSystem({ config: `jobs_per_node: ${SLOTS}\nunplaceable: wait` })
}, 240_000)
afterAll(() => system?.dispose(), 60_000)

it('more jobs than there is room for wait for a slot, say so, and all come through, oldest first', async () => {
  const after = await system.commit({ '.penstock.yml': `image: ${BASE_IMAGES.base}\ntest: sleep 0.3\n` })
  const numbers: number[] = []
  for (let i = 0; i < RUNS; i++) {
    const answer = await system.deliver({ branch: `branch-${i}`, after })
    numbers.push(((await answer.json()) as { run: number }).run)
  }
  let said = ''
  const ended = await system.until(
    'every run to end',
    async () => {
      const { waiters } = await system.call<{ waiters: { sentence: string }[] }>('GET', '/pools')
      said ||= waiters.at(-1)?.sentence ?? ''
      const runs = await system.runs()
      return runs.every((run) => isOutcome(run.status)) && runs
    },
    150,
  )

  expect(ended.map((run) => run.status)).toEqual(numbers.map(() => 'succeeded'))
  expect(said).toContain(`all ${SLOTS} job slots are taken`)
  const jobs = await Promise.all(numbers.map(timesOfJob))
  expect(Math.max(...jobs.map((job) => jobs.filter((one) => one.from <= job.from && job.from < one.to).length))).toBe(
    SLOTS,
  )
  const latest = Math.max(...jobs.slice(0, 10).map((job) => job.from))
  expect(jobs.slice(-10).every((job) => job.from > latest)).toBe(true)
  await nothingLeft(system)
}, 300_000)

it('jobs that no node takes now keep no slot from those that could run', async () => {
  const text = `image: ${BASE_IMAGES.base}\ntest:\n  pinned: { constraints: [node.labels.nowhere==1], run: "true" }\n`
  const stuck: number[] = []
  for (let i = 0; i < SLOTS; i++) stuck.push(await system.push({ '.penstock.yml': text }, `stuck-${i}`))
  for (const number of stuck) {
    await system.until('Swarm to say why it waits', async () =>
      (await system.events(number)).some(
        ({ event }) => event.type === 'job.waiting.v1' && event.waitingFor.sentence.includes('no suitable node'),
      ),
    )
  }

  const number = await system.push({ '.penstock.yml': `image: ${BASE_IMAGES.base}\ntest: "true"\n` }, 'fine')
  const run = await system.ended(number)

  expect(run.status).toBe('succeeded')
  for (const one of stuck) await system.call('POST', `/runs/${one}/cancel`, { body: { reason: 'enough' } })
  for (const one of stuck) expect((await system.ended(one)).status).toBe('canceled')
}, 180_000)

async function timesOfJob(number: number): Promise<{ readonly from: number; readonly to: number }> {
  const events = await system.events(number)
  const at = (type: string) => events.find(({ event }) => event.type === type)?.at ?? Number.NaN
  return { from: at('job.started.v1'), to: at('job.finished.v1') }
}
