import type { RepositoryConfig } from '../config/types.ts'
import type { Notice } from '../core/notice.ts'
import type { Forge } from '../forge/types.ts'

/** A repository of the operator's file with the forge that keeps it. */
export interface Kept {
  readonly repository: RepositoryConfig
  readonly forge: Forge
}

/**
 * One rule of the branching model, kept up at the forge. It looks at how things stand, there and in the database, and does
 * what is still to be done: called again, or a second time at once, it does nothing twice. What it throws is tried again.
 */
export interface Rule {
  readonly name: string
  /** After a delivery. Says what was done, for people; undefined: it is none of this rule's business. */
  readonly attend?: (kept: Kept, notice: Notice) => Promise<string | undefined>
  /** Now and then, for what no delivery tells or whose delivery was lost. */
  readonly review?: (kept: Kept) => Promise<void>
}
