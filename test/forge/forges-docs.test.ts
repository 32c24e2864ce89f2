import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { createGitForge } from '../../src/forge/git/forge.ts'
import { createGiteaForge } from '../../src/forge/gitea/forge.ts'
import type { GithubAccess } from '../../src/forge/github/connect.ts'
import { createGithubForge } from '../../src/forge/github/forge.ts'
import { createGitlabForge } from '../../src/forge/gitlab/forge.ts'
import type { Forge } from '../../src/forge/types.ts'
import { createMirrors } from '../../src/git/mirrors.ts'
import { GROUPS } from './contract.ts'

const mirrors = createMirrors({ dir: '/nonexistent' })
const at = { repo: 'acme/web', api: 'https://forge.example/api', url: 'https://forge.example/acme/web.git' }

function github(access: GithubAccess): Forge {
  return createGithubForge({
    ...at,
    access,
    hook: 'https://ci.example/hooks/github',
    branches: { candidate: 'master', production: 'production' },
    log: { warn: () => {} },
    clock: () => 0,
  })
}

/** In the order of the columns. */
const FORGES: readonly Forge[] = [
  github({ kind: 'app', id: '1', privateKey: 'none' }),
  github({ kind: 'token', token: 'token' }),
  createGiteaForge({ ...at, token: 'token', mirrors }),
  createGitlabForge({ ...at, token: 'token', mirrors }),
  createGitForge(mirrors, at.repo, { url: at.url }),
]

test('docs/forges.md says of each forge what it carries, group by group, and of no other group', async () => {
  const text = await readFile('docs/forges.md', 'utf8')

  const rows = [...text.matchAll(/^\| `(\w+)` \| [^|]+ \| (.+) \|$/gm)]
  const written = rows.map(([, group, cells = '']) => [group, ...cells.split(' | ')])

  expect(written).toEqual(
    GROUPS.map((group) => [group, ...FORGES.map((forge) => (forge[group] === undefined ? '–' : 'yes'))]),
  )
})
