import type { Mirrors, Source } from '../../git/mirrors.ts'
import type { Forge } from '../types.ts'

/** A plain git repository: a path on this disk, ssh or https. What git itself can do, and nothing else. */
export function createGitForge(mirrors: Mirrors, repo: string, source: Source): Forge {
  return {
    source: async () => source,
    fastForward: (branch, commit) => mirrors.fastForward(repo, source, branch, commit),
    branchTip: (branch) => mirrors.head(source, branch),
  }
}
