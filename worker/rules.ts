import type { Logger } from 'pino'
import type { Config, RepositoryConfig } from '../src/config/types.ts'
import type { Forge } from '../src/forge/types.ts'
import type { Mirrors } from '../src/git/mirrors.ts'
import { createDependentsRule } from '../src/rules/dependents.ts'
import { createDriftRule } from '../src/rules/drift.ts'
import { createPullRequestRule } from '../src/rules/pull-requests.ts'
import { createRerunRule } from '../src/rules/rerun.ts'
import { createSpecDifferences } from '../src/rules/spec-difference.ts'
import { createOkToTestRule } from '../src/rules/strangers.ts'
import { createLostDeliveryRule, createUntoldBranchRule, createUntoldPullRequestRule } from '../src/rules/sweep.ts'
import type { Rule } from '../src/rules/types.ts'
import { SPEC_FILE } from '../src/spec/parse.ts'
import type { Store } from '../src/store/types.ts'

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
  const { deliveries, runs, sightings, reports, audit } = store
  const personOf = (login: string) =>
    Object.values(config.people).find(({ github }) => github?.toLowerCase() === login.toLowerCase())?.name
  const specDifference = createSpecDifferences({ mirrors, file: SPEC_FILE })
  return [
    createPullRequestRule({ deliveries, runs, specDifference }),
    createOkToTestRule({ runs, specDifference, personOf }),
    createRerunRule({ runs, personOf }),
    createDependentsRule({ ...deps, repositories: config.repositories }),
    createLostDeliveryRule({ clock, log }),
    createUntoldBranchRule({ deliveries, sightings, clock, log }),
    createUntoldPullRequestRule({ deliveries, sightings, clock, log }),
    createDriftRule({ reports, audit, clock, log }),
  ]
}
