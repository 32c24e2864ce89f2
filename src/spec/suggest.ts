import { closest, distance } from 'fastest-levenshtein'

/** The known word that was most likely meant, or nothing when none is near. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  // Edit distance costs length × length; what is much longer than every name is no slip of one.
  if (known.length === 0 || word.length > 60) return undefined
  const written = word.toLowerCase()
  // Two letters changed places: far by edit distance in a short word, and the commonest slip of all.
  const letters = sortedLetters(written)
  const swapped = known.find((one) => one.length === written.length && sortedLetters(one) === letters)
  if (swapped) return swapped
  const candidate = closest(written, [...known])
  return distance(written, candidate) <= Math.max(1, Math.floor(candidate.length / 3)) ? candidate : undefined
}

function sortedLetters(word: string): string {
  return [...word].sort().join('')
}

/** The end of a message about a name that does not exist: the one that was meant, or all there are. */
export function didYouMean(word: string, known: readonly string[], what: string): string {
  const near = nearest(word, known)
  if (near) return `did you mean "${near}"?`
  return known.length === 0 ? `there is no ${what}` : `known: ${known.join(', ')}`
}
