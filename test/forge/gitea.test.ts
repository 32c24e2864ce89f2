import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Lab, REPO, startGiteaLab } from './labs.ts'

let lab: Lab
let first: string
let head: string

const MERGE = 'POST /repos/{owner}/{repo}/pulls/{index}/merge'

beforeEach(async () => {
  lab = await startGiteaLab()
  first = await lab.push('master')
  head = await lab.push('page', first)
  await lab.server.world.openPull(REPO, { by: 'ada', head: 'page', base: 'master', title: 'A page' })
})
afterEach(() => lab.stop())

test('a fast-forward to the head of a pull request is Gitea’s own merge of it, which shows it as merged', async () => {
  const answer = await lab.forge.fastForward('master', head)

  expect(answer).toEqual({ kind: 'moved', from: first })
  expect(lab.calls(MERGE)).toBe(1)
  expect(lab.server.exchanges.find((one) => one.path.endsWith('/merge'))?.requestBody).toEqual({
    do: 'fast-forward-only',
    head_commit_id: head,
  })
  expect(await lab.forge.pullRequests?.get(1)).toMatchObject({ state: 'closed', merged: true })
})

test('where that style of merging is not allowed, git moves the branch', async () => {
  lab.server.fault({ kind: 'status', status: 405, on: (name) => name === MERGE })

  const answer = await lab.forge.fastForward('master', head)

  expect(answer).toEqual({ kind: 'moved', from: first })
  expect(await lab.forge.branchTip('master')).toBe(head)
})

test('a merge whose answer was lost is found to have been done', async () => {
  lab.server.fault({ kind: 'status', status: 409, after: true, on: (name) => name === MERGE })

  expect(await lab.forge.fastForward('master', head)).toEqual({ kind: 'moved', from: first })
  expect(await lab.forge.fastForward('master', head)).toEqual({ kind: 'already' })
  expect(lab.calls(MERGE)).toBe(1)
})

test('a pull request that has gone on is not merged for a commit that it had before', async () => {
  const later = await lab.push('page')

  expect(await lab.forge.fastForward('master', head)).toEqual({ kind: 'moved', from: first })
  expect(lab.calls(MERGE)).toBe(0)
  expect(await lab.forge.branchTip('master')).toBe(head)
  expect(await lab.forge.pullRequests?.get(1)).toMatchObject({ state: 'open', head: { commit: later } })
})

test('the newest labelling is found behind comments on lines, of which a page may be full and then comes out empty', async () => {
  const { world } = lab.server
  ;(world as { maxPage: number }).maxPage = 2
  world.label(REPO, 1, 'ship', 'ada')
  world.unlabel(REPO, 1, 'ship', 'ada')
  for (const _ of [1, 2]) world.review(REPO, 1, { by: 'ben', state: 'COMMENTED' })
  world.comment(REPO, 1, { by: 'ben', body: '1' })
  world.label(REPO, 1, 'ship', 'ben')

  expect(await lab.forge.pullRequests?.labeled(1, 'ship')).toMatchObject({ by: 'ben' })
  expect(await lab.forge.pullRequests?.labeled(1, 'other')).toBeUndefined()
})
