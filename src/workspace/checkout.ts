import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { git, otherEnd } from '../git/git.ts'

/**
 * Puts a commit with a usable `.git` into a directory, from a mirror. What was there is removed first, so the call may be
 * repeated as long as no user code has run there. No credential and no remote is left in it.
 */
export async function checkout(mirror: string, commit: string, dir: string, signal?: AbortSignal): Promise<void> {
  for (const name of await readdir(dir)) await rm(join(dir, name), { recursive: true, force: true })
  const options = { dir, ...(signal ? { signal } : {}) }
  await git(['init', '--quiet', '--', dir], options)
  const url = mirror
  await git(['fetch', '--quiet', '--depth=1', '--no-tags', ...otherEnd(url, 'upload-pack'), '--', url, commit], {
    ...options,
    url,
  })
  await git(['checkout', '--quiet', '--detach', commit], options)
  // Images that run as another user than the worker must be able to write here.
  await execa('chmod', ['-R', 'a+rwX', '--', dir])
}
