import { personOf } from '../src/config/people.ts'
import type { Config } from '../src/config/types.ts'
import { createPullRequestRule } from '../src/rules/pull-requests.ts'
import { createRerunRule } from '../src/rules/rerun.ts'
import type { Rule } from '../src/rules/types.ts'
import type { Store } from '../src/store/types.ts'

/** The rules that are kept up at the forges, in the order in which they look at news. */
export function createRules({ config, store }: { readonly config: Config; readonly store: Store }): readonly Rule[] {
  return [
    createPullRequestRule({ deliveries: store.deliveries }),
    createRerunRule({
      runs: store.runs,
      personOf: (login, repository) => personOf(config, repository, login),
    }),
  ]
}
