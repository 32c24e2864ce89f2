import { join } from 'node:path'
import type { Express } from 'express'
import { createTimekeeper } from '../worker/leases.ts'
import { everyNow } from '../worker/loop.ts'
import { announceReady, createLog, databaseUrl, onShutdown } from '../worker/process.ts'
import { createApp, createHttpServer } from './api/app.ts'
import { writeFirstToken } from './api/first-token.ts'
import { createAuthors } from './approval/authors.ts'
import { createArtifactStore } from './artifacts/store.ts'
import { ConfigInvalid, loadConfig } from './config/load.ts'
import { branchName } from './core/change.ts'
import { createForges } from './forge/index.ts'
import { createMirrors, type Mirrors } from './git/mirrors.ts'
import { serveGit } from './git/serve.ts'
import { createTextMasker } from './logs/masker.ts'
import { createLogStore } from './logs/store.ts'
import { parseJUnit } from './results/junit.ts'
import { writeJUnit } from './results/write-junit.ts'
import { createSpecDifferences } from './rules/spec-difference.ts'
import { SPEC_FILE } from './spec/parse.ts'
import { openStore } from './store/open-store.ts'
import { connectTemporal } from './temporal/client.ts'
import { createDispatcher } from './temporal/dispatcher.ts'

const TIME_EVERY_MS = 2_000

/** Deliveries, the API, and what node workers ask for. Stateless beside the database and the data directory. */
async function main(): Promise<void> {
  const log = createLog('server')
  const config = await loadConfig({ file: process.env.PENSTOCK_CONFIG ?? 'penstock.config.yml', env: process.env })
  const signal = onShutdown(log)
  const store = await openStore({ url: databaseUrl(config), clock: Date.now, log })
  await writeFirstToken({ config, store, log })
  const logs = createLogStore({ dir: join(config.dataDir, 'steps'), clock: Date.now })
  const mirrors = createMirrors({ dir: join(config.dataDir, 'mirrors') })
  const forges = createForges({ mirrors, url: config.server.url, log, clock: Date.now })
  const differences = createSpecDifferences({ mirrors, file: SPEC_FILE })
  const temporal = connectTemporal(config.temporal)
  const evidence = createArtifactStore({ dir: join(config.dataDir, 'evidence') })
  // Of what was deleted when a kill came between the record and the file.
  for (const digest of await store.sessions.goneEvidence()) await evidence.remove(digest)
  const app = createApp({
    config,
    store,
    logs,
    artifacts: createArtifactStore({ dir: join(config.dataDir, 'artifacts') }),
    evidence,
    log,
    clock: Date.now,
    headOf: async (repo, ref) => {
      const repository = config.repositories[repo]
      return repository && forges(repository).branchTip(branchName(ref))
    },
    forges,
    authorsOf: createAuthors({ mirrors, forges, store }),
    isOnBranch: async (repository, commit) =>
      mirrors.isOnBranch(repository.name, await forges(repository).source(), commit),
    specDifference: (repository, commit, base) =>
      differences({ name: repository.name, forge: forges(repository) }, commit, base),
    textMasker: createTextMasker,
    parseJunit: (bytes) => parseJUnit(bytes).cases,
    writeJunit: writeJUnit,
    mount: (express) => mountGit(express, mirrors),
  })
  const server = createHttpServer(app)
  const { host, port } = config.server.listen
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, resolve)
  })
  log.info({ address: `${host}:${port}` }, 'the server listens')
  announceReady()

  const timekeeper = createTimekeeper({ store, clock: Date.now, log })
  await Promise.all([
    createDispatcher({ store, client: temporal.client, log, url: config.server.url }).run(signal),
    everyNow('time', TIME_EVERY_MS, signal, log, () => timekeeper.once()),
  ])
  server.close()
  server.closeAllConnections()
  await logs.close()
  await temporal.close()
  await store.close()
}

/** Node workers fetch commits here. The interface has authenticated everything under `/internal` as a worker's. */
function mountGit(app: Express, mirrors: Mirrors): void {
  app.use('/internal/v1/git/:repo', (request, response, next) => {
    serveGit(mirrors.pathOf(request.params.repo), request.path.slice(1), request, response).catch(next)
  })
}

try {
  await main()
} catch (err) {
  if (!(err instanceof ConfigInvalid)) throw err
  process.stderr.write(`${err.message}\n`)
  process.exitCode = 2
}
