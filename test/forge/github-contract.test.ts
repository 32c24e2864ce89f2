import { type ForgeUnderTest, forgeContract, type Group } from './contract.ts'
import { type Hub, installedApp, startHub } from './github.ts'
import { handsOf } from './labs.ts'

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

forgeContract('GitHub with an App', BY_TOKEN.toSpliced(BY_TOKEN.indexOf('deployments'), 0, 'checks'), async () => {
  const hub = await startHub()
  return underTest(hub, hub.forge(installedApp(hub)), 'penstock[bot]')
})

function underTest({ github, push }: Hub, forge: ForgeUnderTest['forge'], self: string): ForgeUnderTest {
  return { ...handsOf(github.world), forge, self, push, stop: () => github.stop() }
}
