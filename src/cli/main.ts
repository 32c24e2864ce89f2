#!/usr/bin/env node
import { environment } from '../config/environment.ts'
import { processTerminal } from './commands/spec-file.ts'
import { runCli } from './program.ts'

// The reader of a pipe went away (`| head`): that is no failure.
for (const pipe of [process.stdout, process.stderr]) {
  pipe.on('error', (err: NodeJS.ErrnoException) => {
    if (err.code === 'EPIPE') process.exit(0)
    // Such as a full disk: no verdict on a run, which 1 would be.
    if (pipe !== process.stderr) process.stderr.write(`the output cannot be written: ${err.message}\n`)
    process.exit(2)
  })
}

await runCli(process.argv.slice(2), {
  env: environment(),
  terminal: processTerminal,
  isTty: process.stdout.isTTY === true,
  raw: (bytes) => void process.stdout.write(bytes),
  now: Date.now,
  // Once: a second Ctrl-C ends the process, whatever it is about.
  interruption: () => {
    const controller = new AbortController()
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => controller.abort())
    return controller.signal
  },
})
