import type { Source } from '../../git/mirrors.ts'
import type { Forge } from '../types.ts'
import { createCheck } from './check.ts'
import { createChecks } from './checks.ts'
import { createComments } from './comments.ts'
import { connect, type GithubAccess } from './connect.ts'
import { createDeliveries } from './deliveries.ts'
import { createDeployments } from './deployments.ts'
import { createLacks, type Log } from './lacks.ts'
import { createPeople } from './people.ts'
import { createPullRequests } from './pull-requests.ts'
import { createRefs } from './refs.ts'
import { createStatuses } from './statuses.ts'

export interface GithubOptions {
  /** `acme/web` */
  readonly repo: string
  readonly api: string
  readonly access: GithubAccess
  /** Where commits are fetched from. */
  readonly url: string
  /** Where deliveries are taken. */
  readonly hook: string
  readonly branches: { readonly candidate: string; readonly production: string }
  readonly log: Log
  readonly clock: () => number
}

export function createGithubForge({ repo, api, access, url, hook, branches, log, clock }: GithubOptions): Forge {
  const connection = connect({ repo, api, access })
  const lacks = createLacks({ log, clock })
  const { branches: named, ...refs } = createRefs(connection, lacks)
  return {
    async source(): Promise<Source> {
      // Other addresses (a path, ssh) have credentials of their own; the token is for GitHub only.
      if (!/^https?:\/\//.test(url)) return { url }
      const credentials = Buffer.from(`x-access-token:${await connection.gitToken()}`).toString('base64')
      return { url, auth: `Authorization: Basic ${credentials}` }
    },
    ...refs,
    branches: named,
    pullRequests: createPullRequests(connection),
    comments: createComments(connection),
    people: createPeople(connection),
    statuses: createStatuses(connection),
    ...(access.kind === 'app' ? { checks: createChecks(connection, lacks) } : {}),
    deployments: createDeployments(connection, lacks),
    deliveries: createDeliveries(connection, hook, lacks),
    check: createCheck(connection, { hook, branches, branchTip: refs.branchTip }),
  }
}
