import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { parseSpec } from '../../src/spec/parse.ts'
import { specReference } from '../../src/spec/reference.ts'
import { specJsonSchema } from '../../src/spec/schema.ts'

const SCHEMA_FILE = new URL('../../schema/penstock.schema.json', import.meta.url).pathname
const REFERENCE_FILE = new URL('../../docs/spec.md', import.meta.url).pathname

function expectFile(path: string, text: string): void {
  if (process.env.UPDATE_GOLDEN === '1') {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, text)
  }
  expect(readFileSync(path, 'utf8')).toBe(text)
}

test('the published JSON Schema is the one of the code', () => {
  expectFile(SCHEMA_FILE, `${JSON.stringify(specJsonSchema(), null, 2)}\n`)
})

test('the published reference is the one of the code', () => {
  expectFile(REFERENCE_FILE, specReference())
})

test('the JSON Schema is draft 7, knows every key of a job, and refuses others', () => {
  const schema = specJsonSchema() as {
    $schema: string
    definitions: Record<string, { properties?: object; additionalProperties?: unknown; required?: string[] }>
  }

  expect(schema.$schema).toBe('http://json-schema.org/draft-07/schema#')
  const job = schema.definitions.JobObject
  expect(Object.keys(job?.properties ?? {}).sort()).toEqual(
    'constraints env image needs on_lost pool reports resources run secrets timeout workdir'.split(' '),
  )
  expect(job?.additionalProperties).toBe(false)
  expect(job?.required).toEqual(['run'])
})

test('every YAML example of the reference is a right spec', () => {
  const examples = [...specReference().matchAll(/```yaml\n([\s\S]*?)```/g)]
    .map((match) => match[1] ?? '')
    .filter((text) => parse(text) !== null)

  expect(examples.length).toBeGreaterThanOrEqual(3)
  for (const text of examples) expect(parseSpec(text)).toMatchObject({ kind: 'ok', warnings: [] })
})
