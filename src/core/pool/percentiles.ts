export interface Percentiles {
  readonly count: number
  readonly p50: number
  readonly p90: number
  readonly p99: number
}

/** By nearest rank: each is a value that did occur. Undefined without values. */
export function percentiles(values: readonly number[]): Percentiles | undefined {
  const [p50, p90, p99] = [0.5, 0.9, 0.99].map((share) => percentile(values, share))
  return p50 === undefined || p90 === undefined || p99 === undefined
    ? undefined
    : { count: values.length, p50, p90, p99 }
}

/** The smallest of the values that is not below `share` of them; undefined without values. */
export function percentile(values: readonly number[], share: number): number | undefined {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]
}
