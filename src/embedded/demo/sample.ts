import { randomUUID } from 'node:crypto'
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type Docker from 'dockerode'
import { execa } from 'execa'
import { z } from 'zod'
import { readJson, type Say, writeJson } from '../files.ts'
import { freePort } from '../ports.ts'

/** The sample itself, and where it runs, wherever its repository is. */

const EXAMPLES = fileURLToPath(new URL('../../../../examples/', import.meta.url))

const Settings = z.object({
  hookSecret: z.string(),
  ports: z.object({ staging: z.number(), production: z.number() }),
  /** How often the demo was called. */
  calls: z.number().default(0),
})

export interface Place {
  readonly url: string
  readonly port: number
}

export interface Stage {
  /** Of the demo, inside the data directory. */
  readonly dir: string
  /** Of this installation, in whose name the services of the environments are: another's demo in the same Swarm has its own. */
  readonly instance: string
  readonly hookSecret: string
  /** Which call this is, counted from 1. */
  readonly call: number
  readonly staging: Place
  readonly production: Place
}

/** What stays the same from call to call, so that addresses people have noted stay right. */
export async function setStage(dataDir: string, docker: Docker, instance: string): Promise<Stage> {
  const dir = path.join(dataDir, 'demo')
  mkdirSync(dir, { recursive: true })
  const file = path.join(dir, 'settings.json')
  const { hookSecret, ports, calls } = readJson(file, Settings) ?? {
    hookSecret: `hook-${randomUUID()}`,
    ports: { staging: await freePort(), production: await freePort() },
    calls: 0,
  }
  writeJson(file, { hookSecret, ports, calls: calls + 1 })
  // The sample listens on the node itself, which jobs reach by its address on a bridge of the Swarm: a published port
  // would be kept from them, as Docker keeps bridges apart.
  const host = await bridgeAddress(docker)
  const placeAt = (port: number) => ({ port, url: `http://${host}:${port}` })
  return {
    ...{ dir, instance, hookSecret, call: calls + 1 },
    ...{ staging: placeAt(ports.staging), production: placeAt(ports.production) },
  }
}

/** This machine's address on the bridge that every Swarm node has. */
async function bridgeAddress(docker: Docker): Promise<string> {
  const Bridge = z.object({ IPAM: z.object({ Config: z.array(z.object({ Gateway: z.string().optional() })) }) })
  const { IPAM } = Bridge.parse(await docker.getNetwork('docker_gwbridge').inspect())
  const address = IPAM.Config.find((one) => one.Gateway !== undefined)?.Gateway
  if (address === undefined) throw new Error('the network docker_gwbridge of the Swarm has no gateway')
  return address
}

/** Of the operator's file: the environments of the sample, under its repository. */
export function environmentsOf({ staging, production, instance }: Stage): string {
  const target = (name: string, { port }: Place) =>
    `target: { swarm: { service: penstock-sample-${name}-${instance}, network: host, env: { PORT: "${port}" } } }`
  return `    environments:
      staging:
        url: ${staging.url}
        ${target('staging', staging)}
      production:
        url: ${production.url}
        ${target('production', production)}
        approvers: ["role:approver"]
        quorum: 1
        expires: 7d
`
}

const GONE_SECONDS = 60

/**
 * An environment's service is its repository's, and no other deploys to it: what the sample left there when its repository
 * or the service had another name goes first, with its containers, which hold the ports.
 */
export async function clearStage(docker: Docker, { instance }: Stage, repo: string, say: Say): Promise<void> {
  const ours = { label: [`penstock.instance=${instance}`, 'penstock.environment'] }
  for (const { ID, Spec } of await docker.listServices({ filters: JSON.stringify(ours) })) {
    const environment = Spec?.Labels?.['penstock.environment'] ?? ''
    if (environment.startsWith(`${repo}/`) && Spec?.Name?.endsWith(instance)) continue
    say(`removed      ${environment} of an earlier demo`)
    await docker.getService(ID).remove()
    const itsOwn = JSON.stringify({ label: [`penstock.environment=${environment}`, `penstock.instance=${instance}`] })
    for (let second = 0; (await docker.listContainers({ filters: itsOwn })).length > 0; second++) {
      if (second >= GONE_SECONDS) throw new Error(`a container of ${environment} does not end`)
      await sleep(1000)
    }
  }
}

// -------------------------------------------------------------------- its commits

export interface Push {
  /** Of the checkout, which is made anew. */
  readonly work: string
  /** Where to; with a path or an address of git. */
  readonly remote: string
  readonly branches: readonly string[]
  /** What the commit stands on, if it is there. */
  readonly onto: string
  readonly message: string
  /** Which example to copy, and what to write beside it. */
  readonly example: string
  readonly files: Readonly<Record<string, string>>
}

export interface Pushed {
  /** Absent: this is the first commit. */
  readonly before?: string
  readonly commit: string
}

/** Ada commits an example as it stands, and pushes it. */
export async function push({ work, remote, branches, onto, message, example, files }: Push): Promise<Pushed> {
  rmSync(work, { recursive: true, force: true })
  mkdirSync(work, { recursive: true })
  await git(work, 'init', '--quiet', '--initial-branch=work')
  await git(work, 'remote', 'add', 'origin', remote)
  const before = (await git(work, 'ls-remote', 'origin', `refs/heads/${onto}`)).slice(0, 40)
  if (before !== '') {
    await git(work, 'fetch', '--quiet', 'origin', onto)
    await git(work, 'reset', '--quiet', '--soft', 'FETCH_HEAD')
  }
  cpSync(path.join(EXAMPLES, example), work, { recursive: true })
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(work, name), text)
  await git(work, 'add', '--all')
  await git(work, ...['-c', 'user.name=Ada', '-c', 'user.email=ada@example.org', 'commit', '--quiet', '-m', message])
  const commit = await git(work, 'rev-parse', 'HEAD')
  await git(work, 'push', '--quiet', 'origin', ...branches.map((branch) => `HEAD:refs/heads/${branch}`))
  return { commit, ...(before === '' ? {} : { before }) }
}

export function readExample(example: string, file: string): string {
  return readFileSync(path.join(EXAMPLES, example, file), 'utf8')
}

export async function git(dir: string, ...args: readonly string[]): Promise<string> {
  const { stdout } = await execa('git', [...args], {
    cwd: dir,
    // Nothing of this machine's settings, and nobody is asked for a password.
    env: { GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1', GIT_TERMINAL_PROMPT: '0' },
  })
  return stdout
}
