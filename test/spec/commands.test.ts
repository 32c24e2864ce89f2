import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import { afterAll, expect, test } from 'vitest'
import { lintCommand } from '../../src/cli/commands/lint.ts'
import { planCommand } from '../../src/cli/commands/plan.ts'
import { schemaCommand } from '../../src/cli/commands/schema.ts'
import type { Terminal } from '../../src/cli/commands/spec-file.ts'
import { specDigest } from '../../src/spec/parse.ts'
import { specJsonSchema } from '../../src/spec/schema.ts'

const directory = mkdtempSync(join(tmpdir(), 'penstock-lint-'))
afterAll(() => rmSync(directory, { recursive: true }))

const RIGHT = 'image: alpine\ntest: make\ndeploy: { staging: ./d, production: ./d }\n'
const WRONG = 'image: alpine\ntset: make\nzebra: 1\n'

function file(name: string, text: string): string {
  const path = join(directory, name)
  writeFileSync(path, text)
  return path
}

async function run(command: (terminal: Terminal) => Command, ...args: string[]) {
  const seen = { out: '', err: '', code: 0 }
  const built = command({
    out: (text) => {
      seen.out += text
    },
    err: (text) => {
      seen.err += text
    },
    exit: (code) => {
      seen.code = code
    },
  })
  await built.exitOverride().parseAsync(args, { from: 'user' })
  return seen
}

test('lint of a right spec says ok and ends with 0', async () => {
  const path = file('right.yml', RIGHT)

  expect(await run(lintCommand, path)).toEqual({ out: `${path}: ok\n`, err: '', code: 0 })
})

test('lint of a wrong spec shows every error with its line and ends with 1', async () => {
  const path = file('wrong.yml', WRONG)

  const { out, code } = await run(lintCommand, path)

  expect(code).toBe(1)
  expect(out).toContain(
    `${path}:2:1: error: unknown key "tset"; did you mean "test"? [unknown-key]\n  2 | tset: make\n    | ^^^^\n`,
  )
  expect(out).toContain(`${path}:3:1: error: unknown key "zebra"`)
  expect(out).toContain(`${path}: 2 errors\n`)
})

test('lint --json prints one object with the diagnostics', async () => {
  const path = file('wrong-too.yml', WRONG)

  const { out, code } = await run(lintCommand, path, '--json')

  expect(code).toBe(1)
  expect(JSON.parse(out)).toMatchObject({
    ok: false,
    file: path,
    specDigest: specDigest(WRONG),
    diagnostics: [
      { severity: 'error', code: 'unknown-key', file: path, line: 2, column: 1 },
      { severity: 'error', code: 'unknown-key', file: path, line: 3, column: 1 },
    ],
  })
})

test('a warning does not make a spec wrong', async () => {
  const path = file('warning.yml', 'image: a\ntest:\n  - { run: x, timeout: 2h }\n')

  const { out, code } = await run(lintCommand, path)

  expect(code).toBe(0)
  expect(out).toContain('warning: the step may take 2h')
  expect(out).toContain(`${path}: ok, 1 warning\n`)
})

test('a file that is absent or no file ends with 2', async () => {
  const absent = join(directory, 'absent.yml')
  const folder = join(directory, 'folder')
  mkdirSync(folder)

  expect(await run(lintCommand, absent)).toEqual({ out: '', err: `${absent}: there is no such file\n`, code: 2 })
  expect(await run(lintCommand, folder)).toEqual({ out: '', err: `${folder}: not a regular file\n`, code: 2 })
  expect((await run(planCommand, absent, '--branch', 'x')).code).toBe(2)
})

test('plan prints the stages that a push to the candidate branch runs', async () => {
  const path = file('plan.yml', RIGHT)

  const { out, code } = await run(planCommand, path, '--event', 'push', '--branch', 'master')

  expect(code).toBe(0)
  expect(out.split('\n').filter((line) => /^\S/.test(line))).toEqual([
    'test',
    'staging: deploys',
    'signoff: waits for the approvals that production asks for',
    'promote: fast-forwards branch production to the commit of the run',
  ])
})

test('plan --json prints the plan, for the branches and environments that are given', async () => {
  const path = file('plan-json.yml', 'image: a\ndeploy: { qa: ./d, live: ./d }\n')
  const common = [
    path,
    '--json',
    '--candidate',
    'main',
    '--production',
    'release',
    '--environment',
    'qa',
    '--environment',
    'live:gate',
  ]

  const candidate = JSON.parse((await run(planCommand, ...common, '--branch', 'main')).out)
  const production = JSON.parse((await run(planCommand, ...common, '--branch', 'release')).out)
  const pull = JSON.parse((await run(planCommand, ...common, '--event', 'pull_request', '--branch', 'main')).out)

  const names = (plan: { stages: { name: string }[] }) => plan.stages.map(({ name }) => name)
  expect(names(candidate)).toEqual(['qa', 'signoff', 'promote'])
  expect(names(production)).toEqual(['live'])
  expect(names(pull)).toEqual([])
})

test('plan of a spec that deploys to an unknown environment ends with 1 and names the known ones', async () => {
  const path = file('unknown-environment.yml', 'image: a\ndeploy: { moon: ./d }\n')

  const { out, code } = await run(planCommand, path, '--branch', 'master')

  expect(code).toBe(1)
  expect(out).toContain(
    `${path}:2:11: error: environment "moon" is not declared by the operator; known: staging, production`,
  )
})

test.each([['Prod'], ['a:b'], ['']])('plan refuses the environment %j', async (value) => {
  const path = file('any.yml', RIGHT)

  await expect(
    run(
      (terminal) => planCommand(terminal).configureOutput({ writeErr: () => undefined }),
      path,
      '--branch',
      'x',
      '--environment',
      value,
    ),
  ).rejects.toMatchObject({ code: 'commander.invalidArgument' })
})

test('schema prints the JSON Schema', async () => {
  const { out } = await run(schemaCommand)

  expect(JSON.parse(out)).toEqual(specJsonSchema())
})
