import { describe, expect, test } from 'vitest'
import type { Outcome } from '../../src/core/outcome.ts'
import type { Job, Stage } from '../../src/core/plan.ts'
import type { Progress } from '../../src/core/progress.ts'
import {
  isJobDone,
  isStageDone,
  NO_PROGRESS,
  nextAttempt,
  readyJobs,
  unreachableJobs,
} from '../../src/core/progress.ts'

function job(name: string, needs: readonly string[] = []): Job {
  return {
    name,
    needs,
    segments: [],
    env: {},
    secrets: [],
    workdir: '/workspace',
    timeoutSeconds: 60,
    resources: { cpus: { reserve: 1, limit: 1 }, memory: { reserve: 1, limit: 1 }, pids: 100 },
    constraints: [],
    pools: [],
    reports: { junit: [] },
    onLost: 'fail',
  }
}

const DIAMOND = [job('a'), job('b', ['a']), job('c', ['a']), job('d', ['b', 'c'])]
const names = (jobs: readonly Job[]) => jobs.map((one) => one.name)

describe('readyJobs', () => {
  const table: [string, Record<string, Outcome>, string[], string[]][] = [
    ['at the start, those that need nothing', {}, [], ['a']],
    ['not what is under way', {}, ['a'], []],
    ['all whose needs succeeded', { a: 'succeeded' }, [], ['b', 'c']],
    ['none before all its needs succeeded', { a: 'succeeded', b: 'succeeded' }, ['c'], []],
    ['the last', { a: 'succeeded', b: 'succeeded', c: 'succeeded' }, [], ['d']],
    ['none behind a failure, and the rest', { a: 'succeeded', b: 'failed' }, [], ['c']],
    ['none behind what was skipped', { a: 'skipped' }, [], []],
  ]
  test.each(table)('are %s', (_, ended, running, expected) => {
    expect(names(readyJobs(DIAMOND, ended, new Set(running)))).toEqual(expected)
  })

  test('are found whatever a job is called', () => {
    const jobs = [job('constructor'), job('valueOf', ['constructor'])]
    const ended: Record<string, Outcome> = Object.fromEntries([['constructor', 'succeeded'] as const])

    expect(names(readyJobs(jobs, {}, new Set()))).toEqual(['constructor'])
    expect(names(readyJobs(jobs, ended, new Set()))).toEqual(['valueOf'])
    expect(unreachableJobs(jobs, {})).toEqual([])
  })
})

describe('unreachableJobs', () => {
  test.each(['failed', 'errored', 'canceled', 'skipped'] as const)('are those that need one that %s', (outcome) => {
    expect(names(unreachableJobs(DIAMOND, { a: outcome }))).toEqual(['b', 'c'])
  })

  test('spread with each skipped job, until none is left', () => {
    expect(names(unreachableJobs(DIAMOND, { a: 'succeeded', b: 'failed', c: 'succeeded' }))).toEqual(['d'])
    expect(names(unreachableJobs(DIAMOND, { a: 'failed', b: 'skipped', c: 'skipped', d: 'skipped' }))).toEqual([])
  })
})

describe('what earlier tries achieved', () => {
  const stage = (name: string): Stage => ({ kind: 'jobs', name, jobs: [] })
  const progress: Progress = {
    stages: {
      test: { attempt: 1, outcome: 'succeeded', jobs: {} },
      e2e: {
        attempt: 2,
        outcome: 'failed',
        jobs: { web: { attempt: 1, outcome: 'succeeded' }, api: { attempt: 2, outcome: 'failed' } },
      },
    },
    deliverables: [],
  }

  test('a stage or job is done only if it succeeded', () => {
    expect(['test', 'e2e', 'deploy', 'constructor'].map((name) => isStageDone(progress, stage(name)))).toEqual([
      true,
      false,
      false,
      false,
    ])
    expect(['web', 'api', 'x', 'constructor'].map((name) => isJobDone(progress, 'e2e', name))).toEqual([
      true,
      false,
      false,
      false,
    ])
    expect(isJobDone(NO_PROGRESS, 'constructor', 'name')).toBe(false)
  })

  test('attempts are numbered from 1', () => {
    expect([nextAttempt(undefined), nextAttempt({ attempt: 1 }), nextAttempt(progress.stages.e2e)]).toEqual([1, 2, 3])
  })
})
