import { posix } from 'node:path'
import { z } from 'zod'

/** How a limit or a grammar is told to a user stands beside it: every message is what would be right. */

export const NAME = /^[a-z][a-z0-9-]{0,39}$/
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/
/** Variables that change what a shell, a loader or an interpreter runs, or that belong to Penstock or Docker. */
const REFUSED_ENV =
  /^(?:PATH|LD_.*|BASH_ENV|BASH_FUNC_.*|ENV|IFS|SHELLOPTS|BASHOPTS|PS4|PYTHON.*|NODE_OPTIONS|PERL5OPT|PERL5LIB|RUBYOPT|GIT_.*|DOCKER_.*|CI_.*|PENSTOCK_.*)$/i
const DURATION = /^(?=.{1,32}$)(?:\d{1,9}d)?(?:\d{1,9}h)?(?:\d{1,9}m)?(?:\d{1,9}s)?$/
const MEMORY = /^(\d{1,7}(?:\.\d{1,3})?)(Mi|Gi)$/
const IMAGE_PATH = String.raw`[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*`
/** As Docker tells a registry's host from the first part of a path: it has a dot or a port, or is localhost. */
const IMAGE_HOST = String.raw`(?:localhost(?::\d{1,5})?|[A-Za-z0-9][A-Za-z0-9-]*(?:(?:\.[A-Za-z0-9-]+)+(?::\d{1,5})?|:\d{1,5}))`
const IMAGE_REPO = `(?:${IMAGE_HOST}/)?${IMAGE_PATH}(?:/${IMAGE_PATH})*`
const IMAGE = new RegExp(`^${IMAGE_REPO}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$`)
const IMAGE_ID = /^sha256:[0-9a-f]{64}$/
const REPOSITORY = new RegExp(`^${IMAGE_REPO}$`)
const CONSTRAINT =
  /^node\.(?:id|hostname|role|platform\.(?:os|arch)|labels\.[A-Za-z0-9][A-Za-z0-9._-]{0,62})(?:==|!=)[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/
const LABEL = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}(?:=[A-Za-z0-9][A-Za-z0-9._:-]{0,62})?$/
const PATH = /^[A-Za-z0-9._/@+-][A-Za-z0-9._/@+ -]{0,254}$/
const GLOB = /^[A-Za-z0-9._/@+*?[\]{},-][A-Za-z0-9._/@+*?[\]{}, -]{0,254}$/
const FOLLOWED = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?:\/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,3}$/
const BRANCH = /^(?!-|\/|refs\/)[^\s\p{Cc}~^:?*[\\]{1,200}$/u
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is refused
const STEP_NAME = /^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]{1,80}$/
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is refused
const ITEM_NAME = /^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]{1,200}$/
const APPROVER = /^(?:(?:role|team|forge):)?[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$/
const TESTER = /^(?:(?:role|team):)?[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$/

export const LIMITS = {
  jobs: 100,
  steps: 500,
  commands: 500,
  commandLength: 64 * 1024,
  env: 200,
  envValueLength: 32 * 1024,
  needs: 100,
  constraints: 20,
  pools: 10,
  poolUnits: 100,
  where: 1000,
  secrets: 50,
  reports: 20,
  deliverables: 20,
  environments: 10,
  upstreams: 20,
  checklist: 100,
  testers: 50,
  groups: 20,
} as const

export const MIN_TIMEOUT_SECONDS = 1
export const MAX_TIMEOUT_SECONDS = 24 * 3600
const MIN_MEMORY = 16 * 1024 ** 2
const MAX_MEMORY = 4096 * 1024 ** 3

const UNIT_SECONDS: Readonly<Record<string, number>> = { d: 86_400, h: 3600, m: 60, s: 1 }

/** `1h30m` → 5400; nothing for text that is no duration. */
export function durationSeconds(text: string): number | undefined {
  if (text === '' || !DURATION.test(text)) return undefined
  let seconds = 0
  for (const [, count, unit] of text.matchAll(/(\d+)([dhms])/g))
    seconds += Number(count) * (UNIT_SECONDS[unit ?? 's'] ?? 1)
  return seconds
}

/** `512Mi` → bytes; nothing for text that is no size. */
export function memoryBytes(text: string): number | undefined {
  const match = MEMORY.exec(text)
  return match ? Math.round(Number(match[1]) * (match[2] === 'Gi' ? 1024 ** 3 : 1024 ** 2)) : undefined
}

/** A path of the spec as an absolute one under `/workspace`, or nothing when it would leave it. */
export function workspacePath(path: string): string | undefined {
  const absolute = posix.resolve('/workspace', path)
  return absolute === '/workspace' || absolute.startsWith('/workspace/') ? absolute : undefined
}

function staysInside(path: string): boolean {
  return !path.startsWith('/') && !path.split('/').includes('..')
}

/** Marks the message of an object's unknown keys; what follows are the keys it knows. */
export const KNOWN_KEYS = 'known keys: '

/** An object that knows its keys and no others, and says which. */
function keyed<Shape extends z.core.$ZodLooseShape>(shape: Shape, expected: string) {
  const known = Object.keys(shape).join(' ')
  return z.strictObject(shape, {
    error: (issue) => (issue.code === 'unrecognized_keys' ? `${KNOWN_KEYS}${known}` : expected),
  })
}

function text(expected: string, pattern: RegExp) {
  return z.string({ error: expected }).regex(pattern, { error: expected })
}

function listOf<Item extends z.ZodType>(item: Item, most: number, expected: string) {
  return z
    .array(item, { error: expected })
    .min(1, { error: `the list is empty; expected ${expected.replace(/^expected /, '')}` })
    .max(most, { error: (issue) => `${(issue.input as unknown[]).length} entries; the limit is ${most}` })
}

function mapOf<Value extends z.ZodType>(key: z.ZodType<string, string>, value: Value, most: number, expected: string) {
  return anyMapOf(key, value, most, expected).refine((map) => Object.keys(map).length > 0, {
    error: 'the mapping is empty',
  })
}

function anyMapOf<Value extends z.ZodType>(
  key: z.ZodType<string, string>,
  value: Value,
  most: number,
  expected: string,
) {
  return z.record(key, value, { error: expected }).refine((map) => Object.keys(map).length <= most, {
    error: (issue) => `${Object.keys(issue.input as object).length} entries; the limit is ${most}`,
  })
}

const Duration = z
  .string({ error: 'expected a duration between 1s and 24h, with units: 90s, 15m or 1h30m' })
  .superRefine((value, context) => {
    const seconds = durationSeconds(value)
    if (seconds === undefined) {
      context.addIssue({
        code: 'custom',
        message:
          'expected a duration between 1s and 24h such as 90s, 15m or 1h30m (units d, h, m, s in this order, each once)',
      })
    } else if (seconds < MIN_TIMEOUT_SECONDS || seconds > MAX_TIMEOUT_SECONDS) {
      context.addIssue({ code: 'custom', message: 'a timeout must be between 1s and 24h' })
    }
  })
  .meta({
    id: 'Duration',
    description: 'A duration: number and unit (d, h, m, s), for example `90s`, `15m`, `1h30m`. Between `1s` and `24h`.',
    pattern: DURATION.source,
  })

const IMAGE_EXPECTED = 'expected an image such as python:3.12-slim or registry.example/team/tool@sha256:…'
const Image = z
  .string({ error: IMAGE_EXPECTED })
  .max(255, { error: (issue) => `an image name has at most 255 characters; this has ${String(issue.input).length}` })
  .refine((value) => value.length > 255 || IMAGE.test(value) || IMAGE_ID.test(value), {
    error: (issue) => imageProblem(String(issue.input)),
  })
  .meta({ id: 'Image', description: 'A container image: `[registry/]repository[:tag][@sha256:digest]`, lower case.' })

function imageProblem(value: string): string {
  if (/^[a-z]+:\/\//i.test(value)) return 'an image is a name, not a URL; write it without the scheme'
  if (/\s/.test(value)) return `an image name has no spaces; ${IMAGE_EXPECTED}`
  if (value.startsWith('-')) return `an image name does not start with "-"; ${IMAGE_EXPECTED}`
  if (value !== value.toLowerCase() && IMAGE.test(value.toLowerCase()))
    return 'the repository of an image is written in lower case'
  return IMAGE_EXPECTED
}

export const ENV_EXPECTED = 'a variable name has letters, digits and _, and starts with no digit'
const EnvName = z
  .string()
  .regex(ENV_NAME, { error: ENV_EXPECTED })
  .refine((name) => !REFUSED_ENV.test(name), {
    error: (issue) =>
      `variable ${String(issue.input)} may not be set: it would change what runs, or belongs to Penstock`,
  })

const EnvValue = z
  .union(
    [
      z.string().max(LIMITS.envValueLength, {
        error: (issue) => `a value has at most 32,768 characters; this has ${String(issue.input).length}`,
      }),
      z.number({ error: 'expected a finite number or a quoted string' }),
      z.boolean(),
    ],
    { error: 'expected a string, a number or a boolean (for an empty value write "")' },
  )
  .meta({ description: 'A string, number or boolean. Quote versions: `"1.20"`.' })

const Env = anyMapOf(EnvName, EnvValue, LIMITS.env, 'expected a mapping of variables to values').meta({
  id: 'Env',
  description:
    'Variables of the steps. Refused are those that change what a shell or interpreter runs (`PATH`, `LD_*`, `BASH_ENV`, `ENV`, `IFS`, `PYTHON*`, `NODE_OPTIONS`, `GIT_*`, …) and the prefixes `DOCKER_`, `CI_` and `PENSTOCK_`.',
})

const COMMAND_EXPECTED = 'expected a command (a string; quote it if it has ": " or starts with a special character)'
const Command = z
  .string({ error: COMMAND_EXPECTED })
  .regex(/\S/, { error: 'the command is empty' })
  .max(LIMITS.commandLength, {
    error: (issue) =>
      `a command has at most 65,536 characters; this has ${String(issue.input).length}; put it into a script of the repository`,
  })
  .meta({ description: 'A shell command, or a script of several lines.' })

const WORKDIR_EXPECTED = 'expected a directory under /workspace (a relative path starts there)'
const Workdir = z
  .string({ error: WORKDIR_EXPECTED })
  .refine((path) => PATH.test(path) && workspacePath(path) !== undefined, { error: WORKDIR_EXPECTED })
  .meta({
    id: 'Workdir',
    description:
      'Where the steps start: a directory under `/workspace`, which holds the checkout. A relative path is relative to it. Default: `/workspace`.',
  })

const PATH_EXPECTED = 'expected a relative path inside the repository, without ".."'
const RelativePath = z
  .string({ error: PATH_EXPECTED })
  .refine((path) => PATH.test(path) && staysInside(path), { error: PATH_EXPECTED })

const GLOB_EXPECTED = 'expected a relative path or glob inside the workspace, without ".."'
const Glob = z
  .string({ error: GLOB_EXPECTED })
  .refine((path) => GLOB.test(path) && staysInside(path), { error: GLOB_EXPECTED })
  .meta({ description: 'A path or glob (`*`, `**`, `?`) relative to the workspace, without `..`.' })

const CPUS_EXPECTED = 'expected a number of CPUs between 0.01 and 1024'
const Cpus = z.number({ error: CPUS_EXPECTED }).min(0.01, { error: CPUS_EXPECTED }).max(1024, { error: CPUS_EXPECTED })

const MEMORY_EXPECTED = 'expected a size such as 512Mi or 2Gi, between 16Mi and 4096Gi'
const Memory = z
  .string({ error: MEMORY_EXPECTED })
  .refine(
    (value) => {
      const bytes = memoryBytes(value)
      return bytes !== undefined && bytes >= MIN_MEMORY && bytes <= MAX_MEMORY
    },
    { error: MEMORY_EXPECTED },
  )
  .meta({ description: 'A size: `512Mi`, `1.5Gi`. Between `16Mi` and `4096Gi`.', pattern: MEMORY.source })

const PIDS_EXPECTED = 'expected a whole number of processes between 16 and 65536'
const RESOURCES_EXPECTED = 'expected a mapping with cpus, memory or pids'

const Resources = keyed(
  {
    cpus: z
      .union(
        [
          Cpus,
          keyed(
            { reserve: z.union([z.literal(0), Cpus], { error: CPUS_EXPECTED }).optional(), limit: Cpus.optional() },
            'expected reserve and limit',
          ).refine(({ reserve, limit }) => reserve === undefined || limit === undefined || reserve <= limit, {
            error: (issue) => overReserved(issue.input),
          }),
        ],
        { error: `${CPUS_EXPECTED}, or a mapping with reserve and limit` },
      )
      .meta({ description: 'CPUs. A number reserves that many and limits to as many.' })
      .optional(),
    memory: z
      .union(
        [
          Memory,
          keyed({ reserve: Memory.optional(), limit: Memory.optional() }, 'expected reserve and limit').refine(
            ({ reserve, limit }) =>
              reserve === undefined || limit === undefined || (memoryBytes(reserve) ?? 0) <= (memoryBytes(limit) ?? 0),
            { error: (issue) => overReserved(issue.input) },
          ),
        ],
        { error: `${MEMORY_EXPECTED}, or a mapping with reserve and limit` },
      )
      .meta({ description: 'Memory. A size reserves that much and limits to as much.' })
      .optional(),
    pids: z
      .number({ error: PIDS_EXPECTED })
      .int({ error: PIDS_EXPECTED })
      .min(16, { error: PIDS_EXPECTED })
      .max(65_536, { error: PIDS_EXPECTED })
      .meta({ description: 'Processes at most. Default: 4096.' })
      .optional(),
  },
  RESOURCES_EXPECTED,
).meta({
  id: 'Resources',
  description:
    'What a job reserves on its node and may use at most. Default: nothing reserved, at most 2 CPUs, `2Gi` and 4096 processes.',
})

function overReserved(input: unknown): string {
  const { reserve, limit } = input as { reserve: unknown; limit: unknown }
  return `reserves ${String(reserve)}, which is more than the limit of ${String(limit)}`
}

const STEP_NAME_EXPECTED = 'a step name has 1 to 80 characters, all visible'

const StepInput = keyed(
  {
    name: z
      .string({ error: STEP_NAME_EXPECTED })
      .regex(STEP_NAME, { error: STEP_NAME_EXPECTED })
      .meta({ description: 'What is shown for the step. Default: its first command.' })
      .optional(),
    run: z
      .union([Command, listOf(Command, LIMITS.commands, 'expected commands')], {
        error: 'expected a command or a list of commands',
      })
      .meta({ description: 'The commands, executed by one shell that stops at the first failure.' }),
    image: Image.meta({ description: 'Another image for this step. Default: the image of the job.' }).optional(),
    env: Env.optional(),
    timeout: Duration.meta({ description: 'Limit for this step. Default: only that of the job.' }).optional(),
  },
  'expected a step: a mapping with run',
).meta({ id: 'Step', description: 'A step with a name, an image, variables or a limit of its own.' })

const STEPS_EXPECTED = 'expected commands and steps'
const Steps = listOf(
  z.union([Command, StepInput], { error: 'expected a command (quote it if it has ": "), or a mapping with run' }),
  LIMITS.steps,
  STEPS_EXPECTED,
).meta({
  id: 'Steps',
  description: 'Commands and steps. Adjacent plain commands make one step: one shell, so `cd` and `export` carry over.',
})

const Run = z
  .union([Command, Steps], { error: 'expected a command, or a list of commands and steps' })
  .meta({ id: 'Run', description: 'A command, or a list of commands and steps.' })

const NAME_EXPECTED = 'a name has 1 to 40 characters of a-z, 0-9 and -, and starts with a letter'
const PoolName = z.string({ error: NAME_EXPECTED }).regex(NAME, { error: NAME_EXPECTED })
const COUNT_EXPECTED = `expected a whole number between 1 and ${LIMITS.poolUnits}`
const Count = z
  .number({ error: COUNT_EXPECTED })
  .int({ error: COUNT_EXPECTED })
  .min(1, { error: COUNT_EXPECTED })
  .max(LIMITS.poolUnits, { error: COUNT_EXPECTED })

const WHERE_EXPECTED = `expected an expression such as arch == 'arm64' && memory >= 4, at most ${LIMITS.where} characters`
const Where = z
  .string({ error: WHERE_EXPECTED })
  .min(1, { error: WHERE_EXPECTED })
  .max(LIMITS.where, { error: WHERE_EXPECTED })
  .meta({
    id: 'Where',
    description:
      "Which units will do, in CEL over their properties: `arch == 'arm64' && memory >= 4`. `unit` is the name of the unit, `labels` the list of its labels.",
  })

const Pool = z
  .union(
    [
      PoolName,
      mapOf(
        PoolName,
        z.union(
          [
            Count,
            keyed(
              {
                count: Count.meta({ description: 'Units. Default: 1.' }).optional(),
                labels: listOf(
                  text('expected a label such as arch=arm64 or fast', LABEL),
                  20,
                  'expected a list of labels',
                )
                  .meta({ description: 'Labels every unit must carry: `key` or `key=value`.' })
                  .optional(),
                where: Where.optional(),
                mode: z
                  .enum(['shared', 'exclusive'], { error: 'expected shared or exclusive' })
                  .meta({
                    description:
                      '`exclusive` (default): nobody else holds the unit meanwhile. `shared`: one of its places, as many as the operator gave it.',
                  })
                  .optional(),
              },
              'expected count, labels, where and mode',
            ),
          ],
          { error: `${COUNT_EXPECTED}, or a mapping with count, labels, where and mode` },
        ),
        LIMITS.pools,
        'expected a pool',
      ),
    ],
    { error: 'expected the name of a pool, or a mapping of pools to counts' },
  )
  .meta({
    id: 'Pool',
    description:
      'Resources the job holds while it runs: the name of a pool (one unit), or a mapping of pools to a count or to `{count, labels, where, mode}`. All are granted together.',
  })

const SECRET_EXPECTED = 'expected secret names, or a mapping of names to env or file'
const Secrets = z
  .union(
    [
      listOf(EnvName, LIMITS.secrets, SECRET_EXPECTED),
      mapOf(EnvName, z.enum(['env', 'file'], { error: 'expected env or file' }), LIMITS.secrets, SECRET_EXPECTED),
    ],
    { error: SECRET_EXPECTED },
  )
  .meta({
    id: 'Secrets',
    description:
      'Secrets of the operator, by name. Each is the file `/run/secrets/NAME`, whose path is in `NAME_FILE`; with `NAME: env` its value is the variable `NAME`, too.',
  })

const REPORTS_EXPECTED = 'expected a mapping with junit'
const Reports = keyed(
  {
    junit: z
      .union([Glob, listOf(Glob, LIMITS.reports, 'expected paths')], { error: 'expected a path or a list of paths' })
      .meta({ description: 'JUnit XML files that the job writes.' })
      .optional(),
  },
  REPORTS_EXPECTED,
).meta({ id: 'Reports', description: 'Test results that are read when the job has ended.' })

const singleJob = {
  image: Image.meta({ description: 'The image of the steps. Default: the `image` of the file.' }).optional(),
  run: Run,
  env: Env.optional(),
  timeout: Duration.meta({
    description: 'Limit for all steps together, from the start of the first. Default: `1h`.',
  }).optional(),
  workdir: Workdir.optional(),
  resources: Resources.optional(),
  constraints: listOf(
    text('expected a constraint such as node.labels.arch==arm64 or node.hostname!=db1', CONSTRAINT),
    LIMITS.constraints,
    'expected a list of constraints',
  )
    .meta({
      description:
        'Which nodes may run the job: `node.labels.<label>`, `node.hostname`, `node.id`, `node.role`, `node.platform.os` or `node.platform.arch`, then `==` or `!=` and a value, without spaces.',
    })
    .optional(),
  pool: Pool.optional(),
  secrets: Secrets.optional(),
  reports: Reports.optional(),
  on_lost: z
    .enum(['retry', 'fail'], { error: 'expected retry or fail' })
    .meta({
      description:
        'When a started job was lost with its node or engine, so that nobody knows how far it came: `fail` (default) ends it as errored, `retry` runs it again, at most twice; choose it for jobs that can safely run again.',
    })
    .optional(),
}

const NEEDS_EXPECTED = 'expected the name of a job, or a list of names'
const Needs = z
  .union([PoolName, listOf(PoolName, LIMITS.needs, NEEDS_EXPECTED)], { error: NEEDS_EXPECTED })
  .meta({ id: 'Needs', description: 'Jobs of the same stage that must have succeeded before.' })

const DAY_SECONDS = 86_400
const MAX_EXPIRY_DAYS = 90
const EXPIRES_EXPECTED = `expected a duration between 1s and ${MAX_EXPIRY_DAYS}d, with units: 12h, 7d or 1d12h`
const Expires = z
  .string({ error: EXPIRES_EXPECTED })
  .refine(
    (value) => {
      const seconds = durationSeconds(value)
      return seconds !== undefined && seconds >= 1 && seconds <= MAX_EXPIRY_DAYS * DAY_SECONDS
    },
    { error: EXPIRES_EXPECTED },
  )
  .meta({
    description: `How long the session waits for its end, pauses included; what is not finished then has failed. Default: \`7d\`. At most \`${MAX_EXPIRY_DAYS}d\`.`,
    pattern: DURATION.source,
  })

const ITEM_NAME_EXPECTED = 'an item of a checklist has 1 to 200 characters in one line, all visible'
const ItemName = z
  .string({ error: ITEM_NAME_EXPECTED })
  .refine((name) => ITEM_NAME.test(name) && name.trim() !== '', { error: ITEM_NAME_EXPECTED })
  .meta({ description: 'What to try, unique within the checklist.' })
const INSTRUCTIONS_EXPECTED = 'expected text of at most 4,000 characters (Markdown)'
const CHECKLIST_EXPECTED = 'expected a list of what to try: texts, or mappings with name'
const ChecklistItem = keyed(
  {
    name: ItemName,
    instructions: z
      .string({ error: INSTRUCTIONS_EXPECTED })
      .max(4000, { error: INSTRUCTIONS_EXPECTED })
      .meta({ description: 'How to try it and what is right, in Markdown, for the tester.' })
      .optional(),
    required: z
      .boolean({ error: 'expected true or false' })
      .meta({ description: 'Whether the session can only be finished with an answer to it. Default: `true`.' })
      .optional(),
  },
  'expected a mapping with name',
).meta({ id: 'ChecklistItem', description: 'An item of a checklist with instructions, or one that is optional.' })

const TESTER_EXPECTED = 'expected the name of a person, role:NAME or team:NAME'
const Tester = text(TESTER_EXPECTED, TESTER)
const manualTest = {
  checklist: listOf(
    z.union([ItemName, ChecklistItem], { error: 'expected a text, or a mapping with name' }),
    LIMITS.checklist,
    CHECKLIST_EXPECTED,
  ).meta({ description: 'What to try, in this order.' }),
  by: z
    .union([Tester, listOf(Tester, LIMITS.testers, TESTER_EXPECTED)], {
      error: `${TESTER_EXPECTED}, or a list of them`,
    })
    .meta({
      description:
        "Who may answer: people, `role:NAME` or `team:NAME` of the operator's file, and nobody else. Default: `role:approver`.",
    })
    .optional(),
  expires: Expires.optional(),
}

const MANUAL_EXPECTED = 'expected a mapping with checklist'
const Manual = keyed(manualTest, MANUAL_EXPECTED).meta({
  id: 'Manual',
  description: 'A manual test session: people go through a checklist, and their answers are the outcome of the job.',
})
const besideManual = { needs: Needs.optional(), pool: Pool.optional() }
const ManualJob = keyed({ manual: Manual, ...besideManual }, 'expected a mapping with manual').meta({
  id: 'ManualJob',
  description: 'A job that people do: it has no commands and no container. Units of pools are leased for the session.',
})
const ManualShort = keyed({ ...manualTest, ...besideManual }, MANUAL_EXPECTED).meta({
  id: 'ManualShort',
  description: 'Only as the job called `manual`: the keys of its session, without repeating the name.',
})

/** Keys of a job, and what other systems or later versions call them: never names of jobs, so that a slip is seen. */
export const JOB_KEYS: readonly string[] = [
  ...Object.keys(singleJob),
  'needs',
  ...['name', 'step', 'steps', 'script', 'commands', 'job', 'jobs', 'matrix', 'services', ...Object.keys(manualTest)],
]

const JOB_EXPECTED = 'expected a job: a command, a list, or a mapping with run'
const JobObject = keyed({ ...singleJob, needs: Needs.optional() }, JOB_EXPECTED).meta({
  id: 'JobObject',
  description: 'A job in the long form.',
})
const JobInput = z
  .union([Command, Steps, JobObject, ManualJob, ManualShort], { error: `${JOB_EXPECTED} or manual` })
  .meta({
    id: 'Job',
    description:
      'A job: a command, a list of commands and steps, a mapping with `run`, or one with `manual`, which people do.',
  })

const STAGE_NAMES = ['test', 'deliver', 'e2e', 'deploy', 'signoff', 'promote']

function nameOf(what: string, refused: readonly string[]) {
  return z
    .string()
    .regex(NAME, { error: `the name of ${what} has 1 to 40 characters of a-z, 0-9 and -, and starts with a letter` })
    .refine((name) => !refused.includes(name), {
      error: (issue) => `"${String(issue.input)}" cannot be the name of ${what}`,
    })
    .meta(refused.length > 0 ? { not: { enum: [...refused] } } : {})
}

const STAGE_EXPECTED = 'expected a command, a list of commands and steps, or a mapping of job names to jobs'
const StageInput = z
  .union([Command, Steps, mapOf(nameOf('a job', JOB_KEYS), JobInput, LIMITS.jobs, STAGE_EXPECTED)], {
    error: STAGE_EXPECTED,
  })
  .meta({
    id: 'Stage',
    description:
      'A command or a list (one job, named like the stage), or a mapping of job names to jobs. The keys of a job, such as `run`, cannot be job names: so a mapping here is always one of jobs.',
  })

const ImageDeliverable = keyed(
  {
    docker: RelativePath.meta({ description: 'Directory of the checkout that is the build context.' }),
    dockerfile: RelativePath.meta({ description: 'Relative to the context. Default: `Dockerfile`.' }).optional(),
    to: text('expected an image repository without tag, such as registry.example/team/api', REPOSITORY)
      .max(255, { error: 'a repository has at most 255 characters' })
      .meta({ description: 'Repository the image is pushed to, without a tag. Default: it is not pushed.' })
      .optional(),
  },
  'expected a mapping with docker',
).meta({ id: 'ImageDeliverable', description: 'A Docker image, built once from the checkout and known by its digest.' })

const PackageDeliverable = keyed(
  { package: Glob.meta({ description: 'The files that the job makes and that are kept.' }), ...singleJob },
  'expected a mapping with package and run',
).meta({ id: 'PackageDeliverable', description: 'Files that a job makes, kept and known by their hash.' })

const Deliver = mapOf(
  nameOf('a deliverable', []),
  z.union([ImageDeliverable, PackageDeliverable], { error: 'expected a mapping with docker, or with package and run' }),
  LIMITS.deliverables,
  'expected a mapping of names to deliverables',
).meta({ description: 'What leaves: built once, on the candidate branch, after the tests.' })

const Release = keyed(
  { deliverable: PoolName.meta({ description: 'Name of an image under `deliver`.' }) },
  'expected a mapping with deliverable',
).meta({ id: 'Release', description: "The environment's own target, as the operator set it up, takes an image." })

const SingleJobObject = keyed(singleJob, JOB_EXPECTED).meta({ id: 'DeployJob', description: 'A job that deploys.' })

const Deploy = mapOf(
  nameOf('an environment', [...JOB_KEYS, ...STAGE_NAMES, 'deliverable']),
  z.union([Command, Steps, SingleJobObject, Release], {
    error: 'expected a command, a list, a mapping with run, or a mapping with deliverable',
  }),
  LIMITS.environments,
  'expected a mapping of environments to how they are deployed',
).meta({
  description:
    'How each environment is deployed: the first one without a gate from the candidate branch, the one with a gate from the production branch.',
})

const APPROVER_EXPECTED =
  'expected the name of a person, role:NAME, team:NAME, forge:write, forge:maintain or forge:admin'
const GROUP_EXPECTED = 'expected a mapping with from, such as { from: [team:qa], count: 1 }'
const Signoff = keyed(
  {
    approvals: listOf(
      keyed(
        {
          from: listOf(
            text(APPROVER_EXPECTED, APPROVER),
            LIMITS.testers,
            'expected a list of people, roles and teams',
          ).meta({
            description: 'People as the operator has them: a name, `role:NAME`, `team:NAME`, `forge:write`.',
          }),
          count: Count.meta({ description: 'How many of them must approve. Default: 1.' }).optional(),
        },
        GROUP_EXPECTED,
      ),
      LIMITS.groups,
      'expected a list of groups',
    )
      .meta({ description: 'Groups that are asked beside those of the operator.' })
      .optional(),
    expires: Expires.meta({
      description: "How long the gate waits for its answer. Not longer than the operator's.",
    }).optional(),
  },
  'expected a mapping with approvals or expires',
).meta({
  id: 'Signoff',
  description: 'What is asked for before production, beside what the operator asks for: more, never less.',
})

const UPSTREAM_EXPECTED = 'expected a mapping with repo, such as { repo: acme/api, branch: master }, or a list of them'
const UpstreamInput = keyed(
  {
    repo: text('expected the name of a repository as the operator has it, such as acme/api', FOLLOWED).meta({
      description: 'A repository of the same Penstock.',
    }),
    branch: text('expected the short name of a branch, such as master', BRANCH)
      .meta({ description: 'Its candidate branch, to say it. Default: whichever its operator has chosen.' })
      .optional(),
  },
  UPSTREAM_EXPECTED,
).meta({ id: 'Upstream', description: 'A repository whose release candidates this one tests itself against.' })

const On = keyed(
  {
    upstream: z.union([UpstreamInput, listOf(UpstreamInput, LIMITS.upstreams, UPSTREAM_EXPECTED)], {
      error: UPSTREAM_EXPECTED,
    }),
  },
  'expected a mapping with upstream',
).meta({
  id: 'On',
  description:
    'What starts runs beside pushes and pull requests. `upstream`: each release candidate of that repository starts the `test` stage of the released tip of this one, and its outcome is shown on the commit over there.',
})

/** The file as it is written. Only its shape: what refers to what is checked in `references.ts`. */
export const SpecInput = keyed(
  {
    image: Image.meta({ description: 'Default image of all jobs.' }).optional(),
    env: Env.meta({ description: 'Variables of all jobs; those of a job or a step win.' }).optional(),
    timeout: Duration.meta({ description: 'Default limit of each job. Default: `1h`.' }).optional(),
    workdir: Workdir.optional(),
    resources: Resources.meta({ description: 'Defaults of all jobs.' }).optional(),
    on: On.optional(),
    test: StageInput.meta({ description: 'Automated tests: for every push and pull request.' }).optional(),
    deliver: Deliver.optional(),
    e2e: StageInput.meta({
      description: 'End-to-end tests against the environment that was deployed before.',
    }).optional(),
    deploy: Deploy.optional(),
    signoff: Signoff.optional(),
  },
  'expected a mapping with test, deliver, e2e or deploy',
).meta({ title: 'Penstock spec', description: 'The pipeline of a repository: `.penstock.yml` in its root.' })
export type SpecInput = z.infer<typeof SpecInput>

export type StageInput = z.infer<typeof StageInput>
export type JobInput = z.infer<typeof JobInput>
export type ManualInput = z.infer<typeof Manual>
export type SingleJobInput = z.infer<typeof SingleJobObject>
export type StepsInput = z.infer<typeof Steps>
export type ResourcesInput = z.infer<typeof Resources>
export type PoolInput = z.infer<typeof Pool>
export type SecretsInput = z.infer<typeof Secrets>

/** The schema for editors: JSON Schema draft 7, which is what YAML language servers read. */
export function specJsonSchema(): Record<string, unknown> {
  return { ...z.toJSONSchema(SpecInput, { target: 'draft-7', io: 'input' }) }
}
