import type { RepositoryConfig } from '../config/types.ts'
import { createGitForge, type Forge } from '../git/forge.ts'
import type { Mirrors, Source } from '../git/mirrors.ts'
import { type CommitStatus, createGithubClient } from './github/client.ts'

/** A repository at a forge: what any repository can do, and statuses of commits where the forge shows them. */
export interface StatusForge extends Forge {
  readonly setStatus?: (status: CommitStatus) => Promise<void>
}

/** The forge of a repository, as the operator's file describes it. */
export function createForge(repository: RepositoryConfig, mirrors: Mirrors): StatusForge {
  const { forge, name, url } = repository
  const source = sourceOf(repository)
  const plain = createGitForge(mirrors, name, source)
  // Without a token GitHub takes nothing from us; what git can do by itself (over ssh, say) it does.
  if (forge.kind === 'git' || forge.token === undefined) return plain
  const client = createGithubClient({ repo: name, api: forge.api, token: forge.token.reveal() })
  return {
    source,
    fastForward: (branch, commit) => client.fastForward(branch, commit),
    setStatus: (status) => client.setStatus(status),
  }

  function sourceOf({ forge: kind }: RepositoryConfig): Source {
    if (kind.kind === 'git' || kind.token === undefined || !url.startsWith('https://')) return { url }
    const credentials = Buffer.from(`x-access-token:${kind.token.reveal()}`).toString('base64')
    return { url, auth: `Authorization: Basic ${credentials}` }
  }
}
