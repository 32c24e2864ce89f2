import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RunEvent } from '../../src/core/events.ts'
import { type JobKey, jobLabels, LABELS, workspaceVolume } from '../../src/core/ids.ts'
import { workerLabel } from '../../src/engine/swarm/service-spec.ts'
import type { AttemptRow } from '../../src/store/types.ts'
import { canStartLab, type Lab, type NodeWorker, startLab, startNodeWorker } from '../helpers/lab.ts'
import { REPO, type System, startSystem } from '../helpers/system.ts'

// Server, control worker and Temporal run on this machine, and speak to the Docker of the manager n1 alone. Each node
// has a worker in its own namespaces, which reaches server and Temporal by network, and no other node's Docker.
const NET = '198.18.83'
const SERVER = `${NET}.2:7410`
const TEMPORAL_PORT = 7283
const IMAGE = `${NET}.1:5000/busybox:latest`
/** Of the registry alone: no node has it before a job asks for it. */
const OTHER_IMAGE = `${NET}.1:5000/other:1`
/** Of n1 alone: no registry has it. */
const LOCAL_IMAGE = 'only-on-n1:1'

/** Several machines on one: needs root, and the programs of test/swarm-lab. */
const describeWithLab = describe.skipIf(!canStartLab())

let lab: Lab
let system: System
const workers: Record<string, NodeWorker> = {}

beforeAll(async () => {
  lab = await startLab({ net: NET, args: ['2', '--heartbeat', '1s'] })
  await importImage('n1', OTHER_IMAGE)
  await lab.exec('n1', 'docker', 'push', '-q', OTHER_IMAGE)
  await lab.exec('n1', 'docker', 'image', 'rm', OTHER_IMAGE)
  await importImage('n1', LOCAL_IMAGE)
  system = await startSystem({
    listen: SERVER,
    parts: ['temporal', 'server', 'control'],
    config: 'pools: { rig: { units: { r1: {} } } }',
    env: { DOCKER_HOST: lab.hostOf('n1'), PENSTOCK_TEMPORAL_LISTEN: `0.0.0.0:${TEMPORAL_PORT}` },
  })
  await Promise.all([startWorker('n1'), startWorker('n2')])
  await untilLabeled('n1', true)
  await untilLabeled('n2', true)
}, 300_000)
afterAll(async () => {
  await Promise.all(Object.values(workers).map((worker) => worker.kill('SIGTERM')))
  await system?.dispose()
  await lab?.down()
}, 120_000)

async function importImage(node: string, reference: string): Promise<void> {
  // The layers of the lab's busybox, and a variable that makes it another image.
  await lab.exec(
    node,
    'sh',
    '-c',
    `docker export $(docker create ${IMAGE}) | docker import -c 'CMD ["sh"]' -c 'ENV PATH=/bin:/usr/bin IMAGE=${reference}' - ${reference} && docker container prune -f`,
  )
}

async function startWorker(node: string): Promise<NodeWorker> {
  const worker = await startNodeWorker(lab, node, {
    serverUrl: `http://${SERVER}`,
    temporal: `${lab.host}:${TEMPORAL_PORT}`,
    token: readFileSync(join(system.dataDir, 'worker-token'), 'utf8'),
    instance: system.instance,
    dataDir: join(system.dataDir, '..', `worker-${node}`),
  })
  workers[node] = worker
  return worker
}

async function setLabel(node: string, label: string): Promise<void> {
  // The server's side labels nodes, too; an update that came between makes Docker refuse ours.
  await system.until(`label ${label} on ${node}`, async () => {
    await lab.exec('n1', 'docker', 'node', 'update', '--label-add', label, node)
    return true
  })
}

/** Until jobs can, or cannot, be placed on the node as far as its worker is concerned. */
function untilLabeled(node: string, alive: boolean): Promise<boolean> {
  const format = `{{index .Spec.Labels "${workerLabel(system.instance)}"}}`
  return system.until(
    `the worker of ${node} being ${alive ? 'known' : 'missed'}`,
    async () => ((await lab.exec('n1', 'docker', 'node', 'inspect', '-f', format, node)) === 'alive') === alive,
    60,
  )
}

const spec = (text: string, image = IMAGE) => ({ '.penstock.yml': `image: ${image}\n${text}` })
const keyOf = (number: number, job: string, attempt = 1): JobKey => ({
  run: `${REPO}#${number}`,
  stage: 'test',
  job,
  attempt,
})

function jobRows(attempts: readonly AttemptRow[], job: string): readonly AttemptRow[] {
  return attempts.filter((one) => one.job === job && one.step === undefined)
}
function stepRows(attempts: readonly AttemptRow[], job: string): readonly AttemptRow[] {
  return attempts.filter((one) => one.job === job && one.step !== undefined)
}

/** Jobs (and segments) whose containers that node's Docker made, in order. */
async function containersMadeOn(node: string, number: number): Promise<string[]> {
  const out = await lab.exec(
    node,
    'docker',
    'events',
    '--since',
    '1',
    '--until',
    String(Math.floor(Date.now() / 1000) + 1),
    '--filter',
    'type=container',
    '--filter',
    'event=create',
    '--filter',
    `label=${LABELS.run}=${REPO}#${number}`,
    '--format',
    `{{index .Actor.Attributes "${LABELS.job}"}}/{{index .Actor.Attributes "penstock.segment"}}`,
  )
  return out.split('\n').filter((line) => line !== '')
}

/** The steps of a job have begun. */
function begun(number: number, job: string, attempt = 1): Promise<true> {
  return system.until(
    `the first step of ${job} of run ${number}`,
    async () =>
      stepRows((await system.run(number)).attempts, job).some((one) => one.attempt === attempt) ? true : undefined,
    60,
  )
}

/** What a job that looks for a file of its workspace waits for. */
async function touch(node: string, key: JobKey, file: string): Promise<void> {
  const volume = await lab.docker(node).getVolume(workspaceVolume(system.instance, key)).inspect()
  writeFileSync(join(volume.Mountpoint, file), '')
}
const AWAIT_GO = 'until [ -e go ]; do usleep 100000; done'

function waitingFor(number: number, job: string, seconds = 60): Promise<string> {
  return system.until(
    `job ${job} of run ${number} to wait for a node`,
    async () => {
      const events: readonly RunEvent[] = (await system.events(number)).map(({ event }) => event)
      const waiting = events.findLast((one) => one.type === 'job.waiting.v1' && one.job === job)
      return waiting?.type === 'job.waiting.v1' ? waiting.waitingFor.sentence : undefined
    },
    seconds,
  )
}

describeWithLab('jobs on several nodes', () => {
  it('run where their constraints say, each followed by the worker of its own node', async () => {
    const number = await system.push(
      spec(`
test:
  first: { constraints: [node.hostname==n1], run: echo on the first }
  second: { constraints: [node.hostname==n2], run: [echo on the second, test -d .git, git --version || true] }
`),
      'constraints',
    )

    const run = await system.ended(number, 120)

    expect(run).toMatchObject({ status: 'succeeded' })
    expect(jobRows(run.attempts, 'first')).toMatchObject([{ node: 'n1', outcome: 'succeeded' }])
    expect(jobRows(run.attempts, 'second')).toMatchObject([{ node: 'n2', outcome: 'succeeded' }])
    expect(stepRows(run.attempts, 'second')).toMatchObject([{ log: { kind: 'complete' } }])
    expect(await system.log(number, 'second')).toContain('\non the second\n')
    expect(await containersMadeOn('n1', number)).toEqual(['first/0'])
    expect(await containersMadeOn('n2', number)).toEqual(['second/0'])
  }, 150_000)

  it('keep to one node and one workspace when their steps have two images', async () => {
    const number = await system.push(
      spec(`
test:
  two:
    run:
      - { name: write, run: echo from the first > file }
      - { name: read, image: "${OTHER_IMAGE}", run: 'echo "$IMAGE reads $(cat file)"' }
`),
      'segments',
    )

    const run = await system.ended(number, 120)

    expect(run).toMatchObject({ status: 'succeeded' })
    expect(await system.log(number, 'two', 1)).toContain(`${OTHER_IMAGE} reads from the first\n`)
    const made = await Promise.all(['n1', 'n2'].map((node) => containersMadeOn(node, number)))
    expect(made.filter((jobs) => jobs.length > 0)).toEqual([['two/0', 'two/1']])
  }, 150_000)

  it('of different runs cannot reach each other on a node, those of one run can', async () => {
    const listening = await system.push(
      spec(`
test:
  listen:
    constraints: [node.hostname==n2]
    run: |
      (while [ ! -e go ]; do echo hello | nc -l -p 9000; done) &
      hostname -i > address
      cat address
      ${AWAIT_GO}
      kill $!
  neighbor:
    constraints: [node.hostname==n2]
    run: |
      until [ -e address ]; do usleep 100000; done
      nc -w 5 "$(cat address)" 9000 < /dev/null
`),
      'listen',
    )
    await begun(listening, 'listen')
    const address = await system.until('the address', async () => {
      const log = await system.log(listening, 'listen')
      return /^(\d+\.\d+\.\d+\.\d+)\s*$/m.exec(log)?.[1]
    })
    await begun(listening, 'neighbor')
    const { Mountpoint } = await lab
      .docker('n2')
      .getVolume(workspaceVolume(system.instance, keyOf(listening, 'neighbor')))
      .inspect()
    writeFileSync(join(Mountpoint, 'address'), address)
    await system.until(
      'the neighbor',
      async () => jobRows((await system.run(listening)).attempts, 'neighbor')[0]?.outcome,
    )

    const stranger = await system.push(
      spec(`
test:
  stranger:
    constraints: [node.hostname==n2]
    run: |
      if nc -w 5 ${address} 9000 < /dev/null; then echo reached; exit 1; fi
`),
      'stranger',
    )
    const strangerEnd = await system.ended(stranger, 120)
    await touch('n2', keyOf(listening, 'listen'), 'go')
    const listeningEnd = await system.ended(listening, 120)

    expect(await system.log(listening, 'neighbor')).toContain('\nhello\n')
    expect(listeningEnd).toMatchObject({ status: 'succeeded' })
    expect(strangerEnd).toMatchObject({ status: 'succeeded' })
  }, 300_000)

  it('are errored with the node’s own words when their image is only on another node', async () => {
    const here = await system.push(
      spec('test: { local: { constraints: [node.hostname==n1], run: echo here } }\n', LOCAL_IMAGE),
      'image-here',
    )
    const elsewhere = await system.push(
      spec('test: { local: { constraints: [node.hostname==n2], run: echo there } }\n', LOCAL_IMAGE),
      'image-elsewhere',
    )

    expect(await system.ended(here, 120)).toMatchObject({ status: 'succeeded' })
    expect(await system.ended(elsewhere, 120)).toMatchObject({
      status: 'errored',
      reason: expect.stringMatching(/No such image/),
    })
  }, 240_000)
})

describeWithLab('a job that no node can take', () => {
  it('waits with the reason of Swarm while another holds what it needs, and goes on after it', async () => {
    const { MemTotal } = await lab.docker('n2').info()
    const memory = `${Math.floor((MemTotal / 2 ** 20) * 0.6)}Mi`
    const needs = `constraints: [node.hostname==n2], resources: { memory: { reserve: ${memory} } }`
    const number = await system.push(
      spec(`
test:
  holder: { ${needs}, run: "${AWAIT_GO}" }
`),
      'holder',
    )
    await begun(number, 'holder')
    const next = await system.push(spec(`test: { next: { ${needs}, run: echo next } }\n`), 'next')

    const sentence = await waitingFor(next, 'next')
    await touch('n2', keyOf(number, 'holder'), 'go')

    expect(sentence).toContain('insufficient resources on 1 node')
    expect(await system.ended(number, 120)).toMatchObject({ status: 'succeeded' })
    expect(await system.ended(next, 120)).toMatchObject({ status: 'succeeded' })
  }, 240_000)

  it('is errored by name within ten seconds', async () => {
    const number = await system.push(
      spec('test: { nowhere: { constraints: [node.labels.rack==9], run: echo never } }\n'),
      'nowhere',
    )

    const run = await system.ended(number, 120)

    expect(run).toMatchObject({ status: 'errored', reason: expect.stringContaining('node.labels.rack==9') })
    const [job] = jobRows(run.attempts, 'nowhere')
    expect(job).toMatchObject({ outcome: 'errored' })
    expect((job?.finishedAt ?? Number.POSITIVE_INFINITY) - (job?.startedAt ?? 0)).toBeLessThan(10_000)
  }, 150_000)

  it('waits, where the operator’s file says so, until a node gets what it asks for', async () => {
    const config = readFileSync(system.configFile, 'utf8')
    writeFileSync(system.configFile, `${config}\nunplaceable: wait\n`)
    system.kill('control')
    const number = await system.push(
      spec('test: { later: { constraints: [node.labels.rack==7], run: echo at last } }\n'),
      'later',
    )

    const sentence = await waitingFor(number, 'later', 120)
    await setLabel('n2', 'rack=7')
    const run = await system.ended(number, 120)
    writeFileSync(system.configFile, config)
    system.kill('control')

    expect(sentence).toContain('scheduling constraints not satisfied on 2 nodes')
    expect(run).toMatchObject({ status: 'succeeded' })
    expect(jobRows(run.attempts, 'later')).toMatchObject([{ node: 'n2' }])
  }, 300_000)
})

describeWithLab('a node’s worker', () => {
  it('that is killed and started again follows the same container, and the log is whole', async () => {
    const lines = 500
    const number = await system.push(
      spec(`
test:
  count:
    constraints: [node.hostname==n2]
    run: 'i=0; while [ $i -lt ${lines} ]; do echo "line $i"; i=$((i+1)); usleep 20000; done'
`),
      'count',
    )
    await system.until('a few lines', async () => (await system.log(number, 'count')).includes('line 20\n'), 60)
    const containers = async () => {
      const labels = Object.entries(jobLabels(system.instance, keyOf(number, 'count')))
      const label = labels.map(([name, value]) => `${name}=${value}`)
      return (await lab.docker('n2').listContainers({ all: true, filters: { label } })).map(({ Id }) => Id)
    }
    const before = await containers()

    await workers.n2?.kill('SIGKILL')
    await startWorker('n2')
    await system.until(
      'lines after it',
      async () => (await system.log(number, 'count')).includes(`line ${lines - 1}\n`),
      60,
    )
    const made = await containersMadeOn('n2', number)
    const run = await system.ended(number, 120)

    expect(before).toHaveLength(1)
    expect(made).toEqual(['count/0'])
    expect(run).toMatchObject({ status: 'succeeded' })
    expect(jobRows(run.attempts, 'count')).toMatchObject([{ attempt: 1, node: 'n2' }])
    expect(stepRows(run.attempts, 'count')).toMatchObject([{ log: { kind: 'complete' } }])
    const printed = (await system.log(number, 'count')).split('\n').filter((line) => /^line \d+$/.test(line))
    expect(printed).toEqual(Array.from({ length: lines }, (_, index) => `line ${index}`))
  }, 240_000)

  it('that stays away gets no new jobs; those that need its node wait for it', async () => {
    await workers.n2?.kill('SIGKILL')
    await untilLabeled('n2', false)

    const anywhere = await system.push(spec('test: { a: "true", b: "true", c: "true" }\n'), 'anywhere')
    const there = await system.push(
      spec('test: { there: { constraints: [node.hostname==n2], run: echo back } }\n'),
      'there',
    )
    const run = await system.ended(anywhere, 120)
    const sentence = await waitingFor(there, 'there')
    await startWorker('n2')

    expect(run).toMatchObject({ status: 'succeeded' })
    expect(['a', 'b', 'c'].map((job) => jobRows(run.attempts, job)[0]?.node)).toEqual(['n1', 'n1', 'n1'])
    expect(sentence).toContain('scheduling constraints not satisfied on 2 nodes')
    expect(await system.ended(there, 120)).toMatchObject({ status: 'succeeded' })
  }, 300_000)
})

describeWithLab('a node that is lost', () => {
  it('makes its jobs errored by name, or runs them elsewhere, and keeps their units; when it is back, nothing of them stays', async () => {
    await setLabel('n2', 'spot=yes')
    const number = await system.push(
      spec(`
test:
  fail: { constraints: [node.hostname==n2], pool: rig, run: sleep 600 }
  again:
    constraints: [node.labels.spot==yes]
    on_lost: retry
    run: 'if [ "$CI_ATTEMPT" = 1 ]; then sleep 600; fi; echo done'
`),
      'lost',
    )
    await begun(number, 'fail')
    await begun(number, 'again')
    await setLabel('n1', 'spot=yes')
    // Of no run that is open, so that nobody but the sweep takes it away.
    await lab.exec(
      'n2',
      'docker',
      'volume',
      'create',
      '--label',
      `${LABELS.instance}=${system.instance}`,
      '--label',
      `${LABELS.run}=${REPO}#999`,
      'left-behind',
    )

    const lostAt = Date.now()
    await lab.run('kill-node', 'n2')
    const run = await system.ended(number, 180)

    expect(run).toMatchObject({ status: 'errored', reason: expect.stringContaining('node n2 is down') })
    const [failed] = jobRows(run.attempts, 'fail')
    expect(failed).toMatchObject({ outcome: 'errored', reason: expect.stringContaining('node n2 is down') })
    console.info(`      the loss of a node was noticed after ${((failed?.finishedAt ?? 0) - lostAt) / 1000} s`)
    expect(jobRows(run.attempts, 'again')).toMatchObject([
      { attempt: 1, node: 'n2', outcome: 'errored' },
      { attempt: 2, node: 'n1', outcome: 'succeeded' },
    ])

    // Nobody knows whether the container lives on, cut off: its unit is given to nobody else.
    const next = await system.push(
      spec('test: { next: { constraints: [node.hostname==n1], pool: rig, run: echo } }\n'),
      'next',
    )
    const { sentence } = await system.until('the next to wait', async () => {
      const { waiters } = await system.call<{ waiters: { sentence: string }[] }>('GET', '/pools')
      return waiters[0]
    })
    expect(sentence).toContain(`it is not proved that the container of ${REPO}#${number}/test/fail/1 is gone`)

    await lab.run('start-node', 'n2')
    await startWorker('n2')

    await system.until(
      'a clean n2',
      async () => {
        const label = [`${LABELS.instance}=${system.instance}`, LABELS.run]
        const docker = lab.docker('n2')
        const { Volumes } = await docker.listVolumes({ filters: { label } })
        const containers = await docker.listContainers({ all: true, filters: { label } })
        const networks = await docker.listNetworks({ filters: { label } })
        return Volumes.length + containers.length + networks.length === 0
      },
      90,
    )
    const after = await system.push(
      spec('test: { after: { constraints: [node.hostname==n2], run: echo again } }\n'),
      'after',
    )
    expect(await system.ended(after, 120)).toMatchObject({ status: 'succeeded' })
    expect(await system.ended(next, 60)).toMatchObject({ status: 'succeeded' })
  }, 480_000)
})
