import { createInterface } from 'node:readline/promises'
import { parseArgs } from 'node:util'

export const FORGES = ['git', 'github-fake'] as const
export type ForgeName = (typeof FORGES)[number]

export interface Flags {
  readonly yes: boolean
  readonly json: boolean
  readonly forge: ForgeName
}

/** @throws with one sentence that says what would be right */
export function readFlags(args: readonly string[]): Flags {
  const { yes, json, forge } = parsed(args)
  const known = FORGES.find((one) => one === forge)
  if (known === undefined) {
    throw new Error(
      `--forge "${forge}" is unknown; the sample is at "git", a plain repository (also without --forge), or at "github-fake", a GitHub of its own`,
    )
  }
  return { yes, json, forge: known }
}

function parsed(args: readonly string[]) {
  const boolean = { type: 'boolean', default: false } as const
  try {
    const options = { yes: boolean, json: boolean, forge: { type: 'string', default: 'git' } } as const
    return parseArgs({ args: [...args], options }).values
  } catch (err) {
    throw new Error(
      `${err instanceof Error ? err.message : String(err)}; known: --yes, --json, --forge <${FORGES.join('|')}>`,
      { cause: err },
    )
  }
}

/** The person before the screen. */
export interface Terminal {
  say(text: string): void
  /** Undefined: nobody is there to answer. */
  ask(question: string): Promise<boolean | undefined>
  /** Whether somebody may want to look around when the story is over. */
  readonly isWatched: boolean
  /** Since the beginning. */
  seconds(): number
}

export function createTerminal({ yes, json }: Pick<Flags, 'yes' | 'json'>): Terminal {
  const started = performance.now()
  const seconds = () => (performance.now() - started) / 1000
  // With --json the standard output holds one object, at the end; everything else is for people.
  const say = (text: string) => console.error(`${seconds().toFixed(1).padStart(6)}s  ${text}`)
  return {
    say,
    seconds,
    isWatched: process.stdin.isTTY && process.stderr.isTTY && !json && !yes,
    async ask(question) {
      if (yes) return true
      if (!process.stdin.isTTY) {
        say('a person is asked and nobody is at the terminal: answer by API, or call with --yes')
        return undefined
      }
      const lines = createInterface({ input: process.stdin, output: process.stderr })
      const answer = await lines.question(`${question} [y/n] `)
      lines.close()
      return /^y(es)?$/i.test(answer.trim())
    },
  }
}
