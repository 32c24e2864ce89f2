import type { ServerResponse } from 'node:http'
import { quorumOf } from '../approval/rights.ts'
import { approversOf } from '../config/people.ts'
import type { Audit } from '../store/types.ts'
import type { ApiDeps } from './deps.ts'
import { findRun } from './find.ts'
import { json, numberIn, type Route, timeIn } from './route.ts'
import { send } from './runs.ts'

const LIMIT = { least: 1, most: 1000, otherwise: 100 } as const
const FROM_START = { least: 0, most: Number.MAX_SAFE_INTEGER, otherwise: 0 } as const

/** What is held, where things are, and what has been. */
export function inventoryRoutes({ config, store, clock }: ApiDeps): readonly Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/environments',
      permission: 'read',
      summary: 'The environments of every repository: rules, approvers, and what was deployed last.',
      async handle() {
        const environments = Object.values(config.repositories).flatMap((repository) =>
          Object.values(repository.environments).map(async ({ name, url, gate }) => ({
            repo: repository.name,
            name,
            ...(url === undefined ? {} : { url }),
            ...(gate === undefined
              ? {}
              : {
                  gate: {
                    ...gate,
                    approvers: approversOf(config, repository.name, name),
                    quorum: quorumOf(gate.approvals),
                  },
                }),
            deployment: (await store.deployments.current(repository.name, name)) ?? null,
          })),
        )
        return json({ environments: await Promise.all(environments) })
      },
    },
    {
      method: 'GET',
      path: '/api/v1/deployments',
      permission: 'read',
      summary: 'The ledger of deployments, newest first.',
      query: {
        repo: 'only this repository',
        environment: 'only this environment',
        limit: 'from 1 to 1000; 100 unless said',
      },
      async handle({ query }) {
        const repo = query.get('repo')
        const environment = query.get('environment')
        return json({
          deployments: await store.deployments.list({
            limit: numberIn(query, 'limit', LIMIT),
            ...(repo === null ? {} : { repo }),
            ...(environment === null ? {} : { environment }),
          }),
        })
      },
    },
    {
      method: 'GET',
      path: '/api/v1/deliveries',
      permission: 'read',
      summary: 'What forges have told, or was found there, newest first, and what became of it.',
      query: {
        repo: 'only this repository',
        before: 'only what came before this time, in milliseconds since 1970',
        limit: 'from 1 to 1000; 100 unless said',
      },
      async handle({ query }) {
        const repo = query.get('repo')
        const before = numberIn(query, 'before', { ...FROM_START, otherwise: Number.MAX_SAFE_INTEGER })
        return json({
          deliveries: await store.deliveries.list({
            limit: numberIn(query, 'limit', LIMIT),
            before,
            ...(repo === null ? {} : { repo }),
          }),
        })
      },
    },
    {
      method: 'GET',
      path: '/api/v1/events',
      permission: 'read',
      summary: 'The events of all runs in order; `position` of the last is the cursor for the next request.',
      query: { after: 'only events with a greater `position`', limit: 'from 1 to 1000; 100 unless said' },
      async handle({ query }) {
        return json({
          events: await store.events.since(numberIn(query, 'after', FROM_START), numberIn(query, 'limit', LIMIT)),
        })
      },
    },
    {
      method: 'GET',
      path: '/api/v1/audit',
      permission: 'audit',
      summary: 'Who did what, through which channel, in order; `id` of the last is the cursor for the next request.',
      query: { after: 'only entries with a greater `id`', limit: 'from 1 to 1000; 100 unless said' },
      async handle({ query }) {
        return json({
          entries: await store.audit.list({
            after: numberIn(query, 'after', FROM_START),
            limit: numberIn(query, 'limit', LIMIT),
          }),
        })
      },
    },
    {
      method: 'GET',
      path: '/api/v1/audit/export',
      permission: 'audit',
      summary:
        'The audit as it stands now, in order, one JSON object a line; the last line, `{"end":{"entries":N,"last":ID}}`, says that nothing was cut off.',
      query: {
        after: 'only entries with a greater `id`',
        run: 'only what concerns the run with this number',
        from: 'only from this time on: RFC 3339, or milliseconds since 1970',
        until: 'only before this time',
      },
      async handle({ query }) {
        const [from, until] = [timeIn(query, 'from'), timeIn(query, 'until')]
        const number = query.get('run')
        const run = number === null ? undefined : await findRun(store, { run: number })
        const what = {
          ...(from === undefined ? {} : { from }),
          ...(until === undefined ? {} : { until }),
          ...(run === undefined ? {} : { run: run.id }),
        }
        const after = numberIn(query, 'after', FROM_START)
        return {
          kind: 'stream',
          status: 200,
          type: 'application/x-ndjson; charset=utf-8',
          headers: {},
          write: (response, signal) => exportAudit(store.audit, { after, what, response, signal }),
        }
      },
    },
    {
      method: 'GET',
      path: '/api/v1/nodes',
      permission: 'read',
      summary: 'The nodes whose worker has been heard of, and how long ago.',
      async handle() {
        const now = clock()
        return json({
          nodes: (await store.nodes.list()).map((node) => ({ ...node, seenMsAgo: Math.max(0, now - node.seenAt) })),
        })
      },
    },
  ]
}

/** Entries in memory at once. */
const EXPORT_PAGE = 500

/** Ends with what was the newest entry when it began, so that it ends while others are recorded. */
async function exportAudit(
  audit: Audit,
  to: {
    readonly after: number
    readonly what: Omit<Parameters<Audit['list']>[0], 'limit' | 'after' | 'upTo'>
    readonly response: ServerResponse
    readonly signal: AbortSignal
  },
): Promise<void> {
  const { what, response, signal } = to
  const upTo = await audit.last()
  let entries = 0
  let { after } = to
  for (;;) {
    const page = await audit.list({ ...what, after, upTo, limit: EXPORT_PAGE })
    if (signal.aborted) return
    if (page.length > 0) await send(response, signal, page.map((entry) => `${JSON.stringify(entry)}\n`).join(''))
    entries += page.length
    after = page.at(-1)?.id ?? after
    if (page.length < EXPORT_PAGE) break
  }
  await send(response, signal, `${JSON.stringify({ end: { entries, last: after } })}\n`)
}
