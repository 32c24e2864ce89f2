import { commentId } from '../../src/forge/gitlab/payload.ts'
import { forgeContract } from './contract.ts'
import { startGitlabLab, underTest } from './labs.ts'

// Small pages: lists are followed to their end.
forgeContract(
  'GitLab',
  ['branchHeads', 'branches', 'pullRequests', 'comments', 'people', 'statuses', 'deployments'],
  async () =>
    underTest(await startGitlabLab({ maxPage: 2 }), {
      differs: { description: 255, forgetsDismissed: true, keyless: true },
      commentId: (id, pull) => commentId(pull, id),
    }),
)
