import { forgeContract } from './contract.ts'
import { startGiteaLab, underTest } from './labs.ts'

// Small pages: lists are followed to their end.
forgeContract('Gitea', ['branchHeads', 'branches', 'pullRequests', 'comments', 'people', 'statuses'], async () =>
  underTest(await startGiteaLab({ maxPage: 2 }), { differs: { maintainer: 'write' } }),
)
