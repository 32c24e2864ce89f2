import { z } from 'zod'
import { OperatorFile } from './schema.ts'

interface JsonSchema {
  readonly type?: string
  readonly description?: string
  readonly default?: unknown
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly pattern?: string
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: JsonSchema | boolean
  readonly items?: JsonSchema
  readonly anyOf?: readonly JsonSchema[]
}

/** The reference of the operator's file, from its schema, with the example. */
export function operatorReference(example: string): string {
  const schema = z.toJSONSchema(OperatorFile, { target: 'draft-7', io: 'input', unrepresentable: 'any' }) as JsonSchema
  return `# The operator's file

<!-- Generated from src/config/schema.ts by test/config/reference.test.ts. Change the schema, not this file. -->

\`penstock.config.yml\` says what this installation is: its people, repositories, secrets, environments and pools. It is
checked when the server starts, with every error at once (\`file:line:column\`). Unknown keys are errors. Secrets are never
written into it: they are named, as \`{ env: NAME }\` (then \`NAME_FILE\` may hold a path instead) or \`{ file: PATH }\`.

Variables of the environment stand above the file; for each, \`<NAME>_FILE\` may name a file that holds the value:
\`PENSTOCK_DATA\` (data directory, \`.penstock\` unless said), \`PENSTOCK_INSTANCE\`, \`PENSTOCK_LISTEN\`, \`PENSTOCK_URL\`,
\`PENSTOCK_DATABASE_URL\`, \`PENSTOCK_TEMPORAL_ADDRESS\` (or \`TEMPORAL_ADDRESS\`), \`PENSTOCK_TEMPORAL_NAMESPACE\`,
\`PENSTOCK_TEMPORAL_UI\`, \`PENSTOCK_WORKER_TOKEN\` (at least 16 bytes; without it no node's worker can reach the server).

## Example

\`\`\`yaml
${example.trimEnd()}
\`\`\`

## Keys

| key | value | default | meaning |
| --- | --- | --- | --- |
${rows('', schema).join('\n')}
`
}

function rows(path: string, schema: JsonSchema): readonly string[] {
  const named = Object.entries(schema.properties ?? {}).flatMap(([key, child]) => {
    const name = path === '' ? key : `${path}.${key}`
    const isRequired = child.default === undefined && (schema.required ?? []).includes(key)
    return [row(name, child, isRequired), ...inside(name, child)]
  })
  const any = schema.additionalProperties
  return typeof any === 'object' ? [...named, ...inside(`${path}.<name>`, any)] : named
}

function inside(name: string, schema: JsonSchema): readonly string[] {
  if (schema.type === 'array' && schema.items?.properties) return rows(`${name}[]`, schema.items)
  return [
    ...(schema.anyOf ?? []).filter((one) => !isReference(one)).flatMap((one) => rows(name, one)),
    ...rows(name, schema),
  ]
}

function row(name: string, schema: JsonSchema, isRequired: boolean): string {
  const standard =
    schema.default === undefined ? (isRequired ? 'required' : '') : `\`${JSON.stringify(schema.default)}\``
  return `| \`${name}\` | ${kind(schema).replaceAll('|', '\\|')} | ${standard} | ${schema.description ?? ''} |`
}

function kind(schema: JsonSchema): string {
  if (schema.const !== undefined) return `\`${schema.const}\``
  if (schema.enum) return schema.enum.map((one) => `\`${one}\``).join(' or ')
  if (schema.anyOf) return schema.anyOf.map(kind).join(' or ')
  if (isReference(schema)) return '`{ env }` or `{ file }`'
  if (schema.type === 'array') return `list of ${schema.items ? kind(schema.items) : 'values'}`
  if (schema.type === 'object') return schema.properties ? 'mapping' : 'mapping by name'
  return schema.type ?? 'value'
}

function isReference({ properties }: JsonSchema): boolean {
  return properties !== undefined && Object.keys(properties).sort().join() === 'env,file'
}
