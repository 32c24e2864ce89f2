import type { Finding } from '../forge/types.ts'
import type { ApiDeps } from './deps.ts'
import { json, notFound, type Route } from './route.ts'

/** What the set-up of one repository at its forge looks like. */
export interface ForgeChecked {
  readonly repo: string
  readonly forge: string
  /** Empty: this forge has nothing to set up beyond the webhook. */
  readonly findings: readonly Finding[]
  /** The forge could not be asked. */
  readonly error?: string
}

export function forgeRoutes({ config, forges, log }: ApiDeps): readonly Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/forge/check',
      permission: 'forge',
      summary:
        'What each repository’s settings at its forge need: permissions, webhook, protection of branches; which are missing, and how to mend each.',
      query: { repo: 'only this repository' },
      async handle({ query }) {
        const repo = query.get('repo')
        const repositories = Object.values(config.repositories).filter((one) => repo === null || one.name === repo)
        if (repo !== null && repositories.length === 0) throw notFound()
        return json({ repositories: await Promise.all(repositories.map(check)) })
      },
    },
  ]

  async function check(repository: ApiDeps['config']['repositories'][string]): Promise<ForgeChecked> {
    const known = { repo: repository.name, forge: repository.forge.kind }
    try {
      return { ...known, findings: (await forges(repository).check?.()) ?? [] }
    } catch (err) {
      // One forge that is down does not hide what the others say.
      log.warn({ repo: repository.name, err }, 'a forge could not be asked for its settings')
      return { ...known, findings: [], error: err instanceof Error ? err.message : String(err) }
    }
  }
}
