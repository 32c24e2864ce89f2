import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Outcome } from '../../src/core/outcome.ts'
import type { Review } from '../../src/embedded/fake-github/state.ts'
import { REPO } from '../forge/github.ts'
import { startTeam, type Team } from './team.ts'

const MERGE_REF = 'PATCH /repos/{owner}/{repo}/git/refs/{ref}'

let team: Team
let first: string

beforeEach(async () => {
  // GitHub does not tell labels apart by case.
  team = await startTeam({ mergeLabel: 'Ship' })
  first = await team.hub.push('master')
  await team.settle()
})
afterEach(() => team.stop())

/** A pull request of ada's, whose run has ended. */
async function pull(head: string, parent = first, outcome: Outcome | 'runs' = 'succeeded') {
  const commit = await team.hub.push(head, parent)
  const { number } = await team.world.openPull(REPO, { by: 'ada', head, base: 'master', title: head })
  await team.settle()
  if (outcome !== 'runs') await ends(commit, outcome)
  return { commit, number }
}

async function ends(commit: string, outcome: Outcome): Promise<void> {
  for (const run of await team.store.runs.list({ repo: REPO, commit, limit: 10 })) {
    const finished = { type: 'run.finished.v1', try: run.try, outcome } as const
    await team.store.events.append(run.id, `end/${run.try}/${outcome}`, [finished])
  }
}

const review = (number: number, by = 'ben', state: Review['state'] = 'APPROVED') =>
  team.world.review(REPO, number, { by, state })
async function say(number: number, by: string, body = '/merge') {
  const comment = team.world.comment(REPO, number, { by, body })
  await team.settle()
  return comment
}
const tip = () => team.forge.branchTip('master')
const answers = (number: number) =>
  team.world
    .repo(REPO)
    .comments.filter((one) => one.pull === number && one.user.login === 'penstock[bot]')
    .map(({ body }) => body)
const last = (number: number) => answers(number).at(-1) ?? ''

describe('what is asked for', () => {
  test('goes into the candidate branch by fast-forward, with the commit ids that were approved', async () => {
    const { commit, number } = await pull('page')
    review(number)
    await say(number, 'ada')

    expect(await tip()).toBe(commit)
    expect(await team.forge.pullRequests?.get(number)).toMatchObject({ state: 'closed', merged: true })
    expect(answers(number)).toEqual([expect.stringMatching(/Merged.*`ada`/)])
    expect(await team.store.merges.open(REPO)).toEqual([])
    const audit = await team.store.audit.list({ limit: 100 })
    expect(audit).toContainEqual(expect.objectContaining({ by: 'ada', action: 'pull.merge', channel: 'comment' }))
  })

  test('waits for all that is missing, says so, and happens when it is there', async () => {
    const { commit, number } = await pull('page', first, 'runs')
    await say(number, 'ada')
    expect(last(number)).toMatch(/Still missing:\n\n- an approval of .* other than `ada`.*\n- the end of run \d+/)

    review(number)
    await team.settle()
    expect(last(number)).toMatch(/Still missing:\n\n- the end of run \d+\n/)
    expect(await tip()).toBe(first)

    await ends(commit, 'succeeded')
    await team.settle()
    expect(await tip()).toBe(commit)
    expect(answers(number)).toHaveLength(1)
  })

  test('by the label that the operator names; another label does nothing', async () => {
    const { commit, number } = await pull('page')
    review(number)
    team.world.label(REPO, number, 'ready', 'ada')
    await team.settle()
    expect(await tip()).toBe(first)

    team.world.label(REPO, number, 'ship', 'ada')
    await team.settle()
    expect(await tip()).toBe(commit)
  })

  test('by a label that no delivery told of', async () => {
    const { commit, number } = await pull('page')
    review(number)
    team.world.webhooks.fault({ kind: 'silent', times: 100 })
    team.world.label(REPO, number, 'ship', 'ada')
    await team.settle()

    expect(await tip()).toBe(commit)
  })

  test.each([
    ['ben', 'who may write at the forge', true],
    ['olga', 'who has no account there and is an operator', true],
    ['cleo', 'who has no account there and is none', false],
    ['mia', 'who may only read there', false],
  ])('by the API, of %s, %s', async (by, _who, happens) => {
    const { commit, number } = await pull('page')
    review(number)
    const asked = { key: `api/${by}/1`, repo: REPO, pullRequest: number, commit, by, channel: 'api' }
    await team.store.merges.ask(asked, { wake: true })
    await team.settle()

    expect(await tip()).toBe(happens ? commit : first)
  })

  test('twice is once', async () => {
    const { number } = await pull('page')
    await say(number, 'ada')
    await say(number, 'ben')

    expect(answers(number)).toHaveLength(1)
    expect((await team.store.merges.list({ limit: 9 })).map(({ state }) => state)).toEqual(['joined', 'waiting'])
  })
})

describe('it is not merged', () => {
  const cases: Record<string, (number: number, commit: string) => unknown> = {
    'that its author alone approves': (number) => review(number, 'ada'),
    'that somebody approves who may only read': (number) => review(number, 'mallory'),
    'that somebody wants changed': (number) => [review(number), review(number, 'cyd', 'CHANGES_REQUESTED')],
    'that nobody has looked at': () => undefined,
    'that is a draft': (number) => [review(number), team.world.setDraft(REPO, number, true, 'ada')],
    'whose run failed': (number, commit) => [review(number), ends(commit, 'failed')],
    'that a check of others refuses': (number, commit) => [
      review(number),
      team.world.addCheck(REPO, commit, 'scan', 'failure'),
    ],
    'that a check of others has not judged': (number, commit) => [
      review(number),
      team.world.addCheck(REPO, commit, 'scan', null),
    ],
    'with a status of others that waits': (number, commit) => [
      review(number),
      team.forge.statuses?.set({ commit, context: 'legal', state: 'pending', description: 'waits' }),
    ],
  }
  test.each(Object.keys(cases))('%s', async (name) => {
    team.world.setAccess(REPO, 'cyd', 'write')
    const { commit, number } = await pull('page', first, name === 'whose run failed' ? 'runs' : 'succeeded')
    await Promise.all([cases[name]?.(number, commit)].flat())
    await say(number, 'ada')

    expect(await tip()).toBe(first)
    expect(last(number)).toContain('Still missing')
  })

  test('that only a reader wants changed is merged: a stranger stops nobody', async () => {
    const { commit, number } = await pull('page')
    review(number)
    review(number, 'mallory', 'CHANGES_REQUESTED')
    await say(number, 'ada')

    expect(await tip()).toBe(commit)
  })

  test('that is approved only by whoever pushed it: ben may not pass his own commit under the name of ada', async () => {
    const { number } = await pull('page')
    const evil = await team.world.push(REPO, 'page', { by: 'ben', message: 'evil', files: { x: 'x' } })
    await team.settle()
    await ends(evil, 'succeeded')
    review(number, 'ben')
    await say(number, 'ben')

    expect(await tip()).toBe(first)
    expect(last(number)).toContain('other than `ada` and `ben`')
  })

  test('that is approved only by whoever pushed it, also if no delivery told of that push', async () => {
    const { number } = await pull('page')
    team.serverIsDown = true
    const evil = await team.world.push(REPO, 'page', { by: 'ben', message: 'evil', files: { x: 'x' } })
    await team.world.webhooks.settled()
    team.serverIsDown = false
    // This tells of the new head, and not of who brought it.
    team.world.label(REPO, number, 'other', 'ada')
    await team.settle()
    await ends(evil, 'succeeded')
    review(number, 'ben')
    await say(number, 'ada')

    expect(last(number)).toContain('other than `ada` and `ben`')
    expect(await tip()).toBe(first)
  })

  test('when the one who asks may not write', async () => {
    const { number } = await pull('page')
    review(number)
    await say(number, 'mallory')

    expect(await tip()).toBe(first)
    expect(last(number)).toContain('`mallory` may not write')
  })

  test('by who may not write, however often it is said: it is answered once, and takes the place of nobody’s wish', async () => {
    const { commit, number } = await pull('page')
    await say(number, 'mallory')
    await say(number, 'mallory', 'Please!\n\n/merge')
    await say(number, 'mallory')

    expect(answers(number)).toEqual([expect.stringContaining('`mallory` may not write')])
    expect(await team.store.merges.list({ limit: 10 })).toEqual([])
    review(number)
    await say(number, 'ada')
    expect(await tip()).toBe(commit)
  })

  test('when the one who asked may no longer write at the moment of merging', async () => {
    const { number } = await pull('page')
    await say(number, 'ada')
    team.world.setAccess(REPO, 'ada', 'read')
    review(number)
    await team.settle()

    expect(await tip()).toBe(first)
    expect(last(number)).toContain('`ada` may not write')
  })

  test('when a reader puts the label there', async () => {
    const { number } = await pull('page')
    review(number)
    team.world.label(REPO, number, 'ship', 'mallory')
    await team.settle()

    expect(await tip()).toBe(first)
  })

  test('when the comment was changed later', async () => {
    const { number } = await pull('page')
    review(number)
    const comment = team.world.comment(REPO, number, { by: 'ada', body: 'nice' })
    team.world.editComment(REPO, comment.id, '/merge')
    await team.settle()

    expect(await tip()).toBe(first)
  })

  test('into any branch but that of candidates', async () => {
    await team.forge.branches?.create('production', first)
    await team.hub.push('page', first)
    const { number } = await team.world.openPull(REPO, { by: 'ada', head: 'page', base: 'production', title: 'x' })
    review(number)
    await say(number, 'ada')

    expect(await team.forge.branchTip('production')).toBe(first)
    expect(last(number)).toContain('only what goes into `master`')
  })
})

describe('what ends a wish', () => {
  test('a new head: what is there now was not asked for, and the old label asks for nothing', async () => {
    const { number } = await pull('page')
    team.world.label(REPO, number, 'ship', 'ada')
    await team.settle()
    const later = await team.hub.push('page')
    await team.settle()
    await ends(later, 'succeeded')
    review(number)
    await team.settle()

    expect(await tip()).toBe(first)
    expect(last(number)).toContain(`the head is now ${later.slice(0, 12)}`)

    team.world.unlabel(REPO, number, 'ship', 'ada')
    team.world.label(REPO, number, 'ship', 'ada')
    await team.settle()
    expect(await tip()).toBe(later)
  })

  test('an approval of an earlier head approves nothing of the later one', async () => {
    const { number } = await pull('page')
    review(number)
    const later = await team.hub.push('page')
    await team.settle()
    await ends(later, 'succeeded')
    await say(number, 'ada')

    expect(await tip()).toBe(first)
    expect(last(number)).toContain(`an approval of ${later.slice(0, 12)}`)
  })

  test('taking the label away; closing the pull request', async () => {
    const one = await pull('one')
    const two = await pull('two')
    team.world.label(REPO, one.number, 'ship', 'ada')
    await say(two.number, 'ada')
    team.world.unlabel(REPO, one.number, 'ship', 'ada')
    team.world.closePull(REPO, two.number, 'ada')
    await team.settle()
    review(one.number)
    await team.settle()

    expect(await tip()).toBe(first)
    expect(last(one.number)).toContain('the label was taken away')
    expect(last(two.number)).toContain('was closed')
  })

  test('being behind: it says how far, and what to do', async () => {
    const { number } = await pull('page')
    review(number)
    await team.hub.push('master')
    await say(number, 'ada')

    expect(last(number)).toContain('1 commit behind master: rebase, then `/merge` again')
  })

  test('another merge: of two at once one wins, and the other is told why', async () => {
    const one = await pull('one')
    const two = await pull('two')
    review(one.number)
    review(two.number)
    team.world.comment(REPO, one.number, { by: 'ada', body: '/merge' })
    team.world.comment(REPO, two.number, { by: 'ben', body: '/merge' })
    await team.settle()

    const [winner, loser] = (await tip()) === one.commit ? [one, two] : [two, one]
    expect(await tip()).toBe(winner.commit)
    expect(last(winner.number)).toContain('Merged')
    expect(last(loser.number)).toContain('1 commit behind master: rebase')
    expect(await team.store.merges.open(REPO)).toEqual([])
  })

  test('another merge between the last look and the merge itself', async () => {
    const { number } = await pull('page')
    review(number)
    let winner = ''
    const { forge } = team
    const fastForward = forge.fastForward.bind(forge)
    Object.assign(forge, {
      fastForward: async (branch: string, commit: string) => {
        winner ||= await team.hub.push('master')
        return fastForward(branch, commit)
      },
    })
    await say(number, 'ada')

    expect(await tip()).toBe(winner)
    expect(last(number)).toContain('1 commit behind master: rebase')
  })
})

describe('what goes wrong on the way', () => {
  test('the answer to the merge is lost: the ref is read before anything is said', async () => {
    const { commit, number } = await pull('page')
    review(number)
    team.hub.github.fault({ kind: 'cut', after: true, times: 3, on: (template) => template === MERGE_REF })
    await say(number, 'ada')
    team.pass(120_000)
    await team.settle()

    expect(await tip()).toBe(commit)
    expect(answers(number)).toEqual([expect.stringContaining('Merged')])
  })

  test('the forge is away for a while: nothing is said, and it is merged later', async () => {
    const { commit, number } = await pull('page')
    review(number)
    team.hub.github.fault({ kind: 'status', status: 503, times: 1000, on: (template) => template === MERGE_REF })
    await say(number, 'ada')
    expect([await tip(), answers(number)]).toEqual([first, []])

    team.hub.github.clearFaults()
    team.pass(120_000)
    await team.settle()
    expect(await tip()).toBe(commit)
  })

  test('the branch has rules that we know nothing of: they are named, and it is tried again later', async () => {
    const { commit, number } = await pull('page')
    team.world.protect(REPO, 'master', { reviews: 1, checks: ['legal'] })
    review(number)
    await say(number, 'ada')
    expect(last(number)).toContain('Required status check "legal" is expected.')
    const tries = team.hub.calls(MERGE_REF)
    await team.settle()
    expect(team.hub.calls(MERGE_REF)).toBe(tries)

    await team.forge.statuses?.set({ commit, context: 'legal', state: 'success', description: 'read' })
    team.pass(31_000)
    await team.settle()
    expect(await tip()).toBe(commit)
  })

  test('a worker that was killed after the merge: the next one says it, once', async () => {
    const { commit, number } = await pull('page')
    const row = await team.store.merges.ask({
      ...{ key: 'comment/1', repo: REPO, pullRequest: number, commit, by: 'ada', channel: 'comment' },
    })
    await team.store.merges.take(row.id, 60_000)
    await team.forge.fastForward('master', commit)
    await team.settle()
    expect(answers(number)).toEqual([])

    team.pass(61_000)
    await team.settle()
    await team.settle()
    expect(answers(number)).toEqual([expect.stringContaining('Merged')])
  })

  test('comments that the forge does not take hold nothing up', async () => {
    const { commit, number } = await pull('page')
    review(number)
    const comments = 'POST /repos/{owner}/{repo}/issues/{issue_number}/comments'
    team.hub.github.fault({ kind: 'status', status: 503, times: 1000, on: (template) => template === comments })
    await say(number, 'ada')
    expect(await tip()).toBe(commit)

    team.hub.github.clearFaults()
    team.pass(120_000)
    await team.settle()
    expect(answers(number)).toEqual([expect.stringContaining('Merged')])
  })
})
