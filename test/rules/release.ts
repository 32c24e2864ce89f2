import { MockActivityEnvironment } from '@temporalio/testing'
import { pino } from 'pino'
import { createControlActivities } from '../../activities/control.ts'
import type { ControlActivities } from '../../src/core/run-contract.ts'
import type { GateRow, RunDetail } from '../../src/store/types.ts'
import { plan } from '../core/report/runs.ts'
import { REPO } from '../forge/github.ts'
import { startTeam, type Team } from './team.ts'

/** A team with a candidate run that waits for its sign-off; what the run does is done by the real activities. */
export interface Release {
  readonly team: Team
  /** Of the candidate. */
  readonly commit: string
  /** What production was at before. */
  readonly released: string
  readonly run: string
  readonly number: number
  gate(): Promise<GateRow>
  detail(): Promise<RunDetail>
  /** The votes that are on their way arrive; what became of each. */
  deliver(): Promise<void>
  /** As the run does it, once more. */
  openGate(): ReturnType<ControlActivities['openGate']>
  promote(): ReturnType<ControlActivities['promote']>
  readonly activities: ControlActivities
  /** The gate of another run is opened: who may not vote there. */
  excludedFor(run: string): Promise<readonly string[]>
  /** The newest run of production begins. */
  beginRelease(): ReturnType<ControlActivities['beginTry']>
  stageEnds(stage: string, outcome: 'succeeded' | 'failed'): Promise<void>
  runEnds(outcome: 'succeeded' | 'failed' | 'canceled'): Promise<void>
  /** What GitHub has of the promotion. */
  pulls(): readonly {
    readonly number: number
    readonly state: string
    readonly merged: boolean
    readonly body: string
    readonly head: string
    readonly commit: string
  }[]
  answers(): readonly string[]
  branches(): Promise<readonly string[]>
}

const SPEC_DIGEST = plan().specDigest

export async function startRelease(
  options: Parameters<typeof startTeam>[0] & {
    /** Who pushes the candidate; ada unless said. */
    readonly by?: string
  } = {},
): Promise<Release> {
  const team = await startTeam({
    people: '  cyd: { roles: [approver], github: cyd, email: cyd@example.org }',
    environments: '{ production: { approvers: ["role:approver"], quorum: 1 } }',
    ...options,
  })
  const { hub, store, world, config, mirrors, forges, clock } = team
  world.setAccess(REPO, 'cyd', 'write')
  const released = await hub.push('master')
  await hub.forge().fastForward('production', released)
  const files = { 'a.txt': 'candidate' }
  const commit = await world.push(REPO, 'master', { by: options.by ?? 'ada', message: 'A candidate', files })
  await team.settle()
  const [row] = (await team.runs()).filter(({ change }) => change.commit === commit)
  if (row === undefined) throw new Error('the candidate has no run')
  const { id: run, number } = row
  const activities = createControlActivities({
    ...{ config, store, mirrors, forges, clock, log: pino({ level: 'silent' }) },
    // What is asked for here touches no cluster.
    ...({ cluster: undefined, deployer: undefined, errands: undefined } as unknown as Pick<
      Parameters<typeof createControlActivities>[0],
      'cluster' | 'deployer' | 'errands'
    >),
  })
  const perform = <T>(act: () => Promise<T>): Promise<T> => new MockActivityEnvironment().run(act)
  let appends = 0
  const append = (event: Parameters<typeof store.events.append>[2][number]) =>
    store.events.append(run, `test/${++appends}`, [event])

  const openGate = (of: string) =>
    perform(() =>
      activities.openGate({
        ...{ run: of, repo: REPO, gate: 'signoff', environment: 'production', specDigest: SPEC_DIGEST },
        deliverables: [],
      }),
    )

  const release: Release = {
    ...{ team, commit, released, run, number, activities },
    async gate() {
      const gate = await store.gates.get(run, 'signoff')
      if (gate === undefined) throw new Error('the gate is not open')
      return gate
    },
    async detail() {
      const detail = await store.runs.get(REPO, number)
      if (detail === undefined) throw new Error('the run is gone')
      return detail
    },
    async deliver() {
      for (const { id, message } of await store.outbox.take(50, 60_000)) {
        await store.outbox.done(id)
        if (message.kind !== 'signal' || message.signal === 'granted') continue
        const [vote] = message.args as [Parameters<ControlActivities['castVote']>[0]['vote']]
        const answer = message.signal === 'reject' ? 'reject' : 'approve'
        await perform(() => activities.castVote({ run, gate: 'signoff', key: `signal/${id}`, answer, vote }))
      }
    },
    openGate: () => openGate(run),
    async excludedFor(other) {
      await openGate(other)
      return (await store.gates.get(other, 'signoff'))?.rules.excluded ?? []
    },
    promote: () => perform(() => activities.promote({ run, gate: 'signoff', branch: 'production' })),
    async beginRelease() {
      const [row] = await store.runs.list({ repo: REPO, ref: 'refs/heads/production', limit: 1 })
      if (row === undefined) throw new Error('nothing was pushed to production')
      await store.runs.setPlan(row.id, plan([]))
      return perform(() => activities.beginTry({ run: row.id, try: row.try }))
    },
    async stageEnds(stage, outcome) {
      await append({ type: 'stage.started.v1', stage, attempt: 1 })
      await append({ type: 'stage.finished.v1', stage, attempt: 1, outcome })
    },
    runEnds: (outcome) => append({ type: 'run.finished.v1', try: 1, outcome }),
    pulls: () =>
      world.repo(REPO).pulls.map((one) => ({
        ...{ number: one.number, state: one.state, merged: one.mergedAt !== null, body: one.body ?? '' },
        ...{ head: one.head.branch, commit: one.commit },
      })),
    answers: () =>
      world
        .repo(REPO)
        .comments.filter((one) => one.user.login === 'penstock[bot]')
        .map(({ body }) => body),
    async branches() {
      const tips = [`penstock/promote/${number}`, 'production', 'master'].map(async (name) =>
        (await hub.forge().branchTip(name)) === undefined ? [] : [name],
      )
      return (await Promise.all(tips)).flat()
    },
  }
  await store.runs.setPlan(run, plan())
  await append({ type: 'run.started.v1', try: 1 })
  await append({ type: 'stage.started.v1', stage: 'signoff', attempt: 1 })
  await release.openGate()
  return release
}
