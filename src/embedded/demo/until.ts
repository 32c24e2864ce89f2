import { setTimeout as sleep } from 'node:timers/promises'

const LOOK_MS = 200

/** What is looked for, as soon as it is there. @throws when it is not there in time */
export async function until<T>(
  what: string,
  seconds: number,
  look: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  const deadline = performance.now() + seconds * 1000
  for (;;) {
    const seen = await look()
    if (seen !== undefined && seen !== false) return seen
    if (performance.now() > deadline) throw new Error(`waited ${seconds} s for ${what}`)
    await sleep(LOOK_MS)
  }
}
