import { afterEach, expect, test } from 'vitest'
import { REPO } from '../forge/github.ts'
import { type Release, startRelease } from './release.ts'

let it: Release
afterEach(() => it?.team.stop())

const open = () => it.pulls().filter(({ state }) => state === 'open')
const say = (by: string, body: string, number = 1) => it.team.world.comment(REPO, number, { by, body })
const review = (by: string, state: 'APPROVED' | 'CHANGES_REQUESTED' | 'DISMISSED', number = 1) =>
  it.team.world.review(REPO, number, { by, state })
async function heard(): Promise<void> {
  await it.team.settle()
  await it.deliver()
  await it.team.settle()
}

test('while the gate is open there is one pull request at exactly the commit, and nothing of it starts a run', async () => {
  it = await startRelease()
  await it.team.store.results.put({ run: it.run, stage: 'test', job: 'unit', attempt: 1 }, [
    { suite: 's', name: 'one', result: 'passed' },
  ])
  await it.team.store.events.append(it.run, 'unit', [
    { type: 'job.started.v1', stage: 'test', job: 'unit', attempt: 1 },
  ])
  const before = (await it.team.runs()).length

  await it.team.settle()
  await it.team.hub.push('master')
  await it.team.settle()

  expect(open()).toMatchObject([{ number: 1, head: `penstock/promote/${it.number}`, commit: it.commit }])
  const [{ body } = { body: '' }] = open()
  expect(body).toContain('0 of 1 approval(s)')
  expect(body).toContain('may approve: `ben`, `cyd`')
  expect(body).toContain(`\`${it.commit.slice(0, 12)}\` \`A candidate\`, \`ada\``)
  expect(body).not.toContain(it.released.slice(0, 12))
  expect(body).toContain('`test`: 1 passed')
  // The push to master, and nothing else.
  expect(await it.team.runs()).toHaveLength(before + 1)
})

test('it says how the sign-off stands, and is written only when that has changed', async () => {
  it = await startRelease({ environments: '{ production: { approvers: ["role:approver"], quorum: 2 } }' })
  await it.team.settle()
  const written = () => it.team.hub.calls('PATCH /repos/{owner}/{repo}/pulls/{pull_number}')

  await it.team.settle()
  expect(written()).toBe(0)
  review('ben', 'APPROVED')
  await heard()

  expect(written()).toBe(1)
  expect(open()[0]?.body).toContain('1 of 2 approval(s): `ben`')
  expect(open()[0]?.body).toContain('1 missing; may approve: `cyd`')
})

test('it says how those stand that depend on it', async () => {
  it = await startRelease()
  const { store } = it.team
  const dependents = [
    { repo: REPO, run: it.number },
    { repo: 'acme/late', refused: 'a candidate may start 1 runs' },
  ]
  await store.events.append(it.run, 'dependents/started', [{ type: 'dependents.started.v1', dependents }])
  await it.team.settle()

  const body = it.pulls()[0]?.body
  const runs = `- \`${REPO}\` (advisory): running, run [${it.number}](http://ci.test/api/v1/runs/${it.number})`
  expect(body).toContain(`### Dependent repositories\n\n${runs}\n`)
  expect(body).toContain('- `acme/late` (advisory): `a candidate may start 1 runs`')
})

test('an approving review is a vote, the promotion moves production, and GitHub sees it merged', async () => {
  it = await startRelease()
  await it.team.settle()

  review('ben', 'APPROVED')
  await heard()
  expect(await it.gate()).toMatchObject({ state: 'approved', votes: [{ by: 'ben', channel: 'github', counts: true }] })
  expect(open()).toHaveLength(1)
  expect(await it.promote()).toEqual({ outcome: 'succeeded' })
  await it.stageEnds('promote', 'succeeded')
  await it.runEnds('succeeded')
  await it.team.settle()

  expect(await it.team.forge.branchTip('production')).toBe(it.commit)
  expect(it.pulls()).toMatchObject([{ state: 'closed', merged: true }])
  expect(await it.branches()).toEqual(['production', 'master'])
  expect(await it.team.store.promotions.unended(REPO)).toEqual([])
})

test('/approve is a vote, once for a comment, however often GitHub tells of it', async () => {
  it = await startRelease({ environments: '{ production: { approvers: ["role:approver"], quorum: 2 } }' })
  await it.team.settle()

  const { id } = say('ben', 'Looks right.\n/approve after lunch')
  await heard()
  const notice = { kind: 'comment', pullRequest: 1, comment: String(id) } as const
  await it.team.store.deliveries.recordNotice(
    { source: 'github', id: 'again', event: 'issue_comment', bodyDigest: '1' },
    REPO,
    notice,
  )
  await heard()

  expect((await it.gate()).votes).toMatchObject([{ by: 'ben', comment: 'after lunch', counts: true }])
  expect(it.answers()).toEqual([])
})

test('/reject with a reason ends it: the pull request is closed with that reason, and its branch is gone', async () => {
  it = await startRelease()
  await it.team.settle()

  say('ben', '/reject the numbers are wrong')
  await heard()

  expect(await it.gate()).toMatchObject({ state: 'rejected' })
  expect(it.pulls()).toMatchObject([{ state: 'closed', merged: false }])
  expect(it.pulls()[0]?.body).toContain('Rejected by `ben`')
  expect(it.pulls()[0]?.body).toContain('the numbers are wrong')
  expect(await it.branches()).toEqual(['production', 'master'])
})

test.each([
  ['by whom the operator’s file does not know', 'eve', '/approve', 'knows nobody with the login eve'],
  ['by who wrote it', 'ada', '/approve', 'wrote or pushed this change'],
  ['that rejects without a reason', 'ben', '/reject', 'a rejection says why'],
])('a comment %s does not count, and is answered once', async (_how, by, body, why) => {
  it = await startRelease()
  await it.team.settle()

  say(by, body)
  say(by, body)
  await heard()
  await heard()

  expect(it.answers()).toEqual([expect.stringContaining(why)])
  expect((await it.gate()).votes).toEqual([])
})

test('a comment that was changed before it was read does not count', async () => {
  it = await startRelease()
  await it.team.settle()

  const comment = say('ben', 'hm\n/approve')
  comment.updatedAt = '2099-01-01T00:00:00Z'
  await heard()

  expect((await it.gate()).state).toBe('open')
  expect(it.answers()).toEqual([expect.stringContaining('was changed after it was written')])
})

test('a review that requests changes holds what enough people approve, by whatever channel, until it is taken back', async () => {
  it = await startRelease()
  await it.team.settle()

  review('cyd', 'CHANGES_REQUESTED')
  await heard()
  const held = await it.openGate()
  review('ben', 'APPROVED')
  await heard()
  expect(held).toMatchObject({ kind: 'open', sentence: expect.stringContaining('held by cyd, who requested changes') })
  expect(await it.gate()).toMatchObject({ state: 'open', votes: [{ by: 'ben', counts: true }] })
  expect(open()[0]?.body).toContain('**held** by `cyd`')

  review('cyd', 'DISMISSED')
  await it.team.settle()

  // By the rights of this moment, which are not those of the moment at which it was held.
  const ben = it.team.config.people.ben as { roles: readonly string[] }
  ben.roles = ['developer']
  expect(await it.gate()).toMatchObject({ state: 'open', objections: [] })
  expect(await it.openGate()).toMatchObject({ kind: 'open', sentence: expect.stringContaining('0 of 1 approval(s)') })
  ben.roles = ['approver']
  expect(await it.openGate()).toMatchObject({ kind: 'approved' })
})

test('who may not reject may not hold either', async () => {
  it = await startRelease()
  await it.team.settle()

  review('mallory', 'CHANGES_REQUESTED')
  review('ada', 'CHANGES_REQUESTED')
  review('ben', 'APPROVED')
  await heard()

  expect((await it.gate()).state).toBe('approved')
  expect(it.answers()).toHaveLength(2)
})

test('an approval that is dismissed before the others have come holds', async () => {
  it = await startRelease({ environments: '{ production: { approvers: ["role:approver"], quorum: 2 } }' })
  await it.team.settle()

  review('ben', 'APPROVED')
  await heard()
  review('ben', 'DISMISSED')
  review('cyd', 'APPROVED')
  await heard()
  expect(await it.gate()).toMatchObject({ state: 'open', objections: [{ by: 'ben' }] })
  review('ben', 'APPROVED')
  await heard()

  expect(await it.openGate()).toMatchObject({ kind: 'approved' })
})

test('what somebody pushes to its branch starts nothing and changes nothing; a review of that does not count', async () => {
  it = await startRelease()
  await it.team.settle()
  const before = (await it.team.runs()).length
  const branch = `penstock/promote/${it.number}`

  const evil = await it.team.hub.push(branch)
  review('ben', 'APPROVED')
  await heard()

  expect(await it.team.forge.branchTip(branch)).toBe(it.commit)
  expect(open()).toMatchObject([{ number: 2, commit: it.commit }])
  expect(it.pulls()[0]).toMatchObject({ commit: evil, state: 'closed' })
  expect((await it.gate()).state).toBe('open')
  expect(await it.team.runs()).toHaveLength(before)
})

test('a review of another commit than the gate’s does not count, and is answered', async () => {
  it = await startRelease()
  await it.team.settle()

  Object.assign(review('ben', 'APPROVED'), { commit: it.released })
  await heard()
  await heard()

  expect((await it.gate()).votes).toEqual([])
  expect(it.answers()).toEqual([expect.stringContaining(`it is about ${it.released}`)])
})

test('an approval of another commit takes back no objection to this one, on its pull request or after that', async () => {
  it = await startRelease()
  await it.team.settle()
  review('cyd', 'CHANGES_REQUESTED')
  await heard()

  // What cyd asked for is pushed to the branch of the promotion, and that is what cyd approves.
  await it.team.hub.push(`penstock/promote/${it.number}`)
  review('cyd', 'APPROVED')
  await heard()
  review('ben', 'APPROVED', 2)
  await heard()

  expect(open()).toMatchObject([{ number: 2, commit: it.commit }])
  expect(await it.gate()).toMatchObject({ state: 'open', objections: [{ by: 'cyd' }] })
})

test('an objection is not got rid of by closing the pull request: another one is opened, and it holds', async () => {
  it = await startRelease()
  await it.team.settle()
  review('cyd', 'CHANGES_REQUESTED')
  await heard()

  it.team.world.closePull(REPO, 1, 'ada')
  await heard()
  review('ben', 'APPROVED', 2)
  await heard()

  expect(open()).toMatchObject([{ number: 2 }])
  expect((await it.gate()).state).toBe('open')
  review('cyd', 'APPROVED', 2)
  await heard()
  expect((await it.gate()).state).toBe('approved')
})

test('a run that is canceled at its gate leaves neither pull request nor branch', async () => {
  it = await startRelease()
  await it.team.settle()

  await it.runEnds('canceled')
  await it.team.settle()

  expect(it.pulls()).toMatchObject([{ state: 'closed', merged: false }])
  expect(await it.branches()).toEqual(['production', 'master'])
})

test('if author and pushers leave nobody who may approve, the gate, its pull request and the run say so at once', async () => {
  it = await startRelease({ environments: '{ production: { approvers: [cyd], quorum: 1 } }', by: 'cyd' })

  await it.team.settle()

  const said = 'nobody else may approve: cyd wrote or pushed what is to be released'
  expect(await it.openGate()).toMatchObject({ kind: 'open', sentence: expect.stringContaining(said) })
  expect((await it.team.store.events.of(it.run)).map(({ event }) => event)).toContainEqual(
    expect.objectContaining({ type: 'gate.opened.v1', needs: expect.stringContaining(said) }),
  )
  expect(open()[0]?.body).toContain(said)
})

test('two control workers at once make one branch and one pull request', async () => {
  it = await startRelease()

  await Promise.all([it.team.settle(), it.team.anotherReview(), it.team.anotherReview()])
  await it.team.settle()

  expect(it.pulls()).toHaveLength(1)
})

test('killed anywhere, a worker leaves nothing that is not taken away when the gate has ended', async () => {
  it = await startRelease()
  const { github } = it.team.hub

  for (let last = 0; last < 12; last++) {
    let asked = 0
    github.fault({ kind: 'cut', after: true, times: 1_000, on: () => asked++ >= last })
    await it.team.settle()
    github.clearFaults()
    if (last === 6) expect(open().length).toBe(1)
  }
  await it.runEnds('canceled')
  for (let last = 0; last < 8; last++) {
    let asked = 0
    github.fault({ kind: 'cut', times: 1_000, on: () => asked++ >= last })
    await it.team.settle()
    github.clearFaults()
  }
  it.team.pass(120_000)
  await it.team.settle()

  expect(it.pulls()).toMatchObject([{ state: 'closed' }])
  expect(await it.branches()).toEqual(['production', 'master'])
})
