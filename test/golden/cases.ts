import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Trigger } from '../../src/core/change.ts'
import type { CompileInput } from '../../src/plan/compile.ts'

/**
 * Golden pairs: a spec, and beside it what is expected of it. Expectations are written on purpose: with UPDATE_GOLDEN=1
 * they are written anew, and each difference is to be read before it is committed.
 *
 * Comments at the head of a spec say for which event its plan is: `# event: push master`,
 * `# environments: staging production:gate`, `# candidate: main`, `# production: release`,
 * `# production-environment: production`.
 */
export interface GoldenCase {
  readonly name: string
  readonly bytes: Uint8Array
  readonly facts: Omit<CompileInput, 'spec' | 'specDigest'>
  readonly expectedFile: string
}

export function goldenCases(folder: 'valid' | 'wrong', expectedSuffix: string): GoldenCase[] {
  const directory = join(import.meta.dirname, folder)
  return readdirSync(directory)
    .filter((file) => /\.(yml|bin)$/.test(file))
    .sort()
    .map((file) => {
      const name = file.replace(/\.\w+$/, '')
      const bytes = readFileSync(join(directory, file))
      return { name, bytes, facts: factsOf(bytes.toString('utf8')), expectedFile: join(directory, `${name}${expectedSuffix}`) }
    })
}

/** What the pair expects; written first when that was asked for. */
export function expectedText(file: string, actual: string): string {
  if (process.env.UPDATE_GOLDEN === '1') writeFileSync(file, actual)
  return existsSync(file) ? readFileSync(file, 'utf8') : `no file ${file}`
}

function factsOf(text: string): GoldenCase['facts'] {
  const fact = (name: string, otherwise: string) => new RegExp(`^# ${name}: (.+)$`, 'm').exec(text)?.[1] ?? otherwise
  const [event, branch] = fact('event', 'push feature').split(' ')
  const trigger: Trigger = {
    kind: event === 'pull_request' || event === 'upstream' ? event : 'push',
    repo: 'acme/web',
    change: { commit: 'c0ffee'.padEnd(40, '0'), ref: `refs/heads/${branch}` },
    requestedBy: 'golden',
  }
  const production = fact('production-environment', '')
  return {
    ...(production === '' ? {} : { production }),
    trigger,
    branches: { candidate: fact('candidate', 'master'), production: fact('production', 'production') },
    environments: fact('environments', 'staging production:gate')
      .split(' ')
      .map((one) => ({ name: one.replace(':gate', ''), gate: one.endsWith(':gate') })),
  }
}
