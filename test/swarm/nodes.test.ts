import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type Docker from 'dockerode'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { controlVolume, type JobKey, runNetwork, workspaceVolume } from '../../src/core/ids.ts'
import { connectDocker } from '../../src/engine/docker.ts'
import { createCluster } from '../../src/engine/swarm/cluster.ts'
import { createNodeEngine } from '../../src/engine/swarm/node.ts'
import { type Cluster, EngineRefused, type NodeEngine } from '../../src/engine/types.ts'
import { begin, containerEnd, finished, until, wholeLog } from '../engine/contract.ts'
import { aJob, aKey, aStep, silent } from '../helpers/docker.ts'
import { BUSYBOX } from '../helpers/images.ts'

const run = promisify(execFile)
const LAB = fileURLToPath(new URL('../swarm-lab/swarm-lab', import.meta.url))
const INSTANCE = 'lab'

let env: NodeJS.ProcessEnv
let folder: string
let image: string
let cluster: Cluster
let node: NodeEngine
let engineOfNode: Docker
let nodeId: string
const used: JobKey[] = []

const lab = (...args: string[]) => run(LAB, args, { env })
const socketOf = (name: string) => connectDocker({ DOCKER_HOST: `unix://${folder}/nodes/${name}/docker.sock` })

beforeAll(async () => {
  // The path of a unix socket has at most 108 bytes.
  folder = await mkdtemp(join(tmpdir(), 'lab-'))
  env = { ...process.env, SWARM_LAB_DIR: folder, SWARM_LAB_NET: '198.18.93' }
  await lab('up', '2', '--heartbeat', '1s')
  image = '198.18.93.1:5000/busybox:latest'
  cluster = createCluster({ docker: socketOf('n1'), instance: INSTANCE, log: silent })
  engineOfNode = socketOf('n2')
  node = createNodeEngine({ docker: engineOfNode, instance: INSTANCE, log: silent, helper: { busybox: BUSYBOX } })
  await node.prepareNode()
  nodeId = (await node.nodeId()).id
  await cluster.setWorkerAlive(nodeId, true)
})
afterEach(async () => {
  for (const key of used.splice(0)) {
    await cluster.removeJob(key)
    await node.removeVolumes(key)
    await cluster.removeRun(key.run)
  }
})
afterAll(async () => {
  await lab('down')
  await rm(folder, { recursive: true, force: true })
})

function newKey(): JobKey {
  const key = aKey()
  used.push(key)
  return key
}

test('a job runs on the node whose worker is alive, with its image by digest, and leaves nothing there', async () => {
  const key = newKey()
  const engine = { cluster, node, another: () => node, image, close: async () => {} }

  await begin(engine, key, aJob(image, [aStep('hostname')], { constraints: ['node.hostname==n2'] }))
  await until(node, key, 0, finished)

  expect(await cluster.resolveImage(image)).toMatch(/^198\.18\.93\.1:5000\/busybox@sha256:[0-9a-f]{64}$/)
  expect(String(await wholeLog(node, key, 0, 0))).toMatch(/^\$ hostname\n[0-9a-f]{12}\n$/)
  await expect
    .poll(() => cluster.placement(key, 0))
    .toMatchObject({ kind: 'ended', node: nodeId, hostname: 'n2', exitCode: 0 })
  await cluster.removeJob(key)
  await node.removeVolumes(key)
  await cluster.removeNetwork(key.run)
  const names = (await engineOfNode.listVolumes()).Volumes.map(({ Name }) => Name)
  expect(names).not.toContain(workspaceVolume(INSTANCE, key))
  expect(names).not.toContain(controlVolume(INSTANCE, key, 0))
  await expect
    .poll(async () => (await engineOfNode.listNetworks()).map(({ Name }) => Name), { timeout: 10_000 })
    .not.toContain(runNetwork(INSTANCE, key.run))
})

test('an image that no registry has is refused with its name and the reason', async () => {
  const missing = cluster.resolveImage('198.18.93.1:5000/nothing:1')

  await expect(missing).rejects.toThrow(EngineRefused)
  await expect(missing).rejects.toThrow(/198\.18\.93\.1:5000\/nothing:1 .*(unknown|not found)/)
})

test('a step that a returning Docker killed is lost; one that ended meanwhile counts as it ended', async () => {
  const [killed, done] = [newKey(), newKey()]
  const engine = { cluster, node, another: () => node, image, close: async () => {} }
  await begin(engine, killed, aJob(image, [aStep('sleep 600')]))
  await begin(engine, done, aJob(image, [aStep(['until [ -e go ]; do usleep 50000; done', 'exit 4'])]))
  await until(node, killed, 0, (state) => state.steps[0]?.started === true)
  await until(node, done, 0, (state) => state.steps[0]?.started === true)
  const { workspace } = await node.prepareVolumes(done, 0)

  await lab('crash-dockerd', 'n2')
  await run('touch', [`${workspace}/go`])
  await until(node, done, 0, finished)
  await lab('start-node', 'n2')

  expect(await containerEnd(node, killed)).toEqual({ kind: 'lost', reason: expect.stringContaining('came back at') })
  expect(await containerEnd(node, done)).toEqual({ kind: 'exited', code: 4, memoryKill: false })
}, 90_000)

test('a job on a node that died is lost there', async () => {
  const key = newKey()
  const engine = { cluster, node, another: () => node, image, close: async () => {} }
  await begin(engine, key, aJob(image, [aStep('sleep 600')]))

  await lab('kill-node', 'n2')

  await expect
    .poll(() => cluster.placement(key, 0), { timeout: 30_000 })
    .toEqual({ kind: 'lost', node: nodeId, reason: 'node n2 is down' })
  await lab('start-node', 'n2')
  await expect
    .poll(
      () =>
        node.nodeId().then(
          ({ id }) => id,
          () => 'not yet',
        ),
      { timeout: 30_000 },
    )
    .toBe(nodeId)
}, 90_000)
