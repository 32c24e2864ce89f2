import type { Express } from 'express'
import type { Logger } from 'pino'
import type { Authors } from '../approval/authors.ts'
import type { ArtifactStore } from '../artifacts/store.ts'
import type { Config, RepositoryConfig } from '../config/types.ts'
import type { Change } from '../core/change.ts'
import type { Forge } from '../forge/types.ts'
import type { LogStore } from '../logs/store.ts'
import type { Store, TestCase } from '../store/types.ts'

export interface ApiDeps {
  readonly config: Config
  readonly store: Store
  readonly logs: LogStore
  readonly artifacts: ArtifactStore
  /** Files of manual tests: apart from the others, because these are deleted. */
  readonly evidence: ArtifactStore
  readonly log: Logger
  /** Milliseconds since 1970. */
  readonly clock: () => number
  /** The commit that a branch (`refs/heads/…`) has at its source now; undefined: no such branch. */
  readonly headOf: (repo: string, ref: string) => Promise<string | undefined>
  readonly forges: (repository: RepositoryConfig) => Forge
  /** Who wrote or pushed what is new with this change since the last release. */
  readonly authorsOf: (repository: RepositoryConfig, change: Change) => Promise<Authors>
  /** Whether a commit is on a branch of the repository now: only people with write access bring it there. */
  readonly isOnBranch: (repository: RepositoryConfig, commit: string) => Promise<boolean>
  /** How the spec at a commit differs from the one at the tip of a branch. */
  readonly specDifference: (
    repository: RepositoryConfig,
    commit: string,
    base: string,
  ) => Promise<{
    readonly changed: boolean
    readonly base: string
    readonly tip?: string
    readonly text?: string
  }>
  /** Replaces these secrets, as in a log, in texts that a job wrote. */
  readonly textMasker: (
    secrets: readonly { readonly name: string; readonly value: string }[],
  ) => (text: string) => string
  /** Reads a JUnit file. Throws an error with a message for the user if it is none. */
  readonly parseJunit: (bytes: Buffer) => readonly TestCase[]
  /** JUnit XML of a suite. */
  readonly writeJunit: (suite: string, cases: readonly TestCase[]) => string
  /** A node's worker said that it lives, after that is recorded: for the label by which jobs choose nodes. */
  readonly onNodeAlive?: (node: { readonly id: string; readonly hostname: string }) => Promise<void>
  /** More pages beside the interface (the web). Mounted after it, before "not found". */
  readonly mount?: (app: Express) => void
}
