import { AsyncLocalStorage } from 'node:async_hooks'

const deadlines = new AsyncLocalStorage<AbortSignal>()

/** Nothing that `work` asks a forge is on its way, or begun, after this time; what is then still asked throws. */
export function within<T>(ms: number, work: () => Promise<T>): Promise<T> {
  return deadlines.run(AbortSignal.timeout(ms), work)
}

/** Of the work that asks; undefined: only the request's own limit holds. */
export function deadline(): AbortSignal | undefined {
  return deadlines.getStore()
}
