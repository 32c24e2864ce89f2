import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type Docker from 'dockerode'
import { z } from 'zod'
import { LABELS } from '../core/ids.ts'
import { connectDocker } from '../engine/docker.ts'
import { canInstall, findProgram, installPackages } from './debian.ts'
import { instanceOf, openDataDir, readJson, type Say, tail, writeJson } from './files.ts'
import { identify, isAlive, type ProcessId, stopProcess } from './process.ts'

const run = promisify(execFile)

export const DEFAULT_SOCKET = '/var/run/docker.sock'

export const DaemonRecord = z.object({ pid: z.number(), startedAt: z.string() })

export function daemonRecord(dataDir: string): string {
  return path.join(dataDir, 'dockerd.json')
}

export interface EnsureDocker {
  readonly dataDir: string
  readonly say: Say
  readonly env: NodeJS.ProcessEnv
  /** Another place than the default for the socket, and further arguments of dockerd: for a second engine on a machine. */
  readonly socket?: string
  readonly daemonArgs?: readonly string[]
  /** Another program, with its first arguments, that becomes dockerd: for one in a network namespace of its own. */
  readonly daemonProgram?: readonly [string, ...string[]]
  /** Where dockerd keeps its pid file and its containerd's. */
  readonly runDir?: string
}

export interface Engine {
  readonly docker: Docker
  /** As DOCKER_HOST has it. */
  readonly host: string
  /** Whether this call started the daemon. */
  readonly started: boolean
}

/** The engine that is there; else, as root on Debian or Ubuntu, the distribution's, installed and started. */
export async function ensureDocker(options: EnsureDocker): Promise<Engine> {
  const host = options.env.DOCKER_HOST
  if (host !== undefined && host !== '' && options.socket === undefined) {
    const docker = connectDocker(options.env)
    const answer = await answers(docker)
    if (!answer.ok) throw new Error(`DOCKER_HOST is ${host}, but no Docker engine answers there: ${answer.why}`)
    return { docker, host, started: false }
  }
  const socket = options.socket ?? DEFAULT_SOCKET
  const docker = connectDocker({ DOCKER_HOST: `unix://${socket}` })
  const answer = await answers(docker)
  if (answer.ok) return { docker, host: `unix://${socket}`, started: false }
  if (answer.denied) {
    throw new Error(`${socket} may not be opened by this user: add the user to the group "docker", or run this as root`)
  }
  if (process.platform !== 'linux') {
    throw new Error('no Docker engine answers: install Docker Desktop, start it, and try again')
  }
  await installEngine(options)
  await startDaemon(options, docker, socket)
  return { docker, host: `unix://${socket}`, started: true }
}

const PING_LIMIT_MS = 5_000

type Answer = { readonly ok: true } | { readonly ok: false; readonly denied: boolean; readonly why: string }

export async function answers(docker: Docker): Promise<Answer> {
  try {
    await Promise.race([
      docker.ping(),
      sleep(PING_LIMIT_MS, undefined, { ref: false }).then(() => {
        throw new Error('no answer within 5 s')
      }),
    ])
    return { ok: true }
  } catch (err) {
    const code = err instanceof Error && 'code' in err ? err.code : undefined
    return { ok: false, denied: code === 'EACCES', why: err instanceof Error ? err.message : String(err) }
  }
}

async function installEngine(options: EnsureDocker): Promise<void> {
  const searchPath = options.env.PATH ?? ''
  const present = findProgram('dockerd', searchPath) !== undefined
  if (!canInstall()) {
    throw new Error(
      present
        ? 'Docker is installed, but its engine does not run: start it (`sudo systemctl start docker`) and try again'
        : 'no Docker engine answers: install Docker Engine (https://docs.docker.com/engine/install/), start it, and try again',
    )
  }
  const missing: string[] = []
  if (!present) missing.push('docker.io')
  if (findProgram('iptables', searchPath) === undefined) missing.push('iptables')
  if (findProgram('docker-init', searchPath) === undefined && findProgram('tini', searchPath) === undefined)
    missing.push('tini')
  if (!hasControlGroups() && findProgram('cgroupfs-mount', searchPath) === undefined) missing.push('cgroupfs-mount')
  if (missing.length > 0) await installPackages(missing, 'no Docker engine answers on this machine', options.say)
  if (!hasControlGroups()) await run('cgroupfs-mount', [])
}

function hasControlGroups(): boolean {
  return existsSync('/sys/fs/cgroup') && readdirSync('/sys/fs/cgroup').length > 0
}

/** The daemon's own containerd sometimes fails to come up beside what a killed predecessor left; another start cures it. */
const START_TRIES = 4
const START_LIMIT_MS = 30_000
const STOP_GRACE_MS = 20_000

async function startDaemon(options: EnsureDocker, docker: Docker, socket: string): Promise<void> {
  const dataDir = openDataDir(options.dataDir)
  if (existsSync('/run/systemd/system') && options.socket === undefined) {
    // Where systemd runs, the distribution's own service is what an administrator expects to find.
    await run('systemctl', ['start', 'docker'])
    if (await answersWithin(docker, START_LIMIT_MS)) return
    throw new Error('`systemctl start docker` succeeded, but the engine does not answer; see `journalctl -u docker`')
  }
  const logFile = path.join(dataDir, 'logs', 'dockerd.log')
  mkdirSync(path.dirname(logFile), { recursive: true })
  const dockerd = findProgram('dockerd', options.env.PATH ?? '')
  if (dockerd === undefined) throw new Error('the package docker.io is installed, but there is no program dockerd')
  const [program, ...first] = options.daemonProgram ?? [dockerd]
  const runDir = options.runDir ?? '/var/run'
  for (let attempt = 1; attempt <= START_TRIES; attempt++) {
    options.say(attempt === 1 ? 'starting dockerd' : `starting dockerd again (try ${attempt} of ${START_TRIES})`)
    await clearStale(runDir)
    const log = openSync(logFile, 'a')
    const args = [
      ...first,
      '--label',
      `${LABELS.instance}=${instanceOf(dataDir)}`,
      '--host',
      `unix://${socket}`,
      ...(options.daemonArgs ?? []),
    ]
    // A session of its own: neither Ctrl-C nor the end of this program may take running containers with it.
    const child = spawn(program, args, { detached: true, stdio: ['ignore', log, log], cwd: '/' })
    child.unref()
    const exited = new Promise<void>((resolve) => {
      child.once('exit', () => resolve())
      child.once('error', () => resolve())
    })
    const id = child.pid === undefined ? undefined : await identify(child.pid)
    if (id !== undefined) writeJson(daemonRecord(dataDir), id)
    const stop = new AbortController()
    const up = await Promise.race([answersWithin(docker, START_LIMIT_MS, stop.signal), exited.then(() => false)])
    stop.abort()
    if (up) return
    if (id !== undefined) await stopProcess(id, STOP_GRACE_MS)
  }
  throw new Error(`dockerd does not start; the end of ${logFile}:\n${tail(logFile)}`)
}

async function answersWithin(docker: Docker, ms: number, signal?: AbortSignal): Promise<boolean> {
  const until = performance.now() + ms
  while (performance.now() < until && signal?.aborted !== true) {
    if ((await answers(docker)).ok) return true
    await sleep(100)
  }
  return false
}

/**
 * What a killed dockerd leaves in the way of the next: a pid file whose number another process may have by now, and a
 * containerd that the next one would try, for a quarter of a minute, to make friends with.
 */
async function clearStale(runDir: string): Promise<void> {
  if (hasDaemon(runDir)) return
  rmSync(path.join(runDir, 'docker.pid'), { force: true })
  await killContainerd(runDir)
}

/** Whether a dockerd runs, whoever started it, and whether or not it answers. */
export function hasDaemon(runDir = '/var/run'): boolean {
  const pid = pidIn(path.join(runDir, 'docker.pid'))
  return pid !== undefined && commandOf(pid).includes('dockerd')
}

/** Ends the containerd of a dockerd that was killed. It is ours only when the dead daemon was. Returns whether it did. */
export async function stopOrphanedContainerd(dataDir: string, runDir = '/var/run'): Promise<boolean> {
  const daemon = readJson(daemonRecord(dataDir), DaemonRecord)
  if (daemon === undefined || pidIn(path.join(runDir, 'docker.pid')) !== daemon.pid || (await isAlive(daemon)))
    return false
  return killContainerd(runDir)
}

async function killContainerd(runDir: string): Promise<boolean> {
  const pid = pidIn(path.join(runDir, 'docker', 'containerd', 'containerd.pid'))
  if (pid === undefined || !commandOf(pid).includes('docker/containerd/containerd.toml')) return false
  const id = await identify(pid)
  return id !== undefined && (await stopProcess(id, STOP_GRACE_MS))
}

function pidIn(file: string): number | undefined {
  if (!existsSync(file)) return undefined
  const pid = Number(readFileSync(file, 'utf8').trim())
  return Number.isInteger(pid) && pid > 1 ? pid : undefined
}

function commandOf(pid: number): string {
  const file = `/proc/${pid}/cmdline`
  return existsSync(file) ? readFileSync(file, 'utf8').replaceAll('\0', ' ') : ''
}

/** The dockerd that an earlier call started for this data directory, if it still runs. */
export async function ownDaemon(dataDir: string, runDir = '/var/run'): Promise<ProcessId | undefined> {
  const recorded = readJson(daemonRecord(dataDir), DaemonRecord)
  if (recorded !== undefined && (await isAlive(recorded))) return recorded
  // The record may be gone with the data directory; the daemon carries the same mark in its arguments.
  const pid = pidIn(path.join(runDir, 'docker.pid'))
  if (pid === undefined || !commandOf(pid).includes(`${LABELS.instance}=${instanceOf(dataDir)} `)) return undefined
  return identify(pid)
}

const SwarmInfo = z.object({
  Swarm: z.object({
    LocalNodeState: z.string(),
    ControlAvailable: z.boolean().optional(),
    Cluster: z.object({ Spec: z.object({ Labels: z.record(z.string(), z.string()).nullish() }) }).nullish(),
  }),
})

export type SwarmState = 'none' | 'worker' | 'ours' | 'others'

/** Whether this engine is in a Swarm, and whether this instance made it. */
export async function swarmState(docker: Docker, instance: string): Promise<SwarmState> {
  const { Swarm } = SwarmInfo.parse(await docker.info())
  if (Swarm.LocalNodeState === 'inactive') return 'none'
  if (Swarm.LocalNodeState !== 'active')
    throw new Error(`this machine's part in its Swarm is "${Swarm.LocalNodeState}": see \`docker info\``)
  if (Swarm.ControlAvailable !== true) return 'worker'
  return Swarm.Cluster?.Spec.Labels?.[LABELS.instance] === instance ? 'ours' : 'others'
}

/** A Swarm to run jobs on: the one that is there, else one of this machine alone, marked as ours in its own labels. */
export async function ensureSwarm(
  docker: Docker,
  options: { readonly dataDir: string; readonly say: Say },
): Promise<void> {
  const instance = instanceOf(options.dataDir)
  const state = await swarmState(docker, instance)
  if (state === 'worker') {
    throw new Error('this machine is only a worker of its Swarm: run Penstock on a manager, or set DOCKER_HOST to one')
  }
  if (state !== 'none') return
  options.say('making a Swarm of this one machine')
  try {
    await docker.swarmInit({
      ListenAddr: '127.0.0.1:2377',
      AdvertiseAddr: '127.0.0.1',
      Spec: { Labels: { [LABELS.instance]: instance } },
    })
  } catch (err) {
    // Somebody else was faster; what counts is that there is one.
    if ((await swarmState(docker, instance)) === 'none') throw err
  }
}
