import type { Placement } from '../types.ts'

/** What we read of Swarm's task; the rest of it is of no interest. */
export interface Task {
  readonly NodeID?: string
  readonly DesiredState?: string
  readonly CreatedAt?: string
  readonly Status?: {
    readonly State?: string
    readonly Err?: string
    readonly Message?: string
    readonly ContainerStatus?: { readonly ContainerID?: string; readonly ExitCode?: number } | null
  }
}

export interface TaskNode {
  readonly hostname: string
  readonly down: boolean
}

const WAITING = new Set(['new', 'pending', 'allocated'])
const LIVE = new Set(['assigned', 'accepted', 'preparing', 'ready', 'starting', 'running'])

/** Where a task is; `nodes` by id: one that is missing there is gone. */
export function toPlacement(task: Task, nodes: ReadonlyMap<string, TaskNode>): Placement {
  const state = task.Status?.State ?? 'new'
  const reason = task.Status?.Err || undefined
  const node = task.NodeID
  if (state === 'rejected') return { kind: 'rejected', reason: reason ?? 'Swarm rejected the task without a reason' }
  if (node === undefined || node === '' || WAITING.has(state)) {
    return reason === undefined ? { kind: 'pending' } : { kind: 'pending', reason }
  }
  const known = nodes.get(node)
  // A node that died keeps its task "running" for a day: only the node's own state tells.
  if (known === undefined) return { kind: 'lost', node, reason: `node ${node} has left the Swarm` }
  if (state === 'orphaned' || (LIVE.has(state) && known.down)) {
    return { kind: 'lost', node, reason: `node ${known.hostname} is down` }
  }
  const container = task.Status?.ContainerStatus?.ContainerID || undefined
  const where = { node, hostname: known.hostname, ...(container === undefined ? {} : { container }) }
  if (LIVE.has(state)) return { kind: 'assigned', ...where }
  const exitCode = task.Status?.ContainerStatus?.ExitCode
  return {
    kind: 'ended',
    ...where,
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(reason === undefined ? {} : { reason }),
  }
}
