import { createHmac, randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import type { Outcome } from '../../src/core/outcome.ts'
import { OUTCOMES } from '../../src/core/outcome.ts'
import { ensureDocker, ensureSwarm } from '../../src/embedded/docker.ts'
import { takeDown } from '../../src/embedded/down.ts'
import { type Embedded, type Part, startEmbedded } from '../../src/embedded/embedded.ts'
import { instanceOf } from '../../src/embedded/files.ts'
import { ensureBaseImages } from '../../src/embedded/images.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { EventRow, GateRow, RunDetail, RunRow } from '../../src/store/types.ts'

export const REPO = 'acme/web'
export const HOOK_SECRET = 'a-webhook-secret-for-tests'

/** The whole system as real processes, in a data directory of its own, with one plain git repository. */
export interface System {
  readonly dataDir: string
  readonly configFile: string
  /** What its processes are started with. */
  readonly env: NodeJS.ProcessEnv
  readonly bare: string
  /** The value of the label on all it makes in Docker. */
  readonly instance: string
  readonly url: string
  readonly tokens: Readonly<Record<'ada' | 'tess' | 'theo' | 'olga', string>>
  embedded: Embedded
  /** Commits these files on a branch of the bare repository (others stay) and gives the commit's id. */
  commit(files: Readonly<Record<string, string>>, branch?: string): Promise<string>
  /** Sends the signed delivery that the branch moved; the answer as it came. */
  deliver(push: {
    readonly branch: string
    readonly before?: string
    readonly after: string
    readonly id?: string
  }): Promise<Response>
  /** `commit` and `deliver`; the run's number. */
  push(files: Readonly<Record<string, string>>, branch?: string): Promise<number>
  call<T>(
    method: 'GET' | 'POST',
    path: string,
    options?: { readonly body?: object; readonly as?: keyof System['tokens'] },
  ): Promise<T>
  run(number: number): Promise<RunDetail>
  runs(): Promise<readonly RunRow[]>
  events(number: number): Promise<readonly EventRow[]>
  gates(number: number): Promise<readonly GateRow[]>
  /** A step's log, as stored. */
  log(number: number, job: string, step?: number, query?: string): Promise<string>
  ended(number: number, seconds?: number): Promise<RunDetail & { readonly status: Outcome }>
  until<T>(what: string, look: () => Promise<T | undefined | false>, seconds?: number): Promise<T>
  /** Starts processes again after `stop` or kills. */
  start(only?: readonly Part[]): Promise<void>
  /** SIGKILL to a process of ours, by name; the supervisor starts it again. */
  kill(name: Part): void
  stop(): Promise<void>
  /** Stops, and removes the data directory. */
  dispose(): Promise<void>
}

export interface SystemOptions {
  /** More of the operator's file, at the top level, as YAML. */
  readonly config?: string
  /** Another forge than a plain bare repository, and where it has the repository. */
  readonly forge?: { readonly yaml: string; readonly url: string }
  /** More of the repository's entry, indented by four spaces. */
  readonly repository?: string
  readonly env?: Readonly<Record<string, string>>
  /** Url of a PostgreSQL database; SQLite in the data directory if absent. */
  readonly database?: string
  /** `host:port` of the server, where others than this machine must reach it. */
  readonly listen?: string
  /** Which processes there are, now and after each `start`; all if absent. */
  readonly parts?: readonly Part[]
  readonly verbose?: boolean
}

export async function startSystem(options: SystemOptions = {}): Promise<System> {
  const root = mkdtempSync(join(tmpdir(), 'penstock-test-'))
  const dataDir = join(root, 'data')
  const bare = join(root, 'web.git')
  const work = join(root, 'work')
  await execa('git', ['init', '-q', '--bare', '-b', 'master', bare])
  await execa('git', ['init', '-q', '-b', 'master', work])
  await execa('git', ['remote', 'add', 'origin', bare], { cwd: work })
  const configFile = join(root, 'penstock.config.yml')
  writeFileSync(
    configFile,
    `people:
  ada: { roles: [developer, approver], email: [ada@example.org], github: ada }
  tess: { roles: [approver], github: tess }
  theo: { roles: [approver] }
  olga: { roles: [admin] }
repositories:
  ${REPO}:
    forge: ${options.forge?.yaml ?? 'git'}
    url: ${options.forge?.url ?? bare}
    webhook_secrets: [{ env: TEST_HOOK_SECRET }]
${
  options.repository ??
  `    environments:
      staging: {}
      production: { approvers: ["role:approver"], quorum: 1, expires: 7d }`
}
${options.database === undefined ? '' : `database: ${JSON.stringify(options.database)}`}
${options.config ?? ''}
`,
  )
  const env = { ...process.env, TEST_HOOK_SECRET: HOOK_SECRET, ...options.env }
  const say = (text: string) => {
    if (options.verbose || process.env.TEST_VERBOSE) console.error(`      ${text}`)
  }
  const { listen, parts } = options
  const start = (only = parts) =>
    startEmbedded({ dataDir, configFile, env, say, ...(listen ? { listen } : {}), ...(only ? { only } : {}) })
  const { docker } = await ensureDocker({ dataDir, env, say })
  await ensureSwarm(docker, { dataDir, say })
  await ensureBaseImages(docker, { env, say })
  const embedded = await start()
  const store = await openStore({ url: options.database ?? `sqlite:${join(dataDir, 'penstock.db')}` })
  const token = async (person: string) => (await store.people.createToken(person, 86_400_000)).token
  const tokens = {
    ada: await token('ada'),
    tess: await token('tess'),
    theo: await token('theo'),
    olga: await token('olga'),
  }
  await store.close()

  const system: System = {
    dataDir,
    configFile,
    env,
    bare,
    instance: instanceOf(dataDir),
    url: embedded.addresses.api,
    tokens,
    embedded,
    async commit(files, branch = 'master') {
      const git = (...args: string[]) => execa('git', args, { cwd: work })
      const there = await git('ls-remote', 'origin', `refs/heads/${branch}`)
      const base = there.stdout === '' && branch !== 'master' ? 'master' : branch
      if ((await git('ls-remote', 'origin', `refs/heads/${base}`)).stdout !== '') {
        await git('fetch', '-q', 'origin', base)
        await git('checkout', '-q', '--force', '--detach', 'FETCH_HEAD')
      }
      for (const [name, text] of Object.entries(files)) {
        mkdirSync(dirname(join(work, name)), { recursive: true })
        writeFileSync(join(work, name), text)
      }
      writeFileSync(join(work, 'serial'), randomUUID())
      await git('add', '-A')
      await git('-c', 'user.name=Ada', '-c', 'user.email=ada@example.org', 'commit', '-q', '-m', 'A change')
      await git('push', '-q', 'origin', `HEAD:refs/heads/${branch}`)
      return (await git('rev-parse', 'HEAD')).stdout
    },
    deliver({ branch, before = '0'.repeat(40), after, id = randomUUID() }) {
      const body = JSON.stringify({ repository: REPO, ref: `refs/heads/${branch}`, before, after, pusher: 'ada' })
      return fetch(`${system.url}/hooks/git`, {
        method: 'POST',
        body,
        headers: {
          'content-type': 'application/json',
          'x-penstock-delivery': id,
          'x-penstock-signature-256': `sha256=${createHmac('sha256', HOOK_SECRET).update(body).digest('hex')}`,
        },
      })
    },
    async push(files, branch = 'master') {
      const before = (await execa('git', ['ls-remote', bare, `refs/heads/${branch}`])).stdout.slice(0, 40)
      const after = await system.commit(files, branch)
      const answer = await system.deliver({ branch, after, ...(before ? { before } : {}) })
      const text = await answer.text()
      if (answer.status !== 202) throw new Error(`the delivery was answered ${answer.status}: ${text}`)
      return (JSON.parse(text) as { run: number }).run
    },
    async call(method, path, { body, as = 'olga' } = {}) {
      const answer = await fetch(`${system.url}/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${tokens[as]}`, ...(body ? { 'content-type': 'application/json' } : {}) },
        ...(body ? { body: JSON.stringify(body) } : {}),
      })
      const text = await answer.text()
      if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`)
      return text === '' ? undefined : JSON.parse(text)
    },
    run: (number) => system.call('GET', `/runs/${number}`),
    runs: async () => (await system.call<{ runs: RunRow[] }>('GET', '/runs?limit=100')).runs,
    events: async (number) => (await system.call<{ events: EventRow[] }>('GET', `/runs/${number}/events`)).events,
    gates: async (number) => (await system.call<{ gates: GateRow[] }>('GET', `/runs/${number}/gates`)).gates,
    async log(number, job, step = 0, query = '') {
      const path = `/api/v1/runs/${number}/jobs/${encodeURIComponent(job)}/steps/${step}/log${query}`
      const answer = await fetch(`${system.url}${path}`, { headers: { authorization: `Bearer ${tokens.olga}` } })
      if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
      return answer.text()
    },
    ended: (number, seconds = 60) =>
      system.until(
        `the end of run ${number}`,
        async () => {
          const run = await system.run(number)
          return OUTCOMES.some((one) => one === run.status) ? (run as RunDetail & { status: Outcome }) : undefined
        },
        seconds,
      ),
    async until(what, look, seconds = 30) {
      const deadline = performance.now() + seconds * 1000
      let problem: unknown
      while (performance.now() < deadline) {
        try {
          const seen = await look()
          if (seen !== undefined && seen !== false) return seen
          problem = undefined
        } catch (err) {
          // A server that is being killed answers nothing: look again.
          problem = err
        }
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      throw new Error(`waited ${seconds} s for ${what}\n${tails(dataDir)}`, { cause: problem })
    },
    async start(only) {
      system.embedded = await start(only)
    },
    kill(name) {
      const found = system.embedded.supervisor.running().find((one) => one.name === name)
      if (!found) throw new Error(`${name} does not run`)
      process.kill(found.pid, 'SIGKILL')
    },
    stop: () => system.embedded.stop(),
    async dispose() {
      await system.stop()
      await takeDown({ dataDir, env, say })
      if (!process.env.TEST_KEEP) rmSync(root, { recursive: true, force: true })
    },
  }
  return system
}

function tails(dataDir: string): string {
  return ['server', 'control', 'node']
    .map((name) => {
      try {
        return `--- ${name}\n${readFileSync(join(dataDir, 'logs', `${name}.log`), 'utf8').slice(-3000)}`
      } catch {
        return `--- ${name}: no log`
      }
    })
    .join('\n')
}
