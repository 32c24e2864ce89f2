import { z } from 'zod'
import { credentialsOf } from '../config/credentials.ts'
import { unseal, versionOf } from '../config/sealed.ts'
import { withheld } from '../core/admission.ts'
import { type JobKey, jobId, type LogKey, parseJobId } from '../core/ids.ts'
import { type Job, stageJobs } from '../core/plan.ts'
import { type EventAppend, LogMoved } from '../internal/types.ts'
import type { RunDetail, TestCase } from '../store/types.ts'
import type { ApiDeps } from './deps.ts'
import { ProblemError, problem } from './problem.ts'
import { type Asked, invalid, json, NOTHING, notFound, type Route, wholeNumber } from './route.ts'

const MAX_LOG_PIECE = 8 * 1024 * 1024
const MOST_KNOWN = 10_000
const MAX_JUNIT = 16 * 1024 * 1024
const MAX_ARTIFACT = 100 * 1024 * 1024

const Alive = z.strictObject({ id: z.string().min(1).max(100), hostname: z.string().min(1).max(300) })
const AppendEvents = z.strictObject({
  run: z.string(),
  appends: z
    .array(
      z.strictObject({
        key: z.string().min(1).max(1000),
        events: z.array(z.looseObject({ type: z.string().regex(/^[a-z_]+\.[a-z_]+\.v[0-9]+$/) })).max(10_000),
      }),
    )
    .min(1)
    .max(1000),
})
const LogEnd = z.strictObject({
  rawBytes: z.int().min(0),
  proof: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('complete') }),
    z.strictObject({ kind: z.literal('gap'), reason: z.string().max(2000), missingBytes: z.int().min(0).optional() }),
  ]),
})

const JOB_QUERY = { run: 'run id', stage: 'stage', job: 'job', attempt: 'attempt, from 1' } as const
const LOG_QUERY = { ...JOB_QUERY, step: 'index of the step, from 0' } as const

/** What a node's worker asks for; nothing else is there for it. */
export function internalRoutes(deps: ApiDeps): readonly Route[] {
  const { config, store, logs } = deps
  const known = new Set<string>()
  const route = (one: Omit<Route, 'permission'>): Route => ({
    ...one,
    path: `/internal/v1${one.path}`,
    permission: 'worker',
  })
  return [
    route({
      method: 'POST',
      path: '/alive',
      summary:
        'The worker of a node lives; answers with the runs that are open, and the ended jobs whose containers there are to be proved gone.',
      body: { kind: 'json', schema: Alive },
      async handle({ body }) {
        const node = body as z.infer<typeof Alive>
        await store.nodes.seen(node.id, node.hostname)
        await deps.onNodeAlive?.(node)
        const unproved = (await store.leases.unproved()).filter((one) => one.node === node.id)
        return json({
          liveRuns: (await store.runs.open()).map((run) => run.id),
          unproved: unproved.flatMap(({ holder }) => parseJobId(holder) ?? []),
        })
      },
    }),
    route({
      method: 'GET',
      path: '/secrets',
      summary: 'The secrets that a job may use, with their values.',
      query: JOB_QUERY,
      async handle({ query }) {
        const job = jobKey(query)
        const values = await secretsOf(await runOf(job.run), job)
        // Keyed, because the version is stored beside logs and must not help to guess a value.
        return json({ version: versionOf(config.workerToken, values), values })
      },
    }),
    route({
      method: 'GET',
      path: '/log',
      summary: 'Where to go on with the log of a step.',
      query: LOG_QUERY,
      async handle({ query }) {
        return json(cursor(await logs.state(logKey(query))))
      },
    }),
    route({
      method: 'POST',
      path: '/log',
      summary: 'Appends masked bytes; 409 with the cursor when they do not follow the end of the log.',
      query: {
        ...LOG_QUERY,
        at: 'stored bytes before',
        rawEnd: 'raw bytes after',
        secretsVersion: 'what it was masked with',
      },
      body: { kind: 'bytes', max: MAX_LOG_PIECE },
      async handle({ query, bytes }) {
        const key = logKey(query)
        try {
          const append = {
            at: count(query, 'at'),
            rawEnd: count(query, 'rawEnd'),
            secretsVersion: query.get('secretsVersion') ?? '',
            bytes,
          }
          return json(cursor(await logs.append(key, append)))
        } catch (err) {
          if (err instanceof LogMoved) throw new ProblemError(problem(409, err.message, { cursor: cursor(err.cursor) }))
          if (err instanceof RangeError) throw invalid([{ pointer: '?rawEnd', detail: err.message }])
          throw err
        }
      },
    }),
    route({
      method: 'POST',
      path: '/log/end',
      summary: 'Closes the log of a step with what was proven about it.',
      query: LOG_QUERY,
      body: { kind: 'json', schema: LogEnd },
      async handle({ query, body }) {
        const key = logKey(query)
        const { rawBytes, proof } = body as z.infer<typeof LogEnd>
        const missing =
          proof.kind === 'gap' && proof.missingBytes !== undefined ? { missingBytes: proof.missingBytes } : {}
        const end = await logs.finish(key, {
          rawBytes,
          proof: proof.kind === 'complete' ? proof : { kind: 'gap', reason: proof.reason, ...missing },
        })
        const { stored, lines } = await logs.state(key)
        await store.runs.recordLog(
          key,
          end.proof.kind === 'complete'
            ? { kind: 'complete', bytes: stored, lines }
            : {
                kind: 'gap',
                storedBytes: stored,
                reason: end.proof.reason,
                ...(end.proof.missingBytes === undefined ? {} : { missingBytes: end.proof.missingBytes }),
              },
        )
        return NOTHING
      },
    }),
    route({
      method: 'POST',
      path: '/events',
      summary: 'Appends events of a run, each append once by its key; all of them or none.',
      body: { kind: 'json', schema: AppendEvents },
      async handle({ body }) {
        const { run, appends } = body as z.infer<typeof AppendEvents>
        await assertKnown(run)
        await store.events.appendAll(run, appends as unknown as readonly EventAppend[])
        return NOTHING
      },
    }),
    route({
      method: 'POST',
      path: '/junit',
      summary: 'A JUnit file of a job: read and stored.',
      query: { ...JOB_QUERY, file: 'its path in the workspace' },
      body: { kind: 'bytes', max: MAX_JUNIT },
      async handle({ query, bytes }) {
        const job = jobKey(query)
        const run = await runOf(job.run)
        text(query, 'file')
        // Read first: in the file itself a value may be written with entities.
        const plain = deps.textMasker(await secretsOf(run, job))
        const cases = deps.parseJunit(bytes).map((one) => masked(one, plain))
        // A job may have several files: what another one said stays, what this one says again is replaced.
        const names = new Set(cases.map(caseName))
        const others = (await store.results.ofRun(job.run)).filter(
          (one) =>
            one.stage === job.stage && one.job === job.job && one.attempt === job.attempt && !names.has(caseName(one)),
        )
        const kept = others.map(({ stage: _stage, job: _job, attempt: _attempt, ...one }): TestCase => one)
        await store.results.put(job, [...kept, ...cases])
        return json({ cases: cases.length })
      },
    }),
    route({
      method: 'POST',
      path: '/artifacts',
      summary: 'Keeps a file by its content; answers its digest.',
      body: { kind: 'bytes', max: MAX_ARTIFACT },
      async handle({ bytes }) {
        return json({ digest: await deps.artifacts.put(bytes) })
      },
    }),
    route({
      method: 'POST',
      path: '/leases',
      summary:
        'The container of a job that holds units is alive; `held: false` when it has lost them and must not go on.',
      query: { ...JOB_QUERY, node: 'where it is' },
      async handle({ query }) {
        return json({ held: await store.leases.heard(jobId(jobKey(query)), text(query, 'node')) })
      },
    }),
    route({
      method: 'POST',
      path: '/leases/gone',
      summary: 'Nothing of an ended job runs on its node any more: its units may be handed over.',
      query: JOB_QUERY,
      async handle({ query }) {
        await store.leases.proveGone(jobId(jobKey(query)))
        return NOTHING
      },
    }),
  ]

  /** A run that was there stays there; reading all of it for each event would cost more than the event. */
  async function assertKnown(id: string): Promise<void> {
    if (known.has(id)) return
    await runOf(id)
    if (known.size >= MOST_KNOWN) known.clear()
    known.add(id)
  }

  /** By what the database knows of the run, whatever its plan names. */
  async function secretsOf(run: RunDetail, job: JobKey) {
    const isWithheld = (name: string) => withheld(run.secrets, { kind: 'secret', name }) !== undefined
    const own = namesOfSecrets(run, job).flatMap((name) => {
      const secret = config.repositories[run.repo]?.secrets[name]
      return secret === undefined ? [] : [{ name, secret }]
    })
    const held = jobIn(run, job)?.pools.length ? await store.leases.ofHolder(jobId(job)) : []
    const now = [...own, ...credentialsOf(config, held)]
      .filter(({ name }) => !isWithheld(name))
      .map(({ name, secret }) => ({ name, value: secret.reveal() }))
    const before = (await givenBefore(job)).filter(
      (one) => !now.some(({ name, value }) => name === one.name && value === one.value),
    )
    return [...now, ...before]
  }

  /** What the job was given when it began: the file may have been changed since, and its units may be others'. */
  async function givenBefore(job: JobKey) {
    const { workerToken } = config
    if (workerToken === undefined) return []
    const id = jobId(job)
    return (await store.masks.of(id)).flatMap((sealed) => {
      try {
        return unseal(workerToken, id, sealed)
      } catch (err) {
        // Without them the log could not be masked: better none than one with secrets in it.
        const why = `the secrets that ${id} was given cannot be opened: was the worker token changed?`
        deps.log.error({ err, job: id }, why)
        throw new ProblemError(problem(422, why))
      }
    })
  }

  async function runOf(id: string): Promise<RunDetail> {
    const number = wholeNumber(id.slice(id.lastIndexOf('#') + 1))
    const run = number === undefined ? undefined : await store.runs.byNumber(number)
    if (run === undefined || run.id !== id) throw notFound()
    return run
  }
}

function jobIn(run: RunDetail, key: JobKey): Job | undefined {
  const stage = run.plan?.stages.find((one) => one.name === key.stage)
  return stage && stageJobs(stage).find((one) => one.name === key.job)
}

/** Only what the job's own definition in the plan names: another job's secret is not this worker's business. */
function namesOfSecrets(run: RunDetail, key: JobKey): readonly string[] {
  const stage = run.plan?.stages.find((one) => one.name === key.stage)
  // The build of an image meets no secret.
  if (stage?.kind === 'deliver' && stage.deliverables.some((one) => one.kind === 'image' && one.name === key.job))
    return []
  const job = jobIn(run, key)
  if (job === undefined) throw notFound()
  return [...new Set(job.secrets.map((secret) => secret.name))].sort()
}

/** Everything that the job wrote there, and that people and forges are shown. */
function masked(one: TestCase, plain: (text: string) => string): TestCase {
  const { className, file, message } = one
  return {
    ...one,
    suite: plain(one.suite),
    name: plain(one.name),
    ...(className === undefined ? {} : { className: plain(className) }),
    ...(file === undefined ? {} : { file: plain(file) }),
    ...(message === undefined ? {} : { message: plain(message) }),
  }
}

function caseName({ suite, className, name, file }: TestCase): string {
  return JSON.stringify([suite, className, name, file])
}

function text(query: Asked['query'], name: string): string {
  const value = query.get(name)
  if (value === null || value === '') throw invalid([{ pointer: `?${name}`, detail: 'is needed' }])
  return value
}

function count(query: Asked['query'], name: string): number {
  const value = wholeNumber(query.get(name))
  if (value === undefined) throw invalid([{ pointer: `?${name}`, detail: 'must be a whole number' }])
  return value
}

function jobKey(query: Asked['query']): JobKey {
  const attempt = count(query, 'attempt')
  if (attempt < 1) throw invalid([{ pointer: '?attempt', detail: 'counts from 1' }])
  return { run: text(query, 'run'), stage: text(query, 'stage'), job: text(query, 'job'), attempt }
}

function logKey(query: Asked['query']): LogKey {
  return { ...jobKey(query), step: count(query, 'step') }
}

function cursor(state: { raw: number; stored: number; finished: boolean; secretsVersion?: string }) {
  const { raw, stored, finished, secretsVersion } = state
  return { raw, stored, finished, ...(secretsVersion === undefined ? {} : { secretsVersion }) }
}
