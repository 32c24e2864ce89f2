import { setTimeout as sleep } from 'node:timers/promises'
import type { GateRow, RunRow } from '../../store/types.ts'
import { oneStepSpec } from './latency.ts'
import { median, round, timed } from './measure.ts'
import { collected, residentMiB } from './processes.ts'
import type { BenchSystem } from './system.ts'

const PARTS = ['server', 'control', 'node'] as const
const AT_ONCE = 5
const GROWTH_TARGET_MIB = 20
const DELIVERED_AT_ONCE = 10
const LOOKS = 7

async function memoryOf(system: BenchSystem) {
  const pids = system.pids()
  const found = await Promise.all(PARTS.map(async (part) => [part, await collected(pids[part] ?? 0)] as const))
  return Object.fromEntries(found) as Record<(typeof PARTS)[number], Awaited<ReturnType<typeof collected>>>
}

/** Resident memory of server and workers: idle, after a fifth of the runs, and after all. */
export async function memory(system: BenchSystem, runs: number, say: (text: string) => void) {
  const idle = await memoryOf(system)
  const commits = [...(await system.commits(oneStepSpec(system.image), runs))]
  const first = Math.round(runs / 5)
  let early = idle
  let done = 0
  for (const until of [first, runs]) {
    while (done < until) {
      const batch = commits.splice(0, Math.min(AT_ONCE, until - done))
      const numbers = await Promise.all(batch.map((commit) => system.deliver(commit)))
      for (const number of numbers) await system.ended(number)
      done += batch.length
      if (done % 50 < AT_ONCE) say(`memory: ${done} of ${runs} runs`)
    }
    await system.quiet()
    if (until === first) early = await memoryOf(system)
  }
  const late = await memoryOf(system)
  const growth = Object.fromEntries(PARTS.map((part) => [part, round(late[part].rssMiB - early[part].rssMiB, 1)]))
  return {
    idle,
    [`after${first}`]: early,
    [`after${runs}`]: late,
    growthMiB: growth,
    target: GROWTH_TARGET_MIB,
    met: Object.values(growth).every((one) => one < GROWTH_TARGET_MIB),
  }
}

/** Runs that wait for approval: what they cost, how long it takes to list them, and from a vote to the next stage. */
export async function gates(system: BenchSystem, count: number, say: (text: string) => void) {
  const pids = system.pids()
  const parts = ['temporal', ...PARTS]
  const resident = () => Object.fromEntries(parts.map((part) => [part, residentMiB(pids[part] ?? 0)]))
  const before = resident()
  const commits = [...(await system.commits(`image: ${system.image}\ndeploy:\n  production: "true"\n`, count))]
  const numbers: number[] = []
  const start = performance.now()
  for (let at = 0; at < count; at += DELIVERED_AT_ONCE) {
    const batch = commits.slice(at, at + DELIVERED_AT_ONCE)
    numbers.push(...(await Promise.all(batch.map((commit) => system.deliver(commit)))))
  }
  const waiting = async () => (await system.get<{ gates: GateRow[] }>('/gates')).gates.length
  for (let now = await waiting(); now < count; now = await waiting()) {
    say(`gates: ${now} of ${count} runs wait`)
    await sleep(1000)
  }
  const arrivedMs = performance.now() - start
  const listGates: number[] = []
  const listRuns: number[] = []
  for (let look = 0; look < LOOKS; look++) {
    listGates.push(await timed(waiting))
    listRuns.push(await timed(() => system.get('/runs?status=waiting&limit=200')))
  }
  const after = resident()
  const votes: number[] = []
  // From the oldest on, so that every promotion is a fast-forward.
  for (const number of numbers.sort((a, b) => a - b).slice(0, LOOKS)) {
    const voted = Date.now()
    await system.post(`/runs/${number}/gates/signoff/approve`, {}, 'tess')
    await system.ended(number)
    const started = (await system.events(number)).find(
      ({ event }) => event.type === 'stage.started.v1' && event.stage === 'promote',
    )
    votes.push((started?.at ?? Number.NaN) - voted)
    // The release that follows is not part of the next measurement.
    const { runs } = await system.get<{ runs: RunRow[] }>('/runs?limit=1')
    for (const run of runs) if (run.trigger.kind === 'promotion') await system.ended(run.number)
    await system.quiet()
  }
  return {
    waiting: count,
    arrivedSeconds: round(arrivedMs / 1000, 1),
    beforeMiB: before,
    afterMiB: after,
    listGatesMs: round(median(listGates), 1),
    listRunsMs: round(median(listRuns), 1),
    voteToNextStageMs: round(median(votes), 0),
    voteToNextStageMostMs: Math.max(...votes),
  }
}
