import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ConfigInvalid, loadConfig } from '../../src/config/load.ts'
import { approversOf, excludedOf, personOf } from '../../src/config/people.ts'

let dir: string

beforeEach(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'pst-config-'))
})
afterEach(async () => {
  await rm(dir, { recursive: true, force: true })
})

const HOOK = 'a-webhook-secret-of-32-bytes-....'

async function write(text: string): Promise<string> {
  const file = path.join(dir, 'penstock.config.yml')
  await writeFile(file, text)
  return file
}

async function problems(text: string, env: Record<string, string> = {}): Promise<readonly string[]> {
  const file = await write(text)
  const failure = await loadConfig({ file, env: { HOOK, PENSTOCK_DATA: dir, ...env } }).then(
    () => undefined,
    (err: unknown) => err,
  )
  if (failure === undefined) return []
  if (!(failure instanceof ConfigInvalid)) throw failure
  return failure.message.split('\n').map((line) => line.replace(`${file}:`, ''))
}

const REPOSITORY = `
repositories:
  acme/web:
    forge: git
    url: /srv/git/web.git
    webhook_secrets: [{ env: HOOK }]
`

const GATED = `people: { ben: { roles: [approver] } }
${REPOSITORY.trim()}
    environments: { staging: {}, production: { approvers: [ben] }, demo: { approvers: [ben] } }
`

describe('the operator’s file', () => {
  test('the example is right as it stands', async () => {
    const file = path.resolve('examples/penstock.config.yml')

    const config = await loadConfig({
      file,
      env: { WEB_HOOK_SECRET: HOOK, NPM_TOKEN: 'npm_12345678', PENSTOCK_DATA: dir },
    })

    expect(config.repositories['acme/web']?.environments.production?.gate).toEqual({
      approvals: [{ from: ['ben', 'role:admin'], count: 1 }],
      expiresMs: 7 * 24 * 3_600_000,
      onExpiry: 'fail',
      remindersMs: [],
    })
    expect(config.database).toEqual({ kind: 'sqlite', path: path.join(dir, 'penstock.db') })
    expect(config.pools).toEqual([
      {
        name: 'rig',
        ...{ privileged: false, warnMs: 600_000, probeEveryMs: 60_000 },
        units: [
          {
            name: 'rig-1',
            labels: ['arch=arm64'],
            properties: { address: '10.0.0.5' },
            ...{ capacity: 1, resetCostMs: 0, credentials: {} },
          },
        ],
      },
    ])
  })

  test('an empty file is a server with no repositories, listening on the loopback only', async () => {
    const config = await loadConfig({ file: await write(''), env: { PENSTOCK_DATA: dir } })

    expect(config.server).toEqual({ listen: { host: '127.0.0.1', port: 7410 }, url: 'http://127.0.0.1:7410' })
    expect(config.repositories).toEqual({})
    expect(config.workerToken).toBeUndefined()
  })

  test('branches are master and production unless the file names others', async () => {
    const config = await loadConfig({ file: await write(REPOSITORY), env: { HOOK, PENSTOCK_DATA: dir } })

    expect(config.repositories['acme/web']?.branches).toEqual({ candidate: 'master', production: 'production' })
  })

  test('every error is told at once, each at its line and column, with what would be right', async () => {
    const found = await problems(
      [
        'instanse: main',
        'people:',
        '  ada: { roles: [admn] }',
        'repositories:',
        '  acme/web:',
        '    forge: git',
        '    url: /srv/git/web.git',
        '    brnaches: { candidate: main }',
        'pools:',
        '  Rig: { units: {} }',
      ].join('\n'),
    )

    expect(found).toEqual([
      '1:1 unknown key "instanse"; did you mean "instance"?',
      '3:18 people.ada.roles.0: must be one of viewer, developer, approver, operator, admin',
      '5:3 repositories.acme/web.webhook_secrets is missing',
      '8:5 unknown key "brnaches" in repositories.acme/web; did you mean "branches"?',
      '10:3 name "Rig" must be a name: lower-case letters, digits, `.`, `_`, `-`; at most 63',
    ])
  })

  test('what only shows when names are looked up is told at once, too', async () => {
    const found = await problems(`
people:
  ben: { roles: [approver] }
repositories:
  acme/web:
    forge: git
    url: https://user:password@example.org/web.git
    webhook_secrets: [{ env: ABSENT }]
    secrets: { NPM: { file: ./absent } }
    environments:
      staging: { quorum: 2 }
      production: { approvers: [bne, "role:aprover"], quorum: 2 }
`)

    expect(found).toEqual([
      '7:10 repositories.acme/web.url: must not hold credentials',
      '8:23 the environment variable ABSENT is not set (nor ABSENT_FILE)',
      `9:21 the file ${path.join(dir, 'absent')} cannot be read`,
      '11:18 repositories.acme/web.environments.staging.quorum says nothing without approvers; name them',
      '12:33 repositories.acme/web.environments.production.approvers: "bne" is not among the people; did you mean "ben"?',
      '12:38 repositories.acme/web.environments.production.approvers: "aprover" is not a role; did you mean "approver"?',
      '12:63 repositories.acme/web.environments.production.quorum: 2 approvals are asked for, but only 0 people may give one (nobody)',
    ])
  })

  test.each([
    [
      'an approver without the right to vote',
      `people: { eve: { roles: [viewer] } }\n${REPOSITORY}    environments: { p: { approvers: [eve] } }\n`,
      '"eve" has no role that may vote',
    ],
    ['no webhook secret', REPOSITORY.replace('[{ env: HOOK }]', '[]'), 'webhook secret missing'],
    [
      'three webhook secrets',
      REPOSITORY.replace('[{ env: HOOK }]', '[{env: HOOK},{env: HOOK},{env: HOOK}]'),
      'at most two',
    ],
    [
      'a secret that says two sources',
      REPOSITORY.replace('{ env: HOOK }', '{ env: HOOK, file: x }'),
      'either `env: NAME` or `file: PATH`',
    ],
    ['a secret in clear text', REPOSITORY.replace('{ env: HOOK }', 'hunter2hunter2'), 'expected object'],
    ['a key twice', `${REPOSITORY}    url: /other\n`, 'Map keys must be unique'],
    [
      'an address that others can listen in on',
      REPOSITORY.replace('/srv/git/web.git', 'http://git.example/web.git'),
      'http:// to this machine only',
    ],
    [
      'a blocking dependent that is not in the file',
      `${REPOSITORY}    dependents: { blocking: [acme/client] }\n`,
      'must name another repository of this file; they are: none',
    ],
    [
      'a repository that blocks itself',
      `${REPOSITORY}    dependents: { blocking: [acme/web] }\n`,
      'must name another repository of this file',
    ],
    [
      'more blocking dependents than may be started',
      `${REPOSITORY}    dependents: { blocking: [acme/web], most: 0 }\n`,
      '1 repositories block, but a candidate may start only 0 runs',
    ],
    ['a file address', REPOSITORY.replace('/srv/git/web.git', 'file:///etc'), '"file:" is not allowed'],
    [
      'a transport that runs commands',
      REPOSITORY.replace('/srv/git/web.git', 'ext::sh -c id'),
      '"ext:" is not allowed',
    ],
    [
      'an address that is an option',
      REPOSITORY.replace('/srv/git/web.git', '--upload-pack=x'),
      'must not begin with `-`',
    ],
    ['a host that is an option', REPOSITORY.replace('/srv/git/web.git', 'ssh://-oProxyCommand=x/y'), 'names no host'],
    ['the short ssh form', REPOSITORY.replace('/srv/git/web.git', 'git@example.org:web.git'), 'ssh://user@host/path'],
    [
      'names that differ in case only',
      `${REPOSITORY}  Acme/Web:\n    forge: git\n    url: /srv/git/other.git\n    webhook_secrets: [{ env: HOOK }]\n`,
      '"Acme/Web" and "acme/web" differ in case only',
    ],
    [
      'a file that never ends',
      `${REPOSITORY}    secrets: { ZERO: { file: /dev/zero } }\n`,
      '/dev/zero is larger than 1048576 bytes',
    ],
    [
      'aliases that multiply',
      `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c]\n`,
      'Excessive alias count',
    ],
    ['the same branch twice', `${REPOSITORY}    branches: { candidate: main, production: main }\n`, 'must differ'],
    ['a branch as a full ref', `${REPOSITORY}    branches: { candidate: refs/heads/main }\n`, 'short name'],
    ['a bare number as duration', `${REPOSITORY}    environments: { p: { expires: 7 } }\n`, 'expected string'],
    [
      'production without a gate',
      `${GATED}    production_environment: staging\n`,
      'acme/web.production_environment: "staging" has no gate: name its approvers; those with a gate: production, demo',
    ],
    [
      'production that is not there',
      `${GATED}    production_environment: productoin\n`,
      '"productoin" is not among the environments; did you mean "production"?',
    ],
    [
      'two gates of which nobody says which is production’s',
      GATED,
      'acme/web.environments: production and demo have a gate: it must be said whose guards the production branch; write `production_environment: production`, or another of them',
    ],
    ['another database', 'database: mysql://x', 'must begin with `sqlite:` or `postgres://`'],
    ['a port out of range', 'server: { listen: "127.0.0.1:70000" }', 'is not host:port'],
    ['not a mapping', '- 1', 'expected object'],
    ['broken YAML', 'a: [', 'Flow sequence'],
  ])('%s is refused by name', async (_, text, message) => {
    const found = await problems(text)

    expect(found.join('\n')).toContain(message)
    expect(found[0]).toMatch(/^\d+:\d+ /)
  })

  test('a secret of under 8 bytes is refused, because it cannot be masked', async () => {
    const found = await problems(`${REPOSITORY}    secrets: { NPM: { env: NPM } }\n`, { NPM: 'hunter2' })

    expect(found).toEqual([
      '7:21 repositories.acme/web.secrets.NPM: secrets need 8 bytes or more; shorter ones cannot be masked safely',
    ])
  })

  test('a webhook secret of under 16 bytes is refused, because it can be guessed', async () => {
    const found = await problems(REPOSITORY, { HOOK: '123456789012345' })

    expect(found.join()).toContain('webhook secrets need 16 bytes or more')
  })

  test('a secret that would not reach a job as it is in its file is refused', async () => {
    await writeFile(path.join(dir, 'binary'), Buffer.from([0xff, 0xfe, ...Buffer.from('not text')]))

    const found = await problems(`${REPOSITORY}    secrets: { BIG: { env: BIG }, BINARY: { file: ./binary } }\n`, {
      BIG: 'x'.repeat(500 * 1024 + 1),
    })

    expect(found).toEqual([
      expect.stringContaining('secrets.BIG: a secret has at most 512000 bytes: Docker takes no more'),
      expect.stringContaining('binary is not UTF-8'),
    ])
  })

  test('a file that is not there is named', async () => {
    await expect(loadConfig({ file: path.join(dir, 'absent.yml'), env: {} })).rejects.toThrow(
      /absent\.yml: cannot be read/,
    )
  })
})

describe('environment variables', () => {
  test('stand above the file', async () => {
    const file = await write('instance: a\nserver: { listen: "127.0.0.1:1" }\ntemporal: { address: "x:1" }\n')

    const config = await loadConfig({
      file,
      env: {
        PENSTOCK_DATA: path.join(dir, 'data'),
        PENSTOCK_INSTANCE: 'b',
        PENSTOCK_LISTEN: '0.0.0.0:0',
        PENSTOCK_URL: 'https://ci.example.org/',
        PENSTOCK_TEMPORAL_ADDRESS: 'y:2',
        PENSTOCK_DATABASE_URL: 'sqlite:other.db',
      },
    })

    expect(config.instance).toBe('b')
    expect(config.server).toEqual({ listen: { host: '0.0.0.0', port: 0 }, url: 'https://ci.example.org' })
    expect(config.temporal.address).toBe('y:2')
    expect(config.database).toEqual({ kind: 'sqlite', path: path.join(dir, 'data', 'other.db') })
  })

  test('may be given as files, whose final newline does not count', async () => {
    await writeFile(path.join(dir, 'token'), 'worker-token-of-the-nodes\n')
    await writeFile(path.join(dir, 'hook'), `${HOOK}\n`)

    const config = await loadConfig({
      file: await write(REPOSITORY),
      env: {
        PENSTOCK_DATA: dir,
        PENSTOCK_WORKER_TOKEN_FILE: path.join(dir, 'token'),
        HOOK_FILE: path.join(dir, 'hook'),
      },
    })

    expect(config.workerToken?.reveal()).toBe('worker-token-of-the-nodes')
    expect(config.repositories['acme/web']?.webhookSecrets[0]?.reveal()).toBe(HOOK)
  })

  test('a file that cannot be read is told with the variable’s name', async () => {
    const found = await problems('', { PENSTOCK_WORKER_TOKEN_FILE: '/absent' })

    expect(found).toEqual(['PENSTOCK_WORKER_TOKEN_FILE: the file /absent cannot be read'])
  })
})

test('no way of printing the configuration shows a secret', async () => {
  const file = await write(`${REPOSITORY}    secrets: { NPM: { env: NPM } }\ndatabase: { env: DB }\n`)
  const env = {
    HOOK,
    NPM: 'npm_token_value',
    DB: 'postgres://u:pw_of_db@h/d',
    PENSTOCK_WORKER_TOKEN: 'worker_token_value',
  }

  const config = await loadConfig({ file, env: { ...env, PENSTOCK_DATA: dir } })

  const printed = [
    JSON.stringify(config),
    inspect(config, { depth: 20, showHidden: true }),
    `${config.workerToken}`,
  ].join()
  for (const value of [HOOK, 'npm_token_value', 'pw_of_db', 'worker_token_value']) expect(printed).not.toContain(value)
  expect(config.repositories['acme/web']?.secrets.NPM?.reveal()).toBe('npm_token_value')
})

describe('the rules of a gate', () => {
  const HEAD = `
people:
  ada: { roles: [approver], github: ada }
  ben: { roles: [approver] }
  tess: { roles: [approver] }
  vic: { roles: [viewer], github: vic }
teams: { qa: [tess, ben], watchers: [vic] }
repositories:
  acme/web:
    forge: { github: { token: { env: HOOK } } }
    url: /srv/git/web.git
    webhook_secrets: [{ env: HOOK }]
    environments:
      production:
`
  const rules = (lines: string) => `${HEAD}${lines.trim().replace(/^/gm, '        ')}\n`

  test('are read in full', async () => {
    const file = await write(
      rules(`
approvals: [{ from: [team:qa] }, { from: ["role:approver", "forge:maintain"], count: 2 }]
expires: 5d
on_expiry: skip
reminders: [3d, 1d, 24h]
hours: { zone: Europe/Berlin, days: [mon, fri], from: "09:00", to: "24:00" }
freezes: [{ from: "2026-12-20", to: "2027-01-02", reason: year end }]
`),
    )

    const config = await loadConfig({ file, env: { HOOK, PENSTOCK_DATA: dir } })

    const hours = { zone: 'Europe/Berlin', days: ['mon', 'fri'], from: '09:00', to: '24:00' }
    expect(config.teams).toEqual({ qa: ['tess', 'ben'], watchers: ['vic'] })
    expect(config.repositories['acme/web']?.environments.production?.gate).toEqual({
      approvals: [
        { from: ['team:qa'], count: 1 },
        { from: ['role:approver', 'forge:maintain'], count: 2 },
      ],
      expiresMs: 5 * 86_400_000,
      onExpiry: 'skip',
      remindersMs: [86_400_000, 3 * 86_400_000],
      window: {
        hours,
        freezes: [{ zone: 'Europe/Berlin', from: '2026-12-20', to: '2027-01-02', reason: 'year end' }],
      },
    })
    expect(approversOf(config, 'acme/web', 'production')).toEqual(['ada', 'ben', 'tess'])
  })

  const P = 'repositories.acme/web.environments.production'
  test.each([
    [
      'names that nobody has',
      'approvals: [{ from: [team:qs, role:viewer, vic, ebn, "forge:wrte", team:watchers], count: 1 }]',
      [
        `15:30 ${P}.approvals.from: "qs" is not among the teams; did you mean "qa"?`,
        `15:39 ${P}.approvals.from: people with only the role "viewer" may not vote`,
        `15:52 ${P}.approvals.from: "vic" has no role that may vote; add "approver"`,
        `15:57 ${P}.approvals.from: "ebn" is not among the people; did you mean "ben"?`,
        `15:62 ${P}.approvals.from: "wrte" is no permission of a forge; did you mean "write"?`,
        `15:76 ${P}.approvals.from: nobody of team "watchers" has a role that may vote; add "approver" to one`,
      ],
    ],
    [
      'both forms',
      'approvals: [{ from: [ada] }]\nquorum: 1',
      [`16:9 ${P}.quorum is the short form of \`approvals\`; write one of the two`],
    ],
    [
      'groups that share too few',
      'approvals: [{ from: [team:qa], count: 2 }, { from: [ben, tess], count: 1 }]',
      [
        `15:20 ${P}.approvals: 1 of ben or tess are asked for, but only ben, tess may approve for it, and they are needed for the other groups, too; a person counts once`,
      ],
    ],
    [
      'rules of no gate',
      'hours: { zone: UTC, days: [mon], from: "09:00", to: "17:00" }\non_expiry: fail',
      [
        `15:9 ${P}.hours says nothing without approvers; name them`,
        `16:9 ${P}.on_expiry says nothing without approvers; name them`,
      ],
    ],
    [
      'times that there are not',
      [
        'approvers: [ada]',
        'expires: 2d',
        'reminders: [1d, 2d]',
        'hours: { zone: Europe/Berln, days: [mon], from: "17:00", to: "09:00" }',
        'freezes: [{ from: "2026-02-30", to: "2026-03-01", reason: x, zone: UTC }, { from: "2026-03-02", to: "2026-03-01", reason: x, zone: UTC }]',
      ].join('\n'),
      [
        `17:25 ${P}.reminders: after 2d the gate has expired (2d)`,
        `18:24 ${P}.hours.zone: "Europe/Berln" is not a time zone; did you mean "Europe/Berlin"?`,
        `18:70 ${P}.hours.to: must be later than from, which is 17:00`,
        `19:27 ${P}.freezes.from: no calendar has 2026-02-30`,
        `19:109 ${P}.freezes.to: must be later than from, which is 2026-03-02`,
      ],
    ],
    [
      'a freeze without a zone',
      'approvers: [ada]\nfreezes: [{ from: "2026-03-01", to: "2026-03-02", reason: x }]',
      [`16:19 ${P}.freezes: has no time zone: say \`zone\`, or \`hours\` with one`],
    ],
  ])('are refused if they are %s', async (_, lines, expected) => {
    expect(await problems(rules(lines))).toEqual(expected)
  })

  test('ask no forge that cannot be asked, and of a forge only whom it can know', async () => {
    const plain = rules('approvals: [{ from: ["forge:write"] }]').replace(/forge: \{.*\}/, 'forge: git')
    const two = rules('approvals: [{ from: ["forge:write"], count: 2 }]')

    expect(await problems(plain)).toEqual(
      [
        `15:30 ${P}.approvals.from: the forge of this repository cannot be asked who has a permission: it is plain git, or without a token`,
        `15:20 ${P}.approvals: 1 approvals are asked for, but only 0 people may give one (nobody)`,
      ].sort(),
    )
    expect(await problems(two)).toEqual([
      `15:20 ${P}.approvals: 2 approvals are asked for, but only 1 people may give one (ada)`,
    ])
  })

  test('teams have members', async () => {
    expect(await problems('people: { ada: { roles: [approver] } }\nteams: { qa: [ad] }\n')).toEqual([
      '2:15 teams.qa: "ad" is not among the people; did you mean "ada"?',
    ])
  })
})

describe('people', () => {
  const PEOPLE = `
people:
  ada: { roles: [admin], github: Ada-L, email: ada@example.org }
  ben: { roles: [approver, developer] }
  cyd: { roles: [approver] }
repositories:
  acme/web:
    forge: git
    url: /srv/git/web.git
    webhook_secrets: [{ env: HOOK }]
    environments:
      staging: {}
      production: { approvers: [ada, "role:approver"] }
`

  test.each([
    ['the only one with a gate', PEOPLE, 'production'],
    ['the one that the file names', `${GATED}    production_environment: demo\n`, 'demo'],
    ['none, without a gate', REPOSITORY, undefined],
  ])('the environment of the production branch is %s', async (_, text, production) => {
    const config = await loadConfig({ file: await write(text), env: { HOOK, PENSTOCK_DATA: dir } })

    expect(config.repositories['acme/web']?.productionEnvironment).toBe(production)
  })

  test('approvers are people by name and by role, resolved', async () => {
    const config = await loadConfig({ file: await write(PEOPLE), env: { HOOK, PENSTOCK_DATA: dir } })

    expect(approversOf(config, 'acme/web', 'production')).toEqual(['ada', 'ben', 'cyd'])
    expect(approversOf(config, 'acme/web', 'staging')).toEqual([])
    expect(approversOf(config, 'acme/other', 'production')).toEqual([])
  })

  test.each([
    ['a name', { author: 'ben' }, ['ben']],
    ['a login, in any case', { pusher: 'ada-l' }, ['ada']],
    ['an address', { author: 'ADA@example.org' }, ['ada']],
    ['a name with an address', { author: 'Somebody <ada@example.org>' }, ['ada']],
    ['author and pusher', { author: 'ben', pusher: 'Ada-L' }, ['ada', 'ben']],
    ['the same person twice', { author: 'ada', pusher: 'Ada-L' }, ['ada']],
    ['a stranger', { author: 'mallory' }, []],
  ])('the author is known by %s', async (_, change, expected) => {
    const config = await loadConfig({ file: await write(PEOPLE), env: { HOOK, PENSTOCK_DATA: dir } })

    expect(excludedOf(config, change)).toEqual(expected)
  })
})

describe('access to other forges', () => {
  const written = (forge: string) => `
repositories:
  acme/web:
    forge: ${forge}
    url: https://forge.example/acme/web.git
    webhook_secrets: [{ env: HOOK }]
`

  test.each([
    [
      'gitea',
      '{ gitea: { api: "https://forge.example/api/v1", token: { env: TOKEN } } }',
      'https://forge.example/api/v1',
    ],
    ['gitlab', '{ gitlab: { token: { env: TOKEN } } }', 'https://gitlab.com/api/v4'],
  ])('%s has an address and a token, which nobody sees', async (kind, text, api) => {
    const env = { HOOK, PENSTOCK_DATA: dir, TOKEN: 'token-of-the-forge' }
    const { forge } = (await loadConfig({ file: await write(written(text)), env })).repositories['acme/web'] ?? {}

    expect(forge).toMatchObject({ kind, api, access: { kind: 'token' } })
    const access = forge !== undefined && 'access' in forge ? forge.access : undefined
    expect(access?.kind === 'token' && access.token.reveal()).toBe(env.TOKEN)
    expect(inspect(forge, { depth: 9 }) + JSON.stringify(forge)).not.toContain(env.TOKEN)
  })

  test.each([
    ['{ gitea: { token: { env: TOKEN } } }', {}, 'gitea.api is missing'],
    ['{ gitea: { api: "gitea.example", token: { env: TOKEN } } }', {}, 'must be an http:// or https:// address'],
    ['{ gitea: { api: "https://x.example/api/v1", token: { env: TOKEN } } }', {}, 'variable TOKEN is not set'],
    ['{ gitlab: { token: { env: TOKEN } } }', { TOKEN: 'short' }, 'gitlab.token: is too short to be a token'],
    ['{ gitlab: { token: { env: TOKEN }, app: {} } }', { TOKEN: 'long-enough' }, 'unknown key "app"'],
    ['{ bitbucket: { token: { env: TOKEN } } }', {}, 'where FORGE is `github`'],
    ['gitlab', {}, 'where FORGE is `github`'],
  ])('%s is refused', async (text, env, message) => {
    expect((await problems(written(text), env)).join('\n')).toContain(message)
  })

  test('a login is one at the forge of the repository, and nowhere else', async () => {
    const text = `
people:
  ada: { roles: [approver], github: one, gitea: two }
  ben: { roles: [approver], gitlab: one, gitea: Three }
`
    const config = await loadConfig({ file: await write(text), env: { PENSTOCK_DATA: dir } })
    const at = (kind: 'git' | 'github' | 'gitea' | 'gitlab', login: string) =>
      personOf(config, { forge: kind === 'git' ? { kind } : { kind, api: 'https://forge.example' } }, login)

    expect([at('github', 'one'), at('gitlab', 'one'), at('gitea', 'one'), at('git', 'one')]).toEqual([
      'ada',
      'ben',
      undefined,
      undefined,
    ])
    expect(at('gitea', 'three')).toBe('ben')
    expect(excludedOf(config, { author: 'one', pusher: 'two' })).toEqual(['ada', 'ben'])
  })
})

describe('access to GitHub', () => {
  const github = (access: string) => `
repositories:
  acme/web:
    forge: { github: { ${access} } }
    url: https://github.example/acme/web.git
    webhook_secrets: [{ env: HOOK }]
`
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const KEY = privateKey.export({ type: 'pkcs1', format: 'pem' }).toString().trimEnd()

  async function accessOf(text: string, env: Record<string, string>) {
    const config = await loadConfig({ file: await write(github(text)), env: { HOOK, PENSTOCK_DATA: dir, ...env } })
    const { forge } = config.repositories['acme/web'] ?? {}
    return forge?.kind === 'github' ? forge : undefined
  }

  test('is a token, an App with its key, or none', async () => {
    const token = await accessOf('token: { env: TOKEN }', { TOKEN: 'ghp_12345678' })
    const app = await accessOf(
      'api: "https://github.example/api/v3", app: { id: 42, private_key: { env: KEY }, installation: 7 }',
      { KEY },
    )
    const none = await accessOf('api: "https://github.example/api/v3"', {})

    expect(token).toMatchObject({ api: 'https://api.github.com', access: { kind: 'token' } })
    expect(app).toMatchObject({
      api: 'https://github.example/api/v3',
      access: { kind: 'app', id: '42', installation: 7 },
    })
    expect(app?.access?.kind === 'app' && app.access.privateKey.reveal()).toBe(KEY)
    expect(none?.access).toBeUndefined()
    expect(inspect(app, { depth: 9 }) + JSON.stringify(app)).not.toContain('PRIVATE KEY')
  })

  test.each([
    ['token: { env: TOKEN }, app: { id: 1, private_key: { env: KEY } }', {}, 'either `token` or `app`, not both'],
    ['app: { id: 1, private_key: { env: KEY } }', { KEY: 'ghp_12345678' }, 'is no private key in PEM form'],
    ['app: { id: 1, private_key: { env: KEY } }', {}, 'the environment variable KEY is not set'],
    ['app: { id: 1 }', {}, 'app.private_key is missing'],
    ['app: { id: "a b", private_key: { env: KEY } }', { KEY }, 'must be the id of the App'],
    ['app: { id: 1, private_key: { env: KEY }, key: 1 }', { KEY }, 'unknown key "key"'],
    ['token: { env: TOKEN }', { TOKEN: 'short' }, 'is too short to be a token'],
  ])('written as %s is refused at its place', async (text, env: Record<string, string>, message) => {
    expect((await problems(github(text), env)).join('\n')).toMatch(/^4:\d+.*/)
    expect((await problems(github(text), env)).join('\n')).toContain(message)
  })
})

test('the example names every top-level key of the file', async () => {
  const text = await readFile('examples/penstock.config.yml', 'utf8')

  for (const key of [
    'instance',
    'server',
    'database',
    'temporal',
    'trust_temporal_access',
    'unplaceable',
    'people',
    'repositories',
    'pools',
  ]) {
    expect(text).toMatch(new RegExp(`^${key}:`, 'm'))
  }
})

describe('a form', () => {
  const withForm = (form: string) => `
people: { ben: { roles: [approver] } }
${REPOSITORY.trim()}
    environments:
      production:
        approvers: [ben]
        form: ${form}
`

  test('is read with what is meant where nothing is said', async () => {
    const fields =
      '{ ticket: { type: text, required: true, pattern: "CHG-[0-9]+" }, canary: { type: number, min: 0, default: 10 }, regions: { type: several, options: [eu, us], default: [eu] }, sure: { type: yes_no } }'

    const config = await loadConfig({
      file: await write(withForm(`{ instructions: "Look", fields: ${fields} }`)),
      env: { HOOK, PENSTOCK_DATA: dir },
    })

    expect(config.repositories['acme/web']?.environments.production?.gate?.form).toEqual({
      instructions: 'Look',
      fields: [
        { name: 'ticket', type: 'text', required: true, pattern: 'CHG-[0-9]+', longest: 1000 },
        { name: 'canary', type: 'number', required: false, min: 0, whole: false, default: 10 },
        { name: 'regions', type: 'several', required: false, options: ['eu', 'us'], default: ['eu'] },
        { name: 'sure', type: 'yes_no', required: false },
      ],
    })
  })

  test('is refused with everything that is wrong in it, each at its place', async () => {
    const form = `
          fields:
            a-b: { type: text, min: 1 }
            a_b: { type: number, min: 5, max: 1 }
            pick: { type: choice }
            many: { type: several, options: [x, x], default: [y] }
            pattern: { type: text, pattern: "(?=a)" }
            back: { type: text, pattern: "(a)\\\\1" }
            sure: { type: yes_no, default: "yes" }`

    const messages = await problems(withForm(form))

    const where = 'repositories.acme/web.environments.production.form.fields'
    expect(messages.map((line) => line.replace(/^[0-9:]+ /, '').replace(where, '…'))).toEqual([
      '….a-b.min: goes with type number, not with text',
      '….a_b: "a_b" and "a-b" would both be CI_GATE_A_B in later jobs; rename one',
      '….a_b.max: is less than min, 5: no number is right',
      '….pick: a field of type choice needs `options`',
      '….many.options: names an option twice',
      '….many.default: ["y"] is no value that the field itself takes',
      expect.stringContaining('….pattern.pattern: is no pattern that can be matched in linear time'),
      expect.stringContaining('….back.pattern: is no pattern that can be matched in linear time'),
      '….sure.default: "yes" is no value that the field itself takes',
    ])
  })

  test('says nothing where nobody is asked', async () => {
    const text = withForm('{ fields: { a: { type: yes_no } } }').replace('        approvers: [ben]\n', '')

    expect(await problems(text)).toEqual([expect.stringContaining('form says nothing without approvers; name them')])
  })

  test('names of pools, properties and credentials that a job could not tell apart are refused', async () => {
    const text = `pools:
  rig: { units: { r1: { properties: { fence: 1, a-b: x, a.b: y, 2-x: z }, credentials: { A_B: { env: HOOK } } } } }
  rig-2: { units: {} }
`
    const refused = await loadConfig({ file: await write(text), env: { HOOK, PENSTOCK_DATA: dir } }).catch(
      (err: unknown) => (err instanceof ConfigInvalid ? err.diagnostics.map(({ message }) => message) : [String(err)]),
    )

    expect(refused).toEqual([
      ...['fence', 'a.b', '2-x'].map((word) => expect.stringContaining(`properties: "${word}" has a meaning`)),
      expect.stringContaining('credentials: "A_B" has a meaning'),
      expect.stringContaining('the variables of "rig-2" from those of pool "rig"'),
    ])
  })
})
