import type { Config, RepositoryConfig } from '../src/config/types.ts'
import type { ReportPort } from '../src/core/report/types.ts'
import { createReportPort } from '../src/forge/report-port.ts'
import type { Forge } from '../src/forge/types.ts'
import { compileMasker } from '../src/logs/masker.ts'

/** What each repository's forge can show; made once a repository, undefined where it shows nothing. */
export function createPorts(
  config: Pick<Config, 'repositories'>,
  forges: (repository: RepositoryConfig) => Forge,
): (repo: string) => ReportPort | undefined {
  const ports = new Map<string, ReportPort | undefined>()
  return (repo) => {
    const repository = Object.hasOwn(config.repositories, repo) ? config.repositories[repo] : undefined
    if (repository === undefined) return undefined
    if (!ports.has(repo)) {
      const port = createReportPort({ forge: forges(repository), isProduction: (name) => isGated(repository, name) })
      ports.set(repo, Object.keys(port).length > 0 ? port : undefined)
    }
    return ports.get(repo)
  }
}

/** What goes to the environment with a gate is released: it is production, whatever its name. */
function isGated({ environments }: RepositoryConfig, name: string): boolean {
  return Object.hasOwn(environments, name) && environments[name]?.gate !== undefined
}

/** Takes the repository's secrets out of what leaves for its forge, as they are taken out of logs. */
export function createMasks(config: Config): (repo: string, text: string) => string {
  const maskers = new Map(
    Object.values(config.repositories).map(({ name: repo, secrets }) => {
      const values = Object.entries(secrets).map(([name, secret]) => ({ name, value: secret.reveal() }))
      return [repo, compileMasker(values)] as const
    }),
  )
  return (repo, text) => {
    const masker = maskers.get(repo)?.()
    if (masker === undefined) return text
    return Buffer.concat([masker.push(Buffer.from(text)).out, masker.flush().out]).toString('utf8')
  }
}

export function addressesOf(repository: RepositoryConfig | undefined): Readonly<Record<string, string>> {
  const environments = Object.values(repository?.environments ?? {})
  return Object.fromEntries(environments.flatMap(({ name, url }) => (url === undefined ? [] : [[name, url]])))
}
