import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MockActivityEnvironment } from '@temporalio/testing'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ControlContext } from '../../activities/control/context.ts'
import { createUnitCare } from '../../activities/control/units.ts'
import { LABELS } from '../../src/core/ids.ts'
import type { CareStep } from '../../src/core/run-contract.ts'
import { BASE_IMAGES } from '../../src/embedded/images.ts'
import { createErrands } from '../../src/engine/index.ts'
import type { Errand, Errands } from '../../src/engine/types.ts'
import { createTextMasker } from '../../src/logs/masker.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { Store } from '../../src/store/types.ts'
import { docker, startInstallation } from '../helpers/docker.ts'
import { canStartLab, type Lab, startLab } from '../helpers/lab.ts'
import { pool } from '../store/pools.ts'

const ADA = { person: 'ada', channel: 'cli' }
const NEVER = new AbortController().signal

async function until(what: string, ms: number, is: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + ms
  while (!(await is())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${ms} ms`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

describe('a unit whose reset does not want to end', () => {
  let dir: string
  let store: Store
  let instance: string
  let errands: Errands
  let careForUnit: () => Promise<CareStep>
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'penstock-care-'))
    store = await openStore({ url: `sqlite:${join(dir, 'penstock.db')}` })
    const made = await startInstallation()
    instance = made.instance
    errands = createErrands({ docker, instance, resolveImage: made.cluster.resolveImage, mask: createTextMasker })
    const log = pino({ level: 'silent' })
    const context = { config: { pools: [] }, store, errands, log } as unknown as ControlContext
    const { careForUnit: care } = createUnitCare(context)
    careForUnit = () => new MockActivityEnvironment().run(care, { pool: 'rig', unit: 'r1' })
  }, 240_000)
  afterAll(async () => {
    for (const id of await errands.owned()) await errands.remove(id)
    await store.close()
    await rm(dir, { recursive: true })
  }, 60_000)

  async function containers(): Promise<number> {
    return (await docker.listContainers({ filters: { label: [`${LABELS.instance}=${instance}`] } })).length
  }

  async function beginReset(): Promise<CareStep> {
    await store.units.configure([
      pool(
        'rig',
        { r1: {} },
        {
          reset: {
            ...{ kind: 'container', image: BASE_IMAGES.base, constraints: [], timeoutMs: 600_000 },
            run: ['trap "" TERM; while :; do sleep 1; done'],
          },
        },
      ),
    ])
    await store.leases.acquire({
      ...{ holder: 'one/a', run: '', workflowId: '', party: 'acme/web', priority: 0, ttlMs: 600_000 },
      requests: [{ pool: 'rig', count: 1, labels: [] }],
    })
    await store.leases.release(['one/a'], { isGone: true })
    return careForUnit()
  }

  const phase = async () => (await store.leases.list()).units[0]?.phase

  it('is free when a person clears it, after the container of the reset has ended', async () => {
    const reset = beginReset()
    await until('the reset at work', 60_000, async () => (await containers()) === 1)

    await store.units.clear(ADA, 'rig', 'r1', 'it works by hand')
    const after = await phase()
    // Another worker goes on with it, as after a SIGKILL of the first.
    const cleared = await careForUnit()
    const left = await containers()

    expect(after).toBe('clearing')
    expect(cleared.sentence).toBe('rig/r1: clearing succeeded')
    expect([await phase(), left, await errands.owned()]).toEqual(['ready', 0, []])
    expect((await reset).sentence).not.toContain('succeeded')
  }, 180_000)

  it('is left alone when it goes into maintenance', async () => {
    const reset = beginReset()
    await until('the reset at work', 60_000, async () => (await containers()) === 1)

    await store.units.setService(ADA, 'rig', 'r1', 'maintenance', 'a new cable')
    await reset

    expect([await containers(), await errands.owned()]).toEqual([0, []])
  }, 180_000)
})

describe.skipIf(!canStartLab())('an errand on a node that is lost', () => {
  let lab: Lab
  let errands: Errands
  beforeAll(async () => {
    lab = await startLab({ net: '198.18.87', args: ['2', '--heartbeat', '1s'] })
    errands = createErrands({
      docker: lab.docker('n1'),
      instance: 'care',
      resolveImage: async (image) => image,
      mask: createTextMasker,
    })
  }, 300_000)
  afterAll(async () => {
    await lab?.down()
  }, 120_000)

  it('is said to be out of reach, keeps what was made for it, and ends with the node', async () => {
    const one: Errand = {
      ...{ id: 'rig/r1/resetting/1', image: lab.registry.concat('/busybox:latest'), run: ['sleep 600'] },
      ...{ env: {}, secrets: [], constraints: ['node.hostname==n2'], timeoutMs: 600_000 },
    }
    const first = errands.run(one, NEVER)
    await until('its container', 60_000, async () => (await lab.docker('n2').listContainers()).length === 1)

    await lab.run('kill-node', 'n2')
    const lost = await first
    const removed = await errands.remove(one.id)
    const again = await errands.run(one, NEVER)
    const owned = await errands.owned()
    await lab.run('start-node', 'n2')
    const ended = await errands.run(one, NEVER)

    const away = { kind: 'unreachable', why: 'node n2, where its container may still run, cannot be reached' }
    expect([lost, removed, again]).toEqual([away, away, away])
    expect(owned).toEqual([one.id])
    // Its container has died with the node.
    expect(ended.kind).toBe('failed')
    expect(await errands.owned()).toEqual([])

    const second = errands.run({ ...one, id: 'rig/r1/resetting/2' }, NEVER)
    await until('its container', 60_000, async () => (await lab.docker('n2').listContainers()).length === 1)
    await lab.run('kill-node', 'n2')
    expect((await second).kind).toBe('unreachable')
    await lab.exec('n1', 'docker', 'node', 'rm', '--force', 'n2')
    expect(await errands.remove('rig/r1/resetting/2')).toBeUndefined()
    expect(await errands.owned()).toEqual([])
  }, 300_000)
})
