import type { Config } from '../src/config/types.ts'
import type { Mirrors } from '../src/git/mirrors.ts'
import { createMergeRule } from '../src/rules/merge.ts'
import { createMergeQueueRule } from '../src/rules/merge-queue.ts'
import { createPullRequestRule } from '../src/rules/pull-requests.ts'
import { createRerunRule } from '../src/rules/rerun.ts'
import type { Rule } from '../src/rules/types.ts'
import { createUpToDate, createUpToDateRule } from '../src/rules/up-to-date.ts'
import type { Store } from '../src/store/types.ts'

export interface RulesDeps {
  readonly config: Config
  readonly store: Store
  readonly mirrors: Mirrors
  readonly clock: () => number
}

/** The rules that are kept up at the forges, in the order in which they look at news. */
export function createRules({ config, store, mirrors, clock }: RulesDeps): readonly Rule[] {
  const { people } = config
  const { deliveries, merges, runs } = store
  const personOf = (login: string) =>
    Object.values(people).find(({ github }) => github?.toLowerCase() === login.toLowerCase())?.name
  const upToDate = createUpToDate({ mirrors, clock })
  return [
    createPullRequestRule({ deliveries }),
    createRerunRule({ runs, personOf }),
    createUpToDateRule(upToDate),
    createMergeRule({ merges, runs, mirrors, people, clock }),
    createMergeQueueRule({ deliveries, upToDate }),
  ]
}
