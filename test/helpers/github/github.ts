import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type Exchange,
  type FakeGithub,
  type FakeGithubOptions,
  startFakeGithub,
} from '../../../src/embedded/fake-github/server.ts'
import { payloadProblems, problemsOf } from './openapi.ts'

export interface CheckedGithub extends FakeGithub {
  /** Every request with its answer, in order. */
  readonly exchanges: readonly Exchange[]
  /** Ends it. @throws if a request, an answer or a delivery was not as GitHub's own description has it. */
  stop(): Promise<void>
}

/** The fake GitHub, each request, answer and delivery held against GitHub's own description of its API. */
export async function startGithub(options: Partial<FakeGithubOptions> = {}): Promise<CheckedGithub> {
  const dir = await mkdtemp(join(tmpdir(), 'pst-github-'))
  const exchanges: Exchange[] = []
  const problems: string[] = []
  const github = await startFakeGithub({
    dir,
    ...options,
    onExchange(exchange) {
      exchanges.push(exchange)
      problems.push(...problemsOf(exchange))
    },
    onPayload: (event, action, payload) => problems.push(...payloadProblems(event, action, payload)),
  })
  return {
    ...github,
    exchanges,
    async stop() {
      await github.stop()
      await rm(dir, { recursive: true, force: true })
      if (problems.length > 0) throw new Error(`not as GitHub has it:\n${[...new Set(problems)].join('\n')}`)
    },
  }
}
