import { spawn } from 'node:child_process'
import { appendFile, mkdtemp, open as openFile, readdir, readFile, rm, stat, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { LogKey } from '../../src/core/ids.ts'
import { LogMoved } from '../../src/internal/types.ts'
import { logPath, safeName } from '../../src/logs/files.ts'
import { createLogStore, type LogStore } from '../../src/logs/store.ts'

const KEY: LogKey = { run: 'acme/web#42', stage: 'test', job: 'unit', attempt: 1, step: 0 }
const T0 = Date.UTC(2026, 0, 2, 3, 4, 5, 678)

let dir: string
let now: number
let store: LogStore

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'penstock-logs-'))
  now = T0
  store = open()
})
afterEach(async () => {
  await store.close()
  await rm(dir, { recursive: true })
})

function open(maxBytes?: number): LogStore {
  return createLogStore({ dir, clock: () => now, ...(maxBytes !== undefined && { maxBytes }) })
}

async function write(text: string, key = KEY): Promise<void> {
  const { raw, stored } = await store.state(key)
  const bytes = Buffer.from(text)
  await store.append(key, { at: stored, rawEnd: raw + bytes.length, secretsVersion: 'v1', bytes })
}

async function textOf(chunks: AsyncIterable<Buffer>): Promise<string> {
  const all: Buffer[] = []
  for await (const chunk of chunks) all.push(chunk)
  return Buffer.concat(all).toString()
}

async function movedBy(work: Promise<unknown>): Promise<LogMoved> {
  const err = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!(err instanceof LogMoved)) throw new Error('expected LogMoved', { cause: err })
  return err
}

describe('the log store', () => {
  it('gives back bytes and cursor as they were appended, also after it was opened anew', async () => {
    await store.append(KEY, { at: 0, rawEnd: 20, secretsVersion: 'v1', bytes: Buffer.from('one\n') })
    await store.append(KEY, { at: 4, rawEnd: 31, secretsVersion: 'x'.repeat(64), bytes: Buffer.from('two\nthr') })
    await store.close()
    store = open()

    expect(await store.state(KEY)).toEqual({
      raw: 31,
      stored: 11,
      lines: 3,
      truncated: false,
      finished: false,
      secretsVersion: 'x'.repeat(64),
      changedAt: T0,
    })
    expect(await textOf(store.read(KEY))).toBe('one\ntwo\nthr')
    expect(await textOf(store.read(KEY, { start: 2, end: 5 }))).toBe('e\nt')
    expect(await textOf(store.read(KEY, { start: 900 }))).toBe('')
  })

  it('counts lines whatever they hold and wherever the bytes lie in memory', async () => {
    const text = Buffer.from('\n\x0b\n\x8a\n\n\n\n\n\x00\n\xff\n\x09\n\x1a\n', 'latin1')
    const room = Buffer.alloc(64)
    let at = 0
    let lines = 0
    for (let start = 0; start < 4; start++) {
      for (let end = 0; end <= text.length; end++) {
        text.copy(room, start)
        const bytes = room.subarray(start, start + end)
        lines += bytes.toString('latin1').split('\n').length - 1
        at = (await store.append(KEY, { at, rawEnd: at + end, secretsVersion: 'v1', bytes })).stored
      }
    }

    expect(await store.state(KEY)).toMatchObject({ lines, stored: at })
  })

  it('refuses an append that does not follow its end, and says where it stands', async () => {
    const append = { at: 0, rawEnd: 4, secretsVersion: 'v1', bytes: Buffer.from('one\n') }
    await store.append(KEY, append)

    const moved = await movedBy(store.append(KEY, append))

    expect(moved.cursor).toMatchObject({ raw: 4, stored: 4, secretsVersion: 'v1', finished: false })
    expect(await textOf(store.read(KEY))).toBe('one\n')
  })

  it('takes one of two appends to the same place when they come at once', async () => {
    const append = (text: string) =>
      store.append(KEY, { at: 0, rawEnd: 4, secretsVersion: 'v1', bytes: Buffer.from(text) })

    const results = await Promise.allSettled([append('one\n'), append('two\n'), append('six\n')])

    expect(results.map((result) => result.status)).toEqual(['fulfilled', 'rejected', 'rejected'])
    expect(await textOf(store.read(KEY))).toBe('one\n')
  })

  it.each(['data', 'half a record', 'a record with a wrong checksum'])(
    'cuts off %s that was not committed',
    async (what) => {
      await write('one\n')
      await store.close()
      const path = logPath(dir, KEY)
      await appendFile(`${path}.log`, 'torn in the middle')
      if (what === 'half a record') await appendFile(`${path}.idx`, (await readFile(`${path}.idx`)).subarray(0, 20))
      if (what.endsWith('checksum')) {
        const record = await readFile(`${path}.idx`)
        record[16] = 8
        await appendFile(`${path}.idx`, record)
      }

      store = open()

      expect(await store.state(KEY)).toMatchObject({ raw: 4, stored: 4 })
      await write('two\n')
      expect(await textOf(store.read(KEY))).toBe('one\ntwo\n')
      expect((await stat(`${path}.log`)).size).toBe(8)
    },
  )

  it('goes back to the last record whose bytes are there, and does not call the log complete any more', async () => {
    await write('one\n')
    await write('two\n')
    await store.finish(KEY, { rawBytes: 8, proof: { kind: 'complete' } })
    await store.close()
    await truncate(`${logPath(dir, KEY)}.log`, 6)

    store = open()

    const state = await store.state(KEY)
    expect(state).toMatchObject({ stored: 4, finished: true })
    expect(state.end?.proof).toMatchObject({ kind: 'gap', missingBytes: 4 })
  })

  it('does not come back to a record that it gave up, once newer bytes are there', async () => {
    for (const text of ['one\n', 'two\n', 'three\n']) await write(text)
    await store.close()
    await truncate(`${logPath(dir, KEY)}.log`, 4)
    store = open()
    await write('something longer than both\n')
    await store.close()

    store = open()

    expect(await textOf(store.read(KEY))).toBe('one\nsomething longer than both\n')
  })

  it('has after SIGKILL every append that was answered, each once, and takes the next', async () => {
    const writer = `
      import { createLogStore } from ${JSON.stringify(new URL('../../src/logs/store.ts', import.meta.url).pathname)}
      const store = createLogStore({ dir: process.argv[2], clock: Date.now })
      const key = ${JSON.stringify(KEY)}
      let { raw, stored } = await store.state(key)
      for (let i = stored / 9; ; i++) {
        const bytes = Buffer.from(String(i).padStart(8, '0') + '\\n')
        const cursor = await store.append(key, { at: stored, rawEnd: raw + 9, secretsVersion: 'v1', bytes })
        stored = cursor.stored; raw = cursor.raw
        process.stdout.write(i + '\\n')
      }`
    const { build } = await import('vite')
    const entry = join(dir, 'writer.mts')
    await appendFile(entry, writer)
    await build({
      configFile: false,
      logLevel: 'silent',
      build: {
        ssr: entry,
        outDir: join(dir, 'out'),
        target: 'node20',
        rollupOptions: { output: { entryFileNames: 'writer.mjs' } },
      },
    })
    const data = join(dir, 'data')
    let answered = -1
    for (let round = 0; round < 8; round++) {
      const child = spawn(process.execPath, [join(dir, 'out', 'writer.mjs'), data], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const exited = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)))
      let seen = 0
      let rest = ''
      for await (const chunk of child.stdout) {
        const lines = (rest + String(chunk)).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) answered = Number(line)
        seen += lines.length
        if (seen > 50 * (round + 1)) child.kill('SIGKILL')
      }
      expect(await exited).toBe('SIGKILL')
      const again = createLogStore({ dir: data, clock: () => now })
      const text = await textOf(again.read(KEY))
      await again.close()
      const lines = text.split('\n').slice(0, -1)
      expect(lines).toEqual(lines.map((_, i) => String(i).padStart(8, '0')))
      expect(lines.length).toBeGreaterThan(answered)
    }
  }, 60_000)

  it('keeps the first end, and takes nothing after it', async () => {
    await write('one\n')
    const first = await store.finish(KEY, { rawBytes: 4, proof: { kind: 'complete' } })

    const second = await store.finish(KEY, { rawBytes: 4, proof: { kind: 'gap', reason: 'no' } })
    const moved = await movedBy(store.append(KEY, { at: 4, rawEnd: 5, secretsVersion: 'v1', bytes: Buffer.from('x') }))

    expect(second).toEqual(first)
    expect(moved.cursor.finished).toBe(true)
  })

  it('says in the log that it was truncated, and goes on counting raw bytes', async () => {
    await store.close()
    store = open(10)
    await write('12345\n')
    await write('67\n8901234\n')
    await write('more\n')

    const state = await store.state(KEY)

    expect(state).toMatchObject({ truncated: true, raw: 22 })
    expect(await textOf(store.read(KEY))).toBe(
      '12345\n67\n[penstock] log truncated: the step wrote more than 10 bytes; the rest is not stored\n',
    )
  })

  it('cuts an endless line where the room ends', async () => {
    await store.close()
    store = open(10)
    await write('12345')
    await write('6789012345')

    expect(await textOf(store.read(KEY))).toMatch(/^1234567890\n\[penstock\] log truncated/)
  })

  it('finds the line that was completed at a time or later', async () => {
    await write('one\ntw')
    now += 1_000
    await write('o\nthree\n')
    now += 1_000
    await write('four\n')

    expect(await store.sinceOffset(KEY, T0)).toBe(0)
    expect(await store.sinceOffset(KEY, T0 + 1)).toBe(4)
    expect(await store.sinceOffset(KEY, T0 + 1_001)).toBe(14)
    expect(await store.sinceOffset(KEY, T0 + 2_001)).toBe(19)
  })

  it('puts before each line the time at which its end was stored', async () => {
    await write('one\ntw')
    now += 1_000
    await write('o\n\nfo')

    expect(await textOf(store.readWithTimestamps(KEY))).toBe(
      '2026-01-02T03:04:05.678Z one\n2026-01-02T03:04:06.678Z two\n2026-01-02T03:04:06.678Z \n2026-01-02T03:04:06.678Z fo',
    )
  })

  it('has the time of a line of many megabytes before its first byte', async () => {
    await write('x'.repeat(3_000_000))
    now += 1_000
    await write('\nend\n')

    const text = await textOf(store.readWithTimestamps(KEY))

    expect(text.length).toBe(3_000_005 + 2 * 25)
    expect(text.slice(0, 27)).toBe('2026-01-02T03:04:06.678Z xx')
  })

  it('gives a follower every byte once, from its offset to the end', async () => {
    await write('one\n')
    const following = textOf(store.follow(KEY, 2, new AbortController().signal))
    for (let i = 0; i < 50; i++) await write(`${i}\n`)
    await store.finish(KEY, { rawBytes: 0, proof: { kind: 'complete' } })

    expect(await following).toBe(`e\n${Array.from({ length: 50 }, (_, i) => `${i}\n`).join('')}`)
  })

  it('lets a follower go on abort and on removal, also one that waits for a log nobody began', async () => {
    const abort = new AbortController()
    const aborted = textOf(store.follow(KEY, 0, abort.signal))
    const orphan = textOf(store.follow({ ...KEY, step: 7 }, 0, new AbortController().signal))
    await write('one\n')
    abort.abort()
    await store.remove(KEY.run)

    expect(await orphan).toBe('')
    expect(['', 'one\n']).toContain(await aborted)
    expect(await readdir(dir)).toEqual([])
    expect(await store.state(KEY)).toMatchObject({ raw: 0, stored: 0 })
  })

  it('keeps no file open for logs that nobody writes', async () => {
    const before = (await readdir('/proc/self/fd')).length
    for (let batch = 0; batch < 6; batch++) {
      await Promise.all(
        Array.from({ length: 500 }, (_, i) => write('x\n', { ...KEY, run: `acme/web#${batch + 1}`, step: i })),
      )
    }

    const held = (await readdir('/proc/self/fd')).length - before

    expect(held).toBeLessThanOrEqual(2 * 64 + 8)
    expect(await store.sizeOf({ ...KEY, run: 'acme/web#1', step: 3 })).toBe(2)
  }, 120_000)

  it('makes names that stay in their directory and do not meet', () => {
    const hostile = [
      '..',
      '.',
      '',
      '/',
      '../../etc',
      'a/b',
      'a%2Fb',
      'a\0b',
      'é',
      'x'.repeat(500),
      `${'x'.repeat(500)}y`,
      '~',
    ]
    const names = hostile.map(safeName)

    for (const name of names) expect(name).toMatch(/^(?!\.)[A-Za-z0-9_.%-]{1,80}$/)
    expect(new Set(names).size).toBe(hostile.length)
    expect(() => logPath(dir, { ...KEY, attempt: -1 })).toThrow(RangeError)
  })

  it('prints what an append of 256 KiB costs', async () => {
    const bytes = Buffer.alloc(256 * 1024, '0123456789\n')
    const begun = performance.now()
    let at = 0
    for (let i = 0; i < 64; i++)
      at = (await store.append(KEY, { at, rawEnd: at + bytes.length, secretsVersion: 'v1', bytes })).stored
    const appends = performance.now() - begun
    const plain = await openFile(join(dir, 'plain'), 'w')
    const floorBegun = performance.now()
    for (let i = 0; i < 64; i++) await plain.write(bytes)
    const writes = performance.now() - floorBegun
    await plain.close()
    console.log(
      `log store: an append of 256 KiB takes ${(appends / 64).toFixed(2)} ms, a write ${(writes / 64).toFixed(2)} ms`,
    )

    expect(await store.sizeOf(KEY)).toBe(64 * bytes.length)
  })
})
