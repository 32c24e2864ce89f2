import { execFile, spawn } from 'node:child_process'
import { chown, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import pg from 'pg'

const run = promisify(execFile)

const INSTALLED = '/usr/lib/postgresql'
const OWNER = 'penstock'
const START_LIMIT_MS = 30_000

export interface Postgres {
  /** A new, empty database: its url. */
  createDatabase(): Promise<string>
  stop(): Promise<void>
}

/**
 * A PostgreSQL server of its own in a temporary directory, reached by a unix socket; or the sentence that says why
 * there is none. On Debian, as root, the distribution's package is installed when it is missing. In CI there has to be
 * one.
 */
export async function startPostgres(): Promise<Postgres | string> {
  const bin = (await findBinaries()) ?? (await install())
  if (bin === undefined) {
    const why = 'no PostgreSQL server was found under /usr/lib/postgresql, and it could not be installed by apt-get'
    if (process.env.CI === 'true') throw new Error(why)
    return why
  }
  return startCluster(bin)
}

async function findBinaries(): Promise<string | undefined> {
  const versions = await readdir(INSTALLED).catch((): string[] => [])
  for (const version of versions.sort((a, b) => Number(b) - Number(a))) {
    const bin = join(INSTALLED, version, 'bin')
    const files = await readdir(bin).catch((): string[] => [])
    if (files.includes('initdb') && files.includes('postgres')) return bin
  }
  return undefined
}

async function install(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const aptGet = (...args: string[]) => run('apt-get', args, { env, maxBuffer: 64 * 1024 * 1024 })
  try {
    await aptGet('update', '-q')
    await aptGet('install', '-q', '-y', '--no-install-recommends', 'postgresql')
  } catch (err) {
    console.warn('apt-get could not install postgresql', err)
  }
  return findBinaries()
}

async function startCluster(bin: string): Promise<Postgres> {
  const dir = await mkdtemp(join(tmpdir(), 'penstock-pg-'))
  const data = join(dir, 'data')
  const user = await unprivileged()
  if ('uid' in user && user.uid !== undefined) await chown(dir, user.uid, user.gid)

  const initArgs = ['-D', data, '-U', OWNER, '--auth=trust', '--encoding=UTF8', '--locale=C', '--no-sync']
  await run(join(bin, 'initdb'), initArgs, { ...user, cwd: dir })
  // The data is thrown away: no waiting for the disk.
  const serverArgs = ['-D', data, '-k', dir, '-c', 'listen_addresses=', '-c', 'fsync=off', '-c', 'max_connections=200']
  const server = spawn(join(bin, 'postgres'), serverArgs, { ...user, cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  server.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-4000)
  })
  const ended = new Promise<void>((resolve) => server.once('exit', () => resolve()))
  const killServer = () => server.kill('SIGKILL')
  process.once('exit', killServer)

  const url = (database: string) => `postgres://${OWNER}@localhost/${database}?host=${encodeURIComponent(dir)}`
  const limit = Date.now() + START_LIMIT_MS
  for (;;) {
    const client = new pg.Client({ connectionString: url('postgres') })
    try {
      await client.connect()
      await client.end()
      break
    } catch (err) {
      if (server.exitCode !== null || Date.now() > limit)
        throw new Error(`PostgreSQL did not start: ${said}`, { cause: err })
    }
    await sleep(20)
  }

  let databases = 0
  return {
    async createDatabase() {
      databases += 1
      const name = `penstock_${databases}`
      const client = new pg.Client({ connectionString: url('postgres') })
      await client.connect()
      try {
        await client.query(`create database ${name}`)
      } finally {
        await client.end()
      }
      return url(name)
    },
    async stop() {
      process.removeListener('exit', killServer)
      server.kill('SIGINT')
      await ended
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** PostgreSQL refuses to run as root: the package's own user then. */
async function unprivileged(): Promise<{ readonly uid: number; readonly gid: number } | Record<string, never>> {
  if (process.getuid?.() !== 0) return {}
  const id = async (flag: string) => Number((await run('id', [flag, 'postgres'])).stdout)
  return { uid: await id('-u'), gid: await id('-g') }
}
