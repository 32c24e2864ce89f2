import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { sign } from '../../src/forge/signature.ts'
import { createUntoldBranchRule } from '../../src/rules/sweep.ts'
import { HOOK_SECRET, REPO } from '../forge/github.ts'
import { LOG, startTeam, type Team } from './team.ts'

let team: Team
let first: string

const MINUTE = 60_000

beforeEach(async () => {
  team = await startTeam()
  first = await team.hub.push('master')
  await team.settle()
})
afterEach(() => team.stop())

/** What happens while this is done is told by nobody. */
async function silently<T>(act: () => Promise<T>): Promise<T> {
  team.world.webhooks.fault({ kind: 'silent', times: 1 })
  return act()
}

/** The forge is looked at so often, a minute apart. */
async function looks(times = 2): Promise<void> {
  for (let look = 0; look < times; look++) {
    team.pass(MINUTE)
    await team.settle()
  }
}

const commits = async () => (await team.runs()).map(({ change }) => change.commit).toReversed()
const deliveriesOfHook = () => team.world.app()?.hook?.deliveries ?? []
const tip = async (branch: string) =>
  (await team.store.sightings.of(REPO))?.find(({ ref }) => ref === `refs/heads/${branch}`)?.commit

/** What GitHub has on its list, sent by hand, as if it came only now. */
async function arrives(at: number, id = `late-${at}`): Promise<number> {
  const { body = '', event = '' } = deliveriesOfHook()[at] ?? {}
  const { status } = await fetch(team.hookUrl, {
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/json',
      'x-hub-signature-256': sign(Buffer.from(body), HOOK_SECRET),
      'x-github-event': event,
      'x-github-delivery': id,
    },
  })
  return status
}

describe('a delivery that GitHub knows to have failed', () => {
  test('is asked for again, whatever it was: nothing is missing after one look', async () => {
    team.world.webhooks.fault({ kind: 'lost', times: 3 })
    const second = await team.hub.push('master')
    const page = await team.hub.push('page')
    await team.world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })
    await team.settle()
    expect(await commits()).toEqual([first])

    await looks(1)

    expect(await commits()).toEqual([first, second, page, page])
    expect((await team.runs())[1]?.trigger).toMatchObject({ requestedBy: 'ada', change: { pusher: 'ada' } })
  })

  test('comes when the server is there again', async () => {
    team.serverIsDown = true
    const second = await team.hub.push('master')
    await team.world.webhooks.settled()
    team.serverIsDown = false

    await looks(1)

    expect(await commits()).toEqual([first, second])
  })

  test('is asked for until it has come, also when GitHub fails at that, and less and less often', async () => {
    const redeliveries = () => team.hub.calls('POST /app/hook/deliveries/{delivery_id}/attempts')
    team.world.webhooks.fault({ kind: 'lost', times: 1 })
    const page = await team.hub.push('page')
    await team.settle()
    team.hub.github.fault({ kind: 'status', status: 502, times: 2, on: (call) => call.endsWith('/attempts') })
    await looks(1)
    expect([await commits(), redeliveries()]).toEqual([[first], 1])

    team.pass(MINUTE)
    await team.settle()
    expect(redeliveries()).toBe(1)
    await looks(6)

    expect(redeliveries()).toBe(3)
    expect(await commits()).toEqual([first, page])
  })

  test('is left alone where it was refused for what it is', async () => {
    const delivery = deliveriesOfHook()[0]
    if (delivery) delivery.code = 422

    await looks(2)

    expect(team.hub.calls('POST /app/hook/deliveries/{delivery_id}/attempts')).toBe(0)
  })
})

describe('a push that nobody told of', () => {
  test('has its run at the second look, from where and by whom GitHub has it', async () => {
    const second = await silently(() => team.hub.push('master'))
    await looks(1)
    expect(await commits()).toEqual([first])

    await looks(1)

    expect(await commits()).toEqual([first, second])
    expect((await team.runs())[0]?.trigger).toMatchObject({
      kind: 'push',
      requestedBy: 'ada',
      change: { before: first, pusher: 'ada', ref: 'refs/heads/master' },
    })
    await looks(3)
    expect(await commits()).toEqual([first, second])
  })

  test.each(['master', 'production', 'page'])('to %s, which may be new, has one, too', async (branch) => {
    const commit = await silently(() => team.hub.push(branch, first))

    await looks()

    expect(await commits()).toEqual([first, commit])
  })

  test('and the delivery that comes after all are one run; those before it do not turn the branch back', async () => {
    team.world.webhooks.fault({ kind: 'lost', times: 3 })
    const passed = [await team.hub.push('master'), await team.hub.push('master')]
    const newest = await team.hub.push('master')
    await team.world.webhooks.settled()
    team.hub.github.fault({
      kind: 'status',
      status: 500,
      times: 50,
      on: (call) => call.includes('/app/hook/deliveries'),
    })
    await looks(3)
    expect(await commits()).toEqual([first, newest])

    expect([await arrives(1), await arrives(3), await arrives(2)]).toEqual([202, 200, 202])
    expect(await tip('master')).toBe(newest)
    await arrives(1, 'copy of 1')
    await arrives(2, 'copy of 2')
    await arrives(3, 'copy of 3')
    await looks()

    expect(await commits()).toEqual([first, newest, ...passed])
    expect(await tip('master')).toBe(newest)
  })

  test('is one run when several look at once', async () => {
    const rules = [1, 2, 3].map(() => {
      const { deliveries, sightings } = team.store
      return createUntoldBranchRule({ deliveries, sightings, clock: team.clock, log: LOG })
    })
    const kept = { repository: team.config.repositories[REPO] as never, forge: team.forge }
    const second = await silently(() => team.hub.push('master'))
    for (let look = 0; look < 2; look++) {
      team.pass(MINUTE)
      await Promise.all(rules.map((rule) => rule.review?.(kept)))
    }

    expect(await commits()).toEqual([first, second])
  })

  test('waits while GitHub asks to be left alone, and is found after that', async () => {
    const second = await silently(() => team.hub.push('master'))
    const asked = () => team.hub.github.exchanges.length
    team.pass(MINUTE)
    team.hub.github.fault({ kind: 'too_many', retryAfter: 300, times: 100 })
    await team.settle()
    const before = asked()
    await looks(4)
    expect(asked()).toBe(before)
    team.hub.github.clearFaults()

    await looks(4)

    expect(await commits()).toEqual([first, second])
  })

  test('to a branch of a promotion or of a merge queue is none of ours', async () => {
    await silently(() => team.hub.push('penstock/promote/7', first))
    await silently(() => team.hub.push('gh-readonly-queue/master/pr-1', first))

    await looks(3)

    expect(await commits()).toEqual([first])
  })

  test('costs nothing of the limit while nothing changes', async () => {
    await looks(2)
    const before = team.hub.github.exchanges.length
    await looks(1)

    const since = team.hub.github.exchanges.slice(before).filter(({ template }) => template?.includes('{repo}'))
    expect(since.map(({ template }) => template)).toContain('/repos/{owner}/{repo}/branches')
    expect(since.filter(({ notModified }) => !notModified)).toEqual([])
  })
})

test('a branch whose end nobody told of may come again with the same commit, and that is news', async () => {
  const page = await team.hub.push('page')
  await team.settle()
  await silently(() => team.world.removeBranch(REPO, 'page', 'ada'))
  await looks()
  expect(await tip('page')).toBeUndefined()

  const before = await team.runs()
  // GitHub's time of a push has seconds: within one of them the second push would be taken for a copy.
  await new Promise((resolve) => setTimeout(resolve, 1_100))
  await team.forge.branches?.create('page', page)
  await team.settle()

  expect(await team.runs()).toHaveLength(before.length + 1)
})

test('the head of a pull request that nobody told of has its run; a fork’s, too, without secrets', async () => {
  await team.hub.push('page')
  await team.settle()
  const opened = await silently(() =>
    team.world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' }),
  )
  await team.world.addRepository('mallory/web', { parent: REPO })
  await team.world.push('mallory/web', 'evil', { by: 'mallory', message: 'x', files: { x: 'x' } })
  await silently(() => team.world.openPull(REPO, { by: 'mallory', head: 'mallory:evil', base: 'master', title: 'Hi' }))

  await looks(3)

  const pulls = (await team.runs()).filter(({ trigger }) => trigger.kind === 'pull_request')
  expect(pulls.map(({ change, secrets }) => [change.pullRequest?.number, secrets])).toEqual([
    [opened.number + 1, 'none'],
    [opened.number, 'repository'],
  ])
  const rows = await team.store.deliveries.list({ limit: 50, repo: REPO })
  expect(rows.filter(({ source }) => source === 'sweep').map(({ notice }) => notice?.about)).toEqual(
    expect.arrayContaining([
      { kind: 'pull_request', number: 1 },
      { kind: 'pull_request', number: 2 },
    ]),
  )
  expect(rows.filter(({ source }) => source === 'sweep')).toHaveLength(2)
})

test('what an old repository has at the first sight starts nothing; what comes to it later does', async () => {
  const old = await startTeam()
  try {
    for (const branch of ['master', 'production', 'one', 'two']) {
      old.world.webhooks.fault({ kind: 'silent', times: 1 })
      await old.hub.push(branch)
    }
    old.world.webhooks.fault({ kind: 'silent', times: 1 })
    await old.world.openPull(REPO, { by: 'ada', head: 'one', base: 'master', title: 'Old' })
    for (let look = 0; look < 4; look++) {
      await old.settle()
      old.pass(MINUTE)
    }
    expect(await old.runs()).toEqual([])

    old.world.webhooks.fault({ kind: 'silent', times: 2 })
    const news = await old.hub.push('one')
    for (let look = 0; look < 3; look++) {
      await old.settle()
      old.pass(MINUTE)
    }

    expect((await old.runs()).map(({ trigger, change }) => [trigger.kind, change.commit])).toEqual(
      expect.arrayContaining([
        ['push', news],
        ['pull_request', news],
      ]),
    )
    expect(await old.runs()).toHaveLength(2)
  } finally {
    await old.stop()
  }
})
