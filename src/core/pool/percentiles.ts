export interface Percentiles {
  readonly count: number
  readonly p50: number
  readonly p90: number
  readonly p99: number
}

/** By nearest rank: each is a value that did occur. Undefined without values. */
export function percentiles(values: readonly number[]): Percentiles | undefined {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]
  const [p50, p90, p99] = [at(0.5), at(0.9), at(0.99)]
  return p50 === undefined || p90 === undefined || p99 === undefined
    ? undefined
    : { count: sorted.length, p50, p90, p99 }
}
