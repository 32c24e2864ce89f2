import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import { expect } from 'vitest'
import { LABELS } from '../../src/core/ids.ts'
import { instanceOf } from '../../src/embedded/files.ts'

/** As `npm run demo` and `npm run down` run them, once packages are there and the code is compiled. */
const DEMO = resolve('dist/src/embedded/demo.js')
const DOWN = resolve('dist/src/embedded/main-down.js')

/** What it prints with `--json`. */
export interface DemoReport {
  readonly outcome: string
  readonly commit: string
  readonly production: { readonly commit?: string }
  readonly runs: readonly {
    readonly number: number
    readonly repo: string
    readonly ref: string
    readonly outcome: string
    readonly logLines: number
    readonly attempts: readonly { readonly job?: string; readonly step?: string; readonly outcome?: string }[]
  }[]
}

/** The demo with a data directory of its own. */
export interface Demo<Report extends DemoReport> {
  readonly dataDir: string
  /** To its end, which must be a good one. */
  run(): Promise<Report>
  /** SIGKILL as soon as it says this. */
  killAt(text: string): Promise<void>
  down(): Promise<void>
  /** Nothing of it is left. */
  expectGone(): Promise<void>
  dispose(): Promise<void>
}

export function createDemo<Report extends DemoReport>(...flags: readonly string[]): Demo<Report> {
  const root = mkdtempSync(join(tmpdir(), 'penstock-demo-'))
  const dataDir = join(root, 'data')
  const instance = instanceOf(dataDir)
  const env = { ...process.env, PENSTOCK_DATA: dataDir }
  const args = [DEMO, '--yes', '--json', ...flags]
  const down = (reject: boolean) => execa(process.execPath, [DOWN], { env, reject })

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

  return {
    dataDir,
    async run() {
      const { stdout } = await execa(process.execPath, args, { env })
      return JSON.parse(stdout) as Report
    },
    async killAt(text) {
      const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'pipe'] })
      let said = ''
      await new Promise<void>((done, fail) => {
        child.once('exit', (code) => fail(new Error(`the demo ended (${code}) before it could be killed:\n${said}`)))
        child.stderr.on('data', (chunk: Buffer) => {
          said += chunk.toString()
          if (said.includes(text)) done()
        })
      })
      child.removeAllListeners('exit')
      child.kill('SIGKILL')
    },
    down: async () => void (await down(true)),
    async expectGone() {
      expect(existsSync(dataDir)).toBe(false)
      const { stdout } = await execa('ps', ['-eo', 'args'])
      expect(stdout).not.toContain(dataDir)
      // The engine itself is gone where Penstock had started it.
      const answers = await execa('docker', ['version'], { reject: false })
      if (answers.exitCode === 0) expect(await inDocker()).toEqual([])
    },
    async dispose() {
      await down(false)
      rmSync(root, { recursive: true, force: true })
    },
  }
}
