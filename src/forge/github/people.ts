import { z } from 'zod'
import { found, read } from '../answers.ts'
import type { Access, People } from '../types.ts'
import type { Connection } from './connect.ts'

const Permission = z.object({ permission: z.string(), role_name: z.string().nullish() })

/** GitHub's own five roles come as these four; what a newer server may add gives nothing. */
const ACCESS_OF: Readonly<Record<string, Access>> = { admin: 'admin', write: 'write', read: 'read', none: 'none' }

export function createPeople({ octokit, at }: Connection): People {
  async function permissionOf(login: string) {
    const answer = await found(octokit.rest.repos.getCollaboratorPermissionLevel({ ...at, username: login }))
    return answer && read(Permission, answer)
  }

  return {
    async access(login) {
      const known = await permissionOf(login)
      return (known && ACCESS_OF[known.permission]) ?? 'none'
    },
    async role(login) {
      const known = await permissionOf(login)
      const access = (known && ACCESS_OF[known.permission]) ?? 'none'
      return access === 'write' && known?.role_name === 'maintain' ? 'maintain' : access
    },
  }
}
