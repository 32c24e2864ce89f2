import type { OnExpiry } from '../core/approval.ts'
import type { BranchNames } from '../core/change.ts'
import type { Form } from '../core/form.ts'
import type { PoolSettings, UnitSettings } from '../core/pool/settings.ts'
import type { Window } from '../core/window.ts'
import type { Secret } from './secret.ts'

export const ROLES = ['viewer', 'developer', 'approver', 'operator', 'admin'] as const
export type Role = (typeof ROLES)[number]

/** The operator's file and the environment variables over it, checked and resolved. Secrets exist in memory only. */
export interface Config {
  /** Absolute path of the operator's file. */
  readonly file: string
  /** Absolute path. */
  readonly dataDir: string
  readonly instance: string
  readonly server: { readonly listen: { readonly host: string; readonly port: number }; readonly url: string }
  readonly database: DatabaseConfig
  readonly temporal: { readonly address: string; readonly namespace: string; readonly ui?: string }
  readonly trustTemporalAccess: boolean
  readonly unplaceable: 'fail' | 'wait'
  readonly jobsPerNode: number
  /** Absent: no worker of a node can reach the server. */
  readonly workerToken?: Secret
  readonly people: Readonly<Record<string, PersonConfig>>
  /** Names of people, by team. */
  readonly teams: Readonly<Record<string, readonly string[]>>
  readonly repositories: Readonly<Record<string, RepositoryConfig>>
  readonly pools: readonly PoolConfig[]
}

export type DatabaseConfig =
  | { readonly kind: 'sqlite'; readonly path: string }
  | { readonly kind: 'postgres'; readonly url: Secret }

export interface PersonConfig {
  readonly name: string
  readonly roles: readonly Role[]
  /** Logins, by the forge. */
  readonly github?: string
  readonly gitea?: string
  readonly gitlab?: string
  readonly git?: string
  readonly email: readonly string[]
}

export type ForgeConfig =
  | { readonly kind: 'git' }
  /** Without `access` only what git itself can do is done. */
  | { readonly kind: 'github'; readonly api: string; readonly access?: GithubAccessConfig }
  | { readonly kind: 'gitea' | 'gitlab'; readonly api: string; readonly access?: TokenAccessConfig }

export interface TokenAccessConfig {
  readonly kind: 'token'
  readonly token: Secret
}

export type GithubAccessConfig =
  | TokenAccessConfig
  | { readonly kind: 'app'; readonly id: string; readonly privateKey: Secret; readonly installation?: number }

export interface RepositoryConfig {
  /** `acme/web` */
  readonly name: string
  readonly forge: ForgeConfig
  /** Absolute path, `ssh://` or `https://`: the only place that is ever fetched from. */
  readonly url: string
  readonly branches: BranchNames
  /** The label that asks for a merge. */
  readonly mergeLabel?: string
  /** What becomes of a push by somebody whom `people` does not know, where no forge can be asked. */
  readonly unknownPusher: 'run' | 'refuse'
  /** One, or two while they are rotated. */
  readonly webhookSecrets: readonly Secret[]
  readonly secrets: Readonly<Record<string, Secret>>
  readonly environments: Readonly<Record<string, EnvironmentConfig>>
  /** Its gate guards the production branch. Absent: no environment has a gate. */
  readonly productionEnvironment?: string
  readonly dependents: DependentsConfig
}

/** What repositories that follow this one may cost, and which of them hold up its production. */
export interface DependentsConfig {
  readonly blocking: readonly string[]
  /** Runs that one candidate may start. */
  readonly most: number
  readonly timeoutMs: number
}

export interface EnvironmentConfig {
  readonly name: string
  readonly url?: string
  readonly target?: { readonly swarm: SwarmTarget }
  /** Present: what goes here has to be approved. */
  readonly gate?: EnvironmentGate
}

export interface EnvironmentGate {
  /** At least one; all of them are needed. */
  readonly approvals: readonly WrittenGroup[]
  readonly expiresMs: number
  readonly onExpiry: OnExpiry
  /** So long after the gate was opened; ascending. */
  readonly remindersMs: readonly number[]
  readonly window?: Window
  /** What whoever approves fills in. */
  readonly form?: Form
  /** An operator who wrote or pushed the change may pass the gate by break-glass. */
  readonly breakGlassByAuthor?: true
}

export interface WrittenGroup {
  /** As written: names of people, `team:NAME`, `role:NAME`, and `forge:write`, `forge:maintain`, `forge:admin`. */
  readonly from: readonly string[]
  readonly count: number
}

export interface SwarmTarget {
  readonly service: string
  readonly env: Readonly<Record<string, string>>
  readonly command?: readonly string[]
  readonly network?: string
  readonly publish: readonly { readonly host: number; readonly container: number }[]
}

export interface PoolConfig extends PoolSettings {
  readonly name: string
  readonly units: readonly UnitConfig[]
}

export interface UnitConfig extends UnitSettings {
  readonly name: string
  /** By name; what a job gets while it holds the unit. */
  readonly credentials: Readonly<Record<string, Secret>>
}
