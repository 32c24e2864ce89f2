import { admit, factsOfRun } from '../core/admission.ts'
import { commandIn } from '../core/command.ts'
import { parseRunId } from '../core/ids.ts'
import type { Notice } from '../core/notice.ts'
import { isOutcome } from '../core/outcome.ts'
import type { RunRow, Runs } from '../store/types.ts'
import { refOf } from './strangers.ts'
import type { Kept, Rule } from './types.ts'

/** Runs of one commit are few. */
const LOOKED_AT = 200

/**
 * The button beside a check, and `/retry` on a pull request: a new try of its run, for somebody who may write here. What
 * the run may ask for stays as it was.
 */
export function createRerunRule(deps: {
  readonly runs: Runs
  /** The person of the operator's file with this login at the repository's forge. */
  readonly personOf: (login: string, repository: Kept['repository']) => string | undefined
}): Rule {
  async function byButton(kept: Kept, notice: Extract<Notice, { kind: 'rerun' }>): Promise<string> {
    const { commit, identity, by } = notice
    const named = identity === undefined ? undefined : namedBy(identity)
    const run =
      named === undefined
        ? await newestOf(kept.repository.name, commit)
        : await runOf(kept.repository.name, commit, named)
    return again(kept, { by, run, about: commit, ...(named === undefined ? {} : { fromTry: named.try }) })
  }

  async function byComment(kept: Kept, { pullRequest, comment: id }: Extract<Notice, { kind: 'comment' }>) {
    const comment = await kept.forge.comments?.get(id)
    if (comment?.by === undefined || commandIn(comment.body)?.kind !== 'retry') return undefined
    if (comment.pullRequest !== pullRequest || comment.edited) return 'a comment that was changed tries nothing again'
    const pull = await kept.forge.pullRequests?.get(pullRequest)
    if (pull === undefined || pull.state === 'closed') return `pull request ${pullRequest} is not open`
    const { commit } = pull.head
    const run = await newestOf(kept.repository.name, commit, refOf(pullRequest))
    return again(kept, { by: comment.by, run, about: commit, cause: `comment/${id}` })
  }

  async function again(
    kept: Kept,
    asked: {
      readonly by: string
      readonly run: RunRow | undefined
      readonly about: string
      readonly fromTry?: number
      readonly cause?: string
    },
  ): Promise<string> {
    const { by, run, about, cause } = asked
    const access = (await kept.forge.people?.access(by)) ?? 'none'
    if (run === undefined) return `no run of ${about.slice(0, 12)} is known`
    const admission = admit('retry', factsOfRun(run, access))
    if (admission.kind !== 'starts') return `run ${run.number} is not tried again for ${by}: ${admission.sentence}`
    if (!isOutcome(run.status)) return `run ${run.number} has not ended`
    const answer = await deps.runs.retry(
      run.id,
      asked.fromTry ?? run.try,
      deps.personOf(by, kept.repository) ?? by,
      cause,
    )
    return answer.kind === 'retried'
      ? `run ${run.number} is tried again, as ${by} asked`
      : `run ${run.number} is not tried again: ${answer.why}`
  }

  async function runOf(repo: string, commit: string, named: Named): Promise<RunRow | undefined> {
    const run = named.repo === repo ? await deps.runs.get(repo, named.number) : undefined
    return run?.change.commit === commit ? run : undefined
  }

  /** The newest run of the commit that did not succeed. */
  async function newestOf(repo: string, commit: string, ref?: string): Promise<RunRow | undefined> {
    const runs = await deps.runs.list({ repo, commit, limit: LOOKED_AT, ...(ref === undefined ? {} : { ref }) })
    return runs.find(({ status }) => status !== 'succeeded')
  }

  return {
    name: 'run again',
    attend: async (kept, notice) => {
      if (notice.kind === 'rerun') return byButton(kept, notice)
      return notice.kind === 'comment' ? byComment(kept, notice) : undefined
    },
  }
}

interface Named {
  readonly repo: string
  readonly number: number
  readonly try: number
}

/** A check's identity is ours: `acme/web#42/2`, of the second try. */
function namedBy(identity: string): Named | undefined {
  const end = identity.lastIndexOf('/')
  const run = parseRunId(identity.slice(0, end))
  return run && { ...run, try: Number(identity.slice(end + 1)) }
}
