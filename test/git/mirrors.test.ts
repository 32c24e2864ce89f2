import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { GitFailed } from '../../src/git/git.ts'
import { createMirrors, NoSuchCommit, NotAFile } from '../../src/git/mirrors.ts'
import { checkout } from '../../src/workspace/checkout.ts'

let dir: string
let work: string
let bare: string
const run = (...args: string[]) =>
  execFileSync('git', args, { cwd: work, stdio: ['ignore', 'pipe', 'pipe'] })
    .toString()
    .trim()

function commit(file: string, text: string): string {
  writeFileSync(join(work, file), text)
  run('add', '-A')
  run('-c', 'user.name=Ada', '-c', 'user.email=ada@example.org', 'commit', '-qm', `change ${file}`)
  run('push', '-q', 'origin', 'HEAD:master')
  return run('rev-parse', 'HEAD')
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'pst-git-'))
  work = join(dir, 'work')
  bare = join(dir, 'bare.git')
  execFileSync('git', ['init', '-q', '--bare', bare])
  execFileSync('git', ['init', '-q', '-b', 'master', work])
  run('remote', 'add', 'origin', bare)
})
afterEach(() => rmSync(dir, { recursive: true, force: true }))

describe('mirrors', () => {
  it('reads a file at one commit, whatever the branch is at', async () => {
    const first = commit('a.txt', 'one')
    commit('a.txt', 'two')
    const mirrors = createMirrors({ dir: join(dir, 'mirrors') })

    await mirrors.ensure('acme/web', { url: bare }, first)

    expect((await mirrors.readFile('acme/web', first, 'a.txt')).toString()).toBe('one')
    expect(await mirrors.commitInfo('acme/web', first)).toEqual({
      author: 'Ada',
      authorEmail: 'ada@example.org',
      title: 'change a.txt',
      others: [],
    })
  })

  it('tells everybody who had a hand in a commit, and GitHub, which commits for whoever merges there, is nobody', async () => {
    const first = commit('a.txt', 'one')
    const said =
      'Work (#1)\n\n* first\n\n---------\n\nCo-authored-by: Cyd <cyd@example.org>\nco-authored-by: Dora <d@example.org>'
    const committed = async (name: string, email: string) => {
      run(
        '-c',
        `user.name=${name}`,
        '-c',
        `user.email=${email}`,
        'commit',
        '-q',
        '--allow-empty',
        '--author=Ada <a@b>',
        '-m',
        said,
      )
      run('push', '-q', 'origin', 'HEAD:master')
      return run('rev-parse', 'HEAD')
    }
    await committed('Ben', 'ben@example.org')
    const last = await committed('GitHub', 'noreply@github.com')
    const mirrors = createMirrors({ dir: join(dir, 'mirrors') })
    await mirrors.ensure('acme/web', { url: bare }, last)

    const { commits } = await mirrors.between('acme/web', first, last, 10)

    const both = ['Cyd <cyd@example.org>', 'Dora <d@example.org>']
    expect(commits.map(({ others }) => others)).toEqual([both, ['Ben <ben@example.org>', ...both]])
    expect(commits.map(({ author, title }) => [author, title])).toEqual([
      ['Ada', 'Work (#1)'],
      ['Ada', 'Work (#1)'],
    ])
    expect((await mirrors.commitInfo('acme/web', last)).others).toEqual(both)
  })

  it('says that a file is missing, at the top and in a folder that is missing, too', async () => {
    const at = commit('a.txt', 'one')
    const mirrors = createMirrors({ dir: join(dir, 'mirrors') })
    await mirrors.ensure('acme/web', { url: bare }, at)

    for (const path of ['.penstock.yml', 'folder/.penstock.yml', 'a.txt/x'])
      await expect(mirrors.readFile('acme/web', at, path)).rejects.toThrow(`${path} does not exist at ${at}`)
  })

  it('says of a tree that it is no commit, and of a file that is far too large what it is', async () => {
    writeFileSync(join(work, 'large.txt'), Buffer.alloc(5 * 1024 * 1024))
    const at = commit('a.txt', 'one')
    const mirrors = createMirrors({ dir: join(dir, 'mirrors') })
    await mirrors.ensure('acme/web', { url: bare }, at)
    const tree = run('rev-parse', `${at}^{tree}`)

    for (let call = 0; call < 2; call++)
      await expect(mirrors.ensure('acme/web', { url: bare }, tree)).rejects.toThrow(NoSuchCommit)
    await expect(mirrors.readFile('acme/web', at, 'large.txt')).rejects.toThrow(NotAFile)
  })

  it('refuses a link where a file is expected', async () => {
    symlinkSync('/etc/passwd', join(work, '.penstock.yml'))
    const at = commit('a.txt', 'one')
    const mirrors = createMirrors({ dir: join(dir, 'mirrors') })
    await mirrors.ensure('acme/web', { url: bare }, at)

    await expect(mirrors.readFile('acme/web', at, '.penstock.yml')).rejects.toThrow('not a regular file')
  })

  it('moves a branch only forward, and says why not', async () => {
    const first = commit('a.txt', 'one')
    const second = commit('a.txt', 'two')
    const mirrors = createMirrors({ dir: join(dir, 'mirrors') })
    const source = { url: bare }

    expect(await mirrors.fastForward('acme/web', source, 'production', first)).toEqual({ kind: 'moved' })
    expect(await mirrors.fastForward('acme/web', source, 'production', second)).toEqual({ kind: 'moved', from: first })
    expect(await mirrors.fastForward('acme/web', source, 'production', second)).toEqual({ kind: 'already' })
    const back = await mirrors.fastForward('acme/web', source, 'production', first)

    expect(back.kind).toBe('refused')
    expect(await mirrors.head(source, 'production')).toBe(second)
  })

  it('counts how far two commits are apart', async () => {
    const first = commit('a.txt', 'one')
    const second = commit('a.txt', 'two')
    run('checkout', '-q', '-b', 'other', first)
    writeFileSync(join(work, 'b.txt'), 'b')
    run('add', '-A')
    run('-c', 'user.name=Ada', '-c', 'user.email=ada@example.org', 'commit', '-qm', 'beside')
    run('push', '-q', 'origin', 'other')
    const beside = run('rev-parse', 'HEAD')
    const mirrors = createMirrors({ dir: join(dir, 'mirrors') })

    const distance = (one: string, other: string) => mirrors.distance('acme/web', { url: bare }, one, other)

    expect(await distance(second, first)).toEqual({ ahead: 1, behind: 0 })
    expect(await distance(beside, second)).toEqual({ ahead: 1, behind: 1 })
    expect(await distance(first, first)).toEqual({ ahead: 0, behind: 0 })
  })

  it('tells a commit that the source does not have from a source that does not answer', async () => {
    commit('a.txt', 'one')
    const mirrors = createMirrors({ dir: join(dir, 'mirrors') })
    const nowhere = 'a'.repeat(40)

    await expect(mirrors.ensure('acme/web', { url: bare }, nowhere)).rejects.toThrow(NoSuchCommit)
    await expect(mirrors.ensure('acme/web', { url: join(dir, 'gone') }, nowhere)).rejects.toThrow(GitFailed)
  })

  it('shows how a file differs, byte by byte: a line end, another kind of file, one that is missing', async () => {
    const mirrors = createMirrors({ dir: join(dir, 'mirrors') })
    const first = commit('.penstock.yml', 'one\ntwo\n')
    const other = commit('a.txt', 'x')
    const ended = commit('.penstock.yml', 'one\r\ntwo\n')
    writeFileSync(join(work, '.gitattributes'), '*.yml -diff binary\n')
    const hidden = commit('.penstock.yml', 'three\n')
    rmSync(join(work, '.penstock.yml'))
    symlinkSync('a.txt', join(work, '.penstock.yml'))
    const link = commit('b.txt', 'x')
    rmSync(join(work, '.penstock.yml'))
    const gone = commit('c.txt', 'x')
    const large = commit('.penstock.yml', 'x'.repeat(2 * 1024 * 1024))
    for (const one of [first, large]) await mirrors.ensure('acme/web', { url: bare }, one)
    const to = (one: string) => mirrors.difference('acme/web', first, one, '.penstock.yml')

    expect(await to(other)).toBe('')
    expect(await to(ended)).toContain('\n-one\n+one\r\n two\n')
    expect(await to(hidden)).toContain('\n-one\n-two\n+three\n')
    expect(await to(link)).toContain('120000')
    expect(await to(gone)).toContain('deleted file')
    expect(await to(large)).toBeUndefined()
  })

  it('knows what is on a branch now from what is only kept for somebody', async () => {
    const mirrors = createMirrors({ dir: join(dir, 'mirrors') })
    const source = { url: bare }
    const first = commit('a.txt', 'one')
    const second = commit('a.txt', 'two')
    run('push', '-q', 'origin', `${second}:refs/heads/old`)
    const strangers = commit('a.txt', 'evil')
    run('push', '-q', '--force', 'origin', `${first}:refs/heads/master`, `${strangers}:refs/pull/1/head`)
    await mirrors.ensure('acme/web', source, strangers)
    const isOnBranch = (one: string) => mirrors.isOnBranch('acme/web', source, one)

    expect([await isOnBranch(first), await isOnBranch(second), await isOnBranch(strangers)]).toEqual([
      true,
      true,
      false,
    ])
    run('push', '-q', 'origin', ':refs/heads/old')
    expect([await isOnBranch(first), await isOnBranch(second)]).toEqual([true, false])
    expect(await isOnBranch('b'.repeat(40))).toBe(false)
  })

  it('never takes a branch whose name only ends like another one for that one', async () => {
    const first = commit('a.txt', 'one')
    const second = commit('a.txt', 'two')
    run('push', '-q', 'origin', `${second}:refs/heads/a/refs/heads/production`)
    const mirrors = createMirrors({ dir: join(dir, 'mirrors') })
    const source = { url: bare }

    expect(await mirrors.head(source, 'production')).toBeUndefined()
    run('push', '-q', 'origin', `${first}:refs/heads/production`)
    expect(await mirrors.head(source, 'production')).toBe(first)
    expect(await mirrors.fastForward('acme/web', source, 'production', second)).toEqual({ kind: 'moved', from: first })
  })

  it('runs the hooks of the repository it pushes to', async () => {
    const first = commit('a.txt', 'one')
    const seen = join(dir, 'seen')
    writeFileSync(join(bare, 'hooks', 'post-receive'), `#!/bin/sh\ncat >> ${seen}\n`, { mode: 0o755 })

    await createMirrors({ dir: join(dir, 'mirrors') }).fastForward('acme/web', { url: bare }, 'production', first)

    expect(readFileSync(seen, 'utf8')).toContain(`${first} refs/heads/production`)
  })

  it('never takes an address for an option or a command', async () => {
    const mirrors = createMirrors({ dir: join(dir, 'mirrors') })
    const canary = join(dir, 'canary')

    for (const url of [`--upload-pack=touch ${canary};`, `ext::sh -c touch% ${canary}`]) {
      await expect(mirrors.ensure('acme/web', { url }, 'a'.repeat(40))).rejects.toThrow()
    }

    expect(() => readFileSync(canary)).toThrow()
  })
})

describe('checkout', () => {
  it('gives a working tree with a usable .git and nothing of what was there before', async () => {
    commit('a.txt', 'before')
    const at = commit('a.txt', 'one')
    const mirror = await createMirrors({ dir: join(dir, 'mirrors') }).ensure('acme/web', { url: bare }, at)
    const target = join(dir, 'workspace')
    mkdirSync(target)
    writeFileSync(join(target, 'left-over'), 'x')

    await checkout(mirror, at, target)

    // Looked at before git is asked, which writes the index anew.
    for (const path of ['a.txt', '.', '.git', '.git/index', '.git/objects', '.git/HEAD'])
      expect(statSync(join(target, path)).mode & 0o006).toBe(0o006)
    expect(readFileSync(join(target, 'a.txt'), 'utf8')).toBe('one')
    expect(execFileSync('git', ['-C', target, 'rev-parse', 'HEAD']).toString().trim()).toBe(at)
    expect(execFileSync('git', ['-C', target, 'status', '--porcelain']).toString()).toBe('')
    expect(execFileSync('git', ['-C', target, 'remote']).toString()).toBe('')
    expect(execFileSync('git', ['-C', target, 'rev-list', 'HEAD']).toString().trim()).toBe(at)
    expect(execFileSync('git', ['-C', target, 'fsck', '--no-progress']).toString()).toBe('')
  })
})
