const UNITS: Readonly<Record<string, number>> = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000 }

export function durationMs(text: string): number {
  let total = 0
  for (const [, count, unit] of text.matchAll(/([0-9]+)([dhms])/g)) total += Number(count) * (UNITS[unit ?? ''] ?? 0)
  return total
}
