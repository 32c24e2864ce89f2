import type { Mode, PoolUnit, Wanted } from './state.ts'

export type UnitName = Pick<PoolUnit, 'pool' | 'unit'>

export interface Matched<U extends UnitName> {
  readonly unit: U
  /** Of the unit, in the list that the graph was made of. */
  readonly index: number
  readonly mode: Mode
}

/** Which of some units a request could use; the order of the units is the order in which they are given. */
export interface Graph<U extends UnitName> {
  fitting(wanted: Pick<Wanted, 'pool' | 'fits'>): readonly number[]
  /** Different units for as much of it as can be had at once, among the usable ones; those of `later` after all others. */
  match(
    wanted: readonly Wanted[],
    among?: { readonly isUsable: (index: number, mode: Mode) => boolean; readonly later: ReadonlySet<number> },
  ): readonly Matched<U>[]
}

/** What one part of a request could be given: `count` of the candidates. */
interface Part {
  readonly mode: Mode
  readonly count: number
  readonly candidates: readonly number[]
}

export function createGraph<U extends UnitName>(units: readonly U[]): Graph<U> {
  const indexes = new Map<string, Map<string, number>>()
  units.forEach(({ pool, unit }, index) => {
    const ofPool = indexes.get(pool) ?? new Map<string, number>()
    indexes.set(pool, ofPool.set(unit, index))
  })
  // Requests for the same share the list of what fits: it is looked up once.
  const known = new Map<readonly string[], Map<string, readonly number[]>>()

  const fitting: Graph<U>['fitting'] = ({ pool, fits }) => {
    const byPool = known.get(fits) ?? new Map<string, readonly number[]>()
    known.set(fits, byPool)
    const before = byPool.get(pool)
    if (before !== undefined) return before
    const found = new Set(fits.flatMap((unit) => indexes.get(pool)?.get(unit) ?? []))
    const sorted = [...found].sort((a, b) => a - b)
    byPool.set(pool, sorted)
    return sorted
  }

  return {
    fitting,
    match(wanted, { isUsable, later } = { isUsable: () => true, later: new Set() }) {
      const parts = wanted.map(
        (one): Part => ({ ...one, candidates: fitting(one).filter((index) => isUsable(index, one.mode)) }),
      )
      return maximumMatching(parts, later).flatMap(({ mode, index }) => {
        const unit = units[index]
        return unit === undefined ? [] : [{ unit, index, mode }]
      })
    },
  }
}

/**
 * As many units as can be used at once (maximum bipartite matching by augmenting paths): where what fits overlaps, the first
 * unit that fits is not always the right one. Units are tried in their order, those of `later` at the end, and a unit once
 * used stays in use: so it is the first units that serve, and with a unit left over nothing more could be had.
 */
function maximumMatching(
  parts: readonly Part[],
  later: ReadonlySet<number>,
): readonly { readonly mode: Mode; readonly index: number }[] {
  const [only, ...others] = parts
  if (only !== undefined && others.length === 0) {
    return only.candidates.slice(0, only.count).map((index) => ({ mode: only.mode, index }))
  }
  const used = parts.map((): number[] => [])
  const partsOf = new Map<number, number[]>()
  parts.forEach(({ candidates }, nth) => {
    for (const index of candidates) {
      const fitting = partsOf.get(index)
      if (fitting === undefined) partsOf.set(index, [nth])
      else fitting.push(nth)
    }
  })
  const place = (index: number, tried: Set<number>): boolean => {
    const fitting = partsOf.get(index) ?? []
    const open = fitting.find((nth) => (used[nth]?.length ?? 0) < (parts[nth]?.count ?? 0))
    if (open !== undefined) {
      used[open]?.push(index)
      return true
    }
    // Somebody else moves to another part, if there is one for him.
    for (const nth of fitting) {
      if (tried.has(nth)) continue
      tried.add(nth)
      const at = used[nth]?.findIndex((other) => place(other, tried)) ?? -1
      if (at < 0) continue
      used[nth]?.splice(at, 1, index)
      return true
    }
    return false
  }
  let missing = parts.reduce((sum, one) => sum + one.count, 0)
  const order = [...partsOf.keys()].sort((a, b) => Number(later.has(a)) - Number(later.has(b)) || a - b)
  for (const index of order) {
    if (missing === 0) break
    if (place(index, new Set())) missing -= 1
  }
  return parts.flatMap(({ mode }, nth) => (used[nth] ?? []).map((index) => ({ mode, index })))
}
