/** `key=value` asks for exactly that label, `key` for the label with any value or none. */
export function hasLabels(labels: readonly string[], wanted: readonly string[]): boolean {
  return wanted.every((one) =>
    one.includes('=') ? labels.includes(one) : labels.some((label) => label === one || label.startsWith(`${one}=`)),
  )
}
