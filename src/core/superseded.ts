import { parseRunId } from './ids.ts'

/** Who asks for the cancellation of a candidate that a newer one has overtaken. */
export const PENSTOCK = 'penstock'
const SUPERSEDED = 'superseded by '

export function supersededReason(by: string): string {
  return `${SUPERSEDED}${by}`
}

/** The number of the run that overtook this one, if that is why it was canceled. */
export function supersededBy(cancel: { readonly by: string; readonly reason: string } | undefined): number | undefined {
  if (cancel?.by !== PENSTOCK || !cancel.reason.startsWith(SUPERSEDED)) return undefined
  return parseRunId(cancel.reason.slice(SUPERSEDED.length))?.number
}
