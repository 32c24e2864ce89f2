import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { ensureDocker, ensureSwarm } from './docker.ts'
import { instanceOf, openDataDir, type Say } from './files.ts'
import { keepDocker } from './keep-docker.ts'
import { choosePorts, type Ports } from './ports.ts'
import { type ProcessSpec, type Supervisor, superviseAll } from './supervisor.ts'
import { devServerArgs, ensureTemporal, prepareNamespace, type Temporal, temporalAnswers } from './temporal.ts'

export const PARTS = ['temporal', 'server', 'control', 'node'] as const
export type Part = (typeof PARTS)[number]

export interface StartEmbedded {
  readonly dataDir: string
  readonly configFile?: string
  /** `host:port` of the server; a free port of this machine, kept for the next start, if absent. */
  readonly listen?: string
  /** How people reach the server; from `listen` if absent. */
  readonly url?: string
  readonly env: NodeJS.ProcessEnv
  readonly say: Say
  /** Which parts to start; all if absent. */
  readonly only?: readonly Part[]
}

export interface Embedded {
  readonly addresses: { readonly api: string; readonly temporal: string; readonly temporalUi?: string }
  readonly supervisor: Supervisor
  /** Orderly: workers first, which leave running steps alone. */
  stop(): Promise<void>
}

/** The whole system on one machine: engine, Swarm, Temporal, server and workers, watched until `stop`. */
export async function startEmbedded(options: StartEmbedded): Promise<Embedded> {
  const dataDir = openDataDir(options.dataDir)
  const parts = options.only ?? PARTS
  const needsEngine = parts.includes('server') || parts.includes('control') || parts.includes('node')
  const temporal = await ensureTemporal({ dataDir, env: options.env, say: options.say })
  const engineOptions = { dataDir, env: options.env, say: options.say }
  let dockerHost: string | undefined
  if (needsEngine) {
    const engine = await ensureDocker(engineOptions)
    await ensureSwarm(engine.docker, { dataDir, say: options.say })
    dockerHost = engine.host
  }
  const ports = await choosePorts(dataDir)
  const frontend = temporalListen(options.env, ports)
  const address = temporal.kind === 'address' ? temporal.address : fromHere(`${frontend.ip}:${frontend.port}`)
  const listen = options.listen ?? `127.0.0.1:${ports.api}`
  const local = `http://${fromHere(listen)}`
  const api = options.url ?? local
  const common = {
    ...options.env,
    PENSTOCK_DATA: dataDir,
    PENSTOCK_INSTANCE: options.env.PENSTOCK_INSTANCE || instanceOf(dataDir),
    PENSTOCK_LISTEN: listen,
    PENSTOCK_URL: api,
    // What the node's worker uses, which sits on the same machine.
    PENSTOCK_INTERNAL_URL: local,
    PENSTOCK_WORKER_TOKEN: options.env.PENSTOCK_WORKER_TOKEN || workerToken(dataDir),
    TEMPORAL_ADDRESS: address,
    ...(temporal.kind === 'executable' ? { PENSTOCK_TEMPORAL_UI: `http://127.0.0.1:${ports.temporalUi}` } : {}),
    ...(options.configFile === undefined ? {} : { PENSTOCK_CONFIG: path.resolve(options.configFile) }),
    ...(dockerHost === undefined ? {} : { DOCKER_HOST: dockerHost }),
  }
  const specs = [
    ...temporalSpecs(parts, temporal, { dataDir, frontend, address, uiPort: ports.temporalUi, env: options.env }),
    ...processSpecs(common).filter(({ name }) => (parts as readonly string[]).includes(name)),
  ]
  if (temporal.kind === 'address' && parts.includes('temporal')) await prepareNamespace(address, false)
  const supervisor = await superviseAll({ dataDir, specs, say: options.say })
  const keeper = needsEngine ? keepDocker(engineOptions) : undefined
  return {
    addresses: {
      api,
      temporal: address,
      ...(temporal.kind === 'executable' ? { temporalUi: `http://127.0.0.1:${ports.temporalUi}` } : {}),
    },
    supervisor,
    async stop() {
      await keeper?.stop()
      await supervisor.stop()
    },
  }
}

/** What the node's worker proves itself with; made once a data directory. */
function workerToken(dataDir: string): string {
  const file = path.join(dataDir, 'worker-token')
  if (!existsSync(file)) writeFileSync(file, randomBytes(24).toString('hex'), { mode: 0o600 })
  return readFileSync(file, 'utf8')
}

/** What listens on every address is reached from here on the loopback. */
function fromHere(listen: string): string {
  return listen.replace(/^(0\.0\.0\.0|\[::\])(?=:)/, '127.0.0.1')
}

interface Frontend {
  readonly ip: string
  readonly port: number
}

/** This machine alone, unless the workers of other nodes must reach it: whoever does can do everything there. */
function temporalListen(env: NodeJS.ProcessEnv, ports: Ports): Frontend {
  const listen = env.PENSTOCK_TEMPORAL_LISTEN
  if (!listen) return { ip: '127.0.0.1', port: ports.temporal }
  // The dev server's own parts find each other on the loopback only, so no single address of a network will do.
  const match = /^(127\.0\.0\.1|0\.0\.0\.0):([0-9]+)$/.exec(listen)
  if (!match?.[1]) throw new Error(`PENSTOCK_TEMPORAL_LISTEN is "${listen}"; write 0.0.0.0:7233, or another port`)
  return { ip: match[1], port: Number(match[2]) }
}

interface TemporalSpec {
  readonly dataDir: string
  readonly frontend: Frontend
  /** How it is reached from here. */
  readonly address: string
  readonly uiPort: number
  readonly env: NodeJS.ProcessEnv
}

function temporalSpecs(
  parts: readonly Part[],
  temporal: Temporal,
  { dataDir, frontend, address, uiPort, env }: TemporalSpec,
): readonly ProcessSpec[] {
  if (temporal.kind === 'address' || !parts.includes('temporal')) return []
  let prepared = false
  return [
    {
      name: 'temporal',
      command: temporal.executable,
      args: devServerArgs({
        databaseFile: path.join(dataDir, 'temporal.db'),
        ...frontend,
        uiPort,
      }),
      env,
      phase: 0,
      // A database file of an earlier release may lack a search attribute, and its retention is a day.
      ready: async () => {
        if (!(await temporalAnswers(address))) return false
        if (!prepared) await prepareNamespace(address, true)
        prepared = true
        return true
      },
      stopGraceMs: 10_000,
    },
  ]
}

/** Where compiled entry points are: `dist/`, whether this file runs from there or from the sources. */
function entry(file: string): string {
  const here = path.dirname(fileURLToPath(import.meta.url))
  const root = path.resolve(here, '..', '..')
  return existsSync(path.join(root, 'package.json')) ? path.join(root, 'dist', file) : path.join(root, file)
}

/** A worker hands its activities back within this time; the containers they follow run on. */
const WORKER_GRACE_MS = 25_000

function processSpecs(env: Readonly<Record<string, string | undefined>>): readonly ProcessSpec[] {
  const node = (name: Part, file: string, phase: number, stopGraceMs: number): ProcessSpec => ({
    name,
    command: process.execPath,
    args: ['--enable-source-maps', entry(file)],
    env,
    phase,
    stopGraceMs,
  })
  return [
    node('server', 'src/server.js', 1, 10_000),
    node('control', 'worker/control.js', 2, WORKER_GRACE_MS),
    node('node', 'worker/node.js', 2, WORKER_GRACE_MS),
  ]
}
