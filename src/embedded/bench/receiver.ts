import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { quantile, round } from './measure.ts'
import { processorMs, residentMiB } from './processes.ts'
import { type BenchSystem, signedDelivery } from './system.ts'

const RATE = 100

/**
 * Deliveries at a fixed rate, whether or not earlier ones were answered; the time of each counts from when it was due.
 * Every one becomes a run, which no control worker takes up meanwhile: what is measured is the receiver.
 */
export async function receiver(system: BenchSystem, seconds: number, say: (text: string) => void) {
  const { server = 0 } = system.pids()
  const warm = Array.from({ length: RATE }, () => send(system, performance.now()))
  await Promise.all(warm)
  const times: number[] = []
  let refused = 0
  const before = processorMs(server)
  const start = performance.now()
  const sent: Promise<void>[] = []
  for (let index = 0; index < seconds * RATE; index++) {
    const due = start + (index * 1000) / RATE
    const early = due - performance.now()
    if (early > 1) await sleep(early)
    sent.push(
      send(system, due).then(({ ms, ok }) => {
        times.push(ms)
        if (!ok) refused++
      }),
    )
  }
  await Promise.all(sent)
  const cost = processorMs(server) - before
  say(`receiver: ${times.length} deliveries, p99 ${Math.round(quantile(times, 0.99))} ms`)
  return {
    deliveries: times.length,
    perSecond: RATE,
    refused,
    p50Ms: round(quantile(times, 0.5), 1),
    p99Ms: round(quantile(times, 0.99), 1),
    mostMs: round(Math.max(...times), 1),
    processorMsPerDelivery: round(cost / times.length),
    serverMiB: residentMiB(server),
  }
}

async function send(system: BenchSystem, due: number): Promise<{ ms: number; ok: boolean }> {
  const request = signedDelivery(randomBytes(20).toString('hex'), randomBytes(20).toString('hex'))
  const answer = await fetch(`${system.url}/hooks/git`, { method: 'POST', ...request })
  await answer.text()
  return { ms: performance.now() - due, ok: answer.status === 202 }
}
