import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { runCli } from '../../src/cli/program.ts'
import { type Running, startServer } from '../api/server.ts'
import { pool } from '../store/pools.ts'

const HOUR = 3_600_000

let server: Running
let dir: string

beforeEach(async () => {
  server = await startServer()
  dir = await mkdtemp(path.join(tmpdir(), 'pst-cli-pool-'))
  const units = {
    r1: { labels: ['arch=arm64'], properties: { arch: 'arm64', cam: true }, notes: 'by the window' },
    r2: { properties: { arch: 'x86', cam: false }, capacity: 2 },
  }
  await server.store.units.configure([pool('rig', units, { maxHoldMs: 8 * HOUR })])
})
afterEach(async () => {
  await server.stop()
  await rm(dir, { recursive: true, force: true })
})

interface Ran {
  out: string
  err: string
  code: number
}

async function as(person: string, args: readonly string[], interruption?: AbortSignal, ran?: Ran): Promise<Ran> {
  const seen = ran ?? { out: '', err: '', code: 0 }
  await runCli(args, {
    env: { PENSTOCK_DATA: dir, PENSTOCK_URL: server.url, PENSTOCK_TOKEN: await server.token(person) },
    terminal: {
      out: (text) => {
        seen.out += text
      },
      err: (text) => {
        seen.err += text
      },
      exit: (code) => {
        seen.code = code
      },
    },
    isTty: false,
    raw: (bytes) => {
      seen.out += Buffer.from(bytes).toString()
    },
    now: () => server.now(),
    ...(interruption === undefined ? {} : { interruption: () => interruption }),
  })
  return seen
}

function pools(person: string, ...args: readonly string[]): Promise<Ran> {
  return as(person, ['pool', ...args])
}

async function job() {
  const { id, number } = await server.run()
  const holder = `${id}/e2e/browser/1`
  const requests = [{ pool: 'rig', count: 1, labels: ['arch=arm64'] }]
  await server.store.leases.acquire({
    ...{ holder, run: id, workflowId: holder, requests, priority: 0, ttlMs: 12 * HOUR, party: 'acme/web' },
  })
  return { run: id, number, holder }
}

const idIn = (text: string) => /reservation ([0-9a-f]{12})/.exec(text)?.[1] ?? ''

async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setTimeout(resolve, 20))
}

const ARM = ['rig', '--label', 'arch=arm64', '--for', '2h'] as const

describe('penstock pool', () => {
  test('lists the state of every unit, and why it cannot be had; then the queue', async () => {
    const { holder } = await job()
    server.now(180_000)
    await pools('dev', 'reserve', ...ARM, '--note', 'a bug')
    await pools('ops', 'maintenance', 'rig/r2', '--reason', 'a new cable')

    const { out, code } = await pools('eve', 'list')

    const lines = out.split('\n').map((line) => line.split(/ {2,}/).join(' | '))
    expect(code).toBe(0)
    expect(lines[0]).toBe('POOL | UNIT | STATE | SINCE | HOLDER | LABELS | NOTES')
    expect(lines[1]).toBe(`rig | r1 | held | 3 min | ${holder} | arch=arm64 | by the window`)
    expect(lines[2]).toBe('rig | r2 | maintenance: a new cable')
    expect(lines[4]).toBe('PLACE | WAITING | SINCE | STARTS IN | FOR')
    expect(lines[5]).toMatch(
      /^1 \| person:dev\/[0-9a-f]{12} \| 0 s \| - \| waits for 1 of pool "rig" with arch=arm64; held by/,
    )
    expect(JSON.parse((await pools('eve', 'list', '--json')).out).waiters).toHaveLength(1)
  })

  test('says how much of a shared unit is taken: places, or all of it', async () => {
    const state = async () => /r2 {2,}(.*?) {2,}/.exec((await pools('eve', 'list')).out)?.[1]
    const where = ['rig', '--where', 'arch == "x86"', '--for', '2h'] as const
    const { out } = await pools('dev', 'reserve', ...where, '--shared')
    expect(await state()).toBe('held, 1 of 2 places')
    await pools('dev', 'return', idIn(out))
    await pools('dev', 'reserve', ...where)
    expect(await state()).toBe('held')
  })

  test('shows the rules of one pool', async () => {
    expect((await pools('eve', 'show', 'rig')).out).toMatch(/^rig: from the operator’s file; for at most 8 h\n\nPOOL /)
    const { holder } = await job()
    server.now(300_000)
    await server.store.leases.release([holder], { isGone: true, outcome: 'succeeded' })
    expect((await pools('eve', 'show', 'rig')).out).toMatch(/\nheld 5 min in half of 1 cases, 5 min in nine of ten/)
    expect(await pools('eve', 'show', 'rgi')).toMatchObject({
      code: 2,
      err: 'there is no pool "rgi"; did you mean "rig"?\n',
    })
  })

  test('reserves, extends, hands over and returns', async () => {
    const reserved = await pools('dev', 'reserve', 'rig', '--where', 'arch == "arm64"', '--for', '2h')
    const id = idIn(reserved.out)
    const extended = await pools('dev', 'extend', id, '--for', '3h')
    const handed = await pools('dev', 'hand-over', id, '--to', 'ben')
    const listed = await pools('eve', 'reservations', '--person', 'ben')
    const refused = await pools('dev', 'return', id)
    const returned = await pools('ben', 'return', id)

    expect(reserved.out).toBe(
      `reservation ${id}: held by dev until 2026-01-31T14:00:00.000Z\n  rig/r1  fence 1  arch=arm64 cam=true\n`,
    )
    expect(extended.out).toContain('held by dev until 2026-01-31T15:00:00.000Z')
    expect(handed.out).toContain('held by ben until 2026-01-31T15:00:00.000Z\n  rig/r1  fence 2')
    expect(listed.out).toMatch(new RegExp(`^${id}  ben +rig +held`, 'm'))
    expect(refused.code).toBe(4)
    expect(returned).toMatchObject({ code: 0, out: `reservation ${id} has ended\n` })
  })

  test('waits for its turn, says each change of it, and ends with what it got', async () => {
    const first = await job()
    const second = await job()
    const ran: Ran = { out: '', err: '', code: 0 }

    const waiting = as('dev', ['pool', 'reserve', ...ARM, '--wait'], undefined, ran)
    await until(() => ran.err.includes('place 2'))
    await server.store.leases.release([first.holder])
    await until(() => ran.err.includes('place 1'))
    await server.store.leases.release([second.holder])
    await waiting

    expect(ran.err.split('\n').filter((line) => line.includes('place'))).toHaveLength(2)
    expect(ran.out).toMatch(/^reservation [0-9a-f]{12}: held by dev until/)
    expect(ran.code).toBe(0)
  })

  test('gives the place up when it is interrupted', async () => {
    await job()
    const interruption = new AbortController()
    const ran: Ran = { out: '', err: '', code: 0 }

    const waiting = as('dev', ['pool', 'reserve', ...ARM, '--wait'], interruption.signal, ran)
    await until(() => ran.err.includes('place 1'))
    interruption.abort()
    await waiting

    expect(ran).toMatchObject({ code: 3, out: '' })
    expect(ran.err).toMatch(/reservation [0-9a-f]{12} is given up, and with it your place in the queue\n$/)
    expect(await server.store.reservations.open()).toEqual([])
  })

  test('ends with 1 when somebody ends what one waits for', async () => {
    await job()
    const ran: Ran = { out: '', err: '', code: 0 }

    const waiting = as('dev', ['pool', 'reserve', ...ARM, '--wait'], undefined, ran)
    await until(() => ran.err.includes('place 1'))
    await pools('ops', 'return', idIn(ran.err))
    await waiting

    expect(ran).toMatchObject({ code: 1, out: expect.stringContaining('has ended: ended by ops') as string })
  })

  test('takes, drains, clears and returns units, each with its reason', async () => {
    const { run, holder } = await job()
    const taken = await pools('ops', 'take', 'rig/r1', '--reason', 'it smokes', '--for', '1h')
    const drained = await pools('ops', 'drain', 'rig/r2', '--reason', 'too hot')
    const cleared = await pools('ops', 'clear', 'rig/r2', '--reason', 'it works')
    const back = await pools('ops', 'service', 'rig/r2')

    expect(taken.out).toMatch(/^reservation [0-9a-f]{12}: place 1: /)
    expect(drained.out).toBe('rig/r2: maintenance: too hot\n')
    expect(cleared.code).toBe(0)
    expect(back.out).toBe('rig/r2: free\n')
    for (const act of ['take', 'drain', 'maintenance', 'clear']) {
      expect(await pools('ops', act, 'rig/r1', '--for', '1h')).toMatchObject({ code: 2 })
      expect(await pools('ops', act, 'rig')).toMatchObject({ code: 2 })
    }
    await server.store.events.append(run, 'end', [{ type: 'run.finished.v1', try: 1, outcome: 'canceled' }])
    const followed = await as('eve', ['run', 'watch', run])
    expect(followed.out).toContain(
      `lease.revoked ${holder} loses rig/r1 and stops: rig/r1 was taken by ops: it smokes\n`,
    )
  })

  test('adds units and pools, and removes units', async () => {
    const settings = path.join(dir, 'phones.json')
    await writeFile(settings, '{"share": 1, "max_hold": "1h"}')

    const made = await pools('ops', 'add', 'phone', '--settings', settings, '--notes', 'in the drawer')
    const properties = ['--property', 'serial=0012', '--property', 'ram=8', '--property', 'esim=true']
    const added = await pools('ops', 'add', 'phone/p1', '--label', 'os=android', ...properties)
    const unit = (await server.store.leases.list()).units.find((one) => one.unit === 'p1')
    const removed = await pools('ops', 'remove', 'phone/p1')

    expect(made.out).toBe(
      'phone: made by API; at most 1 to one repository or person; for at most 60 min; in the drawer\n',
    )
    expect(added.out).toBe('phone/p1: free\n')
    expect(unit).toMatchObject({ labels: ['os=android'], properties: { serial: '0012', ram: 8, esim: true } })
    expect(removed.out).toBe('phone/p1 is removed\n')
    expect(await pools('ops', 'remove', 'rig/r1')).toMatchObject({
      code: 2,
      err: 'unit "r1" of pool "rig" is in the operator\'s file, which alone may change it\n',
    })
    expect(await pools('ops', 'remove', 'phone')).toMatchObject({ code: 0, out: 'phone is removed\n' })
    expect(await pools('ops', 'remove', 'phone')).toMatchObject({ err: expect.stringContaining('there is no pool') })
    expect((await pools('ops', 'add', 'phone', '--label', 'x')).err).toContain('write POOL/UNIT')
    expect((await pools('dev', 'add', 'phone/p2')).code).toBe(4)
  })
})

test('settings of a pool that cannot be read, or are not right, are told with their place, all at once', async () => {
  const settings = path.join(dir, 'phones.json')
  const added = async (text: string) => {
    await writeFile(settings, text)
    const { code, err } = await pools('ops', 'add', 'phone', '--settings', settings)
    return [code, err.replaceAll(settings, 'phones.json')] as const
  }

  const hint = 'a comma, bracket or quote may be missing; right would be {"share": 1, "max_hold": "1h"}\n'
  const [code, missing = ''] = await added('{\n  "share": 1\n  "max_hold": "1h"\n}')
  expect([code, missing]).toEqual([
    2,
    expect.stringMatching(/^phones\.json:2:12 is neither JSON nor YAML here \(.*\); /),
  ])
  expect(String(missing).endsWith(hint)).toBe(true)
  expect(await added('{"share": 1, "max_hold": "1h')).toEqual([
    2,
    expect.stringMatching(/^phones\.json:1:[0-9]+ is neither/),
  ])
  expect(await added('{\n  "share": "many",\n  "max_hlod": "1h"\n}')).toEqual([
    2,
    expect.stringMatching(
      /^phones\.json:2:12 share: .*; phones\.json:3:3 unknown key "max_hlod"; did you mean "max_hold"\?$/m,
    ),
  ])
  expect(await added('share')).toEqual([2, expect.stringMatching(/^phones\.json:1:1 /)])
  expect(await added('share: 2\nmax_hold: 1h\n')).toEqual([0, ''])
  expect((await pools('ops', 'add', 'x', '--settings', path.join(dir, 'none'))).err).toContain(
    'none cannot be read: ENOENT',
  )
})

test('a run shows for a job that waits for a pool its place, since when, and who is in the way', async () => {
  await pools('dev', 'reserve', ...ARM)
  server.now(600_000)
  const { number } = await job()
  server.now(180_000)

  const { out } = await as('eve', ['run', 'view', String(number)])

  expect(out).toContain(
    '  e2e/browser/1: place 1 since 3 min: waits for 1 of pool "rig" with arch=arm64; held by dev\n',
  )
  expect(out).toMatch(/^ {4}rig\/r1: person:dev\/[0-9a-f]{12} since 13 min$/m)
})

test('a holder that is warned and one that loses its unit are told so in what a follower reads', async () => {
  const { run, holder } = await job()
  await server.store.events.append(run, 'all', [
    { type: 'lease.warned.v1', pool: 'rig', unit: 'r1', holder, until: server.now() },
    { type: 'run.finished.v1', try: 1, outcome: 'succeeded' },
  ])

  const { out } = await as('eve', ['run', 'watch', run])

  expect(out).toContain(`lease.warned ${holder} has to give rig/r1 back by 2026-01-31T12:00:00.000Z\n`)
})

test('the commands that docs/pools.md shows work as they stand there', async () => {
  const text = await readFile(new URL('../../docs/pools.md', import.meta.url), 'utf8')
  const lines = [...text.matchAll(/^(\w+)\$ penstock (.+)$/gm)]
  let id = ''
  const failed: string[] = []
  for (const [line, person = '', rest = ''] of lines) {
    const words = [...rest.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map(([, a, b, c]) => a ?? b ?? c ?? '')
    const { out, err, code } = await as(
      person,
      words.map((word) => (word === 'ID' ? id : word)),
    )
    id = idIn(out) || id
    if (code !== 0) failed.push(`${line}: ${code} ${err}`)
  }

  expect(failed).toEqual([])
  expect(lines.length).toBeGreaterThan(8)
})
