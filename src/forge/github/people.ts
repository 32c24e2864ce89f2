import { z } from 'zod'
import { found, read } from '../answers.ts'
import type { Access, People } from '../types.ts'
import type { Connection } from './connect.ts'

const Permission = z.object({ permission: z.string() })

/** GitHub's own five roles come as these four; what a newer server may add gives nothing. */
const ACCESS_OF: Readonly<Record<string, Access>> = { admin: 'admin', write: 'write', read: 'read', none: 'none' }

export function createPeople({ octokit, at }: Connection): People {
  return {
    async access(login) {
      const answer = await found(octokit.rest.repos.getCollaboratorPermissionLevel({ ...at, username: login }))
      return (answer && ACCESS_OF[read(Permission, answer).permission]) ?? 'none'
    },
  }
}
