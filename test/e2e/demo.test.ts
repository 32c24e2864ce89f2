import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { LABELS } from '../../src/core/ids.ts'
import { instanceOf } from '../../src/embedded/files.ts'

/** As `npm run demo` and `npm run down` run them, once packages are there and the code is compiled. */
const DEMO = resolve('dist/src/embedded/demo.js')
const DOWN = resolve('dist/src/embedded/main-down.js')

let root: string
let dataDir: string
let instance: string
const env = () => ({ ...process.env, PENSTOCK_DATA: dataDir })

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'penstock-demo-'))
  dataDir = join(root, 'data')
  instance = instanceOf(dataDir)
})
afterAll(async () => {
  await execa(process.execPath, [DOWN], { env: env(), reject: false })
  rmSync(root, { recursive: true, force: true })
}, 120_000)

interface Report {
  readonly outcome: string
  readonly commit: string
  readonly production: { readonly commit?: string }
  readonly runs: readonly { readonly number: number; readonly outcome: string; readonly logLines: number }[]
}

async function demo(): Promise<Report> {
  const { stdout } = await execa(process.execPath, [DEMO, '--yes', '--json'], { env: env() })
  return JSON.parse(stdout) as Report
}

async function inDocker(): Promise<string[]> {
  const filter = `label=${LABELS.instance}=${instance}`
  const kinds = [
    ['ps', '-a'],
    ['service', 'ls'],
    ['volume', 'ls'],
    ['network', 'ls'],
    ['secret', 'ls'],
    ['image', 'ls'],
  ]
  const found = await Promise.all(kinds.map((kind) => execa('docker', [...kind, '-q', '--filter', filter])))
  return found.flatMap((one) => one.stdout.split('\n').filter((line) => line !== ''))
}

describe('the demo', () => {
  it('takes a commit to production and says so in one JSON object', async () => {
    const report = await demo()

    expect(report).toMatchObject({ outcome: 'succeeded', production: { commit: report.commit } })
    expect(report.runs.map((run) => run.outcome)).toEqual(['succeeded', 'succeeded'])
    expect(report.runs[0]?.logLines).toBeGreaterThan(10)
  }, 400_000)

  it('works again after it was killed in the middle', async () => {
    const child = spawn(process.execPath, [DEMO, '--yes', '--json'], {
      env: env(),
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    await new Promise<void>((done, fail) => {
      child.once('exit', (code) => fail(new Error(`the demo ended (${code}) before it could be killed`)))
      child.stderr.on('data', (chunk: Buffer) => {
        if (chunk.toString().includes('on node')) done()
      })
    })
    child.removeAllListeners('exit')
    child.kill('SIGKILL')

    const report = await demo()

    expect(report).toMatchObject({ outcome: 'succeeded', production: { commit: report.commit } })
  }, 600_000)

  it('is gone without a trace after `down`, which may be called twice', async () => {
    await execa(process.execPath, [DOWN], { env: env() })
    await execa(process.execPath, [DOWN], { env: env() })

    expect(existsSync(dataDir)).toBe(false)
    const { stdout } = await execa('ps', ['-eo', 'args'])
    expect(stdout).not.toContain(dataDir)
    // The engine itself is gone where Penstock had started it.
    const answers = await execa('docker', ['version'], { reject: false })
    if (answers.exitCode === 0) expect(await inDocker()).toEqual([])
  }, 180_000)
})
