import type { Config } from '../src/config/types.ts'
import { createPullRequestRule } from '../src/rules/pull-requests.ts'
import { createRerunRule } from '../src/rules/rerun.ts'
import type { Rule } from '../src/rules/types.ts'
import type { Store } from '../src/store/types.ts'

/** The rules that are kept up at the forges, in the order in which they look at news. */
export function createRules({ config, store }: { readonly config: Config; readonly store: Store }): readonly Rule[] {
  const personOf = (login: string) =>
    Object.values(config.people).find(({ github }) => github?.toLowerCase() === login.toLowerCase())?.name
  return [createPullRequestRule({ deliveries: store.deliveries }), createRerunRule({ runs: store.runs, personOf })]
}
