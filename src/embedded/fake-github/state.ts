/** What the fake knows. Plain data, changed by the routes and by what people are said to do. */

export interface User {
  readonly id: number
  readonly login: string
  readonly type: 'User' | 'Bot' | 'Organization'
}

export type Level = 'read' | 'write' | 'admin'
/** What somebody was given: a maintainer may write, and a little more. */
export type Role = Level | 'maintain'

export interface Repo {
  readonly id: number
  readonly owner: User
  readonly name: string
  readonly fullName: string
  readonly private: boolean
  readonly parent?: Repo
  /** The bare repository. */
  readonly dir: string
  readonly defaultBranch: string
  readonly createdAt: string
  readonly access: Map<string, Role>
  readonly pulls: Pull[]
  readonly comments: Comment[]
  readonly statuses: Status[]
  readonly checks: CheckRun[]
  readonly deployments: Deployment[]
  readonly protections: Map<string, Protection>
  readonly hooks: Hook[]
  /** Moves of branches, oldest first. */
  readonly activities: Activity[]
}

export interface Activity {
  readonly id: number
  readonly ref: string
  readonly before: string
  readonly after: string
  readonly kind: 'push' | 'force_push' | 'branch_creation' | 'branch_deletion'
  readonly actor: User
  readonly at: string
}

export interface Pull {
  readonly id: number
  readonly number: number
  title: string
  body: string | null
  readonly user: User
  readonly head: { readonly repo: Repo; readonly branch: string }
  base: string
  /** The head as it was last seen; a closed one keeps it. */
  commit: string
  baseCommit: string
  state: 'open' | 'closed'
  mergedAt: string | null
  mergedBy: User | null
  closedAt: string | null
  draft: boolean
  labels: string[]
  readonly labelings: Labeling[]
  readonly reviews: Review[]
  readonly createdAt: string
  updatedAt: string
}

export interface Labeling {
  readonly id: number
  readonly event: 'labeled' | 'unlabeled'
  readonly name: string
  readonly user: User
  readonly at: string
}

export interface Review {
  readonly id: number
  readonly user: User
  state: 'APPROVED' | 'CHANGES_REQUESTED' | 'COMMENTED' | 'DISMISSED'
  readonly body: string
  readonly commit: string
  readonly at: string
}

export interface Comment {
  readonly id: number
  readonly pull: number
  readonly user: User
  body: string
  readonly createdAt: string
  updatedAt: string
}

export interface Status {
  readonly id: number
  readonly sha: string
  readonly state: 'pending' | 'success' | 'failure' | 'error'
  readonly context: string
  readonly description: string | null
  readonly targetUrl: string | null
  readonly creator: User
  readonly at: string
}

export interface Annotation {
  readonly path: string
  readonly start_line: number
  readonly end_line: number
  readonly annotation_level: string
  readonly message: string
  readonly title?: string
}

export interface CheckRun {
  readonly id: number
  readonly sha: string
  name: string
  status: string
  conclusion: string | null
  externalId: string | null
  detailsUrl: string | null
  startedAt: string | null
  completedAt: string | null
  title: string | null
  summary: string | null
  text: string | null
  readonly annotations: Annotation[]
  actions: readonly { readonly identifier: string; readonly label: string; readonly description: string }[]
}

export interface DeploymentStatus {
  readonly id: number
  readonly state: string
  readonly description: string
  readonly logUrl: string
  readonly environmentUrl: string
  readonly creator: User
  readonly at: string
}

export interface Deployment {
  readonly id: number
  readonly sha: string
  readonly ref: string
  readonly environment: string
  readonly payload: unknown
  readonly description: string | null
  readonly production: boolean
  readonly creator: User
  readonly at: string
  readonly statuses: DeploymentStatus[]
}

export interface Protection {
  readonly checks?: readonly string[]
  /** Approvals that the pull request of what is pushed needs. */
  readonly reviews?: number
  readonly linear?: boolean
  readonly allowForce?: boolean
  readonly allowDeletion?: boolean
  /** Logins that may move it; absent: whoever may write. */
  readonly onlyBy?: readonly string[]
}

/** What a merge queue has put together, and wants judged before it moves the branch there. */
export interface MergeGroup {
  readonly pull: number
  readonly commit: string
  /** Of a branch that the queue made for it. */
  readonly ref: string
  readonly base: string
  readonly baseRef: string
}

export interface Hook {
  readonly id: number
  readonly url: string
  readonly secret: string
  readonly events: readonly string[]
  active: boolean
  readonly createdAt: string
  readonly deliveries: Delivery[]
}

export interface Delivery {
  readonly id: number
  readonly guid: string
  readonly event: string
  readonly action: string | null
  readonly at: string
  readonly redelivery: boolean
  readonly repository: number | null
  readonly body: string
  /** 0: no answer. */
  code: number
  duration: number
}

export interface App {
  readonly id: number
  readonly slug: string
  readonly publicKey: string
  readonly permissions: Readonly<Record<string, string>>
  readonly events: readonly string[]
  readonly hook?: Hook
  readonly installations: Installation[]
  readonly bot: User
  readonly createdAt: string
}

export interface Installation {
  readonly id: number
  readonly account: User
  readonly repositories: readonly string[]
  permissions: Readonly<Record<string, string>>
}

/** Whose token came with a request. */
export type Caller =
  | { readonly kind: 'person'; readonly user: User; readonly scopes?: readonly string[] }
  | {
      readonly kind: 'installation'
      readonly user: User
      readonly repositories: readonly string[]
      readonly permissions: Readonly<Record<string, string>>
    }
  | { readonly kind: 'app'; readonly app: App }
