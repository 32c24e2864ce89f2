import { existsSync } from 'node:fs'
import path from 'node:path'
import { environment } from '../config/environment.ts'
import { ConfigInvalid, loadConfig } from '../config/load.ts'
import { startEmbedded } from './embedded.ts'
import { dataDirOf, openDataDir } from './files.ts'
import { writeExample } from './init.ts'

const env = environment()
const say = (sentence: string) => console.error(sentence)
const configFile = path.resolve(env.PENSTOCK_CONFIG || 'penstock.config.yml')

async function main(): Promise<number> {
  if (process.argv.includes('--init')) {
    writeExample(configFile, say)
    return 0
  }
  if (!existsSync(configFile)) {
    say(`there is no ${configFile}: write one by \`npm start -- --init\`, or name yours in PENSTOCK_CONFIG`)
    return 2
  }
  // Read here only to say what is wrong before anything is installed or started.
  const { server } = await loadConfig({ file: configFile, env })
  const listen = `${server.listen.host.includes(':') ? `[${server.listen.host}]` : server.listen.host}:${server.listen.port}`
  const stopped = new Promise<void>((resolve) => {
    // For good: a second Ctrl-C must not cut the orderly end short.
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve())
  })
  const embedded = await startEmbedded({
    dataDir: openDataDir(dataDirOf(env)),
    configFile,
    listen,
    url: server.url,
    env,
    say,
  })
  say(`Penstock: ${embedded.addresses.api}`)
  say(`Temporal: ${embedded.addresses.temporal}`)
  if (embedded.addresses.temporalUi !== undefined) say(`Temporal UI: ${embedded.addresses.temporalUi}`)
  say(
    'the command line: node dist/src/cli/main.js, with the token of the first admin from cli.json in the data directory',
  )
  say('until SIGTERM or Ctrl-C; steps that run then run on, and are followed again after the next start')
  await stopped
  say('stopping')
  await embedded.stop()
  return 0
}

try {
  process.exitCode = await main()
} catch (err) {
  console.error(err instanceof ConfigInvalid || err instanceof Error ? err.message : err)
  process.exitCode = 2
}
