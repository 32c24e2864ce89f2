/**
 * How a run, stage, job or step ended.
 *
 * - `failed`: the user's code said no.
 * - `errored`: Penstock (or what it stands on) could not do its work.
 * - `canceled`: a person, a time limit of the run or a newer candidate stopped it.
 * - `skipped`: it was never started, because something before it did not succeed or it does not apply.
 */
export const OUTCOMES = ['succeeded', 'failed', 'errored', 'canceled', 'skipped'] as const
export type Outcome = (typeof OUTCOMES)[number]

/** Whether a status is an end. */
export function isOutcome(status: string): status is Outcome {
  return OUTCOMES.some((one) => one === status)
}

/** Exit codes of the CLI and the demo for the end of a run. 2 is also "wrong use": both mean no verdict on the code. */
export const EXIT_CODES: Readonly<Record<Outcome, number>> = {
  succeeded: 0,
  skipped: 0,
  failed: 1,
  errored: 2,
  canceled: 3,
}

/**
 * One outcome for many parts (jobs of a stage, stages of a run). Canceled wins, because nothing after it was judged;
 * errored beats failed, because with a part unknown "the code is wrong" is not proven complete.
 * Nothing, or only skipped parts, is `skipped`.
 */
export function worstOutcome(outcomes: readonly Outcome[]): Outcome {
  for (const worst of ['canceled', 'errored', 'failed', 'succeeded'] as const) {
    if (outcomes.includes(worst)) return worst
  }
  return 'skipped'
}
