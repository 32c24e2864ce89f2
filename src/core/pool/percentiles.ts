export interface Percentiles {
  readonly count: number
  readonly p50: number
  readonly p90: number
  readonly p99: number
}

/** By nearest rank: each is a value that did occur. Undefined without values. */
export function percentiles(values: readonly number[]): Percentiles | undefined {
  const ranked = ranks(values, [0.5, 0.9, 0.99])
  return ranked && { count: values.length, p50: ranked[0], p90: ranked[1], p99: ranked[2] }
}

type Three = readonly [number, number, number]

/** For each share the smallest of the values that is not below so many of them; undefined without values. */
export function ranks(values: readonly number[], shares: Three): Three | undefined {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]
  const [low, middle, high] = [at(shares[0]), at(shares[1]), at(shares[2])]
  return low === undefined || middle === undefined || high === undefined ? undefined : [low, middle, high]
}
