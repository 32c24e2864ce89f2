import { Context } from '@temporalio/activity'

const BEAT_MS = 2_000

/** The first fetch of a big repository, or a deployment, takes minutes: the beats say that somebody is at it. */
export async function beating<T>(act: () => Promise<T>): Promise<T> {
  const context = Context.current()
  const beat = setInterval(() => context.heartbeat(), BEAT_MS)
  try {
    return await act()
  } finally {
    clearInterval(beat)
  }
}
