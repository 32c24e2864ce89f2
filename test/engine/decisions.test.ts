import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { canPlaceOn } from '../../src/engine/swarm/can-place.ts'
import { repositoryOf } from '../../src/engine/swarm/cluster.ts'
import { toContainerEnd } from '../../src/engine/swarm/container-end.ts'
import { isStatic } from '../../src/engine/swarm/helper.ts'
import { parseJournal } from '../../src/engine/swarm/journal.ts'
import { toPlacement } from '../../src/engine/swarm/placement.ts'
import { segmentServiceSpec } from '../../src/engine/swarm/service-spec.ts'
import { stepScript } from '../../src/engine/swarm/step-script.ts'
import { EngineRefused } from '../../src/engine/types.ts'
import { aJob, aKey, aStep } from '../helpers/docker.ts'

const SHA = 'a'.repeat(64)

describe('records of the wrapper', () => {
  test('a record that is still being written does not count', () => {
    const journal = parseJournal(`wait .\nopen .\nstart 0 .\nend 0 0 0 12 12 ${SHA} -`)

    expect(journal.gate).toBe('open')
    expect(journal.started.has(0)).toBe(true)
    expect(journal.ends.size).toBe(0)
  })

  test('a record keeps the words of a write error', () => {
    const journal = parseJournal(
      `wait .\nopen .\nstart 3 .\nend 3 7 1 20 12 ${SHA} No space left on device .\nfinish .\n\n\n`,
    )

    expect(journal.ends.get(3)).toEqual({
      exitCode: 7,
      timedOut: true,
      pipeBytes: 20,
      fileBytes: 12,
      sha256: SHA,
      writeError: 'No space left on device',
    })
    expect(journal.finished).toBe(true)
  })
})

describe('how a container ended', () => {
  const started = '2026-01-01T10:00:00.000Z'
  const restart = Date.parse('2026-01-01T10:05:00.000Z')
  const state = {
    Status: 'exited',
    ExitCode: 137,
    OOMKilled: false,
    Error: '',
    StartedAt: started,
    FinishedAt: '2026-01-01T10:05:10.000Z',
  }
  const running = parseJournal('wait .\nopen .\nstart 0 .\n')

  test('killed by the daemon that came back: lost', () => {
    expect(toContainerEnd({ state, journal: running, stoppedByUs: false, daemonStart: restart })).toMatchObject({
      kind: 'lost',
    })
  })
  test('killed before the daemon went away: as it ended', () => {
    const before = { ...state, FinishedAt: '2026-01-01T10:02:00.000Z' }
    expect(toContainerEnd({ state: before, journal: running, stoppedByUs: false, daemonStart: restart })).toEqual({
      kind: 'exited',
      code: 137,
      memoryKill: false,
    })
  })
  test('started after the daemon did: as it ended', () => {
    expect(
      toContainerEnd({ state, journal: running, stoppedByUs: false, daemonStart: Date.parse(started) - 1 }),
    ).toMatchObject({ kind: 'exited' })
  })
  test('out of memory is no loss, even across a restart of the daemon', () => {
    expect(
      toContainerEnd({
        state: { ...state, OOMKilled: true },
        journal: running,
        stoppedByUs: false,
        daemonStart: restart,
      }),
    ).toEqual({
      kind: 'exited',
      code: 137,
      memoryKill: true,
    })
  })
  test('stopped by us is no loss', () => {
    expect(toContainerEnd({ state, journal: running, stoppedByUs: true, daemonStart: restart })).toMatchObject({
      kind: 'exited',
      code: 137,
    })
  })
  test('told to stop by something else: lost, although its step has a record', () => {
    const told = parseJournal(`wait .\nopen .\nstart 0 .\nterm .\nend 0 143 0 1 1 ${SHA} - .\nfinish .\n`)
    expect(
      toContainerEnd({ state: { ...state, ExitCode: 1 }, journal: told, stoppedByUs: false, daemonStart: undefined }),
    ).toMatchObject({ kind: 'lost' })
  })
  test('steps that finished by themselves count as they ended', () => {
    const done = parseJournal(`wait .\nopen .\nstart 0 .\nend 0 0 0 1 1 ${SHA} - .\nfinish .\n`)
    expect(toContainerEnd({ state, journal: done, stoppedByUs: false, daemonStart: restart })).toMatchObject({
      kind: 'exited',
    })
  })
  test('ended before its gate was opened: lost, because nothing of the user ran', () => {
    const early = { ...state, ExitCode: 127 }
    expect(
      toContainerEnd({ state: early, journal: parseJournal('wait .\n'), stoppedByUs: false, daemonStart: undefined }),
    ).toEqual({
      kind: 'lost',
      reason: 'the container ended with exit code 127 before its first step',
    })
  })
  test('a container that could not start is lost, and says why', () => {
    const broken = { ...state, Status: 'created', ExitCode: 127, Error: 'exec format error' }
    expect(
      toContainerEnd({ state: broken, journal: undefined, stoppedByUs: false, daemonStart: restart }),
    ).toMatchObject({
      kind: 'lost',
      reason: expect.stringContaining('exec format error'),
    })
  })
  test('a running one has not ended', () => {
    expect(
      toContainerEnd({
        state: { ...state, Status: 'running' },
        journal: running,
        stoppedByUs: false,
        daemonStart: restart,
      }),
    ).toBeUndefined()
  })
})

describe('where a task is', () => {
  const nodes = new Map([
    ['n1', { hostname: 'one', down: false }],
    ['n2', { hostname: 'two', down: true }],
  ])
  test.each([
    [{ Status: { State: 'new' } }, { kind: 'pending' }],
    [
      { Status: { State: 'pending', Err: 'no suitable node (insufficient resources on 3 nodes)' } },
      { kind: 'pending', reason: 'no suitable node (insufficient resources on 3 nodes)' },
    ],
    [
      { NodeID: 'n1', Status: { State: 'preparing' } },
      { kind: 'assigned', node: 'n1', hostname: 'one' },
    ],
    [
      { NodeID: 'n1', Status: { State: 'rejected', Err: 'No such image: x' } },
      { kind: 'rejected', reason: 'No such image: x' },
    ],
    [
      { NodeID: 'n2', DesiredState: 'shutdown', Status: { State: 'running' } },
      { kind: 'lost', node: 'n2', reason: 'node two is down' },
    ],
    [
      { NodeID: 'n9', Status: { State: 'running' } },
      { kind: 'lost', node: 'n9', reason: 'node n9 has left the Swarm' },
    ],
    [
      { NodeID: 'n2', Status: { State: 'complete', ContainerStatus: { ContainerID: 'c', ExitCode: 0 } } },
      { kind: 'ended', node: 'n2', hostname: 'two', container: 'c', exitCode: 0 },
    ],
    [
      { NodeID: 'n1', Status: { State: 'failed', Err: 'task: non-zero exit (3)', ContainerStatus: { ExitCode: 3 } } },
      { kind: 'ended', node: 'n1', hostname: 'one', exitCode: 3, reason: 'task: non-zero exit (3)' },
    ],
  ])('%j is %j', (task, placement) => {
    expect(toPlacement(task, nodes)).toEqual(placement)
  })
})

describe('whether a job can be placed at all', () => {
  const nodes = [
    {
      ID: 'a',
      Spec: { Role: 'manager', Labels: { disk: 'ssd' } },
      Description: {
        Hostname: 'a',
        Platform: { Architecture: 'x86_64', OS: 'linux' },
        Resources: { NanoCPUs: 4e9, MemoryBytes: 2 ** 33 },
      },
    },
    {
      ID: 'b',
      Spec: { Role: 'worker', Labels: {} },
      Description: {
        Hostname: 'b',
        Platform: { Architecture: 'aarch64', OS: 'linux' },
        Resources: { NanoCPUs: 2e9, MemoryBytes: 2 ** 32 },
      },
    },
  ]
  const job = (constraints: string[], reserve = 0.1) =>
    aJob('x', [], {
      constraints,
      resources: { cpus: { reserve, limit: 1 }, memory: { reserve: 0, limit: 2 ** 30 }, pids: 10 },
    })

  test.each([
    [['node.labels.disk==ssd'], 'yes'],
    [['node.labels.disk!=ssd'], 'yes'],
    [['node.platform.arch == arm64'], 'yes'],
    [['node.platform.arch==amd64', 'node.role==manager'], 'yes'],
    [['node.platform.arch==arm64', 'node.labels.disk==ssd'], 'no'],
    [['node.labels.disk==nvme'], 'no'],
    [['disk=ssd'], 'no'],
  ])('%j: %s', (constraints, kind) => {
    expect(canPlaceOn(job(constraints), nodes).kind).toBe(kind)
  })

  test('a reservation larger than every node is named with its size', () => {
    expect(canPlaceOn(job([], 8), nodes)).toEqual({ kind: 'no', sentence: expect.stringContaining('8 CPUs') })
    expect(canPlaceOn(job(['node.platform.arch==arm64'], 3), nodes).kind).toBe('no')
  })
})

test('only a program without a loader is static', () => {
  expect(isStatic(readFileSync('/bin/busybox'))).toBe(true)
  expect(isStatic(readFileSync('/bin/true'))).toBe(false)
  expect(isStatic(Buffer.from('#!/bin/sh\n'))).toBe(false)
})

test.each([
  ['alpine', 'alpine'],
  ['alpine:3', 'alpine'],
  ['registry.example:5000/a/b', 'registry.example:5000/a/b'],
  ['registry.example:5000/a/b:tag@sha256:00', 'registry.example:5000/a/b'],
])('the repository of %s is %s', (reference, repository) => {
  expect(repositoryOf(reference)).toBe(repository)
})

test('a variable that no shell can hold is refused by name, without its value', () => {
  const script = (env: Record<string, string>) => () =>
    stepScript({ step: aStep('true', { env }), env: {}, secretEnv: [], workdir: '/workspace' })

  expect(script({ 'A-B': 'x' })).toThrow(EngineRefused)
  expect(script({ A: 'hidden\0' })).toThrow(/^(?!.*hidden).*\bA\b/)
})

test('a job attempt gives exactly this service, whatever else its spec says', () => {
  const key = aKey({ run: 'acme/web#7' })
  const job = aJob('alpine', [aStep('true')], {
    constraints: ['node.labels.disk==ssd'],
    secrets: [{ name: 'TOKEN', env: true }],
    env: { SECRET_LOOKING: 'value' },
  })

  const spec = segmentServiceSpec({
    key,
    job,
    segment: 0,
    image: 'alpine@sha256:00',
    instance: 'main',
    helperVolume: 'pst-helper-x',
    network: 'pst-x-net',
    secretIds: new Map([['TOKEN', { id: 'id1', name: 'pst-k0' }]]),
    nativeNoNewPrivileges: true,
    node: 'n1',
  })

  const labels = {
    'penstock.instance': 'main',
    'penstock.run': 'acme/web#7',
    'penstock.stage': 'test',
    'penstock.job': 'unit',
    'penstock.attempt': '1',
  }
  expect(spec.Labels).toEqual({ ...labels, 'penstock.segment': '0' })
  expect(spec.Mode).toEqual({ Replicated: { Replicas: 1 } })
  expect(spec.EndpointSpec).toEqual({ Mode: 'dnsrr' })
  expect(spec.TaskTemplate.RestartPolicy.Condition).toBe('none')
  expect(spec.TaskTemplate.Placement.Constraints).toEqual([
    'node.labels.disk==ssd',
    'node.labels.penstock.worker.main==alive',
    'node.id==n1',
  ])
  expect(spec.TaskTemplate.ContainerSpec).toMatchObject({
    Image: 'alpine@sha256:00',
    Env: ['TOKEN_FILE=/run/secrets/TOKEN'],
    Init: true,
    CapabilityDrop: ['ALL'],
    Privileges: { NoNewPrivileges: true },
    Secrets: [{ SecretID: 'id1', SecretName: 'pst-k0', File: { Name: 'TOKEN', UID: '0', GID: '0', Mode: 0o444 } }],
  })
  expect(spec.TaskTemplate.ContainerSpec.Mounts.map(({ Type, Target }) => [Type, Target])).toEqual([
    ['volume', '/.penstock/bin'],
    ['volume', '/.penstock/control'],
    ['volume', '/workspace'],
  ])
  expect(spec.TaskTemplate.Resources.Limits).toEqual({ NanoCPUs: 2e9, MemoryBytes: 256 * 2 ** 20, Pids: 256 })
  expect(JSON.stringify(spec)).not.toContain('SECRET_LOOKING')
})
