import { spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type Docker from 'dockerode'
import { execa } from 'execa'
import { environment } from '../../src/config/environment.ts'
import { findProgram } from '../../src/embedded/debian.ts'
import { connectDocker } from '../../src/engine/docker.ts'

const SCRIPT = fileURLToPath(new URL('../swarm-lab/swarm-lab', import.meta.url))
const WORKER = fileURLToPath(new URL('../../dist/worker/node.js', import.meta.url))
const READY_MS = 60_000
const PROGRAMS = ['dockerd', 'docker-registry', 'tini', 'busybox', 'ip', 'iptables', 'nsenter', 'curl', 'jq']

/** Whether a lab can be made here: it takes root, and what `npm test` installs on Debian. */
export function canStartLab(): boolean {
  const path = `/usr/sbin:/sbin:${environment().PATH ?? ''}`
  return process.getuid?.() === 0 && PROGRAMS.every((program) => findProgram(program, path) !== undefined)
}

/** A Swarm of several nodes on this machine, each in namespaces of its own; see test/swarm-lab/README.md. */
export interface Lab {
  /** For calls of the lab's script. */
  readonly env: NodeJS.ProcessEnv
  /** This machine's address, as the nodes see it. */
  readonly host: string
  /** `address:port` of the lab's registry; `<registry>/busybox:latest` is in it. */
  readonly registry: string
  hostOf(node: string): string
  docker(node: string): Docker
  /** A command of the lab: `kill-node n2`. */
  run(...args: string[]): Promise<string>
  /** A command inside a node, where the default socket is the node's own Docker. */
  exec(node: string, ...command: string[]): Promise<string>
  down(): Promise<void>
}

/** `net`: the first three bytes of the lab's addresses; one of its own for each test file. */
export async function startLab({
  net,
  args,
}: {
  readonly net: string
  readonly args: readonly string[]
}): Promise<Lab> {
  // The path of a unix socket has at most 108 bytes.
  const folder = mkdtempSync(join(tmpdir(), 'lab-'))
  const env = { ...process.env, SWARM_LAB_DIR: folder, SWARM_LAB_NET: net }
  const run = async (...command: string[]) => (await execa(SCRIPT, command, { env, stdin: 'ignore' })).stdout
  const hostOf = (node: string) => `unix://${folder}/nodes/${node}/docker.sock`
  const lab: Lab = {
    env,
    host: `${net}.2`,
    registry: `${net}.1:5000`,
    hostOf,
    docker: (node) => connectDocker({ DOCKER_HOST: hostOf(node) }),
    run,
    exec: (node, ...command) => run('exec', node, ...command),
    async down() {
      await run('down')
      rmSync(folder, { recursive: true, force: true })
    },
  }
  try {
    await run('up', ...args)
  } catch (err) {
    await lab.down()
    throw err
  }
  return lab
}

export interface NodeWorker {
  kill(signal: 'SIGKILL' | 'SIGTERM'): Promise<void>
  log(): string
}

export interface NodeWorkerSettings {
  readonly serverUrl: string
  readonly temporal: string
  readonly token: string
  readonly instance: string
  /** Its own data directory; kept from one worker of the node to the next. */
  readonly dataDir: string
}

/**
 * A node's worker inside the node: its own network and processes, its own Docker, and nothing in its environment but
 * what docs/nodes.md names. Resolves when it is ready.
 */
export async function startNodeWorker(lab: Lab, node: string, settings: NodeWorkerSettings): Promise<NodeWorker> {
  const { dataDir } = settings
  mkdirSync(dataDir, { recursive: true })
  const logFile = join(dataDir, 'node.log')
  const readyFile = join(dataDir, 'ready')
  rmSync(readyFile, { force: true })
  const environment = {
    PATH: process.env.PATH ?? '/usr/bin:/bin',
    HOME: '/root',
    PENSTOCK_INTERNAL_URL: settings.serverUrl,
    PENSTOCK_WORKER_TOKEN: settings.token,
    PENSTOCK_TEMPORAL_ADDRESS: settings.temporal,
    PENSTOCK_INSTANCE: settings.instance,
    PENSTOCK_DATA: dataDir,
    PENSTOCK_READY_FILE: readyFile,
  }
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`)
  const output = openSync(logFile, 'a')
  const child = spawn(SCRIPT, ['exec', node, 'env', '-i', ...variables, process.execPath, WORKER], {
    env: lab.env,
    stdio: ['ignore', output, output],
    detached: true,
  })
  closeSync(output)
  let ended = false
  const end = new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  }).then(() => {
    ended = true
  })
  const log = () => readFileSync(logFile, 'utf8')
  for (const until = performance.now() + READY_MS; !existsSync(readyFile); ) {
    if (ended || performance.now() > until) throw new Error(`the worker of ${node} did not become ready:\n${log()}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return {
    async kill(signal) {
      if (ended) return
      // The process id is that of the node's own namespace.
      await lab.exec(node, 'kill', `-${signal.slice(3)}`, readFileSync(readyFile, 'utf8'))
      await end
    },
    log,
  }
}
