import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { LABELS } from '../../src/core/ids.ts'
import { BASE_IMAGES } from '../../src/embedded/images.ts'
import { createErrands } from '../../src/engine/index.ts'
import { EngineRefused, type Errand, type Errands } from '../../src/engine/types.ts'
import { createTextMasker } from '../../src/logs/masker.ts'
import { docker, startInstallation } from '../helpers/docker.ts'

const NEVER = new AbortController().signal
const KEY = '-----BEGIN KEY-----\nfirst-line-of-it\nsecond-line-of-it\n-----END KEY-----'

let instance: string
let errands: Errands
beforeAll(async () => {
  const made = await startInstallation()
  instance = made.instance
  errands = createErrands({ docker, instance, resolveImage: made.cluster.resolveImage, mask: createTextMasker })
}, 240_000)
afterAll(async () => {
  for (const id of await errands.owned()) await errands.remove(id)
})

const errand = (run: string, over: Partial<Errand> = {}): Errand => ({
  ...{
    id: randomUUID(),
    image: BASE_IMAGES.base,
    run: [run],
    env: {},
    secrets: [],
    constraints: [],
    timeoutMs: 60_000,
  },
  ...over,
})

async function containers(): Promise<number> {
  return (await docker.listContainers({ filters: { label: [`${LABELS.instance}=${instance}`] } })).length
}

it('is done once, however often it is asked for, and leaves nothing', async () => {
  const one = errand('test "$WHO" = ada && test "$(cat $KEY_FILE | wc -l)" = 3 && sleep 2', {
    env: { WHO: 'ada' },
    secrets: [{ name: 'KEY', value: KEY }],
  })

  const both = await Promise.allSettled([errands.run(one, NEVER), errands.run(one, NEVER)])

  // Whoever is second may find nothing more to see.
  const ends = both.map((how) => (how.status === 'fulfilled' ? how.value.kind : String(how.reason)))
  expect(ends).toContain('done')
  for (const end of ends) expect(end).toMatch(/^done$|was seen by somebody else/)
  expect(await errands.owned()).toEqual([])
}, 90_000)

it('says how it failed, with what it wrote last, and no line of a secret', async () => {
  const failed = await errands.run(
    errand('echo before; cat $KEY_FILE; echo; echo the fuse is blown; exit 7', {
      secrets: [{ name: 'KEY', value: KEY }],
    }),
    NEVER,
  )

  expect(failed).toMatchObject({ kind: 'failed', why: expect.stringContaining('exit code 7') })
  const why = failed.kind === 'failed' ? failed.why : ''
  expect(why).toContain('the fuse is blown')
  expect(why).not.toContain('second-line-of-it')
}, 90_000)

it('whose image no registry gives has failed, and says so', async () => {
  // Port 9 of this machine: nobody listens there.
  const asked = errands.run(errand('true', { image: '127.0.0.1:9/none:1' }), NEVER)

  await expect(asked).rejects.toThrow(/^its image 127\.0\.0\.1:9\/none:1 cannot be had: .*refused/)
  await expect(asked).rejects.toBeInstanceOf(EngineRefused)
  expect(await errands.owned()).toEqual([])
}, 90_000)

it('that takes too long has ended when that is said, also where it does not want to', async () => {
  const failed = await errands.run(errand('trap "" TERM; while :; do sleep 1; done', { timeoutMs: 3_000 }), NEVER)

  expect(failed).toMatchObject({ kind: 'failed', why: expect.stringContaining('after 3 s') })
  expect(await containers()).toBe(0)
  expect(await errands.owned()).toEqual([])
}, 120_000)

it('that is left by a worker that shuts down is gone on with by the next', async () => {
  const one = errand('sleep 4')
  const shutdown = new AbortController()
  const first = errands.run(one, shutdown.signal)
  setTimeout(() => shutdown.abort(new Error('shutdown')), 2_000)
  await expect(first).rejects.toThrow('shutdown')
  const owned = await errands.owned()

  expect(owned).toEqual([one.id])
  expect(await errands.run(one, NEVER)).toEqual({ kind: 'done' })
}, 90_000)
