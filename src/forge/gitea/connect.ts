import { z } from 'zod'
import { read } from '../answers.ts'
import { createRest, type Rest } from '../rest.ts'

export interface GiteaOptions {
  /** `acme/web` */
  readonly repo: string
  /** `https://HOST/api/v1` */
  readonly api: string
  readonly token: string
}

/** What the files beside this one use: one account at one repository. */
export interface Connection {
  readonly repo: string
  readonly rest: Rest
  /** Path of the repository in the API. */
  readonly at: string
  /** The account that our comments and statuses are by. */
  login(): Promise<string>
}

const Account = z.object({ login: z.string().min(1) })

export function connect({ repo, api, token }: GiteaOptions): Connection {
  const rest = createRest({ name: 'Gitea', api, authorization: `token ${token}`, pageSize: 'limit' })
  let login: string | undefined
  return {
    repo,
    rest,
    at: `/repos/${repo.split('/').map(encodeURIComponent).join('/')}`,
    async login() {
      login ??= read(Account, await rest.get('/user')).login
      return login
    },
  }
}

/** Of a branch: its slashes stay, as Gitea's own paths have them. */
export function inPath(branch: string): string {
  return branch.split('/').map(encodeURIComponent).join('/')
}
