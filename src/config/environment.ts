/** The one place where the process's environment is read. */
export function environment(): Readonly<Record<string, string | undefined>> {
  return process.env
}
