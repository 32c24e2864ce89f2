import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'
import { parseSpec } from '../../src/spec/parse.ts'

test('the examples of docs/approvals.md are what they are said to be: an operator’s file, and a part of a spec', async () => {
  const text = await readFile(new URL('../../docs/approvals.md', import.meta.url), 'utf8')
  const blocks = [...text.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, block = '']) => block)
  const [file = ''] = blocks.filter((one) => one.startsWith('# penstock.config.yml'))
  const [signoff = ''] = blocks.filter((one) => one.startsWith('signoff:'))
  const dir = await mkdtemp(join(tmpdir(), 'pst-docs-'))
  try {
    await writeFile(join(dir, 'penstock.config.yml'), file)
    const env = { PENSTOCK_DATA: dir, GITHUB_TOKEN: 'ghp_12345678', WEB_HOOK_SECRET: 'a secret that is long enough' }

    const config = await loadConfig({ file: join(dir, 'penstock.config.yml'), env })
    const spec = parseSpec(`image: alpine\ndeploy: { production: ./deploy }\n${signoff}`)

    expect(config.repositories['acme/web']?.environments.production?.gate).toMatchObject({
      approvals: [{ count: 1 }, { from: ['role:approver', 'forge:maintain'], count: 2 }],
      onExpiry: 'cancel',
      remindersMs: [86_400_000, 3 * 86_400_000],
      window: { hours: { zone: 'Europe/Berlin' }, freezes: [{ reason: 'year end' }] },
    })
    expect(spec).toMatchObject({ kind: 'ok', spec: { signoff: { approvals: [{ from: ['team:qa'], count: 1 }] } } })
  } finally {
    await rm(dir, { recursive: true })
  }
})
