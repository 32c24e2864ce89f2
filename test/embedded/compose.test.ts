import { execFileSync } from 'node:child_process'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { findProgram } from '../../src/embedded/debian.ts'

const Composed = z.object({
  services: z.record(
    z.string(),
    z.object({ command: z.unknown().optional(), environment: z.record(z.string(), z.unknown()).default({}) }),
  ),
})

const ROOT = path.resolve(import.meta.dirname, '..', '..')
const SECRETS = { POSTGRES_PASSWORD: 'p'.repeat(24), PENSTOCK_WORKER_TOKEN: 't'.repeat(24) }

/** Compose as it is installed here: the plugin, or the program of its own. */
function compose(): readonly [string, ...string[]] | undefined {
  try {
    execFileSync('docker', ['compose', 'version'], { stdio: 'ignore' })
    return ['docker', 'compose']
  } catch {
    const program = findProgram('docker-compose', process.env.PATH ?? '')
    return program === undefined ? undefined : [program]
  }
}

function config(env: Record<string, string>): string {
  const found = compose()
  if (found === undefined) throw new Error('no Compose is installed')
  const [program, ...first] = found
  return execFileSync(program, [...first, '--file', 'docker-compose.yml', 'config'], {
    cwd: ROOT,
    env: { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '/', ...env },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

describe.skipIf(compose() === undefined)('docker-compose.yml', () => {
  it('brings up Temporal, PostgreSQL, the Temporal UI, the server and both workers', () => {
    const { services } = Composed.parse(parse(config(SECRETS)))

    expect(Object.keys(services).sort()).toEqual(
      ['control-worker', 'node-worker', 'postgres', 'server', 'temporal', 'temporal-ui'].sort(),
    )
    expect(services['control-worker']?.command).toEqual(['dist/worker/control.js'])
    expect(services['node-worker']?.command).toEqual(['dist/worker/node.js'])
  })

  it('gives the node worker the worker token, and no way to the database', () => {
    const { services } = Composed.parse(parse(config(SECRETS)))

    const environment = services['node-worker']?.environment ?? {}

    expect(environment.PENSTOCK_WORKER_TOKEN).toBe(SECRETS.PENSTOCK_WORKER_TOKEN)
    expect(JSON.stringify(environment)).not.toContain(SECRETS.POSTGRES_PASSWORD)
  })

  it.each(Object.keys(SECRETS))('refuses to come up without %s', (name) => {
    const env = Object.fromEntries(Object.entries(SECRETS).filter(([key]) => key !== name))

    expect(() => config(env)).toThrow(new RegExp(`${name}[\\s\\S]*set it in .env`))
  })
})
