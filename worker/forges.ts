import type { RepositoryConfig } from '../src/config/types.ts'
import { createForge } from '../src/forge/index.ts'
import { createGitForge, type Forge } from '../src/git/forge.ts'
import type { Mirrors } from '../src/git/mirrors.ts'

/** The forge of each repository, by its kind. */
export function createForges(mirrors: Mirrors): (repository: RepositoryConfig) => Forge {
  return (repository) => {
    const { forge, name, url } = repository
    if (forge.kind === 'git') return createGitForge(mirrors, name, { url })
    return createForge(repository, mirrors)
  }
}
