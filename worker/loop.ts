import type { Logger } from 'pino'

/** Does something now and then until aborted; a failure is recorded and the next turn comes all the same. */
export async function everyNow(
  what: string,
  intervalMs: number,
  signal: AbortSignal,
  log: Logger,
  act: () => Promise<unknown>,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await act()
    } catch (err) {
      log.warn({ err, what }, 'a periodic duty failed')
    }
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, intervalMs)
      function done() {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        resolve()
      }
      signal.addEventListener('abort', done)
    })
  }
}
