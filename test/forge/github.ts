import type { FakeGithubOptions } from '../../src/embedded/fake-github/server.ts'
import type { GithubAccess } from '../../src/forge/github/connect.ts'
import { createGithubForge } from '../../src/forge/github/forge.ts'
import { EVENTS, PERMISSIONS } from '../../src/forge/github/permissions.ts'
import type { Forge } from '../../src/forge/types.ts'
import { type CheckedGithub, startGithub } from '../helpers/github/github.ts'

export const REPO = 'acme/web'
export const TOKEN = 'ghp_0123456789'
export const HOOK_SECRET = 'secret-of-acme-web-32-bytes-long'
export const ALL_PERMISSIONS = Object.fromEntries(PERMISSIONS.map(({ name, level }) => [name, level]))
export const ALL_EVENTS = EVENTS.map((one) => one.name)

export interface Logged {
  readonly fields: Readonly<Record<string, unknown>>
  readonly message: string
}

export interface Hub {
  readonly github: CheckedGithub
  readonly logged: readonly Logged[]
  /** Where deliveries are taken, if anybody is there. */
  hook: string
  forge(access?: GithubAccess): Forge
  push(branch: string, parent?: string): Promise<string>
  /** How many calls there were, by the template of the path. */
  calls(name: string): number
  /** Milliseconds that the forge's clock is ahead. */
  ahead: number
}

/** `acme/web` at a GitHub, where the account `penstock` may write. */
export async function startHub(options: Partial<FakeGithubOptions> = {}): Promise<Hub> {
  const github = await startGithub(options)
  const { world } = github
  await world.addRepository(REPO)
  world.addToken('penstock', TOKEN, ['repo', 'admin:repo_hook', 'workflow'])
  world.setAccess(REPO, 'penstock', 'admin')
  world.setAccess(REPO, 'ada', 'write')
  const logged: Logged[] = []
  let commits = 0
  const hub: Hub = {
    github,
    logged,
    hook: 'http://ci.test/hooks/github',
    ahead: 0,
    forge: (access = { kind: 'token', token: TOKEN }) =>
      createGithubForge({
        repo: REPO,
        api: github.url,
        access,
        url: `${github.url}/${REPO}.git`,
        hook: hub.hook,
        branches: { candidate: 'master', production: 'production' },
        log: { warn: (fields, message) => logged.push({ fields: fields as Logged['fields'], message }) },
        clock: () => Date.now() + hub.ahead,
      }),
    push(branch, parent) {
      commits += 1
      const message = `commit ${commits}`
      return world.push(REPO, branch, {
        ...{ by: 'ada', message, files: { 'a.txt': message } },
        ...(parent === undefined ? {} : { parent }),
      })
    },
    calls: (name) => github.exchanges.filter((one) => `${one.method} ${one.template}` === name).length,
  }
  return hub
}

/** An App with all that Penstock asks for, installed on `acme/web`. */
export function installedApp(
  { github: { world } }: Hub,
  granted: Readonly<Record<string, string>> = ALL_PERMISSIONS,
  hook?: { readonly url: string; readonly secret: string },
): GithubAccess {
  const { id, privateKey } = world.createApp({
    ...{ slug: 'penstock', permissions: granted, events: ALL_EVENTS },
    ...(hook === undefined ? {} : { hook }),
  })
  world.installApp([REPO])
  return { kind: 'app', id: String(id), privateKey }
}
