import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import express from 'express'
import { pino } from 'pino'
import { loadConfig } from '../../src/config/load.ts'
import type { Config, RepositoryConfig } from '../../src/config/types.ts'
import { createForges } from '../../src/forge/index.ts'
import type { Forge } from '../../src/forge/types.ts'
import { createMirrors, type Mirrors } from '../../src/git/mirrors.ts'
import { createAttendant } from '../../src/rules/attendant.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { RunRow, Store } from '../../src/store/types.ts'
import { createWebhookRouter } from '../../src/webhook/router.ts'
import { createRules } from '../../worker/rules.ts'
import { ALL_EVENTS, ALL_PERMISSIONS, HOOK_SECRET, type Hub, REPO, startHub } from '../forge/github.ts'

/** A team at a GitHub: deliveries, receiver, database, rules and API, all of them real but GitHub. */
export interface Team {
  readonly hub: Hub
  readonly world: Hub['github']['world']
  readonly config: Config
  readonly store: Store
  readonly forge: Forge
  readonly mirrors: Mirrors
  readonly forges: (repository: RepositoryConfig) => Forge
  readonly clock: () => number
  /** The rules of another control worker, with the same database. */
  anotherReview(): Promise<void>
  /** Until all that GitHub has told is dealt with and every rule has looked at it. */
  settle(): Promise<void>
  /** Time goes by for the store and the rules, and not for GitHub. */
  pass(ms: number): void
  /** Where GitHub delivers to. */
  readonly hookUrl: string
  /** Connections to it are cut. */
  serverIsDown: boolean
  /** Time goes by for GitHub. */
  passAtGithub(ms: number): void
  runs(): Promise<readonly RunRow[]>
  stop(): Promise<void>
}

export const LOG = pino({ level: process.env.PENSTOCK_TEST_LOG ?? 'silent' })

/** `acme/web` with the people ada (may write), ben (may approve, may write) and mallory (may only read). */
export async function startTeam(
  options: {
    readonly environments?: string
    readonly mergeLabel?: string
    /** One more line of the repository's settings. */
    readonly settings?: string
    /** More people, as lines of the operator's file. */
    readonly people?: string
    /** One more repository, of which only the operator's file knows. */
    readonly more?: string
  } = {},
): Promise<Team> {
  const dir = await mkdtemp(join(tmpdir(), 'pst-team-'))
  let aheadAtGithub = 0
  const hub = await startHub({ clock: () => Date.now() + aheadAtGithub })
  const { world } = hub.github
  world.setAccess(REPO, 'ben', 'write')
  world.setAccess(REPO, 'mallory', 'read')
  // Whoever listens on it is known only when everything else is there.
  let receive: express.Handler | undefined
  const server: Server = createServer(
    express().use((request, response, next) =>
      team.serverIsDown ? request.destroy() : receive?.(request, response, next),
    ),
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks/github`
  const { id, privateKey } = world.createApp({
    ...{ slug: 'penstock', permissions: ALL_PERMISSIONS, events: ALL_EVENTS, hook: { url, secret: HOOK_SECRET } },
  })
  world.installApp([REPO])
  const file = join(dir, 'penstock.config.yml')
  await writeFile(
    file,
    `
server: { listen: "127.0.0.1:0", url: "http://ci.test" }
people:
  ada: { roles: [developer], github: ada, email: ada@example.org }
  ben: { roles: [approver], github: ben }
  olga: { roles: [admin] }
  mia: { roles: [admin], github: mallory }
  cleo: { roles: [developer] }
${options.people ?? ''}
repositories:
  ${REPO}:
    forge: { github: { api: "${hub.github.url}", app: { id: "${id}", private_key: { env: PRIVATE_KEY } } } }
    url: ${hub.github.url}/${REPO}.git
    webhook_secrets: [{ env: HOOK_SECRET }]
${options.settings === undefined ? '' : `    ${options.settings}\n`}${options.mergeLabel === undefined ? '' : `    merge_label: "${options.mergeLabel}"\n`}    environments: ${options.environments ?? '{ staging: {}, production: { approvers: ["role:approver"] } }'}
${options.more === undefined ? '' : `  ${options.more}: { forge: git, url: ${dir}/none.git, webhook_secrets: [{ env: HOOK_SECRET }] }`}
`,
  )
  const config = await loadConfig({ file, env: { PENSTOCK_DATA: dir, PRIVATE_KEY: privateKey, HOOK_SECRET } })
  let ahead = 0
  const clock = () => Date.now() + ahead
  const store = await openStore({ url: `sqlite:${join(dir, 'penstock.db')}`, clock })
  const mirrors = createMirrors({ dir: join(dir, 'mirrors') })
  const forges = createForges({ mirrors, url: config.server.url, log: LOG, clock })
  const { repositories } = config
  const newAttendant = () => {
    const rules = createRules({ config, store, forges, mirrors, clock, log: LOG })
    return createAttendant({ notices: store.notices, repositories, forges, rules, clock, log: LOG })
  }
  const attendant = newAttendant()
  const another = newAttendant()
  receive = createWebhookRouter({ config, store, log: LOG })

  const team: Team = {
    hub,
    world,
    config,
    hookUrl: url,
    serverIsDown: false,
    store,
    mirrors,
    forges,
    clock,
    anotherReview: () => another.review(),
    forge: forges(config.repositories[REPO] as RepositoryConfig),
    async settle() {
      // What a rule does at GitHub comes back as a delivery.
      const attended = async () => {
        await world.webhooks.settled()
        return attendant.once()
      }
      while ((await attended()) > 0);
      await attendant.review()
      while ((await attended()) > 0);
    },
    pass: (ms) => {
      ahead += ms
    },
    passAtGithub: (ms) => {
      aheadAtGithub += ms
    },
    runs: () => store.runs.list({ limit: 200 }),
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await store.close()
      await hub.github.stop()
      await rm(dir, { recursive: true, force: true })
    },
  }
  return team
}
