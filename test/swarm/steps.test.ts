import { execFile } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { controlVolume, type JobKey, runNetwork, segmentService } from '../../src/core/ids.ts'
import type { Job } from '../../src/core/plan.ts'
import type { SegmentState } from '../../src/engine/types.ts'
import { begin, containerEnd, type EngineUnderTest, finished, sha256, until, wholeLog } from '../engine/contract.ts'
import {
  aJob,
  aKey,
  aStep,
  docker,
  endInstallation,
  type Installation,
  leftovers,
  startInstallation,
} from '../helpers/docker.ts'
import { APPLETS, importImage } from '../helpers/images.ts'

const shell = promisify(execFile)

let installation: Installation
let engine: EngineUnderTest
let image: string
const used: JobKey[] = []
/** Undone after each test, also when it failed. */
const undo: (() => Promise<unknown>)[] = []

beforeAll(async () => {
  image = await importImage('pst-test-plain', { applets: APPLETS })
  installation = await startInstallation()
  engine = { ...installation, another: () => installation.node, image, close: async () => {} }
})
afterEach(async () => {
  for (const key of used.splice(0)) {
    await engine.cluster.removeJob(key)
    for (const again of undo.splice(0)) await again()
    await engine.node.removeVolumes(key)
    await engine.cluster.removeRun(key.run)
  }
})
afterAll(async () => {
  await endInstallation(installation)
  expect(await leftovers(installation.instance)).toEqual([])
})

function newKey(): JobKey {
  const key = aKey()
  used.push(key)
  return key
}

async function runJob(job: Job, key = newKey()): Promise<{ key: JobKey; state: SegmentState; logs: Buffer[] }> {
  await begin(engine, key, job)
  const state = await until(engine.node, key, 0, finished)
  const logs = await Promise.all(state.steps.map(({ index }) => wholeLog(engine.node, key, 0, index)))
  return { key, state, logs }
}

async function controlFolder(key: JobKey): Promise<string> {
  return (await docker.getVolume(controlVolume(installation.instance, key, 0)).inspect()).Mountpoint
}

async function inspectContainer(key: JobKey) {
  const service = segmentService(installation.instance, key, 0)
  const [found] = await docker.listContainers({
    all: true,
    filters: { label: [`com.docker.swarm.service.name=${service}`] },
  })
  return docker.getContainer(found?.Id ?? '').inspect()
}

test('200,000 lines come whole and in order, and match their record', async () => {
  const lines = 200_000
  const { state, logs } = await runJob(
    aJob(image, [aStep(`seq -f "%080.0f" 1 ${lines} 2>/dev/null || seq -w 1 ${lines}`)]),
  )

  const [log] = logs
  const text = String(log).split('\n').slice(1, -1)
  expect(text.length).toBe(lines)
  expect(text.every((line, index) => Number(line) === index + 1)).toBe(true)
  expect(state.steps[0]?.end).toMatchObject({
    exitCode: 0,
    fileBytes: log?.length,
    pipeBytes: log?.length,
    sha256: sha256(log ?? Buffer.alloc(0)),
  })
})

test('what a step writes to /dev/stderr and /dev/stdout by name does not cut its log, whoever it is', async () => {
  const { logs } = await runJob(
    aJob(image, [
      aStep([
        'seq 3',
        'echo x > /dev/stderr',
        "su postgres -c 'echo y > /dev/stderr; echo z > /dev/stdout'",
        'echo end',
      ]),
    ]),
  )

  const text = String(logs[0])
  expect(text).toContain('1\n2\n3\n')
  expect(text).toContain('\nx\n')
  expect(text).toContain('\ny\nz\n')
  expect(text.endsWith('end\n')).toBe(true)
})

test('commands are shown before they run; values with quotes, newlines and signs arrive as they are', async () => {
  const value = `it's "$HOME" \`id\` \\ *\n two\tlines ü `
  const { logs } = await runJob(
    aJob(image, [aStep(['printf %s "$VALUE"', 'if true\nthen echo; echo yes\nfi'], { env: { VALUE: value } })], {
      env: { VALUE: 'of the job' },
    }),
  )

  expect(String(logs[0])).toBe(`$ printf %s "$VALUE"\n${value}$ if true\n> then echo; echo yes\n> fi\n\nyes\n`)
})

test('a step that ends every sleep there is does not run into its time limit', async () => {
  const { logs, state } = await runJob(
    aJob(image, [aStep(['sleep 100 &', 'usleep 300000', 'killall sleep', 'usleep 700000', 'echo end'])]),
  )

  expect(String(logs[0])).toContain('\nend\n')
  expect(state.steps[0]?.end).toMatchObject({ exitCode: 0, timedOut: false })
})

test('a step reads nothing from its standard input, and does not wait for it', async () => {
  const { logs, state } = await runJob(aJob(image, [aStep(['cat', 'echo end'])]))

  expect(String(logs[0])).toBe('$ cat\n$ echo end\nend\n')
  expect(state.steps[0]?.end?.exitCode).toBe(0)
})

test("a secret is a file and, where asked for, a variable; it is nowhere in the service or the step's script", async () => {
  const key = newKey()
  const value = "s3cret'value\n\n"
  const job = aJob(
    image,
    [
      aStep([
        'printf %s "$TOKEN" | sha256sum',
        'sha256sum < "$TOKEN_FILE"',
        'sha256sum < "$OTHER_FILE"',
        'test -z "$OTHER"',
      ]),
    ],
    {
      secrets: [
        { name: 'OTHER', env: false },
        { name: 'TOKEN', env: true },
      ],
    },
  )
  await engine.cluster.ensureSecrets(key, [
    { name: 'TOKEN', value },
    { name: 'OTHER', value: 'other' },
  ])

  const { logs } = await runJob(job, key)

  const [first, second, third] = String(logs[0])
    .split('\n')
    .filter((line) => line.endsWith('  -'))
  expect([first, second]).toEqual([`${sha256(Buffer.from(value))}  -`, `${sha256(Buffer.from(value))}  -`])
  expect(third).toBe(`${sha256(Buffer.from('other'))}  -`)
  const service = JSON.stringify(await docker.getService(segmentService(installation.instance, key, 0)).inspect())
  const { stdout } = await shell('grep', ['-rlF', "s3cret'value", await controlFolder(key)]).catch(
    (error: { stdout: string }) => error,
  )
  expect(service).not.toContain('s3cret')
  expect(stdout).toBe('')
})

test('a background process that keeps the output open neither holds up the job nor dies, and its later output is not kept', async () => {
  const { state, logs } = await runJob(
    aJob(image, [
      aStep([
        '(i=0; while [ $i -lt 400 ]; do echo late $i; i=$((i+1)); usleep 10000; done; echo survived > /workspace/survived) &',
        'seq 1000',
      ]),
      aStep('echo next'),
      aStep(
        'for i in $(seq 300); do test -e /workspace/survived && break; usleep 100000; done; cat /workspace/survived',
      ),
    ]),
  )

  expect(state.steps.map(({ end }) => end?.exitCode)).toEqual([0, 0, 0])
  const [first] = logs
  expect(String(first)).toContain('\n999\n1000\n')
  expect(state.steps[0]?.end).toMatchObject({ fileBytes: first?.length, sha256: sha256(first ?? Buffer.alloc(0)) })
  expect(String(first)).not.toContain('late 399')
  expect(String(logs[2])).toContain('\nsurvived\n')
})

test('a step without background processes leaves no process behind', async () => {
  const { logs } = await runJob(aJob(image, [aStep('seq 1000'), aStep('seq 1000'), aStep('sleep 1; ps -o args')]))

  const helpers = String(logs[2])
    .split('\n')
    .filter((line) => /\b(wc|dd|wrapper\.sh)\b/.test(line))
  // The wrapper, the logger of this step, and its copier.
  expect(helpers.filter((line) => line.includes(' wc'))).toEqual([])
  expect(helpers.filter((line) => line.includes(' dd'))).toHaveLength(1)
})

test('a full disk keeps the exit code, and the record says that output was lost', async () => {
  const key = newKey()
  await engine.node.prepareVolumes(key, 0)
  const folder = await controlFolder(key)
  await shell('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', folder])
  undo.push(() => shell('umount', ['-l', folder]))

  const { state, logs } = await runJob(aJob(image, [aStep(['seq 200000', 'exit 7'])]), key)

  const end = state.steps[0]?.end
  const log = logs[0] ?? Buffer.alloc(0)
  expect(end).toMatchObject({
    exitCode: 7,
    writeError: 'No space left on device',
    fileBytes: log.length,
    sha256: sha256(log),
  })
  expect(log.length).toBeGreaterThan(10_000)
  expect(end?.pipeBytes).toBeGreaterThan(log.length)
  expect(await containerEnd(engine.node, key)).toMatchObject({ kind: 'exited', code: 7 })
})

test('SIGTERM reaches the step, whose own clean-up is in its log', async () => {
  const key = newKey()
  await begin(engine, key, aJob(image, [aStep(['trap "echo cleaned; exit 9" TERM', 'echo ready', 'sleep 600 & wait'])]))
  await until(engine.node, key, 0, (state) => (state.steps[0]?.logBytes ?? 0) > 0)
  while (!/^ready$/m.test(String(await wholeLog(engine.node, key, 0, 0)))) await setTimeout(20)

  await engine.node.stop(key, 0, 10_000)

  const state = await engine.node.observe(key, 0)
  expect(state.steps[0]?.end?.exitCode).toBe(9)
  expect(String(await wholeLog(engine.node, key, 0, 0))).toMatch(/\ncleaned\n$/)
})

test('a step that ignores SIGTERM is killed when the grace is over', async () => {
  const { state } = await runJob(
    aJob(image, [aStep(['trap "" TERM', 'while true; do usleep 100000; done'], { timeoutSeconds: 1 })]),
  )

  expect(state.steps[0]?.end).toMatchObject({ exitCode: 137, timedOut: true })
})

test('a container that ignores SIGTERM is killed by a stop, and that is not called lost', async () => {
  const key = newKey()
  await begin(engine, key, aJob(image, [aStep(['trap "" TERM', 'while true; do usleep 100000; done'])]))
  await until(engine.node, key, 0, (state) => (state.steps[0]?.logBytes ?? 0) > 20)

  await engine.node.stop(key, 0, 1000)

  expect(await engine.node.ended(key, 0)).toEqual({ kind: 'exited', code: 137, memoryKill: false })
})

test('an image with a user of its own runs its steps as that user, and can write into the workspace', async () => {
  const nonRoot = await importImage('pst-test-user', { applets: APPLETS, changes: ['USER 1000'] })

  const { state, logs } = await runJob(
    aJob(nonRoot, [aStep(['id -u', 'mkdir made && echo x > /dev/stderr']), aStep('ls -d made')]),
  )

  expect(state.steps.map(({ end }) => end?.exitCode)).toEqual([0, 0])
  expect(logs.map(String)).toEqual(['$ id -u\n1000\n$ mkdir made && echo x > /dev/stderr\nx\n', '$ ls -d made\nmade\n'])
})

test("an image without a shell runs its steps with the helper's", async () => {
  const bare = await importImage('pst-test-bare', { applets: [] })

  const { state, logs } = await runJob(aJob(bare, [aStep(['echo bare', 'ls /bin'])]))

  expect(state.steps[0]?.end?.exitCode).toBe(0)
  expect(String(logs[0])).toBe('$ echo bare\nbare\n$ ls /bin\n')
})

test('a database-like image chowns its data and drops its privileges; apt-get-like, a child drops to a user of its own', async () => {
  const { state, logs } = await runJob(
    aJob(image, [
      aStep([
        'mkdir -p /var/lib/postgresql/data && chmod 700 /var/lib/postgresql/data && chown -R postgres:postgres /var/lib/postgresql',
        "su postgres -c 'id -u; touch /var/lib/postgresql/data/PG_VERSION; stat -c %u /var/lib/postgresql/data/PG_VERSION'",
      ]),
      aStep([
        'mkdir -p /var/cache/partial && chown _apt /var/cache/partial && chmod 700 /var/cache/partial',
        "su -s /bin/sh _apt -c 'id -u; echo x > /var/cache/partial/package'",
        'cat /var/cache/partial/package',
        'chown 0:0 /var/cache/partial/package && chmod 4755 /var/cache/partial/package',
      ]),
    ]),
  )

  expect(state.steps.map(({ end }) => end?.exitCode)).toEqual([0, 0])
  expect(String(logs[0])).toMatch(/\n70\n70\n$/)
  expect(String(logs[1])).toMatch(/\n100\n/)
})

test('the container has the documented limits, capabilities and mounts, and nothing else', async () => {
  const { key, logs } = await runJob(
    aJob(image, [aStep(['grep -E "^(CapBnd|CapEff|NoNewPrivs|Seccomp):" /proc/self/status'])]),
  )

  const { HostConfig, Mounts, Config } = await inspectContainer(key)
  expect(HostConfig).toMatchObject({
    Privileged: false,
    CapDrop: ['ALL'],
    CapAdd: ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER', 'CAP_FSETID', 'CAP_KILL', 'CAP_SETGID', 'CAP_SETUID'],
    PidsLimit: 256,
    Memory: 256 * 2 ** 20,
    NanoCpus: 2e9,
    Init: true,
    PidMode: '',
  })
  expect(HostConfig.Binds ?? []).toEqual([])
  expect(HostConfig.PortBindings ?? {}).toEqual({})
  expect(Mounts.map(({ Type, Destination, RW }) => [Type, Destination, RW]).sort()).toEqual([
    ['volume', '/.penstock/bin', false],
    ['volume', '/.penstock/control', true],
    ['volume', '/workspace', true],
  ])
  expect(Config.Labels).toMatchObject({
    'penstock.run': key.run,
    'penstock.stage': 'test',
    'penstock.job': 'unit',
    'penstock.attempt': '1',
  })
  // chown 0, dac_override 1, fowner 3, fsetid 4, kill 5, setgid 6, setuid 7
  expect(String(logs[0])).toMatch(/CapEff:\t00000000000000fb\nCapBnd:\t00000000000000fb\nNoNewPrivs:\t1\nSeccomp:\t2\n/)
})

test('a fork bomb ends at the limit of processes', async () => {
  const job = aJob(image, [aStep(['for i in $(seq 100); do sleep 5 & done; echo all'])])

  const { state } = await runJob({ ...job, resources: { ...job.resources, pids: 40 } })

  expect(state.steps[0]?.end?.exitCode).not.toBe(0)
})

test('a memory kill of a child is seen although the step ended well', async () => {
  const job = aJob(image, [aStep(['(dd if=/dev/zero of=/dev/null bs=200M count=1) || echo killed'])])

  const { key, state } = await runJob({
    ...job,
    resources: { ...job.resources, memory: { reserve: 2 ** 24, limit: 48 * 2 ** 20 } },
  })

  expect(state.steps[0]?.end?.exitCode).toBe(0)
  expect(await containerEnd(engine.node, key)).toEqual({ kind: 'exited', code: 0, memoryKill: true })
})

test("a user's own exit code 137 is no memory kill and no loss", async () => {
  const { key, state } = await runJob(aJob(image, [aStep('exit 137')]))

  expect(state.steps[0]?.end?.exitCode).toBe(137)
  expect(await containerEnd(engine.node, key)).toEqual({ kind: 'exited', code: 1, memoryKill: false })
})

test("jobs of different runs cannot reach each other's ports; jobs of one run can", async () => {
  const [server, stranger] = [newKey(), newKey()]
  const serving = aJob(image, [aStep(['mkdir www; echo page > www/index.html; httpd -h www -p 8080', 'sleep 600'])])
  await begin(engine, server, serving)
  await until(engine.node, server, 0, (state) => (state.steps[0]?.logBytes ?? 0) > 70)
  const { NetworkSettings } = await inspectContainer(server)
  const address = NetworkSettings.Networks[runNetwork(installation.instance, server.run)]?.IPAddress
  const fetching = aJob(image, [
    aStep([
      `printf 'GET /index.html HTTP/1.0\r\n\r\n' | timeout 5 nc ${address} 8080 | grep -q page && echo reached || echo blocked`,
    ]),
  ])

  const far = await runJob(fetching, stranger)
  const near = await runJob(fetching, { ...server, job: 'client' })
  used.push({ ...server, job: 'client' })

  expect(address).toMatch(/^\d+\.\d+\.\d+\.\d+$/)
  expect(String(near.logs[0])).toMatch(/\nreached\n$/)
  expect(String(far.logs[0])).toMatch(/\nblocked\n$/)
})

test.each([
  ['replaced by a link', 'ln -sf /etc/passwd /.penstock/control/log.0'],
  ['replaced by another file', 'cd /.penstock/control; seq 1000 > other; mv other log.0'],
  ['shortened', 'truncate -s 3 /.penstock/control/log.0'],
  ['replaced by a pipe that blocks', 'rm /.penstock/control/log.0; mknod /.penstock/control/log.0 p'],
])('a log that is %s is called tampered, and nothing of another file is read', async (_how, command) => {
  const key = newKey()
  await begin(
    engine,
    key,
    aJob(image, [aStep(['echo first line', 'until [ -e go ]; do usleep 20000; done', command, 'sleep 2'])]),
  )
  const before = await until(engine.node, key, 0, (state) => (state.steps[0]?.logBytes ?? 0) > 30)
  const { workspace } = await engine.node.prepareVolumes(key, 0)
  await shell('touch', [`${workspace}/go`])

  const state = await until(engine.node, key, 0, ({ tampered }) => tampered !== undefined)

  expect(before.tampered).toBeUndefined()
  expect(state.tampered).toMatch(/log/)
  await expect(engine.node.readLog(key, 0, 0, 0, 1000)).rejects.toThrow()
})

test('records that are changed after they were written are called tampered', async () => {
  const key = newKey()
  await begin(
    engine,
    key,
    aJob(image, [
      aStep('exit 0'),
      aStep(['until [ -e go ]; do usleep 20000; done', 'sed -i s/open/0pen/ /.penstock/control/journal', 'sleep 2']),
    ]),
  )
  const { workspace } = await engine.node.prepareVolumes(key, 0)
  await until(engine.node, key, 0, (state) => state.steps[1]?.started === true)
  await shell('touch', [`${workspace}/go`])

  const state = await until(engine.node, key, 0, ({ tampered }) => tampered !== undefined)

  expect(state.tampered).toMatch(/journal|records/)
})

test('a volume that somebody removed is not called tampered: the step did nothing wrong', async () => {
  const key = newKey()
  await begin(engine, key, aJob(image, [aStep('sleep 60')]))
  await until(engine.node, key, 0, ({ steps }) => steps[0]?.started === true)
  const folder = await controlFolder(key)

  await rm(dirname(folder), { recursive: true })

  await expect(engine.node.observe(key, 0)).rejects.toThrow(`the control volume was removed from its node`)
})

test('a link in the workspace is not followed when files are read', async () => {
  const { key } = await runJob(
    aJob(image, [aStep(['ln -s /etc/passwd a.xml', 'ln -s / root', 'mkdir real; echo x > real/b.xml'])]),
  )
  await containerEnd(engine.node, key)

  const files = await engine.node.readWorkspaceFiles(key, ['*.xml', '**/*.xml', '**/passwd', 'root/**'], {
    files: 10,
    bytes: 10_000,
  })

  expect(files.map(({ path }) => path)).toEqual(['real/b.xml'])
})

test('a container that somebody removed is lost, not failed', async () => {
  const key = newKey()
  await begin(engine, key, aJob(image, [aStep('sleep 600')]))
  await until(engine.node, key, 0, (state) => state.steps[0]?.started === true)

  await docker.getContainer((await inspectContainer(key)).Id).remove({ force: true })

  expect(await containerEnd(engine.node, key)).toMatchObject({ kind: 'lost' })
})

test('ten steps cost little more than one', async () => {
  const times: number[] = []
  for (const count of [1, 10]) {
    const key = newKey()
    const start = performance.now()
    await begin(
      engine,
      key,
      aJob(
        image,
        Array.from({ length: count }, () => aStep('true')),
      ),
    )
    const opened = performance.now()
    await until(engine.node, key, 0, (state) => (state.steps[0]?.logBytes ?? 0) > 0)
    const first = performance.now()
    await until(engine.node, key, 0, finished)
    times.push(performance.now() - start)
    console.log(
      `${count} steps: network and create to gate ${Math.round(opened - start)} ms, to first output ${Math.round(first - start)} ms, all finished ${Math.round(performance.now() - start)} ms`,
    )
  }

  const [one = 0, ten = 0] = times
  expect(ten - one).toBeLessThan(one)
})
