import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { LogKey } from '../../src/core/ids.ts'
import type { StepEnd } from '../../src/engine/types.ts'
import { LogMoved, type ServerPort } from '../../src/internal/types.ts'
import { createLogPump, type LogPump, type LogPumpDeps } from '../../src/logs/pump.ts'
import { createLogStore, type LogStore } from '../../src/logs/store.ts'

const KEY: LogKey = { run: 'acme/web#42', stage: 'test', job: 'unit', attempt: 1, step: 0 }
const SECRETS = { version: 'v1', values: [{ name: 'TOKEN', value: 'correct-horse-battery' }] }

let dir: string
let store: LogStore
let raw: Buffer

type LogPort = LogPumpDeps['server']

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'penstock-pump-'))
  store = createLogStore({ dir, clock: Date.now })
  raw = Buffer.alloc(0)
})
afterEach(async () => {
  await store.close()
  await rm(dir, { recursive: true })
})

function port(): LogPort {
  return {
    logState: (key) => store.state(key),
    appendLog: (key, append) => store.append(key, append),
    finishLog: async (key, end) => void (await store.finish(key, end)),
  }
}

function pumpOn(server: Partial<LogPort> = {}, more: Partial<LogPumpDeps> = {}): LogPump {
  return createLogPump({
    server: { ...port(), ...server },
    read: async (offset, limit) => Buffer.from(raw.subarray(offset, offset + limit)),
    log: KEY,
    secrets: SECRETS,
    ...more,
  })
}

function print(text: string): void {
  raw = Buffer.concat([raw, Buffer.from(text)])
}

function endOf(bytes: Buffer, more: Partial<StepEnd> = {}): StepEnd {
  return {
    exitCode: 0,
    timedOut: false,
    pipeBytes: bytes.length,
    fileBytes: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    ...more,
  }
}

async function stored(): Promise<string> {
  const all: Buffer[] = []
  for await (const chunk of store.read(KEY)) all.push(chunk)
  return Buffer.concat(all).toString()
}

describe('the log pump', () => {
  it('moves what is there, masked, and proves the whole', async () => {
    const pump = pumpOn()
    expect(await pump.pump()).toBe(false)
    print('one correct-horse-')
    expect(await pump.pump()).toBe(true)
    expect(await stored()).toBe('one ')
    print('battery two\nthree')

    const proof = await pump.finish(endOf(raw))

    expect(proof).toEqual({ kind: 'complete' })
    expect(await stored()).toBe('one *** two\nthree')
    expect(await store.state(KEY)).toMatchObject({ finished: true, raw: raw.length, lines: 2 })
  })

  it('lets a worker that takes over go on at any moment, each byte once and nothing of a secret', async () => {
    const text = Array.from({ length: 60 }, (_, i) => `${i} correct-horse-battery\n`).join('')
    const expected = text.replaceAll('correct-horse-battery', '***')
    for (let at = 0; at < text.length; at += 13) {
      print(text.slice(at, at + 13))
      // Each round is another worker, with nothing in memory.
      await pumpOn({}, { pieceBytes: 7 }).pump()
      expect(expected.startsWith((await stored()).replace(/\*{1,2}$/, ''))).toBe(true)
    }

    const proof = await pumpOn().finish(endOf(raw))

    expect(proof).toEqual({ kind: 'complete' })
    expect(await stored()).toBe(expected)
  })

  it('does not store twice what was stored although the answer was lost', async () => {
    let losses = 0
    const lossy: Partial<LogPort> = {
      appendLog: async (key, append) => {
        await store.append(key, append)
        if (losses++ % 2 === 0) throw new Error('socket hang up')
        return store.append(key, append)
      },
    }
    const pump = pumpOn(lossy, { pieceBytes: 10 })
    print('0123456789'.repeat(6))

    for (let tries = 0; tries < 20 && (await store.state(KEY)).raw < raw.length; tries++)
      await pump.pump().catch(() => false)
    const proof = await pump.finish(endOf(raw))

    expect(proof).toEqual({ kind: 'complete' })
    expect(await stored()).toBe('0123456789'.repeat(6))
    expect(losses).toBeGreaterThan(3)
  })

  it('has one append on its way, and reads and masks the next meanwhile', async () => {
    print('0123456789'.repeat(6))
    let onTheWay = 0
    let most = 0
    let readMeanwhile = 0
    const pump = pumpOn(
      {
        appendLog: async (key, append) => {
          most = Math.max(most, ++onTheWay)
          // Answered once everything else that can go on has gone on.
          await new Promise((resolve) => setImmediate(resolve))
          onTheWay--
          return store.append(key, append)
        },
      },
      {
        pieceBytes: 10,
        read: async (offset, limit) => {
          if (onTheWay > 0) readMeanwhile++
          return Buffer.from(raw.subarray(offset, offset + limit))
        },
      },
    )

    await pump.finish(endOf(raw))

    expect(most).toBe(1)
    expect(readMeanwhile).toBeGreaterThan(3)
    expect(await stored()).toBe('0123456789'.repeat(6))
  })

  it('goes on where another worker brought the log meanwhile', async () => {
    const one = pumpOn()
    const two = pumpOn()
    for (let i = 0; i < 40; i++) {
      print(`line ${i} correct-horse-battery\n`)
      await Promise.all([one.pump(), two.pump()])
    }

    const proofs = await Promise.all([one.finish(endOf(raw)), two.finish(endOf(raw))])

    expect(proofs).toEqual([{ kind: 'complete' }, { kind: 'complete' }])
    expect(await stored()).toBe(Array.from({ length: 40 }, (_, i) => `line ${i} ***\n`).join(''))
  })

  it('gives up on a server that refuses what follows its own end', async () => {
    print('one\n')
    const confused = pumpOn({
      appendLog: async () => {
        throw new LogMoved({ raw: 0, stored: 0, finished: false })
      },
    })

    await expect(confused.pump()).rejects.toThrow('refused an append that follows its end')
  })

  it('marks bytes that the disk did not take', async () => {
    print('one\ntwo')
    const end = endOf(raw, { pipeBytes: 7 + 1_234, writeError: 'no space left on device' })

    const proof = await pumpOn().finish(end)

    expect(proof).toEqual({ kind: 'gap', reason: 'no space left on device', missingBytes: 1_234 })
    expect(await stored()).toBe('one\ntwo\n[penstock] 1,234 bytes of this log were lost: no space left on device\n')
  })

  it.each([
    { what: 'was cut', change: (bytes: Buffer) => bytes.subarray(0, 3), reason: /shorter/ },
    {
      what: 'was changed',
      change: (bytes: Buffer) => Buffer.from(bytes).fill('x', 0, 1),
      reason: /not what the step wrote/,
    },
  ])('does not call a log complete whose file $what', async ({ change, reason }) => {
    print('one\ntwo\n')
    const end = endOf(raw)
    raw = change(raw)

    const proof = await pumpOn().finish(end)

    expect(proof).toMatchObject({ kind: 'gap', reason: expect.stringMatching(reason) })
    expect((await store.state(KEY)).end?.proof).toEqual(proof)
  })

  it('sees a change in what another worker had stored already', async () => {
    print('one\ntwo\n')
    await pumpOn().pump()
    const end = endOf(raw)
    raw = Buffer.from('ONE\ntwo\n')

    expect(await pumpOn().finish(end)).toMatchObject({ kind: 'gap' })
  })

  it('writes the line about a gap once, also if the worker dies before it closes the log', async () => {
    print('one\n')
    const dying = pumpOn({
      finishLog: async () => {
        throw new Error('killed')
      },
    })
    await expect(dying.finish(undefined, 'the container was lost')).rejects.toThrow('killed')

    const proof = await pumpOn().finish(undefined, 'the container was lost')

    expect(proof).toEqual({ kind: 'gap', reason: 'the container was lost' })
    expect(await stored()).toBe('one\n[penstock] this log may not be complete: the container was lost\n')
  })

  it('closes a log whose file was tampered with, and fails while one cannot be read for another reason', async () => {
    class Tampered extends Error {
      override readonly name = 'Tampered'
    }
    const reading = (err: Error) => ({
      read: async () => {
        throw err
      },
    })
    const end = endOf(Buffer.from('one\n'))

    await expect(pumpOn({}, reading(new Error('EIO'))).finish(end)).rejects.toThrow('EIO')
    await expect(pumpOn({}, reading(new Tampered('shrank'))).pump()).rejects.toThrow('shrank')
    const proof = await pumpOn({}, reading(new Tampered('the log shrank'))).finish(end)

    expect(proof).toEqual({ kind: 'gap', reason: 'the log shrank', missingBytes: 4 })
  })

  it('does not take a server that is away for a log that cannot be read', async () => {
    print('one\n')
    const away: Partial<ServerPort> = {
      appendLog: async () => {
        throw new Error('connect ECONNREFUSED')
      },
    }

    await expect(pumpOn(away).finish(undefined)).rejects.toThrow('ECONNREFUSED')
  })

  it('masks with the set of secrets that holds when it goes on', async () => {
    print('correct-horse-battery another-secret-value\n')
    await pumpOn().pump()
    print('correct-horse-battery another-secret-value\n')
    const secrets = { version: 'v2', values: [{ name: 'NEW', value: 'another-secret-value' }] }

    await pumpOn({}, { secrets }).finish(endOf(raw))

    expect(await stored()).toBe('*** another-secret-value\ncorrect-horse-battery ***\n')
    expect(await store.state(KEY)).toMatchObject({ secretsVersion: 'v2' })
  })

  it('proves a log complete whose store was full', async () => {
    await store.close()
    store = createLogStore({ dir, clock: Date.now, maxBytes: 100 })
    print('0123456789\n'.repeat(50))

    const proof = await pumpOn({}, { pieceBytes: 64 }).finish(endOf(raw))

    expect(proof).toEqual({ kind: 'complete' })
    expect(await store.state(KEY)).toMatchObject({ truncated: true, raw: 550 })
  })

  it('prints what 200,000 lines cost', async () => {
    raw = Buffer.from(Array.from({ length: 200_000 }, (_, i) => `${String(i).padStart(79, '.')}\n`).join(''))
    const end = endOf(raw)
    const begun = performance.now()

    const proof = await pumpOn().finish(end)

    console.log(`log pump: ${(performance.now() - begun).toFixed(0)} ms for 200,000 lines of 80 bytes`)
    expect(proof).toEqual({ kind: 'complete' })
    expect(await store.state(KEY)).toMatchObject({ stored: 16_000_000, lines: 200_000 })
  })
})
