import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { operatorReference } from '../../src/config/reference.ts'

test('docs/operator.md is what the schema says (`npx vitest run test/config/reference.test.ts -u` writes it)', async () => {
  const text = operatorReference(await readFile('examples/penstock.config.yml', 'utf8'))

  await expect(text).toMatchFileSnapshot('../../docs/operator.md')
})
