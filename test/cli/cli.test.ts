import { execFile, spawnSync } from 'node:child_process'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { runCli } from '../../src/cli/program.ts'
import { visible, visibleLog } from '../../src/cli/text.ts'
import { type Admitted, admit } from '../../src/core/admission.ts'
import type { GateRow } from '../../src/store/types.ts'
import { gateOn } from '../api/gate.ts'
import { PLAIN_FORGE, PLAIN_SECRET, PLAN, type Running, startServer } from '../api/server.ts'
import { startHub } from '../forge/github.ts'
import { COMMIT } from '../forge/payloads.ts'

let server: Running
let dir: string

beforeEach(async () => {
  server = await startServer()
  dir = await mkdtemp(path.join(tmpdir(), 'pst-cli-'))
})
afterEach(async () => {
  await server.stop()
  await rm(dir, { recursive: true, force: true })
})

async function cli(
  person: string | undefined,
  args: readonly string[],
  more: { env?: Record<string, string>; isTty?: boolean } = {},
) {
  let out = ''
  let err = ''
  let code = 0
  const token = person === undefined ? {} : { PENSTOCK_TOKEN: await server.token(person) }
  await runCli(args, {
    env: { PENSTOCK_DATA: dir, PENSTOCK_URL: server.url, ...token, ...more.env },
    terminal: {
      out: (text) => {
        out += text
      },
      err: (text) => {
        err += text
      },
      exit: (value) => {
        code = value
      },
    },
    isTty: more.isTty ?? false,
    raw: (bytes) => {
      out += Buffer.from(bytes).toString()
    },
    now: Date.now,
  })
  return { out, err, code }
}

/** Serves what the listener says, on a port of this machine, until the work is done. */
async function serving<T>(listener: RequestListener, work: (url: string) => Promise<T>): Promise<T> {
  const http = createServer(listener)
  await new Promise<void>((resolve) => {
    http.listen(0, '127.0.0.1', resolve)
  })
  try {
    return await work(`http://127.0.0.1:${(http.address() as AddressInfo).port}`)
  } finally {
    http.closeAllConnections()
    await new Promise((resolve) => http.close(resolve))
  }
}

/** What stands between a client and the server, and cuts the first answer about a log off within it. */
function cuttingProxy(target: string, after: number): RequestListener {
  let cut = false
  return (incoming, response) => {
    const { method, headers } = incoming
    const path = incoming.url ?? '/'
    const asked = request(`${target}${path}`, { method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers)
      if (cut || !path.includes('/log?')) return void answer.pipe(response)
      cut = true
      answer.once('data', (chunk: Buffer) => response.write(chunk.subarray(0, after), () => response.destroy()))
    })
    incoming.pipe(asked)
  }
}

async function finished(outcome: 'succeeded' | 'failed' | 'errored' | 'canceled') {
  const run = await server.run()
  await server.store.runs.setPlan(run.id, PLAN)
  const job = { stage: 'test', job: 'unit', attempt: 1 }
  await server.store.events.append(run.id, 'all', [
    { type: 'run.started.v1', try: 1 },
    { type: 'stage.started.v1', stage: 'test', attempt: 1 },
    { type: 'job.started.v1', ...job },
    { type: 'step.started.v1', ...job, step: 0, name: 'install' },
    { type: 'step.finished.v1', ...job, step: 0, name: 'install', outcome: 'succeeded', exitCode: 0 },
    { type: 'job.finished.v1', ...job, outcome },
    { type: 'stage.finished.v1', stage: 'test', attempt: 1, outcome },
    { type: 'run.finished.v1', try: 1, outcome },
  ])
  const key = { run: run.id, ...job, step: 0 }
  const bytes = Buffer.from('hello \u202e\u001b[31mred\u001b[0m \u001b]8;;x\n')
  await server.logs.append(key, { at: 0, rawEnd: 30, secretsVersion: 'v', bytes })
  await server.logs.finish(key, { rawBytes: 30, proof: { kind: 'complete' } })
  return run
}

describe('the command line', () => {
  test('lists runs, as a table and as JSON', async () => {
    const run = await finished('succeeded')

    const table = await cli('eve', ['run', 'list'])
    const json = await cli('eve', ['run', 'list', '--json'])

    expect(table.out).toMatch(/^RUN +REPOSITORY/)
    expect(table.out).toMatch(new RegExp(`^${run.number} +acme/web +master`, 'm'))
    expect(JSON.parse(json.out).runs[0].id).toBe(run.id)
  })

  test('shows one run with its attempts', async () => {
    const run = await finished('failed')

    const { out } = await cli('eve', ['run', 'view', String(run.number)])

    expect(out).toContain('acme/web#1: failed')
    expect(out).toMatch(/ {4}unit +#1 +failed/)
  })

  test.each([
    ['succeeded', 0],
    ['failed', 1],
    ['errored', 2],
    ['canceled', 3],
  ] as const)('a followed run that %s ends with exit code %d', async (outcome, code) => {
    const run = await finished(outcome)

    const logs = await cli('eve', ['run', 'logs', String(run.number), '-f'])
    const watch = await cli('eve', ['run', 'watch', run.id])

    expect(logs.code).toBe(code)
    expect(watch.code).toBe(code)
    expect(watch.out).toContain(`run.finished try=1 outcome=${outcome}`)
  })

  test('a followed run whose gate expired ends with exit code 1, though nothing of it failed, until a retry is asked anew', async () => {
    const { run } = await gateOn(server, { expiresAt: server.now() + 1_000, onExpiry: 'skip' })
    server.now(2_000)
    await server.store.gates.expire(run.id, 'approval')
    await server.store.events.append(run.id, 'end', [{ type: 'run.finished.v1', try: 1, outcome: 'succeeded' }])

    const logs = await cli('eve', ['run', 'logs', String(run.number), '-f'])
    const watch = await cli('eve', ['run', 'watch', run.id])
    const { rules, subject } = (await server.store.gates.get(run.id, 'approval')) as GateRow
    await server.store.gates.open(
      run.id,
      'approval',
      'production',
      { ...rules, expiresAt: server.now() + 1_000 },
      subject,
    )
    const asked = await cli('eve', ['run', 'watch', run.id])

    expect(logs).toMatchObject({ code: 1, err: expect.stringContaining('its gate approval expired') })
    expect(watch.code).toBe(1)
    expect(asked.code).toBe(0)
  })

  test('shows steps beneath their jobs, whatever began between them', async () => {
    const run = await server.run()
    const [unit, lint] = ['unit', 'lint'].map((job) => ({ stage: 'test', job, attempt: 1 }) as const)
    if (unit === undefined || lint === undefined) throw new Error('both are named above')
    await server.store.events.append(run.id, 'all', [
      { type: 'run.started.v1', try: 1 },
      { type: 'stage.started.v1', stage: 'test', attempt: 1 },
      { type: 'job.started.v1', ...unit },
      { type: 'job.started.v1', ...lint },
      { type: 'step.started.v1', ...unit, step: 0, name: 'install' },
      { type: 'step.started.v1', ...lint, step: 0, name: 'ruff' },
      { type: 'step.started.v1', ...unit, step: 1, name: 'tests' },
    ])

    const { out } = await cli('eve', ['run', 'view', String(run.number)])

    const names = out.split('\n').flatMap((line) => /^ +(?:\d: )?(\w+) +#1/.exec(line)?.[1] ?? [])
    expect(names).toEqual(['test', 'unit', 'install', 'tests', 'lint', 'ruff'])
  })

  test('a follower whose connection breaks goes on where it was, and ends with the outcome', async () => {
    const run = await finished('succeeded')

    const followed = await serving(cuttingProxy(server.url, 4), (url) =>
      cli('eve', ['run', 'logs', String(run.number), '-f'], { env: { PENSTOCK_URL: url } }),
    )

    expect(followed.out).toBe('hello \u202e\u001b[31mred\u001b[0m \u001b]8;;x\n')
    expect(followed.err).toContain('the connection was lost; trying again\n')
    expect(followed.code).toBe(0)
  })

  test('a log that breaks off is no verdict on the run', async () => {
    const run = await finished('succeeded')

    const read = await serving(cuttingProxy(server.url, 4), (url) =>
      cli('eve', ['run', 'logs', String(run.number)], { env: { PENSTOCK_URL: url } }),
    )

    expect(read).toMatchObject({ out: 'hell', code: 2 })
    expect(read.err).toMatch(/^the connection to .* was lost\n$/)
  })

  test('what goes wrong here ends with 2 and one line, never with the code of a failed run', async () => {
    const noFile = { PENSTOCK_TOKEN_FILE: path.join(dir, 'none') }
    const page: RequestListener = (_, response) => void response.end('<html>login')

    const token = await cli(undefined, ['nodes'], { env: noFile })
    const proxy = await serving(page, (url) => cli('eve', ['nodes'], { env: { PENSTOCK_URL: url } }))

    expect(token).toMatchObject({ code: 2, err: expect.stringMatching(/^ENOENT.*\n$/) as string })
    expect(proxy).toMatchObject({ code: 2, err: expect.stringMatching(/no Penstock server.*\n$/) as string })
  })

  test('a token that came with its line end is good; one with something else in it is said to be none', async () => {
    const good = await cli(undefined, ['nodes'], { env: { PENSTOCK_TOKEN: `${await server.token('eve')}\n` } })
    const two = await cli(undefined, ['nodes'], { env: { PENSTOCK_TOKEN: 'pst_one\npst_two' } })

    expect(good.code).toBe(0)
    expect(two).toMatchObject({ code: 2, err: expect.stringMatching(/^the token has blanks.*\n$/) as string })
  })

  test('a vote that does not count ends with 1, as JSON, too', async () => {
    const vote = { by: 'tess', answer: 'approve', counts: false, why: 'the gate is expired; no further vote is taken' }
    const subject = { commit: 'c', specDigest: 's', deliverables: [] }
    let votes: unknown[] = []
    const late: RequestListener = (incoming, response) => {
      if (incoming.method === 'POST') {
        votes = [vote]
        response.end(JSON.stringify({ by: 'tess' }))
        return
      }
      const state = votes.length > 0 ? 'expired' : 'open'
      response.end(JSON.stringify({ gates: [{ name: 'signoff', environment: 'production', state, subject, votes }] }))
    }

    const { out, code } = await serving(late, (url) =>
      cli('tess', ['approve', '1', '--json'], { env: { PENSTOCK_URL: url } }),
    )

    expect(code).toBe(1)
    expect(JSON.parse(out)).toMatchObject({ state: 'expired', counts: false, why: vote.why })
  })

  test('gives a log as it is to a pipe, and harmless to a terminal', async () => {
    const run = await finished('succeeded')
    const args = ['run', 'logs', String(run.number), '--job', 'test/unit', '--step', 'install']

    const pipe = await cli('eve', args)
    const terminal = await cli('eve', args, { isTty: true })

    expect(pipe.out).toBe('hello \u202e\u001b[31mred\u001b[0m \u001b]8;;x\n')
    expect(terminal.out).toBe('hello \\u{202e}\u001b[31mred\u001b[0m \\u{1b}]8;;x\n')
  })

  test('puts the time before each line when asked', async () => {
    const run = await finished('succeeded')

    const { out } = await cli('eve', ['run', 'logs', String(run.number), '--timestamps'])

    expect(out).toMatch(/^2026-01-31T12:00:00\.000Z hello/)
  })

  test('says what it cannot find, and ends with 2', async () => {
    const run = await finished('succeeded')
    const job = await cli('eve', ['run', 'logs', String(run.number), '--job', 'nobody'])

    expect(job).toMatchObject({ code: 2, err: 'run 1 has no job "nobody"\n' })
    for (const wrong of [
      ['--step', 'nothing'],
      ['--step', 'nothing', '-f'],
      ['--attempt', '7'],
      ['--attempt', 'x'],
    ]) {
      expect(await cli('eve', ['run', 'logs', String(run.number), ...wrong])).toMatchObject({ code: 2, out: '' })
    }
    expect((await cli('eve', ['run', 'view', '999'])).code).toBe(2)
    expect((await cli('eve', ['run', 'view', 'x'])).code).toBe(2)
    expect((await cli('eve', ['rnu'])).err).toContain('Did you mean run?')
  })

  test('lists what forges have told, and what became of each', async () => {
    const run = await server.run()
    const body = { source: 'github', bodyDigest: 'x', repo: 'acme/web' }
    const change = { commit: 'e'.repeat(40), ref: 'refs/heads/x' }
    const push = { kind: 'push', repo: 'acme/web', change, requestedBy: 'ada' } as const
    server.now(1000)
    await server.store.deliveries.recordIgnored({ ...body, id: 'one', event: 'ping' }, 'ping\u001b[2J')
    server.now(1000)
    await server.store.deliveries.record({ ...body, id: 'two', event: 'push' }, push, undefined, {
      kind: 'branch',
      ref: change.ref,
    })
    server.now(1000)
    await server.store.deliveries.record({ ...body, id: 'three', event: 'push' }, push)

    const { out, code } = await cli('eve', ['delivery', 'list', '--repo', 'acme/web', '--limit', '3'])

    expect(code).toBe(0)
    const lines = out.split('\n').map((line) => line.split(/ {2,}/).slice(1).join(' | '))
    expect(lines).toEqual([
      'FROM | EVENT | REPOSITORY | ID | WHAT BECAME OF IT',
      `github | push | acme/web | three | duplicate of run ${run.number + 1}`,
      `github | push | acme/web | two | run ${run.number + 1}; waits`,
      'github | ping | acme/web | one | ping\\u{1b}[2J',
      '',
    ])
    expect((await cli('eve', ['delivery', 'list', '--limit', '0'])).code).toBe(2)
  })

  test('ends with 4 when the token is wrong or gives no right to it', async () => {
    const run = await finished('failed')

    expect((await cli(undefined, ['run', 'list'], { env: { PENSTOCK_TOKEN: 'pst_wrong_token' } })).code).toBe(4)
    expect((await cli('eve', ['run', 'retry', String(run.number)])).code).toBe(4)
  })

  test('finds the server in the data directory', async () => {
    await writeFile(path.join(dir, 'cli.json'), JSON.stringify({ url: server.url, token: await server.token('eve') }))

    expect((await cli(undefined, ['nodes', '--json'], { env: { PENSTOCK_URL: '' } })).out).toContain('"nodes"')
  })

  test('says how to name a server when it knows none', async () => {
    const { code, err } = await cli(undefined, ['nodes'], { env: { PENSTOCK_URL: '' } })

    expect(code).toBe(2)
    expect(err).toContain('PENSTOCK_URL')
  })

  test('retries and cancels with the person and the reason on record', async () => {
    const failed = await finished('failed')
    const open = await server.run()

    const retry = await cli('dev', ['run', 'retry', String(failed.number)])
    const cancel = await cli('dev', ['run', 'cancel', String(open.number), '--reason', 'wrong branch'])

    expect(retry.out).toContain('try 2')
    expect(cancel.code).toBe(0)
    expect((await server.store.runs.byNumber(open.number))?.cancel).toEqual({ by: 'dev', reason: 'wrong branch' })
    expect((await cli('dev', ['run', 'cancel', String(open.number)])).code).toBe(2)
  })

  test('shows what a stranger’s commit changes, and lets exactly that commit run, without secrets', async () => {
    const admission = admit('pull_request', { origin: 'fork', specChanged: true, approved: false }) as Admitted
    const { number, change } = await server.run({}, admission)

    const { out } = await cli('eve', ['run', 'admission', String(number)])
    expect(out).toContain('secrets: none')
    expect(out).toContain('+run: <U+202E>evil')
    const [viewer, other, retry] = [
      await cli('eve', ['run', 'admit', String(number), '--commit', change.commit]),
      await cli('dev', ['run', 'admit', String(number), '--commit', 'b'.repeat(40)]),
      await cli('dev', ['run', 'retry', String(number)]),
    ]
    expect([viewer.code, other.code, retry.code]).toEqual([4, 2, 2])
    expect(await server.store.runs.byNumber(number)).toMatchObject({ status: 'waiting' })
    await cli('dev', ['run', 'admit', String(number), '--commit', change.commit])

    expect(await server.store.runs.byNumber(number)).toMatchObject({ status: 'queued', secrets: 'none' })
  })

  test('starts a commit that is on no branch like a stranger’s: held when its spec is another', async () => {
    await cli('dev', ['run', 'start', 'acme/web', '--commit', 'f'.repeat(40)])
    await cli('dev', ['run', 'start', 'acme/web', '--commit', COMMIT])
    await cli('dev', ['run', 'start', 'acme/web', '--branch', 'master'])

    const runs = await server.store.runs.list({ limit: 3 })
    expect(runs.map(({ status, secrets }) => [status, secrets])).toEqual([
      ['queued', 'repository'],
      ['queued', 'repository'],
      ['waiting', 'none'],
    ])
  })

  test('asks for a merge at the head that is there now, with the person on record', async () => {
    const hub = await startHub()
    try {
      server.forges.set('acme/web', hub.forge())
      const first = await hub.push('master')
      const commit = await hub.push('page', first)
      await hub.github.world.openPull('acme/web', { by: 'ada', head: 'page', base: 'master', title: 'A page' })

      const asked = await cli('ops', ['pull', 'merge', 'acme/web', '#1'])
      const again = await cli('dev', ['pull', 'merge', 'acme/web', '1', '--commit', commit])
      const listed = await cli('eve', ['pull', 'list', '--json'])
      expect(asked).toMatchObject({ code: 0, out: expect.stringContaining('as soon as the rules hold') })
      expect(again).toMatchObject({ code: 0, out: expect.stringContaining('waiting already') })
      expect(JSON.parse(listed.out).merges).toMatchObject([
        { by: 'dev', state: 'joined' },
        { by: 'ops', state: 'waiting', channel: 'cli', pullRequest: 1, commit },
      ])
      expect((await cli('eve', ['pull', 'list'])).out).toContain('waiting')
      expect((await server.store.notices.pending())[0]?.notice).toEqual({ kind: 'pull_request', number: 1 })

      expect(await cli('eve', ['pull', 'merge', 'acme/web', '1'])).toMatchObject({ code: 4 })
      expect(await cli('ops', ['pull', 'merge', 'acme/web', '1', '--commit', first])).toMatchObject({
        code: 2,
        err: `you looked at ${first}; the head is ${commit}\n`,
      })
      expect((await cli('ops', ['pull', 'merge', 'acme/web', '9'])).code).toBe(2)
      expect((await cli('ops', ['pull', 'merge', 'acme/plain', '1'])).err).toContain('no pull requests')
      expect((await cli('ops', ['pull', 'merge', 'acme/none', '1'])).err).toContain('unknown; known: acme/web')
      hub.github.world.closePull('acme/web', 1, 'ada')
      expect((await cli('ops', ['pull', 'merge', 'acme/web', '1'])).err).toContain('is closed')
    } finally {
      await hub.github.stop()
    }
  })

  test('makes, lists and revokes tokens', async () => {
    const made = await cli('ada', ['token', 'create', 'ben', '--days', '30', '--json'])
    const { id, token } = JSON.parse(made.out) as { id: string; token: string }

    expect(await server.store.people.personOf(token)).toBe('ben')
    expect((await cli('ada', ['token', 'list'])).out).toContain(id)
    expect((await cli('ada', ['token', 'create', 'ben', '--days', '366'])).code).toBe(2)
    expect((await cli('ada', ['token', 'revoke', id])).code).toBe(0)
    expect(await server.store.people.personOf(token)).toBeUndefined()
  })

  test('exports the audit as one JSON object a line', async () => {
    await server.store.audit.record({ by: 'ada', channel: 'api', action: 'x', on: 'y' })

    const { out } = await cli('ops', ['audit', 'export'])

    const entries = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(entries).toEqual([
      expect.objectContaining({ by: 'ada', action: 'x' }),
      { end: { entries: 1, last: entries[0].id } },
    ])
  })

  test('an export of the audit that is cut off says so, by its exit code, too', async () => {
    const entry = `${JSON.stringify({ id: 7, at: 0, by: 'ada', channel: 'api', action: 'x', on: 'y' })}\n`
    const halfway: RequestListener = (_, response) => {
      response.write(`${entry}{"id":8,"at":`, () => setTimeout(() => response.destroy(), 50))
    }
    const tooSoon: RequestListener = (_, response) => response.end(entry)

    for (const listener of [halfway, tooSoon]) {
      const { out, err, code } = await serving(listener, (url) =>
        cli('ops', ['audit', 'export'], { env: { PENSTOCK_URL: url } }),
      )

      expect(out).toBe(entry)
      expect(code).toBe(2)
      expect(err).toContain('cut off after entry 7: go on with --after 7')
    }
  })

  test('shows who holds what', async () => {
    await server.store.units.configure(server.config.pools)

    expect((await cli('eve', ['pool', 'list'])).out).toMatch(/rig +rig-1 +free/)
  })
})

const exec = promisify(execFile)

describe('penstock forge check', () => {
  test('says for every repository what is missing and how to mend it, and ends with 1', async () => {
    const { out, code } = await cli('ops', ['forge', 'check'])

    expect(code).toBe(1)
    expect(out).toContain('acme/web:\n  ok      access acme/web\n')
    expect(out).toContain('  MISSING permission statuses: write (needed: to show each stage)\n')
    // What a forge said does not act on the terminal.
    expect(out).toContain('          set Statuses to write\\u{1b}[2J\n')
    expect(out).toContain('acme/plain:\n  nothing to check at a repository of the kind "git"\n')
  })

  test('of one repository with nothing missing ends with 0', async () => {
    const { out, code } = await cli('ops', ['forge', 'check', 'acme/plain', '--json'])

    expect(code).toBe(0)
    expect(JSON.parse(out)).toEqual({ repositories: [{ repo: 'acme/plain', forge: 'git', findings: [] }] })
  })

  test('of a forge that cannot be asked says so, and hides nothing of the others', async () => {
    server.forges.set('acme/other', {
      ...PLAIN_FORGE,
      check: async () => {
        throw new Error('no answer')
      },
    })

    const { out, code } = await cli('ops', ['forge', 'check'])

    expect(code).toBe(1)
    expect(out).toContain('acme/other:\n  the forge could not be asked: no answer\n')
    expect(out).toContain('acme/web:\n  ok ')
  })

  test('is for operators, and knows only the repositories of the operator’s file', async () => {
    expect((await cli('dev', ['forge', 'check'])).code).toBe(4)
    expect(await cli('ops', ['forge', 'check', 'acme/absent'])).toMatchObject({ code: 2 })
  })
})

describe('the hook of a plain repository', () => {
  async function repository(): Promise<{ bare: string; work: string }> {
    const bare = path.join(dir, "it's bare.git")
    const work = path.join(dir, 'work')
    await exec('git', ['init', '--quiet', '--bare', bare])
    await exec('git', ['init', '--quiet', '-b', 'master', work])
    await exec('git', ['-C', work, 'remote', 'add', 'origin', bare])
    return { bare, work }
  }

  async function push(work: string, ref: string, title: string) {
    const who = ['-c', 'user.name=Ada "the" L', '-c', 'user.email=ada@example.org']
    await exec('git', ['-C', work, ...who, 'commit', '--quiet', '--allow-empty', '-m', title])
    const env = { ...process.env, PENSTOCK_PUSHER: 'ben' }
    return exec('git', ['-C', work, 'push', '--quiet', 'origin', `HEAD:${ref}`], { env })
  }

  const install = (bare: string, url = server.url) =>
    cli(undefined, ['hook', 'install', bare, '--repository', 'acme/plain', '--url', url], {
      env: { PENSTOCK_HOOK_SECRET: PLAIN_SECRET },
    })

  test('makes a run of each pushed branch, whatever its name and title hold', async () => {
    const { bare, work } = await repository()
    await install(bare)

    const first = await push(work, 'refs/heads/master', 'Say "hello" \\ and\ttab é')
    await push(work, 'refs/heads/x$(id)"`id`', 'second')

    const runs = await server.store.runs.list({ limit: 10 })
    expect(runs.map((run) => run.change.ref)).toEqual(['refs/heads/x$(id)"`id`', 'refs/heads/master'])
    expect(runs[1]?.change).toMatchObject({
      title: 'Say "hello" \\ andtab é',
      author: 'Ada "the" L <ada@example.org>',
      pusher: 'ben',
    })
    expect(first.stderr).toContain('penstock: run acme/plain#1')
  })

  test('keeps the secret out of the repository’s readable files', async () => {
    const { bare } = await repository()
    await install(bare)

    expect((await stat(path.join(bare, 'hooks/penstock/inner'))).mode & 0o777).toBe(0o600)
    expect(spawnSync('grep', ['-r', PLAIN_SECRET, bare]).status).toBe(1)
  })

  test('never breaks a push, and tells the pusher what went wrong', async () => {
    const { bare, work } = await repository()
    await install(bare, 'http://127.0.0.1:9')

    const { stderr } = await push(work, 'refs/heads/master', 'one')

    expect(stderr).toContain('penstock: no run is started')
    expect((await exec('git', ['-C', bare, 'rev-parse', 'refs/heads/master'])).stdout).toMatch(/^[0-9a-f]{40}/)
  })

  test('does not replace somebody else’s hook unless told to', async () => {
    const { bare } = await repository()
    await writeFile(path.join(bare, 'hooks/post-receive'), '#!/bin/sh\n')

    expect(await install(bare)).toMatchObject({ code: 2, err: expect.stringContaining('--force') })
  })
})

test('text of strangers shows its control and direction characters', () => {
  expect(visible('main\u202e\u001b[2J\n')).toBe('main\\u{202e}\\u{1b}[2J\\u{a}')
  expect(visibleLog('a\r\nb\rc\bd')).toBe('a\nb\\u{d}c\\u{8}d')
})
