import { z } from 'zod'
import { found, read } from '../answers.ts'
import type { Access, People } from '../types.ts'
import { type Connection, User } from './connect.ts'

const Known = User.extend({ id: z.int() })
const Member = z.object({ access_level: z.int(), state: z.string().nullish() })
const Project = z.object({ visibility: z.string() })

const GUEST = 10
const REPORTER = 20
const DEVELOPER = 30
const MAINTAINER = 40
const OWNER = 50

/** A guest sees the code of a public project only, as everybody does. */
function toAccess(level: number, isPublic: boolean): Access {
  if (level >= MAINTAINER) return 'admin'
  if (level >= DEVELOPER) return 'write'
  return level >= REPORTER || (level >= GUEST && isPublic) ? 'read' : 'none'
}

export function createPeople({ rest, at }: Connection): People {
  async function memberOf(login: string) {
    const named = read(z.array(Known), await rest.get('/users', { username: login }))
    const known = named.find(({ username }) => username.toLowerCase() === login.toLowerCase())
    if (known === undefined) return undefined
    // Also those who are members by a group, or by an invitation of one.
    const answer = await found(rest.get(`${at}/members/all/${known.id}`))
    const { visibility } = read(Project, await rest.get(at))
    const member = answer && read(Member, answer)
    const level = member !== undefined && (member.state ?? 'active') === 'active' ? member.access_level : 0
    return { level, isPublic: visibility === 'public' }
  }

  function accessOf(member: Awaited<ReturnType<typeof memberOf>>): Access {
    if (member === undefined) return 'none'
    const { level, isPublic } = member
    return level < GUEST && isPublic ? 'read' : toAccess(level, isPublic)
  }

  return {
    access: async (login) => accessOf(await memberOf(login)),
    async role(login) {
      const member = await memberOf(login)
      const access = accessOf(member)
      return access === 'admin' && (member?.level ?? 0) < OWNER ? 'maintain' : access
    },
  }
}
