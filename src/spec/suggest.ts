import { closest, distance } from 'fastest-levenshtein'

/** The known word that was most likely meant, or nothing when none is near. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  // Edit distance costs length × length; what is much longer than every name is no slip of one.
  if (known.length === 0 || word.length > 60) return undefined
  const candidate = closest(word.toLowerCase(), [...known])
  return distance(word.toLowerCase(), candidate) <= Math.max(1, Math.floor(candidate.length / 3))
    ? candidate
    : undefined
}

export function didYouMean(word: string, known: readonly string[], what: string): string {
  const near = nearest(word, known)
  if (near) return `did you mean "${near}"?`
  return known.length === 0 ? `there is no ${what}` : `known: ${known.join(', ')}`
}
