/** What a unit is known by: what `where` asks for, and what a job that holds it is told. */
export type Properties = Readonly<Record<string, string | number | boolean>>

export interface UnitSettings {
  readonly labels: readonly string[]
  readonly properties: Properties
  readonly notes?: string
  /** Holders at once; 1: nobody shares it. */
  readonly capacity: number
  readonly resetCostMs: number
}

export interface PoolSettings {
  /** Never given to the code of strangers. */
  readonly privileged: boolean
  readonly notes?: string
  /** Places that the jobs of one repository, or one person, may hold at once; absent: no limit. */
  readonly share?: number
  /** Absent: jobs have no limit, and people that of `LONGEST_RESERVATION_MS`. */
  readonly maxHoldMs?: number
  readonly warnMs: number
  readonly reset?: HandOverStep
  readonly probe?: HandOverStep
  /** Between looks at a quarantined unit. */
  readonly probeEveryMs: number
}

/** How a unit is made ready for its next holder, or asked whether it is. */
export type HandOverStep = {
  readonly timeoutMs: number
} & (
  | {
      readonly kind: 'container'
      readonly image: string
      readonly run: readonly string[]
      readonly constraints: readonly string[]
    }
  /** `{PROPERTY}` in `url` stands for a property of the unit. `status` absent: 200 to 299. */
  | { readonly kind: 'http'; readonly url: string; readonly status?: number }
)

/** Where a pool sets no limit of its own. */
export const LONGEST_RESERVATION_MS = 8 * 3_600_000
