import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import type { Fault } from '../../src/embedded/fake-github/faults.ts'
import type { FakeGithubOptions } from '../../src/embedded/fake-github/server.ts'
import { within } from '../../src/forge/deadline.ts'
import { createGithubForge } from '../../src/forge/github/forge.ts'
import { ForgeAnswerUnusable, ForgeBusy } from '../../src/forge/types.ts'
import { createMirrors } from '../../src/git/mirrors.ts'
import { ALL_PERMISSIONS, type Hub, installedApp, REPO, startHub, TOKEN } from './github.ts'

const UPDATE_REF = 'PATCH /repos/{owner}/{repo}/git/refs/{ref}'
const GET_REF = 'GET /repos/{owner}/{repo}/git/ref/{ref}'
const NEW_STATUS = 'POST /repos/{owner}/{repo}/statuses/{sha}'
const NEW_TOKEN = 'POST /app/installations/{installation_id}/access_tokens'

let hub: Hub

async function start(options: Partial<FakeGithubOptions> = {}): Promise<Hub> {
  hub = await startHub(options)
  return hub
}

afterEach(() => hub.github.stop())

function status(commit: string) {
  return { commit, context: 'penstock/test', state: 'success', description: 'passed' } as const
}

describe('as an App', () => {
  test('one token is asked for, with no more than is used, and good for this repository only', async () => {
    await start()
    const forge = hub.forge(installedApp(hub, { ...ALL_PERMISSIONS, members: 'write', administration: 'write' }))
    const commit = await hub.push('master')

    await forge.branchTip('master')
    await forge.statuses?.set(status(commit))
    await forge.source()

    expect(hub.calls(NEW_TOKEN)).toBe(1)
    const asked = hub.github.exchanges.find((one) => one.template === NEW_TOKEN.split(' ')[1])
    expect(asked?.requestBody).toEqual({
      repositories: ['web'],
      permissions: {
        metadata: 'read',
        contents: 'write',
        pull_requests: 'write',
        statuses: 'write',
        checks: 'write',
        deployments: 'write',
        workflows: 'write',
        administration: 'read',
      },
    })
  })

  test('an installation that was granted less works as far as that goes', async () => {
    await start()
    const forge = hub.forge(installedApp(hub, { metadata: 'read', contents: 'read' }))
    const commit = await hub.push('master')

    expect(await forge.branchTip('master')).toBe(commit)
    await expect(forge.statuses?.set(status(commit))).rejects.toMatchObject({ status: 403 })
  })

  test('a private repository is fetched with the token of the installation, which stands in no address', async () => {
    await start()
    ;(hub.github.world.repo(REPO) as { private: boolean }).private = true
    const commit = await hub.push('master')
    const source = await hub.forge(installedApp(hub)).source()

    await createMirrors({ dir: `${hub.github.world.dir}/mirrors` }).ensure(REPO, source, commit)

    expect(source.url).toBe(`${hub.github.url}/${REPO}.git`)
    expect(Buffer.from(source.auth?.split(' ').at(-1) ?? '', 'base64').toString()).toMatch(/^x-access-token:ghs_/)
  })

  test('somebody else’s key opens nothing', async () => {
    await start()
    const { privateKey } = installedApp(hub) as { privateKey: string }
    const other = installedApp(hub) as { id: string }

    const forge = hub.forge({ kind: 'app', id: other.id, privateKey })

    await expect(forge.branchTip('master')).rejects.toMatchObject({ status: 401 })
  })
})

describe('checks', () => {
  const check = {
    name: 'test',
    key: 'acme/web#1/test/1',
    title: '3 tests failed',
    summary: 'of 500',
    text: 'the last lines',
    url: 'http://ci.test/1',
    actions: [{ id: 'retry', label: 'Run the stage again', description: 'What has passed is not run again' }],
  } as const
  const annotations = Array.from({ length: 120 }, (_, index) => ({
    path: 'test/a.py',
    line: index + 1,
    level: 'failure' as const,
    message: `wrong ${index}`,
  }))

  test('120 annotations go in batches of 50, and the check ends with the last of them', async () => {
    await start()
    const forge = hub.forge(installedApp(hub))
    const commit = await hub.push('master')

    const answer = await forge.checks?.put({ ...check, commit, state: 'failure', annotations })

    const [run, ...others] = hub.github.world.repo(REPO).checks
    expect(answer).toEqual({ kind: 'put', id: String(run?.id) })
    expect(others).toEqual([])
    expect(run?.annotations.map((one) => one.message)).toEqual(annotations.map((one) => one.message))
    const sent = hub.github.exchanges.flatMap(({ requestBody }) => {
      const body = requestBody as { output?: { annotations: readonly unknown[] }; status: string } | undefined
      return body?.output === undefined ? [] : [[body.output.annotations.length, body.status]]
    })
    expect(sent).toEqual([
      [50, 'in_progress'],
      [50, 'in_progress'],
      [20, 'completed'],
    ])
  })

  test('a repetition after a lost answer changes the check that is there, and doubles no annotation', async () => {
    await start()
    const forge = hub.forge(installedApp(hub))
    const commit = await hub.push('master')
    const wanted = { ...check, commit, state: 'failure', annotations } as const
    hub.github.fault({ kind: 'cut', after: true, on: (template) => template.startsWith('PATCH') })

    await expect(forge.checks?.put(wanted)).rejects.toThrow()
    await forge.checks?.put(wanted)
    await forge.checks?.put(wanted)

    expect(hub.github.world.repo(REPO).checks).toHaveLength(1)
    expect(hub.github.world.repo(REPO).checks[0]).toMatchObject({ status: 'completed', conclusion: 'failure' })
    expect(hub.github.world.repo(REPO).checks[0]?.annotations).toHaveLength(120)
  })

  test('a token has none: GitHub gives them to Apps only', async () => {
    await start()

    expect(hub.forge().checks).toBeUndefined()
  })
})

describe('a GitHub in trouble', () => {
  test('a question is asked a second time after a 502, a change is not', async () => {
    await start()
    const commit = await hub.push('master')
    hub.github.fault({ kind: 'status', status: 502, on: (template) => template === GET_REF })

    expect(await hub.forge().branchTip('master')).toBe(commit)

    hub.github.fault({ kind: 'status', status: 502, times: 2, on: (template) => template === NEW_STATUS })
    await expect(hub.forge().statuses?.set(status(commit))).rejects.toMatchObject({ status: 502 })
    expect(hub.github.exchanges.filter((one) => one.method === 'POST')).toHaveLength(1)
  })

  test('a question is asked a second time after a change, too', async () => {
    await start()
    const commit = await hub.push('master')
    const forge = hub.forge()
    await forge.statuses?.set(status(commit))
    hub.github.fault({ kind: 'status', status: 502, on: (template) => template === GET_REF })

    expect(await forge.branchTip('master')).toBe(commit)
  })

  test.each<[string, Fault]>([
    ['429', { kind: 'too_many', retryAfter: 40 }],
    ['a secondary limit', { kind: 'secondary_limit', retryAfter: 40 }],
  ])('%s is told as a wish to wait, and not asked again before', async (_, fault) => {
    await start()
    const commit = await hub.push('master')
    hub.github.fault(fault)

    const failure = await hub
      .forge()
      .statuses?.set(status(commit))
      .catch((err: unknown) => err)

    expect(failure).toBeInstanceOf(ForgeBusy)
    expect(failure).toMatchObject({ retryAfterMs: 40_000 })
    expect(hub.github.exchanges).toHaveLength(1)
  })

  test('a secondary limit that names no time is one of a minute, and no missing permission', async () => {
    await start()
    const commit = await hub.push('master')
    hub.github.fault({ kind: 'secondary_limit', on: (template) => template.startsWith('POST') })
    const wanted = { commit, environment: 'staging', key: 'run 1', production: false, description: 'run 1' }

    await expect(hub.forge().deployments?.put(wanted)).rejects.toMatchObject({ retryAfterMs: 60_000 })
    expect(hub.logged).toEqual([])
  })

  test('a status is taken once the forge says so, or shows it', async () => {
    await start()
    const commit = await hub.push('master')
    const isNew = (template: string) => template === NEW_STATUS
    hub.github.fault({ kind: 'wrong_bytes', on: isNew })

    await expect(hub.forge().statuses?.set(status(commit))).rejects.toThrow(ForgeAnswerUnusable)

    hub.github.fault({ kind: 'wrong_bytes', after: true, on: isNew })
    await hub.forge().statuses?.set(status(commit))
    expect(hub.github.world.repo(REPO).statuses).toHaveLength(1)
  })

  test('what has taken too long is not gone on with: nothing of it is sent later', async () => {
    await start()
    const forge = hub.forge()
    const commit = await hub.push('master')
    const wanted = { commit, environment: 'staging', key: 'run 1', production: false, description: 'run 1' }
    hub.github.fault({ kind: 'slow', ms: 300, on: (template) => template.startsWith('GET') })

    await expect(within(200, async () => forge.deployments?.put(wanted))).rejects.toThrow()
    await forge.branchTip('master')
    expect(hub.github.world.repo(REPO).deployments).toEqual([])

    expect(await within(10_000, async () => forge.deployments?.put(wanted))).toMatchObject({ kind: 'put' })
  })

  test('a wish to wait for a second is obeyed on the spot', async () => {
    await start()
    const commit = await hub.push('master')
    hub.github.fault({ kind: 'secondary_limit', retryAfter: 1 })

    await hub.forge().statuses?.set(status(commit))

    expect(hub.github.world.repo(REPO).statuses).toHaveLength(1)
  })

  test('wrong bytes are no answer, and never taken for one', async () => {
    await start()
    await hub.push('master')
    hub.github.fault({ kind: 'wrong_bytes' })

    await expect(hub.forge().branchTip('master')).rejects.toThrow(ForgeAnswerUnusable)
  })

  test('a fast-forward whose answer was lost is judged by the ref', async () => {
    await start()
    const first = await hub.push('master')
    await hub.forge().fastForward('production', first)
    const second = await hub.push('master')
    hub.github.fault({ kind: 'cut', after: true, on: (template) => template === UPDATE_REF })

    expect(await hub.forge().fastForward('production', second)).toEqual({ kind: 'moved', from: first })
  })

  test('a fast-forward that failed before it had an effect rises', async () => {
    await start()
    const first = await hub.push('master')
    await hub.forge().fastForward('production', first)
    const second = await hub.push('master')
    hub.github.fault({ kind: 'status', status: 500, on: (template) => template === UPDATE_REF })

    await expect(hub.forge().fastForward('production', second)).rejects.toMatchObject({ status: 500 })
    expect(await hub.forge().branchTip('production')).toBe(first)
  })

  test('a pull request whose opening was answered by nobody is found by the next call', async () => {
    await start()
    const first = await hub.push('master')
    await hub.push('promote/1', first)
    const wanted = { head: 'promote/1', base: 'master', title: 'Promote', body: 'One change' }
    hub.github.fault({ kind: 'status', status: 502, after: true, on: (template) => template.startsWith('POST') })

    await expect(hub.forge().pullRequests?.put(wanted)).rejects.toMatchObject({ status: 502 })
    const pull = await hub.forge().pullRequests?.put(wanted)

    expect(pull?.number).toBe(1)
    expect(hub.github.world.repo(REPO).pulls).toHaveLength(1)
  })
})

describe('the token', () => {
  test('is not taken along by a redirect', async () => {
    await start()
    const seen: (string | undefined)[] = []
    const elsewhere = createServer((request, response) => {
      seen.push(request.headers.authorization)
      response.end('{}')
    })
    const here = createServer((_request, response) => {
      const { port } = elsewhere.address() as AddressInfo
      response.writeHead(302, { location: `http://127.0.0.1:${port}/` }).end()
    })
    for (const one of [elsewhere, here]) await new Promise<void>((resolve) => one.listen(0, '127.0.0.1', resolve))
    const forge = createGithubForge({
      repo: REPO,
      api: `http://127.0.0.1:${(here.address() as AddressInfo).port}`,
      access: { kind: 'token', token: TOKEN },
      url: '/srv/git/web.git',
      hook: hub.hook,
      branches: { candidate: 'master', production: 'production' },
      log: { warn: () => {} },
      clock: Date.now,
    })

    await expect(forge.statuses?.set(status('a'.repeat(40)))).rejects.toThrow()

    expect(seen).toEqual([])
    for (const one of [elsewhere, here]) one.close()
  })

  test('goes to https only: a path or an ssh address has credentials of its own', async () => {
    await start()
    const forge = createGithubForge({
      repo: REPO,
      api: hub.github.url,
      access: { kind: 'token', token: TOKEN },
      url: 'ssh://git@github.example/acme/web.git',
      hook: hub.hook,
      branches: { candidate: 'master', production: 'production' },
      log: { warn: () => {} },
      clock: Date.now,
    })

    expect(await forge.source()).toEqual({ url: 'ssh://git@github.example/acme/web.git' })
  })
})

test('what was asked before is asked with its ETag, and answered from before when nothing changed', async () => {
  await start()
  await hub.push('page', await hub.push('master'))
  await hub.github.world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })
  const forge = hub.forge()

  const first = await forge.pullRequests?.open()
  const same = await forge.pullRequests?.open()
  hub.github.world.label(REPO, 1, 'ship', 'ada')
  const changed = await forge.pullRequests?.open()

  expect(same).toEqual(first)
  expect(changed?.[0]?.labels).toEqual(['ship'])
  expect(hub.github.exchanges.map((one) => one.notModified)).toEqual([false, true, false])
})

describe('a server that speaks GitHub’s API but offers less', () => {
  test('has no deployments: that is said once, and tried again after an hour', async () => {
    let lacks = true
    await start({ lesser: { without: (template) => lacks && template.includes('/deployments') } })
    const forge = hub.forge()
    const commit = await hub.push('master')
    const wanted = { commit, environment: 'staging', key: 'run 1', production: false, description: 'run 1' }

    const answers = [await forge.deployments?.put(wanted), await forge.deployments?.put(wanted)]
    const asked = hub.github.exchanges.length
    hub.ahead = 3_600_001
    await forge.deployments?.put(wanted)
    lacks = false
    hub.ahead = 7_200_002
    const there = await forge.deployments?.put(wanted)

    expect(answers).toEqual([{ kind: 'absent' }, { kind: 'absent' }])
    expect(asked).toBe(1)
    expect(hub.logged).toHaveLength(1)
    expect(hub.logged[0]).toMatchObject({ fields: { what: 'deployments' } })
    expect(there?.kind).toBe('put')
  })

  test('has no checks, or did not grant them: statuses carry the rest', async () => {
    await start({ lesser: { without: (template) => template.includes('check-runs') } })
    const forge = hub.forge(installedApp(hub))
    const commit = await hub.push('master')
    const check = { commit, name: 'test', key: 'k', state: 'success', title: 't', summary: 's' } as const

    const answer = await forge.checks?.put(check)
    await forge.statuses?.set(status(commit))

    expect(answer).toEqual({ kind: 'absent' })
    expect(hub.github.world.repo(REPO).statuses).toHaveLength(1)
  })

  test('answers with another success code and with fewer fields', async () => {
    await start({
      lesser: {
        reshape(template, reply) {
          if (template === NEW_STATUS) return { ...reply, status: 200 }
          if (!template.endsWith('/pulls/{pull_number}')) return reply
          const { labels: _, draft: __, merged: ___, html_url: ____, ...rest } = reply.body as Record<string, unknown>
          return { ...reply, body: rest }
        },
      },
    })
    const first = await hub.push('master')
    await hub.push('page', first)
    await hub.github.world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })

    await hub.forge().statuses?.set(status(first))

    expect(await hub.forge().pullRequests?.get(1)).toMatchObject({ draft: false, merged: false, labels: [], url: '' })
  })

  test('a failure that is none of lacking is never taken for it', async () => {
    await start()
    const commit = await hub.push('master')
    hub.github.fault({ kind: 'status', status: 500, times: 2 })
    const wanted = { commit, environment: 'staging', key: 'run 1', production: false, description: 'run 1' }

    await expect(hub.forge().deployments?.put(wanted)).rejects.toMatchObject({ status: 500 })
    expect(hub.logged).toEqual([])
  })
})

test('a list that grows past a full page is read to its end, though its first page is as it was', async () => {
  const hub = await startHub({ maxPage: 10 })
  const first = await hub.push('master')
  await hub.push('page', first)
  const { number } = await hub.github.world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })
  const forge = hub.forge()
  const labels = async () => (await forge.pullRequests?.labeled(number, 'ship'))?.by
  for (let label = 1; label <= 10; label++) hub.github.world.label(REPO, number, `label ${label}`, 'ada')
  const before = await labels()
  hub.github.world.label(REPO, number, 'ship', 'ada')

  expect([before, await labels()]).toEqual([undefined, 'ada'])
  await hub.github.stop()
})
