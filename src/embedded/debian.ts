import { execFile } from 'node:child_process'
import { accessSync, constants, existsSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import type { Say } from './files.ts'

const run = promisify(execFile)

/** Where programs for administrators are, which the PATH of many sessions leaves out. */
const SYSTEM_PATH = ['/usr/local/sbin', '/usr/sbin', '/sbin']

/** The absolute path of a program, or undefined. */
export function findProgram(name: string, searchPath: string): string | undefined {
  for (const folder of [...searchPath.split(path.delimiter), ...SYSTEM_PATH]) {
    if (folder === '') continue
    const candidate = path.join(folder, name)
    try {
      accessSync(candidate, constants.X_OK)
      return candidate
    } catch {}
  }
  return undefined
}

/** Whether packages can be installed here without asking anybody. */
export function canInstall(): boolean {
  return existsSync('/etc/debian_version') && existsSync('/usr/bin/apt-get') && process.getuid?.() === 0
}

const INSTALL_LIMIT_MS = 10 * 60_000
const APT = ['-qq', '-o', 'DPkg::Lock::Timeout=180', '-o', 'Acquire::Retries=3', '-o', 'Dpkg::Use-Pty=0']

let listsAreFresh = false

/** Installs packages by apt-get, without their services being started, waiting for a lock held by another. */
export async function installPackages(packages: readonly string[], why: string, say: Say): Promise<void> {
  say(`installing ${packages.join(', ')} (${why})`)
  const env = {
    ...process.env,
    DEBIAN_FRONTEND: 'noninteractive',
    // Where no systemd runs, this keeps init scripts from starting what we start, and remember, ourselves.
    ...(existsSync('/run/systemd/system') ? {} : { RUNLEVEL: '1' }),
  }
  const apt = (args: readonly string[]) =>
    run('apt-get', [...APT, ...args], { env, timeout: INSTALL_LIMIT_MS, maxBuffer: 64 * 1024 * 1024 })
  try {
    if (!listsAreFresh) {
      await apt(['update'])
      listsAreFresh = true
    }
    await apt(['install', '--yes', '--no-install-recommends', ...packages])
  } catch (err) {
    throw new Error(`apt-get could not install ${packages.join(', ')}: ${lastLines(err)}`, { cause: err })
  }
}

function lastLines(err: unknown): string {
  const output = err instanceof Error && 'stderr' in err && typeof err.stderr === 'string' ? err.stderr : ''
  return output.trim().split('\n').slice(-3).join(' ') || String(err)
}
