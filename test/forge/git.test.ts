import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { initBare, refsOf, writeCommit } from '../../src/embedded/fake-github/repositories.ts'
import { createGitForge } from '../../src/forge/git/forge.ts'
import { createMirrors } from '../../src/git/mirrors.ts'
import { forgeContract } from './contract.ts'

forgeContract('plain git', [], async () => {
  const dir = await mkdtemp(join(tmpdir(), 'pst-plain-'))
  const url = join(dir, 'web.git')
  await initBare(url, 'master')
  let commits = 0
  return {
    forge: createGitForge(createMirrors({ dir: join(dir, 'mirrors') }), 'acme/web', { url }),
    self: 'penstock',
    async push(branch, parent) {
      const from = parent ?? (await refsOf(url)).get(`refs/heads/${branch}`)
      commits += 1
      const message = `commit ${commits}`
      const files = { 'a.txt': message }
      const at = Date.parse('2026-01-31T12:00:00Z')
      return writeCommit(url, {
        branch,
        message,
        by: 'ada',
        at,
        files,
        ...(from === undefined ? {} : { parent: from }),
      })
    },
    stop: () => rm(dir, { recursive: true, force: true }),
  }
})
