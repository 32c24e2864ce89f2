import { createHash } from 'node:crypto'
import { NO_COMMIT } from '../forge/payloads.ts'

/** A delivery as GitHub would send it. */
export interface Storming {
  readonly id: string
  readonly event: 'push' | 'pull_request'
  readonly body: Readonly<Record<string, unknown>>
}

export interface Storm {
  /** In the order in which they arrive. */
  readonly deliveries: readonly Storming[]
  /** One for each run that there is to be. */
  readonly meanings: readonly string[]
  /** Where each ref of each repository ends: a commit, or nothing when it was deleted. */
  readonly ends: ReadonlyMap<string, string | undefined>
}

/** The same numbers for the same seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

const FIRST_SECOND = 1_760_000_000

/**
 * A model of what people do: pushes, forced ones, to old commits and to new ones, branches that are deleted and made
 * again, pull requests with new heads, labels and closings. No move of a branch happens twice: of two that are alike only
 * the forge could tell whether the second is a copy.
 */
export function createStorm(seed: number, count: number): Storm {
  const random = randomOf(seed)
  const below = (n: number) => Math.floor(random() * n)
  const pick = <T>(of: readonly T[]): T => of[below(of.length)] as T
  const ends = new Map<string, string | undefined>()
  const visited = new Map<string, string[]>()
  const moves = new Set<string>()
  const meanings = new Set<string>()
  const told: Storming[] = []
  let second = FIRST_SECOND
  let commits = 0

  const newCommit = () => createHash('sha1').update(`${seed}/${++commits}`).digest('hex')
  const tell = (event: Storming['event'], body: Storming['body']) => told.push({ id: `d-${told.length}`, event, body })

  function move(repo: string, ref: string): void {
    const key = `${repo} ${ref}`
    const before = ends.get(key)
    const old = visited.get(key) ?? []
    const dice = random()
    const after =
      dice < 0.15 && before !== undefined ? undefined : dice < 0.4 && old.length > 0 ? pick(old) : newCommit()
    const meaning = `push ${key} ${before ?? '-'} ${after ?? '-'}`
    if (after === before || moves.has(meaning)) return
    moves.add(meaning)
    if (after !== undefined) {
      meanings.add(meaning)
      visited.set(key, [...old, after])
    }
    ends.set(key, after)
    second += 1 + below(2)
    tell('push', {
      ...{ ref, before: before ?? NO_COMMIT, after: after ?? NO_COMMIT, deleted: after === undefined },
      // Two pushes of one branch do not share a second.
      repository: { full_name: repo, pushed_at: second },
      ...{ pusher: { name: 'ada-l' }, sender: { login: 'ada-l' }, head_commit: after && { message: `to ${after}` } },
    })
  }

  const heads = new Map<string, string>()
  function pull(repo: string, number: number): void {
    const key = `${repo} ${number}`
    const isNew = !heads.has(key)
    const action = isNew ? 'opened' : pick(['synchronize', 'synchronize', 'labeled', 'closed', 'reopened'])
    const head = isNew || action === 'synchronize' ? newCommit() : (heads.get(key) as string)
    heads.set(key, head)
    meanings.add(`pull_request ${key} ${head}`)
    const side = (sha: string, ref: string) => ({ sha, ref, repo: { full_name: repo } })
    tell('pull_request', {
      ...{ action, number, repository: { full_name: repo }, sender: { login: 'ben-o' } },
      pull_request: { title: 'A page', head: side(head, `page-${number}`), base: side('c'.repeat(40), 'master') },
    })
  }

  while (told.length < count * 0.7) {
    const repo = pick(['acme/web', 'acme/other'])
    if (random() < 0.2) pull(repo, 1 + below(12))
    else move(repo, `refs/heads/${pick(['master', 'production', 'a', 'b', 'c', 'feature/d'])}`)
  }
  const copies = Array.from({ length: count - told.length }, (_, at) => {
    const one = pick(told)
    return random() < 0.5 ? one : { ...one, id: `copy-${at}` }
  })
  const arriving = [...told, ...copies].map((one, at) => ({ one, at: placeOf(at % told.length) }))
  // Most come in their neighborhood, some much later, some anywhere.
  function placeOf(at: number): number {
    const dice = random()
    if (dice < 0.6) return at + random() * 10
    return dice < 0.8 ? at + random() * count : random() * count
  }
  return {
    deliveries: arriving.toSorted((one, other) => one.at - other.at).map(({ one }) => one),
    meanings: [...meanings],
    ends,
  }
}
