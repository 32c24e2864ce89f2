/** Ends an exhaustive `switch`: the type checker refuses a call while a case is still open. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`)
}
