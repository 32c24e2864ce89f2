import type { Logger } from 'pino'
import type { Config } from '../src/config/types.ts'
import { createDriftRule } from '../src/rules/drift.ts'
import { createPullRequestRule } from '../src/rules/pull-requests.ts'
import { createRerunRule } from '../src/rules/rerun.ts'
import { createLostDeliveryRule, createUntoldBranchRule, createUntoldPullRequestRule } from '../src/rules/sweep.ts'
import type { Rule } from '../src/rules/types.ts'
import type { Store } from '../src/store/types.ts'

/** The rules that are kept up at the forges, in the order in which they look at news. */
export function createRules(deps: {
  readonly config: Config
  readonly store: Store
  readonly clock: () => number
  readonly log: Logger
}): readonly Rule[] {
  const { config, store, clock, log } = deps
  const personOf = (login: string) =>
    Object.values(config.people).find(({ github }) => github?.toLowerCase() === login.toLowerCase())?.name
  const { deliveries, sightings, reports, audit } = store
  return [
    createPullRequestRule({ deliveries }),
    createRerunRule({ runs: store.runs, personOf }),
    createLostDeliveryRule({ clock, log }),
    createUntoldBranchRule({ deliveries, sightings, clock, log }),
    createUntoldPullRequestRule({ deliveries, sightings, clock, log }),
    createDriftRule({ reports, audit, clock, log }),
  ]
}
