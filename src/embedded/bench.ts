import { cpus, loadavg, totalmem } from 'node:os'
import { environment } from '../config/environment.ts'
import { atOnce, latency } from './bench/latency.ts'
import { lines } from './bench/lines.ts'
import { pools } from './bench/pools.ts'
import { collectable } from './bench/processes.ts'
import { receiver } from './bench/receiver.ts'
import { gates, memory } from './bench/standing.ts'
import { type BenchSystem, startBench } from './bench/system.ts'

/** In the order in which they are taken: memory first, because it begins with processes that have done nothing. */
const PARTS = ['memory', 'one-step', 'at-once', 'lines', 'gates', 'receiver', 'pools'] as const
type Part = (typeof PARTS)[number]

const USAGE = `usage: npm run bench -- [--only PART,…] [--quick]
Measures Penstock against what Docker itself takes on this machine, and prints one JSON object.
  --only   of ${PARTS.join(', ')}
  --quick  fewer rounds, runs and seconds: for a look, not for a record`

/** In units of \`docker run --rm\`, taken on the same kind of machine (two cores, Debian 12, Docker 20.10). */
const OTHERS = {
  oneStep: { Woodpecker: 2.5, Buildbot: 2.2, Gitness: 1.5 },
  tenSteps: { Woodpecker: 15.6, Buildbot: 12.7, Gitness: 11.6, act: 15.5, Drone: 12.3 },
  tenRuns: { Woodpecker: 13.3, Buildbot: 12, Gitness: 8.5 },
  triggerToContainer: { Woodpecker: 1.77, Gitness: 1.54, 'a bare Swarm service': 1.54 },
  lines: { act: 1.5, Woodpecker: '2.1 to 14', Buildbot: 5, 'Drone, Gitness': 'lose lines and report success' },
}

const say = (text: string) => console.error(text)

async function main(args: readonly string[]): Promise<number> {
  const wanted = partsOf(args)
  if (wanted === undefined) {
    say(USAGE)
    return 2
  }
  const isQuick = args.includes('--quick')
  const rounds = isQuick ? 3 : 7
  const env = { ...environment(), NODE_OPTIONS: collectable(), PENSTOCK_LOG_LEVEL: 'warn' }
  const floors: Record<string, unknown> = {}
  const figures: Record<string, unknown> = {}
  const note = (taken: { readonly floors: object; readonly figures: object }) => {
    for (const [name, floor] of Object.entries(taken.floors)) floors[name] ??= floor
    Object.assign(figures, taken.figures)
  }
  const onEmbedded: Readonly<Record<Exclude<Part, 'receiver' | 'pools'>, (system: BenchSystem) => Promise<void>>> = {
    memory: async (system) => {
      figures.memory = await memory(system, isQuick ? 50 : 500, say)
    },
    'one-step': async (system) => note(await latency(system, rounds, say)),
    'at-once': async (system) => note(await atOnce(system, rounds, say)),
    lines: async (system) => note(await lines(system, rounds, say)),
    gates: async (system) => {
      figures.gates = await gates(system, isQuick ? 100 : 1000, say)
    },
  }
  const embedded = (Object.keys(onEmbedded) as (keyof typeof onEmbedded)[]).filter((part) => wanted.includes(part))
  let docker = ''
  const startedAt = new Date().toISOString()
  const loadBefore = loadavg()[0]
  if (embedded.length > 0) {
    await withSystem({ env, say }, async (system) => {
      docker = (await system.docker.version()).Version
      for (const part of embedded) {
        say(`-- ${part}`)
        await onEmbedded[part](system)
      }
    })
  }
  if (wanted.includes('receiver')) {
    say('-- receiver')
    await withSystem({ env, say, only: ['temporal', 'server'] }, async (system) => {
      docker = (await system.docker.version()).Version
      figures.receiver = await receiver(system, isQuick ? 10 : 30, say)
    })
  }
  if (wanted.includes('pools')) {
    say('-- pools')
    await withSystem({ env, say, only: ['temporal', 'server'] }, async (system) => {
      docker = (await system.docker.version()).Version
      note(await pools(system, rounds, say))
    })
  }
  const machine = {
    cores: cpus().length,
    processor: cpus()[0]?.model ?? 'unknown',
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    docker,
    loadBefore,
    startedAt,
    finishedAt: new Date().toISOString(),
  }
  console.log(JSON.stringify({ machine, rounds, floors, figures, others: OTHERS }, null, 2))
  return 0
}

function partsOf(args: readonly string[]): readonly Part[] | undefined {
  let wanted: readonly string[] = PARTS
  for (let at = 0; at < args.length; at++) {
    if (args[at] === '--quick') continue
    if (args[at] !== '--only') return undefined
    wanted = (args[++at] ?? '').split(',')
  }
  const known = PARTS.filter((part) => wanted.includes(part))
  return known.length === wanted.length ? known : undefined
}

async function withSystem(
  options: Parameters<typeof startBench>[0],
  use: (system: BenchSystem) => Promise<void>,
): Promise<void> {
  const system = await startBench(options)
  let taken: Promise<void> | undefined
  const takeDown = () => {
    taken ??= system.dispose()
    return taken
  }
  // What is under way fails when the system goes; the process must not end before everything is gone.
  const stop = () => void takeDown().finally(() => process.exit(130))
  process.once('SIGINT', stop).once('SIGTERM', stop)
  try {
    await use(system)
  } finally {
    await takeDown()
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }
}

process.exitCode = await main(process.argv.slice(2))
