import { afterEach, beforeEach, expect, test } from 'vitest'
import { sign } from '../../src/forge/signature.ts'
import type { RunRow } from '../../src/store/types.ts'
import { HOOK_SECRET, OTHER_SECRET, type Running, startServer } from '../api/server.ts'
import { createStorm, type Storming } from './storm.ts'

let server: Running

beforeEach(async () => {
  server = await startServer()
  for (const repo of REPOS) await server.store.sightings.begin(repo, [])
})
afterEach(() => server.stop())

const REPOS = ['acme/web', 'acme/other']
/** Deliveries that are under way at one time. */
const AT_ONCE = 8

async function send({ id, event, body }: Storming): Promise<void> {
  const bytes = Buffer.from(JSON.stringify(body))
  const { full_name: repo } = body.repository as { full_name: string }
  const response = await fetch(`${server.url}/hooks/github`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'x-hub-signature-256': sign(bytes, repo === 'acme/web' ? HOOK_SECRET : OTHER_SECRET),
      'x-github-event': event,
      'x-github-delivery': id,
    },
    body: bytes,
  })
  expect(response.ok, await response.text()).toBe(true)
}

async function sendAll(deliveries: readonly Storming[]): Promise<void> {
  const rest = [...deliveries]
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let one = rest.shift(); one !== undefined; one = rest.shift()) await send(one)
    }),
  )
}

/** As the model writes it. */
function meaningOf({ repo, trigger, change }: RunRow): string {
  if (trigger.kind === 'pull_request') return `pull_request ${repo} ${change.pullRequest?.number} ${change.commit}`
  return `push ${repo} ${change.ref} ${change.before ?? '-'} ${change.commit}`
}

async function runs(): Promise<readonly RunRow[]> {
  return server.store.runs.list({ limit: 2_000 })
}

async function ends(): Promise<ReadonlyMap<string, string | undefined>> {
  const all = new Map<string, string | undefined>()
  for (const repo of REPOS) {
    for (const { ref, commit } of (await server.store.sightings.of(repo)) ?? []) all.set(`${repo} ${ref}`, commit)
  }
  return all
}

test.each([
  [1000, 20_261_123],
  [200, 1],
  [200, 2],
  [200, 3],
])(
  'of %i deliveries, shuffled, three in ten of them copies, each meaning is one run (seed %i)',
  async (count, seed) => {
    const storm = createStorm(seed, count)

    await sendAll(storm.deliveries)

    expect(storm.deliveries).toHaveLength(count)
    expect((await runs()).map(meaningOf).toSorted()).toEqual(storm.meanings.toSorted())
    expect(await ends()).toEqual(storm.ends)
  },
)

test('a branch that is deleted and restored, or forced back and forth, is news each time; copies of it never are', async () => {
  const [a, b] = ['a'.repeat(40), 'b'.repeat(40)]
  const none = '0'.repeat(40)
  const path = [none, a, b, a, b, none, a, none, a]
  const pushes = path.slice(1).map(
    (after, at): Storming => ({
      id: `d-${at}`,
      event: 'push',
      body: {
        ...{ ref: 'refs/heads/a', before: path[at], after, pusher: { name: 'ada-l' } },
        repository: { full_name: 'acme/web', pushed_at: 1_760_000_000 + at },
      },
    }),
  )

  for (const [at, one] of pushes.entries()) {
    await send(one)
    // Of each that went before, in turn.
    for (const earlier of pushes.slice(0, at + 1)) await send({ ...earlier, id: `copy-${at}-${earlier.id}` })
  }

  expect((await runs()).map(({ change }) => change.commit).toReversed()).toEqual([a, b, a, b, a, a])
  expect((await ends()).get('acme/web refs/heads/a')).toBe(a)
})
