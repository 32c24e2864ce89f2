import { execa } from 'execa'

/** git said no, or was not to be had. `stderr` is git's own text with credentials taken out. */
export class GitFailed extends Error {
  override readonly name = 'GitFailed'
  readonly exitCode: number | undefined
  constructor(message: string, exitCode: number | undefined, cause: unknown) {
    super(message, { cause })
    this.exitCode = exitCode
  }
}

/** Nothing that we read is nearly as large. */
const MOST_BYTES = 64 * 1024 * 1024

/** Protocols by the kind of address the operator gave; everything else (`ext::`, `fd::`, ...) is refused by git itself. */
function allowedProtocol(url: string): string {
  if (url.startsWith('https://')) return 'https'
  if (url.startsWith('http://')) return 'http'
  if (url.startsWith('ssh://') || /^[\w.-]+@[\w.-]+:/.test(url)) return 'ssh'
  return 'file'
}

/**
 * Runs git with an argument array, no shell, no system or user configuration, no prompt, no hooks of ours. `url` tells
 * which one protocol may be spoken.
 */
export async function git(
  args: readonly string[],
  options: {
    readonly dir?: string
    readonly url?: string
    readonly auth?: string
    readonly signal?: AbortSignal
    readonly input?: string
    /** Where objects may be read from beside the repository's own. */
    readonly objects?: string
    /** More output than this is an error; 64 MiB unless said. */
    readonly maxBytes?: number
    /** What git writes may be written by everybody. */
    readonly openToAll?: boolean
  } = {},
): Promise<Buffer> {
  const { maxBytes = MOST_BYTES } = options
  const config: [string, string][] = [
    ['safe.directory', '*'],
    ['core.hooksPath', '/dev/null'],
    ['http.followRedirects', 'false'],
    ['gc.auto', '0'],
    ['maintenance.auto', 'false'],
    ['fetch.recurseSubmodules', 'false'],
    ['advice.detachedHead', 'false'],
  ]
  if (options.auth) config.push(['http.extraHeader', options.auth])
  const env: Record<string, string> = {
    // Nothing else of our environment, which may hold secrets, reaches git, its helpers or a repository's hooks.
    PATH: process.env.PATH ?? '/usr/bin:/bin',
    HOME: process.env.HOME ?? '/',
    LANG: 'C.UTF-8',
    ...(process.env.SSH_AUTH_SOCK ? { SSH_AUTH_SOCK: process.env.SSH_AUTH_SOCK } : {}),
    GIT_TERMINAL_PROMPT: '0',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_ALLOW_PROTOCOL: allowedProtocol(options.url ?? ''),
    GIT_SSH_COMMAND: 'ssh -oBatchMode=yes',
    GIT_CONFIG_COUNT: String(config.length),
    // Quoted as git reads it: a colon would end the path.
    ...(options.objects === undefined ? {} : { GIT_ALTERNATE_OBJECT_DIRECTORIES: JSON.stringify(options.objects) }),
  }
  for (const [i, [key, value]] of config.entries()) {
    env[`GIT_CONFIG_KEY_${i}`] = key
    env[`GIT_CONFIG_VALUE_${i}`] = value
  }
  const [program, before] = options.openToAll ? ['sh', ['-c', 'umask 0 && exec git "$@"', 'git']] : ['git', []]
  const result = await execa(program, [...before, ...args], {
    env,
    extendEnv: false,
    encoding: 'buffer',
    // A file's bytes are its bytes, and a missing one is told by a line that ends.
    stripFinalNewline: false,
    reject: false,
    timeout: 300_000,
    maxBuffer: maxBytes,
    ...(options.dir === undefined ? {} : { cwd: options.dir }),
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
    ...(options.input === undefined ? { stdin: 'ignore' as const } : { input: options.input }),
  })
  if (result.isMaxBuffer) throw new GitFailed(`git ${args[0]}: more than ${maxBytes} bytes`, undefined, result.cause)
  if (result.exitCode !== 0) {
    const said =
      Buffer.from(result.stderr ?? [])
        .toString()
        .trim() ||
      result.shortMessage ||
      'no message'
    throw new GitFailed(`git ${args[0]}: ${withoutCredentials(said)}`, result.exitCode, result.cause)
  }
  return Buffer.from(result.stdout)
}

/**
 * The other end of a repository on this disk may belong to another user, which git refuses unless told; our own
 * configuration does not reach that process.
 */
export function otherEnd(url: string, service: 'upload-pack' | 'receive-pack'): readonly string[] {
  return allowedProtocol(url) === 'file' ? [`--${service}=git -c safe.directory=* ${service}`] : []
}

export function withoutCredentials(text: string): string {
  return text.replace(/\/\/[^/@\s]+@/g, '//')
}
