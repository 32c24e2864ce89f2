import { existsSync } from 'node:fs'
import { environment } from '../config/environment.ts'
import { canInstall, findProgram, installPackages } from './debian.ts'
import { ensureDocker, ensureSwarm } from './docker.ts'
import { dataDirOf, openDataDir } from './files.ts'
import { ensureBusybox } from './images.ts'
import { ensureTemporal } from './temporal.ts'

/** Programs that only tests need, and the Debian packages they are in. */
const PROGRAMS: readonly (readonly [program: string, pkg: string])[] = [
  ['docker-registry', 'docker-registry'],
  ['jq', 'jq'],
  ['curl', 'curl'],
  ['tini', 'tini'],
  ['ip', 'iproute2'],
  ['iptables', 'iptables'],
  ['chromium', 'chromium'],
  ['openssl', 'openssl'],
  ['docker-compose', 'docker-compose'],
]

const env = environment()
const say = (sentence: string) => console.error(sentence)

function missing(): readonly string[] {
  const programs = PROGRAMS.filter(([program]) => findProgram(program, env.PATH ?? '') === undefined)
  const database = existsSync('/usr/lib/postgresql') ? [] : ['postgresql']
  return [...programs.map(([, pkg]) => pkg), ...database]
}

const packages = missing()
if (packages.length > 0) {
  if (canInstall()) await installPackages(packages, 'tests need them', say)
  else
    say(`not installed: ${packages.join(', ')}; the tests that need them are skipped (installing takes root on Debian)`)
}
// The tests on the real things share this engine and this CLI with the demo; `npm run down` removes both.
const dataDir = openDataDir(dataDirOf(env))
try {
  await ensureBusybox({ env, say })
  const { docker } = await ensureDocker({ dataDir, env, say })
  await ensureSwarm(docker, { dataDir, say })
} catch (err) {
  if (env.CI === 'true') throw err
  say(`tests on a real Swarm are skipped: ${err instanceof Error ? err.message : String(err)}`)
}
await ensureTemporal({ dataDir, env, say })
