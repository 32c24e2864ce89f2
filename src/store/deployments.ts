import type { Database } from './database.ts'
import { nextId } from './database.ts'
import type { Schema } from './schema.ts'
import type { DeploymentRow, DeploymentState, Deployments } from './types.ts'

export function createDeployments(database: Database): Deployments {
  return {
    intend: (input) =>
      database.write(async ({ db, now }) => {
        const { repo, environment, run, digest, fence } = input
        const ofEnvironment = db
          .selectFrom('deployments')
          .selectAll()
          .where('repo', '=', repo)
          .where('environment', '=', environment)
          .orderBy('fence', 'desc')
          .orderBy('id', 'desc')
          .limit(1)
        const newest = await ofEnvironment.executeTakeFirst()
        const own = await ofEnvironment.where('run', '=', run).where('digest', '=', digest).executeTakeFirst()

        if (newest !== undefined && newest.fence > fence) {
          // Its own finished work may be asked for again; nothing may be started any more.
          if (own?.fence === fence && own.state === 'done') return { kind: 'known', row: toDeploymentRow(own) }
          return { kind: 'stale', current: toDeploymentRow(newest) }
        }
        if (own !== undefined && own.fence === newest?.fence) {
          // A retry holds the environment anew: the holder in between is stale from here on.
          if (own.fence < fence) await db.updateTable('deployments').set({ fence }).where('id', '=', own.id).execute()
          return { kind: 'known', row: toDeploymentRow({ ...own, fence }) }
        }
        // New, or something else was deployed there since: then the same bytes have to go there again.
        const row: Schema['deployments'] = {
          id: await nextId(db, 'deployments', 'id'),
          repo,
          environment,
          run,
          try: input.try,
          commit_id: input.commit,
          deliverable: input.deliverable,
          digest,
          fence,
          state: 'intended',
          detail: null,
          at: now,
          finished_at: null,
        }
        await db.insertInto('deployments').values(row).execute()
        return { kind: 'intended', row: toDeploymentRow(row) }
      }),

    finish: (id, state, detail) =>
      database.write(async ({ db, now }) => {
        const { numUpdatedRows } = await db
          .updateTable('deployments')
          .set({ state, detail: detail ?? null, finished_at: now })
          .where('id', '=', id)
          .where('state', '!=', 'done')
          .executeTakeFirst()
        if (numUpdatedRows > 0n) return
        const known = await db.selectFrom('deployments').select('id').where('id', '=', id).executeTakeFirst()
        if (known === undefined) throw new Error(`the deployment ${id} is unknown: it cannot be finished`)
      }),

    current: (repo, environment) =>
      database.read(async (db) => {
        const row = await db
          .selectFrom('deployments')
          .selectAll()
          .where('repo', '=', repo)
          .where('environment', '=', environment)
          .where('state', '=', 'done')
          .orderBy('fence', 'desc')
          .orderBy('finished_at', 'desc')
          .orderBy('id', 'desc')
          .limit(1)
          .executeTakeFirst()
        return row === undefined ? undefined : toDeploymentRow(row)
      }),

    list: (query) =>
      database.read(async (db) => {
        let rows = db.selectFrom('deployments').selectAll().orderBy('id', 'desc').limit(query.limit)
        if (query.repo !== undefined) rows = rows.where('repo', '=', query.repo)
        if (query.environment !== undefined) rows = rows.where('environment', '=', query.environment)
        return (await rows.execute()).map(toDeploymentRow)
      }),
  }
}

function toDeploymentRow(row: Schema['deployments']): DeploymentRow {
  return {
    id: row.id,
    repo: row.repo,
    environment: row.environment,
    run: row.run,
    try: row.try,
    commit: row.commit_id,
    deliverable: row.deliverable,
    digest: row.digest,
    fence: row.fence,
    state: row.state as DeploymentState,
    at: row.at,
    ...(row.detail === null ? {} : { detail: row.detail }),
    ...(row.finished_at === null ? {} : { finishedAt: row.finished_at }),
  }
}
