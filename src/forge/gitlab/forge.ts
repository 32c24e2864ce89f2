import type { Mirrors, Source } from '../../git/mirrors.ts'
import type { Forge } from '../types.ts'
import { connect, type GitlabOptions } from './connect.ts'
import { createDeployments } from './deployments.ts'
import { createMergeRequests } from './merge-requests.ts'
import { createNotes } from './notes.ts'
import { createPeople } from './people.ts'
import { createRefs } from './refs.ts'
import { createStatuses } from './statuses.ts'

/** GitLab. What is pushed into a branch closes the merge requests that it contains as merged, by GitLab itself. */
export function createGitlabForge(
  options: GitlabOptions & {
    /** Where commits are fetched from. */
    readonly url: string
    readonly mirrors: Mirrors
  },
): Forge {
  const { repo, url, token, mirrors } = options
  const connection = connect(options)
  // Other addresses (a path, ssh) have credentials of their own; the token is for the forge only.
  const credentials = Buffer.from(`oauth2:${token}`).toString('base64')
  const source: Source = /^https?:\/\//.test(url) ? { url, auth: `Authorization: Basic ${credentials}` } : { url }
  return {
    source: async () => source,
    fastForward: (branch, commit) => mirrors.fastForward(repo, source, branch, commit),
    branchHeads: () => mirrors.heads(source),
    ...createRefs(connection),
    pullRequests: createMergeRequests(connection),
    comments: createNotes(connection),
    people: createPeople(connection),
    statuses: createStatuses(connection),
    deployments: createDeployments(connection),
  }
}
