import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'
import type { Outcome } from '../../src/core/outcome.ts'
import { createForges } from '../../src/forge/index.ts'
import { createMirrors } from '../../src/git/mirrors.ts'
import { createAttendant } from '../../src/rules/attendant.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { RunRow, Store } from '../../src/store/types.ts'
import { createRules } from '../../worker/rules.ts'
import { plan } from '../core/report/runs.ts'

const LOG = pino({ level: process.env.PENSTOCK_TEST_LOG ?? 'silent' })
const REPOS = ['api', 'web', 'cli', 'alone'] as const
const FOLLOWS_API = 'on: { upstream: { repo: acme/api } }\nimage: a\ntest: "true"\n'

let dir: string
let store: Store
let now: number
let review: () => Promise<void>
let appends: number

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pst-dependents-'))
  now = Date.now()
  appends = 0
  for (const name of REPOS) await execa('git', ['init', '-q', '--bare', '-b', 'master', bare(name)])
  store = await openStore({ url: `sqlite:${join(dir, 'penstock.db')}`, clock: () => now })
  await open('')
})
afterEach(async () => {
  await store.close()
  await rm(dir, { recursive: true, force: true })
})

const bare = (name: string) => join(dir, `${name}.git`)

/** A control worker with this in the operator's file, beside whatever was before. */
async function open(dependents: string): Promise<void> {
  const file = join(dir, 'penstock.config.yml')
  const repositories = REPOS.map(
    (name) => `
  acme/${name}:
    forge: git
    url: ${bare(name)}
    webhook_secrets: [{ env: HOOK_SECRET }]
    environments: { staging: { url: "http://staging.example" }, production: { approvers: [olga] } }
    ${name === 'api' ? dependents : ''}`,
  )
  await writeFile(file, `people: { olga: { roles: [admin] } }\nrepositories:${repositories.join('')}\n`)
  const config = await loadConfig({ file, env: { PENSTOCK_DATA: dir, HOOK_SECRET: 'a-webhook-secret-for-tests' } })
  const clock = () => now
  const mirrors = createMirrors({ dir: join(dir, 'mirrors') })
  const forges = createForges({ mirrors, url: 'http://ci.test', log: LOG, clock })
  const { repositories: repos } = config
  const rules = createRules({ config, store, forges, mirrors, clock, log: LOG })
  const attendant = createAttendant({ notices: store.notices, repositories: repos, forges, rules, clock, log: LOG })
  review = () => attendant.review()
}

/** What a repository has released. */
async function released(name: string, spec: string): Promise<string> {
  const work = await mkdtemp(join(dir, 'work-'))
  const git = (...args: string[]) => execa('git', args, { cwd: work })
  await git('init', '-q', '-b', 'production')
  await writeFile(join(work, '.penstock.yml'), spec)
  await git('add', '.')
  await git('-c', 'user.name=Ada', '-c', 'user.email=ada@example.org', 'commit', '-q', '-m', 'A release')
  await git('push', '-q', '--force', bare(name), 'production')
  return (await git('rev-parse', 'HEAD')).stdout
}

const COMMIT = 'c'.repeat(40)

/** A candidate of acme/api; with `until`, that stage and those before it have passed. */
async function candidate(until?: string, commit = COMMIT): Promise<RunRow> {
  const change = { commit, ref: 'refs/heads/master' }
  const recorded = await store.deliveries.record(
    { source: 'git', id: `push-${commit}`, bodyDigest: commit, event: 'push' },
    { kind: 'push', repo: 'acme/api', requestedBy: 'ada', change },
    { kind: 'starts', secrets: 'repository', privileged: true },
  )
  if (recorded.kind !== 'run') throw new Error(recorded.kind)
  await store.runs.setPlan(recorded.run.id, plan())
  if (until !== undefined) await passed(recorded.run, until)
  return recorded.run
}

async function passed(run: RunRow, until: string): Promise<void> {
  for (const { name } of plan().stages) {
    await happens(run.id, { type: 'stage.started.v1', stage: name, attempt: 1 })
    await happens(run.id, { type: 'stage.finished.v1', stage: name, attempt: 1, outcome: 'succeeded' })
    if (name === until) return
  }
}

const happens = (run: string, event: Parameters<Store['events']['append']>[2][number]) =>
  store.events.append(run, `test/${++appends}`, [event])
const ends = (run: string, outcome: Outcome) => happens(run, { type: 'run.finished.v1', try: 1, outcome })
const dependents = async () =>
  (await store.runs.list({ limit: 100 })).filter(({ trigger }) => trigger.kind === 'upstream').reverse()
const startedFor = async (run: RunRow) =>
  (await store.events.of(run.id)).flatMap(({ event }) =>
    event.type === 'dependents.started.v1' ? event.dependents : [],
  )

test('a candidate that stands on staging starts the released tip of what follows it, once', async () => {
  const tip = await released('web', FOLLOWS_API)
  await released('alone', 'image: a\ntest: "true"\n')
  const run = await candidate('test')
  await review()
  expect(await dependents()).toEqual([])

  await passed(run, 'staging')
  await review()
  await open('')
  await review()

  expect(await dependents()).toMatchObject([
    {
      repo: 'acme/web',
      trigger: { kind: 'upstream', requestedBy: run.id },
      change: {
        commit: tip,
        ref: 'refs/penstock/upstream/acme/api/1',
        upstream: { repo: 'acme/api', run: run.id, commit: COMMIT, url: 'http://staging.example', deliverables: [] },
      },
    },
  ])
  expect(await startedFor(run)).toEqual([{ repo: 'acme/web', run: 2 }])
})

test('so does one that many newer ones wait behind', async () => {
  await released('web', FOLLOWS_API)
  const run = await candidate()
  for (let i = 0; i < 40; i++) await candidate(undefined, String(i).padStart(40, 'd'))

  await passed(run, 'staging')
  await review()

  expect(await dependents()).toMatchObject([{ repo: 'acme/web', trigger: { requestedBy: run.id } }])
})

test('which branch is followed may be said, and another one starts nothing', async () => {
  await released('web', FOLLOWS_API.replace('acme/api', 'acme/api, branch: develop'))
  await released('cli', FOLLOWS_API.replace('acme/api', 'acme/api, branch: master'))
  await candidate('staging')

  await review()

  expect((await dependents()).map(({ repo }) => repo)).toEqual(['acme/cli'])
})

test('repositories that follow each other are refused by name', async () => {
  await released('web', FOLLOWS_API)
  await released('cli', FOLLOWS_API.replace('acme/api', 'acme/web'))
  await released('api', FOLLOWS_API.replace('acme/api', 'acme/cli'))
  const run = await candidate('staging')

  await review()

  expect(await dependents()).toEqual([])
  expect(await startedFor(run)).toEqual([
    { repo: 'acme/web', refused: 'a cycle: acme/web follows acme/api follows acme/cli follows acme/web' },
  ])
})

test('a candidate starts no more than its operator allows; those that block come first', async () => {
  await open('dependents: { most: 1, blocking: [acme/web] }')
  await released('cli', FOLLOWS_API)
  await released('web', FOLLOWS_API)
  const run = await candidate('staging')

  await review()

  expect((await dependents()).map(({ repo }) => repo)).toEqual(['acme/web'])
  expect(await startedFor(run)).toEqual([
    { repo: 'acme/web', run: 2 },
    { repo: 'acme/cli', refused: 'a candidate of acme/api may start 1 runs' },
  ])
})

describe('what becomes of the candidate', () => {
  beforeEach(async () => {
    await released('web', FOLLOWS_API)
  })

  test.each(['failed', 'errored', 'canceled'] as const)('that %s cancels what tests against it', async (outcome) => {
    const run = await candidate('staging')
    await review()
    await ends(run.id, outcome)

    await review()

    const [dependent] = await dependents()
    expect((await store.runs.get('acme/web', dependent?.number ?? 0))?.cancel).toEqual({
      by: 'penstock',
      reason: expect.stringContaining(`acme/api#1 was ${outcome}`),
    })
  })

  test('that was released leaves them alone', async () => {
    const run = await candidate('staging')
    await review()
    await ends(run.id, 'succeeded')

    await review()

    const [dependent] = await dependents()
    expect((await store.runs.get('acme/web', dependent?.number ?? 0))?.cancel).toBeUndefined()
  })
})

test('a candidate that is tried again has back what went down with it, and keeps what was through', async () => {
  await released('web', FOLLOWS_API)
  await released('cli', FOLLOWS_API)
  const run = await candidate('staging')
  await review()
  const [cli, web] = await dependents()
  await ends(cli?.id ?? '', 'succeeded')
  await ends(run.id, 'failed')
  await review()
  await ends(web?.id ?? '', 'canceled')

  await store.runs.retry(run.id, 1, 'olga')
  await review()
  await review()

  expect((await dependents()).map(({ repo, status, try: number }) => [repo, status, number])).toEqual([
    ['acme/cli', 'succeeded', 1],
    ['acme/web', 'queued', 2],
  ])
})

test('a dependent that takes longer than the upstream gives it is canceled', async () => {
  await open('dependents: { timeout: 5m }')
  await released('web', FOLLOWS_API)
  await candidate('staging')
  await review()

  now += 5 * 60_000 + 1
  await review()

  const [dependent] = await dependents()
  expect((await store.runs.get('acme/web', dependent?.number ?? 0))?.cancel?.reason).toMatch(/longer than the 5 min/)
})
