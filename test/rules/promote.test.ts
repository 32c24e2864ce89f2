import { afterEach, expect, test, vi } from 'vitest'
import { createAuthors } from '../../src/approval/authors.ts'
import { overrideRules } from '../../src/approval/override.ts'
import { whyNotReleased } from '../../src/approval/released.ts'
import { createRights } from '../../src/approval/rights.ts'
import type { PersonConfig, RepositoryConfig } from '../../src/config/types.ts'
import { gateSentence } from '../../src/core/approval.ts'
import type { Fault } from '../../src/embedded/fake-github/faults.ts'
import type { RunDetail } from '../../src/store/types.ts'
import { plan } from '../core/report/runs.ts'
import { REPO } from '../forge/github.ts'
import { type Release, startRelease } from './release.ts'

const UPDATE_REF = 'PATCH /repos/{owner}/{repo}/git/refs/{ref}'

let it: Release
afterEach(() => it?.team.stop())

async function approved(by = 'ben'): Promise<void> {
  const { gates } = it.team.store
  const token = await gates.mintToken(it.run, 'signoff', by, 'cli', 60_000)
  await gates.vote({
    ...{ key: by, run: it.run, gate: 'signoff', answer: 'approve', claimedBy: by, token, channel: 'cli' },
    trustSignals: false,
  })
}

const tip = () => it.team.hub.forge().branchTip('production')
const fault = (one: Fault) => it.team.hub.github.fault({ on: (template: string) => template === UPDATE_REF, ...one })

test.each([
  ['is lost after the effect', { kind: 'cut', after: true }],
  ['is a 502 after the effect', { kind: 'status', status: 502, after: true }],
  ['is wrong bytes after the effect', { kind: 'wrong_bytes', after: true }],
] as const)('production is moved once where the answer %s', async (_how, how) => {
  it = await startRelease()
  await approved()
  fault(how)

  expect(await it.promote()).toEqual({ outcome: 'succeeded' })
  expect(await it.promote()).toEqual({ outcome: 'succeeded' })

  expect(await tip()).toBe(it.commit)
  expect(it.team.hub.calls(UPDATE_REF)).toBe(1)
  await it.team.settle()
  const releases = (await it.team.runs()).filter(({ change }) => change.ref === 'refs/heads/production')
  expect(releases.filter(({ change }) => change.commit === it.commit)).toHaveLength(1)
})

test('while GitHub fails nothing is said to have been done, and the next try does it', async () => {
  it = await startRelease()
  await approved()
  fault({ kind: 'status', status: 500 })

  await expect(it.promote()).rejects.toMatchObject({ status: 500 })
  expect(await tip()).toBe(it.released)
  expect(await it.promote()).toEqual({ outcome: 'succeeded' })

  expect(await tip()).toBe(it.commit)
})

test('it is judged again at the last moment: who may no longer approve has not approved', async () => {
  it = await startRelease()
  await approved()
  const ben = it.team.config.people.ben as { roles: readonly string[] }
  ben.roles = ['developer']

  expect(await it.promote()).toEqual({
    outcome: 'failed',
    reason: 'the approval no longer holds: ben may not approve any more',
  })
  expect(await tip()).toBe(it.released)
})

test('other bytes than those that were approved are not released', async () => {
  it = await startRelease()
  await approved()
  await it.team.store.events.append(it.run, 'built', [
    { type: 'deliverable.built.v1', name: 'web', digest: `sha256:${'2'.repeat(64)}`, reference: 'web' },
  ])

  expect(await it.promote()).toMatchObject({
    outcome: 'failed',
    reason: expect.stringMatching(/approved for something else: deliverable .+: none → /),
  })
  expect(await tip()).toBe(it.released)
})

test('what was moved before a kill is released, also if nobody may approve any more', async () => {
  it = await startRelease()
  await approved()
  const { store, forge, config } = it.team
  const { append } = store.events
  // Killed once the branch was moved, and before that was recorded.
  const killed = vi.spyOn(store.events, 'append').mockImplementation((run, key, events) => {
    if (key.startsWith('promoted/')) throw new Error('killed')
    return append(run, key, events)
  })
  await expect(it.promote()).rejects.toThrow('killed')
  killed.mockRestore()
  expect(await forge.branchTip('production')).toBe(it.commit)
  const ben = config.people.ben as { roles: readonly string[] }
  ben.roles = ['developer']

  expect(await it.promote()).toEqual({ outcome: 'succeeded' })
  expect((await store.events.of(it.run)).map(({ event }) => event.type)).toContain('branch.promoted.v1')
})

test('what somebody moved by hand is judged as if it had not been moved', async () => {
  it = await startRelease()
  await approved()
  await it.team.forge.fastForward('production', it.commit)
  const ben = it.team.config.people.ben as { roles: readonly string[] }
  ben.roles = ['developer']

  expect(await it.promote()).toMatchObject({
    outcome: 'failed',
    reason: expect.stringContaining('ben may not approve'),
  })
})

test('what was refused is judged again, also if somebody then moves the branch by hand', async () => {
  it = await startRelease()
  await approved()
  fault({ kind: 'status', status: 500 })
  // Judged, and not moved.
  await expect(it.promote()).rejects.toMatchObject({ status: 500 })
  const ben = it.team.config.people.ben as { roles: readonly string[] }
  ben.roles = ['developer']
  const refused = { outcome: 'failed', reason: expect.stringContaining('ben may not approve') }

  expect(await it.promote()).toMatchObject(refused)
  await it.team.forge.fastForward('production', it.commit)
  expect(await it.promote()).toMatchObject(refused)
  ben.roles = ['approver']
  expect(await it.promote()).toEqual({ outcome: 'succeeded' })
})

test('an open gate, and a run that has ended, move nothing', async () => {
  it = await startRelease()

  expect(await it.promote()).toMatchObject({ outcome: 'failed', reason: 'the gate is open, not approved' })
  await approved()
  await it.runEnds('canceled')
  expect(await it.promote()).toMatchObject({ outcome: 'errored', reason: expect.stringContaining('has ended already') })

  expect(await tip()).toBe(it.released)
})

test('one promotion at a time moves a branch; whoever held it and was killed is waited for only so long', async () => {
  it = await startRelease()
  await approved()
  await it.team.store.promotions.hold(REPO, 'production', 'acme/web#9', 60_000)

  await expect(it.promote()).rejects.toThrow('acme/web#9 is moving production')
  expect(await tip()).toBe(it.released)
  it.team.pass(60_001)

  expect(await it.promote()).toEqual({ outcome: 'succeeded' })
  expect(await it.team.store.promotions.hold(REPO, 'production', 'acme/web#9', 1)).toBeUndefined()
})

test('a production branch that has gone another way is left where it is', async () => {
  it = await startRelease()
  await approved()
  const other = await it.team.hub.push('production', it.released)

  expect(await it.promote()).toMatchObject({ outcome: 'failed', reason: expect.stringContaining('not a fast forward') })
  expect(await tip()).toBe(other)
})

test('a branch that asks for the status of the sign-off is moved when that has come to GitHub', async () => {
  it = await startRelease()
  it.team.world.protect(REPO, 'production', { checks: ['penstock/signoff'], onlyBy: ['penstock[bot]'] })
  await approved()

  const promotion = it.promote()
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  expect(await tip()).toBe(it.released)
  const status = { commit: it.commit, context: 'penstock/signoff', state: 'success', description: 'approved' } as const
  await it.team.forge.statuses?.set(status)

  expect(await promotion).toEqual({ outcome: 'succeeded' })
  expect(await tip()).toBe(it.commit)
})

test('author and pushers of all that is new since the last release are excluded, as GitHub has authenticated them', async () => {
  it = await startRelease()
  const { world, hub, store } = it.team
  const work = await world.push(REPO, 'feature', {
    ...{ by: 'ben', message: 'Work', files: { 'b.txt': 'b' }, parent: it.commit },
  })
  // The commit is another's: only GitHub knows who moved the branch to it.
  world.addToken('cyd', 'ghp_of_cyd', ['repo'])
  await hub.forge({ kind: 'token', token: 'ghp_of_cyd' }).fastForward('master', work)
  const last = await world.push(REPO, 'master', { by: 'ada', message: 'Last', files: { 'c.txt': 'c' } })
  await it.team.settle()
  const run = (await it.team.runs()).find(({ change }) => change.commit === last)

  expect((await it.gate()).rules.excluded).toEqual(['ada'])
  expect(await it.excludedFor(run?.id ?? '')).toEqual(['ada', 'ben', 'cyd'])
  expect(await store.gates.waiting()).toHaveLength(2)
})

test('the last release is what Penstock has released, wherever somebody has moved production since', async () => {
  it = await startRelease()
  await approved()
  expect(await it.promote()).toEqual({ outcome: 'succeeded' })
  const { world, hub } = it.team
  const work = await world.push(REPO, 'master', { by: 'ben', message: 'Work', files: { b: 'b' }, parent: it.commit })
  await it.team.settle()
  await hub.forge().fastForward('production', work)
  const last = await world.push(REPO, 'master', { by: 'ada', message: 'Last', files: { c: 'c' }, parent: work })
  await it.team.settle()
  const run = (await it.team.runs()).find(({ change }) => change.ref === 'refs/heads/master' && change.commit === last)

  expect(await it.excludedFor(run?.id ?? '')).toEqual(['ada', 'ben'])
})

/** Penstock has released a commit that the repository has lost since. */
async function lostRelease(): Promise<void> {
  const { store } = it.team
  const change = { commit: 'f'.repeat(40), ref: 'refs/heads/gone' }
  const delivery = { source: 'git', id: 'lost', event: 'push', bodyDigest: 'lost' }
  const recorded = await store.deliveries.record(delivery, { kind: 'push', repo: REPO, requestedBy: 'eve', change })
  if (recorded.kind !== 'run') throw new Error(`it is ${recorded.kind}`)
  const moved = { type: 'branch.promoted.v1', branch: 'production', commit: change.commit } as const
  await store.events.append(recorded.run.id, 'promoted/production', [moved])
}

test.each([
  ['the one before it counts', true, ['ben', 'cyd'], /whoever wrote anything since \w{12} may not approve/],
  ['all the history counts', false, ['ada', 'ben', 'cyd'], /whoever wrote anything in all the history \(\d+ commits\)/],
])('of a last release that is gone from the repository %s, and the gate says so', async (_, isReleased, who, note) => {
  it = await startRelease()
  if (isReleased) {
    await approved()
    expect(await it.promote()).toEqual({ outcome: 'succeeded' })
  }
  const { world } = it.team
  const work = await world.push(REPO, 'master', { by: 'ben', message: 'Work', files: { b: 'b' }, parent: it.commit })
  const last = await world.push(REPO, 'master', { by: 'cyd', message: 'Last', files: { c: 'c' }, parent: work })
  await it.team.settle()
  await lostRelease()
  const run = (await it.team.runs()).find(({ change }) => change.ref === 'refs/heads/master' && change.commit === last)

  expect(await it.excludedFor(run?.id ?? '')).toEqual(who)
  const gate = await it.team.store.gates.get(run?.id ?? '', 'signoff')
  expect(gateSentence(gate as never)).toMatch(/the last release ffffffffffff is no longer in the repository/)
  expect(gateSentence(gate as never)).toMatch(note)
})

test('a gate that an earlier version has opened is read, judged, and learns who wrote it', async () => {
  it = await startRelease()
  const { store, config } = it.team
  const gate = await it.gate()
  const { identities: _, groups: __, ...old } = gate.rules
  // As it was kept then, with nobody of the file known to have written it.
  await store.gates.open(it.run, 'signoff', 'production', { ...old, excluded: [] }, gate.subject)
  const rights = createRights({ config, roleOf: async () => undefined })
  const before = await it.gate()

  expect(before.rules).not.toHaveProperty('identities')
  expect(await rights.now(before)).toMatchObject({ approvers: gate.rules.approvers, excluded: [] })
  expect(await it.openGate()).toMatchObject({ kind: 'open' })
  expect(await it.gate()).toMatchObject({ id: gate.id, state: 'open', rules: { excluded: gate.rules.excluded } })
  await approved()
  const approvedThen = await it.gate()
  // Decided by an earlier version, and released by this one.
  const { identities: ___, ...decided } = approvedThen.rules
  expect(
    await whyNotReleased(rights, await it.detail(), { ...approvedThen, rules: decided }, Date.now()),
  ).toBeUndefined()
})

test('so are co-authors of what was squashed into one commit, also those who hide their address', async () => {
  it = await startRelease()
  const { world } = it.team
  const message = (who: string) => `Work (#1)\n\n* first\n\nCo-authored-by: ${who}`
  const trees = { files: { 'b.txt': 'b' }, parent: it.commit }
  const work = await world.push(REPO, 'master', {
    by: 'ada',
    message: message('X <7+cyd@users.noreply.github.com>'),
    ...trees,
  })
  await it.team.settle()
  const run = (await it.team.runs()).find(({ change }) => change.commit === work)

  expect(await it.excludedFor(run?.id ?? '')).toEqual(['ada', 'cyd'])
})

test('so is who opened the pull request that it came by, whatever names stand in its commits', async () => {
  it = await startRelease()
  const { world } = it.team
  await world.addRepository('cyd/web', { parent: REPO })
  const work = await world.push('cyd/web', 'idea', {
    by: 'zoe',
    message: 'An idea',
    files: { b: 'b' },
    parent: it.commit,
  })
  await world.openPull(REPO, { by: 'cyd', head: 'cyd:idea', base: 'master', title: 'An idea' })
  await it.team.settle()
  await it.team.forge.fastForward('master', work)
  await it.team.settle()
  const run = (await it.team.runs()).find(({ change }) => change.ref === 'refs/heads/master' && change.commit === work)

  expect(await it.excludedFor(run?.id ?? '')).toEqual(['ada', 'cyd'])
})

test('and whoever pushed it, as was told when it came, at a forge that tells nothing of pushes later', async () => {
  it = await startRelease()
  const { world, hub } = it.team
  const work = await world.push(REPO, 'draft', { by: 'ada', message: 'Work', files: { b: 'b' }, parent: it.commit })
  world.addToken('cyd', 'ghp_of_cyd', ['repo'])
  await hub.forge({ kind: 'token', token: 'ghp_of_cyd' }).fastForward('feature', work)
  await it.team.settle()
  hub.github.fault({ kind: 'status', status: 404, times: 100, on: (template) => template.endsWith('/activity') })
  await it.team.forge.fastForward('master', work)
  await it.team.settle()
  const run = (await it.team.runs()).find(({ change }) => change.ref === 'refs/heads/master' && change.commit === work)

  expect(await it.excludedFor(run?.id ?? '')).toEqual(['ada', 'cyd'])
})

test('who pushes to production by hand comes no further than the run would: neither past a dependent that blocks ...', async () => {
  const environments = '{ production: { approvers: ["role:approver"] } }\n    dependents: { blocking: [acme/api] }'
  it = await startRelease({ environments, more: 'acme/api' })
  await approved()

  await it.team.hub.forge().fastForward('production', it.commit)
  await it.team.settle()

  const reason = expect.stringMatching(/^acme\/api has not been started yet\. An operator can let it pass/)
  expect(await it.beginRelease()).toMatchObject({ kind: 'refused', reason })
})

test('... nor past an approval that no longer holds; what the run moved itself is begun', async () => {
  it = await startRelease()
  await approved()
  const ben = it.team.config.people.ben as { roles: readonly string[] }
  const { roles } = ben
  ben.roles = []
  await it.team.hub.forge().fastForward('production', it.commit)
  await it.team.settle()

  const reason = expect.stringContaining('the approval no longer holds')
  expect(await it.beginRelease()).toMatchObject({ kind: 'refused', reason })
  ben.roles = roles
  expect(await it.beginRelease()).toMatchObject({ kind: 'begun' })
})

test('an override is judged again when it is used: by whoever is an operator then, and has not turned out to have written it', async () => {
  it = await startRelease()
  const { world, store, config, mirrors, forges, hub } = it.team
  const repository = config.repositories[REPO] as RepositoryConfig
  const people = config.people as Record<string, PersonConfig>
  const hotfix = await world.push(REPO, 'hotfix', {
    ...{ by: 'zoe', message: 'Hot', files: { h: 'h' }, parent: it.commit },
  })
  await hub.forge().fastForward('production', hotfix)
  await it.team.settle()
  const [run] = (await it.team.runs()).filter(({ change }) => change.ref === 'refs/heads/production')
  if (run === undefined) throw new Error('production has no run')
  const override = async (by: string) => {
    const rules = overrideRules(
      config,
      repository,
      await createAuthors({ mirrors, forges, store })(repository, run.change),
    )
    const about = { commit: hotfix, specDigest: '', deliverables: [] }
    const subject = { run: run.id, gate: 'override', environment: 'production', ...about }
    await store.gates.override({
      ...{ run: run.id, environment: 'production', rules, subject, by, reason: 'the site is down', channel: 'cli' },
    })
  }

  const refused = { kind: 'refused', reason: expect.stringContaining('penstock run override') }
  expect(await it.beginRelease()).toMatchObject(refused)
  await override('olga')
  expect(await it.beginRelease()).toMatchObject({ kind: 'begun' })

  const { olga } = people
  if (olga === undefined) throw new Error('olga is one of the people')
  people.olga = { ...olga, roles: ['developer'] }
  const reason = expect.stringContaining('The override of olga does not hold')
  expect(await it.beginRelease()).toMatchObject({ kind: 'refused', reason })
  people.olga = { ...olga, github: 'zoe' }
  expect(await it.beginRelease()).toMatchObject({ kind: 'refused', reason })
  // Another operator may yet.
  await override('mia')
  expect(await it.beginRelease()).toMatchObject({ kind: 'begun' })
})

const broken = (over: { readonly key?: string; readonly by?: string } = {}) =>
  it.team.store.gates.vote({
    ...{ key: 'glass', run: it.run, gate: 'signoff', answer: 'approve', claimedBy: 'olga', channel: 'cli' },
    ...{ trustSignals: false, comment: 'the site is down', breakGlass: true, operators: ['olga'], ...over },
  })

async function brokenBy(by: string) {
  const token = await it.team.store.gates.mintToken(it.run, 'signoff', by, 'cli', 60_000)
  return broken({ ...({ token } as object), by })
}

test('a gate that was passed by break-glass is released, for what it was about, while its operator is one', async () => {
  it = await startRelease()
  expect(await brokenBy('olga')).toMatchObject({ counts: true })
  const { config } = it.team
  const olga = config.people.olga as { roles: readonly string[] }
  const [detail, gate] = [await it.detail(), await it.gate()]
  const rights = createRights({ config, roleOf: async () => undefined })
  const why = async (over: Partial<RunDetail> = {}) =>
    (await whyNotReleased(rights, { ...detail, ...over }, gate, Date.now()))?.why
  const deliverables = [{ name: 'web', kind: 'image', digest: 'sha256:2', reference: 'web' }] as const

  expect(await why()).toBeUndefined()
  expect(await why({ change: { ...detail.change, commit: 'f'.repeat(40) } })).toContain('for something else')
  expect(await why({ plan: { ...plan(), specDigest: 'other' } })).toContain('for something else')
  expect(await why({ progress: { ...detail.progress, deliverables } })).toContain('for something else')
  olga.roles = ['developer']
  expect(await why()).toContain('the approval no longer holds: olga')
  olga.roles = ['admin']

  expect(await it.promote()).toEqual({ outcome: 'succeeded' })
  expect(await tip()).toBe(it.commit)
})

test('whose word is worth nothing has broken nothing', async () => {
  it = await startRelease()

  expect(await broken()).toMatchObject({ counts: false })
  expect(await brokenBy('ben')).toMatchObject({ counts: false })
  expect(await it.promote()).toMatchObject({ outcome: 'failed', reason: 'the gate is open, not approved' })
})
