import { describe, expect, it } from 'vitest'
import type { RunRow } from '../../src/store/types.ts'
import { describeRun } from '../../src/temporal/describe-run.ts'

function aRun(change: Partial<RunRow['change']>, more: Partial<RunRow> = {}): RunRow {
  const whole = { commit: 'c'.repeat(40), ref: 'refs/heads/master', pusher: 'ada', ...change }
  const trigger = { kind: 'push', repo: 'acme/web', change: whole, requestedBy: 'github' } as const
  return {
    repo: 'acme/web',
    number: 42,
    id: 'acme/web#42',
    trigger,
    change: whole,
    status: 'queued',
    secrets: 'repository',
    try: 1,
    createdAt: 0,
    ...more,
  }
}

describe('what Temporal shows of a run', () => {
  it('is why there is a run, and where to look', () => {
    const { summary, details } = describeRun(aRun({ title: 'Make the logo blue' }), 'http://ci.example')

    expect(summary).toBe('push to master by ada')
    expect(details).toContain('`Make the logo blue`')
    expect(details).toContain('c'.repeat(40))
    expect(details).toContain('(http://ci.example/api/v1/runs/42)')
  })

  it('counts the tries', () => {
    expect(describeRun(aRun({}, { try: 3 }), '').summary).toBe('push to master by ada (try 3)')
  })

  it('lets nothing of what people wrote become a link, a picture or a line of its own', () => {
    const evil = '`![x](http://evil.example/x.png)\n# [click](http://evil.example)'

    const { summary, details } = describeRun(aRun({ title: evil, ref: `refs/heads/${evil}` }), '')

    expect(summary).not.toContain('\n')
    for (const line of details.split('\n').filter((one) => one.includes('evil'))) {
      expect(line.match(/`/g)?.length).toBeGreaterThanOrEqual(2)
      const outside = line.split('`').filter((_, index) => index % 2 === 0)
      expect(outside.join('')).not.toContain('evil')
    }
  })

  it('is short enough for Temporal, however long a branch is called', () => {
    expect(Buffer.byteLength(describeRun(aRun({ ref: `refs/heads/${'x'.repeat(1000)}` }), '').summary)).toBeLessThan(
      400,
    )
  })
})
