import type { Config } from '../src/config/types.ts'
import type { Mirrors } from '../src/git/mirrors.ts'
import { createPullRequestRule } from '../src/rules/pull-requests.ts'
import { createRerunRule } from '../src/rules/rerun.ts'
import { createSpecDifferences } from '../src/rules/spec-difference.ts'
import { createOkToTestRule } from '../src/rules/strangers.ts'
import type { Rule } from '../src/rules/types.ts'
import { SPEC_FILE } from '../src/spec/parse.ts'
import type { Store } from '../src/store/types.ts'

/** The rules that are kept up at the forges, in the order in which they look at news. */
export function createRules(deps: {
  readonly config: Config
  readonly store: Store
  readonly mirrors: Mirrors
}): readonly Rule[] {
  const { config, store, mirrors } = deps
  const { deliveries, runs } = store
  const personOf = (login: string) =>
    Object.values(config.people).find(({ github }) => github?.toLowerCase() === login.toLowerCase())?.name
  const specDifference = createSpecDifferences({ mirrors, file: SPEC_FILE })
  return [
    createPullRequestRule({ deliveries, runs, specDifference }),
    createOkToTestRule({ runs, specDifference, personOf }),
    createRerunRule({ runs, personOf }),
  ]
}
