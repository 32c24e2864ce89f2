import type { Outcome } from './outcome.ts'
import type { Deliverable, Job, Stage } from './plan.ts'

/** What has been achieved by all tries of a run so far; plain JSON, the input of a retry. */
export interface Progress {
  /** By stage name. A stage is here once it was started in any try. */
  readonly stages: Readonly<Record<string, StageProgress>>
  readonly deliverables: readonly Deliverable[]
}

export interface StageProgress {
  readonly attempt: number
  readonly outcome?: Outcome
  /** By job name: the newest attempt. */
  readonly jobs: Readonly<Record<string, JobProgress>>
}

export interface JobProgress {
  readonly attempt: number
  readonly outcome?: Outcome
}

export const NO_PROGRESS: Progress = { stages: {}, deliverables: [] }

/** Names come from a spec, where `constructor` is as good as any: only what was put into a record counts. */
function own<T>(record: Readonly<Record<string, T>> | undefined, name: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, name) ? record[name] : undefined
}

/** Whether an earlier try's success of this stage stands. */
export function isStageDone(progress: Progress, stage: Stage): boolean {
  return own(progress.stages, stage.name)?.outcome === 'succeeded'
}

/** Whether an earlier try's success of this job stands, though its stage has to run again. */
export function isJobDone(progress: Progress, stage: string, job: string): boolean {
  return own(own(progress.stages, stage)?.jobs, job)?.outcome === 'succeeded'
}

/** The number of the next attempt of a job or stage: from 1. */
export function nextAttempt(earlier: { readonly attempt: number } | undefined): number {
  return (earlier?.attempt ?? 0) + 1
}

/**
 * The scheduler's question: which jobs may start now?
 *
 * @param ended outcome by job name, of the jobs that ended or whose earlier success stands
 * @param running names of the jobs under way
 */
export function readyJobs(
  jobs: readonly Job[],
  ended: Readonly<Record<string, Outcome>>,
  running: ReadonlySet<string>,
): readonly Job[] {
  return jobs.filter(
    (job) =>
      own(ended, job.name) === undefined &&
      !running.has(job.name) &&
      job.needs.every((needed) => own(ended, needed) === 'succeeded'),
  )
}

/** Jobs that can never start, because something they need ended otherwise than succeeded: they are skipped. */
export function unreachableJobs(jobs: readonly Job[], ended: Readonly<Record<string, Outcome>>): readonly Job[] {
  return jobs.filter((job) => {
    if (own(ended, job.name) !== undefined) return false
    return job.needs.some((needed) => {
      const outcome = own(ended, needed)
      return outcome !== undefined && outcome !== 'succeeded'
    })
  })
}
