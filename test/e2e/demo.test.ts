import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createDemo, type Demo, type DemoReport } from '../helpers/demo.ts'

let demo: Demo<DemoReport>

beforeAll(() => {
  demo = createDemo()
})
afterAll(() => demo.dispose(), 120_000)

describe('the demo', () => {
  it('takes a commit to production and says so in one JSON object', async () => {
    const report = await demo.run()

    expect(report).toMatchObject({ outcome: 'succeeded', production: { commit: report.commit } })
    expect(report.runs.map((run) => run.outcome)).toEqual(['succeeded', 'succeeded'])
    expect(report.runs[0]?.logLines).toBeGreaterThan(10)
    const jobs = report.runs[0]?.attempts.filter(({ job, step }) => job !== undefined && step === undefined)
    expect(jobs).toContainEqual(expect.objectContaining({ job: 'manual', outcome: 'succeeded' }))
  }, 400_000)

  it('works again after it was killed in the middle', async () => {
    await demo.killAt('on node')

    const report = await demo.run()

    expect(report).toMatchObject({ outcome: 'succeeded', production: { commit: report.commit } })
  }, 600_000)

  it('is gone without a trace after `down`, which may be called twice', async () => {
    await demo.down()
    await demo.down()

    await demo.expectGone()
  }, 180_000)
})
