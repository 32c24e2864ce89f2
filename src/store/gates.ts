import { createHash, randomBytes } from 'node:crypto'
import type { Transaction } from 'kysely'
import type {
  Answer,
  CountedVote,
  GateRules,
  GateState,
  Objection,
  Proof,
  Subject,
  Verdict,
  VoteFacts,
} from '../core/approval.ts'
import { judgeVote, OVERRIDE, rulesChange, subjectChanges, verdictOf } from '../core/approval.ts'
import type { Waiting } from '../core/events.ts'
import type { FieldValues } from '../core/form.ts'
import { isOutcome } from '../core/outcome.ts'
import { matchesPattern } from '../pattern/pattern.ts'
import type { Database, Writing } from './database.ts'
import { fromJson, recordAudit } from './database.ts'
import { appendEvents, OPEN_STATUSES } from './events.ts'
import type { Schema } from './schema.ts'
import type { BrokenGlass, GateRow, Gates, Review, RulesNow, RunRow, VoteRow } from './types.ts'

type Gate = Schema['gates']

export function createGates(database: Database): Gates {
  return {
    open: (run, name, environment, rules, subject, lost) =>
      database.write(async (tx) => {
        const current = await currentGate(tx.db, run, name)
        const changes = current === undefined ? [] : changesSince(current, subject, rules)
        const isLost = lost !== undefined && current?.state === 'approved' && current.moving_since === null
        if (isLost && changes.length === 0) changes.push(lost)
        if (current !== undefined && changes.length === 0 && !isOver(current, rules, tx.now)) {
          return toGateRow(tx.db, await withPeople(tx.db, current, rules))
        }
        if (current !== undefined && changes.length > 0 && current.state !== 'expired' && current.state !== 'voided') {
          await voidGate(tx, current, changes.join('; '), subject)
        }
        const version = (current?.version ?? 0) + 1
        const gate: Gate = {
          id: `${run}/${name}/${version}`,
          run,
          name,
          version,
          environment,
          rules: JSON.stringify(rules),
          subject: JSON.stringify(subject),
          state: 'open',
          opened_at: tx.now,
          decided_at: null,
          broken: null,
          review: null,
          voided: null,
          reminded: 0,
          reminded_at: null,
          moving_since: null,
        }
        await tx.db.insertInto('gates').values(gate).execute()
        const detail = { subject, rules }
        await recordAudit(tx, { by: 'penstock', channel: 'run', action: 'gate.opened', on: gate.id, detail })
        return toGateRow(tx.db, gate)
      }),

    get: (run, name) =>
      database.read(async (db) => {
        const gate = await currentGate(db, run, name)
        return gate === undefined ? undefined : toGateRow(db, gate)
      }),

    ofRun: (run) =>
      database.read(async (db) => {
        const gates = await db
          .selectFrom('gates')
          .selectAll()
          .where('run', '=', run)
          .orderBy('opened_at')
          .orderBy('id')
          .execute()
        return toGateRows(db, gates)
      }),

    waiting: () =>
      database.read(async (db) => {
        const gates = await db
          .selectFrom('gates')
          .innerJoin('runs', 'runs.id', 'gates.run')
          .selectAll('gates')
          .where('gates.state', '=', 'open')
          .where('runs.status', 'in', OPEN_STATUSES)
          .orderBy('gates.opened_at')
          .orderBy('gates.id')
          .execute()
        return toGateRows(db, gates)
      }),

    mintToken: (run, gate, person, channel, validMs, proof = 'token') =>
      database.write(async (tx) => {
        const current = await currentGate(tx.db, run, gate)
        if (current === undefined) throw new Error(`the run ${run} has no gate "${gate}": no vote token can be made`)
        const token = `vote_${randomBytes(32).toString('base64url')}`
        await tx.db
          .insertInto('vote_tokens')
          .values({
            hash: sha256(token),
            // The id names gate, run and subject: another subject is another gate row.
            gate: current.id,
            person,
            channel,
            created_at: tx.now,
            expires_at: tx.now + validMs,
            used_at: null,
            proof,
          })
          .execute()
        const detail = { proof, expiresAt: tx.now + validMs, subject: fromJson<Subject>(current.subject) }
        await recordAudit(tx, { by: person, channel, action: 'gate.token', on: current.id, detail })
        return token
      }),

    vote: (input) => database.write((tx) => vote(tx, input)),

    personOfToken: (token) =>
      database.read(async (db) => {
        const hash = sha256(token)
        return (await db.selectFrom('vote_tokens').select('person').where('hash', '=', hash).executeTakeFirst())?.person
      }),

    wakeAll: (key) =>
      database.write(async ({ db, put }) => {
        const open = await db
          .selectFrom('gates')
          .innerJoin('runs', 'runs.id', 'gates.run')
          .select(['gates.id', 'gates.run'])
          // What is approved may wait for its window.
          .where('gates.state', 'in', ['open', 'approved'])
          .where('runs.status', 'in', OPEN_STATUSES)
          .execute()
        for (const { id, run } of open)
          await put(`gate/${id}/${key}`, { kind: 'signal', workflowId: run, signal: 'granted', args: [] })
        const held = await db.selectFrom('runs').select(['id', 'waiting']).where('status', '=', 'waiting').execute()
        for (const { id, waiting } of held) {
          if (waiting === null || fromJson<Waiting>(waiting).kind !== 'environment') continue
          await put(`environment/${id}/${key}`, { kind: 'signal', workflowId: id, signal: 'granted', args: [] })
        }
      }),

    settle: (now) =>
      database.write(async (tx) => {
        const { gate, objections } = await standing(tx.db, now.gate)
        if (gate?.state !== 'open') return
        const votes = await votesOf(tx.db, [gate.id])
        if (verdictNow(gate, votes, objections, tx.now, now).kind !== 'approved') return
        await approve(tx, gate, now.rules)
      }),

    moves: (id, key, event) =>
      database.write(async (tx) => {
        const { gate } = await standing(tx.db, id)
        if (gate?.state !== 'approved') return false
        if (gate.moving_since === null)
          await tx.db.updateTable('gates').set({ moving_since: tx.now }).where('id', '=', id).execute()
        await appendEvents(tx, gate.run, key, [event])
        return true
      }),

    stays: (id, key, event) =>
      database.write(async (tx) => {
        const { gate } = await standing(tx.db, id)
        if (gate === undefined) return
        await tx.db.updateTable('gates').set({ moving_since: null }).where('id', '=', id).execute()
        await appendEvents(tx, gate.run, key, [event])
      }),

    remind: (id, number, stillAsked) =>
      database.write(async (tx) => {
        const { gate } = await standing(tx.db, id)
        if (gate?.state !== 'open' || gate.reminded >= number) return
        await tx.db.updateTable('gates').set({ reminded: number, reminded_at: tx.now }).where('id', '=', id).execute()
        const detail = { number, of: stillAsked }
        await recordAudit(tx, { by: 'penstock', channel: 'timer', action: 'gate.reminded', on: id, detail })
        await appendEvents(tx, gate.run, `${id}/reminder/${number}`, [
          { type: 'gate.reminded.v1', gate: gate.name, number, of: stillAsked },
        ])
      }),

    expire: (run, gate, now) =>
      database.write(async (tx) => {
        const current = await currentGate(tx.db, run, gate)
        if (current?.state !== 'open') return
        const [votes, objections] = [await votesOf(tx.db, [current.id]), await objectionsTo(tx.db, [current.id])]
        // Whoever asks may have a clock that is ahead, and may not know of the last vote.
        if (verdictNow(current, votes, objections, tx.now, now).kind !== 'expired') return
        await tx.db
          .updateTable('gates')
          .set({ state: 'expired', decided_at: tx.now })
          .where('id', '=', current.id)
          .execute()
        const { expiresAt } = fromJson<GateRules>(current.rules)
        const detail = { expiresAt, subject: fromJson<Subject>(current.subject) }
        await recordAudit(tx, { by: 'penstock', channel: 'timer', action: 'gate.expired', on: current.id, detail })
      }),

    override: (input) => database.write((tx) => override(tx, input)),

    rejection: (repo, commit) =>
      database.read(async (db) => {
        const gate = await db
          .selectFrom('gates')
          .innerJoin('runs', 'runs.id', 'gates.run')
          .selectAll('gates')
          .where('runs.repo', '=', repo)
          .where('runs.commit_id', '=', commit)
          .where('gates.name', '!=', OVERRIDE)
          // One that is asked anew, by another run say, has decided nothing yet.
          .where('gates.state', 'in', ['approved', 'rejected'])
          .orderBy('gates.opened_at', 'desc')
          .orderBy('runs.number', 'desc')
          .orderBy('gates.version', 'desc')
          .limit(1)
          .executeTakeFirst()
        return gate?.state === 'rejected' ? toGateRow(db, gate) : undefined
      }),

    toReview: () =>
      database.read(async (db) => {
        const gates = await db
          .selectFrom('gates')
          .selectAll()
          .where('broken', 'is not', null)
          .where('review', 'is', null)
          .orderBy('decided_at')
          .orderBy('id')
          .execute()
        return toGateRows(db, gates)
      }),

    review: (id, { by, comment, channel }) =>
      database.write(async (tx) => {
        const gate = await tx.db.selectFrom('gates').selectAll().where('id', '=', id).executeTakeFirst()
        if (gate === undefined || gate.broken === null) return 'not_broken'
        if (gate.review !== null) return 'known'
        if (fromJson<BrokenGlass>(gate.broken).by === by) return 'own'
        if (fromJson<GateRules>(gate.rules).excluded.includes(by)) return 'author'
        const review: Review = { by, comment, channel, at: tx.now }
        await tx.db
          .updateTable('gates')
          .set({ review: JSON.stringify(review) })
          .where('id', '=', id)
          .execute()
        const detail = { comment, broken: fromJson<BrokenGlass>(gate.broken) }
        await recordAudit(tx, { by, channel, action: 'gate.reviewed', on: id, detail })
        await appendEvents(tx, gate.run, `${id}/reviewed`, [{ type: 'gate.reviewed.v1', gate: gate.name, by, comment }])
        return 'reviewed'
      }),

    object: (id, { by, why, via }) =>
      database.write(async (tx) => {
        const { gate, objections } = await standing(tx.db, id)
        if (gate?.state !== 'open' || objections.some((one) => one.by === by && one.why === why && one.via === via))
          return
        await tx.db
          .insertInto('objections')
          .values({ gate: id, by, why, via, at: tx.now })
          .onConflict((conflict) => conflict.columns(['gate', 'by']).doUpdateSet({ why, via, at: tx.now }))
          .execute()
        await recordAudit(tx, { by, channel: via, action: 'gate.objection', on: id, detail: { why } })
        await wake(tx, gate)
      }),

    withdraw: (id, by) =>
      database.write(async (tx) => {
        const { gate, objections } = await standing(tx.db, id)
        const own = objections.find((one) => one.by === by)
        if (gate?.state !== 'open' || own === undefined) return
        await tx.db.deleteFrom('objections').where('gate', '=', id).where('by', '=', by).execute()
        await recordAudit(tx, { by, channel: own.via, action: 'gate.objection_withdrawn', on: id })
        // Not decided here: whether what was held is enough is judged by the rights of the moment, when the run looks.
        await wake(tx, gate)
      }),
  }
}

async function standing(db: Transaction<Schema>, id: string) {
  const gate = await db.selectFrom('gates').selectAll().where('id', '=', id).executeTakeFirst()
  return { gate, objections: await objectionsTo(db, [id]) }
}

/** The run looks at its gate again, and says what it waits for now. */
async function wake({ db, put }: Writing, { id, run }: Gate): Promise<void> {
  // Every objection, and every withdrawal of one, stands in the audit: so each has a key of its own.
  const { n } = await db
    .selectFrom('audit')
    .select((e) => e.fn.countAll().as('n'))
    .where('on', '=', id)
    .executeTakeFirstOrThrow()
  await put(`gate/${id}/${Number(n)}`, { kind: 'signal', workflowId: run, signal: 'granted', args: [] })
}

function objectionsTo(db: Transaction<Schema>, gates: readonly string[]): Promise<Schema['objections'][]> {
  return db.selectFrom('objections').selectAll().where('gate', 'in', gates).orderBy('at').orderBy('by').execute()
}

async function approve(tx: Writing, gate: Gate, rules: GateRules): Promise<void> {
  await decide(tx, gate, 'approved', rules)
  const detail = { subject: fromJson<Subject>(gate.subject), rules }
  await recordAudit(tx, { by: 'penstock', channel: 'timer', action: 'gate.approved', on: gate.id, detail })
  await appendEvents(tx, gate.run, `${gate.id}/decided`, [
    { type: 'gate.decided.v1', gate: gate.name, verdict: 'approved' },
  ])
}

/** With the rules by which it was decided: whose approvals were enough is told by these, and not by those it was opened with. */
async function decide(
  { db, now }: Writing,
  { id }: Gate,
  state: 'approved' | 'rejected',
  rules: GateRules,
): Promise<void> {
  await db
    .updateTable('gates')
    .set({ state, decided_at: now, rules: JSON.stringify(rules) })
    .where('id', '=', id)
    .execute()
}

async function voidGate(tx: Writing, gate: Gate, why: string, now: Subject): Promise<void> {
  const { id, run, name } = gate
  await tx.db.updateTable('gates').set({ state: 'voided', voided: why }).where('id', '=', id).execute()
  const detail = { why, was: gate.state, subject: fromJson<Subject>(gate.subject), now }
  await recordAudit(tx, { by: 'penstock', channel: 'run', action: 'gate.voided', on: id, detail })
  await appendEvents(tx, run, `${id}/voided`, [{ type: 'gate.voided.v1', gate: name, why }])
}

/** Why an opened gate does not serve this subject by these rules, with its votes and its decision; empty: it does. */
function changesSince(gate: Gate, subject: Subject, rules: GateRules): string[] {
  const change = rulesChange(fromJson<GateRules>(gate.rules), rules)
  return [...subjectChanges(fromJson<Subject>(gate.subject), subject), ...(change === undefined ? [] : [change])]
}

/** A retry of an expired gate gets new time, and new votes; the same call again does not. */
function isOver({ state }: Gate, { expiresAt }: GateRules, now: number): boolean {
  return state === 'voided' || (state === 'expired' && (expiresAt === undefined || expiresAt > now))
}

/** Who belongs to which group is no rule that was changed: an open gate is brought up to date. */
async function withPeople(db: Transaction<Schema>, gate: Gate, rules: GateRules): Promise<Gate> {
  const text = JSON.stringify(rules)
  if (gate.state !== 'open' || gate.rules === text) return gate
  await db.updateTable('gates').set({ rules: text }).where('id', '=', gate.id).execute()
  return { ...gate, rules: text }
}

async function vote(tx: Writing, input: Parameters<Gates['vote']>[0]): ReturnType<Gates['vote']> {
  const { db, now } = tx
  const { run, answer, claimedBy, channel } = input
  const gate = await currentGate(db, run, input.gate)
  const ended = await whyEnded(db, run)
  if (gate === undefined) {
    const why = ended ?? (input.gate === '' ? 'the run has no gate' : `the run has no gate "${input.gate}" yet`)
    await recordOnce(tx, input.gate === '' ? run : `${run}/${input.gate}`, input, why)
    return { verdict: { kind: 'open', approvals: 0, missing: 1 }, by: claimedBy, channel, counts: false, why }
  }

  const seen = await db
    .selectFrom('votes')
    .selectAll()
    .where('run', '=', run)
    .where('gate_name', '=', input.gate)
    .where('vote_key', '=', input.key)
    .executeTakeFirst()
  if (seen !== undefined) {
    const objections = await objectionsTo(db, [gate.id])
    const verdict = verdictNow(gate, await votesOf(db, [gate.id]), objections, now, input.now)
    const { by, channel } = seen
    return { verdict, by, channel, counts: seen.counts === 1, ...(seen.why === null ? {} : { why: seen.why }) }
  }

  const token = await useToken(tx, gate, input.token)
  const before = await votesOf(db, [gate.id])
  const rules = rulesNow(gate, input.now)
  const objections = await objectionsTo(db, [gate.id])
  const isBreaking = input.breakGlass === true
  const untimely = whyUntimely(gate, input.about)
  const facts: VoteFacts = {
    state: gate.state as GateState,
    rules,
    ...token,
    claimedBy,
    trustSignals: input.trustSignals,
    votes: before.filter((one) => one.counts === 1).map(toCounted),
    objections,
    answer,
    now,
    matches: matchesPattern,
    ...(input.fields === undefined ? {} : { fields: input.fields }),
    ...(isBreaking ? { breakGlass: { operators: input.operators ?? [], reason: input.comment } } : {}),
    ...(gate.moving_since === null ? {} : { isMoving: true }),
    ...(untimely === undefined ? {} : { untimely }),
  }
  // Nobody is left to act on it.
  const judged = ended === undefined ? judgeVote(facts) : ({ counts: false, why: ended } as const)
  const proof: Proof = token.proof ?? (judged.counts ? 'trusted_signal' : 'nobody')
  const fields = judged.counts ? judged.values : input.fields
  const row: Schema['votes'] = {
    gate: gate.id,
    seq: before.length + 1,
    vote_key: input.key,
    run,
    gate_name: input.gate,
    by: judged.counts ? judged.by : (token.authenticated ?? claimedBy),
    answer,
    comment: input.comment ?? null,
    // Whoever holds a token may write any channel beside it.
    channel: token.channel ?? channel,
    at: now,
    counts: judged.counts ? 1 : 0,
    why: judged.counts ? null : judged.why,
    proof,
    fields: fields === undefined || Object.keys(fields).length === 0 ? null : JSON.stringify(fields),
    break_glass: isBreaking ? 1 : 0,
  }
  await db.insertInto('votes').values(row).execute()
  const subject = fromJson<Subject>(gate.subject)
  await recordAudit(tx, {
    by: row.by,
    channel: row.channel,
    action: 'gate.vote',
    on: gate.id,
    detail: {
      answer,
      comment: row.comment,
      counts: judged.counts,
      why: row.why,
      // `false` and yet counted: the operator's file trusts whoever can signal Temporal.
      authenticated: token.authenticated !== undefined,
      authenticatedAs: token.authenticated ?? null,
      proof,
      claimedBy,
      subject,
      ...(rules.form === undefined ? {} : { form: rules.form }),
      ...(row.fields === null ? {} : { fields }),
      ...(isBreaking ? { breakGlass: true } : {}),
    },
  })

  const verdict = verdictNow(gate, [...before, row], objections, now, input.now)
  if (judged.counts && (verdict.kind === 'approved' || verdict.kind === 'rejected')) {
    await decide(tx, gate, verdict.kind, rules)
    await recordAudit(tx, {
      ...{ by: row.by, channel: row.channel, action: `gate.${verdict.kind}`, on: gate.id },
      // As they were at this moment: teams and roles change.
      detail: { subject, rules, ...(isBreaking ? { breakGlass: true } : {}) },
    })
    if (isBreaking) await markBroken(tx, gate, row)
  }
  const told = { verdict, by: row.by, channel: row.channel }
  return judged.counts ? { ...told, counts: true } : { ...told, counts: false, why: judged.why }
}

async function whyEnded(db: Transaction<Schema>, id: string): Promise<string | undefined> {
  const run = await db.selectFrom('runs').select(['number', 'status']).where('id', '=', id).executeTakeFirst()
  return run !== undefined && isOutcome(run.status)
    ? `run ${run.number} has ended: ${run.status}; retry it first`
    : undefined
}

/** Whoever proves nothing may have been shown anything. */
function whyUntimely({ id }: Gate, about: string | null | undefined): string | undefined {
  if (about === undefined || about === id) return undefined
  return about === null
    ? 'it was sent before the gate was open, when nobody had been shown what it is about; look at it and vote anew'
    : 'it was sent for an earlier opening of the gate; look at what it is about now and vote anew'
}

async function override(tx: Writing, input: Parameters<Gates['override']>[0]): Promise<void> {
  const { db, now } = tx
  const { run, environment, rules, subject, by, reason, channel } = input
  const current = await currentGate(db, run, OVERRIDE)
  const before = await db
    .selectFrom('votes')
    .select('by')
    .where('run', '=', run)
    .where('gate_name', '=', OVERRIDE)
    .where('by', '=', by)
    .executeTakeFirst()
  if (before !== undefined) return
  const version = (current?.version ?? 0) + 1
  const gate: Gate = {
    ...{ id: `${run}/${OVERRIDE}/${version}`, run, name: OVERRIDE, version, environment },
    ...{ rules: JSON.stringify(rules), subject: JSON.stringify(subject) },
    ...{ state: 'approved', opened_at: now, decided_at: now, broken: null, review: null, voided: null },
    // The release asks for it when it begins, or has begun: nobody is asked for a vote.
    ...{ reminded: 0, reminded_at: null, moving_since: now },
  }
  const vote: Schema['votes'] = {
    ...{ gate: gate.id, seq: 1, vote_key: `override/${version}`, run, gate_name: OVERRIDE, by, answer: 'approve' },
    ...{ comment: reason, channel, at: now, counts: 1, why: null, proof: 'session', fields: null, break_glass: 1 },
  }
  await db.insertInto('gates').values(gate).execute()
  await db.insertInto('votes').values(vote).execute()
  await markBroken(tx, gate, vote)
  await db
    .updateTable('runs')
    .set({ override: JSON.stringify({ by, reason }) })
    .where('id', '=', run)
    .where('override', 'is', null)
    .execute()
  const record = (action: string, detail: object) => recordAudit(tx, { by, channel, action, on: gate.id, detail })
  await record('gate.opened', { subject, rules })
  const proven = { authenticated: true, authenticatedAs: by, proof: 'session', claimedBy: by }
  await record('gate.vote', {
    ...{ answer: 'approve', comment: reason, counts: true, why: null, ...proven, subject, breakGlass: true },
  })
  await record('gate.approved', { subject, rules, breakGlass: true })
  const voted = { type: 'gate.voted.v1', gate: OVERRIDE, by, answer: 'approve', channel, counts: true } as const
  await appendEvents(tx, run, `${gate.id}/decided`, [
    { ...voted, comment: reason, breakGlass: true },
    { type: 'gate.decided.v1', gate: OVERRIDE, verdict: 'approved' },
  ])
  const isOpen = await db
    .selectFrom('runs')
    .select('id')
    .where('id', '=', run)
    .where('status', 'in', OPEN_STATUSES)
    .executeTakeFirst()
  if (isOpen !== undefined) await wake(tx, gate)
}

/** Of a vote for a gate that is not there. */
async function recordOnce(tx: Writing, on: string, input: Parameters<Gates['vote']>[0], why: string): Promise<void> {
  const { key, answer, claimedBy, channel, comment, fields, breakGlass } = input
  const known = await tx.db.selectFrom('audit').select('detail').where('on', '=', on).execute()
  if (known.some(({ detail }) => detail !== null && fromJson<{ key?: string }>(detail).key === key)) return
  const shown = { comment, fields, breakGlass, key }
  const detail = { answer, counts: false, why, authenticated: false, proof: 'nobody', ...shown }
  await recordAudit(tx, { by: claimedBy, channel, action: 'gate.vote', on, detail })
}

/** Run and gate say it for ever. */
async function markBroken({ db, now }: Writing, gate: Gate, { by, channel, comment }: Schema['votes']): Promise<void> {
  const broken: BrokenGlass = { by, reason: comment ?? '', channel, at: now }
  await db
    .updateTable('gates')
    .set({ broken: JSON.stringify(broken) })
    .where('id', '=', gate.id)
    .execute()
  const mark: RunRow['broken'] = { gate: gate.name, by, reason: broken.reason }
  await db
    .updateTable('runs')
    .set({ broken: JSON.stringify(mark) })
    .where('id', '=', gate.run)
    .where('broken', 'is', null)
    .execute()
}

function toCounted({ by, answer, break_glass }: Schema['votes']): CountedVote {
  return { by, answer: answer as Answer, ...(break_glass === 1 ? { breakGlass: true } : {}) }
}

function verdictNow(
  gate: Gate,
  votes: readonly Schema['votes'][],
  objections: readonly Objection[],
  now: number,
  rights?: RulesNow,
): Verdict {
  if (gate.state === 'expired') return { kind: 'expired' }
  const counted = votes.filter((one) => one.counts === 1).map(toCounted)
  return verdictOf(rulesNow(gate, rights), counted, now, objections)
}

function rulesNow({ id, rules }: Gate, now: RulesNow | undefined): GateRules {
  return now?.gate === id ? now.rules : fromJson<GateRules>(rules)
}

/** Whose token it is, if it is good for this gate and subject; one that is known is used up by any vote. */
async function useToken(
  tx: Writing,
  gate: Gate,
  plain: string | undefined,
): Promise<
  Pick<VoteFacts, 'authenticated' | 'tokenProblem' | 'voided' | 'sentAt'> & {
    readonly proof?: Proof
    readonly channel?: string
  }
> {
  if (plain === undefined) return { tokenProblem: 'missing' }
  const hash = sha256(plain)
  const token = await tx.db.selectFrom('vote_tokens').selectAll().where('hash', '=', hash).executeTakeFirst()
  if (token === undefined) return { tokenProblem: 'unknown' }
  if (token.used_at !== null) return { tokenProblem: 'used' }
  await tx.db.updateTable('vote_tokens').set({ used_at: tx.now }).where('hash', '=', hash).execute()
  if (token.gate !== gate.id) {
    const { gate: other } = await standing(tx.db, token.gate)
    return { tokenProblem: 'other_subject', ...(other?.voided == null ? {} : { voided: other.voided }) }
  }
  if (token.expires_at <= tx.now) return { tokenProblem: 'expired' }
  const proof = (token.proof as Proof | null) ?? 'token'
  // One for a signal by hand is made before the vote; all others with it.
  const sent = proof === 'token' ? {} : { sentAt: token.created_at }
  return { authenticated: token.person, proof, channel: token.channel, ...sent }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function currentGate(db: Transaction<Schema>, run: string, name: string): Promise<Gate | undefined> {
  return db
    .selectFrom('gates')
    .selectAll()
    .where('run', '=', run)
    .where('name', '=', name)
    .orderBy('version', 'desc')
    .limit(1)
    .executeTakeFirst()
}

async function votesOf(db: Transaction<Schema>, gates: readonly string[]): Promise<Schema['votes'][]> {
  if (gates.length === 0) return []
  return db.selectFrom('votes').selectAll().where('gate', 'in', gates).orderBy('gate').orderBy('seq').execute()
}

async function toGateRow(db: Transaction<Schema>, gate: Gate): Promise<GateRow> {
  return fromGate(gate, await votesOf(db, [gate.id]), await objectionsTo(db, [gate.id]))
}

/** Gates of one query: within SQLite's limit of variables. */
const BATCH = 500

async function toGateRows(db: Transaction<Schema>, gates: readonly Gate[]): Promise<readonly GateRow[]> {
  const votes = new Map<string, Schema['votes'][]>()
  const objections: Schema['objections'][] = []
  for (let from = 0; from < gates.length; from += BATCH) {
    const ids = gates.slice(from, from + BATCH).map((gate) => gate.id)
    for (const row of await votesOf(db, ids)) votes.set(row.gate, [...(votes.get(row.gate) ?? []), row])
    objections.push(...(await objectionsTo(db, ids)))
  }
  return gates.map((gate) =>
    fromGate(
      gate,
      votes.get(gate.id) ?? [],
      objections.filter((one) => one.gate === gate.id),
    ),
  )
}

function fromGate(gate: Gate, votes: readonly Schema['votes'][], objections: readonly Schema['objections'][]): GateRow {
  return {
    id: gate.id,
    run: gate.run,
    name: gate.name,
    environment: gate.environment,
    rules: fromJson<GateRules>(gate.rules),
    subject: fromJson<Subject>(gate.subject),
    state: gate.state as GateState,
    openedAt: gate.opened_at,
    ...(gate.decided_at === null ? {} : { decidedAt: gate.decided_at }),
    ...(gate.moving_since === null ? {} : { movingSince: gate.moving_since }),
    ...(gate.voided === null ? {} : { voided: gate.voided }),
    ...(gate.reminded_at === null ? {} : { reminded: { count: gate.reminded, at: gate.reminded_at } }),
    votes: votes.map(toVoteRow),
    objections: objections.map(({ by, why, via }) => ({ by, why, via })),
    ...(gate.broken === null ? {} : { broken: fromJson<BrokenGlass>(gate.broken) }),
    ...(gate.review === null ? {} : { review: fromJson<Review>(gate.review) }),
  }
}

function toVoteRow(row: Schema['votes']): VoteRow {
  return {
    by: row.by,
    answer: row.answer as Answer,
    channel: row.channel,
    at: row.at,
    counts: row.counts === 1,
    ...(row.comment === null ? {} : { comment: row.comment }),
    ...(row.why === null ? {} : { why: row.why }),
    ...(row.proof === null ? {} : { proof: row.proof as Proof }),
    ...(row.fields === null ? {} : { fields: fromJson<FieldValues>(row.fields) }),
    ...(row.break_glass === 1 ? { breakGlass: true as const } : {}),
  }
}
