import type { Logger } from 'pino'
import { createBallots } from '../src/approval/ballots.ts'
import { personOf } from '../src/config/people.ts'
import type { Config, RepositoryConfig } from '../src/config/types.ts'
import type { Forge } from '../src/forge/types.ts'
import type { Mirrors } from '../src/git/mirrors.ts'
import { createDependentsRule } from '../src/rules/dependents.ts'
import { createDriftRule } from '../src/rules/drift.ts'
import { createMergeRule } from '../src/rules/merge.ts'
import { createMergeQueueRule } from '../src/rules/merge-queue.ts'
import { createPromotionRule } from '../src/rules/promotion.ts'
import { createPullRequestRule } from '../src/rules/pull-requests.ts'
import { createRerunRule } from '../src/rules/rerun.ts'
import { createSpecDifferences } from '../src/rules/spec-difference.ts'
import { createOkToTestRule } from '../src/rules/strangers.ts'
import { createLostDeliveryRule, createUntoldBranchRule, createUntoldPullRequestRule } from '../src/rules/sweep.ts'
import type { Rule } from '../src/rules/types.ts'
import { createUpToDate, createUpToDateRule } from '../src/rules/up-to-date.ts'
import { SPEC_FILE } from '../src/spec/parse.ts'
import type { Store } from '../src/store/types.ts'
import { createMasks } from './forge-reports.ts'

export interface RulesDeps {
  readonly config: Config
  readonly store: Store
  readonly forges: (repository: RepositoryConfig) => Forge
  readonly mirrors: Mirrors
  readonly clock: () => number
  readonly log: Logger
}

/** The rules that are kept up at the forges, in the order in which they look at news. */
export function createRules(deps: RulesDeps): readonly Rule[] {
  const { config, store, mirrors, clock, log } = deps
  const { deliveries, merges, runs, sightings, reports, audit } = store
  const whoIs = (login: string, repository: RepositoryConfig) => personOf(config, repository, login)
  const specDifference = createSpecDifferences({ mirrors, file: SPEC_FILE })
  const upToDate = createUpToDate({ mirrors, clock })
  const roleOf = async (repository: RepositoryConfig, login: string) => deps.forges(repository).people?.role(login)
  const ballots = createBallots({ config, store, clock, roleOf, proof: 'forge' })
  const mask = createMasks(config)
  const urlOf = (run: number) => `${config.server.url}/api/v1/runs/${run}`
  return [
    createPullRequestRule({ deliveries, runs, specDifference }),
    createOkToTestRule({ runs, specDifference, personOf: whoIs }),
    createRerunRule({ runs, personOf: whoIs }),
    createUpToDateRule(upToDate),
    createMergeRule({ merges, runs, mirrors, people: config.people, clock }),
    createMergeQueueRule({ deliveries, upToDate }),
    createPromotionRule({ store, ballots, mirrors, personOf: whoIs, mask, urlOf, clock, log }),
    createDependentsRule({ ...deps, repositories: config.repositories }),
    createLostDeliveryRule({ clock, log }),
    createUntoldBranchRule({ deliveries, sightings, clock, log }),
    createUntoldPullRequestRule({ deliveries, sightings, clock, log }),
    createDriftRule({ reports, audit, clock, log }),
  ]
}
