import type { Logger } from 'pino'
import { createBallots } from '../src/approval/ballots.ts'
import type { Config } from '../src/config/types.ts'
import type { Mirrors } from '../src/git/mirrors.ts'
import { createPromotionRule } from '../src/rules/promotion.ts'
import { createPullRequestRule } from '../src/rules/pull-requests.ts'
import { createRerunRule } from '../src/rules/rerun.ts'
import type { Rule } from '../src/rules/types.ts'
import type { Store } from '../src/store/types.ts'
import { createMasks } from './forge-reports.ts'

export interface RulesDeps {
  readonly config: Config
  readonly store: Store
  readonly mirrors: Mirrors
  readonly clock: () => number
  readonly log: Logger
}

/** The rules that are kept up at the forges, in the order in which they look at news. */
export function createRules({ config, store, mirrors, clock, log }: RulesDeps): readonly Rule[] {
  const personOf = (login: string) =>
    Object.values(config.people).find(({ github }) => github?.toLowerCase() === login.toLowerCase())?.name
  const ballots = createBallots({ config, store, clock })
  const mask = createMasks(config)
  const urlOf = (run: number) => `${config.server.url}/api/v1/runs/${run}`
  return [
    createPullRequestRule({ deliveries: store.deliveries }),
    createRerunRule({ runs: store.runs, personOf }),
    createPromotionRule({ store, ballots, mirrors, personOf, mask, urlOf, clock, log }),
  ]
}
