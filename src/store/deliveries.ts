import type { Transaction } from 'kysely'
import type { Trigger } from '../core/change.ts'
import type { Database, Writing } from './database.ts'
import { keepNotice } from './notices.ts'
import { insertRun, toRunRow } from './runs.ts'
import type { Schema } from './schema.ts'
import type { Deliveries, NewDelivery, Recorded, RunRow } from './types.ts'

export function createDeliveries(database: Database): Deliveries {
  return {
    record: (delivery, trigger, admission, notice) =>
      database.write(async (tx) => {
        const known = await findKnown(tx.db, delivery)
        if (known !== undefined) return known

        const { repo, change } = trigger
        if (notice !== undefined) await keepNotice(tx, repo, notice)
        const meaning = meaningOf(trigger)
        const branch = movesBranch(trigger) ? await branchOf(tx.db, trigger) : undefined
        // Whoever tells it, and from wherever it came: the branch is known to be there.
        const there = branch?.commit_id === change.commit ? await moveTo(tx.db, trigger) : undefined
        if (there !== undefined) {
          await insertDelivery(tx, delivery, { outcome: 'duplicate', run: there })
          return { kind: 'duplicate', by: 'meaning', ...(await withRun(tx.db, there)) }
        }
        if (meaning !== undefined) {
          const same = await tx.db
            .selectFrom('meanings')
            .select('run_number')
            .where('repo', '=', repo)
            .where('meaning', '=', meaning)
            .executeTakeFirst()
          if (same !== undefined && !isNewsAgain(branch, trigger)) {
            await insertDelivery(tx, delivery, { outcome: 'duplicate', run: same.run_number })
            return { kind: 'duplicate', by: 'meaning', ...(await withRun(tx.db, same.run_number)) }
          }
        }

        const run = await insertRun(tx, trigger, admission)
        await insertDelivery(tx, delivery, { outcome: 'run', run: run.number })
        if (meaning !== undefined) {
          await tx.db
            .insertInto('meanings')
            .values({ repo, meaning, run_number: run.number, ...moveOf(trigger) })
            .onConflict((conflict) => conflict.columns(['repo', 'meaning']).doUpdateSet({ run_number: run.number }))
            .execute()
        }
        if (movesBranch(trigger) && !(await isLate(tx.db, branch, trigger))) {
          await seeBranch(tx, repo, change.ref, change.commit)
        }
        return { kind: 'run', run }
      }),

    recordNotice: (delivery, repo, notice) =>
      database.write(async (tx) => {
        const known = await findKnown(tx.db, delivery)
        if (known !== undefined) return known
        await keepNotice(tx, repo, notice)
        await insertDelivery(tx, delivery, { outcome: 'noted' })
        return { kind: 'noted', about: notice }
      }),

    recordBranchDeleted: (delivery, repo, ref, notice) =>
      database.write(async (tx) => {
        const known = await findKnown(tx.db, delivery)
        if (known !== undefined) return known
        if (notice !== undefined) await keepNotice(tx, repo, notice)
        await seeBranch(tx, repo, ref, null)
        return ignore(tx, delivery, 'branch deleted')
      }),

    recordIgnored: (delivery, reason) =>
      database.write(async (tx) => (await findKnown(tx.db, delivery)) ?? (await ignore(tx, delivery, reason))),
  }
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
function meaningOf(trigger: Trigger): string | undefined {
  const { change } = trigger
  if (movesBranch(trigger)) {
    const { ref, before, after } = moveOf(trigger)
    return `push ${ref} ${before} ${after}`
  }
  if (trigger.kind === 'pull_request' && change.pullRequest !== undefined) {
    return `pull_request ${change.pullRequest.number} ${change.commit}`
  }
  return undefined
}

function moveOf(trigger: Trigger) {
  const { ref, before = '-', commit } = trigger.change
  return movesBranch(trigger) ? { ref, before, after: commit } : { ref: null, before: null, after: null }
}

interface Branch {
  /** null: deleted. */
  readonly commit_id: string | null
}

function branchOf(db: Transaction<Schema>, { repo, change }: Trigger): Promise<Branch | undefined> {
  return db
    .selectFrom('branches')
    .select('commit_id')
    .where('repo', '=', repo)
    .where('ref', '=', change.ref)
    .executeTakeFirst()
}

/** The same move of a branch, seen before, is news when the branch had gone back to where the move starts. */
function isNewsAgain(branch: Branch | undefined, { kind, change }: Trigger): boolean {
  if (kind === 'pull_request' || branch === undefined) return false
  return branch.commit_id === null || branch.commit_id === change.before
}

/** The run of the newest known move of the branch to this commit, wherever it came from. */
async function moveTo(db: Transaction<Schema>, { repo, change }: Trigger): Promise<number | undefined> {
  const move = await db
    .selectFrom('meanings')
    .select('run_number')
    .where('repo', '=', repo)
    .where('ref', '=', change.ref)
    .where('after', '=', change.commit)
    .orderBy('run_number', 'desc')
    .limit(1)
    .executeTakeFirst()
  return move?.run_number
}

/** A move that comes after the one that follows it: its commit gets its run, and the branch stays where it was seen. */
async function isLate(
  db: Transaction<Schema>,
  branch: Branch | undefined,
  { repo, change }: Trigger,
): Promise<boolean> {
  if (!branch?.commit_id || branch.commit_id === change.before) return false
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

async function seeBranch(tx: Writing, repo: string, ref: string, commit: string | null): Promise<void> {
  await tx.db
    .insertInto('branches')
    .values({ repo, ref, commit_id: commit, seen_at: tx.now })
    .onConflict((conflict) => conflict.columns(['repo', 'ref']).doUpdateSet({ commit_id: commit, seen_at: tx.now }))
    .execute()
}

async function ignore(tx: Writing, delivery: NewDelivery, reason: string): Promise<Recorded> {
  await insertDelivery(tx, delivery, { outcome: 'ignored', reason })
  return { kind: 'ignored', reason }
}

async function insertDelivery(
  tx: Writing,
  delivery: NewDelivery,
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
    })
    .execute()
}
