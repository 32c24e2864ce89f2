import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { openStore } from '../../store/open-store.ts'
import type { Store } from '../../store/types.ts'
import { connectTemporal } from '../../temporal/client.ts'
import { createDispatcher } from '../../temporal/dispatcher.ts'
import { NAMESPACE } from '../temporal.ts'
import { inTurns, median, quantile, round, timed, toFigure, toFloor } from './measure.ts'
import type { BenchSystem } from './system.ts'

const POOL = 'bench'
const PAIRS = 20
const TOLD = 30
const WAITERS = [1, 50, 500] as const
const FLOOR = `one row inserted in a transaction of its own (${PAIRS} times)`
const LOOK_MS = 5

/**
 * One unit that goes from hand to hand, while always as many wait: who ends gives it to the next, and asks anew at the end of
 * the queue. A pair is both calls. Then: from the end of one to the word at the workflow of the next.
 */
export async function pools(system: BenchSystem, rounds: number, say: (text: string) => void) {
  const store = await openStore({ url: system.database })
  try {
    await store.units.configure([
      {
        ...{ name: POOL, privileged: false, warnMs: 600_000, probeEveryMs: 60_000 },
        units: [{ name: 'u', labels: [], properties: {}, capacity: 1, resetCostMs: 0 }],
      },
    ])
    const queue = createQueue(store)
    const floor = () =>
      timed(async () => {
        for (let nth = 0; nth < PAIRS; nth++) {
          await store.audit.record({ by: 'bench', channel: 'bench', action: 'floor', on: POOL })
        }
      })
    const figures: Record<string, object> = {}
    let floors = {}
    for (const waiters of WAITERS) {
      await queue.fill(waiters)
      const taken = await inTurns(rounds, { floor, pairs: () => timed(() => queue.pass(PAIRS)) }, say)
      floors = { transactions: toFloor(taken.floor) }
      figures[`poolPairs${waiters}`] = {
        ...toFigure(taken.pairs, taken.floor, { floor: FLOOR }),
        perSecond: round((PAIRS * 1000) / median(taken.pairs), 0),
      }
    }
    await queue.empty()
    const one = await timed(floor)
    figures.poolTold = { ...(await told(system, store)), floorMs: round(one / PAIRS, 1), floor: FLOOR }
    return { floors, figures }
  } finally {
    await store.close()
  }
}

function createQueue(store: Store) {
  let last = 0
  let holders: string[] = []
  const ask = async () => {
    const holder = `bench/${++last}`
    await store.leases.acquire({
      ...{ holder, run: holder, workflowId: '', party: 'bench', priority: 0, ttlMs: 3_600_000 },
      requests: [{ pool: POOL, count: 1, labels: [] }],
    })
    holders.push(holder)
  }
  return {
    /** One holds it, and so many wait. */
    async fill(waiters: number) {
      while (holders.length < waiters + 1) await ask()
    },
    async pass(pairs: number) {
      for (let nth = 0; nth < pairs; nth++) {
        const [first = ''] = holders.splice(0, 1)
        await store.leases.release([first], { isGone: true })
        await ask()
      }
      const [first = ''] = holders
      if ((await store.leases.ofHolder(first)).length !== 1) throw new Error(`${first} is first and has no unit`)
    },
    async empty() {
      await store.leases.release(holders.reverse(), { isGone: true })
      holders = []
    },
  }
}

/** Both ends are this machine's clock: the call of `release`, and Temporal's time of the signal. */
async function told(system: BenchSystem, store: Store) {
  const { embedded, instance } = system
  const { client, close } = connectTemporal({ address: embedded.addresses.temporal, namespace: NAMESPACE })
  // As in the control worker, where a release is asked for: its own messages are carried at once.
  const dispatcher = createDispatcher({
    store,
    client,
    log: pino({ level: 'warn' }, pino.destination(2)),
    url: system.url,
  })
  const end = new AbortController()
  const carried = dispatcher.run(end.signal)
  const times: number[] = []
  try {
    const holders = Array.from({ length: TOLD + 1 }, (_, nth) => `told-${instance}/${nth}`)
    for (const holder of holders) {
      // Nobody works for this queue: what counts is that the signal has arrived.
      await client.workflow.start('nobody', { taskQueue: `bench-${instance}`, workflowId: holder, args: [] })
      await store.leases.acquire({
        ...{ holder, run: holder, workflowId: holder, party: 'bench', priority: 0, ttlMs: 3_600_000 },
        requests: [{ pool: POOL, count: 1, labels: [] }],
      })
    }
    for (const [nth, holder] of holders.slice(0, -1).entries()) {
      const start = Date.now()
      await store.leases.release([holder], { isGone: true })
      const next = client.workflow.getHandle(holders[nth + 1] ?? '')
      for (;;) {
        const { events } = await next.fetchHistory()
        const signal = events?.find((event) => event.workflowExecutionSignaledEventAttributes)
        if (signal?.eventTime) {
          times.push(Number(signal.eventTime.seconds) * 1000 + (signal.eventTime.nanos ?? 0) / 1e6 - start)
          break
        }
        await sleep(LOOK_MS)
      }
    }
    for (const holder of holders) await client.workflow.getHandle(holder).terminate()
    return { p50: round(median(times), 0), p90: round(quantile(times, 0.9), 0), most: round(Math.max(...times), 0) }
  } finally {
    end.abort()
    await carried
    await close()
  }
}
