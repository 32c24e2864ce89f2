import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { BundleDiverges, checkBundle } from '../../worker/check-bundle.ts'
import { bundleWorkflows } from '../helpers/temporal.ts'
import { GATE, type Stand, startStand } from '../helpers/workflows.ts'

const silent = { info: () => {}, warn: () => {}, error: () => {} } as unknown as Parameters<
  typeof checkBundle
>[0]['log']

let stand: Stand
let dir: string
beforeAll(async () => {
  stand = await startStand()
  dir = await mkdtemp(join(tmpdir(), 'penstock-bundle-'))
}, 240_000)
afterAll(async () => {
  await stand?.stop()
  await rm(dir, { recursive: true, force: true })
})

it('a release whose workflows diverge from an open run is refused, naming it; one that agrees is asked once', async () => {
  const run = stand.play([GATE])
  const { handle } = await stand.start(run)
  while (run.asked('openGate').length === 0) await setTimeout(50)
  const bundles = { agreeing: join(dir, 'agreeing.js'), diverging: join(dir, 'diverging.js') }
  await writeFile(bundles.agreeing, stand.bundle.code)
  const other = await bundleWorkflows([], fileURLToPath(new URL('diverging.ts', import.meta.url)))
  await writeFile(bundles.diverging, other.code)
  const settings = { dataDir: dir, client: stand.client, open: [run.id], log: silent }
  const check = (bundle: string) => checkBundle({ ...settings, bundle })

  await expect(check(bundles.diverging)).rejects.toThrow(BundleDiverges)
  await expect(check(bundles.diverging)).rejects.toThrow(run.id)
  await check(bundles.agreeing)
  const accepted = await readFile(join(dir, 'accepted-bundle'), 'utf8')
  // Nobody is asked again: a client that knows no run would be noticed.
  await checkBundle({ ...settings, bundle: bundles.agreeing, client: {} as never })
  await expect(check(bundles.diverging)).rejects.toThrow(BundleDiverges)

  expect(await readFile(join(dir, 'accepted-bundle'), 'utf8')).toBe(accepted)
  // What Temporal has lost is the reconciler's.
  await checkBundle({ ...settings, bundle: bundles.diverging, open: ['acme/web#999'] })
  await handle.terminate()
}, 120_000)
