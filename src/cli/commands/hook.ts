import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { Command } from 'commander'
import { type Context, command, printJson } from '../context.ts'
import { padded, postReceive } from '../post-receive.ts'
import { EXIT_USAGE } from './spec-file.ts'

const MARK = 'penstock hook install'
const MIN_SECRET = 16

interface Options {
  readonly json?: boolean
  readonly repository: string
  readonly url: string
  readonly secretEnv: string
  readonly secretFile?: string
  readonly force?: boolean
}

export function hookCommand(context: Context): Command {
  return new Command('hook').description('what a plain git repository tells Penstock').addCommand(
    command('install', 'write the post-receive hook of a bare repository on this disk')
      .argument('<path>', 'the repository')
      .requiredOption('--repository <name>', 'as the operator’s file names it')
      .requiredOption('--url <url>', 'address of the server')
      .option('--secret-env <name>', 'variable that holds the webhook secret', 'PENSTOCK_HOOK_SECRET')
      .option('--secret-file <file>', 'file that holds the webhook secret')
      .option('--force', 'replace a hook that somebody else wrote')
      .action((where: string, options: Options) => install(context, where, options)),
  )
}

function install(context: Context, where: string, options: Options): undefined {
  const refuse = (why: string): undefined => {
    context.terminal.err(`${why}\n`)
    context.terminal.exit(EXIT_USAGE)
    return undefined
  }
  const dir = [where, path.join(where, '.git')].find(
    (one) => existsSync(path.join(one, 'HEAD')) && existsSync(path.join(one, 'objects')),
  )
  if (dir === undefined) return refuse(`${where} is no git repository`)
  if (!/^https?:\/\/[^\s@]+$/.test(options.url)) return refuse('--url must be an http:// or https:// address')
  const secret =
    options.secretFile === undefined
      ? context.env[options.secretEnv]
      : readFileSync(options.secretFile, 'utf8').replace(/\r?\n$/, '')
  if (secret === undefined)
    return refuse(`the webhook secret is needed: set ${options.secretEnv}, or name a file with --secret-file`)
  if (Buffer.byteLength(secret) < MIN_SECRET) return refuse(`the webhook secret needs ${MIN_SECRET} bytes or more`)

  const hook = path.join(dir, 'hooks', 'post-receive')
  if (existsSync(hook) && !options.force && !readFileSync(hook, 'utf8').includes(MARK)) {
    return refuse(`${hook} is somebody else's; have it call ours, or replace it with --force`)
  }
  const keys = path.join(dir, 'hooks', 'penstock')
  mkdirSync(keys, { recursive: true, mode: 0o700 })
  // The two halves of HMAC's key, so that the secret never stands in the arguments of a process.
  const { inner, outer } = padded(secret)
  writeFileSync(path.join(keys, 'inner'), inner, { mode: 0o600 })
  writeFileSync(path.join(keys, 'outer'), outer, { mode: 0o600 })
  writeFileSync(hook, postReceive({ url: options.url.replace(/\/+$/, ''), repository: options.repository }), {
    mode: 0o755,
  })

  const absent = ['curl', 'openssl'].filter((tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0)
  if (absent.length > 0)
    context.terminal.err(`the hook needs ${absent.join(' and ')}, which this machine does not have: install it\n`)
  if (options.json) printJson(context, { hook, repository: options.repository, missing: absent })
  else context.terminal.out(`${hook} tells ${options.url} of every push\n`)
}
