import { Client, Connection } from '@temporalio/client'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { LABELS } from '../../src/core/ids.ts'
import { BASE_IMAGES } from '../../src/embedded/images.ts'
import type { GateRow, RunDetail } from '../../src/store/types.ts'
import { REPO, type System, startSystem } from '../helpers/system.ts'

let system: System
beforeAll(async () => {
  system = await startSystem({
    repository: `    secrets: { DEPLOY_KEY: { env: TEST_DEPLOY_KEY } }
    environments:
      staging: { url: "http://staging.example" }
      production: { approvers: ["role:approver", ada], quorum: 1, expires: 7d }`,
    config: `pools:
  rig: { units: { rig-1: { labels: [arch=arm64], properties: { address: 10.0.0.5 } } } }`,
    env: { TEST_DEPLOY_KEY: 'hunter2-hunter2' },
  })
}, 240_000)
afterAll(() => system?.dispose(), 60_000)

const spec = (text: string) => ({ '.penstock.yml': `image: ${BASE_IMAGES.base}\n${text}` })
const CANDIDATE = `
test: echo tested
e2e: echo exercised $STAGING_URL
deploy:
  staging: echo to staging
  production: echo to production
`

async function openGate(number: number): Promise<GateRow> {
  return system.until(`the gate of run ${number}`, async () => {
    const [gate] = await system.gates(number)
    return gate?.state === 'open' && (await system.run(number)).status === 'waiting' ? gate : undefined
  })
}

/** The command line, as a person uses it. */
function penstock(as: keyof System['tokens'], ...args: string[]) {
  return execa(process.execPath, ['dist/src/cli/main.js', ...args], {
    env: { PENSTOCK_URL: system.url, PENSTOCK_TOKEN: system.tokens[as] },
    reject: false,
  })
}

async function stagesOf(number: number): Promise<Record<string, string | undefined>> {
  const { progress } = await system.run(number)
  return Object.fromEntries(Object.entries(progress.stages).map(([name, stage]) => [name, stage.outcome]))
}

async function leftOvers(): Promise<string[]> {
  // Whatever its kind: everything is made with the installation's label, and with the run's, unless it serves all runs.
  const filters = ['--filter', `label=${LABELS.instance}=${system.instance}`, '--filter', `label=${LABELS.run}`]
  const list = (...args: string[]) => execa('docker', [...args, '-q', ...filters])
  const found = await Promise.all([
    list('ps', '-a'),
    list('service', 'ls'),
    list('volume', 'ls'),
    list('network', 'ls'),
    list('secret', 'ls'),
  ])
  return found.flatMap((one) => one.stdout.split('\n').filter((line) => line !== ''))
}

describe('a run', () => {
  it('takes a pushed commit through its test stage, with its variables and a usable checkout', async () => {
    const number = await system.push(
      spec('test:\n  - echo hello $CI_BRANCH\n  - test -d .git\n  - echo "run $CI_RUN_NUMBER"\n'),
      'feature',
    )

    const run = await system.ended(number)

    expect(run).toMatchObject({ status: 'succeeded' })
    const steps = run.attempts.filter((row) => row.step !== undefined)
    expect(steps).toMatchObject([{ log: { kind: 'complete' } }])
    expect(await system.log(number, 'test')).toContain(`hello feature\n`)
    expect(await system.log(number, 'test')).toContain(`run ${number}\n`)
  }, 90_000)

  it('tells a failure of the user’s code from one of ours', async () => {
    const failed = await system.push(spec('test: exit 3\n'), 'red')
    const errored = await system.push({ '.penstock.yml': 'image: registry.invalid/none:1\ntest: "true"\n' }, 'missing')
    const wrong = await system.push({ '.penstock.yml': 'image: x\ntst: "true"\n' }, 'typo')

    expect(await system.ended(failed)).toMatchObject({
      status: 'failed',
      reason: expect.stringContaining('exit code 3'),
    })
    expect(await system.ended(errored)).toMatchObject({
      status: 'errored',
      reason: expect.stringContaining('registry.invalid/none:1'),
    })
    expect(await system.ended(wrong)).toMatchObject({
      status: 'failed',
      reason: expect.stringContaining('did you mean "test"'),
    })
  }, 120_000)

  it('ends soon where the commit is not in the repository', async () => {
    const answer = await system.deliver({ branch: 'gone', after: 'a'.repeat(40) })
    const { run } = (await answer.json()) as { run: number }

    expect(await system.ended(run)).toMatchObject({
      status: 'errored',
      reason: expect.stringContaining('has no commit aaaa'),
    })
  }, 90_000)

  it('ends a job at once that removes Penstock’s files, and one that stops what keeps its time limit', async () => {
    const removed = await system.push(spec('test: rm -rf /.penstock/control/*; sleep 100\n'), 'removes')
    const stopped = await system.push(spec('timeout: 1s\ntest: kill -STOP $PPID; sleep 100\n'), 'stops')

    expect(await system.ended(removed)).toMatchObject({ status: 'failed', reason: expect.stringContaining('tampered') })
    expect(await system.ended(stopped)).toMatchObject({
      status: 'failed',
      reason: expect.stringContaining('time limit'),
    })
  }, 120_000)

  it('runs the jobs of a stage as their needs allow, and skips what can no longer start', async () => {
    const number = await system.push(
      spec('test:\n  build: exit 1\n  unit: { needs: [build], run: echo never }\n  lint: echo linted\n'),
      'needs',
    )

    const run = await system.ended(number)

    expect(run.status).toBe('failed')
    const jobs = run.attempts.filter((one) => one.job !== undefined && one.step === undefined)
    expect(Object.fromEntries(jobs.map((one) => [one.job, one.outcome]))).toMatchObject({
      build: 'failed',
      lint: 'succeeded',
    })
    expect(jobs.map((one) => one.job)).not.toContain('unit')
  }, 90_000)

  it('masks a secret in the log, and gives it to the step as file and, if asked, variable', async () => {
    const number = await system.push(
      spec(
        'test:\n  unit:\n    secrets: { DEPLOY_KEY: env }\n    run:\n      - echo "key is $DEPLOY_KEY"\n      - wc -c < "$DEPLOY_KEY_FILE"\n',
      ),
      'secret',
    )

    const run = await system.ended(number)

    expect(run.status).toBe('succeeded')
    const log = await system.log(number, 'unit')
    expect(log).toContain('key is ***\n')
    expect(log).toContain('15\n')
    expect(log).not.toContain('hunter2')
  }, 90_000)
})

describe('the branching model', () => {
  it('takes a candidate to the gate, an approval to the production branch, and the release to its deployment', async () => {
    const number = await system.push(spec(CANDIDATE))
    const gate = await openGate(number)
    const commit = gate.subject.commit

    const own = await penstock('ada', 'approve', String(number))
    expect([own.exitCode, own.stderr]).toEqual([4, expect.stringMatching(/wrote or pushed/)])
    const approved = await penstock('tess', 'approve', String(number), '--comment', 'fine')
    expect([approved.stdout, approved.exitCode]).toEqual(['your vote counts; the gate is approved', 0])
    const run = await system.ended(number)

    expect(run.status).toBe('succeeded')
    expect(await stagesOf(number)).toEqual({
      test: 'succeeded',
      staging: 'succeeded',
      e2e: 'succeeded',
      signoff: 'succeeded',
      promote: 'succeeded',
    })
    const { stdout } = await execa('git', ['ls-remote', system.bare, 'refs/heads/production'])
    expect(stdout.slice(0, 40)).toBe(commit)
    const release = (await system.runs()).find((one) => one.change.ref === 'refs/heads/production')
    expect(release?.change.commit).toBe(commit)
    expect(await system.ended(release?.number ?? 0)).toMatchObject({ status: 'succeeded' })
    expect(await system.log(release?.number ?? 0, 'production')).toContain('to production\n')
    // The forge's own delivery of that push means the same.
    const again = await system.deliver({ branch: 'production', after: commit })
    expect(await again.json()).toMatchObject({ duplicate: 'meaning', run: release?.number })
  }, 120_000)

  it('lets a rejection fail the run with its reason', async () => {
    const number = await system.push(spec(CANDIDATE))
    await openGate(number)

    const rejected = await penstock('tess', 'reject', String(number), '--comment', 'the logo is blue')

    expect([rejected.stdout, rejected.exitCode]).toEqual(['your vote counts; the gate is rejected', 0])

    expect(await system.ended(number)).toMatchObject({
      status: 'failed',
      reason: expect.stringContaining('the logo is blue'),
    })
  }, 120_000)

  it('takes a signal sent to Temporal by anybody as a vote only with the token of a person who may vote', async () => {
    const number = await system.push(spec(CANDIDATE))
    const gate = await openGate(number)
    const token = await penstock('tess', 'vote-token', String(number))
    const connection = await Connection.connect({ address: system.embedded.addresses.temporal })
    const workflow = new Client({ connection }).workflow.getHandle(`${REPO}#${number}`)

    await workflow.signal('approve', { who: 'tess', comment: 'trust me' })
    await workflow.signal('approve', { who: 'theo', token: 'made up' })
    const refused = await system.until('both to be judged', async () => {
      const votes = (await system.gates(number))[0]?.votes ?? []
      return votes.length === 2 && votes
    })
    await workflow.signal('approve', { who: 'tess', comment: 'by signal', token: token.stdout })
    const run = await system.ended(number)
    await connection.close()

    expect(refused.map((vote) => vote.counts)).toEqual([false, false])
    expect(gate.state).toBe('open')
    expect(run.status).toBe('succeeded')
    const [after] = await system.gates(number)
    expect(after?.votes.filter((vote) => vote.counts)).toMatchObject([{ by: 'tess', comment: 'by signal' }])
  }, 120_000)

  it('refuses a push to production that passed no candidate run, until an operator overrides it', async () => {
    const number = await system.push(spec(CANDIDATE), 'production')

    expect(await system.ended(number)).toMatchObject({
      status: 'failed',
      reason: expect.stringContaining('did not pass a candidate run'),
    })
    await system.call('POST', `/runs/${number}/override`, { body: { reason: 'hot fix, approved by phone' } })
    await system.call('POST', `/runs/${number}/retry`, { body: {} })

    const run = await system.until('the second try', async () => {
      const now = await system.run(number)
      return now.try === 2 && now.status === 'succeeded' ? now : undefined
    })
    expect(run.override).toMatchObject({ by: 'olga', reason: 'hot fix, approved by phone' })
  }, 120_000)

  it('gives staging to one candidate until the decision; those that wait coalesce to the newest', async () => {
    const first = await system.push(spec(CANDIDATE))
    const gate = await openGate(first)
    const second = await system.push(spec(CANDIDATE))
    await system.until('the second to wait', async () => (await system.run(second)).waiting?.kind === 'environment')
    const third = await system.push(spec(CANDIDATE))

    const superseded = await system.ended(second)

    expect(superseded).toMatchObject({ status: 'canceled', reason: expect.stringContaining(`#${third}`) })
    expect((await system.run(first)).status).toBe('waiting')
    await system.call('POST', `/runs/${first}/gates/${gate.name}/reject`, { as: 'tess', body: { comment: 'no' } })
    await openGate(third)
    await system.call('POST', `/runs/${third}/cancel`, { body: { reason: 'enough' } })
    expect(await system.ended(third)).toMatchObject({ status: 'canceled', reason: 'canceled by olga: enough' })
  }, 180_000)
})

describe('retry and cancel', () => {
  it('runs the failed stage again and nothing that had passed', async () => {
    // Fails in its first attempt only.
    const flaky = 'test "$CI_ATTEMPT" -gt 1'
    const number = await system.push(
      spec(`test: echo once\ne2e:\n  good: echo good\n  flaky: ${flaky}\ndeploy:\n  staging: echo to staging\n`),
    )
    const before = await system.ended(number)
    expect(before.status).toBe('failed')

    await system.call('POST', `/runs/${number}/retry`, { body: {} })
    const after = await system.until('the second try', async () => {
      const now = await system.run(number)
      return now.try === 2 && now.status === 'succeeded' ? now : undefined
    })

    const rows = (run: RunDetail, job: string) => run.attempts.filter((one) => one.job === job)
    expect(rows(after, 'test')).toEqual(rows(before, 'test'))
    expect(rows(after, 'good')).toEqual(rows(before, 'good'))
    expect(rows(after, 'staging')).toEqual(rows(before, 'staging'))
    expect(
      rows(after, 'flaky')
        .filter((one) => one.step === undefined)
        .map((one) => one.outcome),
    ).toEqual(['failed', 'succeeded'])
    await expect(system.call('POST', `/runs/${number}/retry`, { body: {} })).rejects.toThrow(/409/)
  }, 120_000)

  it('lets a canceled step end by SIGTERM, and records who and why', async () => {
    const number = await system.push(
      spec(`test:\n  - "trap 'echo got TERM; exit 0' TERM; echo begun; while :; do sleep 0.1; done"\n`),
      'cancel',
    )
    await system.until('the step to begin', async () => (await system.log(number, 'test')).includes('begun\n'))

    await system.call('POST', `/runs/${number}/cancel`, { body: { reason: 'wrong branch' }, as: 'ada' })

    expect(await system.ended(number)).toMatchObject({ status: 'canceled', reason: 'canceled by ada: wrong branch' })
    expect(await system.log(number, 'test')).toContain('got TERM\n')
  }, 90_000)

  it('takes a pool’s unit for a job, gives it back, and shows who waits for whom', async () => {
    const job = (text: string) => spec(`test:\n  device: { pool: rig, run: ["${text}"] }\n`)
    const first = await system.push(job('echo on $CI_POOL_RIG at $CI_POOL_RIG_ADDRESS; sleep 3'), 'rig-a')
    await system.until('the first to hold it', async () => (await system.log(first, 'device')).includes('on rig-1'))
    const second = await system.push(job('echo mine'), 'rig-b')

    const waiter = await system.until('the second to queue', async () => {
      const pools = await system.call<{ waiters: { run: string; position: number; sentence: string }[] }>(
        'GET',
        '/pools',
      )
      return pools.waiters.find((one) => one.run === `acme/web#${second}`)
    })

    expect(waiter).toMatchObject({ position: 1, sentence: expect.stringContaining(`acme/web#${first}`) })
    expect(await system.ended(first)).toMatchObject({ status: 'succeeded' })
    expect(await system.ended(second)).toMatchObject({ status: 'succeeded' })
    expect(await system.log(first, 'device')).toContain('on rig-1 at 10.0.0.5\n')
  }, 120_000)

  it('leaves nothing of an ended run behind', async () => {
    await system.until('everything to be gone', async () => (await leftOvers()).length === 0, 60)
  }, 90_000)
})
