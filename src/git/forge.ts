import type { FastForward, Mirrors, Source } from './mirrors.ts'

/** What a run needs of the place a repository lives at. */
export interface Forge {
  /** Where commits are fetched from. */
  readonly source: Source
  /** Moves a branch to a commit, only forward. Repeatable. */
  fastForward(branch: string, commit: string): Promise<FastForward>
}

/** A plain git repository: a path on this disk, ssh or https. */
export function createGitForge(mirrors: Mirrors, repo: string, source: Source): Forge {
  return { source, fastForward: (branch, commit) => mirrors.fastForward(repo, source, branch, commit) }
}
