import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { identify, isAlive, processesWith, stopProcess } from '../../src/embedded/process.ts'

function sleeper(env: NodeJS.ProcessEnv = {}) {
  const child = spawn('sleep', ['60'], { stdio: 'ignore', env: { ...process.env, ...env } })
  if (child.pid === undefined) throw new Error('sleep did not start')
  return { child, pid: child.pid }
}

describe('processes told apart by pid and start time', () => {
  it('stops the process that was recorded', async () => {
    const { child, pid } = sleeper()
    const id = await identify(pid)

    const stopped = id !== undefined && (await stopProcess(id, 5_000))

    expect(stopped).toBe(true)
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    expect(child.signalCode).toBe('SIGTERM')
  })

  it('leaves a process alone that merely inherited the pid', async () => {
    const { child, pid } = sleeper()

    const stopped = await stopProcess({ pid, startedAt: 'another boot/1' }, 100)

    expect(stopped).toBe(false)
    expect(await identify(pid)).toBeDefined()
    child.kill('SIGKILL')
    await once(child, 'exit')
  })

  it('kills a process that ignores SIGTERM after the grace', async () => {
    const child = spawn('sh', ['-c', 'trap "" TERM; echo ready; while :; do sleep 1; done'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    await once(child.stdout, 'data')
    const id = await identify(child.pid ?? 0)
    if (id === undefined) throw new Error('the shell did not start')

    await stopProcess(id, 200)

    expect(await isAlive(id)).toBe(false)
  })

  it('finds a process by a mark in its environment, and only by the exact value', async () => {
    const mark = `mark-${process.pid}`
    const { child, pid } = sleeper({ PENSTOCK_TEST_MARK: mark })

    const found = await processesWith('PENSTOCK_TEST_MARK', mark)
    const others = await processesWith('PENSTOCK_TEST_MARK', mark.slice(0, -1))

    expect(found.map((one) => one.pid)).toEqual([pid])
    expect(others).toEqual([])
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
})
