import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { World } from '../../src/embedded/fake-github/world.ts'
import { createGiteaForge } from '../../src/forge/gitea/forge.ts'
import { createGitlabForge } from '../../src/forge/gitlab/forge.ts'
import type { Forge } from '../../src/forge/types.ts'
import { createMirrors } from '../../src/git/mirrors.ts'
import type { ForgeServer } from '../helpers/forge-server.ts'
import { startGitea } from '../helpers/gitea/gitea.ts'
import { startGitlab } from '../helpers/gitlab/gitlab.ts'
import type { ForgeUnderTest } from './contract.ts'

export const REPO = 'acme/web'
export const TOKEN = '0123456789abcdef0123456789abcdef01234567'

export interface Lab {
  readonly server: ForgeServer
  readonly forge: Forge
  push(branch: string, parent?: string): Promise<string>
  calls(name: string): number
  stop(): Promise<void>
}

/** `acme/web` at a forge, where the account `penstock` administers it. */
export async function startLab(
  start: () => Promise<ForgeServer>,
  make: (lab: { readonly server: ForgeServer; readonly mirrorsIn: string }) => Forge,
): Promise<Lab> {
  const server = await start()
  const dir = await mkdtemp(join(tmpdir(), 'pst-lab-'))
  const { world } = server
  await world.addRepository(REPO)
  world.addToken('penstock', TOKEN)
  world.setAccess(REPO, 'penstock', 'admin')
  world.setAccess(REPO, 'ada', 'write')
  let commits = 0
  return {
    server,
    forge: make({ server, mirrorsIn: join(dir, 'mirrors') }),
    push(branch, parent) {
      commits += 1
      const message = `commit ${commits}`
      const more = parent === undefined ? {} : { parent }
      return world.push(REPO, branch, { by: 'ada', message, files: { 'a.txt': message }, ...more })
    },
    calls: (name) => server.exchanges.filter((one) => `${one.method} ${one.template}` === name).length,
    async stop() {
      await rm(dir, { recursive: true, force: true })
      await server.stop()
    },
  }
}

export function startGiteaLab(options: Parameters<typeof startGitea>[0] = {}): Promise<Lab> {
  return startLab(
    () => startGitea(options),
    ({ server, mirrorsIn }) =>
      createGiteaForge({
        repo: REPO,
        api: `${server.url}/api/v1`,
        token: TOKEN,
        url: `${server.url}/${REPO}.git`,
        mirrors: createMirrors({ dir: mirrorsIn }),
      }),
  )
}

export function startGitlabLab(options: Parameters<typeof startGitlab>[0] = {}): Promise<Lab> {
  return startLab(
    () => startGitlab(options),
    ({ server, mirrorsIn }) =>
      createGitlabForge({
        repo: REPO,
        api: `${server.url}/api/v4`,
        token: TOKEN,
        url: `${server.url}/${REPO}.git`,
        mirrors: createMirrors({ dir: mirrorsIn }),
      }),
  )
}

export function underTest(
  { server: { world }, forge, push, stop }: Lab,
  {
    differs = {},
    commentId = String,
  }: {
    readonly differs?: NonNullable<ForgeUnderTest['differs']>
    readonly commentId?: (id: number, pull: number) => string
  } = {},
): ForgeUnderTest {
  return { ...handsOf(world, commentId), forge, push, stop, differs, self: 'penstock' }
}

/** What people do in `acme/web`, whatever API the world is behind. */
export function handsOf(
  world: World,
  commentId: (id: number, pull: number) => string = String,
): Required<Pick<ForgeUnderTest, 'pulls' | 'setAccess'>> {
  const opened = async (head: string, base: string, by: string, draft = false) =>
    (await world.openPull(REPO, { by, head, base, title: `From ${head}`, draft })).number
  return {
    pulls: {
      open: ({ head, base, draft }) => opened(head, base, 'ada', draft),
      async openFromFork(base) {
        await world.addRepository('mallory/web', { parent: REPO })
        const commit = await world.push('mallory/web', 'mine', { by: 'mallory', message: 'Mine', files: { m: '1' } })
        return { number: await opened('mallory:mine', base, 'mallory'), commit }
      },
      label: (number, label) => world.label(REPO, number, label, 'ada'),
      unlabel: (number, label) => world.unlabel(REPO, number, label, 'ada'),
      review: (number, by, state) => world.review(REPO, number, { by, state }),
      comment: (number, by, body) => commentId(world.comment(REPO, number, { by, body }).id, number),
      comments: (number) =>
        world
          .repo(REPO)
          .comments.filter((one) => one.pull === number)
          .map((one) => one.body),
    },
    setAccess(login, access) {
      world.setAccess(REPO, login, access)
      // Everybody may read a public repository.
      if (access === 'none') (world.repo(REPO) as { private: boolean }).private = true
    },
  }
}
