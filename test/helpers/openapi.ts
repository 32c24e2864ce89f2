import { readFileSync } from 'node:fs'
import { Ajv, type ValidateFunction } from 'ajv'
import addFormats from 'ajv-formats'
import type { Exchange } from '../../src/embedded/fake-github/server.ts'

interface Parameter {
  readonly $ref?: string
  readonly name: string
  readonly in: 'path' | 'query' | 'header'
  readonly required?: boolean
  readonly schema: object
}

interface Content {
  readonly $ref?: string
  readonly content?: { readonly 'application/json'?: { readonly schema: object } }
}

interface Operation {
  readonly parameters?: readonly Parameter[]
  readonly requestBody?: Content & { readonly required?: boolean }
  readonly responses: Readonly<Record<string, Content>>
}

type Json = Record<string, unknown>

/** What an exchange is held against; `bent` answers are not. */
export type Held = Pick<
  Exchange,
  'method' | 'template' | 'path' | 'query' | 'requestBody' | 'status' | 'responseBody' | 'bent'
>

/** Refusals that a description names for no call in particular, because any call may get them. */
const ANYWHERE = new Set([401, 403, 404, 422])

/** OpenAPI 3.0 says `nullable` where JSON Schema has a type of its own. */
function toJsonSchema(node: unknown): void {
  if (typeof node !== 'object' || node === null) return
  for (const child of Object.values(node)) toJsonSchema(child)
  const schema = node as Json
  if (schema.nullable !== true) return
  const { nullable: _, ...rest } = schema
  for (const key of Object.keys(schema)) delete schema[key]
  schema.anyOf = [{ type: 'null' }, rest]
}

/**
 * Servers written in Go write `null` for a thing or a list that there is none of, and an empty text for an address, which
 * their descriptions do not say. What they are sent they read so, too.
 */
function allowZeroes(node: unknown): void {
  if (typeof node !== 'object' || node === null) return
  for (const child of Object.values(node)) allowZeroes(child)
  const { properties, schema } = node as { readonly properties?: Json; readonly schema?: Json }
  for (const [name, written] of Object.entries(properties ?? {})) {
    const { $ref, type } = written as { readonly $ref?: string; readonly type?: string }
    if (properties && ($ref !== undefined || type === 'array')) properties[name] = orNull(written)
  }
  if (schema?.type === 'array') (node as Json).schema = orNull(schema)
}

function orNull(schema: unknown): Json {
  return { anyOf: [{ type: 'null' }, schema] }
}

export function pointer(...keys: readonly string[]): string {
  return keys.map((key) => `/${encodeURIComponent(key.replaceAll('~', '~0').replaceAll('/', '~1'))}`).join('')
}

/** A forge's own description of its API, as `prune.mjs` cuts it: what a request may hold and an answer must hold. */
export function readDescription({
  file,
  forge,
  errors,
  zeroes = false,
}: {
  readonly file: URL
  readonly forge: string
  /** The schema of refusals that the description does not name; absent: they may hold anything. */
  readonly errors?: string
  /** See `allowZeroes`. */
  readonly zeroes?: boolean
}) {
  const description = JSON.parse(readFileSync(file, 'utf8')) as {
    readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
    readonly 'x-webhooks'?: Readonly<Record<string, { readonly post: Operation }>>
  }
  toJsonSchema(description)
  if (zeroes) allowZeroes(description)
  const ajv = new Ajv({ strict: false, validateSchema: false, inlineRefs: false, logger: false })
  // biome-ignore lint/suspicious/noExplicitAny: the module's type is that of its CommonJS form.
  ;(addFormats as any)(ajv)
  const isUri = ajv.formats.uri
  if (zeroes && typeof isUri === 'function') {
    ajv.addFormat('uri', (text: string) => text === '' || isUri(text) === true)
  }
  ajv.addSchema(description as unknown as Json, 'forge')
  const compiled = new Map<string, ValidateFunction>()

  function resolve<T extends { readonly $ref?: string }>(
    one: T,
    at: string,
  ): { readonly value: T; readonly at: string } {
    if (one.$ref === undefined) return { value: one, at }
    const path = one.$ref.slice(2).split('/')
    const value = path.reduce<unknown>((node, key) => (node as Json)[key], description)
    return { value: value as T, at: `/${path.join('/')}` }
  }

  /** What is wrong with a value, by the schema at that place of the description. */
  function wrongs(at: string, value: unknown): readonly string[] {
    const validate = compiled.get(at) ?? ajv.compile({ $ref: `forge#${at}` })
    compiled.set(at, validate)
    if (validate(value)) return []
    return (validate.errors ?? []).slice(0, 5).map((one) => `${one.instancePath || '/'} ${one.message}`)
  }

  function requestProblems(operation: Operation, at: string, { query, requestBody }: Held): readonly string[] {
    const parameters = (operation.parameters ?? []).map((one, index) =>
      resolve(one, `${at}${pointer('parameters', String(index))}`),
    )
    const queries = parameters.filter(({ value }) => value.in === 'query')
    const wrongQueries = [...query].flatMap(([key, text]) => {
      const known = queries.find(({ value }) => value.name === key)
      if (known === undefined) return [`the parameter "${key}" is not known`]
      const isNumber = 'type' in known.value.schema && known.value.schema.type === 'integer'
      return wrongs(`${known.at}/schema`, isNumber ? Number(text) : text)
    })
    const { value: body, at: place } = resolve(operation.requestBody ?? {}, `${at}${pointer('requestBody')}`)
    if (operation.requestBody === undefined) {
      return requestBody === undefined ? wrongQueries : [...wrongQueries, 'takes no body']
    }
    if (requestBody === undefined) {
      return operation.requestBody.required ? [...wrongQueries, 'needs a body'] : wrongQueries
    }
    const written = body.content?.['application/json']?.schema as { readonly $ref?: string } | undefined
    const whole = `${place}${pointer('content', 'application/json', 'schema')}`
    const { properties: known } = resolve(written ?? {}, whole).value as { properties?: Json }
    const unknown = Object.keys(requestBody as object).filter(
      (key) => known !== undefined && !Object.hasOwn(known, key),
    )
    return [...wrongQueries, ...unknown.map((key) => `the key "${key}" is not known`), ...wrongs(whole, requestBody)]
  }

  function refusalProblems(body: unknown): readonly string[] {
    return errors === undefined ? [] : wrongs(pointer('components', 'schemas', errors), body)
  }

  function responseProblems(operation: Operation, at: string, { status, responseBody }: Held): readonly string[] {
    const written = operation.responses[String(status)]
    if (written === undefined) {
      return ANYWHERE.has(status) ? refusalProblems(responseBody) : [`the status ${status} is not one of this call`]
    }
    const { value, at: place } = resolve(written, `${at}${pointer('responses', String(status))}`)
    if (value.content?.['application/json'] === undefined) {
      if (status >= 400) return refusalProblems(responseBody)
      return responseBody === undefined ? [] : ['has no body']
    }
    return wrongs(`${place}${pointer('content', 'application/json', 'schema')}`, responseBody)
  }

  return {
    wrongs,
    /** All that is wrong with a request and its answer. */
    problemsOf(exchange: Held): readonly string[] {
      const { method, template, path } = exchange
      const operation = template === undefined ? undefined : description.paths[template]?.[method.toLowerCase()]
      if (template === undefined || operation === undefined) {
        return [`${method} ${path} is no call of the API of ${forge}`]
      }
      const at = pointer('paths', template, method.toLowerCase())
      const name = `${method} ${template}`
      return [
        ...requestProblems(operation, at, exchange).map((one) => `request ${name}: ${one}`),
        ...(exchange.bent ? [] : responseProblems(operation, at, exchange).map((one) => `answer ${name}: ${one}`)),
      ]
    },
    /** All that is wrong with the payload of a delivery, where the description has deliveries. */
    payloadProblems(event: string, action: string | null, payload: unknown): readonly string[] {
      const name = [event, action].filter(Boolean).join('-').replaceAll('_', '-')
      if (description['x-webhooks']?.[name] === undefined) return [`delivery ${name}: ${forge} has no such event`]
      const schema = pointer('x-webhooks', name, 'post', 'requestBody', 'content', 'application/json', 'schema')
      return wrongs(schema, payload).map((one) => `delivery ${name}: ${one}`)
    },
  }
}
