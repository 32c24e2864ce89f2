import { spawn } from 'node:child_process'
import { appendFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { GitFailed, git } from '../../git/git.ts'

/** The refs of a bare repository, by full name. */
export async function refsOf(dir: string): Promise<Map<string, string>> {
  const text = (await git(['for-each-ref', '--format=%(objectname) %(refname)'], { dir })).toString()
  const lines = text.split('\n').filter(Boolean)
  return new Map(lines.map((line) => [line.slice(line.indexOf(' ') + 1), line.slice(0, line.indexOf(' '))]))
}

export async function initBare(dir: string, defaultBranch: string): Promise<void> {
  await git(['init', '--quiet', '--bare', `--initial-branch=${defaultBranch}`, '--', dir])
  await appendFile(join(dir, 'config'), '[http]\n\treceivepack = true\n[uploadpack]\n\tallowAnySHA1InWant = true\n')
}

/** The commit that a name or a full id stands for; undefined: there is none. */
export async function commitOf(dir: string, name: string): Promise<string | undefined> {
  return answered(git(['rev-parse', '--verify', '--quiet', '--end-of-options', `${name}^{commit}`], { dir }))
}

export async function isAncestor(dir: string, ancestor: string, of: string): Promise<boolean> {
  return (await answered(git(['merge-base', '--is-ancestor', ancestor, of], { dir }))) !== undefined
}

export async function subjectOf(dir: string, commit: string) {
  const text = (await git(['show', '--no-patch', '--format=%T%x00%an%x00%ae%x00%cI%x00%B', commit], { dir })).toString()
  const [tree = '', name = '', email = '', date = '', message = ''] = text.split('\0')
  return { tree, name, email, date, message: message.trimEnd() }
}

/** Moves a ref only from the value that was judged. False: it has moved since. */
export async function moveRef(dir: string, ref: string, to: string, from: string): Promise<boolean> {
  try {
    await git(['update-ref', ref, to, from], { dir })
    return true
  } catch (err) {
    if (err instanceof GitFailed) return false
    throw err
  }
}

export async function removeRef(dir: string, ref: string): Promise<void> {
  await git(['update-ref', '-d', ref], { dir })
}

export async function fetchRef(dir: string, from: string, what: string, to: string): Promise<void> {
  await git(['fetch', '--quiet', '--no-tags', '--force', '--', from, `${what}:${to}`], { dir })
}

export interface NewCommit {
  readonly branch: string
  readonly message: string
  readonly by: string
  readonly at: number
  readonly files: Readonly<Record<string, string>>
  /** Absent: the first commit. */
  readonly parent?: string
}

/** Writes a commit and points the branch at it, whatever it pointed at before. */
export async function writeCommit(dir: string, commit: NewCommit): Promise<string> {
  const data = (text: string) => `data ${Buffer.byteLength(text)}\n${text}\n`
  const files = Object.entries(commit.files).map(([path, text]) => `M 100644 inline ${path}\n${data(text)}`)
  const stream = [
    `commit refs/heads/${commit.branch}\n`,
    `committer ${commit.by} <${commit.by}@example.org> ${Math.floor(commit.at / 1000)} +0000\n`,
    data(commit.message),
    commit.parent === undefined ? '' : `from ${commit.parent}\n`,
    ...files,
    '\n',
  ]
  await git(['fast-import', '--quiet', '--force'], { dir, input: stream.join('') })
  const made = await commitOf(dir, `refs/heads/${commit.branch}`)
  if (made === undefined) throw new Error(`git wrote no commit on ${commit.branch}`)
  return made
}

/** What merging one into the other gives, as a branch of its own; undefined: they contradict each other. */
export async function writeMerge(
  dir: string,
  merge: { readonly ref: string; readonly base: string; readonly head: string; readonly message: string },
): Promise<string | undefined> {
  const { ref, base, head, message } = merge
  const tree = await answered(git(['merge-tree', '--write-tree', base, head], { dir }))
  if (tree === undefined) return undefined
  const person = ['-c', 'user.name=GitHub', '-c', 'user.email=noreply@github.com']
  const commit = await git([...person, 'commit-tree', tree, '-p', base, '-p', head, '-m', message], { dir })
  await git(['update-ref', ref, commit.toString().trim()], { dir })
  return commit.toString().trim()
}

/** git's own server side, as a CGI program. `beforeEnd`: what is to happen before the client knows that it is over. */
export async function serveRepository(
  where: { readonly root: string; readonly path: string; readonly user: string | undefined },
  request: IncomingMessage,
  response: ServerResponse,
  beforeEnd: () => Promise<void>,
): Promise<void> {
  const { headers, method = 'GET', url = '' } = request
  const child = spawn('git', ['-c', 'safe.directory=*', 'http-backend'], {
    env: {
      PATH: process.env.PATH ?? '/usr/bin:/bin',
      HOME: '/nonexistent',
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_PROJECT_ROOT: where.root,
      GIT_HTTP_EXPORT_ALL: '1',
      PATH_INFO: where.path,
      QUERY_STRING: url.split('?')[1] ?? '',
      REQUEST_METHOD: method,
      CONTENT_TYPE: headers['content-type'] ?? '',
      ...(headers['content-length'] === undefined ? {} : { CONTENT_LENGTH: headers['content-length'] }),
      ...(headers['content-encoding'] === undefined ? {} : { HTTP_CONTENT_ENCODING: headers['content-encoding'] }),
      ...(typeof headers['git-protocol'] === 'string' ? { GIT_PROTOCOL: headers['git-protocol'] } : {}),
      ...(where.user === undefined ? {} : { REMOTE_USER: where.user }),
    },
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  // The client may leave early; then git's answer has no reader, which ends the child as well.
  const sent = pipeline(request, child.stdin).catch(() => void child.kill())
  await answerOf(child.stdout, response).finally(() => child.kill())
  await sent
  await beforeEnd()
  response.end()
}

async function answerOf(output: AsyncIterable<Buffer>, response: ServerResponse): Promise<void> {
  let head = Buffer.alloc(0)
  let open = false
  for await (const chunk of output) {
    if (open) {
      response.write(chunk)
      continue
    }
    head = Buffer.concat([head, chunk])
    const end = head.indexOf('\r\n\r\n')
    if (end < 0) continue
    const lines = head.subarray(0, end).toString('latin1').split('\r\n')
    const fields = lines.map(
      (line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()] as const,
    )
    const status = fields.find(([name]) => name.toLowerCase() === 'status')?.[1]
    response.writeHead(
      Number.parseInt(status ?? '200', 10),
      Object.fromEntries(fields.filter(([name]) => name !== 'Status')),
    )
    response.write(head.subarray(end + 4))
    open = true
  }
  if (!open) response.writeHead(500)
}

async function answered(asked: Promise<Buffer>): Promise<string | undefined> {
  try {
    return (await asked).toString().trim()
  } catch (err) {
    // git's "no" is exit code 1; an id that it does not have at all is 128.
    if (err instanceof GitFailed && (err.exitCode === 1 || err.exitCode === 128)) return undefined
    throw err
  }
}
