import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { z } from 'zod'
import { environment } from '../config/environment.ts'
import { EXIT_CODES, type Outcome } from '../core/outcome.ts'
import { type Api, cancelLeftovers, connect } from './demo/api.ts'
import { atFakeGithub } from './demo/fake-github.ts'
import { follow, type OpenedSession } from './demo/follow.ts'
import type { Home } from './demo/home.ts'
import { atPlainGit } from './demo/plain-git.ts'
import { clearStage, type Stage, setStage } from './demo/sample.ts'
import { createTerminal, readFlags, type Terminal } from './demo/terminal.ts'
import { ensureDocker, ensureSwarm } from './docker.ts'
import { type Embedded, startEmbedded } from './embedded.ts'
import { dataDirOf, instanceOf, openDataDir } from './files.ts'
import { BASE_IMAGES, ensureBaseImages } from './images.ts'
import { choosePorts } from './ports.ts'

/**
 * One commit of a sample service, from the push to production, before the eyes of who calls it. Ends with exit code 0
 * only if production answers with exactly that commit.
 */
async function main(): Promise<number> {
  const flags = readFlags(process.argv.slice(2))
  const terminal = createTerminal(flags)
  const { say } = terminal
  const base: NodeJS.ProcessEnv = { ...environment() }
  const dataDir = openDataDir(dataDirOf(base))
  const { docker } = await ensureDocker({ dataDir, env: base, say })
  await ensureSwarm(docker, { dataDir, say })
  await ensureBaseImages(docker, { env: base, say })
  const stage = await setStage(dataDir, docker, base.PENSTOCK_INSTANCE || instanceOf(dataDir))
  const home =
    flags.forge === 'git' ? await atPlainGit(stage, say) : await atFakeGithub(stage, terminal, await hookUrl())
  try {
    const env = { ...base, ...home.env }
    const embedded = await startEmbedded({ dataDir, configFile: writeConfig(stage, home), env, say })
    const stop = onInterrupt(embedded)
    try {
      const api = await connect(dataDir, embedded.addresses.api)
      say(`API          ${embedded.addresses.api}/api/v1`)
      if (embedded.addresses.temporalUi) say(`Temporal UI  ${embedded.addresses.temporalUi}`)
      await cancelLeftovers(api, say)
      await clearStage(docker, stage, home.repo, say)
      const report = await story({ stage, home, api, terminal })
      if (flags.json) console.log(JSON.stringify(report, null, 2))
      const isDone = report.outcome === 'succeeded' && report.production.commit === report.commit
      say(isDone ? `production runs ${report.commit.slice(0, 12)}` : `ended: ${report.outcome}`)
      if (terminal.isWatched) {
        say('everything stays up until Ctrl-C; `npm run down` removes it')
        await stop.requested
      }
      return isDone ? 0 : EXIT_CODES[report.outcome] || EXIT_CODES.errored
    } finally {
      await embedded.stop()
    }
  } finally {
    await home.stop()
  }

  /** An App says where its deliveries go before anybody is there to take them. */
  async function hookUrl(): Promise<string> {
    const { api } = await choosePorts(dataDir)
    return `http://127.0.0.1:${api}/hooks/github`
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

function writeConfig(stage: Stage, home: Home): string {
  mkdirSync(stage.dir, { recursive: true })
  const file = path.join(stage.dir, 'penstock.config.yml')
  const pools = `pools:
  rig:
    reset: { image: ${BASE_IMAGES.base}, run: echo "$CI_POOL_RIG is wiped" }
    units: { rig-1: { properties: { arch: amd64 } } }
`
  writeFileSync(file, `${home.config}${pools}`, { mode: 0o600 })
  return file
}

interface Report {
  readonly outcome: Outcome
  readonly commit: string
  readonly runs: readonly object[]
  readonly production: { readonly url: string; readonly commit?: string }
  readonly seconds: number
}

async function story({
  stage,
  home,
  api,
  terminal,
}: {
  readonly stage: Stage
  readonly home: Home
  readonly api: Api
  readonly terminal: Terminal
}): Promise<Report> {
  const { say } = terminal
  const told = (number: number) => follow({ api, say, answer, test }, number)
  const { commit, failed } = await home.change(api, told)
  const outcome = failed ?? (await release())
  const deployed = outcome === 'succeeded' ? await versionOf(stage.production.url) : undefined
  const runs = (await api.runs()).filter(({ change }) => (change.upstream?.commit ?? change.commit) === commit)
  return {
    outcome,
    commit,
    runs: await Promise.all(runs.reverse().map((run) => api.summary(run.number))),
    production: { url: stage.production.url, ...(deployed === undefined ? {} : { commit: deployed }) },
    ...(await home.shown(commit, outcome)),
    seconds: Math.round(terminal.seconds() * 10) / 10,
  }

  async function release(): Promise<Outcome> {
    const candidate = await runOf('master')
    say(`run ${candidate.number}        release candidate`)
    const decided = await told(candidate.number)
    if (decided !== 'succeeded') return decided
    const released = await runOf('production')
    say(`run ${released.number}        release`)
    return told(released.number)
  }

  function runOf(branch: string) {
    const ref = `refs/heads/${branch}`
    return api.runThat(
      `the run of ${commit} on ${branch}`,
      ({ change }) => change.commit === commit && change.ref === ref,
    )
  }

  async function test(number: number, { stage, job, attempt }: OpenedSession): Promise<void> {
    const key = { stage, job, attempt }
    const { checklist, units, url } = await api.session(number, key)
    const held = units.map(({ pool, unit }) => `${pool}/${unit}`).join(', ')
    say(`to test      ${url ?? stage}${held === '' ? '' : `, with ${held} in your hands`}`)
    for (const { item, name } of checklist) {
      const isYes = await terminal.ask(`passed, as tess: ${name}?`)
      if (isYes === undefined) return
      await api.answer(number, key, item, isYes ? 'passed' : 'failed')
    }
    await api.finish(number, key)
  }

  async function answer(number: number, gate: Parameters<Home['vote']>[2]): Promise<void> {
    const where = await home.askedAt(number, commit)
    if (where !== undefined) say(`to approve   ${where}`)
    const isYes = await terminal.ask(`approve ${gate.subject.commit.slice(0, 12)} for ${gate.environment}, as tess?`)
    if (isYes !== undefined) await home.vote(api, number, gate, isYes)
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

try {
  process.exitCode = await main()
} catch (err) {
  console.error(err instanceof Error ? err.message : String(err))
  process.exitCode = EXIT_CODES.errored
}
