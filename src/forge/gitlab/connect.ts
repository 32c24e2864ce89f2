import { z } from 'zod'
import { read } from '../answers.ts'
import { createRest, type Rest } from '../rest.ts'

export interface GitlabOptions {
  /** `acme/web`, or with more groups: `acme/group/web`. */
  readonly repo: string
  /** `https://HOST/api/v4` */
  readonly api: string
  /** Of a project, a group or a person. */
  readonly token: string
}

/** What the files beside this one use: one account at one project. */
export interface Connection {
  readonly repo: string
  readonly rest: Rest
  /** Path of the project in the API. */
  readonly at: string
  /** The account that our comments and statuses are by: of a project's token, a bot of its own. */
  login(): Promise<string>
}

export const User = z.object({ username: z.string().min(1) })

export function connect({ repo, api, token }: GitlabOptions): Connection {
  const rest = createRest({ name: 'GitLab', api, authorization: `Bearer ${token}`, pageSize: 'per_page' })
  let login: string | undefined
  return {
    repo,
    rest,
    at: `/projects/${encodeURIComponent(repo)}`,
    async login() {
      login ??= read(User, await rest.get('/user')).username
      return login
    },
  }
}
