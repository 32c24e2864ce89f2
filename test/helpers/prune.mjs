/**
 * Cuts a forge's description of its API down to the calls and events that its fake knows: what its routes name. Used by the
 * `prune.mjs` of each forge.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** What says nothing about validity. */
const PROSE = new Set(['description', 'title', 'summary', 'example', 'examples', 'externalDocs', 'deprecated', 'tags'])
/** Under these, keys are names that somebody chose, not words of the description's language. */
const NAMED = new Set(['properties', 'patternProperties', 'responses', 'content', 'paths', 'schemas', 'parameters'])
/** Values, kept as they are. */
const VALUES = new Set(['enum', 'const', 'default', 'required'])

/** Of `description` the calls that the files in `routes` name; `webhooks`: which of its events; `also`: further schemas. */
export function prune({ description, routes, target, from, license, webhooks = /^$/, also = [] }) {
  const kept = { paths: {}, 'x-webhooks': {}, components: {} }
  for (const { method, template } of callsIn(routes)) {
    const operation = description.paths[template]?.[method]
    if (operation === undefined) throw new Error(`${method} ${template} is no call of this API`)
    kept.paths[template] ??= {}
    kept.paths[template][method] = pruned({
      parameters: operation.parameters ?? [],
      requestBody: operation.requestBody,
      responses: withoutHeaders(operation.responses),
    })
  }
  for (const [name, { post }] of Object.entries(description['x-webhooks'] ?? {})) {
    if (!webhooks.test(name)) continue
    kept['x-webhooks'][name] = { post: pruned({ requestBody: post.requestBody, responses: {} }) }
  }
  for (const name of also) keepReferred(`#/components/schemas/${name}`)
  keepAllReferred(kept)
  writeFileSync(target, written())

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
    const info = { title: description.info.title, license, 'x-from': `${from}, pruned by prune.mjs` }
    const groups = Object.entries(kept.components).map(([group, entries]) => `"${group}":${lines(entries)}`)
    const webhooks = Object.keys(kept['x-webhooks']).length === 0 ? '' : `"x-webhooks":${lines(kept['x-webhooks'])},\n`
    return `{"openapi":"${description.openapi}","info":${JSON.stringify(info)},
"paths":${lines(kept.paths)},
${webhooks}"components":{${groups.join(',\n')}}}
`
  }
}

/** Read from its routes, which name calls as the forge's description does. What cannot be read is no call, and ends this. */
function callsIn(routes) {
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

function lines(entries) {
  const sorted = Object.entries(entries).toSorted(([one], [other]) => (one < other ? -1 : 1))
  return `{\n${sorted.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',\n')}}`
}
