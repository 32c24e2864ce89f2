import type { RunEvent } from './events.ts'

/** A repository that tests against a candidate, or must before it goes to production. */
export interface Dependent {
  readonly repo: string
  readonly isBlocking: boolean
  /** Number of its run; absent: none was started. */
  readonly run?: number
  /** Why it never will have one; absent beside an absent `run`: it has not been started yet. */
  readonly refused?: string
}

/** Those that block first, in the operator's order. `name`: the candidate's repository. */
export function dependentsOf(
  events: readonly RunEvent[],
  { name, blocking }: { readonly name: string; readonly blocking: readonly string[] },
): readonly Dependent[] {
  const known = events.find((event) => event.type === 'dependents.started.v1')?.dependents
  const held = blocking.map((repo): Dependent => {
    const dependent = { repo, isBlocking: true }
    if (known === undefined) return dependent
    const started = known.find((one) => one.repo === repo)
    const refused = `what it has released does not follow ${name} (\`on: upstream\`)`
    return { ...dependent, ...(started ?? { refused }) }
  })
  const others = (known ?? []).filter(({ repo }) => !blocking.includes(repo))
  return [...held, ...others.map((one) => ({ ...one, isBlocking: false }))]
}
