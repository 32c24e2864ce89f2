import type { Transaction } from 'kysely'
import type { Trigger } from '../core/change.ts'
import type { Notice } from '../core/notice.ts'
import type { Database, Writing } from './database.ts'
import { fromJson } from './database.ts'
import { keepNotice } from './notices.ts'
import { insertRun, toRunRow } from './runs.ts'
import type { Schema } from './schema.ts'
import { meaningOf as pullMeaning } from './sightings.ts'
import type { Deliveries, DeliveryRow, NewDelivery, Recorded, RunRow } from './types.ts'

export function createDeliveries(database: Database): Deliveries {
  return {
    record: (delivery, trigger, admission, notice) =>
      database.write(async (tx) => {
        const known = await findKnown(tx.db, delivery)
        if (known !== undefined) return known

        const { repo, change } = trigger
        const branch = movesBranch(trigger) ? await branchOf(tx.db, repo, change.ref) : undefined
        if (!isKnownAs(branch, delivery)) return TOLD_MEANWHILE
        const noted = notice && (await keepNotice(tx, repo, notice))
        const named = { ...delivery, repo, noted }
        const before = await runBefore(tx.db, branch, delivery, trigger)
        if (before !== undefined) {
          if (delivery.seen !== undefined) await seeBranch(tx, delivery, repo, change.ref, change.commit)
          await insertDelivery(tx, named, { outcome: 'duplicate', run: before })
          return { kind: 'duplicate', by: 'meaning', ...(await withRun(tx.db, before)) }
        }

        const run = await insertRun(tx, trigger, admission)
        await insertDelivery(tx, named, { outcome: 'run', run: run.number })
        const meaning = meaningOf(delivery, trigger)
        if (meaning !== undefined) {
          const news = { run_number: run.number, at: delivery.at ?? null }
          await tx.db
            .insertInto('meanings')
            .values({ repo, meaning, ...moveOf(delivery, trigger), ...news })
            .onConflict((conflict) => conflict.columns(['repo', 'meaning']).doUpdateSet(news))
            .execute()
        }
        if (movesBranch(trigger) && !(await isLate(tx.db, branch, delivery, trigger))) {
          await seeBranch(tx, delivery, repo, change.ref, change.commit)
        }
        return { kind: 'run', run }
      }),

    recordNotice: (delivery, repo, notice) =>
      database.write(async (tx) => {
        const known = await findKnown(tx.db, delivery)
        if (known !== undefined) return known
        const noted = await keepNotice(tx, repo, notice)
        await insertDelivery(tx, { ...delivery, repo, noted }, { outcome: 'noted' })
        return { kind: 'noted', about: notice }
      }),

    recordBranchDeleted: (delivery, repo, ref, notice, before) =>
      database.write(async (tx) => {
        const known = await findKnown(tx.db, delivery)
        if (known !== undefined) return known
        const branch = await branchOf(tx.db, repo, ref)
        if (!isKnownAs(branch, delivery)) return TOLD_MEANWHILE
        const noted = notice && (await keepNotice(tx, repo, notice))
        if (!(await isLateEnd(tx.db, branch, delivery, { repo, ref, before }))) {
          await seeBranch(tx, delivery, repo, ref, null)
        }
        return ignore(tx, { ...delivery, repo, noted }, 'branch deleted')
      }),

    recordIgnored: (delivery, reason) =>
      database.write(async (tx) => (await findKnown(tx.db, delivery)) ?? (await ignore(tx, delivery, reason))),

    list: ({ limit, repo, before }) =>
      database.read(async (db) => {
        let rows = db
          .selectFrom('deliveries')
          .leftJoin('notices', 'notices.id', 'deliveries.notice')
          .select([
            'source',
            'deliveries.id',
            'event',
            'deliveries.repo',
            'deliveries.received_at',
            'run_number',
            'reason',
          ])
          .select(['deliveries.outcome as became', 'notices.notice as about', 'notices.tries', 'notices.done_at'])
          .select(['notices.outcome', 'notices.error'])
          .orderBy('deliveries.received_at', 'desc')
          .orderBy('deliveries.id')
          .limit(limit)
        if (repo !== undefined) rows = rows.where('deliveries.repo', '=', repo)
        if (before !== undefined) rows = rows.where('deliveries.received_at', '<', before)
        return (await rows.execute()).map(
          ({ about, ...row }): DeliveryRow => ({
            source: row.source,
            id: row.id,
            event: row.event,
            receivedAt: row.received_at,
            outcome: row.became,
            ...(row.repo === null ? {} : { repo: row.repo }),
            ...(row.run_number === null ? {} : { run: row.run_number }),
            ...(row.reason === null ? {} : { reason: row.reason }),
            ...(about === null
              ? {}
              : {
                  notice: {
                    about: fromJson<Notice>(about),
                    tries: row.tries ?? 0,
                    ...(row.done_at === null ? {} : { doneAt: row.done_at }),
                    ...(row.outcome === null ? {} : { outcome: row.outcome }),
                    ...(row.error === null ? {} : { error: row.error }),
                  },
                }),
          }),
        )
      }),
  }
}

/** Whoever looked at the forge knew less than is known now: the next look will see it. */
const TOLD_MEANWHILE = { kind: 'ignored', reason: 'told by a delivery meanwhile' } as const

function isKnownAs(branch: Branch | undefined, { seen }: NewDelivery): boolean {
  if (seen === undefined) return true
  return branch?.commit_id === (branch && (seen.known?.commit ?? null)) && branch?.seen_at === seen.known?.seenAt
}

async function findKnown(db: Transaction<Schema>, delivery: NewDelivery): Promise<Recorded | undefined> {
  const known = await db
    .selectFrom('deliveries')
    .selectAll()
    .where('source', '=', delivery.source)
    .where('id', '=', delivery.id)
    .executeTakeFirst()
  if (known === undefined) return undefined
  if (known.body_digest !== delivery.bodyDigest) return { kind: 'conflict' }
  return { kind: 'duplicate', by: 'id', ...(await withRun(db, known.run_number)) }
}

async function withRun(db: Transaction<Schema>, number: number | null): Promise<{ readonly run?: RunRow }> {
  if (number === null) return {}
  const row = await db.selectFrom('runs').selectAll().where('number', '=', number).executeTakeFirst()
  return row === undefined ? {} : { run: toRunRow(row) }
}

/** A promotion is the push that the forge will report as well: both mean the same. */
function movesBranch(trigger: Trigger): boolean {
  return trigger.kind === 'push' || trigger.kind === 'promotion'
}

/** What the trigger is about, whoever tells it; undefined: every one is news (a person asks for a run). */
function meaningOf(delivery: NewDelivery, trigger: Trigger): string | undefined {
  const { change } = trigger
  if (movesBranch(trigger)) {
    const { ref, before, after } = moveOf(delivery, trigger)
    return `push ${ref} ${before} ${after}`
  }
  if (trigger.kind === 'pull_request' && change.pullRequest !== undefined) {
    return pullMeaning({ number: change.pullRequest.number, commit: change.commit })
  }
  return undefined
}

function moveOf({ seen }: NewDelivery, trigger: Trigger) {
  const { ref, before = '-', commit } = trigger.change
  if (!movesBranch(trigger)) return { ref: null, before: null, after: null }
  return { ref, before: seen?.isMoveKnown === false ? UNKNOWN : before, after: commit }
}

/** Instead of the commit that a branch was at before somebody saw at the forge where it is. */
const UNKNOWN = '?'

type Branch = Pick<Schema['branches'], 'commit_id' | 'seen_at' | 'at' | 'looked'>

function branchOf(db: Transaction<Schema>, repo: string, ref: string): Promise<Branch | undefined> {
  return db
    .selectFrom('branches')
    .select(['commit_id', 'seen_at', 'at', 'looked'])
    .where('repo', '=', repo)
    .where('ref', '=', ref)
    .executeTakeFirst()
}

/** The run that the news has become before, whoever brought it. */
async function runBefore(
  db: Transaction<Schema>,
  branch: Branch | undefined,
  delivery: NewDelivery,
  trigger: Trigger,
): Promise<number | undefined> {
  const { repo, change } = trigger
  const meaning = meaningOf(delivery, trigger)
  if (meaning === undefined) return undefined
  if (movesBranch(trigger)) {
    const to = { repo, ref: change.ref, commit: change.commit }
    // Whoever tells it, and from wherever it came: the branch is known to be there, and not from another time.
    if (branch?.commit_id === change.commit && isEarlier(delivery, branch) === undefined) {
      const there = await moveTo(db, to)
      if (there !== undefined) return there.run_number
    }
    if (delivery.seen !== undefined) {
      const told = await moveTo(db, to)
      if (told !== undefined && branch !== undefined && wasToldSince(told, branch, delivery)) return told.run_number
    } else if (!goesOn(branch, change)) {
      const seen = await moveTo(db, to, UNKNOWN)
      if (seen !== undefined) return seen.run_number
    }
  }
  const same = await db
    .selectFrom('meanings')
    .select(['run_number', 'at'])
    .where('repo', '=', repo)
    .where('meaning', '=', meaning)
    .executeTakeFirst()
  return same === undefined || isNewsAgain(branch, same, delivery, trigger) ? undefined : same.run_number
}

/** The move starts where the branch is. */
function goesOn(branch: Branch | undefined, { before }: { readonly before?: string }): boolean {
  return branch !== undefined && branch.commit_id === (before ?? null)
}

/** The same move of a branch, seen before, is news when the branch had gone back to where the move starts. */
function isNewsAgain(
  branch: Branch | undefined,
  same: { readonly at: number | null },
  { at, seen }: NewDelivery,
  { kind, change }: Trigger,
): boolean {
  if (kind === 'pull_request') return false
  if (seen === undefined && !goesOn(branch, change)) return false
  // A copy of the first one comes at any time.
  return at === undefined || same.at === null || at > same.at
}

/** What is seen at the forge was told by a delivery that did not move the branch, because it seemed to come late. */
function wasToldSince(
  told: { readonly created_at: number; readonly at: number | null },
  branch: Branch,
  { at }: NewDelivery,
): boolean {
  if (at !== undefined && told.at !== null) return at <= told.at
  // A list of branches that left one out for a while: it has its run.
  const wasMissed = branch.commit_id === null && branch.looked === 1
  return wasMissed || told.created_at >= branch.seen_at
}

/** The newest known move of the branch to this commit, wherever it came from. */
function moveTo(
  db: Transaction<Schema>,
  { repo, ref, commit }: { readonly repo: string; readonly ref: string; readonly commit: string },
  before?: string,
) {
  const moves = db
    .selectFrom('meanings')
    .innerJoin('runs', 'runs.number', 'meanings.run_number')
    .select(['run_number', 'at', 'created_at'])
    .where('meanings.repo', '=', repo)
    .where('meanings.ref', '=', ref)
    .where('after', '=', commit)
    .orderBy('run_number', 'desc')
    .limit(1)
  return (before === undefined ? moves : moves.where('before', '=', before)).executeTakeFirst()
}

/** By the forge's time, where it is known of both; undefined: that does not tell. */
function isEarlier({ at }: NewDelivery, branch: Branch): boolean | undefined {
  return at === undefined || branch.at === null || at === branch.at ? undefined : at < branch.at
}

/** The forge itself has shown where the branch was then. If clocks differ, the next look will see where it is now. */
function isBeforeLook({ at }: NewDelivery, branch: Branch): boolean {
  return at === undefined || at < branch.seen_at
}

/** A move that comes after the one that follows it: its commit gets its run, and the branch stays where it was seen. */
async function isLate(
  db: Transaction<Schema>,
  branch: Branch | undefined,
  delivery: NewDelivery,
  { repo, change }: Trigger,
): Promise<boolean> {
  if (branch === undefined || delivery.seen !== undefined) return false
  const isEarly = isEarlier(delivery, branch)
  if (isEarly !== undefined) return isEarly
  if (goesOn(branch, change)) return false
  if (branch.looked === 1) return isBeforeLook(delivery, branch)
  if (!branch.commit_id) return false
  const next = await db
    .selectFrom('meanings')
    .select('run_number')
    .where('repo', '=', repo)
    .where('ref', '=', change.ref)
    .where('before', '=', change.commit)
    .limit(1)
    .executeTakeFirst()
  return next !== undefined
}

/** The branch has been made anew, or moved on from a commit that we have seen it at, since it was deleted. */
async function isLateEnd(
  db: Transaction<Schema>,
  branch: Branch | undefined,
  delivery: NewDelivery,
  { repo, ref, before }: { readonly repo: string; readonly ref: string; readonly before: string | undefined },
): Promise<boolean> {
  if (branch === undefined || delivery.seen !== undefined) return false
  const isEarly = isEarlier(delivery, branch)
  if (isEarly !== undefined) return isEarly
  if (before === undefined || branch.commit_id === null || branch.commit_id === before) return false
  if (branch.looked === 1) return isBeforeLook(delivery, branch)
  return (await moveTo(db, { repo, ref, commit: before })) !== undefined
}

async function seeBranch(
  tx: Writing,
  { at, seen }: NewDelivery,
  repo: string,
  ref: string,
  commit: string | null,
): Promise<void> {
  const values = { commit_id: commit, seen_at: tx.now, at: at ?? null, looked: seen === undefined ? 0 : 1 }
  await tx.db
    .insertInto('branches')
    .values({ repo, ref, ...values })
    .onConflict((conflict) => conflict.columns(['repo', 'ref']).doUpdateSet(values))
    .execute()
}

/** With what was kept of it for the rules. */
interface Noted extends NewDelivery {
  readonly noted?: number | undefined
}

async function ignore(tx: Writing, delivery: Noted, reason: string): Promise<Recorded> {
  await insertDelivery(tx, delivery, { outcome: 'ignored', reason })
  return { kind: 'ignored', reason }
}

async function insertDelivery(
  tx: Writing,
  delivery: Noted,
  became: {
    readonly outcome: Schema['deliveries']['outcome']
    readonly run?: number
    readonly reason?: string
  },
): Promise<void> {
  await tx.db
    .insertInto('deliveries')
    .values({
      source: delivery.source,
      id: delivery.id,
      body_digest: delivery.bodyDigest,
      event: delivery.event,
      received_at: tx.now,
      outcome: became.outcome,
      run_number: became.run ?? null,
      reason: became.reason ?? null,
      repo: delivery.repo ?? null,
      notice: delivery.noted ?? null,
    })
    .execute()
}
