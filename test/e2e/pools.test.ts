import { afterAll, beforeAll, expect, it } from 'vitest'
import { BASE_IMAGES } from '../../src/embedded/images.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { PoolsView, Store } from '../../src/store/types.ts'
import { nothingLeft } from '../helpers/survival.ts'
import { type System, startSystem } from '../helpers/system.ts'

const PASSWORD = 'rig-password-0815'
const IMAGE = BASE_IMAGES.base

let system: System
let store: Store
beforeAll(async () => {
  system = await startSystem({
    env: { RIG_PASSWORD: PASSWORD },
    config: `pools:
  rig:
    reset: { image: "${IMAGE}", run: [test -n "$CI_POOL_RIG_ADDRESS", test -s "$CI_POOL_RIG_PASSWORD_FILE"], timeout: 60s }
    probe: { image: "${IMAGE}", run: 'test "$CI_POOL_RIG" = rig-1', timeout: 60s }
    units:
      rig-1: { labels: [arch=arm64], properties: { address: 10.0.0.7, memory: 4, camera: true }, credentials: { PASSWORD: { env: RIG_PASSWORD } } }
  broken:
    probe: { image: "${IMAGE}", run: ["echo the fuse of $CI_POOL_BROKEN is blown; cat $CI_POOL_BROKEN_KEY_FILE", "exit 7"], timeout: 60s }
    probe_every: 1h
    units: { b-1: { credentials: { KEY: { env: RIG_PASSWORD } } } }
`,
  })
  store = await openStore({ url: `sqlite:${system.dataDir}/penstock.db` })
}, 240_000)
afterAll(async () => {
  await store?.close()
  await system?.dispose()
}, 60_000)

const pools = () => system.call<PoolsView>('GET', '/pools')
const rig = async (name = 'rig-1') => {
  const unit = (await pools()).units.find((one) => one.unit === name)
  if (unit === undefined) throw new Error(`there is no unit ${name}`)
  return unit
}
const job = (run: string, pool = '{ rig: { where: "memory >= 4 && camera" } }') =>
  `image: ${IMAGE}\ntest:\n  rig: { pool: ${pool}, run: ${JSON.stringify(run)} }\n`

it('a job is told what it holds; the next gets the unit when it was reset and probed', async () => {
  const first = await system.push(
    {
      '.penstock.yml': job(
        'env | grep ^CI_POOL | sort; cat "$CI_POOLS_FILE"; cat "$CI_POOL_RIG_PASSWORD_FILE"; while [ ! -f /tmp/never ] && sleep 0.2; do n=$((n+1)); [ $n -lt 25 ] || exit 0; done',
      ),
    },
    'one',
  )
  await system.until('the first run to hold the rig', async () => (await rig()).leases.length === 1)
  const second = await system.push({ '.penstock.yml': job('echo "fence $CI_POOL_RIG_FENCE"') }, 'two')
  const waiter = await system.until('the second to wait', async () => (await pools()).waiters[0])
  const phases = new Set<string>()
  const held = await system.until('the second run to hold the rig', async () => {
    const { phase, leases } = await rig()
    phases.add(phase)
    return leases.find(({ fence }) => fence === 2)
  })

  expect((await system.ended(first)).status).toBe('succeeded')
  expect((await system.ended(second)).status).toBe('succeeded')
  expect(waiter.sentence).toContain('held by acme/web#')
  expect(held.holder).toContain(`#${second}/`)
  expect(phases).toContain('resetting')
  const log = await system.log(first, 'rig')
  for (const line of [
    ...['CI_POOL_RIG=rig-1', 'CI_POOL_RIG_ADDRESS=10.0.0.7', 'CI_POOL_RIG_CAMERA=true', 'CI_POOL_RIG_FENCE=1'],
    '{"units":[{"pool":"rig","unit":"rig-1","fence":1,"properties":{"address":"10.0.0.7","memory":4,"camera":true}}]}',
    '***',
  ]) {
    expect(log).toContain(line)
  }
  expect(log).not.toContain(PASSWORD)
  expect(await system.log(second, 'rig')).toContain('fence 2')
}, 180_000)

it('what fails its probe is quarantined with what it said, without its secrets', async () => {
  const unit = await system.until(
    'the quarantine',
    async () => {
      const one = await rig('b-1')
      return one.quarantined !== undefined && one
    },
    90,
  )

  expect(unit.quarantined).toContain('its probe failed 3 times: exit code 7')
  expect(unit.quarantined).toContain('the fuse of b-1 is blown')
  expect(unit.quarantined).not.toContain(PASSWORD)
}, 120_000)

it('who takes a unit stops its holder, who is told why; the unit comes after its hand-over', async () => {
  const number = await system.push({ '.penstock.yml': job('sleep 600') }, 'three')
  await system.until('the rig to be held, by something that runs', async () => {
    const events = await system.events(number)
    return events.some(({ event }) => event.type === 'step.started.v1')
  })
  const waiting = await system.push({ '.penstock.yml': job('true') }, 'four')
  await system.until('the next to wait', async () => (await pools()).waiters.length === 1)

  const wish = { id: 'smoke', pool: 'rig', unit: 'rig-1', reason: 'it smokes', forMs: 60_000 }
  await store.reservations.take({ person: 'olga', channel: 'cli' }, wish)
  const victim = await system.ended(number, 90)
  const held = await system.until(
    'the person to hold it',
    async () => {
      const one = await store.reservations.get('smoke')
      return one?.state === 'held' && one
    },
    60,
  )
  await store.reservations.giveBack({ person: 'olga', channel: 'cli' }, 'smoke')

  expect(victim).toMatchObject({ status: 'failed' })
  expect(victim.reason).toContain('rig/rig-1 was taken by olga: it smokes')
  expect(held.leases).toMatchObject([{ unit: 'rig-1' }])
  expect((await system.ended(waiting, 90)).status).toBe('succeeded')
}, 240_000)

it('SIGKILL of everything that Penstock runs loses no lease and no place in the queue', async () => {
  const text = job('sleep 20')
  const holder = await system.push({ '.penstock.yml': text }, 'five')
  await system.until('the rig to be held', async () => (await rig()).leases.length === 1)
  const others: number[] = []
  for (const branch of ['six', 'seven', 'eight']) {
    others.push(await system.push({ '.penstock.yml': job('echo "fence $CI_POOL_RIG_FENCE"') }, branch))
    await system.until('it to wait', async () => (await pools()).waiters.length === others.length)
  }
  const before = await pools()

  for (const part of ['control', 'node', 'server', 'temporal'] as const) system.kill(part)
  const after = await system.until('an answer', () => pools().catch(() => undefined), 60)
  for (const number of [holder, ...others]) expect((await system.ended(number, 150)).status).toBe('succeeded')
  const fences = await Promise.all(others.map((number) => system.log(number, 'rig')))

  const of = ({ units, waiters }: PoolsView) => [
    ...units.flatMap(({ leases }) => leases.map(({ holder: one, fence }) => `${one} ${fence}`)),
    ...waiters.map(({ holder: one }) => one),
  ]
  expect(of(after)).toEqual(of(before))
  const numbers = fences.map((log) => Number(/^fence (\d+)$/m.exec(log)?.[1]))
  expect(numbers).toEqual([...numbers].sort((a, b) => a - b))
  await nothingLeft(system)
}, 400_000)
