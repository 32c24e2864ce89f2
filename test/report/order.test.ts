import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { DesiredState } from '../../src/core/report/types.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { ClaimedState, Store } from '../../src/store/types.ts'

const CLAIM_MS = 25_000
/** So long the network may keep a request whose sender has given it up or is dead. */
const LATE_MS = 19_999
const RUNS = 300

/** What one of several senders has under way. */
interface Flight {
  readonly claimed: ClaimedState
  landed: boolean
}
/** A request without a sender, on its way until it lands. */
interface Stray {
  readonly claimed: ClaimedState
  readonly landsAt: number
}

const which = fc.nat({ max: 1 })
const late = fc.oneof(fc.constant(LATE_MS), fc.integer({ min: 0, max: LATE_MS }))
/** Within one claim, or about as long as one. */
const ms = fc.oneof(fc.integer({ min: 1, max: 5_000 }), fc.integer({ min: 15_000, max: 26_000 }))
const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('change' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('change late' as const), back: fc.integer({ min: 1, max: 3 }) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('take' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('land' as const), which }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('succeed' as const), which }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('fail' as const), which, late }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('refuse' as const), which }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('kill' as const), which, late }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('stop' as const), which }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('wait' as const), ms }) },
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

/** One key, several senders, a network that keeps requests back: a forge shows what landed last. */
function createWorld(store: Store, clock: { now: number }) {
  const flights: Flight[] = []
  /** Stopped in the middle of a request, and going on when all is long over. */
  const stopped: Flight[] = []
  let strays: Stray[] = []
  let newest = 0
  let shown = 0

  const numberOf = ({ reported }: ClaimedState) =>
    Number(reported.kind === 'status' ? reported.content.description : -1)

  async function want(version: number): Promise<void> {
    const content = { commit: 'c', context: 'x', state: 'pending', description: String(version), url: '' } as const
    const desired: DesiredState = { kind: 'status', subject: 'c', name: 'x', weight: 2, content }
    await store.reports.record({ id: 'acme/web#1', repo: 'acme/web', number: 1, version }, [desired])
  }

  function land(flight: Flight): void {
    if (!flight.landed) shown = numberOf(flight.claimed)
    flight.landed = true
  }

  function wait(ms: number): void {
    clock.now += ms
    const arrived = strays
      .filter(({ landsAt }) => landsAt <= clock.now)
      .sort((one, other) => one.landsAt - other.landsAt)
    for (const { claimed } of arrived) shown = numberOf(claimed)
    strays = strays.filter(({ landsAt }) => landsAt > clock.now)
  }

  async function act(what: Step): Promise<void> {
    const flight = 'which' in what ? flights[what.which % Math.max(flights.length, 1)] : undefined
    if (flight && what.do !== 'land') flights.splice(flights.indexOf(flight), 1)
    switch (what.do) {
      case 'change':
        newest += 1
        return want(newest)
      case 'change late':
        return newest > what.back ? want(newest - what.back) : undefined
      case 'take': {
        const [claimed] = await store.reports.take(1, CLAIM_MS)
        if (claimed) flights.push({ claimed, landed: false })
        return
      }
      case 'wait':
        return wait(what.ms)
    }
    if (flight === undefined) return
    const { claimed } = flight
    switch (what.do) {
      case 'land':
        return land(flight)
      case 'succeed':
        land(flight)
        return store.reports.sent(claimed)
      case 'fail':
        if (!flight.landed) strays.push({ claimed, landsAt: clock.now + what.late })
        return store.reports.failed(claimed, { error: 'cut', delayMs: 500, isDoubtful: true })
      case 'stop':
        stopped.push(flight)
        return
      case 'refuse':
        // Nobody refuses what has taken effect.
        if (flight.landed) return store.reports.sent(claimed)
        return store.reports.failed(claimed, { error: '404', delayMs: 500, isDoubtful: false })
      case 'kill': {
        // Who was killed has sent nothing since its claim was another's.
        const expires = claimed.takenAt + CLAIM_MS
        if (!flight.landed) strays.push({ claimed, landsAt: Math.min(clock.now, expires) + what.late })
        else if (clock.now > expires) return store.reports.sent(claimed)
        return
      }
    }
  }

  /** Everything works again, and time passes. */
  async function settle(): Promise<void> {
    for (const flight of flights.splice(0)) await goOn(flight)
    await pass()
    for (const flight of stopped.splice(0)) await goOn(flight)
    await pass()
  }

  async function goOn(flight: Flight): Promise<void> {
    land(flight)
    await store.reports.sent(flight.claimed)
  }

  async function pass(): Promise<void> {
    for (let looks = 0; looks < 15; looks++) {
      for (const claimed of await store.reports.take(9, CLAIM_MS)) await goOn({ claimed, landed: false })
      wait(5_000)
    }
  }

  return { act, settle, newest: () => newest, shown: () => shown }
}

test('whatever fails, is killed or comes late: the forge ends with the newest state', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60, size: 'max' }), async (steps) => {
      const clock = { now: 1_800_000_000_000 }
      const store = await openStore({ url: 'sqlite::memory:', clock: () => clock.now })
      try {
        const world = createWorld(store, clock)
        for (const one of steps) await world.act(one)

        await world.settle()

        expect(world.shown()).toBe(world.newest())
        expect(await store.reports.unsent()).toEqual([])
      } finally {
        await store.close()
      }
    }),
    { numRuns: RUNS },
  )
})
