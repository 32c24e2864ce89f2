import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pino } from 'pino'
import { createApp, createHttpServer } from '../../src/api/app.ts'
import type { ApiDeps } from '../../src/api/deps.ts'
import { createArtifactStore } from '../../src/artifacts/store.ts'
import { loadConfig } from '../../src/config/load.ts'
import type { Config } from '../../src/config/types.ts'
import { type Admitted, admit } from '../../src/core/admission.ts'
import type { Job, Plan } from '../../src/core/plan.ts'
import type { Forge } from '../../src/forge/types.ts'
import { createTextMasker } from '../../src/logs/masker.ts'
import { createLogStore, type LogStore } from '../../src/logs/store.ts'
import { parseJUnit } from '../../src/results/junit.ts'
import { writeJUnit } from '../../src/results/write-junit.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { RunRow, Store } from '../../src/store/types.ts'
import { COMMIT } from '../forge/payloads.ts'

export const HOOK_SECRET = 'secret-of-acme-web-32-bytes-long'
export const OLD_SECRET = 'secret-that-is-being-rotated-out'
export const OTHER_SECRET = 'secret-of-acme-other-32-bytes-lo'
export const PLAIN_SECRET = 'secret-of-acme-plain-32-bytes-lo'
export const WORKER_TOKEN = 'worker-token-for-the-tests'
export const NPM_TOKEN = 'npm_0123456789'

export const OPERATORS_FILE = `
server: { listen: "127.0.0.1:0", url: "http://ci.test" }
people:
  ada: { roles: [admin], github: ada-l, email: ada@example.org }
  ben: { roles: [approver], github: ben-o }
  cyd: { roles: [approver], git: cyd-p }
  dev: { roles: [developer] }
  eve: { roles: [viewer] }
  ops: { roles: [operator] }
repositories:
  acme/web:
    forge: github
    url: /srv/git/web.git
    webhook_secrets: [{ env: HOOK_SECRET }, { env: OLD_SECRET }]
    secrets: { NPM_TOKEN: { env: NPM_TOKEN }, UNUSED: { env: UNUSED } }
    environments:
      staging: { url: "http://staging.test" }
      production: { approvers: [ada, "role:approver"], quorum: 1 }
  acme/other:
    forge: github
    url: /srv/git/other.git
    webhook_secrets: [{ env: OTHER_SECRET }]
  acme/plain:
    forge: git
    unknown_pusher: refuse
    url: /srv/git/plain.git
    webhook_secrets: [{ env: PLAIN_SECRET }]
pools:
  rig: { units: { rig-1: { labels: [arch=arm64] } } }
`

/** A repository with nothing set up at its forge beyond git. */
export const PLAIN_FORGE: Forge = {
  source: async () => ({ url: '/srv/git/plain.git' }),
  fastForward: async () => ({ kind: 'already' }),
  branchTip: async (branch) => (branch === 'master' ? COMMIT : undefined),
}

const WEB_FORGE: Forge = {
  ...PLAIN_FORGE,
  check: async () => [
    { about: 'access', name: 'acme/web', state: 'present', weight: 'needed', why: 'to do anything at all' },
    {
      about: 'permission',
      name: 'statuses: write',
      state: 'missing',
      weight: 'needed',
      why: 'to show each stage',
      mend: 'set Statuses to write\u001b[2J',
    },
  ],
}

const OURS = admit('push', { origin: 'branch', specChanged: false, approved: false }) as Admitted

export interface Running {
  readonly url: string
  readonly store: Store
  readonly logs: LogStore
  readonly config: Config
  readonly deps: ApiDeps
  /** By repository; others have nothing set up beyond git. */
  readonly forges: Map<string, Forge>
  token(person: string): Promise<string>
  /** `fetch` with a person's token (or none), JSON in and out. */
  ask(
    person: string | undefined,
    method: string,
    path: string,
    body?: unknown,
  ): Promise<{ readonly status: number; readonly body: never; readonly headers: Headers }>
  /** A push to master unless `admission` says that it is somebody else's code. */
  run(trigger?: { readonly pusher?: string; readonly author?: string }, admission?: Admitted): Promise<RunRow>
  now(ms?: number): number
  stop(): Promise<void>
}

/** The real store, the real log store, real HTTP on a free port; only the time is ours. */
export async function startServer(): Promise<Running> {
  const dir = await mkdtemp(path.join(tmpdir(), 'pst-api-'))
  const file = path.join(dir, 'penstock.config.yml')
  await writeFile(file, OPERATORS_FILE)
  const config = await loadConfig({
    file,
    env: {
      PENSTOCK_DATA: dir,
      HOOK_SECRET,
      OLD_SECRET,
      OTHER_SECRET,
      PLAIN_SECRET,
      NPM_TOKEN,
      UNUSED: 'unused-secret',
      PENSTOCK_WORKER_TOKEN: WORKER_TOKEN,
    },
  })
  let time = Date.parse('2026-01-31T12:00:00Z')
  const clock = () => time
  const store = await openStore({ url: `sqlite:${path.join(dir, 'penstock.db')}`, clock })
  const logs = createLogStore({ dir: path.join(dir, 'logs'), clock })
  const forges = new Map([['acme/web', WEB_FORGE]])
  const deps: ApiDeps = {
    config,
    store,
    logs,
    artifacts: createArtifactStore({ dir: path.join(dir, 'artifacts') }),
    evidence: createArtifactStore({ dir: path.join(dir, 'evidence') }),
    log: pino({ level: process.env.PENSTOCK_TEST_LOG ?? 'silent' }),
    clock,
    headOf: async (_repo, ref) => (ref === 'refs/heads/master' ? COMMIT : undefined),
    forges: ({ name }) => forges.get(name) ?? PLAIN_FORGE,
    authorsOf: async (_repo, { author, pusher }) => ({
      identities: [author, pusher].filter((one) => one !== undefined),
    }),
    isOnBranch: async (_repo, commit) => commit === COMMIT,
    specDifference: async (_repo, _commit, base) => ({ changed: true, base, tip: COMMIT, text: '+run: \u202eevil\n' }),
    textMasker: createTextMasker,
    parseJunit: (bytes) => parseJUnit(bytes).cases,
    writeJunit: writeJUnit,
  }
  const server: Server = createHttpServer(createApp(deps))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const tokens = new Map<string, string>()
  let deliveries = 0

  const token = async (person: string): Promise<string> => {
    const known = tokens.get(person)
    if (known !== undefined) return known
    const made = (await store.people.createToken(person, 86_400_000)).token
    tokens.set(person, made)
    return made
  }
  return {
    url,
    store,
    logs,
    config,
    deps,
    forges,
    token,
    async ask(person, method, where, body) {
      const response = await fetch(`${url}${where}`, {
        method,
        headers: {
          ...(person === undefined
            ? {}
            : { authorization: `Bearer ${person === 'worker' ? WORKER_TOKEN : await token(person)}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      const text = await response.text()
      const isJson = /[/+]json\b/.test(response.headers.get('content-type') ?? '')
      return { status: response.status, headers: response.headers, body: (isJson ? JSON.parse(text) : text) as never }
    },
    async run(people = {}, admission = OURS) {
      const recorded = await store.deliveries.record(
        { source: 'test', id: `test-${++deliveries}`, bodyDigest: '0'.repeat(64), event: 'push' },
        {
          kind: 'push',
          repo: 'acme/web',
          requestedBy: 'test',
          change: { commit: deliveries.toString(16).padStart(40, 'a'), ref: 'refs/heads/master', ...people },
        },
        admission,
      )
      if (recorded.kind !== 'run') throw new Error(`no run: ${recorded.kind}`)
      return recorded.run
    },
    now: (ms = 0) => (time += ms),
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await logs.close()
      await store.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

function job(name: string, steps: readonly string[], secrets: readonly string[] = []): Job {
  return {
    name,
    needs: [],
    segments: [{ image: 'busybox', steps: steps.map((step) => ({ name: step, run: ['true'], env: {} })) }],
    env: {},
    secrets: secrets.map((secret) => ({ name: secret, env: true })),
    workdir: '/workspace',
    timeoutSeconds: 60,
    resources: { cpus: { reserve: 0, limit: 1 }, memory: { reserve: 0, limit: 1 }, pids: 100 },
    constraints: [],
    pools: [],
    reports: { junit: [] },
    onLost: 'fail',
  }
}

export const PLAN: Plan = {
  version: 1,
  repo: 'acme/web',
  specDigest: 'd'.repeat(64),
  stages: [
    { kind: 'jobs', name: 'test', jobs: [job('unit', ['install', 'tests'], ['NPM_TOKEN']), job('lint', ['ruff'])] },
    { kind: 'jobs', name: 'e2e', jobs: [job('unit', ['browser'])] },
    { kind: 'gate', name: 'approval', environment: 'production' },
  ],
}
