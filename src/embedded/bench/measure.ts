import { performance } from 'node:perf_hooks'

/** A figure as it stands in the report: the ratio to its floor decides, the milliseconds depend on the machine. */
export interface Figure {
  /** Median over the rounds of (this round's time / this round's floor). */
  readonly ratio: number
  readonly least: number
  readonly most: number
  readonly ms: number
  readonly rounds: number
  readonly floor: string
  /** None: measured to judge another figure by. */
  readonly target?: number
  readonly met?: boolean
}

export interface Floor {
  readonly ms: number
  readonly least: number
  readonly most: number
  readonly rounds: number
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** By linear interpolation between the two nearest ranks. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (sorted.length - 1) * q
  const low = sorted[Math.floor(at)] ?? Number.NaN
  const high = sorted[Math.ceil(at)] ?? Number.NaN
  return low + (high - low) * (at - Math.floor(at))
}

export function round(value: number, digits = 2): number {
  return Number(value.toFixed(digits))
}

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}

export function toFloor(times: readonly number[]): Floor {
  return {
    ms: round(median(times), 0),
    least: round(Math.min(...times), 0),
    most: round(Math.max(...times), 0),
    rounds: times.length,
  }
}

export function toFigure(
  times: readonly number[],
  floors: readonly number[],
  { floor, target }: { readonly floor: string; readonly target?: number },
): Figure {
  const ratios = times.map((time, index) => time / (floors[index] ?? Number.NaN))
  const ratio = median(ratios)
  return {
    ratio: round(ratio),
    least: round(Math.min(...ratios)),
    most: round(Math.max(...ratios)),
    ms: round(median(times), 0),
    rounds: times.length,
    floor,
    ...(target === undefined ? {} : { target, met: ratio <= target }),
  }
}

/** One warm-up, then `rounds` turns; every turn measures everything once, so that a loaded moment hits all alike. */
export async function inTurns<K extends string>(
  rounds: number,
  parts: Readonly<Record<K, () => Promise<number>>>,
  say: (text: string) => void,
): Promise<Record<K, number[]>> {
  const names = Object.keys(parts) as K[]
  const taken = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<K, number[]>
  for (let turn = 0; turn <= rounds; turn++) {
    const shown: string[] = []
    for (const name of names) {
      const ms = await parts[name]()
      shown.push(`${name} ${Math.round(ms)}`)
      if (turn > 0) taken[name].push(ms)
    }
    say(`${turn === 0 ? 'warm-up' : `${turn}/${rounds}`}: ${shown.join(', ')} ms`)
  }
  return taken
}
