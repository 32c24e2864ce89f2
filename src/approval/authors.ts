import type { RepositoryConfig } from '../config/types.ts'
import type { Change } from '../core/change.ts'
import type { Forge } from '../forge/types.ts'
import { type Commit, type Mirrors, NoSuchCommit } from '../git/mirrors.ts'
import type { Store } from '../store/types.ts'

/** Further back nobody is looked for: an installation that has released nothing for so long has other troubles. */
const COMMITS_OF_A_RELEASE = 1_000
/** Where the last release is gone: so many before it are looked for. */
const RELEASES_BACK = 10

export interface Authors {
  /** Names, logins and addresses, sorted. */
  readonly identities: readonly string[]
  /** What could not be told, and whom that keeps from approving, for people. */
  readonly note?: string
}

export interface AuthorsDeps {
  readonly mirrors: Pick<Mirrors, 'ensure' | 'commitInfo' | 'between' | 'history'>
  readonly forges: (repository: RepositoryConfig) => Pick<Forge, 'source' | 'branchTip' | 'pushes'>
  readonly store: { readonly runs: Pick<Store['runs'], 'releases' | 'peopleBehind'> }
}

/**
 * Who wrote or pushed anything since the last release, as the commits say (which may only take a vote away), as the forge
 * has authenticated them, and as was told when it came: not every forge can be asked later.
 */
export function createAuthors({ mirrors, forges, store }: AuthorsDeps) {
  /** What leads to the commit and not to what was released last. */
  async function commitsSince(repository: RepositoryConfig, commit: string) {
    const { name: repo, branches } = repository
    const forge = forges(repository)
    const source = await forge.source()
    // What we have released, not what the branch is at: whoever may push there could move it past what they wrote.
    const released = await store.runs.releases(repo, branches.production, RELEASES_BACK)
    const tip = released.length === 0 ? await forge.branchTip(branches.production) : undefined
    const bases = tip === undefined ? released : [tip]
    for (const base of bases) {
      try {
        await mirrors.ensure(repo, source, base)
      } catch (err) {
        // Its history was rewritten. An earlier release asks more people, never fewer.
        if (err instanceof NoSuchCommit) continue
        throw err
      }
      const { commits } = await mirrors.between(repo, base, commit, COMMITS_OF_A_RELEASE)
      return { commits, ...(base === bases[0] ? {} : { note: goneSentence(bases[0], `since ${base.slice(0, 12)}`) }) }
    }
    // Before the first release there is no last one: then it is this change alone.
    if (bases.length === 0) return { commits: [] }
    const commits = await mirrors.history(repo, commit, COMMITS_OF_A_RELEASE)
    return { commits, note: goneSentence(bases[0], `in all the history (${commits.length} commits)`) }
  }

  return async (repository: RepositoryConfig, change: Change): Promise<Authors> => {
    const { name: repo } = repository
    const forge = forges(repository)
    await mirrors.ensure(repo, await forge.source(), change.commit)
    const itself: Commit = { commit: change.commit, ...(await mirrors.commitInfo(repo, change.commit)) }
    const { commits: since, note } = await commitsSince(repository, change.commit)
    const commits = [itself, ...since]
    const ids = commits.map(({ commit }) => commit)
    const pushers = (await forge.pushes?.pushersOf(ids)) ?? []
    const authors = commits.flatMap(({ author, authorEmail, others }) => [`${author} <${authorEmail}>`, ...others])
    const told = await store.runs.peopleBehind(repo, ids)
    const people = [change, ...told].flatMap(({ author, pusher }) => [author, pusher])
    const all = [...people, ...pushers, ...authors].filter((one) => one !== undefined)
    return { identities: [...new Set(all)].sort(), ...(note === undefined ? {} : { note }) }
  }
}

function goneSentence(release = '', since: string): string {
  return `the last release ${release.slice(0, 12)} is no longer in the repository, so that whoever wrote anything ${since} may not approve`
}
