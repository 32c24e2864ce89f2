import { z } from 'zod'
import { PERMISSIONS, permissionsOf } from '../config/roles.ts'
import type { ApiDeps } from './deps.ts'
import { ProblemError, problem } from './problem.ts'
import { invalid, json, NOTHING, notFound, type Route } from './route.ts'
import { CHANNEL_QUERY, Channel, channelIn } from './said.ts'

const DAY_MS = 86_400_000
const MAX_DAYS = 365

const NewToken = z.strictObject({
  person: z.string().min(1).max(100),
  /** Required: a token that never ends is never looked at again. */
  expiresInDays: z
    .number({ error: `is needed: from 1 to ${MAX_DAYS}` })
    .gt(0)
    .max(MAX_DAYS, `must be ${MAX_DAYS} or less`),
  channel: Channel,
})

/** Health, who one is, and tokens. */
export function accountRoutes({ config, store, log }: ApiDeps): readonly Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/health',
      permission: 'open',
      summary: 'Whether the server can do its work: 200, or 503 when its database does not answer.',
      async handle() {
        try {
          await store.runs.list({ limit: 1 })
        } catch (err) {
          log.error({ err }, 'the database does not answer')
          throw new ProblemError(problem(503, 'the database does not answer'), { 'Retry-After': '5' })
        }
        return json({ status: 'ok' })
      },
    },
    {
      method: 'GET',
      path: '/api/v1/me',
      permission: 'read',
      summary: 'Whose token this is, and what it may do.',
      async handle({ by }) {
        const roles = config.people[by]?.roles ?? []
        const permissions = permissionsOf(roles)
        return json({ name: by, roles, permissions: PERMISSIONS.filter((one) => permissions.has(one)) })
      },
    },
    {
      method: 'GET',
      path: '/api/v1/tokens',
      permission: 'tokens',
      summary: 'The live tokens: whose, until when, last used when. Never the token itself.',
      query: { person: 'only this person' },
      async handle({ query }) {
        return json({ tokens: await store.people.tokens(query.get('person') ?? undefined) })
      },
    },
    {
      method: 'POST',
      path: '/api/v1/tokens',
      permission: 'tokens',
      summary: 'A new token for a person, shown this once.',
      body: { kind: 'json', schema: NewToken },
      async handle({ body, by }) {
        const { person, expiresInDays, channel } = body as z.infer<typeof NewToken>
        if (config.people[person] === undefined) {
          throw invalid([
            {
              pointer: '/person',
              detail: `is not among the people of the operator's file: ${Object.keys(config.people).join(', ')}`,
            },
          ])
        }
        const { token, row } = await store.people.createToken(person, Math.round(expiresInDays * DAY_MS))
        await store.audit.record({
          by,
          channel,
          action: 'token.created',
          on: row.id,
          detail: { person, expiresAt: row.expiresAt },
        })
        return json({ token, ...row }, 201)
      },
    },
    {
      method: 'DELETE',
      path: '/api/v1/tokens/:token',
      permission: 'tokens',
      summary:
        'Revokes a token, by its id. Streams that it opened end within 5 s; vote tokens of its person end with it.',
      query: CHANNEL_QUERY,
      async handle({ params, query, by }) {
        const id = params.token ?? ''
        const channel = channelIn(query)
        if (!(await store.people.revokeToken(id))) throw notFound()
        await store.audit.record({ by, channel, action: 'token.revoked', on: id })
        return NOTHING
      },
    },
  ]
}
