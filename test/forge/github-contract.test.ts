import { type ForgeUnderTest, forgeContract, type Group } from './contract.ts'
import { type Hub, installedApp, startHub } from './github.ts'
import { handsOf, REPO } from './labs.ts'

const BY_TOKEN: readonly Group[] = [
  'branchHeads',
  'lastMove',
  'branches',
  'pullRequests',
  'comments',
  'people',
  'pushes',
  'statuses',
  'verdicts',
  'deployments',
  'deliveries',
  'check',
]

forgeContract('GitHub with a token', BY_TOKEN, async () => {
  // Small pages: lists are followed to their end.
  const hub = await startHub({ maxPage: 2 })
  return underTest(hub, hub.forge(), 'penstock')
})

forgeContract('GitHub with an App', BY_TOKEN.toSpliced(BY_TOKEN.indexOf('verdicts'), 0, 'checks'), async () => {
  const hub = await startHub()
  return underTest(hub, hub.forge(installedApp(hub)), 'penstock[bot]')
})

function underTest({ github, push }: Hub, forge: ForgeUnderTest['forge'], self: string): ForgeUnderTest {
  const { world } = github
  return {
    ...handsOf(world),
    check: (commit, name, conclusion) => world.addCheck(REPO, commit, name, conclusion),
    ...{ forge, self, push, stop: () => github.stop() },
  }
}
