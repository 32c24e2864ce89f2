import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createLogStore, type LogStore } from '../../src/logs/store.ts'
import { tailOf } from '../../src/logs/tail.ts'

const KEY = { run: 'acme/web#1', stage: 'test', job: 'unit', attempt: 1, step: 0 }

let dir = ''
let logs: LogStore

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'penstock-tail-'))
  logs = createLogStore({ dir, clock: () => 0 })
})
afterEach(async () => {
  await logs.close()
  await rm(dir, { recursive: true })
})

async function write(text: string): Promise<void> {
  const bytes = Buffer.from(text)
  const { stored } = await logs.state(KEY)
  await logs.append(KEY, { at: stored, bytes, rawEnd: stored + bytes.length, secretsVersion: '' })
}

test.each([
  ['the last lines', 'a\nb\nc\n', ['b', 'c']],
  ['a last line without its end', 'a\nb\nc', ['b', 'c']],
  ['all of a short log', 'a\n', ['a']],
  ['nothing of an empty one', '', []],
])('of a log %s are read', async (_, text, expected) => {
  if (text !== '') await write(text)

  expect(await tailOf(dir, KEY, 2)).toEqual(expected)
})

test('of a long log only whole lines are read', async () => {
  await write(`${'x'.repeat(40_000)}\nlast\n`)

  expect(await tailOf(dir, KEY, 2)).toEqual(['last'])
})
