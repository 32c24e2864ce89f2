import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import type { RepositoryConfig } from '../../src/config/types.ts'
import type { Trigger } from '../../src/core/change.ts'
import type { RunEvent } from '../../src/core/events.ts'
import type { Plan, Stage } from '../../src/core/plan.ts'
import type { FakeGithubOptions } from '../../src/embedded/fake-github/server.ts'
import { createReporter } from '../../src/report/reporter.ts'
import { createSender } from '../../src/report/sender.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { RunRow, Store } from '../../src/store/types.ts'
import { createPorts } from '../../worker/forge-reports.ts'
import { DIGEST, plan } from '../core/report/runs.ts'
import { type Hub, installedApp, REPO, startHub } from '../forge/github.ts'

/** As often as the control worker looks. */
const STEP_MS = 500
const LOG = pino({ level: 'silent' })
const STAGING = 'https://staging.example'
const LIVE = 'https://www.example'

/** Store, reporter, sender, GitHub's adapter and a GitHub: all of the way from an event to what people see. */
export interface Shown {
  readonly hub: Hub
  readonly store: Store
  newRun(kind: Trigger['kind'], commit: string, ref: string, pullRequest?: number): Promise<RunRow>
  happens(run: RunRow, ...events: readonly RunEvent[]): Promise<void>
  /** Both duties until nothing is due. Gives the statuses that GitHub has accepted since: `pending: runs` by context. */
  told(): Promise<Readonly<Record<string, string>>>
  /** Time goes by, with the duties at their pace. */
  pass(ms: number): Promise<void>
  stop(): Promise<void>
}

export async function startShown(options: Partial<FakeGithubOptions> = {}): Promise<Shown> {
  const dir = await mkdtemp(join(tmpdir(), 'pst-shown-'))
  const hub = await startHub(options)
  let now = Date.now()
  const clock = () => now
  const store = await openStore({ url: `sqlite:${join(dir, 'penstock.db')}`, clock })
  const forge = hub.forge(installedApp(hub))
  const ports = createPorts({ repositories: { [REPO]: repository(hub) } }, () => forge)
  const reporter = createReporter({
    store,
    portOf: ports,
    urlOf: (run) => `http://ci.test/runs/${run}`,
    testersOf: () => [],
    addressesOf: () => ({ staging: STAGING, production: LIVE }),
    tailOf: async () => ['the last line'],
    mask: (_, text) => text,
    clock,
    log: LOG,
  })
  const sender = createSender({ reports: store.reports, portOf: ports, clock, log: LOG })
  const accepted = () => hub.github.world.repo(REPO).statuses
  let deliveries = 0
  let appends = 0
  let seen = 0

  return {
    hub,
    store,
    async newRun(kind, commit, ref, number) {
      deliveries += 1
      const change = { commit, ref, ...(number === undefined ? {} : { pullRequest: { number, base: 'master' } }) }
      const recorded = await store.deliveries.record(
        { source: 'test', id: String(deliveries), bodyDigest: 'b', event: kind },
        { kind, repo: REPO, change, requestedBy: 'ada' },
      )
      if (recorded.kind !== 'run') throw new Error(`no run: ${recorded.kind}`)
      return recorded.run
    },
    async happens(run, ...events) {
      appends += 1
      await store.events.append(run.id, String(appends), events)
    },
    async told() {
      await reporter.once()
      while ((await sender.once()) > 0);
      const news = accepted().slice(seen)
      seen += news.length
      const byContext = news.map((one) => [one.context, `${one.state}: ${one.description}`] as const)
      if (new Set(news.map(({ context }) => context)).size < news.length) throw new Error('a context was told twice')
      return Object.fromEntries(byContext)
    },
    async pass(ms) {
      for (const end = now + ms; now < end; now += STEP_MS) {
        await reporter.once()
        await sender.once()
      }
    },
    async stop() {
      await store.close()
      await rm(dir, { recursive: true, force: true })
      await hub.github.stop()
    },
  }
}

function repository({ github }: Hub): RepositoryConfig {
  const gate = {
    approvals: [{ from: ['ben', 'eve'], count: 1 }],
    ...{ expiresMs: 3_600_000, onExpiry: 'fail' as const, remindersMs: [] },
  }
  return {
    name: REPO,
    forge: { kind: 'github', api: github.url },
    url: `${github.url}/${REPO}.git`,
    branches: { candidate: 'master', production: 'production' },
    unknownPusher: 'run',
    webhookSecrets: [],
    dependents: { blocking: [], most: 10, timeoutMs: 3_600_000 },
    secrets: {},
    environments: {
      staging: { name: 'staging', url: STAGING },
      production: { name: 'production', url: LIVE, gate },
    },
  }
}

export const started = (stage: string, attempt = 1): RunEvent => ({ type: 'stage.started.v1', stage, attempt })
export const finished = (stage: string, outcome: 'succeeded' | 'failed' = 'succeeded', attempt = 1): RunEvent => ({
  type: 'stage.finished.v1',
  stage,
  attempt,
  outcome,
})
export const began = (number = 1): RunEvent => ({ type: 'run.started.v1', try: number })
export const ended = (outcome: 'succeeded' | 'failed' = 'succeeded', number = 1): RunEvent => ({
  type: 'run.finished.v1',
  try: number,
  outcome,
})

export const FEATURE: Plan = plan(['test'], ['deliver', 'staging', 'e2e'])

const DELIVER: Stage = {
  kind: 'deliver',
  name: 'deliver',
  deliverables: [{ kind: 'image', name: 'web', context: '.', dockerfile: 'Dockerfile' }],
}
export const CANDIDATE: Plan = {
  ...plan(),
  stages: plan().stages.map((one) => (one.name === 'deliver' ? DELIVER : one)),
}
export const BUILT: RunEvent = {
  ...{ type: 'deliverable.built.v1', name: 'web', kind: 'image' },
  ...{ digest: DIGEST, reference: 'web' },
}

const LIVE_STAGE: Stage = {
  kind: 'deploy',
  name: 'production',
  environment: 'production',
  how: { kind: 'release', deliverable: 'web' },
}
export const RELEASE: Plan = { ...plan([]), stages: [LIVE_STAGE] }

/** The gate of a candidate is opened, as the control activity does it. */
export async function openGate({ store, happens }: Shown, run: RunRow): Promise<void> {
  await store.gates.open(
    run.id,
    'signoff',
    'production',
    { approvers: ['ben', 'eve'], quorum: 1, excluded: [], expiresAt: Date.now() + 3_600_000 },
    {
      ...{ run: run.id, gate: 'signoff', environment: 'production', commit: run.change.commit, specDigest: 'd' },
      deliverables: [`web=${DIGEST}`],
    },
  )
  await happens(run, { type: 'gate.opened.v1', gate: 'signoff', environment: 'production', needs: 'one approval' })
}

export async function approve({ store, happens }: Shown, run: RunRow): Promise<void> {
  const vote = { gate: 'signoff', answer: 'approve', channel: 'api' } as const
  await store.gates.vote({ ...vote, key: 'v', run: run.id, claimedBy: 'ben', trustSignals: true })
  await happens(
    run,
    { type: 'gate.voted.v1', ...vote, by: 'ben', counts: true },
    { type: 'gate.decided.v1', gate: 'signoff', verdict: 'approved' },
  )
}
