import { afterEach, expect, test } from 'vitest'
import { createBallots } from '../../src/approval/ballots.ts'
import type { EnvironmentGate, PersonConfig } from '../../src/config/types.ts'
import type { FieldValues } from '../../src/core/form.ts'
import { REPO } from '../forge/github.ts'
import { type Release, startRelease } from './release.ts'

let it: Release
afterEach(() => it?.team.stop())

const DAY_MS = 86_400_000
const production = (gate: string) => ({ environments: `{ production: { ${gate} } }` })
const date = (inDays: number) => new Date(Date.now() + inDays * DAY_MS).toISOString().slice(0, 10)

function ballots() {
  const { config, store, clock, forges } = it.team
  const roleOf = async (...[repository, login]: Parameters<Parameters<typeof createBallots>[0]['roleOf']>) =>
    forges(repository).people?.role(login)
  return createBallots({ config, store, clock, roleOf, proof: 'session' })
}

async function votes(by: string, answer: 'approve' | 'reject' = 'approve', fields: FieldValues = {}) {
  const ballot = { gate: await it.gate(), answer, by, channel: 'api', fields }
  const judged = await ballots().judge(ballot)
  // Also what is refused at the door is sent: the run judges it by itself.
  await ballots().cast(ballot, `vote/${by}/${answer}/${ballot.gate.votes.length}`)
  await it.deliver()
  const recorded = (await it.gate()).votes.at(-1)
  expect(recorded).toMatchObject({ by, counts: judged.counts })
  return judged
}

function gateConfig(): { -readonly [Key in keyof EnvironmentGate]: EnvironmentGate[Key] } {
  const gate = it.team.config.repositories[REPO]?.environments.production?.gate
  if (gate === undefined) throw new Error('production has no gate')
  return gate
}

test('groups are filled by different people, and whoever wrote or pushed it stands for none, whatever the forge gives them', async () => {
  it = await startRelease({
    ...production('approvals: [{ from: ["role:approver"] }, { from: [cyd, "forge:write"] }]'),
    by: 'cyd',
  })

  expect(await votes('cyd')).toMatchObject({ why: expect.stringContaining('cyd wrote or pushed this change') })
  expect(await votes('ben')).toMatchObject({ counts: true })
  expect(await it.gate()).toMatchObject({ state: 'open' })
  expect((await it.openGate()).sentence).toContain(
    'nobody else may approve (1 of cyd or forge:write): cyd wrote or pushed',
  )

  it.team.world.setAccess(REPO, 'mallory', 'write')
  expect(await votes('mia')).toMatchObject({ counts: true })
  expect(await it.gate()).toMatchObject({ state: 'approved' })
})

const ASKS = 'GET /repos/{owner}/{repo}/collaborators/{username}/permission'

test('a forge that is down when the time is over expires nothing that people approved in time, and is asked again', async () => {
  it = await startRelease(
    production(
      `approvals: [{ from: ["forge:maintain"] }], freezes: [{ zone: UTC, from: "${date(-1)}", to: "${date(1)}", reason: fair }]`,
    ),
  )
  const { world, hub } = it.team
  world.setAccess(REPO, 'mallory', 'maintain')
  await votes('mia')
  hub.github.fault({ on: (template: string) => template === ASKS, kind: 'status', status: 422, times: 99 })
  it.team.pass(30 * DAY_MS)

  const down = await it.activities.expireGate({ run: it.run, gate: 'signoff' })
  hub.github.clearFaults?.()

  expect(down).toMatchObject({ kind: 'open', lookInMs: 60 * 60_000 })
  // Not looked at before that, though its time is over.
  expect(down.expiresInMs).toBeUndefined()
  expect(await it.openGate()).toMatchObject({ kind: 'approved' })
})

test('who wrote it and comes into the operator’s file while the gate is open may not approve it', async () => {
  it = await startRelease()
  const people = it.team.config.people as Record<string, PersonConfig>
  const [{ ada }, gate] = [people, await it.gate()]
  if (ada === undefined) throw new Error('ada is one of the people')
  // Nobody of the file at first, then one more approver, of whom her address is all that the commit says.
  const { [ada.name]: _, ...others } = people
  Object.assign(it.team.config, { people: others })
  await it.team.store.gates.open(it.run, 'signoff', 'production', { ...gate.rules, excluded: [] }, gate.subject)
  Object.assign(it.team.config, { people: { ...others, dora: { ...ada, name: 'dora', roles: ['approver'] } } })

  expect(await votes('dora')).toMatchObject({ why: expect.stringContaining('dora wrote or pushed this change') })
  expect((await it.openGate()).sentence).not.toContain('dora')
  expect((await it.gate()).rules.excluded).toEqual(['dora'])
})

test('of the fields that were filled in those of whoever had lost the right at the decision are nobody’s', async () => {
  it = await startRelease(
    production(
      `approvers: ["role:approver"], form: { fields: { canary: { type: number } } }, freezes: [{ zone: UTC, from: "${date(-1)}", to: "${date(1)}", reason: fair }]`,
    ),
  )
  await votes('cyd', 'approve', { canary: 5 })
  await votes('ben', 'approve', { canary: 100 })
  const ben = it.team.config.people.ben as { roles: readonly string[] }
  ben.roles = ['developer']
  it.team.pass(3 * DAY_MS)

  expect(await it.openGate()).toMatchObject({ kind: 'approved', variables: { CI_GATE_CANARY: '5' } })
})

test('what is told of a vote names whom it was judged as, and not whom its message names', async () => {
  it = await startRelease()
  const token = await it.team.store.gates.mintToken(it.run, 'signoff', 'ben', 'cli', 60_000)
  const vote = { who: 'olga', channel: 'web', token }

  await it.activities.castVote({ run: it.run, gate: 'signoff', key: '1', answer: 'approve', vote })

  const events = (await it.team.store.events.of(it.run)).map(({ event }) => event)
  const voted = events.filter(({ type }) => type === 'gate.voted.v1')
  expect(voted).toMatchObject([{ by: 'ben', channel: 'cli', counts: true }])
})

test('a permission is the one that the forge gives at that moment, and of a forge that cannot be asked nobody has any', async () => {
  it = await startRelease(production('approvals: [{ from: ["forge:maintain"] }]'))
  const { world, hub } = it.team

  expect(await votes('mia')).toMatchObject({ why: expect.stringContaining('mia is not an approver') })
  world.setAccess(REPO, 'mallory', 'maintain')
  hub.github.fault({ on: (template: string) => template === ASKS, kind: 'status', status: 422, times: 2 })
  expect(await ballots().judge({ gate: await it.gate(), answer: 'approve', by: 'mia' })).toMatchObject({
    why: expect.stringContaining('forge:maintain: github cannot be asked who that is'),
  })
  hub.github.clearFaults?.()
  expect(await votes('mia')).toMatchObject({ counts: true })
  expect(await it.gate()).toMatchObject({ state: 'approved' })

  world.setAccess(REPO, 'mallory', 'write')
  expect(await it.promote()).toMatchObject({
    ...{ outcome: 'failed', reason: 'the approval no longer holds: mia may not approve any more' },
  })
  world.setAccess(REPO, 'mallory', 'admin')
  expect(await it.promote()).toEqual({ outcome: 'succeeded' })
  world.setAccess(REPO, 'mallory', 'write')
  // What has moved stays decided.
  expect(await it.openGate()).toMatchObject({ kind: 'approved' })
})

test('who has lost the right before anything moved is no dead end: a retry asks anew, and says why', async () => {
  it = await startRelease(production('approvers: ["role:approver"]'))
  expect(await votes('ben')).toMatchObject({ counts: true })
  const ben = it.team.config.people.ben as { roles: readonly string[] }
  ben.roles = ['developer']
  const failed = await it.promote()

  expect(failed).toMatchObject({ outcome: 'failed', reason: expect.stringContaining('no longer holds: ben') })
  expect(await it.openGate()).toMatchObject({ kind: 'open', sentence: expect.stringContaining('0 of 1 approval(s)') })
  const [before] = await it.team.store.gates.ofRun(it.run)
  expect(before).toMatchObject({ state: 'voided', voided: expect.stringContaining('ben may not approve any more') })
  expect(await votes('cyd')).toMatchObject({ counts: true })
  expect(await it.openGate()).toMatchObject({ kind: 'approved' })
  expect(await it.promote()).toEqual({ outcome: 'succeeded' })
})

test('a quorum in a freeze waits until it is over, and passes only with those who may approve then', async () => {
  it = await startRelease(
    production(
      `approvers: ["role:approver"], freezes: [{ zone: UTC, from: "${date(-1)}", to: "${date(1)}", reason: fair }]`,
    ),
  )
  expect(await votes('ben')).toMatchObject({ counts: true })
  const waits = await it.openGate()
  it.team.pass(3 * DAY_MS)
  const ben = it.team.config.people.ben as { roles: readonly string[] }
  ben.roles = ['developer']
  const lost = await it.openGate()
  ben.roles = ['approver']

  expect(waits).toMatchObject({
    kind: 'open',
    sentence: expect.stringMatching(/enough, and waits until .*: frozen to .*, fair/),
  })
  expect(waits.lookInMs).toBeGreaterThan(DAY_MS)
  expect(waits.expiresAt).toBeUndefined()
  expect(lost).toMatchObject({ kind: 'open', sentence: expect.stringContaining('0 of 1 approval(s)') })
  expect(await it.openGate()).toMatchObject({ kind: 'approved' })
  expect(await it.promote()).toEqual({ outcome: 'succeeded' })
})

test('what was approved before a freeze is not moved in it, by no retry', async () => {
  it = await startRelease()
  await votes('ben')
  gateConfig().window = { freezes: [{ zone: 'UTC', from: date(-1), to: date(1), reason: 'fair' }] }

  await expect(it.promote()).rejects.toThrow(/what is approved for production waits until .* frozen/)
  expect((await it.detail()).waiting?.sentence).toContain('frozen')
  expect(await it.openGate()).toMatchObject({
    kind: 'open',
    sentence: expect.stringContaining('approved by ben; waits until'),
  })

  it.team.pass(3 * DAY_MS)
  expect(await it.openGate()).toMatchObject({ kind: 'approved' })
  expect(await it.promote()).toEqual({ outcome: 'succeeded' })
})

test('what is approved and waits for its hours may be rejected; and whoever breaks the glass need not wait for them', async () => {
  const fair = { freezes: [{ zone: 'UTC', from: date(-1), to: date(1), reason: 'fair' }] }
  it = await startRelease({ people: '  ops: { roles: [operator] }' })
  await votes('ben')
  gateConfig().window = fair
  expect(await it.openGate()).toMatchObject({ kind: 'open' })

  const ballot = { gate: await it.gate(), answer: 'approve', by: 'ops', channel: 'api', comment: 'it is down' } as const
  const breaking = { ...ballot, breakGlass: true } as const
  expect(await ballots().judge(breaking)).toMatchObject({ counts: true })
  await ballots().cast(breaking, 'b')
  await it.deliver()
  const ops = it.team.config.people.ops as { roles: readonly string[] }
  ops.roles = ['developer']
  // Who broke it may do that no more: the hours hold again.
  expect(await it.openGate()).toMatchObject({ kind: 'open' })
  await expect(it.promote()).rejects.toThrow(/waits until .* frozen/)
  ops.roles = ['operator']

  expect(await it.openGate()).toMatchObject({ kind: 'approved', broken: expect.stringContaining('by ops: it is down') })
  expect(await it.team.store.gates.toReview()).toHaveLength(1)
  expect(await it.promote()).toEqual({ outcome: 'succeeded' })
  // What has been released is not rejected any more.
  const late = { gate: await it.gate(), answer: 'reject', by: 'ben', channel: 'api', comment: 'no' } as const
  expect(await ballots().judge(late)).toMatchObject({ why: expect.stringContaining('being released') })
})

test('a rejection of what waits for its hours keeps it from production, also when they have come', async () => {
  it = await startRelease()
  await votes('ben')
  gateConfig().window = { freezes: [{ zone: 'UTC', from: date(-1), to: date(1), reason: 'fair' }] }
  await expect(it.promote()).rejects.toThrow(/frozen/)

  expect(await votes('cyd', 'reject')).toMatchObject({ counts: true })
  it.team.pass(3 * DAY_MS)

  expect(await it.openGate()).toMatchObject({ kind: 'rejected' })
  expect(await it.promote()).toMatchObject({ outcome: 'failed', reason: 'the gate is rejected, not approved' })
  const verdicts = (await it.team.store.events.of(it.run)).flatMap(({ event }) =>
    event.type === 'gate.decided.v1' ? [event.verdict] : [],
  )
  expect(verdicts).toEqual(['approved', 'rejected'])
})

test('a vote that does not count keeps nothing from waiting for its hours, and decides nothing a second time', async () => {
  it = await startRelease()
  await votes('ben')
  gateConfig().window = { freezes: [{ zone: 'UTC', from: date(-1), to: date(1), reason: 'fair' }] }

  const vote = { who: 'ben', comment: 'again' }
  const answer = await it.activities.castVote({ run: it.run, gate: 'signoff', key: 'x', answer: 'approve', vote })

  expect(answer).toMatchObject({ kind: 'open', sentence: expect.stringContaining('waits until') })
  const events = (await it.team.store.events.of(it.run)).map(({ event }) => event)
  expect(events.filter(({ type }) => type === 'gate.decided.v1')).toHaveLength(1)
})

test('signals are trusted for what the gate was opened for, and no earlier', async () => {
  it = await startRelease()
  Object.assign(it.team.config, { trustTemporalAccess: true })
  const vote = { who: 'ben' }
  const sent = { run: it.run, gate: 'signoff', answer: 'approve', vote } as const

  const early = await it.activities.castVote({ ...sent, key: '1', about: null })
  const now = await it.activities.castVote({ ...sent, key: '2', about: (await it.gate()).id })

  expect([early.kind, now.kind]).toEqual(['open', 'approved'])
  expect((await it.gate()).votes).toMatchObject([
    { by: 'ben', counts: false, why: expect.stringContaining('before the gate was open') },
    { by: 'ben', counts: true, proof: 'trusted_signal' },
  ])
})

test('rules that the operator has changed void what was approved by others, and say how', async () => {
  it = await startRelease()
  await votes('ben')
  gateConfig().approvals = [{ from: ['role:approver'], count: 2 }]

  const promoted = await it.promote()
  const again = await it.openGate()

  const change = 'rules: 1 of role:approver → 2 of role:approver'
  expect(promoted).toMatchObject({ outcome: 'failed', reason: expect.stringContaining(change) })
  expect(again).toMatchObject({ kind: 'open', sentence: expect.stringContaining('0 of 2 approval(s)') })
  const [first] = await it.team.store.gates.ofRun(it.run)
  expect(first).toMatchObject({ state: 'voided', voided: change })
  expect(await ballots().judge({ gate: first as never, answer: 'approve', by: 'ben' })).toMatchObject({
    why: `the gate is voided (${change}); no further vote is taken`,
  })
})

test('who is still asked is reminded at its time, once, until enough have approved', async () => {
  it = await startRelease(production('approvers: ["role:approver"], quorum: 2, reminders: [1d, 2d, 3d]'))
  const reminders = async () =>
    (await it.team.store.events.of(it.run)).flatMap(({ event }) =>
      event.type === 'gate.reminded.v1' ? [[event.number, event.of]] : [],
    )

  const before = await it.openGate()
  it.team.pass(DAY_MS)
  await it.openGate()
  const after = await it.openGate()
  await votes('ben')
  it.team.pass(DAY_MS)
  await it.openGate()

  expect(before.lookInMs).toBeLessThanOrEqual(DAY_MS)
  expect(after.lookInMs).toBeGreaterThan(DAY_MS - 60_000)
  expect(await reminders()).toEqual([
    [1, ['ben', 'cyd']],
    [2, ['cyd']],
  ])
  await votes('cyd')
  it.team.pass(DAY_MS)
  await it.openGate()
  expect(await reminders()).toHaveLength(2)
})

test('what was given a gate after the plan was made takes nothing from a run that has not been through it', async () => {
  it = await startRelease({ environments: '{ staging: {}, production: { approvers: ["role:approver"] } }' })
  const { config, hub, runs, settle } = it.team
  const of = (run: string) => ({ run, repo: REPO, environment: 'staging' })
  const deploy = (run: string) =>
    it.activities.deploy({
      ...{ ...of(run), try: 1, commit: it.commit },
      deliverable: { kind: 'image', name: 'web', digest: 'sha256:1', reference: 'web' },
    })
  const environments = config.repositories[REPO]?.environments as Record<string, { gate?: EnvironmentGate }>
  const staging = environments.staging as { gate?: EnvironmentGate }
  staging.gate = gateConfig()
  await hub.forge().fastForward('production', it.commit)
  await settle()
  const release = (await runs()).find(({ change }) => change.ref === 'refs/heads/production')?.id ?? ''

  const refused = await it.activities.acquireEnvironment(of(it.run))
  const late = await deploy(it.run)
  const elsewhere = await it.activities.acquireEnvironment(of(release))
  const released = await it.activities.acquireEnvironment({ ...of(release), environment: 'production' })

  const sentence = 'environment staging has a gate now, which this run was planned without; push again'
  expect(refused).toEqual({ kind: 'impossible', sentence })
  // Also if it held the environment when that was given its gate.
  expect(late).toEqual({ outcome: 'failed', reason: sentence })
  // Nor does the production branch go anywhere but to its own environment.
  expect(elsewhere).toEqual({
    kind: 'impossible',
    sentence:
      'the production branch of acme/web is guarded by the gate of production, not by that of staging; push again',
  })
  expect(released).toMatchObject({ kind: 'granted' })
})

test('a forge that cannot be asked is asked again after five minutes, and at last once an hour', async () => {
  it = await startRelease(production('approvals: [{ from: ["forge:maintain"] }]'))
  const asks = 'GET /repos/{owner}/{repo}/collaborators/{username}/permission'
  it.team.hub.github.fault({ on: (template: string) => template === asks, kind: 'status', status: 422, times: 1_000 })

  const first = await it.openGate()
  it.team.pass(DAY_MS)
  const late = await it.openGate()

  expect(first.lookInMs).toBe(5 * 60_000)
  expect(late.lookInMs).toBe(60 * 60_000)
})

test('a gate that is not that of production opens no way to the production branch, whatever the plan of the run says', async () => {
  it = await startRelease({
    environments: '{ production: { approvers: ["role:approver"] }, demo: { approvers: ["role:approver"] } }',
    settings: 'production_environment: production',
  })
  await votes('ben')
  const settings = it.team.config.repositories[REPO] as object
  // The gate of the plan was production's until the operator said otherwise; the same as that of a plan that is older.
  Object.assign(settings, { productionEnvironment: 'demo' })

  const sentence = 'the production branch of acme/web is guarded by the gate of demo, not by that of production'
  expect(await it.promote()).toEqual({ outcome: 'failed', reason: sentence })
  await expect(it.openGate()).rejects.toThrow(`${sentence}; push again`)
  await it.team.hub.forge().fastForward('production', it.commit)
  await it.team.settle()
  expect(await it.beginRelease()).toMatchObject({ kind: 'refused', reason: expect.stringContaining(sentence) })
  Object.assign(settings, { productionEnvironment: 'production' })
  expect(await it.beginRelease()).toMatchObject({ kind: 'begun' })
  expect(await it.promote()).toEqual({ outcome: 'succeeded' })
})

const FROZEN = `approvers: ["role:approver"], freezes: [{ zone: UTC, from: "${date(-1)}", to: "${date(1)}", reason: fair }]`

/** Production is at the commit: its run begins. */
async function releaseRun(): Promise<{ readonly id: string; readonly number: number }> {
  await it.team.hub.forge().fastForward('production', it.commit)
  await it.team.settle()
  const run = (await it.team.runs()).find(({ change }) => change.ref === 'refs/heads/production')
  if (run === undefined) throw new Error('production has no run')
  return run
}

const deployment = (run: string) => it.activities.acquireEnvironment({ run, repo: REPO, environment: 'production' })

test('what is released in a freeze waits for its end and holds nothing, however it came there', async () => {
  it = await startRelease()
  await votes('ben')
  const { id, number } = await releaseRun()
  const other = await deployment(it.run)
  // It was its turn before the freeze began.
  expect(await deployment(id)).toMatchObject({ kind: 'granted' })
  gateConfig().window = { freezes: [{ zone: 'UTC', from: date(-1), to: date(1), reason: 'fair' }] }

  const held = await deployment(id)
  const { store } = it.team
  expect(other).toMatchObject({ kind: 'impossible' })
  expect(held).toMatchObject({ kind: 'queued', lookInMs: 60 * 60_000 })
  expect(held).toMatchObject({
    sentence: expect.stringMatching(
      new RegExp(`released to production waits until .* frozen to .*, fair; .*penstock run override ${number} `),
    ),
  })
  expect(await store.leases.ofHolder(`${id}@production`)).toEqual([])
  const events = (await store.events.of(id)).filter(({ event }) => event.type === 'environment.waiting.v1')
  expect(events).toHaveLength(1)

  it.team.pass(3 * DAY_MS)
  expect(await deployment(id)).toMatchObject({ kind: 'granted' })
})

test('whoever broke the glass for a release, at its gate or by an override, has it not wait for the hours', async () => {
  it = await startRelease(production(FROZEN))
  const { store } = it.team
  const { id } = await releaseRun()
  expect(await deployment(id)).toMatchObject({ kind: 'queued' })

  const subject = { ...(await it.gate()).subject, run: id, gate: 'override' }
  const rules = { approvers: [], quorum: 1, excluded: [] }
  const given = { run: id, environment: 'production', rules, subject, reason: 'down', channel: 'cli' }
  await store.gates.override({ ...given, by: 'olga' })
  expect(await deployment(id)).toMatchObject({ kind: 'granted' })
})

test('nor does a release wait whose own gate was passed by break-glass', async () => {
  it = await startRelease(production(FROZEN))
  const { id } = await releaseRun()
  expect(await deployment(id)).toMatchObject({ kind: 'queued' })
  const ballot = { gate: await it.gate(), answer: 'approve', by: 'olga', channel: 'cli', comment: 'down' } as const
  await ballots().cast({ ...ballot, breakGlass: true }, 'glass')
  await it.deliver()

  expect(await deployment(id)).toMatchObject({ kind: 'granted' })
})
