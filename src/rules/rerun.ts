import { parseRunId } from '../core/ids.ts'
import type { Notice } from '../core/notice.ts'
import { isOutcome } from '../core/outcome.ts'
import type { RunRow, Runs } from '../store/types.ts'
import type { Kept, Rule } from './types.ts'

/** Runs of one commit are few; older ones than these are not found by their commit. */
const LOOKED_AT = 200

/** The button beside a check: a new try of its run, for somebody who may write here. */
export function createRerunRule(deps: {
  readonly runs: Runs
  /** The person of the operator's file with this login at the repository's forge. */
  readonly personOf: (login: string, repository: Kept['repository']) => string | undefined
}): Rule {
  async function rerun(kept: Kept, { commit, identity, by }: Extract<Notice, { kind: 'rerun' }>): Promise<string> {
    const access = await kept.forge.people?.access(by)
    if (access !== 'write' && access !== 'admin') return `${by} may not write here, and so not run again`
    const run = await runOf(kept.repository.name, commit, identity)
    if (run === undefined) return `no run of ${commit.slice(0, 12)} is known`
    if (!isOutcome(run.status)) return `run ${run.number} has not ended`
    const answer = await deps.runs.retry(run.id, run.try, deps.personOf(by, kept.repository) ?? by)
    return answer.kind === 'retried'
      ? `run ${run.number} is tried again, as ${by} asked`
      : `run ${run.number} is not tried again: ${answer.why}`
  }

  /** By the check's identity (`acme/web#42/2`, of the try); else the newest run of the commit that did not succeed. */
  async function runOf(repo: string, commit: string, identity: string | undefined): Promise<RunRow | undefined> {
    const named = identity === undefined ? undefined : parseRunId(identity.slice(0, identity.lastIndexOf('/')))
    if (named !== undefined) {
      const run = named.repo === repo ? await deps.runs.get(repo, named.number) : undefined
      return run?.change.commit === commit ? run : undefined
    }
    const runs = await deps.runs.list({ repo, limit: LOOKED_AT })
    return runs.find(({ change, status }) => change.commit === commit && status !== 'succeeded')
  }

  return {
    name: 'run again',
    attend: async (kept, notice) => (notice.kind === 'rerun' ? rerun(kept, notice) : undefined),
  }
}
