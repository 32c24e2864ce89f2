import { Octokit } from '@octokit/rest'

export type StatusState = 'pending' | 'success' | 'failure' | 'error'

/** What Penstock does to a forge, beyond fetching from it. */
export interface Forge {
  /**
   * Moves the branch forward to the commit, never sideways or back. Repeatable: a branch that is there already is done.
   *
   * @throws NotFastForward when the branch is not at `expectedOld`, or the commit does not contain it
   */
  fastForward(branch: string, commit: string, expectedOld: string | undefined): Promise<void>
  /** Repeatable; the newest of a context stands. */
  setStatus(status: {
    readonly commit: string
    readonly context: string
    readonly state: StatusState
    readonly description: string
    readonly url?: string
  }): Promise<void>
}

export class NotFastForward extends Error {
  override readonly name = 'NotFastForward'
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

export function createGithubForge({ repo: fullName, api, token }: GithubOptions): Forge {
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
    async fastForward(branch, commit, expectedOld) {
      const current = await tip(branch)
      if (current === commit) return
      if (current !== expectedOld) {
        throw new NotFastForward(
          `${branch} is at ${current ?? 'nothing'}, not at ${expectedOld ?? 'nothing'} as it was when this run began`,
        )
      }
      if (current === undefined) {
        await octokit.rest.git.createRef({ ...at, ref: `refs/heads/${branch}`, sha: commit })
        return
      }
      try {
        await octokit.rest.git.updateRef({ ...at, ref: `heads/${branch}`, sha: commit, force: false })
      } catch (err) {
        if (isStatus(err, 422)) {
          throw new NotFastForward(`${commit} does not contain ${current}, where ${branch} is`, { cause: err })
        }
        throw err
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
