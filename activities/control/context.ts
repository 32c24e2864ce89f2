import { ApplicationFailure } from '@temporalio/activity'
import type { Logger } from 'pino'
import { createAuthors } from '../../src/approval/authors.ts'
import { createRights } from '../../src/approval/rights.ts'
import type { Config, RepositoryConfig } from '../../src/config/types.ts'
import { branchRole } from '../../src/core/change.ts'
import type { Waiting } from '../../src/core/events.ts'
import { type JobKey, jobId, parseRunId } from '../../src/core/ids.ts'
import { isOutcome, type Outcome } from '../../src/core/outcome.ts'
import type { SwarmDeployer } from '../../src/deploy/swarm.ts'
import type { Cluster, Errands } from '../../src/engine/types.ts'
import type { Forge } from '../../src/forge/types.ts'
import type { Mirrors } from '../../src/git/mirrors.ts'
import type { RunDetail, Store } from '../../src/store/types.ts'

export interface ControlDeps {
  readonly config: Config
  readonly store: Store
  readonly cluster: Cluster
  readonly mirrors: Mirrors
  readonly forges: (repo: RepositoryConfig) => Forge
  readonly deployer: SwarmDeployer
  readonly errands: Errands
  readonly log: Logger
  readonly clock: () => number
}

export type ControlContext = ReturnType<typeof createContext>

/** What all control activities ask. */
export function createContext(deps: ControlDeps) {
  const { config, store, forges } = deps
  const roleOf = async (repository: RepositoryConfig, login: string) => forges(repository).people?.role(login)
  const rights = createRights({ config, roleOf })
  const authorsOf = createAuthors(deps)

  async function runOf(run: string): Promise<RunDetail> {
    const id = parseRunId(run)
    const detail = id && (await store.runs.get(id.repo, id.number))
    if (!detail) throw ApplicationFailure.nonRetryable(`run ${run} is not in the database`, 'errored')
    return detail
  }

  function repositoryOf(name: string): RepositoryConfig | undefined {
    return Object.hasOwn(config.repositories, name) ? config.repositories[name] : undefined
  }

  /** A Temporal whose file was put back to an older copy may run what has ended long ago: it must touch nothing more. */
  async function endedAlready(run: string): Promise<string | undefined> {
    const { status } = await runOf(run)
    return isOutcome(status) ? endedSentence(run, status) : undefined
  }

  /**
   * A plan is made once for a run, and the operator's file changes: what has been given a gate since then is nobody's, but
   * for the production branch, to which what was signed off for its own environment is released.
   */
  function whyGated({ repo, change }: RunDetail, environment: string): string | undefined {
    const repository = repositoryOf(repo)
    if (repository?.environments[environment]?.gate === undefined) return undefined
    if (branchRole(change.ref, repository.branches) === 'production' && change.pullRequest === undefined) {
      const elsewhere = rights.notProduction(repo, environment)
      return elsewhere && `${elsewhere}; push again`
    }
    return `environment ${environment} has a gate now, which this run was planned without; push again`
  }

  async function showJobWaiting({ run, stage, job, attempt }: JobKey, waitingFor: Waiting): Promise<void> {
    await store.events.append(run, `${jobId({ run, stage, job, attempt })}:waiting:${waitingFor.sentence}`, [
      { type: 'job.waiting.v1', stage, job, attempt, waitingFor },
    ])
  }

  return { ...deps, rights, authorsOf, runOf, repositoryOf, endedAlready, whyGated, showJobWaiting }
}

export function endedSentence(run: string, outcome: Outcome): string {
  return `run ${run} has ended already: ${outcome}`
}
