import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { identify, isAlive } from '../../src/embedded/process.ts'
import { type ProcessSpec, processRecords, stopLeftovers, superviseAll } from '../../src/embedded/supervisor.ts'

let dataDir = ''
const said: string[] = []
const say = (sentence: string) => {
  said.push(sentence)
}

beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), 'penstock-supervisor-'))
  said.length = 0
})

afterEach(async () => {
  await stopLeftovers(dataDir, say)
  rmSync(dataDir, { recursive: true, force: true })
})

const READY = 'echo ready > "$PENSTOCK_READY_FILE"'

function shell(name: string, script: string, phase = 0): ProcessSpec {
  return { name, command: 'sh', args: ['-c', script], env: process.env, phase, stopGraceMs: 5_000 }
}

describe('the supervisor', () => {
  it('starts a process again that was killed', async () => {
    const supervisor = await superviseAll({ dataDir, specs: [shell('one', `${READY}; sleep 60`)], say })
    const [before] = supervisor.running()
    if (before === undefined) throw new Error('nothing runs')

    process.kill(before.pid, 'SIGKILL')

    await vi.waitFor(() => expect(supervisor.running()[0]?.pid).not.toBe(before.pid), { timeout: 5_000 })
    expect(said.join('\n')).toContain('one ended (SIGKILL)')
    await supervisor.stop()
  })

  it('starts a later phase when the earlier one is ready, and stops it first', async () => {
    const story = path.join(dataDir, 'story')
    const tell = (word: string) => `echo ${word} >> ${story}`
    const script = (name: string) =>
      `trap '${tell(`${name}-stops`)}; exit 0' TERM; sleep 0.2; ${tell(`${name}-ready`)}; ${READY}; while :; do sleep 0.05; done`

    const supervisor = await superviseAll({
      dataDir,
      specs: [shell('late', script('late'), 1), shell('early', script('early'))],
      say,
    })
    await supervisor.stop()

    expect(readFileSync(story, 'utf8').trim().split('\n')).toEqual([
      'early-ready',
      'late-ready',
      'late-stops',
      'early-stops',
    ])
  })

  it('says the last lines of a process that ends before it is ready, and leaves nothing running', async () => {
    const specs = [shell('fine', `${READY}; sleep 60`), shell('broken', 'echo no such key; exit 3', 1)]

    const started = superviseAll({ dataDir, specs, say })

    await expect(started).rejects.toThrow(/broken ended \(exit code 3\)[\s\S]*no such key/)
    expect(existsSync(processRecords(dataDir))).toBe(false)
    const again = await superviseAll({ dataDir, specs: [shell('fine', `${READY}; sleep 60`)], say })
    await again.stop()
  })

  it('refuses a data directory that another supervisor holds, and takes over the lock of a dead one', async () => {
    writeFileSync(
      path.join(dataDir, 'supervisor.lock'),
      JSON.stringify({ pid: process.pid, startedAt: 'another boot/1' }),
    )
    const supervisor = await superviseAll({ dataDir, specs: [shell('one', `${READY}; sleep 60`)], say })

    await expect(superviseAll({ dataDir, specs: [], say })).rejects.toThrow(/Penstock runs already/)

    await supervisor.stop()
  })

  it.each([
    ['by its record', false],
    ['without a record', true],
  ])('ends what a killed predecessor left running, %s', async (_how, forget) => {
    const predecessor = spawnSupervisor(dataDir)
    await once(predecessor, 'message')
    const [left] = JSON.parse(readFileSync(processRecords(dataDir), 'utf8')) as { pid: number; startedAt: string }[]
    if (left === undefined) throw new Error('nothing was recorded')
    predecessor.kill('SIGKILL')
    await once(predecessor, 'exit')
    expect(await isAlive(left)).toBe(true)
    if (forget) rmSync(processRecords(dataDir))

    const supervisor = await superviseAll({ dataDir, specs: [shell('one', `${READY}; sleep 60`)], say })

    expect(await identify(left.pid)).toBeUndefined()
    expect(supervisor.running()).toHaveLength(1)
    await supervisor.stop()
  })
})

/** A supervisor in a process of its own, which can be killed. It uses the compiled modules of the last build. */
function spawnSupervisor(folder: string): ChildProcess {
  const module = path.resolve('dist/src/embedded/supervisor.js')
  const program = `
    import { superviseAll } from ${JSON.stringify(module)}
    await superviseAll({
      dataDir: ${JSON.stringify(folder)},
      specs: [{ name: 'left', command: 'sh', args: ['-c', ${JSON.stringify(`${READY}; sleep 60`)}], env: process.env, phase: 0, stopGraceMs: 1000 }],
      say: () => {},
    })
    process.send('up')
  `
  return spawn(process.execPath, ['--input-type=module', '--eval', program], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
}
