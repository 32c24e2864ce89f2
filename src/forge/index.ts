import type { RepositoryConfig } from '../config/types.ts'
import type { Mirrors } from '../git/mirrors.ts'
import { createGitForge } from './git/forge.ts'
import { createGiteaForge } from './gitea/forge.ts'
import type { GithubAccess } from './github/connect.ts'
import { createGithubForge } from './github/forge.ts'
import type { Log } from './github/lacks.ts'
import { createGitlabForge } from './gitlab/forge.ts'
import type { Forge } from './types.ts'

export interface ForgesDeps {
  readonly mirrors: Mirrors
  /** Address of our server, as forges reach it. */
  readonly url: string
  readonly log: Log
  readonly clock: () => number
}

/**
 * The forge of a repository, as the operator's file describes it. One for each repository and process: it keeps tokens,
 * the pace that the forge asks for, and what the forge turned out to lack.
 */
export function createForges({ mirrors, url, log, clock }: ForgesDeps): (repository: RepositoryConfig) => Forge {
  const made = new WeakMap<RepositoryConfig, Forge>()
  return (repository) => {
    const known = made.get(repository)
    if (known !== undefined) return known
    const forge = create(repository)
    made.set(repository, forge)
    return forge
  }

  function create({ forge, name, url: from, branches }: RepositoryConfig): Forge {
    // Without credentials no API takes anything from us; what git can do by itself (over ssh, say) it does.
    if (forge.kind === 'git' || forge.access === undefined) return createGitForge(mirrors, name, { url: from })
    if (forge.kind !== 'github') {
      const make = forge.kind === 'gitea' ? createGiteaForge : createGitlabForge
      return make({ repo: name, api: forge.api, token: forge.access.token.reveal(), url: from, mirrors })
    }
    return createGithubForge({
      repo: name,
      api: forge.api,
      access: revealed(forge.access),
      url: from,
      hook: `${url}/hooks/github`,
      branches,
      log,
      clock,
    })
  }
}

function revealed(access: NonNullable<Extract<RepositoryConfig['forge'], { kind: 'github' }>['access']>): GithubAccess {
  if (access.kind === 'token') return { kind: 'token', token: access.token.reveal() }
  const { id, privateKey, installation } = access
  return { kind: 'app', id, privateKey: privateKey.reveal(), ...(installation === undefined ? {} : { installation }) }
}
