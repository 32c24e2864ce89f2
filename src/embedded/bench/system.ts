import { createHmac, randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type Docker from 'dockerode'
import { execa } from 'execa'
import { LABELS } from '../../core/ids.ts'
import { OUTCOMES } from '../../core/outcome.ts'
import { openStore } from '../../store/open-store.ts'
import type { EventRow, RunDetail } from '../../store/types.ts'
import { ensureDocker, ensureSwarm } from '../docker.ts'
import { takeDown } from '../down.ts'
import { type Embedded, type Part, startEmbedded } from '../embedded.ts'
import { instanceOf } from '../files.ts'
import { ensureBaseImages } from '../images.ts'

export const REPO = 'bench/repo'
export const SECRETS = Array.from({ length: 10 }, (_, index) => ({
  name: `SECRET_${index}`,
  value: `a-secret-value-of-the-bench-${index}`,
}))
const HOOK_SECRET = 'the-webhook-secret-of-the-bench'
const POLL_MS = 20

export interface BenchSystem {
  readonly docker: Docker
  readonly image: string
  readonly instance: string
  readonly url: string
  readonly embedded: Embedded
  /** Url of the database, which the parts that run use, too. */
  readonly database: string
  /** That many commits with this spec, each the child of the one before. */
  commits(spec: string, count: number): Promise<readonly string[]>
  /** Sends a signed delivery: the candidate branch moved to this commit. The run's number. */
  deliver(commit: string): Promise<number>
  get<T>(path: string): Promise<T>
  post<T>(path: string, body: object, as?: 'olga' | 'tess'): Promise<T>
  /** Waits for the end; throws unless it succeeded. */
  ended(run: number): Promise<RunDetail>
  events(run: number): Promise<readonly EventRow[]>
  /** Until nothing of ours is left in Docker, so that clean-up is not measured as part of what comes next. */
  quiet(): Promise<void>
  /** Process id by part. */
  pids(): Readonly<Record<string, number>>
  headers(): Readonly<Record<string, string>>
  dispose(): Promise<void>
}

export interface BenchOptions {
  readonly env: NodeJS.ProcessEnv
  readonly say: (text: string) => void
  readonly only?: readonly Part[]
}

/** The embedded system in a data directory of its own, with one plain git repository. */
export async function startBench(options: BenchOptions): Promise<BenchSystem> {
  const root = mkdtempSync(join(tmpdir(), 'penstock-bench-'))
  try {
    return await startIn(root, options)
  } catch (err) {
    await takeDown({ dataDir: join(root, 'data'), env: options.env, say: options.say })
    rmSync(root, { recursive: true, force: true })
    throw err
  }
}

async function startIn(root: string, { env, say, only }: BenchOptions): Promise<BenchSystem> {
  const dataDir = join(root, 'data')
  const bare = join(root, 'repo.git')
  const configFile = join(root, 'penstock.config.yml')
  await execa('git', ['init', '-q', '--bare', '-b', 'master', bare])
  writeFileSync(
    configFile,
    `people:
  olga: { roles: [admin] }
  tess: { roles: [approver] }
repositories:
  ${REPO}:
    forge: git
    url: ${bare}
    webhook_secrets: [{ env: BENCH_HOOK_SECRET }]
    secrets:
${SECRETS.map(({ name }) => `      ${name}: { env: BENCH_${name} }`).join('\n')}
    environments:
      production: { approvers: ["role:approver"], quorum: 1, expires: 7d }
`,
  )
  const full = {
    ...env,
    BENCH_HOOK_SECRET: HOOK_SECRET,
    ...Object.fromEntries(SECRETS.map(({ name, value }) => [`BENCH_${name}`, value])),
  }
  const quietly = () => undefined
  const { docker } = await ensureDocker({ dataDir, env: full, say })
  await ensureSwarm(docker, { dataDir, say })
  const { base: image } = await ensureBaseImages(docker, { env: full, say })
  const embedded = await startEmbedded({ dataDir, configFile, env: full, say, ...(only ? { only } : {}) })
  const database = `sqlite:${join(dataDir, 'penstock.db')}`
  const store = await openStore({ url: database })
  const tokens = {
    olga: (await store.people.createToken('olga', 86_400_000)).token,
    tess: (await store.people.createToken('tess', 86_400_000)).token,
  }
  await store.close()
  const instance = instanceOf(dataDir)
  const url = embedded.addresses.api
  const headers = { authorization: `Bearer ${tokens.olga}` }
  const parents = new Map<string, string>()
  let chains = 0

  async function answered<T>(answer: Response): Promise<T> {
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${answer.url}: ${answer.status} ${text}`)
    return JSON.parse(text) as T
  }

  const system: BenchSystem = {
    docker,
    image,
    instance,
    url,
    embedded,
    database,
    async commits(spec, count) {
      const branch = `refs/heads/bench-${chains++}`
      const script: string[] = [`blob\nmark :1\n${data(spec)}`]
      for (let index = 0; index < count; index++) {
        script.push(
          `commit ${branch}\nmark :${index + 2}\ncommitter Ada <ada@example.org> ${1_700_000_000 + index} +0000\n${data(`Change ${index} of ${branch}`)}`,
          `M 100644 :1 .penstock.yml\n`,
        )
      }
      await execa('git', ['fast-import', '--quiet'], { cwd: bare, input: script.join('') })
      const { stdout } = await execa('git', ['rev-list', '--reverse', branch], { cwd: bare })
      const ids = stdout.split('\n')
      for (const [index, id] of ids.entries()) parents.set(id, ids[index - 1] ?? '0'.repeat(40))
      return ids
    },
    async deliver(commit) {
      const answer = await fetch(`${url}/hooks/git`, { method: 'POST', ...signedDelivery(commit, parents.get(commit)) })
      if (answer.status !== 202) throw new Error(`the delivery was answered ${answer.status}: ${await answer.text()}`)
      return ((await answer.json()) as { run: number }).run
    },
    get: async (path) => answered(await fetch(`${url}/api/v1${path}`, { headers })),
    post: async (path, body, as = 'olga') =>
      answered(
        await fetch(`${url}/api/v1${path}`, {
          method: 'POST',
          headers: { authorization: `Bearer ${tokens[as]}`, 'content-type': 'application/json' },
          body: JSON.stringify(body),
        }),
      ),
    async ended(number) {
      for (;;) {
        const run = await system.get<RunDetail>(`/runs/${number}`)
        if (OUTCOMES.some((one) => one === run.status)) {
          if (run.status !== 'succeeded') throw new Error(`run ${number} ${run.status}: ${run.reason ?? 'no reason'}`)
          return run
        }
        await sleep(POLL_MS)
      }
    },
    events: async (number) => (await system.get<{ events: EventRow[] }>(`/runs/${number}/events`)).events,
    async quiet() {
      const filters = { label: [`${LABELS.instance}=${instance}`, LABELS.run] }
      for (;;) {
        const [services, containers, networks] = await Promise.all([
          docker.listServices({ filters: JSON.stringify(filters) }),
          docker.listContainers({ all: true, filters }),
          docker.listNetworks({ filters }),
        ])
        if (services.length + containers.length + networks.length === 0) break
        await sleep(100)
      }
      // Volumes go last, and leave the disk something to do.
      await sleep(300)
    },
    pids: () => Object.fromEntries(embedded.supervisor.running().map(({ name, pid }) => [name, pid])),
    headers: () => headers,
    async dispose() {
      await embedded.stop()
      await takeDown({ dataDir, env: full, say: quietly })
      rmSync(root, { recursive: true, force: true })
    },
  }
  return system
}

/** Body and headers of the delivery that the candidate branch moved. */
export function signedDelivery(
  commit: string,
  before = '0'.repeat(40),
): { body: string; headers: Record<string, string> } {
  const body = JSON.stringify({ repository: REPO, ref: 'refs/heads/master', before, after: commit, pusher: 'ada' })
  return {
    body,
    headers: {
      'content-type': 'application/json',
      'x-penstock-delivery': randomUUID(),
      'x-penstock-signature-256': `sha256=${createHmac('sha256', HOOK_SECRET).update(body).digest('hex')}`,
    },
  }
}

function data(text: string): string {
  return `data ${Buffer.byteLength(text)}\n${text}\n`
}
