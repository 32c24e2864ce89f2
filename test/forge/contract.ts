import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ACCESS, type Forge, type Role } from '../../src/forge/types.ts'
import { createMirrors } from '../../src/git/mirrors.ts'

/** What people do at the forge, beside the forge itself. A hand that is missing leaves out the tests that need it. */
export interface ForgeUnderTest {
  readonly forge: Forge
  /** Login of the account that Penstock uses. */
  readonly self: string
  /** A commit on a branch, by `ada`; with `parent` it goes there by force. */
  push(branch: string, parent?: string): Promise<string>
  readonly pulls?: {
    open(pull: { readonly head: string; readonly base: string; readonly draft?: boolean }): Promise<number>
    /** From a fork of `mallory`, from the tip of `base`. */
    openFromFork(base: string): Promise<{ readonly number: number; readonly commit: string }>
    label(number: number, label: string): void
    unlabel(number: number, label: string): void
    review(number: number, by: string, state: 'APPROVED' | 'CHANGES_REQUESTED' | 'COMMENTED' | 'DISMISSED'): void
    comment(number: number, by: string, body: string): string
    comments(number: number): readonly string[]
  }
  /** A check that something else than Penstock gives. */
  check?(commit: string, name: string, conclusion: string | null): void
  setAccess?(login: string, access: Role): void
  /** What the forge does otherwise than most, with what then holds. */
  readonly differs?: {
    /** Characters of a status's description; 140 unless said. */
    readonly description?: number
    /** A word that was taken back leaves no trace. */
    readonly forgetsDismissed?: true
    /** Nothing of ours can be kept with a deployment: the newest of an environment, if of the same commit, is the same. */
    readonly keyless?: true
    /** What a maintainer is, where the forge has none. */
    readonly maintainer?: Role
  }
  stop(): Promise<void>
}

export const GROUPS = [
  'branchHeads',
  'lastMove',
  'branches',
  'pullRequests',
  'comments',
  'people',
  'pushes',
  'statuses',
  'checks',
  'verdicts',
  'deployments',
  'deliveries',
  'check',
] as const satisfies readonly (keyof Forge)[]
export type Group = (typeof GROUPS)[number]

/** What holds for every forge, as far as it carries it. */
export function forgeContract(name: string, carries: readonly Group[], start: () => Promise<ForgeUnderTest>): void {
  let it: ForgeUnderTest
  let dir: string
  let first: string

  beforeEach(async () => {
    it = await start()
    dir = await mkdtemp(join(tmpdir(), 'pst-forge-'))
    first = await it.push('master')
  })
  afterEach(async () => {
    await it.stop()
    await rm(dir, { recursive: true, force: true })
  })

  /** A test that is there where the forge carries the group: what is skipped proves nothing. */
  function carried<K extends Group>(group: K, title: string, run: (of: NonNullable<Forge[K]>) => Promise<void>): void {
    if (carries.includes(group)) test(title, () => run(it.forge[group] as NonNullable<Forge[K]>))
  }

  test(`${name} carries ${carries.join(', ') || 'git alone'}, and nothing else`, () => {
    expect(GROUPS.filter((group) => it.forge[group] !== undefined)).toEqual(carries)
  })

  describe(`${name}: branches`, () => {
    test('the tip of a branch is the commit that was pushed last; no branch has none', async () => {
      const second = await it.push('master')

      expect(await it.forge.branchTip('master')).toBe(second)
      expect(await it.forge.branchTip('absent')).toBeUndefined()
    })

    test('a commit can be fetched from the source', async () => {
      const mirrors = createMirrors({ dir })

      await mirrors.ensure('acme/web', await it.forge.source(), first)

      expect((await mirrors.commitInfo('acme/web', first)).author).toBe('ada')
    })

    test('a fast-forward moves the branch, and only once', async () => {
      await it.forge.fastForward('production', first)
      const second = await it.push('master')

      const answers = [
        await it.forge.fastForward('production', second),
        await it.forge.fastForward('production', second),
      ]

      expect(answers).toEqual([{ kind: 'moved', from: first }, { kind: 'already' }])
      expect(await it.forge.branchTip('production')).toBe(second)
    })

    test('a fast-forward makes a branch that is not there', async () => {
      expect(await it.forge.fastForward('production', first)).toEqual({ kind: 'moved' })
      expect(await it.forge.branchTip('production')).toBe(first)
    })

    test('a branch that has gone another way is left where it is, and the answer says where', async () => {
      const feature = await it.push('feature', first)
      const second = await it.push('master', first)

      const answer = await it.forge.fastForward('master', feature)

      expect(answer).toMatchObject({ kind: 'refused', at: second, why: expect.stringContaining('master') })
      expect(await it.forge.branchTip('master')).toBe(second)
    })

    test('a branch is not moved back', async () => {
      const second = await it.push('master')

      expect(await it.forge.fastForward('master', first)).toMatchObject({ kind: 'refused', at: second })
    })

    test('of two fast-forwards at once to commits that exclude each other one wins, and the other is told', async () => {
      const one = await it.push('one', first)
      const other = await it.push('other', first)

      const answers = await Promise.all([it.forge.fastForward('master', one), it.forge.fastForward('master', other)])

      expect(answers.map((answer) => answer.kind).sort()).toEqual(['moved', 'refused'])
      const winner = answers[0]?.kind === 'moved' ? one : other
      expect(await it.forge.branchTip('master')).toBe(winner)
    })

    carried('branchHeads', 'every branch is listed with its commit, and no other ref', async (branchHeads) => {
      const names = ['one', 'two', 'feature/three']
      const tips = await Promise.all(names.map(async (branch) => ({ branch, commit: await it.push(branch, first) })))
      await it.forge.branches?.create('gone', first)
      await it.forge.branches?.remove('gone')

      const heads = await branchHeads()

      expect(heads).toHaveLength(4)
      expect(heads).toEqual(expect.arrayContaining([{ branch: 'master', commit: first }, ...tips]))
    })

    carried('lastMove', 'the newest move of a branch is told, with who made it', async (lastMove) => {
      const second = await it.push('master')
      const made = await it.push('feature/page', first)
      const forced = await it.push('master', first)

      expect(await lastMove('master')).toMatchObject({ before: second, after: forced, by: 'ada' })
      expect(await lastMove('feature/page')).toEqual({ after: made, by: 'ada', at: expect.any(Number) })
      expect(await lastMove('absent')).toBeUndefined()
    })

    carried(
      'branches',
      'a branch is made at exactly a commit, once; one of that name elsewhere is left alone',
      async (branches) => {
        const second = await it.push('master')

        const answers = [
          await branches.create('promote/1', first),
          await branches.create('promote/1', first),
          await branches.create('promote/1', second),
        ]

        expect(answers).toEqual([{ kind: 'made' }, { kind: 'already' }, { kind: 'taken', at: first }])
        await branches.remove('promote/1')
        await branches.remove('promote/1')
        expect(await it.forge.branchTip('promote/1')).toBeUndefined()
      },
    )
  })

  if (carries.length === 0) return

  describe(`${name}: pull requests`, () => {
    const hands = () => it.pulls as NonNullable<ForgeUnderTest['pulls']>

    carried('pullRequests', 'one pull request, with all that the rules ask about', async (pulls) => {
      const commit = await it.push('page', first)
      const number = await hands().open({ head: 'page', base: 'master', draft: true })
      hands().label(number, 'ship')

      expect(await pulls.get(number)).toMatchObject({
        number,
        state: 'open',
        merged: false,
        draft: true,
        author: 'ada',
        labels: ['ship'],
        head: { commit, branch: 'page', repo: 'acme/web' },
        base: { branch: 'master' },
        fork: false,
      })
      expect(await pulls.get(99)).toBeUndefined()
    })

    carried(
      'pullRequests',
      'those that are open, oldest first, by base; a merged one is none of them',
      async (pulls) => {
        const page = await it.push('page', first)
        await it.push('next', first)
        await it.push('release', first)
        const numbers = [
          await hands().open({ head: 'page', base: 'master' }),
          await hands().open({ head: 'next', base: 'master' }),
          await hands().open({ head: 'next', base: 'release' }),
        ]

        const before = await pulls.open({ base: 'master' })
        await it.forge.fastForward('master', page)
        const after = await pulls.open()

        expect(before.map((pull) => pull.number)).toEqual(numbers.slice(0, 2))
        expect(after.map((pull) => pull.number)).toEqual(numbers.slice(1))
        expect(await pulls.get(numbers[0] ?? 0)).toMatchObject({ state: 'closed', merged: true })
      },
    )

    carried('pullRequests', 'more than the forge gives in one answer are all there', async (pulls) => {
      const heads = ['one', 'two', 'three', 'four', 'five']
      for (const head of heads) {
        await it.push(head, first)
        await hands().open({ head, base: 'master' })
      }

      expect((await pulls.open()).map((pull) => pull.head.branch)).toEqual(heads)
    })

    carried('pullRequests', 'one from a fork is told apart, and its commit can be fetched from here', async (pulls) => {
      const { number, commit } = await hands().openFromFork('master')

      const pull = await pulls.get(number)
      await createMirrors({ dir }).ensure('acme/web', await it.forge.source(), commit)

      expect(pull).toMatchObject({ fork: true, head: { commit, repo: 'mallory/web' } })
    })

    carried(
      'pullRequests',
      'the last word of each person stands, with the commit that it was about; a comment takes none back',
      async (pulls) => {
        const old = await it.push('page', first)
        const number = await hands().open({ head: 'page', base: 'master' })
        hands().review(number, 'ben', 'CHANGES_REQUESTED')
        hands().review(number, 'cyd', 'APPROVED')
        hands().review(number, 'dan', 'COMMENTED')
        const head = await it.push('page')
        hands().review(number, 'ben', 'APPROVED')
        hands().review(number, 'ben', 'COMMENTED')
        hands().review(number, 'cyd', 'DISMISSED')

        const reviews = await pulls.reviews(number)
        expect(reviews.find((one) => one.by === 'ben')).toEqual({ by: 'ben', state: 'approved', commit: head })
        // Of a word that does not stand it does not matter what it was about.
        const others = reviews.filter((one) => one.by !== 'ben').map(({ by, state }) => ({ by, state }))
        expect(others).toEqual(it.differs?.forgetsDismissed ? [] : [{ by: 'cyd', state: 'dismissed' }])
        expect(old).not.toBe(head)
      },
    )

    carried('pullRequests', 'who put a label there last; putting it there again is news', async (pulls) => {
      await it.push('page', first)
      const number = await hands().open({ head: 'page', base: 'master' })
      expect(await pulls.labeled(number, 'ship')).toBeUndefined()
      hands().label(number, 'other')
      hands().label(number, 'ship')
      const before = await pulls.labeled(number, 'ship')
      hands().unlabel(number, 'ship')
      hands().label(number, 'ship')
      const after = await pulls.labeled(number, 'ship')

      expect([before?.by, after?.by]).toEqual(['ada', 'ada'])
      expect(after?.id).not.toBe(before?.id)
      hands().unlabel(number, 'ship')
      expect(await pulls.labeled(number, 'ship')).toEqual(after)
    })

    carried('pullRequests', 'a pull request is opened once, and brought up to date after that', async (pulls) => {
      await it.push('page', first)
      const wanted = { head: 'page', base: 'master', title: 'Promote 1', body: 'One change' }

      const opened = await pulls.put(wanted)
      const same = await pulls.put(wanted)
      const changed = await pulls.put({ ...wanted, title: 'Promote 2' })
      await pulls.close(opened.number)

      expect([same.number, changed.number]).toEqual([opened.number, opened.number])
      expect(await pulls.get(opened.number)).toMatchObject({ title: 'Promote 2', state: 'closed', author: it.self })
    })

    carried('pushes', 'who moved a branch to a commit is told, and nobody else', async (pushes) => {
      const second = await it.push('master')
      await it.forge.branches?.create('copy', first)

      expect(await pushes.pushersOf([second])).toEqual(['ada'])
      expect(await pushes.pushersOf([first])).toEqual(['ada', it.self].sort())
      expect(await pushes.pushersOf([])).toEqual([])
    })

    carried('comments', 'one comment for each marker is kept up to date, whoever else writes', async (comments) => {
      await it.push('page', first)
      const number = await hands().open({ head: 'page', base: 'master' })

      await comments.upsert(number, 'summary', 'running')
      const copied = hands().comments(number)[0] ?? ''
      hands().comment(number, 'mallory', copied)
      await comments.upsert(number, 'other', 'beside it')
      await comments.upsert(number, 'summary', 'passed')

      const texts = hands().comments(number)
      expect(texts).toHaveLength(3)
      expect(texts[0]).toMatch(/^passed\n/)
      expect(texts[1]).toBe(copied)
      expect(texts[2]).toMatch(/^beside it\n/)
    })

    carried(
      'comments',
      'a comment that is copied with the marker before ours is not taken for it',
      async (comments) => {
        await it.push('page', first)
        const number = await hands().open({ head: 'page', base: 'master' })
        const text = 'all passed\n\n<!-- penstock:summary -->'
        hands().comment(number, 'mallory', text)

        await comments.upsert(number, 'summary', 'running')

        expect(hands().comments(number)[0]).toBe(text)
        expect(hands().comments(number)).toHaveLength(2)
      },
    )

    carried('comments', 'who wrote a comment, where, and what', async (comments) => {
      await it.push('page', first)
      const number = await hands().open({ head: 'page', base: 'master' })
      const id = hands().comment(number, 'ben', '/merge')
      const { id: answer } = await comments.add(number, 'merged')

      expect(await comments.get(id)).toEqual({
        ...{ id, by: 'ben', body: '/merge', pullRequest: number, edited: false },
        ...{ at: expect.any(Number), changedAt: expect.any(Number) },
      })
      expect(await comments.get(answer)).toMatchObject({ by: it.self, body: 'merged' })
      expect(await comments.get('424242')).toBeUndefined()
    })
  })

  describe(`${name}: people, statuses, deployments`, () => {
    for (const access of ACCESS) {
      carried('people', `somebody with access ${access} has that`, async (people) => {
        it.setAccess?.('ben', access)

        expect(await people.access('ben')).toBe(access)
      })
    }

    for (const role of [...ACCESS, 'maintain'] as const) {
      carried('people', `somebody with the role ${role} has that`, async (people) => {
        it.setAccess?.('ben', role)

        expect(await people.role('ben')).toBe(role === 'maintain' ? (it.differs?.maintainer ?? role) : role)
      })
    }

    carried('people', 'nobody of that name may do anything', async (people) => {
      expect(await people.access('nobody-at-all')).toBe('none')
    })

    carried(
      'statuses',
      'the newest status of a context stands; a long description is cut to what the forge takes',
      async (statuses) => {
        const common = { commit: first, url: 'http://ci.test/1' }
        await statuses.set({ ...common, context: 'penstock/test', state: 'pending', description: 'runs' })
        await statuses.set({ ...common, context: 'penstock/e2e', state: 'failure', description: 'é'.repeat(300) })
        await statuses.set({ ...common, context: 'penstock/test', state: 'success', description: 'passed' })

        const standing = await statuses.of(first)

        expect(standing).toHaveLength(2)
        expect(standing).toContainEqual({
          ...common,
          context: 'penstock/test',
          state: 'success',
          description: 'passed',
        })
        expect(standing).toContainEqual({
          ...common,
          context: 'penstock/e2e',
          state: 'failure',
          description: `${'é'.repeat((it.differs?.description ?? 140) - 1)}…`,
        })
      },
    )

    carried('verdicts', 'what the checks of others have come to, all of them', async (verdicts) => {
      it.check?.(first, 'lint', 'success')
      it.check?.(first, 'style', 'neutral')
      it.check?.(first, 'scan', 'failure')
      it.check?.(first, 'slow', null)

      expect(await verdicts.of(first)).toEqual([
        { name: 'lint', state: 'success' },
        { name: 'style', state: 'success' },
        { name: 'scan', state: 'failure' },
        { name: 'slow', state: 'pending' },
      ])
    })

    carried(
      'deployments',
      'a deployment is recorded once for its key, and its state as it changes',
      async (deployments) => {
        const wanted = { commit: first, environment: 'staging', key: 'run 1', production: false, description: 'run 1' }

        const one = await deployments.put(wanted)
        const again = await deployments.put(wanted)
        const next = await deployments.put({ ...wanted, key: 'run 2' })
        const id = one.kind === 'put' ? one.id : ''
        expect(await deployments.stateOf(id)).toBe(it.differs?.keyless ? 'in_progress' : undefined)
        await deployments.setState(id, { state: 'in_progress', description: 'runs' })
        await deployments.setState(id, { state: 'success', description: 'there', url: 'http://staging.test' })

        expect(one.kind).toBe('put')
        expect(again).toEqual(one)
        if (it.differs?.keyless) expect(next).toEqual(one)
        else expect(next).not.toEqual(one)
        expect(await deployments.stateOf(id)).toBe('success')
      },
    )
  })
}
