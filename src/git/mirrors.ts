import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { GitFailed, git, otherEnd } from './git.ts'

export interface CommitInfo {
  readonly author: string
  readonly authorEmail: string
  readonly title: string
  /** Who else had a hand in it, as the commit says: `Name <address>` of its committer and of its co-authors. */
  readonly others: readonly string[]
}

export interface Commit extends CommitInfo {
  readonly commit: string
}

/** What one commit has and another has not. */
export interface Difference {
  /** Newest first; the first `most` of them. */
  readonly commits: readonly Commit[]
  readonly count: number
  /** How many commits the other has that this one has not. 0: it is a fast-forward. */
  readonly behind: number
}

/** The file is not there, or is not a plain file (a link or submodule would read what the repository points at). */
export class NotAFile extends Error {
  override readonly name = 'NotAFile'
}

/** The source answered, and does not have the commit: it was rewritten away, or has not come to this copy of it yet. */
export class NoSuchCommit extends Error {
  override readonly name = 'NoSuchCommit'
}

/** More than this nobody reads as the difference of a file. */
const MOST_DIFFERENT = 1024 * 1024
/** Beside `refs/heads`, which is fetched by others at the same time. */
const SEEN = 'refs/seen/heads'
/** What is asked of a commit: its co-authors are lines of one field. */
const CO_AUTHORS = '%(trailers:key=Co-authored-by,valueonly,unfold,separator=%x0A)'
const INFO = ['%an', '%ae', '%cn', '%ce', CO_AUTHORS, '%s']
/** The committer of whatever GitHub itself writes, a merge say: nobody's. */
const GITHUB_ITSELF = 'noreply@github.com'

const HEADS = 'refs/heads/'

/** Of a file, and of the list of its folder: far more than a spec may have. */
const MOST_READ = 4 * 1024 * 1024

/** A bare mirror per repository as cache. Every call may be repeated; two calls for one repository do not disturb. */
export interface Mirrors {
  /** Where the mirror is or will be. */
  pathOf(repo: string): string
  /** The mirror's directory with this commit in it; fetched only if it is not there yet. Throws `NoSuchCommit`. */
  ensure(repo: string, source: Source, commit: string): Promise<string>
  /** Bytes of a regular file at a commit. Throws `NotAFile`. */
  readFile(repo: string, commit: string, path: string): Promise<Buffer>
  commitInfo(repo: string, commit: string): Promise<CommitInfo>
  /**
   * What turns a file at one commit into the file at another, as a unified diff; empty: same bytes, same kind. Both
   * commits are there. Undefined: it is too large to be read by anybody.
   */
  difference(repo: string, from: string, to: string, path: string): Promise<string | undefined>
  /** Whether a branch of the source has this commit now, at its tip or before. */
  isOnBranch(repo: string, source: Source, commit: string): Promise<boolean>
  /** How far `commit` is ahead of and behind `other`; both are fetched if they are not there yet. */
  distance(repo: string, source: Source, commit: string, other: string): Promise<Distance>
  /** The commits that lead to `to` and not to `from`; both must be in the mirror. */
  between(repo: string, from: string, to: string, most: number): Promise<Difference>
  /** The newest `most` commits that lead to this one, itself first; it must be in the mirror. */
  history(repo: string, commit: string, most: number): Promise<readonly Commit[]>
  /** Every branch that the source has now, with its commit. */
  heads(source: Source): Promise<readonly BranchHead[]>
  /** The commit a branch has at the source now; undefined: no such branch. */
  head(source: Source, branch: string): Promise<string | undefined>
  /**
   * Moves a branch of the source to `commit`, only if that is a fast-forward from what it has now. Repeatable: a branch
   * that is there already is left alone.
   */
  fastForward(repo: string, source: Source, branch: string, commit: string): Promise<FastForward>
}

/** How two commits lie to each other, in commits that only one of them has. */
export interface Distance {
  readonly ahead: number
  readonly behind: number
}

export interface Source {
  /** From the operator's file; nothing else is ever fetched. */
  readonly url: string
  /** A full header line, for one host only. */
  readonly auth?: string
}

export interface BranchHead {
  /** Short name. */
  readonly branch: string
  readonly commit: string
}

export type FastForward =
  | { readonly kind: 'moved'; readonly from?: string }
  | { readonly kind: 'already' }
  | { readonly kind: 'refused'; readonly why: string; readonly at?: string }

export function createMirrors({ dir }: { readonly dir: string }): Mirrors {
  const underway = new Map<string, Promise<string>>()
  // No percent signs: git would decode them in a `file://` address.
  const pathOf = (repo: string) => join(dir, `${encodeURIComponent(repo).replaceAll('%', '=')}.git`)

  async function made(repo: string): Promise<string> {
    const path = pathOf(repo)
    if (existsSync(path)) return path
    await mkdir(dir, { recursive: true })
    const fresh = `${path}.${randomUUID()}.new`
    await git(['init', '--quiet', '--bare', '--', fresh])
    await rename(fresh, path).catch((err: NodeJS.ErrnoException) => {
      if (err.code !== 'ENOTEMPTY' && err.code !== 'EEXIST') throw err
      // Another call or process was faster.
      return rm(fresh, { recursive: true, force: true })
    })
    return path
  }

  async function logOf(dir: string, range: string, most: number): Promise<readonly Commit[]> {
    const format = `--format=${['%H', ...INFO].join('%x00')}`
    const fields = (await git(['log', '-z', `--max-count=${most}`, format, range, '--'], { dir }))
      .toString()
      .split('\0')
    const commits: Commit[] = []
    for (let at = 0; at + INFO.length < fields.length; at += INFO.length + 1) {
      const [commit = '', ...info] = fields.slice(at, at + INFO.length + 1)
      commits.push({ commit, ...infoOf(info) })
    }
    return commits
  }

  function fetch(path: string, source: Source, what: string, ...options: readonly string[]): Promise<Buffer> {
    const from = [...otherEnd(source.url, 'upload-pack'), '--', source.url, what]
    return git(['fetch', '--quiet', '--no-tags', '--no-write-fetch-head', '--force', ...options, ...from], {
      dir: path,
      url: source.url,
      ...(source.auth ? { auth: source.auth } : {}),
    })
  }

  async function fetchCommit(repo: string, source: Source, commit: string): Promise<string> {
    const path = pathOf(repo)
    if (await has(path, commit)) return path
    await made(repo)
    try {
      await fetch(path, source, `${commit}:refs/penstock/${commit}`)
    } catch {
      // Servers that do not serve unadvertised commits: take all branches, then look.
      await fetch(path, source, '+refs/heads/*:refs/heads/*')
      if (await isCommit(path, commit)) await git(['update-ref', `refs/penstock/${commit}`, commit], { dir: path })
    }
    if (!(await isCommit(path, commit))) {
      // A tag's or a tree's id is an object, too.
      await git(['update-ref', '-d', `refs/penstock/${commit}`], { dir: path })
      throw new NoSuchCommit(`${repo} has no commit ${commit}`)
    }
    return path
  }

  const mirrors: Mirrors = {
    pathOf,
    ensure(repo, source, commit) {
      const key = `${repo}\0${commit}`
      const known = underway.get(key)
      if (known) return known
      const promise = fetchCommit(repo, source, commit).finally(() => underway.delete(key))
      underway.set(key, promise)
      return promise
    },
    async readFile(repo, commit, path) {
      const dir = pathOf(repo)
      const name = basename(path)
      const folder = path.slice(0, -name.length).replace(/\/$/, '')
      const asked = [`${commit}:${folder}`, `${commit}:${path}`]
      // One process for both: the folder tells whether it is a plain file, which the content does not.
      const input = asked.map((one) => `${one}\n`).join('')
      const answer = await git(['cat-file', '--batch'], { dir, input, maxBytes: MOST_READ }).catch((err: unknown) => {
        if (!(err instanceof GitFailed && err.exitCode === undefined)) throw err
        throw new NotAFile(`${path} at ${commit} is too large: ${err.message}`)
      })
      const [tree, blob] = parseBatch(answer)
      const mode = tree === undefined ? undefined : modeIn(tree, name)
      if (mode === undefined) throw new NotAFile(`${path} does not exist at ${commit}`)
      if ((mode !== '100644' && mode !== '100755') || blob === undefined)
        throw new NotAFile(`${path} is not a regular file at ${commit}`)
      return blob.content
    },
    async commitInfo(repo, commit) {
      const text = (
        await git(['show', '--no-patch', `--format=${INFO.join('%x00')}`, commit], { dir: pathOf(repo) })
      ).toString()
      return infoOf(text.trimEnd().split('\0'))
    },
    async difference(repo, from, to, path) {
      const plain = ['--no-color', '--no-ext-diff', '--no-textconv', '--no-renames', '--text', '--unified=3']
      try {
        const asked = ['diff', ...plain, '--end-of-options', from, to, '--', path]
        return (await git(asked, { dir: pathOf(repo), maxBytes: MOST_DIFFERENT })).toString()
      } catch (err) {
        if (err instanceof GitFailed && err.exitCode === undefined) return undefined
        throw err
      }
    },
    async isOnBranch(repo, source, commit) {
      const path = await made(repo)
      await fetch(path, source, `+refs/heads/*:${SEEN}/*`, '--prune')
      if (!(await isCommit(path, commit))) return false
      const asked = ['for-each-ref', '--count=1', `--contains=${commit}`, '--format=%(refname)', `${SEEN}/`]
      return (await git(asked, { dir: path })).length > 0
    },
    async distance(repo, source, commit, other) {
      const dir = await mirrors.ensure(repo, source, commit)
      await mirrors.ensure(repo, source, other)
      const text = (await git(['rev-list', '--left-right', '--count', `${commit}...${other}`], { dir })).toString()
      const [ahead, behind] = text.trim().split('\t').map(Number)
      if (ahead === undefined || behind === undefined) throw new Error(`git rev-list counted nothing: ${text}`)
      return { ahead, behind }
    },
    async between(repo, from, to, most) {
      const dir = pathOf(repo)
      const [commits, counted] = await Promise.all([
        logOf(dir, `${from}..${to}`, most),
        git(['rev-list', '--left-right', '--count', `${from}...${to}`, '--'], { dir }),
      ])
      const [behind = 0, count = 0] = counted.toString().split('\t').map(Number)
      return { commits, count, behind }
    },
    history: (repo, commit, most) => logOf(pathOf(repo), commit, most),
    heads: (source) => listed(source),
    async head(source, branch) {
      // git takes the name for the end of one: `x/refs/heads/production` is another branch, and is listed, too.
      return (await listed(source, `${HEADS}${branch}`)).find((one) => one.branch === branch)?.commit
    },
    async fastForward(repo, source, branch, commit) {
      const dir = await mirrors.ensure(repo, source, commit)
      const from = await mirrors.head(source, branch)
      if (from === commit) return { kind: 'already' }
      if (from !== undefined) {
        await mirrors.ensure(repo, source, from)
        if (!(await isAncestor(dir, from, commit))) {
          const why = `${branch} is at ${from.slice(0, 12)}, which is not an ancestor of ${commit.slice(0, 12)}`
          return { kind: 'refused', why, at: from }
        }
      }
      try {
        // The lease names the value that was judged: if the branch has moved since, git refuses.
        const lease = `--force-with-lease=refs/heads/${branch}:${from ?? ''}`
        await git(
          [
            'push',
            '--quiet',
            lease,
            ...otherEnd(source.url, 'receive-pack'),
            '--',
            source.url,
            `${commit}:refs/heads/${branch}`,
          ],
          {
            dir,
            url: source.url,
            ...(source.auth ? { auth: source.auth } : {}),
          },
        )
      } catch (err) {
        // The answer may have been lost: the ref decides.
        const now = await mirrors.head(source, branch)
        if (now === commit) return { kind: 'moved', ...(from ? { from } : {}) }
        if (now !== from) return { kind: 'refused', why: `${branch} moved meanwhile`, ...(now ? { at: now } : {}) }
        throw err
      }
      return { kind: 'moved', ...(from ? { from } : {}) }
    },
  }
  return mirrors

  async function listed(source: Source, ...patterns: readonly string[]): Promise<readonly BranchHead[]> {
    const asked = ['ls-remote', '--heads', ...otherEnd(source.url, 'upload-pack'), '--', source.url, ...patterns]
    const text = (await git(asked, { url: source.url, ...(source.auth ? { auth: source.auth } : {}) })).toString()
    return text.split('\n').flatMap((line) => {
      const [commit = '', ref = ''] = line.split('\t')
      return ref.startsWith(HEADS) ? [{ branch: ref.slice(HEADS.length), commit }] : []
    })
  }

  /** By the reference that is written when all of the commit is there, without asking git. */
  async function has(path: string, commit: string): Promise<boolean> {
    try {
      return (await readFile(join(path, 'refs', 'penstock', commit), 'utf8')).trim() === commit
    } catch (err) {
      if (err instanceof Error && 'code' in err && err.code === 'ENOENT') return false
      throw err
    }
  }

  async function isCommit(path: string, commit: string): Promise<boolean> {
    const answer = await git(['cat-file', '--batch-check'], { dir: path, input: `${commit}\n` })
    return answer.toString().startsWith(`${commit} commit `)
  }

  async function isAncestor(path: string, ancestor: string, of: string): Promise<boolean> {
    try {
      await git(['merge-base', '--is-ancestor', ancestor, of], { dir: path })
      return true
    } catch (err) {
      if (err instanceof GitFailed && err.exitCode === 1) return false
      throw err
    }
  }
}

interface GitObject {
  readonly id: string
  readonly content: Buffer
}

function infoOf(fields: readonly string[]): CommitInfo {
  const [author = '', authorEmail = '', committer = '', address = '', coAuthors = '', title = ''] = fields
  const by =
    address === GITHUB_ITSELF || (committer === author && address === authorEmail) ? [] : [`${committer} <${address}>`]
  const others = [...by, ...coAuthors.split('\n').map((line) => line.trim())].filter((one) => one !== '')
  return { author, authorEmail, title, others }
}

/** What `git cat-file --batch` says: for each question an object, or that there is none. */
function parseBatch(answer: Buffer): readonly (GitObject | undefined)[] {
  const objects: (GitObject | undefined)[] = []
  for (let at = 0; at < answer.length; ) {
    const end = answer.indexOf('\n', at)
    if (end < 0) throw new Error('git cat-file ended in the middle of a line')
    const [, id, size] = /^([0-9a-f]{40,64}) \w+ (\d+)$/.exec(answer.toString('latin1', at, end)) ?? []
    at = end + 1
    if (id === undefined) {
      objects.push(undefined)
      continue
    }
    objects.push({ id, content: answer.subarray(at, at + Number(size)) })
    at += Number(size) + 1
  }
  return objects
}

/** The mode of an entry of a tree object: `<mode> <name>\0<id>`, one after the other. */
function modeIn({ id, content }: GitObject, name: string): string | undefined {
  const idBytes = id.length / 2
  for (let at = 0; at < content.length; ) {
    const space = content.indexOf(' ', at)
    const end = content.indexOf(0, space)
    if (space < 0 || end < 0) return undefined
    if (content.toString('utf8', space + 1, end) === name) return content.toString('latin1', at, space)
    at = end + 1 + idBytes
  }
  return undefined
}
