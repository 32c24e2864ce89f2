import type { Job } from '../../core/plan.ts'

/** What we read of Swarm's node. */
export interface PlaceableNode {
  readonly ID?: string
  readonly Spec?: { readonly Role?: string; readonly Labels?: Readonly<Record<string, string>> }
  readonly Description?: {
    readonly Hostname?: string
    readonly Platform?: { readonly Architecture?: string; readonly OS?: string }
    readonly Resources?: { readonly NanoCPUs?: number; readonly MemoryBytes?: number }
    readonly Engine?: { readonly Labels?: Readonly<Record<string, string>> }
  }
}

const CONSTRAINT = /^\s*([a-z_][a-z0-9_.-]*)\s*(==|!=)\s*(.+?)\s*$/i
const ARCHITECTURES: Readonly<Record<string, string>> = { x86_64: 'amd64', aarch64: 'arm64' }

/** Whether any node could ever take the job, by Swarm's own rules; alive or not is another question. */
export function canPlaceOn(
  job: Pick<Job, 'constraints' | 'resources'>,
  nodes: readonly PlaceableNode[],
): { readonly kind: 'yes' } | { readonly kind: 'no'; readonly sentence: string } {
  const no = (sentence: string) => ({ kind: 'no', sentence }) as const
  let left = nodes
  for (const text of job.constraints) {
    const match = CONSTRAINT.exec(text)
    const [, name = '', operator = '', value = ''] = match ?? []
    if (match === null || !isKnown(name)) {
      return no(`"${text}" is not a placement constraint; write for example node.labels.arch==arm64`)
    }
    const fitting = left.filter((node) => meets(node, name, operator, value))
    if (fitting.length === 0) {
      const all = nodes.filter((node) => meets(node, name, operator, value)).length
      return no(
        all === 0
          ? `no node of the Swarm meets the constraint ${text} (${nodes.length} ${nodes.length === 1 ? 'node' : 'nodes'})`
          : `no node of the Swarm meets all of ${job.constraints.join(', ')}`,
      )
    }
    left = fitting
  }
  const { cpus, memory } = job.resources
  const big = left.filter(
    ({ Description }) =>
      (Description?.Resources?.NanoCPUs ?? 0) >= cpus.reserve * 1e9 &&
      (Description?.Resources?.MemoryBytes ?? 0) >= memory.reserve,
  )
  if (big.length === 0) {
    return no(
      `no ${job.constraints.length === 0 ? '' : 'such '}node of the Swarm has ${cpus.reserve} CPUs and ${Math.ceil(memory.reserve / 2 ** 20)} MiB of memory to reserve`,
    )
  }
  return { kind: 'yes' }
}

function isKnown(name: string): boolean {
  return /^(node\.(id|hostname|ip|role|platform\.(os|arch)|labels\..+)|engine\.labels\..+)$/i.test(name)
}

function meets(node: PlaceableNode, name: string, operator: string, value: string): boolean {
  const actual = attribute(node, name)
  // Only Swarm knows addresses; it will say so itself.
  if (actual === undefined && name.toLowerCase() === 'node.ip') return true
  const same = normal(actual ?? '') === normal(value)
  return operator === '==' ? same : !same
}

function normal(value: string): string {
  const lower = value.toLowerCase()
  return ARCHITECTURES[lower] ?? lower
}

function attribute(node: PlaceableNode, name: string): string | undefined {
  const lower = name.toLowerCase()
  if (lower.startsWith('node.labels.')) return node.Spec?.Labels?.[name.slice('node.labels.'.length)]
  if (lower.startsWith('engine.labels.')) return node.Description?.Engine?.Labels?.[name.slice('engine.labels.'.length)]
  switch (lower) {
    case 'node.id':
      return node.ID
    case 'node.hostname':
      return node.Description?.Hostname
    case 'node.role':
      return node.Spec?.Role
    case 'node.platform.os':
      return node.Description?.Platform?.OS
    case 'node.platform.arch':
      return node.Description?.Platform?.Architecture
    default:
      return undefined
  }
}
