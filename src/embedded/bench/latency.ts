import { setTimeout as sleep } from 'node:timers/promises'
import type Docker from 'dockerode'
import { execa } from 'execa'
import { inTurns, timed, toFigure, toFloor } from './measure.ts'
import type { BenchSystem } from './system.ts'

const FLOOR_POLL_MS = 10
const LINE_POLL_MS = 10
export const DOCKER_RUN = 'docker run --rm IMAGE true'

export function dockerRun({ image }: BenchSystem): Promise<number> {
  return timed(() => execa('docker', ['run', '--rm', image, 'true']))
}

/** A service of one container from its creation to the word that it is complete. */
export function swarmService(system: BenchSystem): Promise<number> {
  return swarmServices(system, 1, false)
}

/** Services of one container each, made at once, until the last is complete; with a bridge network each, as a run has. */
async function swarmServices({ docker, image, quiet, instance }: BenchSystem, count: number, withNetworks: boolean) {
  const { Id } = await docker.getImage(image).inspect()
  const made: { readonly service: string; readonly network?: string }[] = []
  const one = async () => {
    const name = `bench-${instance}-${process.hrtime.bigint()}`
    let network: string | undefined
    if (withNetworks) {
      // Swarm's types know only overlays.
      network = (await docker.createNetwork({ Name: name, Driver: 'bridge', ...{ Scope: 'swarm' } })).id
    }
    const service = await docker.createService({
      Name: name,
      Labels: {},
      EndpointSpec: { Mode: 'dnsrr' },
      TaskTemplate: {
        ContainerSpec: { Image: Id, Command: ['true'] },
        RestartPolicy: { Condition: 'none', MaxAttempts: 0 },
        ...(network === undefined ? {} : { Networks: [{ Target: network }] }),
      },
      Mode: { Replicated: { Replicas: 1 } },
    })
    made.push({ service: service.id, ...(network === undefined ? {} : { network }) })
    await complete(docker, service.id)
  }
  const ms = await timed(() => Promise.all(Array.from({ length: count }, one)))
  for (const { service, network } of made) {
    await docker.getService(service).remove()
    // Its container goes by itself a moment later.
    const filters = { label: [`com.docker.swarm.service.id=${service}`] }
    while ((await docker.listContainers({ all: true, filters })).length > 0) await sleep(100)
    if (network !== undefined) await docker.getNetwork(network).remove()
  }
  await quiet()
  return ms
}

async function complete(docker: Docker, service: string): Promise<void> {
  for (;;) {
    const [task] = (await docker.listTasks({ filters: JSON.stringify({ service: [service] }) })) as {
      Status?: { State?: string }
    }[]
    if (task?.Status?.State === 'complete') return
    if (task?.Status?.State === 'failed' || task?.Status?.State === 'rejected')
      throw new Error('the service of the floor could not run')
    await sleep(FLOOR_POLL_MS)
  }
}

/** From the delivery to the recorded outcome. Both times are this machine's clock. */
async function toOutcome(system: BenchSystem, commit: string): Promise<number> {
  const start = Date.now()
  const run = await system.deliver(commit)
  const { finishedAt } = await system.ended(run)
  await system.quiet()
  return (finishedAt ?? Number.NaN) - start
}

/** From the delivery until a reader of the API has the first line that the step printed. */
async function toFirstLine(system: BenchSystem, commit: string): Promise<number> {
  let run = 0
  const ms = await timed(async () => {
    run = await system.deliver(commit)
    const path = `${system.url}/api/v1/runs/${run}/jobs/test/steps/0/log?follow=1`
    for (;;) {
      const answer = await fetch(path, { headers: system.headers() })
      if (answer.ok && answer.body) {
        let text = ''
        for await (const chunk of answer.body) {
          text += Buffer.from(chunk as Uint8Array).toString()
          if (/^hello$/m.test(text)) return
        }
        throw new Error(`the log of run ${run} ended without the line: ${text}`)
      }
      await answer.body?.cancel()
      await sleep(LINE_POLL_MS)
    }
  })
  await system.ended(run)
  await system.quiet()
  return ms
}

export function oneStepSpec(image: string): string {
  return `image: ${image}\ntest: "true"\n`
}

export async function latency(system: BenchSystem, rounds: number, say: (text: string) => void) {
  const { image } = system
  const ten = Array.from({ length: 10 }, () => '        - name: nothing\n          run: "true"').join('\n')
  const one = [...(await system.commits(oneStepSpec(image), rounds + 1))]
  const tens = [
    ...(await system.commits(
      `image: ${image}\ntest:\n  test:\n    run:\n${ten.replaceAll(/^ {4}/gm, '')}\n`,
      rounds + 1,
    )),
  ]
  const lines = [...(await system.commits(`image: ${image}\ntest: echo hello; sleep 1\n`, rounds + 1))]
  const next = (list: string[]) => list.shift() ?? ''
  const taken = await inTurns(
    rounds,
    {
      dockerRun: () => dockerRun(system),
      swarmService: () => swarmService(system),
      oneStep: () => toOutcome(system, next(one)),
      tenSteps: () => toOutcome(system, next(tens)),
      firstLine: () => toFirstLine(system, next(lines)),
    },
    say,
  )
  return {
    floors: { dockerRun: toFloor(taken.dockerRun), swarmService: toFloor(taken.swarmService) },
    figures: {
      oneStep: toFigure(taken.oneStep, taken.dockerRun, { floor: DOCKER_RUN, target: 2.5 }),
      tenSteps: toFigure(taken.tenSteps, taken.oneStep, { floor: 'one step', target: 1.15 }),
      firstLine: toFigure(taken.firstLine, taken.dockerRun, { floor: DOCKER_RUN, target: 2.1 }),
    },
  }
}

export async function atOnce(system: BenchSystem, rounds: number, say: (text: string) => void) {
  const count = 10
  const commits = [...(await system.commits(oneStepSpec(system.image), (rounds + 1) * count))]
  const taken = await inTurns(
    rounds,
    {
      dockerRun: () => dockerRun(system),
      tenServices: () => swarmServices(system, count, true),
      tenRuns: async () => {
        const start = Date.now()
        const runs = await Promise.all(commits.splice(0, count).map((commit) => system.deliver(commit)))
        const ended: number[] = []
        // One after the other: what waits longest is looked at, and the server is not asked ten times as often.
        for (const run of runs) ended.push((await system.ended(run)).finishedAt ?? Number.NaN)
        await system.quiet()
        return Math.max(...ended) - start
      },
    },
    say,
  )
  return {
    floors: { dockerRun: toFloor(taken.dockerRun), tenSwarmServices: toFloor(taken.tenServices) },
    figures: {
      tenRuns: toFigure(taken.tenRuns, taken.dockerRun, { floor: DOCKER_RUN, target: 8.5 }),
      // What Docker alone needs for ten containers of Swarm, each on a bridge of its own.
      tenSwarmServices: toFigure(taken.tenServices, taken.dockerRun, { floor: DOCKER_RUN }),
    },
  }
}
