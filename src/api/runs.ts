import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import type { Authors } from '../approval/authors.ts'
import { overrideOf, overrideRules, whyNotOverride } from '../approval/override.ts'
import type { RepositoryConfig } from '../config/types.ts'
import { type Access, admit, factsOfRun } from '../core/admission.ts'
import { OVERRIDE } from '../core/approval.ts'
import { branchRole, isFullCommit } from '../core/change.ts'
import { isPromotionBranch } from '../core/ids.ts'
import { OUTCOMES } from '../core/outcome.ts'
import { toVisibleLines } from '../core/report/text.ts'
import type { EventRow, RunRow, RunStatus } from '../store/types.ts'
import type { ApiDeps } from './deps.ts'
import { findRun } from './find.ts'
import { ProblemError, problem } from './problem.ts'
import { invalid, json, NOTHING, notFound, numberIn, type Route, wholeNumber } from './route.ts'

const STATUSES: readonly RunStatus[] = ['queued', 'running', 'waiting', ...OUTCOMES]

const Reason = z.string().trim().min(1, 'must say why').max(500)
const Retry = z.strictObject({ fromTry: z.int().min(1).optional() })
const Admit = z.strictObject({ commit: z.string().refine(isFullCommit, 'must be the full id of the run’s commit') })
const Because = z.strictObject({ reason: Reason })
const Override = Because.extend({ channel: z.enum(['api', 'cli', 'web']).default('api') })
const Start = z
  .strictObject({
    repo: z.string().max(400),
    ref: z
      .string()
      .max(1024)
      .regex(/^(?!-)[^\p{Cc} ~^:?*[\\]+$/u, 'must be a branch')
      .optional(),
    commit: z.string().refine(isFullCommit, 'must be a full commit id').optional(),
  })
  .refine((one) => one.ref !== undefined || one.commit !== undefined, 'a ref or a commit is needed')

/** Whoever has the permission `run` here is somebody with write access: the operator's file says so. */
const MAY_RUN: Access = 'write'
const EVENT_POLL_MS = 200
/** Shorter than the idle time after which proxies cut a connection. */
const HEARTBEAT_MS = 15_000

export function runRoutes(deps: ApiDeps): readonly Route[] {
  const { config, store, headOf, clock, log } = deps
  const shown = <T extends RunRow>(run: T) => ({
    ...run,
    url: `${config.server.url}/api/v1/runs/${run.number}`,
    ...(config.temporal.ui === undefined
      ? {}
      : {
          temporal: `${config.temporal.ui}/namespaces/${config.temporal.namespace}/workflows/${encodeURIComponent(run.id)}`,
        }),
  })

  return [
    {
      method: 'GET',
      path: '/api/v1/runs',
      permission: 'read',
      summary: 'Runs, newest first. The header `Link` names the next page.',
      query: {
        repo: 'only this repository',
        status: `one of ${STATUSES.join(', ')}`,
        ref: 'only this ref, for example `refs/heads/master`',
        before: 'only runs with a smaller number',
        limit: 'from 1 to 200; 50 unless said',
      },
      async handle({ query }) {
        const limit = numberIn(query, 'limit', { least: 1, most: 200, otherwise: 50 })
        const before = numberIn(query, 'before', {
          least: 1,
          most: Number.MAX_SAFE_INTEGER,
          otherwise: Number.MAX_SAFE_INTEGER,
        })
        const repo = query.get('repo')
        const ref = query.get('ref')
        const wanted = query.get('status')
        const status = STATUSES.find((one) => one === wanted)
        if (wanted !== null && status === undefined)
          throw invalid([{ pointer: '?status', detail: `must be one of ${STATUSES.join(', ')}` }])
        const found = await store.runs.list({
          limit: limit + 1,
          before,
          ...(repo === null ? {} : { repo }),
          ...(ref === null ? {} : { ref }),
          ...(status === undefined ? {} : { status }),
        })
        const runs = found.slice(0, limit)
        const last = runs.at(-1)
        if (found.length <= limit || last === undefined) return json({ runs: runs.map(shown) })
        const next = new URLSearchParams(query)
        next.set('before', String(last.number))
        return json({ runs: runs.map(shown) }, 200, { Link: `</api/v1/runs?${next}>; rel="next"` })
      },
    },
    {
      method: 'POST',
      path: '/api/v1/runs',
      permission: 'run',
      summary: 'Starts a run: of the tip of a branch (`ref`), or of one commit, which is then tested only.',
      body: { kind: 'json', schema: Start },
      async handle({ body, by, header }) {
        const { repo, ref, commit } = body as z.infer<typeof Start>
        const repository = config.repositories[repo]
        if (repository === undefined) {
          throw invalid([
            { pointer: '/repo', detail: `unknown; known: ${Object.keys(config.repositories).join(', ') || 'none'}` },
          ])
        }
        const change =
          ref === undefined
            ? { ref: `refs/commits/${commit}`, commit: commit ?? '' }
            : await tipOf(repository, ref, commit)
        const id = header('idempotency-key') ?? randomUUID()
        const recorded = await store.deliveries.record(
          {
            source: 'api',
            id: `${by}/${id.slice(0, 200)}`,
            event: 'manual',
            bodyDigest: createHash('sha256')
              .update(JSON.stringify([repo, ref, commit]))
              .digest('hex'),
          },
          // Who asks for a run cannot approve it: to the gate this is the same as a push.
          { kind: 'manual', repo, requestedBy: by, change: { ...change, pusher: by } },
          ref === undefined ? await admissionOf(repository, change.commit) : admissionOfTip(),
        )
        switch (recorded.kind) {
          case 'run':
            return json(shown(recorded.run), 202)
          case 'duplicate':
            return json({ duplicate: recorded.by, ...(recorded.run === undefined ? {} : shown(recorded.run)) })
          case 'noted':
          case 'ignored':
            return json({ ignored: recorded.kind === 'ignored' ? recorded.reason : recorded.about.kind })
          case 'conflict':
            throw new ProblemError(problem(409, 'this Idempotency-Key was used before, for another request'))
        }
      },
    },
    {
      method: 'GET',
      path: '/api/v1/runs/:run',
      permission: 'read',
      summary: 'One run with its plan, its progress and every attempt of its stages, jobs and steps.',
      async handle({ params }) {
        return json(shown(await findRun(store, params)))
      },
    },
    {
      method: 'GET',
      path: '/api/v1/runs/:run/admission',
      permission: 'read',
      summary:
        'What the run may ask for, whether it waits for somebody who lets its commit run, and how its spec differs from the base branch’s, line by line, with control characters made visible.',
      async handle({ params }) {
        const run = await findRun(store, params)
        const repository = config.repositories[run.repo]
        if (repository === undefined) throw notFound()
        const { commit, pullRequest } = run.change
        const base = pullRequest?.base ?? repository.branches.candidate
        const { text, ...difference } = await deps.specDifference(repository, commit, base)
        return json({
          run: run.number,
          commit,
          secrets: run.secrets,
          ...(run.held === undefined ? {} : { held: run.held }),
          ...(run.approval === undefined ? {} : { approval: run.approval }),
          difference: { ...difference, ...(text === undefined ? {} : { lines: toVisibleLines(text.split('\n')) }) },
        })
      },
    },
    {
      method: 'POST',
      path: '/api/v1/runs/:run/admit',
      permission: 'run',
      summary:
        'Lets the commit of a run that waits for it run, without secrets. You say which commit you have looked at.',
      body: { kind: 'json', schema: Admit },
      async handle({ params, body, by }) {
        const run = await findRun(store, params)
        const { commit } = body as z.infer<typeof Admit>
        const answer = await store.runs.admit(run.id, commit, by, 'api')
        if (answer === 'admitted') return json({ run: run.number, id: run.id, commit }, 202)
        const why =
          answer === 'another_commit'
            ? `run ${run.number} is of ${run.change.commit}`
            : `run ${run.number} waits for nobody to let it run`
        throw new ProblemError(problem(409, why, { reason: answer }))
      },
    },
    {
      method: 'GET',
      path: '/api/v1/runs/:run/events',
      permission: 'read',
      summary:
        'What happened, in order. With `Accept: text/event-stream` as a stream that goes on until the run has ended; `Last-Event-ID` resumes it.',
      query: { after: 'only events with a greater `seq`' },
      async handle({ params, query, header }) {
        const run = await findRun(store, params)
        const after = numberIn(query, 'after', { least: 0, most: Number.MAX_SAFE_INTEGER, otherwise: 0 })
        if (!header('accept')?.includes('text/event-stream')) {
          return json({ events: await store.events.of(run.id, after) })
        }
        const lastSeen = header('last-event-id')
        const from = lastSeen !== undefined && /^[0-9]{1,15}$/.test(lastSeen) ? Number(lastSeen) : after
        // An EventSource connects again after every end; 204 tells it that there is no more.
        const isOver = OUTCOMES.some((one) => one === run.status)
        if (lastSeen !== undefined && isOver && (await store.events.of(run.id, from)).length === 0) return NOTHING
        return {
          kind: 'stream',
          status: 200,
          type: 'text/event-stream; charset=utf-8',
          headers: {},
          write: (response, signal) => writeEvents(response, signal, run.number, from),
        }
      },
    },
    {
      method: 'GET',
      path: '/api/v1/runs/:run/results',
      permission: 'read',
      summary: 'The test results that its jobs reported.',
      async handle({ params }) {
        const { id } = await findRun(store, params)
        return json({ results: await store.results.ofRun(id) })
      },
    },
    {
      method: 'POST',
      path: '/api/v1/runs/:run/retry',
      permission: 'run',
      summary:
        'A new try of a run that did not succeed: the stage that failed and what follows. What had passed stands.',
      body: { kind: 'json', schema: Retry },
      async handle({ params, body, by }) {
        const run = await findRun(store, params)
        const { fromTry } = body as z.infer<typeof Retry>
        const admission = admit('retry', factsOfRun(run, MAY_RUN))
        if (admission.kind !== 'starts') throw new ProblemError(problem(409, admission.sentence, { reason: 'held' }))
        const answer = await store.runs.retry(run.id, fromTry ?? run.try, by)
        if (answer.kind === 'retried') return json({ run: run.number, id: run.id, try: answer.try }, 202)
        const why = {
          not_ended: `run ${run.number} has not ended; cancel it first`,
          succeeded: `run ${run.number} succeeded; start a new one instead`,
          alreadyRetried: `run ${run.number} has been retried already: it is at try ${run.try}`,
          held: `run ${run.number} waits for somebody who lets its commit run`,
          unknown: 'the run is not known',
        }[answer.why]
        throw new ProblemError(problem(409, why, { reason: answer.why }))
      },
    },
    {
      method: 'POST',
      path: '/api/v1/runs/:run/cancel',
      permission: 'run',
      summary: 'Stops a run. The first reason stands.',
      body: { kind: 'json', schema: Because },
      async handle({ params, body, by }) {
        const run = await findRun(store, params)
        const { reason } = body as z.infer<typeof Because>
        if (await store.runs.requestCancel(run.id, by, reason)) return json({ run: run.number, id: run.id }, 202)
        throw new ProblemError(problem(409, `run ${run.number} has ended: ${run.status}`))
      },
    },
    {
      method: 'POST',
      path: '/api/v1/runs/:run/override',
      permission: 'override',
      summary:
        'Lets a push to the production branch be deployed though its commit was not signed off, and though its environment is closed at this hour. By the rules of break-glass: run and gate `override` are marked for ever, and somebody else has to review it.',
      body: { kind: 'json', schema: Override },
      async onRefused(by, { run: number }) {
        const run = await store.runs.byNumber(wholeNumber(number) ?? 0)
        if (run !== undefined) await overrideRefused(run, by, 'api', `none of the roles of ${by} allows it`)
      },
      async handle({ params, body, by }) {
        const run = await findRun(store, params)
        const { reason, channel } = body as z.infer<typeof Override>
        const refuse = async (status: number, why: string): Promise<never> => {
          await overrideRefused(run, by, channel, why, reason)
          throw new ProblemError(problem(status, why))
        }
        const repository = config.repositories[run.repo]
        const isRelease = repository !== undefined && branchRole(run.change.ref, repository.branches) === 'production'
        if (!isRelease || run.change.pullRequest !== undefined)
          return refuse(409, `run ${run.number} is no push to the production branch: nothing stops it`)
        if (run.status === 'succeeded') return refuse(409, `run ${run.number} succeeded: there is nothing to let pass`)
        const rules = overrideRules(config, repository, await authorsOf(repository, run))
        const not = await whyNotOverride(store.gates, run, { config, rules, by, reason })
        if (not !== undefined) return refuse(403, not)
        const { commit } = run.change
        const environment = overrideOf(repository)
        const digests = run.progress.deliverables.map((one) => `${one.name}=${one.digest}`).sort()
        const about = { commit, specDigest: run.specDigest ?? '', deliverables: digests }
        const subject = { run: run.id, gate: OVERRIDE, environment, ...about }
        await store.gates.override({ run: run.id, environment, rules, subject, by, reason, channel })
        return json({ run: run.number, id: run.id }, 202)
      },
    },
  ]

  async function authorsOf(repository: RepositoryConfig, { change }: RunRow): Promise<Authors> {
    try {
      return await deps.authorsOf(repository, change)
    } catch (err) {
      log.warn({ err, repo: repository.name }, 'who wrote a commit cannot be told')
      const why = err instanceof Error ? err.message : String(err)
      throw new ProblemError(problem(503, `who wrote ${change.commit} cannot be told now; try again: ${why}`))
    }
  }

  /** As a vote that does not count. */
  async function overrideRefused({ id, change }: RunRow, by: string, channel: string, why: string, comment?: string) {
    const proven = { authenticated: true, authenticatedAs: by, proof: 'session' }
    const detail = {
      answer: 'approve',
      breakGlass: true,
      comment,
      commit: change.commit,
      counts: false,
      why,
      ...proven,
    }
    await store.audit.record({ by, channel, action: 'gate.vote', on: `${id}/${OVERRIDE}`, detail })
  }

  /** A commit that is on no branch may be anybody's: forges give out the commits of forks like their own. */
  async function admissionOf(repository: RepositoryConfig, commit: string) {
    const isOurs = await deps.isOnBranch(repository, commit)
    const specChanged = isOurs
      ? false
      : (await deps.specDifference(repository, commit, repository.branches.candidate)).changed
    return granted({ origin: isOurs ? 'branch' : 'fork', specChanged })
  }

  /** What is at the tip of a branch was brought there by somebody with write access. */
  function admissionOfTip() {
    return granted({ origin: 'branch', specChanged: false })
  }

  function granted(facts: { readonly origin: 'branch' | 'fork'; readonly specChanged: boolean }) {
    const admission = admit('api', { ...facts, asker: MAY_RUN, approved: false })
    if (admission.kind === 'refused') throw new ProblemError(problem(403, admission.sentence))
    return admission
  }

  async function tipOf(repository: RepositoryConfig, ref: string, commit: string | undefined) {
    const full = ref.startsWith('refs/') ? ref : `refs/heads/${ref}`
    if (!full.startsWith('refs/heads/')) throw invalid([{ pointer: '/ref', detail: 'must be a branch' }])
    if (isPromotionBranch(full)) throw invalid([{ pointer: '/ref', detail: 'is a branch of Penstock’s own' }])
    const head = await headOf(repository.name, full)
    if (head === undefined) throw invalid([{ pointer: '/ref', detail: `${repository.name} has no such branch` }])
    // A commit that is not the tip must not pass for what the branch holds.
    if (commit !== undefined && commit !== head)
      throw invalid([{ pointer: '/commit', detail: `${full} is at ${head}` }])
    return { ref: full, commit: head }
  }

  async function writeEvents(
    response: ServerResponse,
    signal: AbortSignal,
    number: number,
    from: number,
  ): Promise<void> {
    let seen = from
    let spoke = clock()
    while (!signal.aborted) {
      const run = await store.runs.byNumber(number)
      if (run === undefined) throw notFound()
      // The status is read first: what comes with its change is then among the events.
      const events = await store.events.of(run.id, seen)
      for (const event of events) await send(response, signal, toEventText(event))
      seen = events.at(-1)?.seq ?? seen
      if (events.length > 0) spoke = clock()
      else if (OUTCOMES.some((one) => one === run.status)) return
      else if (clock() - spoke > HEARTBEAT_MS) {
        await send(response, signal, ': still there\n\n')
        spoke = clock()
      }
      if (events.length === 0) await sleep(EVENT_POLL_MS)
    }
  }
}

function toEventText({ seq, event, ...row }: EventRow): string {
  // JSON has no raw newline, so nothing inside can end the message.
  return `id: ${seq}\nevent: ${event.type}\ndata: ${JSON.stringify({ seq, ...row, event })}\n\n`
}

/** Writes, and waits while the reader is slower. */
export async function send(response: ServerResponse, signal: AbortSignal, chunk: string | Buffer): Promise<void> {
  if (signal.aborted || response.write(chunk)) return
  await once(response, 'drain', { signal }).catch((err: unknown) => {
    if (!signal.aborted) throw err
  })
}
