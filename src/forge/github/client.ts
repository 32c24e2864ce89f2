import { Octokit } from '@octokit/rest'
import type { FastForward } from '../../git/mirrors.ts'

export type StatusState = 'pending' | 'success' | 'failure' | 'error'

export interface CommitStatus {
  readonly commit: string
  readonly context: string
  readonly state: StatusState
  readonly description: string
  readonly url?: string
}

/** What Penstock does at GitHub, beyond fetching from it. */
export interface GithubClient {
  /** Moves the branch forward to the commit, never sideways or back. Repeatable: a branch that is there stays. */
  fastForward(branch: string, commit: string): Promise<FastForward>
  /** Repeatable; the newest of a context stands. */
  setStatus(status: CommitStatus): Promise<void>
}

export interface GithubOptions {
  /** `acme/web` */
  readonly repo: string
  readonly api: string
  readonly token?: string
}

/** GitHub cuts nothing: a longer description is refused. */
const MAX_DESCRIPTION = 140
const REQUEST_MS = 15_000

export function createGithubClient({ repo: fullName, api, token }: GithubOptions): GithubClient {
  const [owner = '', repo = ''] = fullName.split('/')
  const octokit = new Octokit({
    baseUrl: api,
    ...(token === undefined ? {} : { auth: token }),
    // A failure rises to the caller, who logs it once.
    log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
    request: {
      // A redirect to another host would take the token along.
      fetch: (url: string, init: RequestInit) =>
        fetch(url, { ...init, redirect: 'error', signal: AbortSignal.timeout(REQUEST_MS) }),
    },
  })
  const at = { owner, repo }

  async function tip(branch: string): Promise<string | undefined> {
    try {
      const { data } = await octokit.rest.git.getRef({ ...at, ref: `heads/${branch}` })
      return data.object.sha
    } catch (err) {
      if (isStatus(err, 404)) return undefined
      throw err
    }
  }

  return {
    async fastForward(branch, commit) {
      const current = await tip(branch)
      if (current === commit) return { kind: 'already' }
      try {
        if (current === undefined) {
          await octokit.rest.git.createRef({ ...at, ref: `refs/heads/${branch}`, sha: commit })
          return { kind: 'moved' }
        }
        await octokit.rest.git.updateRef({ ...at, ref: `heads/${branch}`, sha: commit, force: false })
        return { kind: 'moved', from: current }
      } catch (err) {
        if (!isStatus(err, 422)) throw err
        const now = await tip(branch)
        // The answer to an earlier call of the same kind was lost.
        if (now === commit) return { kind: 'already' }
        const why = `GitHub does not take ${commit} as a fast-forward of ${branch}`
        return { kind: 'refused', why, ...(now === undefined ? {} : { at: now }) }
      }
    },
    async setStatus({ commit, context, state, description, url }) {
      const short = description.length > MAX_DESCRIPTION ? `${description.slice(0, MAX_DESCRIPTION - 1)}…` : description
      await octokit.rest.repos.createCommitStatus({
        ...at,
        sha: commit,
        context,
        state,
        description: short,
        ...(url === undefined ? {} : { target_url: url }),
      })
    },
  }
}

function quiet(): void {}

function isStatus(err: unknown, status: number): boolean {
  return err instanceof Error && 'status' in err && err.status === status
}
