import { type ForgeUnderTest, forgeContract, type Group } from './contract.ts'
import { type Hub, installedApp, REPO, startHub } from './github.ts'

const BY_TOKEN: readonly Group[] = [
  'branchHeads',
  'lastMove',
  'branches',
  'pullRequests',
  'comments',
  'people',
  'statuses',
  'deployments',
  'deliveries',
  'check',
]

forgeContract('GitHub with a token', BY_TOKEN, async () => {
  // Small pages: lists are followed to their end.
  const hub = await startHub({ maxPage: 2 })
  return underTest(hub, hub.forge(), 'penstock')
})

forgeContract('GitHub with an App', BY_TOKEN.toSpliced(BY_TOKEN.indexOf('deployments'), 0, 'checks'), async () => {
  const hub = await startHub()
  return underTest(hub, hub.forge(installedApp(hub)), 'penstock[bot]')
})

function underTest({ github, push }: Hub, forge: ForgeUnderTest['forge'], self: string): ForgeUnderTest {
  const { world } = github
  const opened = async (head: string, base: string, by: string, draft = false) =>
    (await world.openPull(REPO, { by, head, base, title: `From ${head}`, draft })).number
  return {
    forge,
    self,
    push,
    pulls: {
      open: ({ head, base, draft }) => opened(head, base, 'ada', draft),
      async openFromFork(base) {
        await world.addRepository('mallory/web', { parent: REPO })
        const commit = await world.push('mallory/web', 'mine', { by: 'mallory', message: 'Mine', files: { m: '1' } })
        return { number: await opened('mallory:mine', base, 'mallory'), commit }
      },
      label: (number, label) => world.label(REPO, number, label, 'ada'),
      review: (number, by, state) => world.review(REPO, number, { by, state }),
      comment: (number, by, body) => String(world.comment(REPO, number, { by, body }).id),
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
    stop: () => github.stop(),
  }
}
