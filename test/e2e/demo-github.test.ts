import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createDemo, type Demo, type DemoReport } from '../helpers/demo.ts'

interface Report extends DemoReport {
  readonly github: {
    readonly repository: string
    readonly pulls: readonly { readonly head: string; readonly base: string; readonly state: string }[]
    readonly statuses: readonly { readonly context: string; readonly state: string }[]
    /** Each change of the state of a context, in the order in which GitHub took them. */
    readonly history: readonly { readonly context: string; readonly state: string }[]
  }
}

let demo: Demo<Report>

beforeAll(() => {
  demo = createDemo('--forge', 'github-fake')
})
afterAll(() => demo.dispose(), 120_000)

/** Each stands in the history, behind the one before it. */
function expectInOrder({ github }: Report, ...wanted: readonly string[]): void {
  const all = github.history.map(({ context, state }) => `${context.replace('penstock/', '')} ${state}`)
  let last = -1
  for (const one of wanted) {
    last = all.indexOf(one, last + 1)
    expect(last, `"${one}" of "${wanted.join(', ')}" in\n${all.join('\n')}`).toBeGreaterThanOrEqual(0)
  }
}

function expectReleased(report: Report): void {
  expect(report).toMatchObject({ outcome: 'succeeded', production: { commit: report.commit } })
  expect(report.github.pulls).toEqual([
    expect.objectContaining({ head: report.commit, base: 'master', state: 'merged' }),
    expect.objectContaining({ head: report.commit, base: 'production', state: 'merged' }),
  ])
}

describe('the demo at a GitHub of its own', () => {
  it('goes from the pull request to production, and GitHub shows each step in its order', async () => {
    const report = await demo.run()

    expectReleased(report)
    const { repository, statuses } = report.github
    const client = repository.replace('sample', 'sample-client')
    const [, , candidate] = report.runs
    expect(report.runs.map(({ repo, ref, outcome }) => `${repo} ${ref} ${outcome}`)).toEqual(
      expect.arrayContaining([
        `${repository} refs/heads/two-languages succeeded`,
        `${repository} refs/pull/1/head succeeded`,
        `${repository} refs/heads/master succeeded`,
        `${client} refs/penstock/upstream/${repository}/${candidate?.number} succeeded`,
        `${repository} refs/heads/production succeeded`,
      ]),
    )
    const stages = ['test', 'deliver', 'staging', 'e2e', 'signoff', 'promote', 'production', 'run', 'up-to-date']
    expect(Object.fromEntries(statuses.map(({ context, state }) => [context, state]))).toEqual(
      Object.fromEntries([...stages, `dependents/${client}`].map((name) => [`penstock/${name}`, 'success'])),
    )
    // Tested as a pull request, and then as the candidate, which goes on until production has it.
    expectInOrder(report, 'test pending', 'test success', 'test pending', 'test success', 'deliver success')
    expectInOrder(report, 'up-to-date success', 'deliver pending', 'deliver success', 'staging success', 'e2e success')
    expectInOrder(report, 'signoff pending', 'e2e success', 'signoff success', 'promote success', 'production success')
    // The client tests what stands on staging, and production waits for it.
    const dependent = `dependents/${client}`
    expectInOrder(report, 'staging pending', 'staging success', `${dependent} pending`, `${dependent} success`)
    expectInOrder(report, `${dependent} success`, 'promote success')
    // Green once only: when Tess has approved.
    expect(
      report.github.history.flatMap(({ context, state }) => (context === 'penstock/signoff' ? state : [])),
    ).toEqual(['pending', 'success'])
  }, 400_000)

  it('works again after it was killed in the middle, with another repository of that name', async () => {
    await demo.killAt('fast-forwarded master')

    const report = await demo.run()

    expectReleased(report)
    expect(report.github.repository).toBe('acme/sample-3')
  }, 600_000)

  it('is gone without a trace after `down`', async () => {
    await demo.down()

    await demo.expectGone()
  }, 180_000)

  it('says what would be right when the forge is another, and starts nothing', async () => {
    const dataDir = join(demo.dataDir, '..', 'another')
    const args = [resolve('dist/src/embedded/demo.js'), '--forge', 'gitlab']

    const ended = await execa(process.execPath, args, { env: { PENSTOCK_DATA: dataDir }, reject: false })

    expect(ended.exitCode).toBe(2)
    expect(ended.stderr.split('\n')).toEqual([expect.stringMatching(/"gitlab".*"git".*"github-fake"/)])
    expect(existsSync(dataDir)).toBe(false)
  })
})
