import { z } from 'zod'
import { read } from '../answers.ts'
import type { Verdict, Verdicts } from '../types.ts'
import type { Connection } from './connect.ts'
import type { Lacks } from './lacks.ts'

const CheckRun = z.object({ name: z.string(), status: z.string().nullish(), conclusion: z.string().nullish() })

/** What lets a commit pass where GitHub itself asks for a check. What a newer server may add does not. */
const PASSING = new Set(['success', 'neutral', 'skipped'])

/** Everybody who may read the repository may read its checks, beside an App. */
export function createVerdicts({ octokit, at }: Connection, lacks: Lacks): Verdicts {
  async function all(commit: string): Promise<readonly Verdict[]> {
    const asked = { ...at, ref: commit, per_page: 100 }
    const verdicts: Verdict[] = []
    for await (const page of octokit.paginate.iterator(octokit.rest.checks.listForRef, asked)) {
      for (const { name, conclusion } of read(z.array(CheckRun), page)) {
        const ended = PASSING.has(conclusion ?? '') ? 'success' : 'failure'
        verdicts.push({ name, state: conclusion ? ended : 'pending' })
      }
    }
    return verdicts
  }

  return { of: async (commit) => (await lacks.unlessLacking('results of checks', () => all(commit))) ?? [] }
}
