import { randomBytes } from 'node:crypto'
import { Command, InvalidArgumentError } from 'commander'
import { type ApiClient, createApiClient, findServer, type Variables } from './client.ts'
import type { Terminal } from './commands/spec-file.ts'

/** Exit code of wrong use, no server, or a refusal: no verdict on anyone's code. */
export const EXIT_ERROR = 2

/** What a command may touch. */
export interface Context {
  readonly env: Variables
  readonly terminal: Terminal
  /** Output goes to a person's terminal: logs are made harmless there, and left as they are elsewhere. */
  readonly isTty: boolean
  /** Bytes to standard output, exactly as they are. */
  readonly raw: (bytes: Uint8Array) => void
  readonly now: () => number
  readonly api: () => ApiClient
  /** Aborted when the person wants no more (Ctrl-C). */
  readonly interruption: () => AbortSignal
}

export function createContext(
  input: Omit<Context, 'api' | 'interruption'> & Partial<Pick<Context, 'interruption'>>,
): Context {
  let client: ApiClient | undefined
  return {
    interruption: () => new AbortController().signal,
    ...input,
    api: () => {
      client ??= createApiClient(findServer(input.env))
      return client
    },
  }
}

/** A command that can print its answer as JSON. */
export function command(name: string, description: string): Command {
  return new Command(name).description(description).option('--json', 'print JSON')
}

/** Of what is made here: asked for twice, because an answer was lost, it is made once. */
export function newName(): string {
  return randomBytes(6).toString('hex')
}

export function runNumber(text: string): number {
  const digits = /^(?:.*#)?([1-9][0-9]{0,14})$/.exec(text)?.[1]
  if (digits === undefined) throw new InvalidArgumentError('must be the number of a run, for example 42')
  return Number(digits)
}

export function printJson({ terminal }: Context, value: unknown): void {
  terminal.out(`${JSON.stringify(value, null, 2)}\n`)
}
