/** Why a unit is quarantined: what failed, how often, and what was written then. */
export function failedSentence(what: 'reset' | 'probe', failures: number, why: string): string {
  return `its ${what} failed ${failures} times: ${why}`
}

/** The same for everybody: what commands write is for those who look after the unit. */
export function withoutOutput(quarantined: string): string {
  return quarantined.replace(/^(its (?:reset|probe) failed [0-9]+ times): .*$/s, '$1')
}
