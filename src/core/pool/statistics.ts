/** One job that had the unit. */
export interface UnitHistoryRow {
  readonly unit: string
  /** What is the same job elsewhere: repository, stage and job. */
  readonly job: string
  readonly outcome: 'succeeded' | 'failed' | 'errored'
}

export interface UnitStatistics {
  readonly unit: string
  /** Jobs on it that ended either way, errored ones aside. */
  readonly runs: number
  readonly failed: number
  /** The same for those of its jobs that also ran elsewhere, on it and elsewhere: what is compared. */
  readonly compared: {
    readonly here: { readonly runs: number; readonly failed: number }
    readonly elsewhere: { readonly runs: number; readonly failed: number }
    /** How many times as often as elsewhere; absent where nothing failed elsewhere. */
    readonly ratio?: number
  }
  /** Only where the numbers carry it. */
  readonly sentence?: string
}

/** With fewer, one accident more or less changes the picture. */
const LEAST_RUNS = 5
/** How probable it may be, at most, that any of the units is accused for what was chance. */
const CHANCE = 0.05

interface Count {
  runs: number
  failed: number
}

/**
 * How often jobs fail on each unit of a pool against the same jobs on the other units. A job that errored says nothing of
 * the unit. Each job is compared with itself only (the ratio is that of Mantel and Haenszel), so that a unit that gets the
 * difficult jobs is not accused. A sentence is said where Fisher's exact test, for several jobs the distribution of the sum
 * under fixed margins, finds the surplus improbable, with the limit divided by the number of units that are looked at.
 */
export function unitStatistics(rows: readonly UnitHistoryRow[]): readonly UnitStatistics[] {
  const jobs = new Map<string, Map<string, Count>>()
  for (const { unit, job, outcome } of rows) {
    if (outcome === 'errored') continue
    const units = jobs.get(job) ?? new Map<string, Count>()
    jobs.set(job, units)
    const count = units.get(unit) ?? { runs: 0, failed: 0 }
    units.set(unit, count)
    count.runs += 1
    if (outcome === 'failed') count.failed += 1
  }
  const names = [...new Set(rows.map((row) => row.unit))].sort()
  const tables = names.map((unit) => ({ unit, pairs: pairsOf(unit, jobs) }))
  const lookedAt = tables.filter(({ pairs }) => isEnough(pairs)).length
  return tables.map(({ unit, pairs }) => {
    const all = sum([...jobs.values()].flatMap((units) => units.get(unit) ?? []))
    const here = sum(pairs.map((pair) => pair.here))
    const elsewhere = sum(pairs.map((pair) => pair.elsewhere))
    const ratio = ratioOf(pairs)
    const isProved = isEnough(pairs) && chanceOf(pairs) < CHANCE / lookedAt
    return {
      unit,
      ...all,
      compared: { here, elsewhere, ...(ratio === undefined ? {} : { ratio }) },
      ...(isProved ? { sentence: sentenceOf(here, elsewhere, ratio) } : {}),
    }
  })
}

interface Pair {
  readonly here: Count
  readonly elsewhere: Count
}

function pairsOf(unit: string, jobs: ReadonlyMap<string, ReadonlyMap<string, Count>>): readonly Pair[] {
  return [...jobs.values()].flatMap((units) => {
    const here = units.get(unit)
    const elsewhere = sum([...units].flatMap(([other, count]) => (other === unit ? [] : [count])))
    return here === undefined || elsewhere.runs === 0 ? [] : [{ here, elsewhere }]
  })
}

function sum(counts: readonly Count[]): Count {
  return counts.reduce((all, one) => ({ runs: all.runs + one.runs, failed: all.failed + one.failed }), {
    runs: 0,
    failed: 0,
  })
}

function isEnough(pairs: readonly Pair[]): boolean {
  return [pairs.map((pair) => pair.here), pairs.map((pair) => pair.elsewhere)].every(
    (side) => sum(side).runs >= LEAST_RUNS,
  )
}

function ratioOf(pairs: readonly Pair[]): number | undefined {
  let above = 0
  let below = 0
  for (const { here, elsewhere } of pairs) {
    const all = here.runs + elsewhere.runs
    above += (here.failed * elsewhere.runs) / all
    below += (elsewhere.failed * here.runs) / all
  }
  return below === 0 ? undefined : above / below
}

/** The probability of at least as many failures here, if where a job runs did not matter. */
function chanceOf(pairs: readonly Pair[]): number {
  let distribution: readonly number[] = [1]
  for (const { here, elsewhere } of pairs) {
    const next = new Array<number>(distribution.length + here.runs).fill(0)
    hypergeometric(here.failed + elsewhere.failed, here.runs, elsewhere.runs).forEach((probability, failed) => {
      if (probability === 0) return
      distribution.forEach((before, already) => {
        next[already + failed] = (next[already + failed] ?? 0) + before * probability
      })
    })
    distribution = next
  }
  const observed = sum(pairs.map((pair) => pair.here)).failed
  return distribution.slice(observed).reduce((all, one) => all + one, 0)
}

/** By number of failures here: how probable it is, with `failed` of all runs failed. */
function hypergeometric(failed: number, here: number, elsewhere: number): readonly number[] {
  const all = logChoose(here + elsewhere, failed)
  return Array.from({ length: here + 1 }, (_, count) =>
    failed - count < 0 || failed - count > elsewhere
      ? 0
      : Math.exp(logChoose(here, count) + logChoose(elsewhere, failed - count) - all),
  )
}

function logChoose(of: number, count: number): number {
  return logFactorial(of) - logFactorial(count) - logFactorial(of - count)
}

const logFactorials = [0]

function logFactorial(of: number): number {
  for (let next = logFactorials.length; next <= of; next++) {
    logFactorials.push((logFactorials[next - 1] ?? 0) + Math.log(next))
  }
  return logFactorials[of] ?? 0
}

function sentenceOf(here: Count, elsewhere: Count, ratio: number | undefined): string {
  const counts = `${here.failed} of ${here.runs} against ${elsewhere.failed} of ${elsewhere.runs}`
  if (ratio === undefined) return `fails, and the same jobs elsewhere never do (${counts})`
  return `fails ${ratio.toFixed(1)} times as often as the same jobs elsewhere (${counts})`
}
