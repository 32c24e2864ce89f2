import { createHmac, randomUUID } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import path from 'node:path'
import { createInterface } from 'node:readline/promises'
import { fileURLToPath } from 'node:url'
import type Docker from 'dockerode'
import { execa } from 'execa'
import { z } from 'zod'
import { environment } from '../config/environment.ts'
import type { RunEvent } from '../core/events.ts'
import { EXIT_CODES, OUTCOMES, type Outcome } from '../core/outcome.ts'
import { openStore } from '../store/open-store.ts'
import type { EventRow, GateRow, RunDetail, RunRow } from '../store/types.ts'
import { ensureDocker, ensureSwarm } from './docker.ts'
import { type Embedded, startEmbedded } from './embedded.ts'
import { dataDirOf, openDataDir, readJson, writeJson } from './files.ts'
import { ensureBaseImages } from './images.ts'

/**
 * One commit of a sample service, from the push to production, before the eyes of who calls it. Ends with exit code 0
 * only if production answers with exactly that commit.
 */

const REPO = 'acme/sample'
const FOLLOW_MS = 200
const RUN_LIMIT_MS = 15 * 60_000
const YEAR_MS = 365 * 86_400_000

const env: NodeJS.ProcessEnv = { ...environment() }
const flags = { yes: process.argv.includes('--yes'), json: process.argv.includes('--json') }
const started = performance.now()
/** With --json the standard output holds one object, at the end; everything else is for people. */
const say = (text: string) => {
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(6)
  console.error(`${seconds}s  ${text}`)
}

const Settings = z.object({ hookSecret: z.string(), ports: z.record(z.string(), z.number()) })

interface Demo {
  readonly dir: string
  readonly bare: string
  readonly configFile: string
  readonly urls: { readonly staging: string; readonly production: string }
  readonly hookSecret: string
}

async function main(): Promise<number> {
  const dataDir = openDataDir(dataDirOf(env))
  const { docker } = await ensureDocker({ dataDir, env, say })
  await ensureSwarm(docker, { dataDir, say })
  await ensureBaseImages(docker, { env, say })
  const demo = await prepare(dataDir, docker)
  const embedded = await startEmbedded({ dataDir, configFile: demo.configFile, env, say })
  const stop = onInterrupt(embedded)
  try {
    const api = await connect(dataDir, embedded.addresses.api)
    say(`API          ${embedded.addresses.api}/api/v1`)
    if (embedded.addresses.temporalUi) say(`Temporal UI  ${embedded.addresses.temporalUi}`)
    await cancelLeftovers(api)
    const report = await story(demo, api)
    if (flags.json) console.log(JSON.stringify(report, null, 2))
    const isDone = report.outcome === 'succeeded' && report.production.commit === report.commit
    say(isDone ? `production runs ${report.commit.slice(0, 12)}` : `ended: ${report.outcome}`)
    if (process.stdin.isTTY && process.stderr.isTTY && !flags.json && !flags.yes) {
      say('everything stays up until Ctrl-C; `npm run down` removes it')
      await stop.requested
    }
    return isDone ? 0 : EXIT_CODES[report.outcome] || EXIT_CODES.errored
  } finally {
    await embedded.stop()
  }
}

function onInterrupt(embedded: Embedded): { readonly requested: Promise<void> } {
  let isAsked = false
  const requested = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        resolve()
        if (isAsked || signal === 'SIGTERM') void embedded.stop().finally(() => process.exit(130))
        isAsked = true
      })
    }
  })
  return { requested }
}

// -------------------------------------------------------------------- the sample

async function prepare(dataDir: string, docker: Docker): Promise<Demo> {
  const dir = path.join(dataDir, 'demo')
  mkdirSync(dir, { recursive: true })
  const settingsFile = path.join(dir, 'settings.json')
  const known = readJson(settingsFile, Settings)
  const settings = known ?? {
    hookSecret: `hook-${randomUUID()}`,
    ports: { staging: await freePort(), production: await freePort() },
  }
  writeJson(settingsFile, settings)
  const { staging, production } = settings.ports
  if (staging === undefined || production === undefined) throw new Error(`${settingsFile} names no ports; remove it`)
  // The sample listens on the node itself, which jobs reach by its address on a bridge of the Swarm: a published port
  // would be kept from them, as Docker keeps bridges apart.
  const host = await bridgeAddress(docker)
  const urls = { staging: `http://${host}:${staging}`, production: `http://${host}:${production}` }
  const bare = path.join(dir, 'sample.git')
  if (!existsSync(bare)) await git(dir, 'init', '--quiet', '--bare', '--initial-branch=master', bare)
  const configFile = path.join(dir, 'penstock.config.yml')
  writeFileSync(configFile, operatorsFile({ bare, urls, ports: { staging, production } }), { mode: 0o600 })
  env.PENSTOCK_DEMO_HOOK_SECRET = settings.hookSecret
  return { dir, bare, configFile, urls, hookSecret: settings.hookSecret }
}

/** This machine's address on the bridge that every Swarm node has. */
async function bridgeAddress(docker: Docker): Promise<string> {
  const Bridge = z.object({ IPAM: z.object({ Config: z.array(z.object({ Gateway: z.string().optional() })) }) })
  const { IPAM } = Bridge.parse(await docker.getNetwork('docker_gwbridge').inspect())
  const address = IPAM.Config.find((one) => one.Gateway !== undefined)?.Gateway
  if (address === undefined) throw new Error('the network docker_gwbridge of the Swarm has no gateway')
  return address
}

function operatorsFile(input: {
  readonly bare: string
  readonly urls: Demo['urls']
  readonly ports: { readonly staging: number; readonly production: number }
}): string {
  const { urls, ports } = input
  return `people:
  ada: { roles: [developer], email: [ada@example.org] }
  tess: { roles: [approver] }
  olga: { roles: [admin] }
repositories:
  ${REPO}:
    forge: git
    url: ${JSON.stringify(input.bare)}
    webhook_secrets: [{ env: PENSTOCK_DEMO_HOOK_SECRET }]
    environments:
      staging:
        url: ${urls.staging}
        target: { swarm: { service: penstock-sample-staging, network: host, env: { PORT: "${ports.staging}" } } }
      production:
        url: ${urls.production}
        target: { swarm: { service: penstock-sample-production, network: host, env: { PORT: "${ports.production}" } } }
        approvers: ["role:approver"]
        quorum: 1
        expires: 7d
pools:
  rig: { units: { rig-1: { labels: [arch=amd64] } } }
`
}

interface Pushed {
  readonly before: string
  readonly commit: string
}

/** Commits the sample as it stands, with something new in it, and pushes it. */
async function push(demo: Demo): Promise<Pushed> {
  const work = path.join(demo.dir, 'work')
  rmSync(work, { recursive: true, force: true })
  mkdirSync(work)
  await git(work, 'init', '--quiet', '--initial-branch=master')
  await git(work, 'remote', 'add', 'origin', demo.bare)
  const { stdout: heads } = await git(work, 'ls-remote', 'origin', 'refs/heads/master')
  if (heads !== '') {
    await git(work, 'fetch', '--quiet', 'origin', 'master')
    await git(work, 'reset', '--quiet', '--soft', 'FETCH_HEAD')
  }
  const sample = fileURLToPath(new URL('../../../examples/sample/', import.meta.url))
  cpSync(sample, work, { recursive: true })
  writeFileSync(path.join(work, 'BUILT.txt'), `${new Date().toISOString()}\n`)
  await git(work, 'add', '--all')
  await git(
    work,
    '-c',
    'user.name=Ada',
    '-c',
    'user.email=ada@example.org',
    'commit',
    '--quiet',
    '-m',
    'Greet in two languages',
  )
  const { stdout: commit } = await git(work, 'rev-parse', 'HEAD')
  await git(work, 'push', '--quiet', 'origin', 'HEAD:master')
  return { before: heads.slice(0, 40) || '0'.repeat(40), commit }
}

/** What the repository's host sends after a push (`penstock hook install` has it sent by a real one). */
async function sendWebhook(demo: Demo, api: Api, { before, commit }: Pushed): Promise<void> {
  const body = JSON.stringify({ repository: REPO, ref: 'refs/heads/master', before, after: commit, pusher: 'ada' })
  const answer = await fetch(`${api.url}/hooks/git`, {
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/json',
      'x-penstock-delivery': randomUUID(),
      'x-penstock-signature-256': `sha256=${createHmac('sha256', demo.hookSecret).update(body).digest('hex')}`,
    },
  })
  if (!answer.ok) throw new Error(`the webhook was answered ${answer.status}: ${await answer.text()}`)
}

function git(dir: string, ...args: readonly string[]) {
  return execa('git', [...args], { cwd: dir, env: { GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' } })
}

// -------------------------------------------------------------------- the story

interface Report {
  readonly outcome: Outcome
  readonly commit: string
  readonly runs: readonly object[]
  readonly production: { readonly url: string; readonly commit?: string }
  readonly seconds: number
}

async function story(demo: Demo, api: Api): Promise<Report> {
  const pushed = await push(demo)
  const { commit } = pushed
  say(`pushed       ${commit.slice(0, 12)} to master`)
  await sendWebhook(demo, api, pushed)
  say('sent         the signed webhook')
  const report = async (outcome: Outcome, runs: readonly RunRow[]): Promise<Report> => {
    const deployed = outcome === 'succeeded' ? await versionOf(demo.urls.production) : undefined
    return {
      outcome,
      commit,
      runs: await Promise.all(runs.map((run) => api.summary(run.number))),
      production: { url: demo.urls.production, ...(deployed === undefined ? {} : { commit: deployed }) },
      seconds: Math.round((performance.now() - started) / 100) / 10,
    }
  }
  const candidate = await api.runOf(commit, 'refs/heads/master')
  say(`run ${candidate.number}        release candidate`)
  const decided = await follow(api, candidate.number)
  if (decided !== 'succeeded') return report(decided, [candidate])
  const release = await api.runOf(commit, 'refs/heads/production')
  say(`run ${release.number}        release`)
  const released = await follow(api, release.number)
  return report(released, [candidate, release])
}

/** Tells every event of a run as it happens, and answers its gate. */
async function follow(api: Api, number: number): Promise<Outcome> {
  const deadline = performance.now() + RUN_LIMIT_MS
  const answered = new Set<string>()
  let seq = 0
  while (performance.now() < deadline) {
    for (const row of await api.events(number, seq)) {
      seq = row.seq
      const text = sentence(row.event)
      if (text) say(`run ${number}  ${text}`)
    }
    const run = await api.run(number)
    const outcome = OUTCOMES.find((one) => one === run.status)
    if (outcome) {
      if (run.reason && outcome !== 'succeeded') say(`run ${number}  ${outcome}: ${run.reason}`)
      return outcome
    }
    for (const gate of run.status === 'waiting' ? await api.gates(number) : []) {
      if (gate.state !== 'open' || answered.has(gate.id)) continue
      answered.add(gate.id)
      await answer(api, number, gate)
    }
    await new Promise((resolve) => setTimeout(resolve, FOLLOW_MS))
  }
  throw new Error(`run ${number} did not end within ${RUN_LIMIT_MS / 60_000} minutes`)
}

async function answer(api: Api, number: number, gate: GateRow): Promise<void> {
  const question = `approve ${gate.subject.commit.slice(0, 12)} for ${gate.environment}, as tess? [y/n] `
  let isYes = flags.yes
  if (!flags.yes) {
    if (!process.stdin.isTTY) {
      say('the gate is open and nobody is at the terminal: answer by API, or call with --yes')
      return
    }
    const terminal = createInterface({ input: process.stdin, output: process.stderr })
    isYes = /^y(es)?$/i.test((await terminal.question(question)).trim())
    terminal.close()
  }
  await api.vote(number, gate.name, isYes ? 'approve' : 'reject')
}

function sentence(event: RunEvent): string | undefined {
  switch (event.type) {
    case 'stage.started.v1':
      return `${event.stage}`
    case 'stage.finished.v1':
      return `${event.stage}: ${event.outcome}${event.reason ? ` (${event.reason})` : ''}`
    case 'job.waiting.v1':
      return `  ${event.job} waits: ${event.waitingFor.sentence}`
    case 'environment.waiting.v1':
      return `  waits for ${event.environment}: ${event.waitingFor.sentence}`
    case 'environment.acquired.v1':
      return `  ${event.environment} is this run's alone`
    case 'job.placed.v1':
      return `  ${event.job} on node ${event.node}`
    case 'step.finished.v1':
      return `    ${event.job} / ${event.name}: ${event.outcome}${event.reason ? ` (${event.reason})` : ''}`
    case 'deliverable.built.v1':
      return `  built ${event.name} ${event.digest.slice(0, 19)}`
    case 'deployment.recorded.v1':
      return `  ${event.environment} ${event.digest.slice(0, 19)}: ${event.state}`
    case 'gate.opened.v1':
      return `  waits for people: ${event.needs}`
    case 'gate.voted.v1':
      return `  ${event.by}: ${event.answer}${event.counts ? '' : ` (does not count: ${event.why ?? ''})`}`
    case 'branch.promoted.v1':
      return `  ${event.branch} is at ${event.commit.slice(0, 12)}`
    default:
      return undefined
  }
}

async function versionOf(url: string): Promise<string | undefined> {
  const Version = z.object({ commit: z.string() })
  for (let tries = 0; tries < 50; tries++) {
    try {
      const answer = await fetch(`${url}/version`, { signal: AbortSignal.timeout(2_000) })
      if (answer.ok) return Version.parse(await answer.json()).commit
    } catch {
      // Not there yet: a Swarm task that runs may still be starting its program.
    }
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  return undefined
}

// -------------------------------------------------------------------- the API, as its people use it

interface Api {
  readonly url: string
  run(number: number): Promise<RunDetail>
  runs(): Promise<readonly RunRow[]>
  runOf(commit: string, ref: string): Promise<RunRow>
  events(number: number, after: number): Promise<readonly EventRow[]>
  gates(number: number): Promise<readonly GateRow[]>
  vote(number: number, gate: string, answer: 'approve' | 'reject'): Promise<void>
  cancel(number: number): Promise<void>
  summary(number: number): Promise<object>
}

/** Tokens for the demo's people; the admin's is left for the CLI. */
async function connect(dataDir: string, url: string): Promise<Api> {
  const store = await openStore({ url: `sqlite:${path.join(dataDir, 'penstock.db')}` })
  const tokenOf = async (person: string) => (await store.people.createToken(person, YEAR_MS)).token
  const admin = await tokenOf('olga')
  const tester = await tokenOf('tess')
  await store.close()
  writeJson(path.join(dataDir, 'cli.json'), { url, token: admin })

  async function call<T>(method: string, where: string, body?: object, token = admin): Promise<T> {
    const answer = await fetch(`${url}/api/v1${where}`, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body ? { 'content-type': 'application/json' } : {}) },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${where}: ${answer.status} ${text}`)
    return (text === '' ? undefined : JSON.parse(text)) as T
  }
  const api: Api = {
    url,
    run: (number) => call('GET', `/runs/${number}`),
    runs: async () => (await call<{ runs: RunRow[] }>('GET', '/runs?limit=100')).runs,
    async runOf(commit, ref) {
      for (let tries = 0; tries < 150; tries++) {
        const found = (await api.runs()).find((run) => run.change.commit === commit && run.change.ref === ref)
        if (found) return found
        await new Promise((resolve) => setTimeout(resolve, 200))
      }
      throw new Error(`no run was made for ${commit} on ${ref}`)
    },
    events: async (number, after) =>
      (await call<{ events: EventRow[] }>('GET', `/runs/${number}/events?after=${after}`)).events,
    gates: async (number) => (await call<{ gates: GateRow[] }>('GET', `/runs/${number}/gates`)).gates,
    vote: (number, gate, kind) =>
      call('POST', `/runs/${number}/gates/${gate}/${kind}`, { comment: 'by the demo' }, tester),
    cancel: (number) => call('POST', `/runs/${number}/cancel`, { reason: 'the demo that started it was interrupted' }),
    async summary(number) {
      const run = await api.run(number)
      const seconds = (row: { startedAt?: number; finishedAt?: number }) =>
        row.startedAt !== undefined && row.finishedAt !== undefined
          ? (row.finishedAt - row.startedAt) / 1000
          : undefined
      return {
        number: run.number,
        ref: run.change.ref,
        outcome: run.status,
        seconds: seconds(run),
        deliverables: run.progress.deliverables,
        attempts: run.attempts.map((row) => ({
          stage: row.stage,
          ...(row.job === undefined ? {} : { job: row.job }),
          ...(row.step === undefined ? {} : { step: row.name }),
          attempt: row.attempt,
          outcome: row.outcome,
          seconds: seconds(row),
          ...(row.log ? { log: row.log } : {}),
        })),
        logLines: run.attempts.reduce((sum, row) => sum + (row.log?.kind === 'complete' ? row.log.lines : 0), 0),
      }
    },
  }
  return api
}

/** What an interrupted demo left open would hold staging until its gate is answered. */
async function cancelLeftovers(api: Api): Promise<void> {
  for (const run of await api.runs()) {
    if (OUTCOMES.some((one) => one === run.status)) continue
    say(`run ${run.number}        of an interrupted demo is canceled`)
    await api.cancel(run.number)
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no port is free')
  return address.port
}

try {
  process.exitCode = await main()
} catch (err) {
  say(err instanceof Error ? err.message : String(err))
  process.exitCode = EXIT_CODES.errored
}
