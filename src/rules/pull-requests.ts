import { createHash } from 'node:crypto'
import { type Access, admit } from '../core/admission.ts'
import type { Trigger } from '../core/change.ts'
import { isPromotionBranch } from '../core/ids.ts'
import { PENSTOCK, supersededReason } from '../core/superseded.ts'
import type { PullRequest } from '../forge/types.ts'
import type { Deliveries, RunRow, Runs } from '../store/types.ts'
import type { SpecDifferenceOf } from './spec-difference.ts'
import { refOf, showHeld } from './strangers.ts'
import type { Kept, Rule } from './types.ts'

/** Far more than one pull request has waiting. */
const LOOKED_AT = 200

/**
 * Every head of a pull request is tested once. What counts is what the forge's API says, not what a delivery said. What
 * somebody without write access wrote is tested without secrets, and with a changed spec only after it was let in.
 */
export function createPullRequestRule(deps: {
  readonly deliveries: Deliveries
  readonly runs: Runs
  readonly specDifference: SpecDifferenceOf
}): Rule {
  async function look(kept: Kept, number: number): Promise<string> {
    const { repository, forge } = kept
    const pull = await forge.pullRequests?.get(number)
    if (pull === undefined) return `there is no pull request ${number}`
    if (pull.state === 'closed') {
      await endHeld(repository.name, number, (run) => [run.id, 'the pull request is closed'])
      return `pull request ${number} is closed`
    }
    if (!pull.fork && isPromotionBranch(pull.head.branch)) return `pull request ${number} is one of Penstock’s own`
    const recorded = await recordHead(kept, pull)
    if (typeof recorded === 'string') return recorded
    const { run, isNew } = recorded
    await endHeld(repository.name, number, (one) =>
      one.number < run.number ? [one.id, supersededReason(run.id)] : undefined,
    )
    if (run.secrets === 'none' && (run.held !== undefined || run.approval !== undefined)) {
      await showHeld(kept, pull, run, deps.specDifference)
    }
    if (run.held !== undefined) return `run ${run.number} for pull request ${number} waits: ${run.held}`
    return isNew
      ? `run ${run.number} for pull request ${number}`
      : `pull request ${number} at ${pull.head.commit.slice(0, 12)} has its run`
  }

  async function recordHead(
    kept: Kept,
    pull: PullRequest,
  ): Promise<{ readonly run: RunRow; readonly isNew: boolean } | string> {
    const { repository, forge } = kept
    const author: Access = pull.author === undefined ? 'none' : ((await forge.people?.access(pull.author)) ?? 'none')
    const facts = { origin: pull.fork ? 'fork' : 'branch', author, approved: false } as const
    // The spec of somebody who may change the base branch's needs no comparison.
    const trusted = admit('pull_request', { ...facts, specChanged: false })
    const specChanged =
      trusted.kind === 'starts' && trusted.secrets === 'none'
        ? (await deps.specDifference({ name: repository.name, forge }, pull.head.commit, pull.base.branch)).changed
        : false
    const admission = admit('pull_request', { ...facts, specChanged })
    if (admission.kind === 'refused') return `pull request ${pull.number}: ${admission.sentence}`
    const trigger = triggerOf(repository.name, pull)
    const recorded = await deps.deliveries.record(deliveryOf(repository.name, pull), trigger, admission)
    if (recorded.kind === 'run') return { run: recorded.run, isNew: true }
    if (recorded.kind === 'duplicate' && recorded.run !== undefined) return { run: recorded.run, isNew: false }
    return `pull request ${pull.number} at ${pull.head.commit.slice(0, 12)} is known`
  }

  /** What waits to be let in and is not the head of an open pull request any more waits for nothing. */
  async function endHeld(
    repo: string,
    number: number,
    why: (run: RunRow) => readonly [string, string] | undefined,
  ): Promise<void> {
    const ref = refOf(number)
    for (const run of await deps.runs.list({ repo, ref, status: 'waiting', limit: LOOKED_AT })) {
      const ended = run.held === undefined ? undefined : why(run)
      if (ended !== undefined) await deps.runs.requestCancel(ended[0], PENSTOCK, ended[1])
    }
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
      ref: refOf(number),
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
