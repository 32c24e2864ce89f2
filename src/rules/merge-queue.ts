import { createHash } from 'node:crypto'
import { admit, ON_A_BRANCH } from '../core/admission.ts'
import { branchName, type Trigger } from '../core/change.ts'
import type { Notice } from '../core/notice.ts'
import type { Deliveries } from '../store/types.ts'
import type { Kept, Rule } from './types.ts'
import type { UpToDate } from './up-to-date.ts'

/** The forge's own merge queue makes a commit, and moves the candidate branch there if it is judged well. */
export function createMergeQueueRule(deps: { readonly deliveries: Deliveries; readonly upToDate: UpToDate }): Rule {
  async function judge(kept: Kept, { commit, ref, base }: Extract<Notice, { kind: 'merge_group' }>): Promise<string> {
    const { repository, forge } = kept
    const { candidate } = repository.branches
    if (base !== `refs/heads/${candidate}`) return `a merge queue of ${base}; only ${candidate} has rules for one`
    // A group that was taken apart meanwhile is judged for nobody.
    const now = await forge.branchTip(branchName(ref))
    if (now !== commit) return `${ref} is no longer at ${commit.slice(0, 12)}`
    // Only who may write puts a pull request into the queue, and only the forge makes its branches.
    const admission = admit('merge_queue', ON_A_BRANCH)
    if (admission.kind === 'refused') return admission.sentence
    const recorded = await deps.deliveries.record(
      deliveryOf(repository.name, ref, commit),
      triggerOf(repository.name, ref, commit),
      admission,
    )
    const shown = await deps.upToDate.show(kept, commit)
    const run = recorded.kind === 'run' || recorded.kind === 'duplicate' ? recorded.run?.number : undefined
    return `merge queue, ${commit.slice(0, 12)}: run ${run ?? '-'}, ${shown}`
  }

  return {
    name: 'merge queue',
    attend: async (kept, notice) => (notice.kind === 'merge_group' ? judge(kept, notice) : undefined),
  }
}

/**
 * The queue's branch is new, and the forge tells of its push as well: both mean the same, and make one run, of what a
 * feature branch is asked for.
 */
function triggerOf(repo: string, ref: string, commit: string): Trigger {
  return { kind: 'push', repo, requestedBy: 'merge queue', change: { commit, ref } }
}

function deliveryOf(repo: string, ref: string, commit: string) {
  const id = `${repo}/merge_group/${ref}/${commit}`
  return { source: 'forge', id, event: 'merge_group', bodyDigest: createHash('sha256').update(id).digest('hex') }
}
