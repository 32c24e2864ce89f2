import { randomUUID } from 'node:crypto'
import { sign } from '../../forge/signature.ts'
import type { App, Delivery, Hook, Repo } from './state.ts'

export interface DeliveryFault {
  /** Which events; all unless said. */
  readonly on?: (event: string, action: string | null) => boolean
  /** How many; 1 unless said. */
  readonly times?: number
  /** `lost` is on GitHub's list of failed deliveries, with no answer; `silent` is on no list at all. */
  readonly kind: 'lost' | 'silent'
}

export interface WebhooksDeps {
  readonly nextId: () => number
  readonly now: () => string
  readonly app: () => App | undefined
  /** Sees each payload as it is sent. */
  readonly onPayload?: ((event: string, action: string | null, payload: unknown) => void) | undefined
}

/** GitHub's own patience. */
const PATIENCE_MS = 10_000

/** Signed deliveries, in order for each webhook, one try each, as GitHub does it. */
export function createWebhooks({ nextId, now, app, onPayload }: WebhooksDeps) {
  const faults: { readonly fault: DeliveryFault; left: number }[] = []
  const queues = new Map<Hook, Promise<void>>()

  function hooksOf(repo: Repo): readonly { readonly hook: Hook; readonly events: readonly string[] }[] {
    const installed = installationOf(repo)
    return [
      ...repo.hooks.filter((hook) => hook.active).map((hook) => ({ hook, events: hook.events })),
      ...(installed?.hook === undefined ? [] : [{ hook: installed.hook, events: installed.events }]),
    ]
  }

  function installationOf(
    repo: Repo,
  ): { readonly hook?: Hook; readonly events: readonly string[]; readonly id: number } | undefined {
    const known = app()
    const installation = known?.installations.find((one) => one.repositories.includes(repo.fullName))
    if (known === undefined || installation === undefined) return undefined
    return { id: installation.id, events: known.events, ...(known.hook === undefined ? {} : { hook: known.hook }) }
  }

  function enqueue(hook: Hook, delivery: Delivery, lost: boolean): void {
    const before = queues.get(hook) ?? Promise.resolve()
    queues.set(
      hook,
      before.then(() => post(hook, delivery, lost)),
    )
  }

  async function post(hook: Hook, delivery: Delivery, lost: boolean): Promise<void> {
    hook.deliveries.push(delivery)
    if (lost) return
    const began = performance.now()
    try {
      const answer = await fetch(hook.url, {
        method: 'POST',
        redirect: 'manual',
        signal: AbortSignal.timeout(PATIENCE_MS),
        headers: {
          'content-type': 'application/json',
          'user-agent': 'GitHub-Hookshot/fake',
          'x-github-delivery': delivery.guid,
          'x-github-event': delivery.event,
          'x-github-hook-id': String(hook.id),
          'x-hub-signature-256': sign(Buffer.from(delivery.body), hook.secret),
        },
        body: delivery.body,
      })
      await answer.arrayBuffer()
      delivery.code = answer.status
    } catch {
      // Nobody there, or too slow: recorded as a delivery without an answer.
      delivery.code = 0
    }
    delivery.duration = Math.round(performance.now() - began) / 1000
  }

  return {
    /** Whether anybody would hear of it: what is told to nobody need not be put together. */
    isHeard: (repo: Repo): boolean => hooksOf(repo).length > 0,
    send(repo: Repo, event: string, payload: Readonly<Record<string, unknown>>): void {
      const action = typeof payload.action === 'string' ? payload.action : null
      const installation = installationOf(repo)
      for (const { hook, events } of hooksOf(repo)) {
        if (!events.includes(event) && !events.includes('*')) continue
        const met = faults.find(({ fault, left }) => left > 0 && (fault.on?.(event, action) ?? true))
        if (met !== undefined) met.left -= 1
        const isApps = hook === installation?.hook
        const whole = isApps ? { ...payload, installation: { id: installation?.id, node_id: 'I_1' } } : payload
        onPayload?.(event, action, whole)
        if (met?.fault.kind === 'silent') continue
        const delivery = {
          ...{ id: nextId(), guid: randomUUID(), event, action, at: now(), redelivery: false, repository: repo.id },
          ...{ body: JSON.stringify(whole), code: 0, duration: 0 },
        }
        enqueue(hook, delivery, met?.fault.kind === 'lost')
      }
    },
    /** The same body under the same guid. */
    redeliver(hook: Hook, delivery: Delivery): void {
      enqueue(hook, { ...delivery, id: nextId(), at: now(), redelivery: true, code: 0, duration: 0 }, false)
    },
    fault(fault: DeliveryFault): void {
      faults.push({ fault, left: fault.times ?? 1 })
    },
    /** Until everything that was sent has been answered, or given up. */
    async settled(): Promise<void> {
      for (let waiting: Promise<void>[] = []; ; ) {
        const now = [...queues.values()]
        if (now.length === waiting.length && now.every((one, index) => one === waiting[index])) return
        waiting = now
        await Promise.all(waiting)
      }
    },
  }
}
