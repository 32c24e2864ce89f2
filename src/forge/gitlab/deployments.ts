import { z } from 'zod'
import { unreachable } from '../../core/unreachable.ts'
import { found, isStatus, read } from '../answers.ts'
import type { DeploymentState, Deployments } from '../types.ts'
import type { Connection } from './connect.ts'

const Row = z.object({ id: z.int().positive(), sha: z.string(), status: z.string(), ref: z.string() })

const STATES: Readonly<Record<string, DeploymentState>> = {
  running: 'in_progress',
  success: 'success',
  failed: 'failure',
  canceled: 'error',
}

/**
 * GitLab keeps nothing of ours with a deployment. So it is the newest of its environment, as long as that is of the same
 * commit: the same commit again, with nothing between, is no new deployment there. It begins as running.
 */
export function createDeployments({ rest, at }: Connection): Deployments {
  const list = `${at}/deployments`

  async function newestIn(environment: string): Promise<z.infer<typeof Row> | undefined> {
    const asked = { environment, order_by: 'id', sort: 'desc', per_page: 1 }
    return read(z.array(Row), await rest.get(list, asked))[0]
  }

  async function get(id: string): Promise<z.infer<typeof Row> | undefined> {
    const answer = await found(rest.get(`${list}/${encodeURIComponent(id)}`))
    return answer && read(Row, answer)
  }

  return {
    async put({ commit, environment }) {
      const newest = await newestIn(environment)
      if (newest?.sha === commit) return { kind: 'put', id: String(newest.id) }
      const asked = { environment, sha: commit, ref: commit, tag: false, status: 'running' }
      return { kind: 'put', id: String(read(Row, await rest.send('POST', list, asked)).id) }
    },
    async setState(id, { state }) {
      const wanted = toStatus(state)
      const stands = await get(id)
      if (wanted === undefined || stands?.status === wanted) return
      try {
        read(Row, await rest.send('PUT', `${list}/${encodeURIComponent(id)}`, { status: wanted }))
      } catch (err) {
        // What has ended does not begin again: it stands as it ended.
        if (!isStatus(err, 400)) throw err
      }
    },
    // What waits runs here already; what has ended stays so until the next try of it has ended, too.
    isShownAs: (wanted, there) => wanted === there || toStatus(wanted) === undefined || wanted === 'in_progress',
    async stateOf(id) {
      const status = (await get(id))?.status
      return status === undefined ? undefined : STATES[status]
    },
  }
}

/** Undefined: GitLab has no word for it, and what stands may stay. */
function toStatus(state: DeploymentState): string | undefined {
  switch (state) {
    case 'in_progress':
      return 'running'
    case 'success':
      return 'success'
    case 'failure':
      return 'failed'
    case 'error':
      return 'canceled'
    case 'queued':
    case 'inactive':
      return undefined
    default:
      return unreachable(state)
  }
}
