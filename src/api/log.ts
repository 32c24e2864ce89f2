import type { ServerResponse } from 'node:http'
import type { LogKey } from '../core/ids.ts'
import { OUTCOMES } from '../core/outcome.ts'
import { stageJobs } from '../core/plan.ts'
import type { RunDetail } from '../store/types.ts'
import type { ApiDeps } from './deps.ts'
import { findRun } from './find.ts'
import { ProblemError, problem } from './problem.ts'
import { type Asked, invalid, notFound, type Reply, type Route, timeIn, wholeNumber } from './route.ts'
import { send } from './runs.ts'

const NEWLINE = 10
/** How often a follower of a silent log looks whether the step can still say anything. */
const OVER_POLL_MS = 1000

export function logRoutes({ store, logs, log }: ApiDeps): readonly Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/runs/:run/jobs/:job/steps/:step/log',
      permission: 'read',
      summary:
        'The log of a step as text. Job: `stage/job` (encoded as `stage%2Fjob`), or its name where that is unique; step: its index from 0, or its name. Takes `Range: bytes=…`. The header `Penstock-Log` says `open`, `complete` or `gap`.',
      query: {
        attempt: 'of the job, from 1; the newest unless said',
        since: 'only from the first line completed at this time on: RFC 3339, or milliseconds since 1970',
        timestamps: '`1`: the time before each line',
        follow: '`1`: goes on until the step has ended',
      },
      async handle(asked): Promise<Reply> {
        const run = await findRun(store, asked.params)
        const key = resolveStep(run, asked)
        const state = await logs.state(key)
        const follow = flag(asked, 'follow')
        const timestamps = flag(asked, 'timestamps')
        const since = timeIn(asked.query, 'since')
        const start = since === undefined ? 0 : await logs.sinceOffset(key, since)
        const standing = state.end === undefined ? 'open' : state.end.proof.kind
        const headers: Record<string, string> = {
          'Penstock-Log': standing,
          ...(state.truncated ? { 'Penstock-Log-Truncated': '1' } : {}),
          'Content-Security-Policy': "default-src 'none'; sandbox",
        }
        const type = 'text/plain; charset=utf-8'
        if (follow) {
          return {
            kind: 'stream',
            status: 200,
            type,
            headers,
            write: (response, signal) => followLog(response, signal, { run, key, start, timestamps }),
          }
        }
        if (timestamps) {
          return {
            kind: 'stream',
            status: 200,
            type,
            headers,
            write: (response, signal) => copy(response, signal, logs.readWithTimestamps(key, { start })),
          }
        }
        const size = state.stored - start
        const range = parseRange(asked.header('range'), size)
        if (range === 'unsatisfiable') {
          throw new ProblemError(problem(416, `the log has ${size} bytes`), { 'Content-Range': `bytes */${size}` })
        }
        const from = start + (range?.first ?? 0)
        const to = start + (range === undefined ? size : range.last + 1)
        return {
          kind: 'stream',
          status: range === undefined ? 200 : 206,
          type,
          headers: {
            ...headers,
            'Accept-Ranges': 'bytes',
            'Content-Length': String(to - from),
            ...(range === undefined ? {} : { 'Content-Range': `bytes ${range.first}-${range.last}/${size}` }),
          },
          write: (response, signal) => copy(response, signal, logs.read(key, { start: from, end: to })),
        }
      },
    },
  ]

  interface Following {
    readonly run: RunDetail
    readonly key: LogKey
    readonly start: number
    readonly timestamps: boolean
  }

  async function followLog(
    response: ServerResponse,
    gone: AbortSignal,
    { run, key, start, timestamps }: Following,
  ): Promise<void> {
    const over = new AbortController()
    const stop = () => over.abort()
    gone.addEventListener('abort', stop, { once: true })
    const watch = watchEnd(run.number, key, over)
    try {
      let shown = start
      let seen = start
      for await (const chunk of logs.follow(key, start, over.signal)) {
        if (!timestamps) {
          await send(response, gone, chunk)
          continue
        }
        // A line's time is known when the line is whole.
        const newline = chunk.lastIndexOf(NEWLINE)
        const whole = newline < 0 ? shown : seen + newline + 1
        seen += chunk.length
        if (whole > shown) await copy(response, gone, logs.readWithTimestamps(key, { start: shown, end: whole }))
        shown = whole
      }
      if (timestamps && seen > shown)
        await copy(response, gone, logs.readWithTimestamps(key, { start: shown, end: seen }))
    } finally {
      gone.removeEventListener('abort', stop)
      clearInterval(watch)
      over.abort()
    }
  }

  /** A step that will never begin, or whose worker is gone for good, never finishes its log: then the reader goes. */
  function watchEnd(number: number, key: LogKey, over: AbortController): NodeJS.Timeout {
    let ended = 0
    return setInterval(() => {
      store.runs.byNumber(number).then(
        (run) => {
          ended = run === undefined || isOver(run, key) ? ended + 1 : 0
          // Once more than once: what was stored last is then read.
          if (ended > 2) over.abort()
        },
        (err: unknown) => log.warn({ err, run: key.run }, 'the run of a followed log could not be read'),
      )
    }, OVER_POLL_MS)
  }
}

function isOver(run: RunDetail, { stage, job, attempt }: LogKey): boolean {
  if (OUTCOMES.some((one) => one === run.status)) return true
  return run.attempts.some(
    (row) =>
      row.stage === stage &&
      row.job === job &&
      row.step === undefined &&
      row.attempt >= attempt &&
      row.outcome !== undefined,
  )
}

/** Which log the path means. @throws ProblemError 404 or 422 */
export function resolveStep(run: RunDetail, { params, query }: Pick<Asked, 'params' | 'query'>): LogKey {
  const jobs = new Map<string, { readonly stage: string; readonly job: string; readonly steps: string[] }>()
  for (const stage of run.plan?.stages ?? []) {
    for (const job of stageJobs(stage)) {
      const steps = job.segments.flatMap((segment) => segment.steps.map((step) => step.name))
      jobs.set(`${stage.name}/${job.name}`, { stage: stage.name, job: job.name, steps })
    }
  }
  // What ran beside the plan's jobs (an image build) has attempts, too.
  for (const { stage, job, step, name } of run.attempts) {
    if (job === undefined) continue
    const known = jobs.get(`${stage}/${job}`) ?? { stage, job, steps: [] }
    if (step !== undefined) known.steps[step] = name ?? known.steps[step] ?? ''
    jobs.set(`${stage}/${job}`, known)
  }
  const wanted = params.job ?? ''
  const exact = jobs.get(wanted)
  const matching = exact === undefined ? [...jobs.values()].filter((one) => one.job === wanted) : [exact]
  if (matching.length > 1) {
    const names = matching.map((one) => `${one.stage}/${one.job}`).join(', ')
    throw invalid([{ pointer: 'job', detail: `several stages have a job "${wanted}"; say one of ${names}` }])
  }
  const found = matching[0]
  if (found === undefined) throw notFound()
  const index = wholeNumber(params.step) ?? found.steps.indexOf(params.step ?? '')
  if (index < 0 || index >= found.steps.length) throw notFound()
  const { stage, job } = found
  const attempts = run.attempts.filter((row) => row.stage === stage && row.job === job).map((row) => row.attempt)
  const newest = Math.max(1, ...attempts)
  const asked = query.get('attempt')
  const attempt = asked === null ? newest : wholeNumber(asked)
  if (attempt === undefined || attempt < 1)
    throw invalid([{ pointer: '?attempt', detail: `must be from 1 to ${newest}` }])
  if (attempt > newest) throw notFound()
  return { run: run.id, stage, job, attempt, step: index }
}

function flag({ query }: Asked, name: string): boolean {
  const value = query.get(name)
  if (value === null || value === '0' || value === 'false') return false
  if (value === '' || value === '1' || value === 'true') return true
  throw invalid([{ pointer: `?${name}`, detail: 'must be 1 or 0' }])
}

/** One range as RFC 9110 has it; what is no such range is as if it were not there. */
export function parseRange(
  header: string | undefined,
  size: number,
): { readonly first: number; readonly last: number } | 'unsatisfiable' | undefined {
  const match = /^bytes=([0-9]{0,15})-([0-9]{0,15})$/.exec(header ?? '')
  if (match === null || (match[1] === '' && match[2] === '')) return undefined
  const [, first = '', last = ''] = match
  if (first === '') {
    const count = Math.min(Number(last), size)
    return count === 0 ? 'unsatisfiable' : { first: size - count, last: size - 1 }
  }
  if (last !== '' && Number(last) < Number(first)) return undefined
  if (Number(first) >= size) return 'unsatisfiable'
  return { first: Number(first), last: last === '' ? size - 1 : Math.min(Number(last), size - 1) }
}

async function copy(response: ServerResponse, signal: AbortSignal, chunks: AsyncIterable<Buffer>): Promise<void> {
  for await (const chunk of chunks) {
    if (signal.aborted) return
    await send(response, signal, chunk)
  }
}
