import { chmod, mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { git } from '../git/git.ts'

/**
 * Puts a commit with a usable `.git` into a directory, from a mirror. What was there is removed first, so the call may be
 * repeated as long as no user code has run there. No credential and no remote is left in it. Images that run as another
 * user than the worker can write everywhere in it.
 */
export async function checkout(mirror: string, commit: string, dir: string, signal?: AbortSignal): Promise<void> {
  for (const name of await readdir(dir)) await rm(join(dir, name), { recursive: true, force: true })
  await chmod(dir, 0o777)
  await makeRepository(join(dir, '.git'), commit)
  const options = { dir, ...(signal ? { signal } : {}) }
  // What a shallow fetch does, in one process instead of eight: it walks from the commit to what is cut off.
  await git(['pack-objects', '--quiet', '--revs', join('.git', 'objects', 'pack', 'pack')], {
    ...options,
    input: `${commit}\n`,
    objects: join(mirror, 'objects'),
  })
  await git(['checkout', '--quiet', '--detach', commit], { ...options, openToAll: true })
}

/** What `git init` makes, as far as git needs it; the commit has no parents here. */
async function makeRepository(root: string, commit: string): Promise<void> {
  const format = commit.length === 64 ? '1\n[extensions]\n\tobjectFormat = sha256\n[core]' : '0'
  for (const folder of ['', 'objects', 'objects/pack', 'objects/info', 'refs', 'refs/heads', 'refs/tags', 'info']) {
    await mkdir(join(root, folder))
    await chmod(join(root, folder), 0o777)
  }
  const files = {
    HEAD: 'ref: refs/heads/master\n',
    config: `[core]\n\trepositoryformatversion = ${format}\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n`,
    shallow: `${commit}\n`,
  }
  for (const [name, text] of Object.entries(files)) {
    await writeFile(join(root, name), text)
    await chmod(join(root, name), 0o666)
  }
}
