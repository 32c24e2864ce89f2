import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type Docker from 'dockerode'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { findProgram } from '../../src/embedded/debian.ts'
import { answers, ensureDocker, ensureSwarm, ownDaemon, swarmState } from '../../src/embedded/docker.ts'
import { takeDown } from '../../src/embedded/down.ts'
import { instanceOf } from '../../src/embedded/files.ts'
import { BASE_IMAGES, ensureBaseImages } from '../../src/embedded/images.ts'
import { keepDocker } from '../../src/embedded/keep-docker.ts'
import { isAlive } from '../../src/embedded/process.ts'
import { WORKER_ALIVE, workerLabel } from '../../src/engine/swarm/service-spec.ts'

const canStart =
  process.platform === 'linux' &&
  process.getuid?.() === 0 &&
  findProgram('dockerd', process.env.PATH ?? '') !== undefined

/** A second engine beside the machine's own, so that killing it disturbs nobody. */
describe.skipIf(!canStart)('an engine of our own (needs root and dockerd)', { timeout: 120_000 }, () => {
  const root = mkdtempSync(path.join(tmpdir(), 'pst-engine-'))
  const dataDir = path.join(root, 'data')
  const runDir = path.join(root, 'run')
  const socket = path.join(root, 'docker.sock')
  const said: string[] = []
  const say = (sentence: string) => {
    said.push(sentence)
  }
  const options = {
    dataDir,
    say,
    env: process.env,
    socket,
    runDir,
    // Two Swarms on one machine need a network each.
    daemonProgram: ['unshare', '--net', 'sh', '-c', 'ip link set lo up && exec dockerd "$@"', 'dockerd'] as const,
    daemonArgs: [
      ...['--data-root', path.join(root, 'lib'), '--exec-root', path.join(runDir, 'docker')],
      ...['--pidfile', path.join(runDir, 'docker.pid'), '--bridge', 'none', '--iptables=false'],
    ],
  }
  const down = () =>
    takeDown({
      dataDir,
      say,
      env: { ...process.env, DOCKER_HOST: undefined, PENSTOCK_INSTANCE: undefined },
      socket,
      runDir,
    })
  let docker: Docker

  beforeAll(async () => {
    docker = (await ensureDocker(options)).docker
  }, 120_000)

  afterAll(async () => {
    await down()
    // What a dockerd leaves mounted would keep its directories from being removed.
    for (const mount of execFileSync('cut', ['-d', ' ', '-f', '2', '/proc/mounts'], { encoding: 'utf8' }).split('\n')) {
      if (mount.startsWith(`${root}/`)) execFileSync('umount', ['--lazy', mount])
    }
    rmSync(root, { recursive: true, force: true })
  }, 120_000)

  it('is started where none answers, and adopted where one does', async () => {
    const again = await ensureDocker(options)

    expect(again.started).toBe(false)
    expect(await ownDaemon(dataDir, runDir)).toBeDefined()
  })

  it('comes up again after a SIGKILL that left its containerd running', async () => {
    const before = await ownDaemon(dataDir, runDir)
    if (before === undefined) throw new Error('the daemon was not recorded')
    process.kill(before.pid, 'SIGKILL')
    await expect.poll(() => isAlive(before), { timeout: 5_000 }).toBe(false)

    const again = await ensureDocker(options)

    expect(again.started).toBe(true)
    expect((await docker.version()).Version).toBeTruthy()
    expect((await ownDaemon(dataDir, runDir))?.pid).not.toBe(before.pid)
  })

  it('is kept: started again when it was killed, and left alone after that', async () => {
    const before = await ownDaemon(dataDir, runDir)
    if (before === undefined) throw new Error('the daemon was not recorded')
    const keeper = keepDocker(options)
    process.kill(before.pid, 'SIGKILL')

    await expect
      .poll(async () => (await answers(docker)).ok && (await ownDaemon(dataDir, runDir)), { timeout: 60_000 })
      .toBeTruthy()
    const after = await ownDaemon(dataDir, runDir)
    await keeper.stop()
    process.kill(after?.pid ?? 0, 'SIGKILL')
    await expect.poll(async () => (await answers(docker)).ok, { timeout: 5_000 }).toBe(false)
    await new Promise((resolve) => setTimeout(resolve, 3_000))
    const { ok } = await answers(docker)
    await ensureDocker(options)

    expect(after?.pid).not.toBe(before.pid)
    expect(ok).toBe(false)
  })

  it('gets a Swarm of its own, once, known as ours by its label', async () => {
    await ensureSwarm(docker, { dataDir, say })
    await ensureSwarm(docker, { dataDir, say })

    expect(await swarmState(docker, instanceOf(dataDir))).toBe('ours')
    expect(await swarmState(docker, 'somebody-else')).toBe('others')
  })

  it('stays, with its Swarm, while an idle installation of somebody else has a worker in it', async () => {
    const daemon = await ownDaemon(dataDir, runDir)
    const [node] = await docker.listNodes()
    if (daemon === undefined || node === undefined) throw new Error('the engine is not there')
    const label = async (labels: Record<string, string>) => {
      const { Version, Spec } = (await docker.getNode(node.ID).inspect()) as {
        Version: { Index: number }
        Spec: { Labels: Record<string, string> }
      }
      await docker.getNode(node.ID).update({ ...Spec, Labels: labels, version: Version.Index })
      return Spec.Labels
    }
    const before = await label({ [workerLabel('somebody-else')]: WORKER_ALIVE })

    await down()

    expect(await isAlive(daemon)).toBe(true)
    expect(await docker.listNodes()).toHaveLength(1)
    expect(said).toContain('the Swarm stays, because another installation of Penstock has a worker in it')

    await label(before)
  })

  it('gets base images in which a shell and Python with its library run', async () => {
    await ensureBaseImages(docker, { env: process.env, say })

    expect(await output(docker, BASE_IMAGES.base, ['sh', '-c', 'echo six times seven is $((6 * 7))'])).toBe(
      'six times seven is 42',
    )
    const program = 'import http.server, json, ssl, unittest, zipfile; print("it is", json.dumps([1]))'
    expect(await output(docker, BASE_IMAGES.python, ['python3', '-c', program], '65534:65534')).toBe('it is [1]')
  })

  it('is cleared of what is ours, and of nothing else, and then stopped if nobody else uses it', async () => {
    const labels = { 'penstock.instance': instanceOf(dataDir) }
    await docker.createVolume({ Name: 'ours', Labels: labels })
    await docker.createVolume({ Name: 'others', Labels: { 'penstock.instance': 'somebody-else' } })
    await docker.createSecret({ Name: 'ours', Labels: labels, Data: 'c2VjcmV0' })
    await docker.createService({
      Name: 'ours',
      Labels: labels,
      TaskTemplate: {
        ContainerSpec: {
          Image: BASE_IMAGES.base,
          Labels: labels,
          Command: ['sleep', '600'],
          Mounts: [{ Type: 'volume', Source: 'ours', Target: '/v' }],
        },
        RestartPolicy: { Condition: 'none' },
      },
    })
    const guest = await docker.createContainer({
      Image: BASE_IMAGES.base,
      Cmd: ['sleep', '600'],
      HostConfig: { NetworkMode: 'none' },
    })
    await expect.poll(async () => (await docker.listContainers()).length, { timeout: 20_000 }).toBe(1)
    const daemon = await ownDaemon(dataDir, runDir)
    if (daemon === undefined) throw new Error('the daemon was not recorded')

    await down()

    expect(await docker.listContainers({ all: true })).toHaveLength(1)
    expect((await docker.listVolumes()).Volumes.map(({ Name }) => Name)).toEqual(['others'])
    expect(await swarmState(docker, instanceOf(dataDir))).toBe('none')
    expect(existsSync(dataDir)).toBe(false)
    expect(await isAlive(daemon)).toBe(true)

    expect(said).not.toContain(`removed image ${BASE_IMAGES.python}`)

    await guest.remove({ force: true })
    await docker.getVolume('others').remove()
    await down()

    expect(await isAlive(daemon)).toBe(false)
    expect(said).toContain(`removed image ${BASE_IMAGES.python}`)
    expect(said).toContain(`stopped dockerd (process ${daemon.pid})`)
  })

  it('is left alone when down is called again', async () => {
    await expect(down()).resolves.toBeUndefined()
    expect(existsSync(dataDir)).toBe(false)
  })
})

async function output(docker: Docker, image: string, command: readonly string[], user = '0:0'): Promise<string> {
  const container = await docker.createContainer({
    Image: image,
    Cmd: [...command],
    User: user,
    Tty: true,
    HostConfig: { NetworkMode: 'none' },
  })
  try {
    await container.start()
    await container.wait()
    const logs = await container.logs({ stdout: true, stderr: true })
    return logs.toString().trim()
  } finally {
    await container.remove({ force: true })
  }
}
