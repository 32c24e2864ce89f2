/**
 * Writes `api.github.com.json`, which lies beside this file: of GitHub's description of its API, as the npm package
 * `@octokit/openapi` has it (MIT license; hundreds of megabytes, therefore no dependency), what the fake GitHub of
 * `src/embedded/fake-github` answers and sends. Fetches the package with `npm pack`:
 *
 *     node test/helpers/github/prune.mjs
 *
 * To be run again, and its result committed, when the fake learns a call or an event, or for a newer VERSION.
 * A call that the description does not have fails the test that makes it.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const PACKAGE = '@octokit/openapi'
const VERSION = '23.0.2'
/** What the fake sends, or GitHub sends in the same matters: event and action. */
const DELIVERIES =
  /^(push|ping|pull-request-(opened|closed|reopened|synchronize|edited|(un)?labeled|ready-for-review|converted-to-draft)|pull-request-review-(submitted|edited|dismissed)|issue-comment-(created|edited|deleted)|check-run-.+|merge-group-.+)$/

const here = dirname(fileURLToPath(import.meta.url))
const routes = join(here, '../../../src/embedded/fake-github/routes')
const target = join(here, 'api.github.com.json')

/** What says nothing about validity. */
const PROSE = new Set(['description', 'title', 'summary', 'example', 'examples', 'externalDocs', 'deprecated', 'tags'])
/** Under these, keys are names that somebody chose, not words of the description's language. */
const NAMED = new Set(['properties', 'patternProperties', 'responses', 'content', 'paths', 'schemas', 'parameters'])
/** Values, kept as they are. */
const VALUES = new Set(['enum', 'const', 'default', 'required'])

const description = fetchDescription()
const kept = { paths: {}, 'x-webhooks': {}, components: {} }
for (const { method, template } of callsOfTheFake()) {
  const operation = description.paths[template]?.[method]
  if (operation === undefined) throw new Error(`${method} ${template} is no call of GitHub's API`)
  kept.paths[template] ??= {}
  kept.paths[template][method] = pruned({
    parameters: operation.parameters ?? [],
    requestBody: operation.requestBody,
    responses: withoutHeaders(operation.responses),
  })
}
for (const [name, { post }] of Object.entries(description['x-webhooks'])) {
  if (!DELIVERIES.test(name)) continue
  kept['x-webhooks'][name] = { post: pruned({ requestBody: post.requestBody, responses: {} }) }
}
keepReferred('#/components/schemas/basic-error')
keepAllReferred(kept)
writeFileSync(target, written())

function fetchDescription() {
  const dir = mkdtempSync(join(tmpdir(), 'pst-openapi-'))
  try {
    const [{ filename }] = JSON.parse(
      execFileSync('npm', ['pack', `${PACKAGE}@${VERSION}`, '--json', '--pack-destination', dir], { encoding: 'utf8' }),
    )
    execFileSync('tar', ['xzf', filename, 'package/generated/api.github.com.json'], { cwd: dir })
    return JSON.parse(readFileSync(join(dir, 'package/generated/api.github.com.json'), 'utf8'))
  } finally {
    rmSync(dir, { recursive: true })
  }
}

/** Read from its routes, which name calls as GitHub's description does. What cannot be read is no call, and ends this. */
function callsOfTheFake() {
  return readdirSync(routes).flatMap((file) => {
    const text = readFileSync(join(routes, file), 'utf8')
    const constants = new Map([...text.matchAll(/^const (\w+) = '([^']+)'/gm)].map(([, name, value]) => [name, value]))
    return [...text.matchAll(/^ {4}method: '(\w+)',\s+template: (.+),$/gm)].map(([, method, written]) => ({
      method: method.toLowerCase(),
      template: (constants.get(written) ?? written.slice(1, -1)).replace(/\$\{(\w+)\}/g, (_, name) =>
        constants.get(name),
      ),
    }))
  })
}

function withoutHeaders(responses) {
  return Object.fromEntries(Object.entries(responses).map(([status, { headers: _, ...rest }]) => [status, rest]))
}

function pruned(node) {
  if (Array.isArray(node)) return node.map(pruned)
  if (typeof node !== 'object' || node === null) return node
  const entries = Object.entries(node).filter(([key]) => !PROSE.has(key) && !key.startsWith('x-'))
  return Object.fromEntries(
    entries.map(([key, value]) => {
      if (VALUES.has(key)) return [key, value]
      if (NAMED.has(key) && !Array.isArray(value)) return [key, mapped(value)]
      return [key, pruned(value)]
    }),
  )
}

function mapped(named) {
  return Object.fromEntries(Object.entries(named).map(([name, value]) => [name, pruned(value)]))
}

function keepAllReferred(node) {
  if (typeof node !== 'object' || node === null) return
  if (typeof node.$ref === 'string') keepReferred(node.$ref)
  for (const child of Object.values(node)) keepAllReferred(child)
}

function keepReferred(ref) {
  const [, components, group, name] = ref.split('/')
  if (components !== 'components') throw new Error(`${ref} is not among the components`)
  kept.components[group] ??= {}
  if (kept.components[group][name] !== undefined) return
  const { headers: _, ...found } = description.components[group][name]
  kept.components[group][name] = pruned(found)
  keepAllReferred(kept.components[group][name])
}

/** One line for each path, event and component: a newer version can be read as a difference. */
function written() {
  const { info } = description
  const from = {
    title: info.title,
    license: info.license,
    'x-from': `${PACKAGE} ${VERSION} (MIT), pruned by prune.mjs`,
  }
  const groups = Object.entries(kept.components).map(([group, entries]) => `"${group}":${lines(entries)}`)
  return `{"openapi":"${description.openapi}","info":${JSON.stringify(from)},
"paths":${lines(kept.paths)},
"x-webhooks":${lines(kept['x-webhooks'])},
"components":{${groups.join(',\n')}}}
`
}

function lines(entries) {
  const sorted = Object.entries(entries).toSorted(([one], [other]) => (one < other ? -1 : 1))
  return `{\n${sorted.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',\n')}}`
}
