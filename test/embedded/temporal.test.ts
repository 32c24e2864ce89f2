import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Connection } from '@temporalio/client'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Embedded, startEmbedded } from '../../src/embedded/embedded.ts'
import { ensureTemporal, NAMESPACE, SEARCH_ATTRIBUTES } from '../../src/embedded/temporal.ts'

let dataDir = ''
let embedded: Embedded | undefined
const say = () => {}

beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), 'penstock-temporal-'))
})

afterEach(async () => {
  await embedded?.stop()
  embedded = undefined
  rmSync(dataDir, { recursive: true, force: true })
})

/** The CLI that `npm test` installed, so that not every test fetches 45 MB. */
function withCli(): NodeJS.ProcessEnv {
  const folders = [path.resolve('.penstock/temporal/bin'), '/tmp/tbin/bin']
  return { ...process.env, TEMPORAL_ADDRESS: '', PATH: [...folders, process.env.PATH].join(path.delimiter) }
}

async function namespaceOf(address: string) {
  const connection = await Connection.connect({ address })
  try {
    const { config } = await connection.workflowService.describeNamespace({ namespace: NAMESPACE })
    const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace: NAMESPACE })
    return {
      retention: Number(config?.workflowExecutionRetentionTtl?.seconds),
      attributes: Object.keys(customAttributes ?? {}),
    }
  } finally {
    await connection.close()
  }
}

describe('the embedded Temporal', { timeout: 60_000 }, () => {
  it('knows our search attributes and keeps history for thirty days, on the same ports after a restart', async () => {
    const options = { dataDir, env: withCli(), say, only: ['temporal'] } as const
    embedded = await startEmbedded(options)
    const first = embedded.addresses
    await embedded.stop()

    embedded = await startEmbedded(options)

    expect(embedded.addresses).toEqual(first)
    const { retention, attributes } = await namespaceOf(embedded.addresses.temporal)
    expect(retention).toBe(30 * 24 * 3600)
    expect(attributes).toEqual(expect.arrayContaining([...SEARCH_ATTRIBUTES]))
  })

  it('comes back on its database file after a SIGKILL', async () => {
    embedded = await startEmbedded({ dataDir, env: withCli(), say, only: ['temporal'] })
    const { supervisor, addresses } = embedded
    const before = supervisor.running()[0]?.pid ?? 0

    process.kill(before, 'SIGKILL')

    await expect
      .poll(
        () =>
          namespaceOf(addresses.temporal).then(
            ({ retention }) => retention,
            () => 0,
          ),
        { timeout: 20_000 },
      )
      .toBe(30 * 24 * 3600)
    expect(supervisor.running()[0]?.pid).not.toBe(before)
  })
})

describe('where the Temporal CLI comes from', () => {
  it('asks for no CLI when TEMPORAL_ADDRESS names a server', async () => {
    const found = await ensureTemporal({ dataDir, env: { TEMPORAL_ADDRESS: 'temporal.example:7233' }, say })

    expect(found).toEqual({ kind: 'address', address: 'temporal.example:7233' })
  })
})
