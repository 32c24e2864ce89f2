import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BASE_IMAGES } from '../../src/embedded/images.ts'
import { type Postgres, startPostgres } from '../helpers/postgres.ts'
import { type System, startSystem } from '../helpers/system.ts'

const postgres: Postgres | string = await startPostgres()
if (typeof postgres === 'string') console.warn(`skipped: ${postgres}`)

let system: System
let database = ''
beforeAll(async () => {
  if (typeof postgres === 'string') return
  database = await postgres.createDatabase()
  system = await startSystem({ database })
}, 300_000)
afterAll(async () => {
  await system?.dispose()
  if (typeof postgres !== 'string') await postgres.stop()
}, 120_000)

const SPEC = `image: ${BASE_IMAGES.base}
test:
  unit: echo tested
  lint: echo linted
e2e: echo exercised
deploy:
  staging: echo to staging
  production: echo to production
`

describe.skipIf(typeof postgres === 'string')('a system on PostgreSQL', () => {
  it('takes a commit from its push through the gate to production, as it does on SQLite', async () => {
    const number = await system.push({ '.penstock.yml': SPEC })
    const gate = await system.until(
      'the gate',
      async () => {
        const [one] = await system.gates(number)
        return one?.state === 'open' && (await system.run(number)).status === 'waiting' ? one : undefined
      },
      180,
    )
    const same = await system.deliver({ branch: 'master', after: gate.subject.commit })

    await system.call('POST', `/runs/${number}/gates/${gate.name}/approve`, { as: 'tess', body: { comment: 'fine' } })
    const run = await system.ended(number, 180)
    const release = await system.until('the release', async () =>
      (await system.runs()).find((one) => one.change.ref === 'refs/heads/production'),
    )
    const released = await system.ended(release.number, 180)

    expect(await same.json()).toMatchObject({ duplicate: 'meaning', run: number })
    expect(run.status).toBe('succeeded')
    expect(released.status).toBe('succeeded')
    expect(await system.log(release.number, 'production')).toContain('to production\n')
    const { stdout } = await execa('git', ['ls-remote', system.bare, 'refs/heads/production'])
    expect(stdout.slice(0, 40)).toBe(gate.subject.commit)
    const events = await system.events(number)
    expect(events.map((one) => one.seq)).toEqual(events.map((_, index) => index + 1))
  }, 600_000)

  it('has no SQLite file beside it', async () => {
    const { stdout } = await execa('find', [system.dataDir, '-name', '*.db'])

    expect(stdout.split('\n').map((file) => file.slice(system.dataDir.length + 1))).toEqual(['temporal.db'])
  })
})
