import { isUtf8 } from 'node:buffer'
import { createPrivateKey } from 'node:crypto'
import { createReadStream } from 'node:fs'
import path from 'node:path'
import { durationMs } from './duration.ts'
import { readForm } from './form.ts'
import { resolveGate, suggestion } from './gate.ts'
import {
  lackingProperties,
  poolTwin,
  reservedIn,
  reservedSentence,
  toPoolSettings,
  toUnitSettings,
  twinSentence,
} from './pool.ts'
import { type Diagnostic, printDiagnostic, readYaml, toDiagnostics } from './positions.ts'
import { OperatorFile, type SecretReference } from './schema.ts'
import { Secret } from './secret.ts'
import type {
  Config,
  DatabaseConfig,
  EnvironmentConfig,
  ForgeConfig,
  PoolConfig,
  RepositoryConfig,
  UnitConfig,
} from './types.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** Everything that is wrong with the operator's file and the environment, at once. */
export class ConfigInvalid extends Error {
  override readonly name = 'ConfigInvalid'
  readonly diagnostics: readonly Diagnostic[]
  constructor(diagnostics: readonly Diagnostic[]) {
    super(diagnostics.map(printDiagnostic).join('\n'))
    this.diagnostics = diagnostics
  }
}

const MIN_SECRET = 8
const MIN_WEBHOOK_SECRET = 16
/** Docker takes no secret that is larger. */
const MAX_SECRET = 500 * 1024
const MAX_FILE = 1024 * 1024

/**
 * Reads and checks the operator's file, the variables above it, and every secret they refer to.
 *
 * @throws ConfigInvalid with every error, each at its place
 */
export async function loadConfig(input: { readonly file: string; readonly env: Environment }): Promise<Config> {
  const file = path.resolve(input.file)
  const read = await readText(file)
  if (read.kind !== 'read') {
    const what = read.kind === 'absent' ? '; make it, or name another in PENSTOCK_CONFIG' : ''
    throw new ConfigInvalid([{ at: input.file, message: `${read.message}${what}` }])
  }

  const yaml = readYaml(input.file, read.text)
  if (yaml.syntax.length > 0) throw new ConfigInvalid(yaml.syntax)
  const parsed = OperatorFile.safeParse(yaml.value ?? {}, { reportInput: true })
  if (!parsed.success) throw new ConfigInvalid(sorted(toDiagnostics(yaml, parsed.error.issues, OperatorFile)))

  const problems: Diagnostic[] = []
  const wrong = (where: readonly PropertyKey[], message: string): void => {
    problems.push(yaml.at(where, message))
  }
  const base = path.dirname(file)
  const variables = createVariables(input.env, (at, message) => problems.push({ at, message }))

  const secret = async (
    where: readonly PropertyKey[],
    reference: SecretReference,
    least: number,
    why: string,
  ): Promise<Secret> => {
    const found = await resolveSecret(reference, input.env, base)
    if (found.kind === 'missing') wrong(where, found.message)
    else if (Buffer.byteLength(found.value) < least) wrong(where, `${where.map(String).join('.')}: ${why}`)
    else if (Buffer.byteLength(found.value) > MAX_SECRET)
      wrong(where, `${where.map(String).join('.')}: a secret has at most ${MAX_SECRET} bytes: Docker takes no more`)
    return new Secret(found.kind === 'found' ? found.value : '')
  }

  const raw = parsed.data
  const instance = (await variables.read('PENSTOCK_INSTANCE')) ?? raw.instance
  const listenText = (await variables.read('PENSTOCK_LISTEN')) ?? raw.server.listen
  const listen = parseListen(listenText)
  if (listen === undefined) {
    const message = `"${listenText}" is not host:port, for example 127.0.0.1:7410`
    if (input.env.PENSTOCK_LISTEN !== undefined) problems.push({ at: 'PENSTOCK_LISTEN', message })
    else wrong(['server', 'listen'], `server.listen: ${message}`)
  }
  const dataDir = path.resolve((await variables.read('PENSTOCK_DATA')) ?? '.penstock')
  const people: Config['people'] = Object.fromEntries(
    Object.entries(raw.people).map(([name, person]) => [
      name,
      {
        name,
        roles: person.roles,
        ...(person.github === undefined ? {} : { github: person.github }),
        ...(person.gitea === undefined ? {} : { gitea: person.gitea }),
        ...(person.gitlab === undefined ? {} : { gitlab: person.gitlab }),
        ...(person.git === undefined ? {} : { git: person.git }),
        email: typeof person.email === 'string' ? [person.email] : (person.email ?? []),
      },
    ]),
  )

  const { teams } = raw
  for (const [team, members] of Object.entries(teams)) {
    for (const [index, member] of members.entries()) {
      if (Object.hasOwn(people, member)) continue
      wrong(
        ['teams', team, index],
        `teams.${team}: "${member}" is not among the people${suggestion(member, Object.keys(people))}`,
      )
    }
  }

  const repositories: Record<string, RepositoryConfig> = {}
  for (const [name, one] of Object.entries(raw.repositories)) {
    const where = ['repositories', name]
    const twin = Object.keys(repositories).find((other) => other.toLowerCase() === name.toLowerCase())
    if (twin !== undefined) {
      const message = `"${name}" and "${twin}" differ in case only: a delivery could be for either`
      problems.push(yaml.atKey(['repositories'], name, message))
    }
    const url = resolveUrl(one.url, base)
    if (url.kind === 'refused') wrong([...where, 'url'], `${where.join('.')}.url: ${url.message}`)
    if (one.branches.candidate === one.branches.production) {
      wrong([...where, 'branches'], `${where.join('.')}.branches: candidate and production must differ`)
    }
    const webhookSecrets: Secret[] = []
    for (const [index, reference] of one.webhook_secrets.entries()) {
      const least = `webhook secrets need ${MIN_WEBHOOK_SECRET} bytes or more; shorter ones can be guessed`
      webhookSecrets.push(await secret([...where, 'webhook_secrets', index], reference, MIN_WEBHOOK_SECRET, least))
    }
    const secrets: Record<string, Secret> = {}
    for (const [key, reference] of Object.entries(one.secrets)) {
      const least = `secrets need ${MIN_SECRET} bytes or more; shorter ones cannot be masked safely`
      secrets[key] = await secret([...where, 'secrets', key], reference, MIN_SECRET, least)
    }
    const forge = await resolveForge(one.forge, [...where, 'forge'])
    const environments: Record<string, EnvironmentConfig> = {}
    for (const [key, environment] of Object.entries(one.environments)) {
      const at = [...where, 'environments', key]
      const gate = resolveGate({ people, teams }, { forge }, environment, (path, message, key) =>
        problems.push(
          key === undefined
            ? yaml.at([...at, ...path], `${at.join('.')}${dotted(path)}: ${message}`)
            : yaml.atKey([...at, ...path], key, `${at.join('.')}.${key} ${message}`),
        ),
      )
      const form = readForm(environment.form, (path, message) =>
        wrong([...at, 'form', ...path], `${[...at, 'form', ...path].join('.')}: ${message}`),
      )
      environments[key] = {
        name: key,
        ...(environment.url === undefined ? {} : { url: environment.url }),
        ...(environment.target === undefined ? {} : { target: { swarm: toTarget(environment.target.swarm) } }),
        ...(gate === undefined
          ? {}
          : {
              gate: {
                ...gate,
                ...(form === undefined ? {} : { form }),
                ...(environment.break_glass_by_author ? { breakGlassByAuthor: true } : {}),
              },
            }),
      }
    }
    const production = productionEnvironment(one.production_environment, environments, (message, key) =>
      wrong([...where, key], `${where.join('.')}.${key}: ${message}`),
    )
    repositories[name] = {
      name,
      forge,
      url: url.kind === 'fine' ? url.url : one.url,
      branches: one.branches,
      ...(one.merge_label === undefined ? {} : { mergeLabel: one.merge_label }),
      unknownPusher: one.unknown_pusher,
      webhookSecrets,
      secrets,
      environments,
      ...(production === undefined ? {} : { productionEnvironment: production }),
      dependents: {
        blocking: one.dependents.blocking,
        most: one.dependents.most,
        timeoutMs: durationMs(one.dependents.timeout),
      },
    }
    if (one.dependents.most < one.dependents.blocking.length) {
      const many = `${one.dependents.blocking.length} repositories block, but a candidate may start only ${one.dependents.most} runs`
      wrong([...where, 'dependents', 'most'], `${where.join('.')}.dependents.most: ${many}`)
    }
    for (const [index, other] of one.dependents.blocking.entries()) {
      const known = other !== name && Object.hasOwn(raw.repositories, other)
      const others = Object.keys(raw.repositories).filter((each) => each !== name)
      const which = `another repository of this file; they are: ${others.join(', ') || 'none'}`
      if (!known)
        wrong([...where, 'dependents', 'blocking', index], `${where.join('.')}.dependents.blocking: must name ${which}`)
    }
  }

  const pools = await resolvePools()
  const database = await resolveDatabase()
  const url =
    (await variables.read('PENSTOCK_URL')) ??
    raw.server.url ??
    (listen && `http://${hostInUrl(listen.host)}:${listen.port}`) ??
    ''
  const address =
    (await variables.read('PENSTOCK_TEMPORAL_ADDRESS')) ??
    (await variables.read('TEMPORAL_ADDRESS')) ??
    raw.temporal.address
  const namespace = (await variables.read('PENSTOCK_TEMPORAL_NAMESPACE')) ?? raw.temporal.namespace
  const ui = (await variables.read('PENSTOCK_TEMPORAL_UI')) ?? raw.temporal.ui
  const workerToken = await variables.read('PENSTOCK_WORKER_TOKEN')
  if (workerToken !== undefined && Buffer.byteLength(workerToken) < MIN_WEBHOOK_SECRET) {
    problems.push({ at: 'PENSTOCK_WORKER_TOKEN', message: `must have ${MIN_WEBHOOK_SECRET} bytes or more` })
  }

  if (problems.length > 0 || listen === undefined || database === undefined) throw new ConfigInvalid(sorted(problems))
  return {
    file,
    dataDir,
    instance,
    server: { listen, url: url.replace(/\/+$/, '') },
    database,
    temporal: { address, namespace, ...(ui === undefined ? {} : { ui }) },
    trustTemporalAccess: raw.trust_temporal_access,
    unplaceable: raw.unplaceable,
    jobsPerNode: raw.jobs_per_node,
    ...(workerToken === undefined ? {} : { workerToken: new Secret(workerToken) }),
    people,
    teams,
    repositories,
    pools,
  }

  async function resolvePools(): Promise<Config['pools']> {
    const resolved: PoolConfig[] = []
    for (const [name, pool] of Object.entries(raw.pools)) {
      const units: UnitConfig[] = []
      const twin = poolTwin(
        name,
        resolved.map((one) => one.name),
      )
      if (twin !== undefined) problems.push(yaml.atKey(['pools'], name, `pools.${name}: ${twinSentence(name, twin)}`))
      for (const [unit, one] of Object.entries(pool.units)) {
        const where = ['pools', name, 'units', unit]
        for (const word of reservedIn(one.properties, Object.keys(one.credentials))) {
          const at = [...where, Object.hasOwn(one.properties, word) ? 'properties' : 'credentials']
          problems.push(yaml.atKey(at, word, `${at.join('.')}: ${reservedSentence(word)}`))
        }
        const credentials: Record<string, Secret> = {}
        for (const [key, reference] of Object.entries(one.credentials)) {
          const least = `credentials need ${MIN_SECRET} bytes or more; shorter ones cannot be masked safely`
          credentials[key] = await secret([...where, 'credentials', key], reference, MIN_SECRET, least)
        }
        units.push({ name: unit, ...toUnitSettings(one), credentials })
      }
      const settings = toPoolSettings(pool)
      for (const { step, unit, property } of lackingProperties(settings, units)) {
        const at = ['pools', name, step, 'http']
        wrong(at, `${at.join('.')}: unit "${unit}" has no property "${property}"`)
      }
      resolved.push({ name, ...settings, units })
    }
    return resolved
  }

  async function resolveForge(
    written: OperatorFile['repositories'][string]['forge'],
    where: readonly PropertyKey[],
  ): Promise<ForgeConfig> {
    if (written === 'git') return { kind: 'git' }
    if (written === 'github') return { kind: 'github', api: 'https://api.github.com' }
    if ('gitea' in written) return resolveByToken('gitea', written.gitea, where)
    if ('gitlab' in written) return resolveByToken('gitlab', written.gitlab, where)
    const { api, token, app } = written.github
    if (token !== undefined) return resolveByToken('github', { api, token }, where)
    if (app === undefined) return { kind: 'github', api }
    const at = [...where, 'github', 'app', 'private_key']
    const before = problems.length
    const privateKey = await secret(at, app.private_key, 1, 'is empty')
    if (problems.length === before && !isPrivateKey(privateKey.reveal())) {
      wrong(at, `${at.map(String).join('.')}: is no private key in PEM form, as GitHub gives it for an App`)
    }
    const { installation } = app
    return {
      kind: 'github',
      api,
      access: { kind: 'app', id: String(app.id), privateKey, ...(installation === undefined ? {} : { installation }) },
    }
  }

  async function resolveByToken<K extends 'github' | 'gitea' | 'gitlab'>(
    kind: K,
    { api, token }: { readonly api: string; readonly token?: SecretReference | undefined },
    where: readonly PropertyKey[],
  ) {
    if (token === undefined) return { kind, api }
    const value = await secret([...where, kind, 'token'], token, MIN_SECRET, 'is too short to be a token')
    return { kind, api, access: { kind: 'token', token: value } } as const
  }

  async function resolveDatabase(): Promise<DatabaseConfig | undefined> {
    const over = await variables.read('PENSTOCK_DATABASE_URL')
    const value =
      over ??
      (typeof raw.database === 'string'
        ? raw.database
        : (await secret(['database'], raw.database, 1, 'is empty')).reveal())
    if (value.startsWith('sqlite:') && value.length > 'sqlite:'.length) {
      return { kind: 'sqlite', path: path.resolve(dataDir, value.slice('sqlite:'.length)) }
    }
    if (/^postgres(?:ql)?:\/\//.test(value)) return { kind: 'postgres', url: new Secret(value) }
    // The value may hold a password: it is not repeated.
    const message = 'must begin with `sqlite:` or `postgres://`'
    if (over !== undefined) problems.push({ at: 'PENSTOCK_DATABASE_URL', message })
    else if (value !== '') wrong(['database'], `database: ${message}`)
    return undefined
  }
}

/** Never the spec's to choose: whoever writes it would choose by whom it is approved. */
function productionEnvironment(
  written: string | undefined,
  environments: Readonly<Record<string, EnvironmentConfig>>,
  report: (message: string, key: 'production_environment' | 'environments') => void,
): string | undefined {
  const all = Object.values(environments)
  const gated = all.filter(({ gate }) => gate !== undefined).map(({ name }) => name)
  if (written === undefined) {
    if (gated.length > 1) {
      const example = gated.includes('production') ? 'production' : gated[0]
      const say = `write \`production_environment: ${example}\`, or another of them`
      report(
        `${gated.join(' and ')} have a gate: it must be said whose guards the production branch; ${say}`,
        'environments',
      )
    }
    return gated[0]
  }
  if (!Object.hasOwn(environments, written)) {
    const names = all.map(({ name }) => name)
    report(`"${written}" is not among the environments${suggestion(written, names)}`, 'production_environment')
  } else if (!gated.includes(written)) {
    const those = `those with a gate: ${gated.join(', ') || 'none'}`
    report(`"${written}" has no gate: name its approvers; ${those}`, 'production_environment')
  }
  return written
}

function sorted(diagnostics: readonly Diagnostic[]): readonly Diagnostic[] {
  return [...diagnostics].sort((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0))
}

function dotted(path: readonly PropertyKey[]): string {
  return path.map((one) => (typeof one === 'number' ? '' : `.${String(one)}`)).join('')
}

function toTarget(swarm: NonNullable<OperatorFile['repositories'][string]['environments'][string]['target']>['swarm']) {
  const { command, network, ...rest } = swarm
  return { ...rest, ...(command === undefined ? {} : { command }), ...(network === undefined ? {} : { network }) }
}

function createVariables(env: Environment, problem: (at: string, message: string) => void) {
  return {
    /** The variable, or the content of the file that `<NAME>_FILE` names. */
    async read(name: string): Promise<string | undefined> {
      const value = env[name]
      if (value !== undefined && value !== '') return value
      const file = env[`${name}_FILE`]
      if (file === undefined || file === '') return undefined
      const read = await readText(file)
      if (read.kind === 'read') return withoutFinalNewline(read.text)
      problem(`${name}_FILE`, `the file ${file} ${read.message}`)
      return undefined
    },
  }
}

type Resolved =
  | { readonly kind: 'found'; readonly value: string }
  | { readonly kind: 'missing'; readonly message: string }

async function resolveSecret(reference: SecretReference, env: Environment, base: string): Promise<Resolved> {
  const { env: name } = reference
  if (name !== undefined) {
    const value = env[name]
    if (value !== undefined) return { kind: 'found', value }
    if (env[`${name}_FILE`] === undefined) {
      return { kind: 'missing', message: `the environment variable ${name} is not set (nor ${name}_FILE)` }
    }
  }
  const file = path.resolve(base, reference.file ?? env[`${name}_FILE`] ?? '')
  const read = await readText(file)
  if (read.kind !== 'read') return { kind: 'missing', message: `the file ${file} ${read.message}` }
  return { kind: 'found', value: withoutFinalNewline(read.text) }
}

type Read =
  | { readonly kind: 'read'; readonly text: string }
  | { readonly kind: 'absent' | 'refused'; readonly message: string }

/** A file, as far as one of ours may go: a device or a pipe might never end. */
async function readText(file: string): Promise<Read> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of createReadStream(file, { end: MAX_FILE })) chunks.push(chunk as Buffer)
  } catch (err) {
    // Whatever the system says about it (absent, a directory, no permission), the answer is the same: name the file.
    if (err instanceof Error && 'code' in err) return { kind: 'absent', message: 'cannot be read' }
    throw err
  }
  const bytes = Buffer.concat(chunks)
  if (bytes.length > MAX_FILE) return { kind: 'refused', message: `is larger than ${MAX_FILE} bytes` }
  // What is no text would become another secret than the one in the file, without a word.
  if (!isUtf8(bytes)) return { kind: 'refused', message: 'is not UTF-8' }
  return { kind: 'read', text: bytes.toString() }
}

function withoutFinalNewline(text: string): string {
  return text.replace(/\r?\n$/, '')
}

function isPrivateKey(text: string): boolean {
  try {
    return createPrivateKey(text.replaceAll('\\n', '\n')).asymmetricKeyType === 'rsa'
  } catch {
    // What OpenSSL says about it would not help: the answer is that it is none.
    return false
  }
}

function parseListen(text: string): { readonly host: string; readonly port: number } | undefined {
  const match = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})$/.exec(text)
  const port = Number(match?.[2])
  if (match?.[1] === undefined || port > 65_535) return undefined
  return { host: match[1].replace(/^\[|\]$/g, ''), port }
}

function hostInUrl(host: string): string {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1'
  return host.includes(':') ? `[${host}]` : host
}

type Url = { readonly kind: 'fine'; readonly url: string } | { readonly kind: 'refused'; readonly message: string }

function resolveUrl(text: string, base: string): Url {
  const refused = (message: string): Url => ({ kind: 'refused', message })
  if (text.startsWith('-')) return refused('must not begin with `-`')
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(text)?.[1]?.toLowerCase()
  if (scheme === undefined) {
    if (/^[^/]+@[^/]+:/.test(text)) return refused('write it as `ssh://user@host/path`')
    return { kind: 'fine', url: path.resolve(base, text) }
  }
  const url = URL.canParse(text) ? new URL(text) : undefined
  const isLocal = scheme === 'http' && url !== undefined && isLoopback(url.hostname)
  if (scheme !== 'ssh' && scheme !== 'https' && !isLocal)
    return refused(`"${scheme}:" is not allowed; a path, ssh:// or https:// is (http:// to this machine only)`)
  if (url === undefined) return refused('is not an address')
  if (url.hostname === '' || url.hostname.startsWith('-')) return refused('names no host')
  if (url.password !== '' || (scheme !== 'ssh' && url.username !== '')) return refused('must not hold credentials')
  if (url.username.startsWith('-')) return refused('the user must not begin with `-`')
  return { kind: 'fine', url: text }
}

/** What nobody else can listen in on. */
function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname)
}
