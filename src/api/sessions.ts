import { createHash } from 'node:crypto'
import { pipeline } from 'node:stream/promises'
import { z } from 'zod'
import { operatorsOf, testersOf } from '../config/people.ts'
import { jobId, parseRunId } from '../core/ids.ts'
import {
  evidenceProblem,
  ITEM_RESULTS,
  judgeAnswers,
  sessionCases,
  standingAnswers,
  voidAnswers,
} from '../core/session.ts'
import { SPEC_FILE } from '../spec/parse.ts'
import type { EvidenceRow, SessionActor, SessionChange, SessionRow } from '../store/types.ts'
import type { ApiDeps } from './deps.ts'
import { findRun } from './find.ts'
import { ProblemError, problem } from './problem.ts'
import { type Asked, invalid, json, notFound, type Reply, type Route, wholeNumber } from './route.ts'
import { CHANNEL_QUERY, Channel, channelIn } from './said.ts'

const MAX_EVIDENCE = 10 * 1024 * 1024
const MAX_COMMENT = 4000

/** Lines of what people see; PostgreSQL has no text with a NUL. */
const Said = z
  .string()
  .max(MAX_COMMENT, `at most ${MAX_COMMENT} characters`)
  .regex(/^[^\p{Cc}]*(?:[\n\t\r][^\p{Cc}]*)*$/u, 'no control characters but line ends')
const Reason = Said.regex(/\S/, 'say why')
const Plain = z.strictObject({ channel: Channel })
const Answer = Plain.extend({ result: z.enum(ITEM_RESULTS), comment: Said.optional() })
const Pause = Plain.extend({ reason: Reason })
const HandOver = Plain.extend({ to: z.string().max(200) })

const AT = '/api/v1/runs/:run/sessions/:stage/:job/:attempt'

/** Manual tests: everybody who may read looks on; whoever the spec names, and nobody else, answers. */
export function sessionRoutes({ config, store, evidence: files, clock, writeJunit }: ApiDeps): readonly Route[] {
  type Body = z.infer<typeof Plain>
  /** By content: what keeps a file and what removes one of the same bytes go one after the other. */
  const turns = new Map<string, Promise<unknown>>()

  /** A change by one of the people who may make it. */
  function change(
    path: string,
    summary: string,
    schema: z.ZodType<Body>,
    act: (session: SessionRow, actor: SessionActor, asked: Asked) => Promise<SessionChange>,
  ): Route {
    return {
      method: 'POST',
      path: `${AT}${path}`,
      permission: 'read',
      summary,
      body: { kind: 'json', schema },
      async handle(asked) {
        const session = await findSession(asked)
        const actor = { by: asked.by, channel: (asked.body as Body).channel }
        await mustBeTester(session, actor)
        return answered(await act(session, actor, asked))
      },
    }
  }

  return [
    {
      method: 'GET',
      path: '/api/v1/sessions',
      permission: 'read',
      summary: 'The manual test sessions that wait for testers now, oldest first.',
      async handle() {
        return json({ sessions: (await store.sessions.waiting()).map(shown) })
      },
    },
    {
      method: 'GET',
      path: '/api/v1/runs/:run/sessions',
      permission: 'read',
      summary: 'The manual test sessions of a run, one an attempt of their job.',
      async handle({ params }) {
        const { id } = await findRun(store, params)
        return json({ sessions: (await store.sessions.ofRun(id)).map(shown) })
      },
    },
    {
      method: 'GET',
      path: AT,
      permission: 'read',
      summary: 'A manual test session: checklist with answers and evidence, address, units, who tests and who may.',
      async handle(asked) {
        return json(shown(await findSession(asked)))
      },
    },
    {
      method: 'GET',
      path: `${AT}/junit`,
      permission: 'read',
      summary: 'What the session has come to so far, as JUnit XML.',
      async handle(asked) {
        const session = await findSession(asked)
        const { stage, job, attempt } = session.key
        const text = writeJunit(job, sessionCases({ ...session, answers: judged(session) }, job, SPEC_FILE))
        return download(
          'application/xml',
          `${stage}-${job}-${attempt}.xml`,
          Buffer.byteLength(text),
          async (response) => {
            response.write(text)
          },
        )
      },
    },
    change('/join', 'You test in this session, too.', Plain, ({ key }, actor) => store.sessions.join(key, actor)),
    change(
      '/items/:item',
      'Your answer to an item (its place in the checklist, from 1). Can be changed until the session ends; the last one stands.',
      Answer,
      ({ key, ...session }, actor, asked) => {
        const { result, comment } = asked.body as z.infer<typeof Answer>
        const item = itemOf(session, asked)
        return store.sessions.answer(key, actor, { item, result, ...(comment ? { comment } : {}) })
      },
    ),
    {
      method: 'POST',
      path: `${AT}/items/:item/evidence`,
      permission: 'read',
      summary: 'A file about an item, kept by its content. At most 10 MiB; 200 files and 500 MiB a session.',
      query: { name: 'what the file is called, without a path', ...CHANNEL_QUERY },
      body: { kind: 'bytes', max: MAX_EVIDENCE },
      async handle(asked) {
        const session = await findSession(asked)
        const actor = { by: asked.by, channel: channelIn(asked.query) }
        await mustBeTester(session, actor)
        const item = itemOf(session, asked)
        const name = fileName(asked.query.get('name'))
        if (asked.bytes.length === 0) throw invalid([{ pointer: '/', detail: 'the file is empty' }])
        // Nothing is kept for a session that does not take it; the store has the last word.
        const isOpen = session.state === 'open'
        const why = isOpen ? evidenceProblem(session.evidence, asked.bytes.length) : `the session is ${session.state}`
        if (why !== undefined || clock() >= session.expiresAt) {
          throw new ProblemError(problem(409, why ?? 'the session has expired'))
        }
        const change = await inTurn(createHash('sha256').update(asked.bytes).digest('hex'), async () => {
          const digest = await files.put(asked.bytes)
          return store.sessions.attach(session.key, actor, { item, name, digest, size: asked.bytes.length })
        })
        return answered(change)
      },
    },
    {
      method: 'GET',
      path: `${AT}/evidence/:evidence`,
      permission: 'read',
      summary: 'A file of evidence, always as an attachment: what it says it is, is not believed.',
      async handle(asked) {
        const file = evidenceOf(await findSession(asked), asked)
        if (file.gone) {
          const { by, why } = file.gone
          throw new ProblemError(problem(410, `the file was deleted by ${by}${why === undefined ? '' : `: ${why}`}`))
        }
        const kept = await files.open(file.digest)
        if (!kept) throw notFound()
        return download('application/octet-stream', file.name, kept.size, async (response, signal) => {
          try {
            await pipeline(kept.stream, response, { end: false, signal })
          } catch (err) {
            // Whoever asked is gone: there is nobody to tell.
            if (!signal.aborted) throw err
          }
        })
      },
    },
    {
      method: 'DELETE',
      path: `${AT}/evidence/:evidence`,
      permission: 'read',
      summary:
        'Deletes a file of evidence, its bytes too. Your own: while the session is open. Anybody’s, at any time, from all attempts that have kept it: an operator, who says why. The audit keeps what it was. A second time changes nothing.',
      query: { reason: 'why; an operator has to say it', ...CHANNEL_QUERY },
      async handle(asked) {
        const session = await findSession(asked)
        const { id, by, digest } = evidenceOf(session, asked)
        const isOperator = operatorsOf(config).includes(asked.by)
        const channel = channelIn(asked.query)
        const why = asked.query.get('reason') ?? undefined
        const { error } = Reason.optional().safeParse(why)
        if (error) throw invalid(error.issues.map(({ message }) => ({ pointer: '?reason', detail: message })))
        const isOwn = by === asked.by
        if (!isOwn && !isOperator) {
          const refused = `the file is that of ${by}; only ${by}, or an operator, can delete it`
          const on = jobId(session.key)
          await store.audit.record({ by: asked.by, channel, action: 'session.refused', on, detail: { why: refused } })
          throw new ProblemError(problem(403, refused))
        }
        const actor = { by: asked.by, channel, isOperator: isOperator && why !== undefined }
        if (!isOwn && why === undefined) throw invalid([{ pointer: '?reason', detail: 'say why' }])
        const change = await inTurn(digest.replace('sha256:', ''), async () => {
          const done = await store.sessions.deleteEvidence(session.key, actor, {
            id,
            ...(why === undefined ? {} : { why }),
          })
          // Also of what was deleted before: a kill may have come between.
          for (const gone of await store.sessions.goneEvidence([digest])) await files.remove(gone)
          return done
        })
        return answered(change)
      },
    },
    change(
      '/pause',
      'Nobody answers until it is resumed. Units stay leased and its time goes on: the answer warns of both.',
      Pause,
      ({ key }, actor, { body }) => store.sessions.pause(key, actor, (body as z.infer<typeof Pause>).reason),
    ),
    change('/resume', 'It goes on.', Plain, ({ key }, actor) => store.sessions.resume(key, actor)),
    change(
      '/hand-over',
      'Somebody else, who may test, tests instead of you.',
      HandOver,
      ({ key, by: testers }, actor, { body }) => {
        const { to } = body as z.infer<typeof HandOver>
        const may = testersOf(config, testers)
        if (!may.includes(to) || to === actor.by) {
          const others = may.filter((one) => one !== actor.by).join(', ') || 'nobody else'
          throw invalid([{ pointer: '/to', detail: `must be somebody else who may test here: ${others}` }])
        }
        return store.sessions.handOver(key, actor, to)
      },
    ),
    change(
      '/finish',
      'Ends the session with its answers. Refused while a required item has none, or while the last answer to any item is that of somebody who may not test any more, naming them.',
      Plain,
      ({ key, by }, actor) => store.sessions.finish(key, actor, testersOf(config, by)),
    ),
  ]

  async function findSession({ params }: Asked): Promise<SessionRow> {
    const { id: run } = await findRun(store, params)
    const { stage = '', job = '' } = params
    const attempt = wholeNumber(params.attempt)
    const session = attempt === undefined ? undefined : await store.sessions.get({ run, stage, job, attempt })
    if (session === undefined) throw notFound()
    return session
  }

  /** By the operator's file of this moment. */
  async function mustBeTester(session: SessionRow, { by, channel }: SessionActor): Promise<void> {
    const may = testersOf(config, session.by)
    if (may.includes(by)) return
    const why = `${by} may not test here; may test: ${may.join(', ') || 'nobody'}`
    await store.audit.record({ by, channel, action: 'session.refused', on: jobId(session.key), detail: { why } })
    throw new ProblemError(problem(403, why))
  }

  async function inTurn<T>(digest: string, act: () => Promise<T>): Promise<T> {
    const turn = (turns.get(digest) ?? Promise.resolve()).then(act, act)
    turns.set(digest, turn)
    try {
      return await turn
    } finally {
      if (turns.get(digest) === turn) turns.delete(digest)
    }
  }

  /** By the operator's file of this moment; what has ended stays as it was judged then. */
  function judged({ answers, by, endedAt }: SessionRow) {
    return endedAt === undefined ? judgeAnswers(answers, testersOf(config, by)) : answers
  }

  function answered(change: SessionChange): Reply {
    if (change.kind === 'refused') throw new ProblemError(problem(409, change.why))
    return json(shown(change.session))
  }

  function shown(session: SessionRow) {
    const { key, by, checklist, evidence, askedAgain, ...rest } = session
    const answers = judged(session)
    const standing = standingAnswers(answers)
    // What was said here is newer than what is known of an earlier attempt.
    const again = new Map([...askedAgain, ...voidAnswers(answers)].map(({ item, why }) => [item, why]))
    const notKept = again.get(undefined)
    const warning = warningOf(session)
    return {
      ...rest,
      id: jobId(key),
      run: parseRunId(key.run)?.number,
      stage: key.stage,
      job: key.job,
      attempt: key.attempt,
      by,
      mayTest: testersOf(config, by),
      checklist: checklist.map((item, index) => ({
        item: index + 1,
        ...item,
        answer: standing.get(index + 1) ?? null,
        ...(again.has(index + 1) && !standing.has(index + 1) ? { askedAgain: again.get(index + 1) } : {}),
        evidence: evidence.filter((one) => one.item === index + 1).map(withoutItem),
      })),
      answers,
      ...(notKept === undefined ? {} : { notKept }),
      ...(warning === undefined ? {} : { warning }),
    }
  }
}

function withoutItem({ item: _item, ...file }: EvidenceRow) {
  return file
}

function warningOf({ paused, units, expiresAt }: SessionRow): string | undefined {
  if (!paused) return undefined
  const held = units.map(({ pool, unit }) => `${pool}/${unit}`).join(', ')
  const until = new Date(expiresAt).toISOString()
  return `its time goes on until ${until}${held === '' ? '' : `, and nobody else can have ${held} meanwhile`}`
}

function itemOf({ checklist }: Pick<SessionRow, 'checklist'>, { params }: Asked): number {
  const item = wholeNumber(params.item)
  if (item === undefined || item < 1 || item > checklist.length) {
    throw invalid([{ pointer: 'item', detail: `must be a place in the checklist, from 1 to ${checklist.length}` }])
  }
  return item
}

function evidenceOf({ evidence }: SessionRow, { params }: Asked): EvidenceRow {
  const number = wholeNumber(params.evidence)
  const file = evidence.find(({ id }) => id === number)
  if (file === undefined) throw notFound()
  return file
}

const FILE_NAME = /^(?!\.{1,2}$)[^/\\\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]{1,200}$/u

function fileName(text: string | null): string {
  if (text !== null && FILE_NAME.test(text) && text.trim() !== '') return text
  throw invalid([{ pointer: '?name', detail: 'must be the name of a file: 1 to 200 visible characters, no path' }])
}

/** Never shown by a browser as a page of ours, whatever is in it. */
function download(type: string, name: string, size: number, write: Extract<Reply, { kind: 'stream' }>['write']): Reply {
  const encoded = encodeURIComponent(name).replace(/['()*]/g, (char) => `%${char.charCodeAt(0).toString(16)}`)
  return {
    kind: 'stream',
    status: 200,
    type,
    headers: {
      'Content-Disposition': `attachment; filename="${name.replace(/[^A-Za-z0-9._-]/g, '_')}"; filename*=UTF-8''${encoded}`,
      'Content-Length': String(size),
      'Content-Security-Policy': "sandbox; default-src 'none'",
    },
    write,
  }
}
