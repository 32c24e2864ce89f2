import { z } from 'zod'
import { read } from '../answers.ts'
import type { FailedDeliveries, FailedDelivery } from '../types.ts'
import type { Connection } from './connect.ts'
import type { Lacks } from './lacks.ts'

const Row = z.object({
  id: z.union([z.int(), z.bigint()]).transform(String),
  guid: z.string(),
  event: z.string(),
  delivered_at: z.string(),
  status_code: z.int().nullish(),
  repository_id: z.int().nullish(),
})
type Row = z.infer<typeof Row>

const Hook = z.object({ id: z.int(), config: z.object({ url: z.string().nullish() }).nullish() })
const Repository = z.object({ id: z.int() })

/** Whether a webhook sends to us: to the door for all repositories, or to that of this one. */
export function sendsTo(url: string | null | undefined, hook: string): boolean {
  return url === hook || url?.startsWith(`${hook}/`) === true
}

/** The webhook is the App's own, or one of the repository. `hook`: the address that it sends to. */
export function createDeliveries(connection: Connection, hook: string, lacks: Lacks): FailedDeliveries {
  const { octokit, app, at } = connection

  async function repositoryHook(): Promise<number | undefined> {
    const hooks = read(z.array(Hook), await octokit.rest.repos.listWebhooks({ ...at, per_page: 100 }))
    return hooks.find((one) => sendsTo(one.config?.url, hook))?.id
  }

  async function* pages(): AsyncGenerator<readonly Row[]> {
    if (app !== undefined) {
      // An App's webhook serves many repositories.
      const { id } = read(Repository, await octokit.rest.repos.get(at))
      for await (const page of app.paginate.iterator(app.rest.apps.listWebhookDeliveries, { per_page: 100 })) {
        const rows = read(z.array(Row), page)
        yield rows.map((row) => (row.repository_id === id ? row : { ...row, status_code: 200 }))
      }
      return
    }
    const hook_id = await repositoryHook()
    if (hook_id === undefined) return
    const asked = { ...at, hook_id, per_page: 100 }
    for await (const page of octokit.paginate.iterator(octokit.rest.repos.listWebhookDeliveries, asked)) {
      yield read(z.array(Row), page)
    }
  }

  async function failed(since: number): Promise<readonly FailedDelivery[]> {
    const arrived = new Set<string>()
    const lost = new Map<string, FailedDelivery>()
    // Newest first.
    for await (const rows of pages()) {
      for (const { id, guid, event, delivered_at, status_code } of rows) {
        const at = Date.parse(delivered_at)
        const answer = status_code ?? 0
        if (answer >= 200 && answer < 300) arrived.add(guid)
        else if (at >= since && !lost.has(guid)) lost.set(guid, { id, guid, event, at, answer })
      }
      const last = rows.at(-1)
      if (last !== undefined && Date.parse(last.delivered_at) < since) break
    }
    return [...lost.values()].filter((one) => !arrived.has(one.guid)).reverse()
  }

  return {
    async list(since) {
      return (await lacks.unlessLacking('deliveries', () => failed(since))) ?? []
    },
    async redeliver(id) {
      const delivery_id = Number(id)
      if (app !== undefined) {
        await app.rest.apps.redeliverWebhookDelivery({ delivery_id })
        return
      }
      const hook_id = await repositoryHook()
      if (hook_id !== undefined) await octokit.rest.repos.redeliverWebhookDelivery({ ...at, hook_id, delivery_id })
    },
  }
}
