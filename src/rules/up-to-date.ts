import { behindOf, UP_TO_DATE } from '../core/merge.ts'
import type { CommitStatus } from '../forge/types.ts'
import type { Mirrors } from '../git/mirrors.ts'
import { isLimited } from '../report/failure.ts'
import type { Kept, Rule } from './types.ts'

export interface UpToDate {
  /** Shows on a commit how it lies to the tip of the candidate branch. */
  show(kept: Kept, commit: string): Promise<string>
}

/** What was found right is looked at again after this, in case somebody else has set it since. */
const LOOK_AGAIN_MS = 60_000
const MOST_REMEMBERED = 2_000
/** How often a tip that moves while one writes is followed at once; after that the next review does it. */
const ROUNDS = 5

export function createUpToDate({
  mirrors,
  clock,
}: {
  readonly mirrors: Mirrors
  readonly clock: () => number
}): UpToDate {
  /** By repository and commit, what was last found there or set. */
  const stands = new Map<string, { readonly description: string; readonly until: number }>()
  const descriptions = new Map<string, string>()

  async function describe({ repository, forge }: Kept, commit: string, tip: string): Promise<string> {
    // How two commits lie to each other never changes.
    const key = `${commit} ${tip}`
    const known = descriptions.get(key)
    if (known !== undefined) return known
    const { name, branches } = repository
    const { behind } = await mirrors.distance(name, await forge.source(), commit, tip)
    const late = behindOf(behind, branches.candidate)
    const description = late === undefined ? `up to date with ${branches.candidate}` : `${late}: rebase`
    return remember(descriptions, key, description)
  }

  /** True: the forge was told. */
  async function put({ repository, forge }: Kept, commit: string, description: string): Promise<boolean> {
    const key = `${repository.name} ${commit}`
    const known = stands.get(key)
    if (known?.description === description && known.until > clock()) return false
    const state = description.startsWith('up to date') ? 'success' : 'failure'
    const wanted: CommitStatus = { commit, context: UP_TO_DATE, state, description }
    const now = (await forge.statuses?.of(commit))?.find(({ context }) => context === UP_TO_DATE)
    const isSet = now?.state === state && now.description === description
    if (!isSet) await forge.statuses?.set(wanted)
    remember(stands, key, { description, until: clock() + LOOK_AGAIN_MS })
    return !isSet
  }

  return {
    async show(kept, commit) {
      const { repository, forge } = kept
      const { candidate } = repository.branches
      if (forge.statuses === undefined) return 'this forge has no statuses'
      let tip = await forge.branchTip(candidate)
      for (let round = 1; tip !== undefined; round++) {
        const description = await describe(kept, commit, tip)
        if (!(await put(kept, commit, description)) || round === ROUNDS) return description
        // It may have moved while that was on its way.
        const now = await forge.branchTip(candidate)
        if (now === tip) return description
        tip = now
      }
      return `there is no branch ${candidate}`
    },
  }
}

/** Every open pull request into the candidate branch says whether it can be merged by fast-forward. */
export function createUpToDateRule({ show }: UpToDate): Rule {
  async function showAll(kept: Kept): Promise<number> {
    const { repository, forge } = kept
    const pulls = (await forge.pullRequests?.open({ base: repository.branches.candidate })) ?? []
    const failures: unknown[] = []
    for (const { head } of pulls) {
      // A head that cannot be fetched keeps no other from its status.
      await show(kept, head.commit).catch((err: unknown) => {
        if (isLimited(err)) throw err
        failures.push(err)
      })
    }
    if (failures.length > 0) throw new AggregateError(failures, `${failures.length} heads have no right ${UP_TO_DATE}`)
    return pulls.length
  }

  return {
    name: 'up to date',
    async attend(kept, notice) {
      const { candidate } = kept.repository.branches
      if (notice.kind === 'branch') {
        if (notice.ref !== `refs/heads/${candidate}`) return undefined
        return `${await showAll(kept)} pull requests were compared with ${candidate}`
      }
      if (notice.kind !== 'pull_request') return undefined
      const pull = await kept.forge.pullRequests?.get(notice.number)
      if (pull?.state !== 'open' || pull.base.branch !== candidate) return undefined
      return `pull request ${pull.number}: ${await show(kept, pull.head.commit)}`
    },
    async review(kept) {
      await showAll(kept)
    },
  }
}

function remember<T>(all: Map<string, T>, key: string, value: T): T {
  all.delete(key)
  all.set(key, value)
  const oldest = all.keys().next().value
  if (all.size > MOST_REMEMBERED && oldest !== undefined) all.delete(oldest)
  return value
}
