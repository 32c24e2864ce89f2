import type { RunDetail, Store } from '../store/types.ts'
import { notFound, wholeNumber } from './route.ts'

/** The run with the number in the path. @throws ProblemError 404 */
export async function findRun(store: Store, params: Readonly<Record<string, string>>): Promise<RunDetail> {
  const number = wholeNumber(params.run)
  const run = number === undefined ? undefined : await store.runs.byNumber(number)
  if (run === undefined) throw notFound()
  return run
}
