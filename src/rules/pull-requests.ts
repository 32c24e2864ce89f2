import { createHash } from 'node:crypto'
import type { Trigger } from '../core/change.ts'
import { isPromotionBranch } from '../core/ids.ts'
import type { PullRequest } from '../forge/types.ts'
import type { Deliveries } from '../store/types.ts'
import type { Kept, Rule } from './types.ts'

/** Every head of a pull request is tested once. What counts is what the forge's API says, not what a delivery said. */
export function createPullRequestRule(deps: { readonly deliveries: Deliveries }): Rule {
  async function look({ repository, forge }: Kept, number: number): Promise<string> {
    const pull = await forge.pullRequests?.get(number)
    if (pull === undefined) return `there is no pull request ${number}`
    if (pull.state === 'closed') return `pull request ${number} is closed`
    if (!pull.fork && isPromotionBranch(pull.head.branch)) return `pull request ${number} is one of Penstock’s own`
    // Code of somebody without write access must not run beside secrets and pools by itself.
    if (pull.fork) return `pull request ${number} comes from a fork; only branches of ${repository.name} are run`
    const recorded = await deps.deliveries.record(deliveryOf(repository.name, pull), triggerOf(repository.name, pull))
    if (recorded.kind === 'run') return `run ${recorded.run.number} for pull request ${number}`
    return `pull request ${number} at ${pull.head.commit.slice(0, 12)} has its run`
  }

  return {
    name: 'pull requests',
    attend: async (kept, notice) => (notice.kind === 'pull_request' ? look(kept, notice.number) : undefined),
  }
}

function triggerOf(repo: string, pull: PullRequest): Trigger {
  const { number, head, base, title, author } = pull
  return {
    kind: 'pull_request',
    repo,
    requestedBy: author ?? 'pull request',
    change: {
      commit: head.commit,
      // Not the branch: a pull request from the candidate branch is no push to it.
      ref: `refs/pull/${number}/head`,
      before: base.commit,
      title,
      ...(author === undefined ? {} : { author }),
      pullRequest: { number, base: base.branch },
    },
  }
}

/** The same head is the same news, whoever brings it. */
function deliveryOf(repo: string, { number, head }: PullRequest) {
  const id = `${repo}/pull/${number}/${head.commit}`
  return { source: 'forge', id, event: 'pull_request', bodyDigest: createHash('sha256').update(id).digest('hex') }
}
