import { Command } from 'commander'
import { specJsonSchema } from '../../spec/schema.ts'
import type { Terminal } from './spec-file.ts'
import { processTerminal } from './spec-file.ts'

/** `penstock schema`: the JSON Schema of the spec file, for editors. */
export function schemaCommand(terminal: Terminal = processTerminal): Command {
  return new Command('schema').description('print the JSON Schema of the spec file').action(() => {
    terminal.out(`${JSON.stringify(specJsonSchema(), null, 2)}\n`)
  })
}
