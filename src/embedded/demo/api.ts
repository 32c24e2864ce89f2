import path from 'node:path'
import { isOutcome } from '../../core/outcome.ts'
import { openStore } from '../../store/open-store.ts'
import type { EventRow, GateRow, RunDetail, RunRow } from '../../store/types.ts'
import { type Say, writeJson } from '../files.ts'
import { until } from './until.ts'

const YEAR_MS = 365 * 86_400_000
const RUN_SECONDS = 60
/** A deployment that has begun is not cut off, and may take that long. */
const CANCEL_SECONDS = 180

/** The API, as the sample's people use it. */
export interface Api {
  readonly url: string
  run(number: number): Promise<RunDetail>
  runs(): Promise<readonly RunRow[]>
  /** Waits for it. */
  runThat(what: string, is: (run: RunRow) => boolean): Promise<RunRow>
  events(number: number, after: number): Promise<readonly EventRow[]>
  gates(number: number): Promise<readonly GateRow[]>
  vote(number: number, gate: string, answer: 'approve' | 'reject'): Promise<void>
  /** Tess's answers to a manual test, item by item. */
  session(number: number, key: SessionKey): Promise<Session>
  answer(number: number, key: SessionKey, item: number, result: 'passed' | 'failed'): Promise<void>
  finish(number: number, key: SessionKey): Promise<void>
  cancel(number: number): Promise<void>
  summary(number: number): Promise<object>
}

export interface SessionKey {
  readonly stage: string
  readonly job: string
  readonly attempt: number
}

export interface Session {
  readonly url?: string
  readonly units: readonly { readonly pool: string; readonly unit: string }[]
  readonly checklist: readonly { readonly item: number; readonly name: string }[]
}

function sessionPath(number: number, { stage, job, attempt }: SessionKey): string {
  return `/runs/${number}/sessions/${stage}/${job}/${attempt}`
}

/** With tokens for the sample's people; the admin's is left for the CLI. */
export async function connect(dataDir: string, url: string): Promise<Api> {
  const store = await openStore({ url: `sqlite:${path.join(dataDir, 'penstock.db')}` })
  const tokenOf = async (person: string) => (await store.people.createToken(person, YEAR_MS)).token
  const admin = await tokenOf('olga')
  const tester = await tokenOf('tess')
  await store.close()
  writeJson(path.join(dataDir, 'cli.json'), { url, token: admin })

  async function call<T>(method: string, where: string, body?: object, token = admin): Promise<T> {
    const answer = await fetch(`${url}/api/v1${where}`, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body ? { 'content-type': 'application/json' } : {}) },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${where}: ${answer.status} ${text}`)
    return (text === '' ? undefined : JSON.parse(text)) as T
  }
  const api: Api = {
    url,
    run: (number) => call('GET', `/runs/${number}`),
    runs: async () => (await call<{ runs: RunRow[] }>('GET', '/runs?limit=100')).runs,
    runThat: (what, is) => until(what, RUN_SECONDS, async () => (await api.runs()).find(is)),
    events: async (number, after) =>
      (await call<{ events: EventRow[] }>('GET', `/runs/${number}/events?after=${after}`)).events,
    gates: async (number) => (await call<{ gates: GateRow[] }>('GET', `/runs/${number}/gates`)).gates,
    vote: (number, gate, kind) =>
      call('POST', `/runs/${number}/gates/${gate}/${kind}`, { comment: 'by the demo' }, tester),
    session: (number, key) => call('GET', sessionPath(number, key)),
    answer: (number, key, item, result) =>
      call('POST', `${sessionPath(number, key)}/items/${item}`, { result, comment: 'by the demo' }, tester),
    finish: (number, key) => call('POST', `${sessionPath(number, key)}/finish`, {}, tester),
    cancel: (number) => call('POST', `/runs/${number}/cancel`, { reason: 'the demo that started it was interrupted' }),
    async summary(number) {
      const run = await api.run(number)
      const seconds = (row: { startedAt?: number; finishedAt?: number }) =>
        row.startedAt !== undefined && row.finishedAt !== undefined
          ? (row.finishedAt - row.startedAt) / 1000
          : undefined
      return {
        number: run.number,
        repo: run.repo,
        ref: run.change.ref,
        outcome: run.status,
        seconds: seconds(run),
        deliverables: run.progress.deliverables,
        attempts: run.attempts.map((row) => ({
          stage: row.stage,
          ...(row.job === undefined ? {} : { job: row.job }),
          ...(row.step === undefined ? {} : { step: row.name }),
          attempt: row.attempt,
          outcome: row.outcome,
          seconds: seconds(row),
          ...(row.log ? { log: row.log } : {}),
        })),
        logLines: run.attempts.reduce((sum, row) => sum + (row.log?.kind === 'complete' ? row.log.lines : 0), 0),
      }
    },
  }
  return api
}

/** What an interrupted demo left open would hold staging until its gate is answered. */
export async function cancelLeftovers(api: Api, say: Say): Promise<void> {
  for (const run of await api.runs()) {
    if (isOutcome(run.status)) continue
    say(`run ${run.number}        of an interrupted demo is canceled`)
    await api.cancel(run.number)
  }
  await until('the end of the runs of an interrupted demo', CANCEL_SECONDS, async () =>
    (await api.runs()).every(({ status }) => isOutcome(status)),
  )
}
