import { specJsonSchema } from './schema.ts'

interface Schema {
  readonly $ref?: string
  readonly type?: string
  readonly description?: string
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly minimum?: number
  readonly maximum?: number
  readonly maxItems?: number
  readonly anyOf?: readonly Schema[]
  readonly allOf?: readonly Schema[]
  readonly items?: Schema
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: Schema | boolean
  readonly definitions?: Readonly<Record<string, Schema>>
}

/** `docs/spec.md`: an introduction, and the tables of the schema. */
export function specReference(): string {
  const schema: Schema = specJsonSchema()
  const definitions = Object.entries(schema.definitions ?? {})
  return [
    INTRODUCTION.trim(),
    '## All keys',
    '### The file',
    schema.description ?? '',
    keyTable(schema),
    ...definitions.flatMap(([name, definition]) => [
      `### ${name}`,
      definition.description ?? '',
      ...(definition.properties ? [keyTable(definition)] : [`Written as: ${typeText(definition)}.`]),
    ]),
    '',
  ]
    .join('\n\n')
    .replace(/\n+$/, '\n')
}

function keyTable(schema: Schema): string {
  const rows = Object.entries(schema.properties ?? {}).map(([key, property]) => {
    const required = schema.required?.includes(key) ? ' (required)' : ''
    const referred = property.description ? '' : 'See there.'
    return `| \`${key}\`${required} | ${cell(typeText(property))} | ${cell(property.description ?? referred)} |`
  })
  return ['| key | value | meaning |', '| --- | --- | --- |', ...rows].join('\n')
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|')
}

function typeText(schema: Schema): string {
  const ref = schema.$ref ?? schema.allOf?.[0]?.$ref
  if (ref) {
    const name = ref.split('/').at(-1) ?? ref
    return `[${name}](#${name.toLowerCase()})`
  }
  if (schema.anyOf) return schema.anyOf.map(typeText).join(' or ')
  if (schema.enum) return schema.enum.map((one) => `\`${String(one)}\``).join(' or ')
  if (schema.const !== undefined) return `\`${String(schema.const)}\``
  switch (schema.type) {
    case 'array':
      return `list of (${schema.items ? typeText(schema.items) : 'anything'})${schema.maxItems ? `, at most ${schema.maxItems}` : ''}`
    case 'object':
      if (schema.properties) {
        return `mapping with ${Object.keys(schema.properties)
          .map((key) => `\`${key}\``)
          .join(', ')}`
      }
      return typeof schema.additionalProperties === 'object'
        ? `mapping of names to (${typeText(schema.additionalProperties)})`
        : 'mapping'
    case 'number':
    case 'integer':
      return schema.minimum === undefined
        ? 'number'
        : `${schema.type === 'integer' ? 'whole number' : 'number'} ${schema.minimum} to ${schema.maximum}`
    default:
      return schema.type ?? 'anything'
  }
}

const INTRODUCTION = `
# The spec file

\`.penstock.yml\` in the root of a repository says how it is tested, built and deployed. Check it with \`penstock lint\`;
see what it becomes with \`penstock plan --event push --branch master\`. Editors complete and check it with
[\`schema/penstock.schema.json\`](../schema/penstock.schema.json): put this in the first line of the file:

\`\`\`yaml
# yaml-language-server: $schema=https://your-server/schema/penstock.schema.json
\`\`\`

(any path or address of that file will do; \`penstock schema\` prints it).

The part below "All keys" is made from the schema by the tests; it is the whole grammar.

## Short form

\`\`\`yaml
image: python:3.12-slim
test:
  - pip install -e .[test]
  - pytest -q
\`\`\`

One job named \`test\` with one step of two commands. It is the same as:

\`\`\`yaml
test:
  test:
    image: python:3.12-slim
    run:
      - pip install -e .[test]
      - pytest -q
\`\`\`

## Long form

\`\`\`yaml
image: python:3.12-slim
test:
  lint: ruff check .
  unit:
    needs: lint
    timeout: 15m
    resources: { cpus: 2, memory: 1Gi }
    run:
      - pip install -e .[test]
      - name: tests
        run: pytest -q --junitxml=report.xml
        timeout: 10m
    reports: { junit: report.xml }
deliver:
  api: { docker: ., to: registry.example/team/api }
e2e:
  browser:
    pool: { rig: { count: 1, labels: [arch=arm64] } }
    run: ./e2e.sh "$STAGING_URL"
deploy:
  staging: { deliverable: api }
  production: { deliverable: api }
\`\`\`

## When what runs

| event | stages |
| --- | --- |
| pull request, push to a feature branch | \`test\` |
| push to the candidate branch | \`test\`, \`deliver\`, deployment of the environment without a gate, \`e2e\`, then, if the file deploys the production environment: \`signoff\` (people approve) and \`promote\` (the production branch is moved to exactly this commit) |
| push to the production branch | deployment of the production environment |

Environments and their gates are the operator's. A file may deploy one without a gate, and the production environment: the
one with a gate, or, of several with a gate, the one that the operator's file names as \`production_environment\`. No file
chooses which gate guards the production branch: to deploy another with a gate is an error that names the one that may be,
and so is an environment that the operator has not declared.

## A job, or a mapping of jobs?

Under \`test\` and \`e2e\`, a string or a list is one job, named like the stage; a mapping is always job names to jobs.
The keys of a job (\`run\`, \`image\`, …) cannot be job names (but \`manual\` can, see below), so a job written where jobs are expected is an error that
says how to name it. Under \`deploy\`, keys are environments; under \`deliver\`, names of deliverables.

## Commands and steps

Adjacent plain commands are one step: one shell, which stops at the first command that fails, so \`cd\` and \`export\`
carry over to the next command. A mapping with \`run\` is a step of its own. Adjacent steps with the same image share one
container; all steps of a job share \`/workspace\`, where the checkout is.

Nothing is replaced inside of commands: \`\${{ … }}\` is an error. Facts about the change reach steps as variables
(\`CI_COMMIT\`, \`CI_BRANCH\`, …), which no text of a stranger can break out of: write \`"$CI_BRANCH"\`, in quotes.

## Variables and secrets

Variables of a step win over those of its job, and those over the ones of the file. Numbers and booleans are passed as they are
written; where YAML would change them (\`1.20\` is \`1.2\`, \`010\` is \`10\`) that is an error, and quotes are right.

Secrets are named, never written: \`secrets: [NPM_TOKEN]\` gives the file \`/run/secrets/NPM_TOKEN\` and its path in
\`NPM_TOKEN_FILE\`; \`secrets: { NPM_TOKEN: env }\` also sets the variable.

## Tests by people

\`manual\` makes a job of a checklist: people try what it says, and their answers are its outcome. Directly in a stage it is
a job of that name; a job of another name has it as its only key beside \`needs\` and \`pool\`:

\`\`\`yaml
image: python:3.12-slim
e2e:
  browser: ./e2e.sh "$STAGING_URL"
  manual:
    needs: browser
    checklist: [Log in on a phone, Export a report]
  printing:
    needs: browser
    pool: printer
    manual:
      by: [tess, role:approver]
      expires: 2d
      checklist:
        - name: Print the report
          instructions: Open **Reports**, choose any, press *Print*. Nothing may be cut off.
        - { name: Print in color, required: false }
\`\`\`

Who answers what, and how, is in [manual tests](manual-tests.md).

## When a job is lost

A node can die while a job runs. With \`on_lost: fail\` (the default) the job ends as *errored*, because nobody knows how far
it came; with \`on_lost: retry\` it runs again, at most twice. Choose \`retry\` for jobs that may safely run twice, such as tests.

## Limits

Over a limit is an error, and nothing is cut: 256 KiB, UTF-8, one document, nested 32 levels deep, 10,000 nodes after
aliases; no tags, merge keys, directives, or keys written twice. At most 100 jobs a stage, 500 steps a job; timeouts between
1 second and 24 hours. Each list and mapping has a limit of its own (below).

\`matrix\`, \`services\`, \`cache\`, \`artifacts\` and \`when\` are not supported in this version. A spec can never add
mounts, devices, networks, ports or privileges to its containers.
`
