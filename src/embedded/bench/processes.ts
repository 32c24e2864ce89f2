import { readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { round } from './measure.ts'

const Memory = z.object({ rss: z.number(), heapUsed: z.number(), external: z.number() })
const COLLECTED_LIMIT_MS = 20_000
const CLOCK_TICKS = 100

const answerOf = (pid: number | string) => join(tmpdir(), `penstock-bench-memory-${pid}.json`)

/** Makes every Node.js process of the system collect its garbage at SIGUSR2 and tell what it holds then. */
export function collectable(): string {
  const prefix = JSON.stringify(answerOf(''))
  const code = `
import { isMainThread } from 'node:worker_threads'
import { renameSync, writeFileSync } from 'node:fs'
import { runInNewContext } from 'node:vm'
import { setFlagsFromString } from 'node:v8'
if (isMainThread) {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc')
  process.on('SIGUSR2', () => {
    gc()
    setTimeout(() => {
      gc()
      const file = ${prefix}.replace(/\\.json$/, process.pid + '.json')
      writeFileSync(file + '.new', JSON.stringify(process.memoryUsage()))
      renameSync(file + '.new', file)
    }, 500)
  })
}`
  return `--import=data:text/javascript,${encodeURIComponent(code)}`
}

/** Resident memory of a process in MiB after a forced collection. */
export async function collected(pid: number): Promise<{ readonly rssMiB: number; readonly heapMiB: number }> {
  const file = answerOf(pid)
  rmSync(file, { force: true })
  process.kill(pid, 'SIGUSR2')
  const until = performance.now() + COLLECTED_LIMIT_MS
  for (;;) {
    await sleep(100)
    try {
      const { rss, heapUsed } = Memory.parse(JSON.parse(readFileSync(file, 'utf8')))
      rmSync(file, { force: true })
      return { rssMiB: round(rss / 2 ** 20, 1), heapMiB: round(heapUsed / 2 ** 20, 1) }
    } catch (err) {
      // Not there yet.
      if (performance.now() > until) throw new Error(`process ${pid} did not tell its memory`, { cause: err })
    }
  }
}

export function residentMiB(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return round(Number(kib) / 1024, 1)
}

/** Processor time so far, in milliseconds. */
export function processorMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / CLOCK_TICKS
}
