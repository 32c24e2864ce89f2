import { z } from 'zod'
import { found, read } from '../answers.ts'
import type { Access, People } from '../types.ts'
import type { Connection } from './connect.ts'

const Permission = z.object({ permission: z.string() })

/** What a newer server may add gives nothing. */
const ACCESS_OF: Readonly<Record<string, Access>> = {
  owner: 'admin',
  admin: 'admin',
  write: 'write',
  read: 'read',
  none: 'none',
}

/** Gitea tells it to administrators of the repository only. */
export function createPeople({ rest, at }: Connection): People {
  async function access(login: string): Promise<Access> {
    const answer = await found(rest.get(`${at}/collaborators/${encodeURIComponent(login)}/permission`))
    return (answer && ACCESS_OF[read(Permission, answer).permission]) ?? 'none'
  }
  return { access, role: access }
}
