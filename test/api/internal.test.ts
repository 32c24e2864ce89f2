import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Admitted, admit } from '../../src/core/admission.ts'
import type { RunEvent } from '../../src/core/events.ts'
import { createServerClient, ServerRefused, ServerUnavailable } from '../../src/internal/client.ts'
import { LogMoved, type ServerPort } from '../../src/internal/types.ts'
import { NPM_TOKEN, PLAN, type Running, startServer, WORKER_TOKEN } from './server.ts'

let server: Running
let client: ServerPort

beforeEach(async () => {
  server = await startServer()
  client = createServerClient({ url: server.url, token: WORKER_TOKEN })
})
afterEach(async () => {
  await server.stop()
})

async function started() {
  const run = await server.run()
  await server.store.runs.setPlan(run.id, PLAN)
  const job = { run: run.id, stage: 'test', job: 'unit', attempt: 1 }
  const { run: _, ...fields } = job
  const events: RunEvent[] = [
    { type: 'run.started.v1', try: 1 },
    { type: 'job.started.v1', ...fields },
    { type: 'step.started.v1', ...fields, step: 0, name: 'install' },
  ]
  await client.events(run.id, [{ key: 'begin', events }])
  return { run, job, log: { ...job, step: 0 }, path: `/api/v1/runs/${run.number}/jobs/test%2Funit/steps/0/log` }
}

describe('a node’s worker', () => {
  test('says that it lives and learns which runs do', async () => {
    const { run } = await started()

    expect(await client.alive({ id: 'n1', hostname: 'host' })).toEqual({
      liveRuns: [run.id],
      unproved: [],
    })
    expect((await server.store.nodes.list()).map((node) => node.id)).toEqual(['n1'])
  })

  test('gets the secrets that the job in the plan names, and no others', async () => {
    const { job } = await started()

    expect((await client.secrets(job)).values).toEqual([{ name: 'NPM_TOKEN', value: NPM_TOKEN }])
    expect((await client.secrets({ ...job, job: 'lint' })).values).toEqual([])
    await expect(client.secrets({ ...job, job: 'nobody' })).rejects.toThrow(ServerRefused)
  })

  test('gets no secret for the code of a stranger, whatever the plan of its run names', async () => {
    const admission = admit('pull_request', { origin: 'fork', specChanged: true, approved: false }) as Admitted
    const run = await server.run({}, admission)
    await server.store.runs.setPlan(run.id, PLAN)
    const job = { run: run.id, stage: 'test', job: 'unit', attempt: 1 }
    expect((await client.secrets(job)).values).toEqual([])

    await server.store.runs.admit(run.id, run.change.commit, 'ada', 'api')

    expect((await client.secrets({ ...job, attempt: 2 })).values).toEqual([])
  })

  test('appends to a log, is told where it stands when it does not follow, and closes it', async () => {
    const { run, log } = await started()
    const first = await client.appendLog(log, {
      at: 0,
      rawEnd: 8,
      secretsVersion: 'v1',
      bytes: Buffer.from('one\ntwo\n'),
    })

    const moved = await client
      .appendLog(log, { at: 0, rawEnd: 8, secretsVersion: 'v1', bytes: Buffer.from('x') })
      .catch((err: unknown) => err)
    await client.finishLog(log, { rawBytes: 8, proof: { kind: 'complete' } })

    expect(first).toEqual({ raw: 8, stored: 8, secretsVersion: 'v1', finished: false })
    expect(moved instanceof LogMoved && moved.cursor).toEqual(first)
    expect(await client.logState(log)).toMatchObject({ finished: true })
    const step = (await server.store.runs.byNumber(run.number))?.attempts.find((row) => row.step === 0)
    expect(step?.log).toEqual({ kind: 'complete', bytes: 8, lines: 2 })
  })

  test('keeps what several JUnit files of a job say, each once', async () => {
    const { run, job } = await started()
    const file = (name: string) =>
      Buffer.from(`<testsuite name="s"><testcase name="${name}" classname="c"/></testsuite>`)

    await client.junit(job, 'a.xml', file('a'))
    await client.junit(job, 'b.xml', file('b'))
    await client.junit(job, 'a.xml', file('a'))

    expect((await server.store.results.ofRun(run.id)).map((one) => one.name).sort()).toEqual(['a', 'b'])
  })

  test('stores no secret of the job that its JUnit file repeats, however XML writes it', async () => {
    const { run, job } = await started()
    const entities = [...NPM_TOKEN].map((one) => `&#${one.charCodeAt(0)};`).join('')
    const failure = `<failure message="got ${entities}"></failure>`

    await client.junit(
      job,
      'a.xml',
      Buffer.from(`<testsuite><testcase name="x ${NPM_TOKEN}">${failure}</testcase></testsuite>`),
    )

    expect(await server.store.results.ofRun(run.id)).toMatchObject([{ name: 'x ***', message: 'got ***' }])
  })

  test('is told when it no longer holds its leases', async () => {
    const { job } = await started()

    expect(await client.holdsUnits(job, 'node-1')).toBe(false)
  })

  test('gives up after its patience when nobody answers, at once when it is refused', async () => {
    const nobody = createServerClient({ url: 'http://127.0.0.1:9', token: WORKER_TOKEN, patienceMs: 100 })
    const stranger = createServerClient({ url: server.url, token: 'another-token-of-a-worker' })

    await expect(nobody.alive({ id: 'n', hostname: 'h' })).rejects.toThrow(ServerUnavailable)
    await expect(stranger.alive({ id: 'n', hostname: 'h' })).rejects.toThrow(ServerRefused)
  })
})

describe('a log', () => {
  test('is given whole, in ranges, and from a time on', async () => {
    const { log, path } = await started()
    await client.appendLog(log, { at: 0, rawEnd: 4, secretsVersion: 'v', bytes: Buffer.from('one\n') })
    server.now(60_000)
    await client.appendLog(log, { at: 4, rawEnd: 8, secretsVersion: 'v', bytes: Buffer.from('two\n') })
    const authorization = `Bearer ${await server.token('eve')}`
    const range = async (value: string) => {
      const response = await fetch(`${server.url}${path}`, { headers: { authorization, range: value } })
      return [
        response.status,
        response.headers.get('content-range'),
        response.status === 206 ? await response.text() : '',
      ]
    }

    expect((await server.ask('eve', 'GET', path)).body).toBe('one\ntwo\n')
    expect(await range('bytes=4-')).toEqual([206, 'bytes 4-7/8', 'two\n'])
    expect(await range('bytes=0-2')).toEqual([206, 'bytes 0-2/8', 'one'])
    expect(await range('bytes=-4')).toEqual([206, 'bytes 4-7/8', 'two\n'])
    expect(await range('bytes=8-')).toEqual([416, 'bytes */8', ''])
    expect((await server.ask('eve', 'GET', `${path}?since=2026-01-31T12:01:00Z`)).body).toBe('two\n')
    expect((await server.ask('eve', 'GET', `${path}?timestamps=1`)).body).toBe(
      '2026-01-31T12:00:00.000Z one\n2026-01-31T12:01:00.000Z two\n',
    )
  })

  test('is followed until the step has ended', async () => {
    const { log, path } = await started()
    const authorization = `Bearer ${await server.token('eve')}`
    const response = await fetch(`${server.url}${path}?follow=1&timestamps=1`, { headers: { authorization } })
    await client.appendLog(log, { at: 0, rawEnd: 6, secretsVersion: 'v', bytes: Buffer.from('one\ntw') })
    await client.appendLog(log, { at: 6, rawEnd: 8, secretsVersion: 'v', bytes: Buffer.from('o\n') })
    await client.finishLog(log, { rawBytes: 8, proof: { kind: 'complete' } })

    const text = await response.text()

    expect(text.replace(/^\S+ /gm, '')).toBe('one\ntwo\n')
  })

  test('of a step that never began ends for its follower when the run has ended', async () => {
    const { run, job, path } = await started()
    const { run: _, ...fields } = job
    await client.events(run.id, [
      { key: 'end of job', events: [{ type: 'job.finished.v1', ...fields, outcome: 'errored' }] },
      { key: 'end', events: [{ type: 'run.finished.v1', try: 1, outcome: 'errored' }] },
    ])

    const { status, body } = await server.ask('eve', 'GET', `${path.replace('/0/log', '/1/log')}?follow=1`)

    expect([status, body]).toEqual([200, ''])
  })

  test('is found by the job’s name only where that is unique', async () => {
    const { run } = await started()
    const at = (job: string, step: string) =>
      server.ask('eve', 'GET', `/api/v1/runs/${run.number}/jobs/${job}/steps/${step}/log`)

    expect((await at('unit', '0')).status).toBe(422)
    expect((await at('lint', 'ruff')).status).toBe(200)
    expect((await at('lint', '1')).status).toBe(404)
    expect((await at('nobody', '0')).status).toBe(404)
  })
})

describe('events', () => {
  test('stream until the run has ended, and go on after the last one seen', async () => {
    const { run } = await started()
    const headers = { authorization: `Bearer ${await server.token('eve')}`, accept: 'text/event-stream' }
    const response = await fetch(`${server.url}/api/v1/runs/${run.number}/events`, { headers })
    await client.events(run.id, [{ key: 'end', events: [{ type: 'run.finished.v1', try: 1, outcome: 'failed' }] }])

    const text = await response.text()
    const resumed = await (
      await fetch(`${server.url}/api/v1/runs/${run.number}/events`, { headers: { ...headers, 'last-event-id': '4' } })
    ).text()
    const over = await fetch(`${server.url}/api/v1/runs/${run.number}/events`, {
      headers: { ...headers, 'last-event-id': '5' },
    })

    expect([...text.matchAll(/^event: (.*)$/gm)].map((match) => match[1])).toEqual([
      'run.queued.v1',
      'run.started.v1',
      'job.started.v1',
      'step.started.v1',
      'run.finished.v1',
    ])
    expect(resumed).toMatch(/^id: 5\nevent: run\.finished\.v1\n/)
    expect(over.status).toBe(204)
  })
})

test('runs are listed in pages, newest first', async () => {
  for (let count = 0; count < 5; count++) await server.run()

  const first = await server.ask('eve', 'GET', '/api/v1/runs?limit=2&repo=acme/web')
  const next = /<([^>]+)>; rel="next"/.exec(first.headers.get('link') ?? '')?.[1] ?? ''
  const second = await server.ask('eve', 'GET', next)
  const numbers = (body: unknown) => (body as { runs: { number: number }[] }).runs.map((run) => run.number)

  expect(numbers(first.body)).toEqual([5, 4])
  expect(numbers(second.body)).toEqual([3, 2])
})
