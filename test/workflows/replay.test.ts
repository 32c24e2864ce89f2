import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { DefaultLogger, Runtime, Worker, type WorkflowBundleWithSourceMap } from '@temporalio/worker'
import { DeterminismViolationError } from '@temporalio/workflow'
import { beforeAll, describe, expect, it } from 'vitest'
import { bundleWorkflows } from '../helpers/temporal.ts'
import { record } from './record.ts'

const { RECORD } = process.env
if (RECORD) await record(RECORD)

const FOLDER = new URL('histories/', import.meta.url)
const HISTORIES = readdirSync(FOLDER).filter((name) => name.endsWith('.json'))

let bundle: WorkflowBundleWithSourceMap
beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR', () => {}) })
  bundle = await bundleWorkflows()
}, 240_000)

function replay(name: string, workflowBundle: WorkflowBundleWithSourceMap): Promise<void> {
  const history: unknown = JSON.parse(readFileSync(new URL(name, FOLDER), 'utf8'))
  return Worker.runReplayHistory({ workflowBundle }, history)
}

describe('workflows that began under an earlier release', () => {
  it('are recorded in every way a run can wait and end', () => {
    const ways = HISTORIES.map((name) => name.replace(/^[^-]*-|\.json$/g, ''))

    expect(ways).toEqual(
      expect.arrayContaining([
        'waiting-at-gate',
        'retried-waiting-at-gate',
        'promoted',
        'failed',
        'canceled-at-gate',
        'canceled-in-jobs',
        'job',
        'job-failed',
        'job-canceled',
        'voted-while-promoted',
        'waiting-for-testers',
        'session-waiting',
        'session',
        'unit-waiting',
        'unit',
      ]),
    )
  })

  it.each(HISTORIES)(
    'go on under the workflows of today: %s',
    async (name) => {
      await expect(replay(name, bundle)).resolves.toBeUndefined()
    },
    60_000,
  )

  it('would be seen to diverge, if a change were not patched', async () => {
    const diverging = await bundleWorkflows([], fileURLToPath(new URL('diverging.ts', import.meta.url)))
    const waiting = HISTORIES.find((name) => name.endsWith('-waiting-at-gate.json')) ?? ''

    await expect(replay(waiting, diverging)).rejects.toThrow(DeterminismViolationError)
  }, 120_000)
})
