import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { runCli } from '../src/cli/program.ts'
import { loadConfig } from '../src/config/load.ts'
import type { Form } from '../src/core/form.ts'
import { gateOn, sendVotes } from './api/gate.ts'
import { type Running, startServer } from './api/server.ts'

/** What docs/approvals.md shows is done here as it stands there. */
const PAGE = await readFile('docs/approvals.md', 'utf8')

function blocks(section: string, language: string): readonly string[] {
  const [, text = ''] = PAGE.split(`## ${section}\n`)
  const [own = ''] = text.split('\n## ')
  return [...own.matchAll(new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, 'gs'))].map(([, block]) => block ?? '')
}

let dir: string
let server: Running
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pst-docs-'))
  server = await startServer()
})
afterEach(async () => {
  await server.stop()
  await rm(dir, { recursive: true })
})

async function formOfPage(): Promise<Form> {
  const [yaml = ''] = blocks('Form', 'yaml')
  const file = join(dir, 'penstock.config.yml')
  const indented = yaml.replace(/^/gm, '    ')
  await writeFile(
    file,
    `people: { ben: { roles: [approver] } }
repositories:
  acme/web:
    forge: git
    url: /srv/web.git
    webhook_secrets: [{ env: HOOK }]
${indented}`,
  )
  const config = await loadConfig({ file, env: { HOOK: 'a-webhook-secret-of-32-bytes-....', PENSTOCK_DATA: dir } })
  const form = config.repositories['acme/web']?.environments.production?.gate?.form
  if (form === undefined) throw new Error('the page shows no form')
  return form
}

/** Each line of the block, by this person; votes arrive meanwhile, as the workflow brings them there. */
async function play(person: string, lines: readonly string[]) {
  const arriving = setInterval(() => void sendVotes(server), 50)
  try {
    const said: { readonly line: string; readonly out: string; readonly err: string; readonly code: number }[] = []
    for (const line of lines) {
      const args = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? '').slice(1)
      const one = { line, out: '', err: '', code: 0 }
      await runCli(args, {
        env: { PENSTOCK_DATA: dir, PENSTOCK_URL: server.url, PENSTOCK_TOKEN: await server.token(person) },
        terminal: {
          out: (text) => {
            one.out += text
          },
          err: (text) => {
            one.err += text
          },
          exit: (code) => {
            one.code = code
          },
        },
        isTty: false,
        raw: (bytes) => {
          one.out += Buffer.from(bytes).toString()
        },
        now: Date.now,
      })
      said.push(one)
    }
    return said
  } finally {
    clearInterval(arriving)
  }
}

const linesOf = (block: string | undefined) => (block ?? '').trim().split('\n')

describe('docs/approvals.md', () => {
  test('shows a form that is read, filled in, and checked as it says', async () => {
    const form = await formOfPage()
    for (let n = 1; n < 7; n++) await server.run()
    const { run } = await gateOn(server, { form })
    expect(run.number).toBe(7)

    const [seen, approved] = await play('ben', linesOf(blocks('Form', 'sh')[0]))

    expect(seen).toMatchObject({ code: 0, out: expect.stringContaining('| Look at **staging** first') })
    expect(seen?.out).toMatch(/ticket +text, required +Change ticket/)
    expect(approved).toMatchObject({ code: 0, out: 'your vote counts; the gate is approved\n' })
    const [gate] = await server.store.gates.ofRun(run.id)
    expect(gate?.votes[0]?.fields).toEqual({
      ...{ ticket: 'CHG-42', canary: 10, window: 'now', regions: ['eu', 'us'], announced: true },
    })
  })

  test('shows what is missing of which group, and who may answer', async () => {
    const people = ['ada', 'ben', 'cyd']
    const groups = [
      { from: ['team:qa'], count: 1, members: ['ben', 'tess'] },
      { from: ['role:approver', 'forge:maintain'], count: 2, members: people },
    ]
    const { run } = await gateOn(server, { groups, quorum: 3, approvers: [...people, 'tess'], excluded: [] })
    const token = await server.store.gates.mintToken(run.id, 'approval', 'ada', 'cli', 60_000)
    await server.store.gates.vote({
      ...{ key: '1', run: run.id, gate: 'approval', answer: 'approve', claimedBy: 'ada', token, channel: 'cli' },
      trustSignals: false,
    })

    const [one, all] = await play('ben', [`penstock gates ${run.number}`, 'penstock gates'])

    expect(one?.out).toContain(blocks('Rules', 'text')[0])
    expect(all?.out).toMatch(
      /approval +production .* 1 of 3 +1 of team:qa, 1 of role:approver or forge:maintain +ben, cyd, tess/,
    )
  })

  test('shows how several gates are answered', async () => {
    for (let n = 1; n < 7; n++) await server.run()
    for (let n = 7; n < 10; n++) await gateOn(server)

    const [said] = await play('ben', linesOf(blocks('Several gates at once', 'sh')[0]))

    expect(said).toMatchObject({ code: 0 })
    expect(said?.out.match(/on its way/g)).toHaveLength(3)
    await vi.waitFor(async () => {
      await sendVotes(server)
      expect(await server.store.gates.waiting()).toEqual([])
    })
  })

  test('shows how the glass is broken, and looked at afterwards by somebody else', async () => {
    for (let n = 1; n < 8; n++) await server.run()
    const { run } = await gateOn(server, { quorum: 2 })
    const [breaking = '', listing = '', reviewing = ''] = linesOf(blocks('Break-glass', 'sh')[0])

    const [broken, listed] = await play('ops', [breaking, listing])
    const [own] = await play('ops', [reviewing])
    const [reviewed, after, shown, view] = await play('ben', [
      reviewing,
      listing,
      `penstock gates ${run.number}`,
      `penstock run view ${run.number}`,
    ])

    expect(broken).toMatchObject({ code: 0, out: 'your vote counts; the gate is approved\n' })
    expect(listed?.out).toMatch(/to be reviewed.*acme\/web#8 +approval +ops +the site is down/s)
    expect(own).toMatchObject({ code: 4, err: expect.stringContaining('another person must review it') })
    expect(reviewed).toMatchObject({ code: 0 })
    expect(after?.out).not.toContain('to be reviewed')
    expect(shown?.out).toContain('approval was passed by break-glass by ops: the site is down')
    expect(shown?.out).toContain('reviewed by ben: it was needed')
    expect(view?.out).toContain('approval was passed by break-glass by ops')
  })
})
