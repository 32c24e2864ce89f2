import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'
import { checkWhereFor, evaluateWhere, propertyTypes } from '../../src/pools/where.ts'
import { parseSpec } from '../../src/spec/parse.ts'

test('the example of docs/pools.md is a right file, and its job finds its units', async () => {
  const text = await readFile(new URL('../../docs/pools.md', import.meta.url), 'utf8')
  const blocks = [...text.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, block = '']) => block)
  const example = (name: string) => blocks.find((one) => one.startsWith(`# ${name}`)) ?? ''
  const dir = await mkdtemp(join(tmpdir(), 'pst-docs-'))
  try {
    const file = join(dir, 'penstock.config.yml')
    await writeFile(file, example('penstock.config.yml'))

    const { pools } = await loadConfig({ file, env: { PENSTOCK_DATA: dir, RIG_1_PASSWORD: 'a-password' } })
    const spec = parseSpec(example('.penstock.yml'))

    const units = (pools[0]?.units ?? []).map(({ name, ...unit }) => ({ ...unit, unit: name }))
    const where = spec.kind === 'ok' ? (spec.spec.test[0]?.pools[0]?.where ?? '') : ''
    expect(units.map(({ unit }) => unit)).toEqual(['rig-1', 'rig-2'])
    expect(checkWhereFor(where, propertyTypes(units))).toBeUndefined()
    expect(units.map((unit) => evaluateWhere(where, unit).fits)).toEqual([true, true])
  } finally {
    await rm(dir, { recursive: true })
  }
})
