import type { Mirrors, Source } from '../../git/mirrors.ts'
import type { Forge } from '../types.ts'
import { createComments } from './comments.ts'
import { connect, type GiteaOptions } from './connect.ts'
import { createPeople } from './people.ts'
import { createPullRequests } from './pull-requests.ts'
import { createRefs } from './refs.ts'
import { createStatuses } from './statuses.ts'

/** Gitea and Forgejo. They have neither checks nor deployments, and tell nothing of deliveries that were lost. */
export function createGiteaForge(
  options: GiteaOptions & {
    /** Where commits are fetched from. */
    readonly url: string
    readonly mirrors: Mirrors
  },
): Forge {
  const { url, token, mirrors } = options
  const connection = connect(options)
  const source = async (): Promise<Source> => {
    // Other addresses (a path, ssh) have credentials of their own; the token is for the forge only.
    if (!/^https?:\/\//.test(url)) return { url }
    const credentials = Buffer.from(`${await connection.login()}:${token}`).toString('base64')
    return { url, auth: `Authorization: Basic ${credentials}` }
  }
  const { openAt, ...pullRequests } = createPullRequests(connection)
  const { branchTip, fastForward, branches } = createRefs(connection, { mirrors, source, openAt })
  return {
    source,
    branchTip,
    fastForward,
    branchHeads: async () => mirrors.heads(await source()),
    branches,
    pullRequests,
    comments: createComments(connection),
    people: createPeople(connection),
    statuses: createStatuses(connection),
  }
}
