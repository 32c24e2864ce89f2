import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type Docker from 'dockerode'
import { type JobKey, jobLabels, workspaceVolume } from '../../src/core/ids.ts'
import type { Part } from '../../src/embedded/embedded.ts'
import { BASE_IMAGES } from '../../src/embedded/images.ts'
import { processRecords } from '../../src/embedded/supervisor.ts'
import type { AttemptRow, RunDetail } from '../../src/store/types.ts'
import { docker, leftovers } from './docker.ts'
import type { System } from './system.ts'

/** Spread over several writes by `NUMBERED`, so that wherever following resumes, a part of it stands before. */
export const SECRET = 'kH7/pQ2+vX9_dR4=sT6!wZ1?'
/** A part of the secret as long as this must not be stored. */
const SECRET_PART = 8

/**
 * Prints numbered lines, one about every 20 ms, until the file `enough` is there: plain, with the secret at once, with
 * its halves apart, and with one byte of it after the other.
 */
export const NUMBERED = `n=0
until [ -e enough ]; do
  n=$((n + 1))
  case $((n % 4)) in
    0) echo "line $n $DEPLOY_KEY."; usleep 20000 ;;
    1) printf 'line %d %s' $n "\${DEPLOY_KEY:0:12}"; usleep 20000; echo "\${DEPLOY_KEY:12}." ;;
    2) printf 'line %d ' $n; i=0
       while [ $i -lt \${#DEPLOY_KEY} ]; do printf %s "\${DEPLOY_KEY:$i:1}"; usleep 1000; i=$((i + 1)); done
       echo . ;;
    3) echo "line $n plain"; usleep 20000 ;;
  esac
done
echo "end $n"
`

/** What a log of `NUMBERED` must hold, by the number in its own last line. */
export function expectedNumbered(log: string): string {
  const last = Number(/\nend (\d+)\n$/.exec(log)?.[1])
  const lines = Array.from({ length: last }, (_, i) => `line ${i + 1} ${(i + 1) % 4 === 3 ? 'plain' : '***.'}\n`)
  return `$ sh numbered.sh\n${lines.join('')}end ${last}\n`
}

/** Parts of the secret that the log holds. */
export function leaks(log: string): string[] {
  const parts = Array.from({ length: SECRET.length - SECRET_PART + 1 }, (_, i) => SECRET.slice(i, i + SECRET_PART))
  return parts.filter((part) => log.includes(part))
}

export const spec = (text: string) => ({
  '.penstock.yml': `image: ${BASE_IMAGES.base}\n${text}`,
  'numbered.sh': NUMBERED,
})

/** Where a volume's files are on this machine. */
export async function pathOf(volume: string, engine = docker): Promise<string> {
  return (await engine.getVolume(volume).inspect()).Mountpoint
}

/** Creates the file in the workspace that lets `NUMBERED` come to its end. */
export async function say(system: System, key: JobKey, engine = docker): Promise<void> {
  writeFileSync(join(await pathOf(workspaceVolume(system.instance, key), engine), 'enough'), '')
}

/** The containers there are of a job attempt, ended ones included: their ids with the time they began at. */
export async function containersOf(system: System, key: JobKey, engine = docker): Promise<string[]> {
  const label = Object.entries(jobLabels(system.instance, key)).map(([name, value]) => `${name}=${value}`)
  const found = await engine.listContainers({ all: true, filters: { label } })
  const states = await Promise.all(found.map(({ Id }) => engine.getContainer(Id).inspect()))
  return states.map(({ Id, State }) => `${Id} ${State.StartedAt}`)
}

/** Waits until the step's log has grown by this many lines from what it is now. */
export async function grows(system: System, number: number, job: string, lines: number): Promise<void> {
  const count = async () => (await system.log(number, job)).split('\n').length
  const before = await system.until(`the log of ${job}`, count, 60)
  await system.until(`${lines} more lines of ${job}`, async () => (await count()) >= before + lines, 120)
}

/** Kills a process; resolves when the supervisor has the next one. */
export async function killAndAwait(system: System, name: Part): Promise<void> {
  const pid = () => system.embedded.supervisor.running().find((one) => one.name === name)?.pid
  const before = pid()
  system.kill(name)
  await system.until(`another ${name}`, async () => pid() !== undefined && pid() !== before, 60)
}

/** Whatever carries the installation's label, and every lease and place in a queue. */
export async function left(system: System, engine: Docker = docker): Promise<string[]> {
  const { units, waiters } = await system.call<{
    units: readonly { pool: string; leases: readonly { holder: string }[] }[]
    waiters: readonly { holder: string }[]
  }>('GET', '/pools')
  return [
    ...(await leftovers(system.instance, engine)),
    ...units.flatMap(({ pool, leases }) => leases.map(({ holder }) => `lease of ${pool} by ${holder}`)),
    ...waiters.map((one) => `request of ${one.holder}`),
  ]
}

/** A minute after its end, nothing of a run is there. */
export async function nothingLeft(system: System, engine: Docker = docker): Promise<void> {
  let last: string[] = []
  try {
    await system.until(
      'nothing to be left',
      async () => {
        last = await left(system, engine)
        return last.length === 0
      },
      60,
    )
  } catch (err) {
    throw new Error(`left after 60 s: ${last.join(', ')}`, { cause: err })
  }
}

/** The attempts of stages that had ended by then, as they were recorded. */
export function endedRows(run: RunDetail, stages: readonly string[]): readonly AttemptRow[] {
  return run.attempts.filter((one) => stages.includes(one.stage))
}

/** What is deployed to: counts the calls that the deploy scripts of containers make, by their text. */
export interface Target {
  readonly calls: string[]
  /** A command for a spec, that tells the target `text`. */
  call(text: string): string
  close(): Promise<void>
}

export async function startTarget(): Promise<Target> {
  const calls: string[] = []
  const server: Server = createServer((request, response) => {
    calls.push(decodeURIComponent(request.url?.slice(1) ?? ''))
    response.end()
  })
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve))
  const { port } = server.address() as AddressInfo
  return {
    calls,
    // A container's gateway is the machine it runs on.
    call: (text) =>
      `wget -q -O /dev/null "http://$(route -n | awk '$1 == "0.0.0.0" {print $2}'):${port}/${encodeURIComponent(text)}"`,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  }
}

/** `npm start` without the compilation: the supervisor as a process of its own, so that it can be killed with the rest. */
export interface Whole {
  /** SIGKILL to the supervisor and all it watches, at once. */
  killAll(): void
  start(): Promise<void>
  stop(): Promise<void>
}

export async function startWhole(system: System): Promise<Whole> {
  await system.stop()
  const { host } = new URL(system.url)
  const root = fileURLToPath(new URL('../..', import.meta.url))
  let child: ChildProcess | undefined
  const whole: Whole = {
    async start() {
      let said = ''
      const started = spawn(process.execPath, [join(root, 'dist/src/embedded/main-start.js')], {
        cwd: dirname(system.configFile),
        env: {
          ...system.env,
          PENSTOCK_DATA: system.dataDir,
          PENSTOCK_CONFIG: system.configFile,
          PENSTOCK_LISTEN: host,
        },
        stdio: ['ignore', 'ignore', 'pipe'],
      })
      child = started
      started.stderr?.on('data', (data: Buffer) => {
        said += data.toString()
      })
      await system.until(
        'the system to be up',
        async () => {
          if (started.exitCode !== null) throw new Error(`it ended: ${said}`)
          return said.includes('until SIGTERM')
        },
        180,
      )
    },
    killAll() {
      const records = JSON.parse(readFileSync(processRecords(system.dataDir), 'utf8')) as readonly { pid: number }[]
      child?.kill('SIGKILL')
      for (const { pid } of records) process.kill(pid, 'SIGKILL')
    },
    async stop() {
      const ending = child
      if (!ending || ending.exitCode !== null || ending.signalCode !== null) return
      const ended = new Promise((resolve) => ending.once('exit', resolve))
      ending.kill('SIGTERM')
      await ended
    },
  }
  await whole.start()
  return whole
}
