import type { CommitStatus, StatusState } from './types.ts'

/** A status as a forge lists it; ids grow. */
export interface Row {
  readonly id: number
  readonly context: string
  /** In the forge's own word. */
  readonly status: string
  readonly description?: string | null | undefined
  readonly target_url?: string | null | undefined
}

/** The newest of each context. A word of the forge that `states` does not have is of none that counts here. */
export function standing(
  commit: string,
  rows: readonly Row[],
  states: Readonly<Record<string, StatusState>>,
): readonly CommitStatus[] {
  const newest = new Map<string, Row>()
  for (const row of rows) if (row.id > (newest.get(row.context)?.id ?? 0)) newest.set(row.context, row)
  return [...newest.values()].flatMap(({ context, status, description, target_url }) => {
    const state = states[status]
    if (state === undefined) return []
    return [{ commit, context, state, description: description ?? '', ...(target_url ? { url: target_url } : {}) }]
  })
}
