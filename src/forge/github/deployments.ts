import { z } from 'zod'
import { isStatus, read } from '../answers.ts'
import type { DeploymentState, Deployments } from '../types.ts'
import type { Connection } from './connect.ts'
import type { Lacks } from './lacks.ts'

const Row = z.object({
  id: z.int().positive(),
  /** An object, or a text that somebody else's tool wrote. */
  payload: z.unknown(),
})
const Payload = z.object({ penstock: z.string() })
const State = z.object({
  state: z.string(),
  description: z.string().nullish(),
})

const MAX_DESCRIPTION = 140
const STATES: ReadonlySet<string> = new Set<DeploymentState>([
  'queued',
  'in_progress',
  'success',
  'failure',
  'error',
  'inactive',
])

export function createDeployments({ octokit, at }: Connection, lacks: Lacks): Deployments {
  async function find(commit: string, environment: string, key: string): Promise<number | undefined> {
    const asked = { ...at, sha: commit, environment, per_page: 100 }
    for await (const page of octokit.paginate.iterator(octokit.rest.repos.listDeployments, asked)) {
      const known = read(z.array(Row), page).find((one) => Payload.safeParse(one.payload).data?.penstock === key)
      if (known !== undefined) return known.id
    }
    return undefined
  }

  async function newest(id: string): Promise<z.infer<typeof State> | undefined> {
    const asked = { ...at, deployment_id: Number(id), per_page: 1 }
    return read(z.array(State), await octokit.rest.repos.listDeploymentStatuses(asked))[0]
  }

  return {
    async put({ commit, environment, key, production, description }) {
      const id = await lacks.unlessLacking('deployments', async () => {
        const known = await find(commit, environment, key)
        if (known !== undefined) return known
        const made = await octokit.rest.repos.createDeployment({
          ...at,
          ref: commit,
          environment,
          // Exactly this commit: nothing is merged into it, and it is Penstock that judges whether it may go there.
          auto_merge: false,
          required_contexts: [],
          payload: { penstock: key },
          production_environment: production,
          description: cut(description),
        })
        return read(Row, made).id
      })
      return id === undefined ? { kind: 'absent' } : { kind: 'put', id: String(id) }
    },
    async setState(id, { state, description, logUrl, url }) {
      const stands = await newest(id)
      if (stands?.state === state && (stands.description ?? '') === cut(description)) return
      const answer = await octokit.rest.repos.createDeploymentStatus({
        ...at,
        deployment_id: Number(id),
        state,
        description: cut(description),
        ...(logUrl === undefined ? {} : { log_url: logUrl }),
        ...(url === undefined ? {} : { environment_url: url }),
      })
      read(State, answer)
    },
    async stateOf(id) {
      try {
        const state = (await newest(id))?.state
        return state !== undefined && STATES.has(state) ? (state as DeploymentState) : undefined
      } catch (err) {
        if (isStatus(err, 404)) return undefined
        throw err
      }
    },
  }
}

function cut(text: string): string {
  const characters = [...text]
  return characters.length > MAX_DESCRIPTION ? `${characters.slice(0, MAX_DESCRIPTION - 1).join('')}…` : text
}
