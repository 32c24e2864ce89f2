import { RE2JS } from 're2js'

/**
 * Patterns that an operator writes and that are held against what anybody writes: matched in time linear in the text.
 * A `RegExp` would let one person's text stop the server.
 */

/** Why it is no pattern; undefined: it is one. */
export function patternProblem(pattern: string): string | undefined {
  try {
    RE2JS.compile(pattern)
    return undefined
  } catch (err) {
    return err instanceof Error ? err.message : String(err)
  }
}

const KEPT = 200
const compiled = new Map<string, RE2JS>()

/** Whether the whole text is what the pattern says. */
export function matchesPattern(pattern: string, text: string): boolean {
  const known = compiled.get(pattern) ?? RE2JS.compile(pattern)
  if (compiled.size >= KEPT) compiled.clear()
  compiled.set(pattern, known)
  return known.matches(text)
}
