import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openStore } from '../../src/store/open-store.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** Records deliveries for ever (or `count` of them), and prints each id once it is acknowledged. */
const RECORDER = `
import { openStore } from './src/store/open-store.js'
const [url, from, count] = process.argv.slice(2)
const store = await openStore({ url })
for (let i = Number(from); i < Number(from) + Number(count); i++) {
  const id = 'd' + i
  const change = { commit: i.toString(16).padStart(40, '1'), ref: 'refs/heads/' + id }
  const trigger = { kind: 'push', repo: 'acme/web', change, requestedBy: 'test' }
  await store.deliveries.record({ source: 'git', id, bodyDigest: 'b', event: 'push' }, trigger)
  process.stdout.write(id + '\\n')
  await new Promise(setImmediate)
}
await store.close()
`

// Inside the project, so that the compiled store finds its packages.
let program = ''
let data = ''

beforeAll(async () => {
  data = await mkdtemp(join(tmpdir(), 'penstock-crash-'))
  await mkdir(join(ROOT, 'node_modules/.cache'), { recursive: true })
  program = await mkdtemp(join(ROOT, 'node_modules/.cache/penstock-crash-'))
  await writeFile(join(program, 'package.json'), '{"type":"module"}')
  for (const folder of [
    'src/core',
    'src/core/pool',
    'src/core/report',
    'src/pattern',
    'src/pools',
    'src/store',
    'src/store/pools',
  ]) {
    for (const file of await readdir(join(ROOT, folder))) {
      if (!file.endsWith('.ts')) continue
      const source = await readFile(join(ROOT, folder, file), 'utf8')
      const compilerOptions = {
        module: ts.ModuleKind.ESNext,
        target: ts.ScriptTarget.ES2023,
        rewriteRelativeImportExtensions: true,
      }
      const { outputText } = ts.transpileModule(source, { compilerOptions })
      const out = join(program, folder, file.replace(/\.ts$/, '.js'))
      await mkdir(dirname(out), { recursive: true })
      await writeFile(out, outputText)
    }
  }
  await writeFile(join(program, 'recorder.js'), RECORDER)
})

afterAll(async () => {
  await rm(program, { recursive: true })
  await rm(data, { recursive: true })
})

type Recorder = ChildProcessByStdio<null, Readable, null>

function startRecorder(url: string, from: number, count: number): Recorder {
  const args = [join(program, 'recorder.js'), url, String(from), String(count)]
  return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
}

function exitOf(child: Recorder): Promise<number | null> {
  return new Promise((resolve) => child.once('exit', resolve))
}

test('a delivery that was acknowledged before a SIGKILL is a run, and one that was not can come again', async () => {
  const url = `sqlite:${join(data, 'killed.db')}`
  const acknowledged: string[] = []

  for (let kill = 0; kill < 8; kill++) {
    const child = startRecorder(url, acknowledged.length, 1_000_000)
    const ended = exitOf(child)
    const enough = acknowledged.length + 1 + kill * 3
    for await (const id of createInterface({ input: child.stdout })) {
      acknowledged.push(id)
      if (acknowledged.length === enough) child.kill('SIGKILL')
    }
    await ended
  }

  const store = await openStore({ url })
  const runs = [...(await store.runs.list({ limit: 100_000 }))].reverse()
  // The one under way when the process was killed may be there without its acknowledgement.
  expect(runs.length - acknowledged.length).toBeGreaterThanOrEqual(0)
  expect(runs.length - acknowledged.length).toBeLessThanOrEqual(1)
  expect(runs.map((run) => run.number)).toEqual(runs.map((_, i) => i + 1))
  expect(new Set(runs.map((run) => run.change.ref)).size).toBe(runs.length)
  for (const id of acknowledged) expect(runs.some((run) => run.change.ref === `refs/heads/${id}`)).toBe(true)
  const starts = await store.outbox.pending()
  expect(starts.map((row) => row.message)).toEqual(
    runs.map(({ id }) => ({ kind: 'start', run: id, try: 1, retry: false })),
  )
  for (const { id } of runs.slice(-5)) expect(await store.events.of(id)).toHaveLength(1)
  await store.close()
})

test('several processes open a new file at once and record the same deliveries as one run each', async () => {
  const url = `sqlite:${join(data, 'shared.db')}`

  const children = [1, 2, 3, 4].map(() => startRecorder(url, 0, 40))
  for (const child of children) child.stdout.resume()
  const codes = await Promise.all(children.map(exitOf))

  const store = await openStore({ url })
  const runs = await store.runs.list({ limit: 1000 })
  await store.close()
  expect(codes).toEqual([0, 0, 0, 0])
  expect(runs.map((run) => run.number)).toEqual(Array.from({ length: 40 }, (_, i) => 40 - i))
  expect(new Set(runs.map((run) => run.change.ref)).size).toBe(40)
})
