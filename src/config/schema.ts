import { z } from 'zod'
import { EXPIRIES } from '../core/approval.ts'
import { FIELD_TYPES, LONGEST_TEXT } from '../core/form.ts'
import { DAYS } from '../core/window.ts'
import { ROLES } from './types.ts'

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/
const REPOSITORY = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?:\/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,3}$/
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/
/** Four parts at most: more would not fit into a time. */
const DURATION = /^(?:[1-9][0-9]{0,5}(?:d|h|m|s)){1,4}$/

export const name = z.string().regex(NAME, 'must be a name: lower-case letters, digits, `.`, `_`, `-`; at most 63')
export const label = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._/-]*(?:=[A-Za-z0-9._/-]+)?$/, 'must be `key` or `key=value`')
const branch = z
  .string()
  .regex(/^(?!-|\/|refs\/)[^\s\p{Cc}~^:?*[\\]{1,200}$/u, 'must be the short name of a branch, for example `master`')
const variables = z.record(z.string().regex(VARIABLE, 'must be the name of a variable'), z.string())
const httpUrl = z
  .string()
  .regex(/^https?:\/\/[^\s/?#@]+[^\s]*$/, 'must be an http:// or https:// address without a password in it')
export const duration = z.string().regex(DURATION, 'must be a duration such as `90m`, `12h`, `7d` or `1d12h`')

const approver = z.string().min(1)
const TIME = /^(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)$/
const time = z.string().regex(TIME, 'must be a time such as `"09:00"`, in quotes')
const moment = z
  .string()
  .regex(
    /^\d{4}-\d{2}-\d{2}(?:T(?:[01]\d|2[0-3]):[0-5]\d)?$/,
    'must be a date such as `"2026-12-20"`, or one with a time, `"2026-12-20T18:00"`',
  )

export const SecretReference = z
  .strictObject({
    env: z
      .string()
      .regex(VARIABLE, 'must be the name of an environment variable')
      .describe('Name of an environment variable; if only `<NAME>_FILE` is set, the file it names is read.')
      .optional(),
    file: z.string().min(1).describe('Path of a file; one final newline is not part of the value.').optional(),
  })
  .refine((one) => (one.env === undefined) !== (one.file === undefined), 'must be either `env: NAME` or `file: PATH`')
export type SecretReference = z.infer<typeof SecretReference>

const Port = z.int().min(1).max(65535)

const option = z
  .string()
  .regex(/^[^,\p{Cc}]{1,200}$/u, 'must be text of at most 200 characters without commas or control characters')
const options = z.array(option).min(1, 'must have at least one option').max(200)

/** One mapping for all types: what does not go with the type is said by name, with the types that it goes with. */
const FormField = z.strictObject({
  type: z.enum(FIELD_TYPES, { error: `must be one of ${FIELD_TYPES.join(', ')}` }),
  label: z.string().min(1).max(500).describe('What is asked; the name unless said.').optional(),
  required: z.boolean().describe('Without it no approval counts.').default(false),
  pattern: z
    .string()
    .min(1)
    .max(1000)
    .describe('Text: what the whole of it must match (RE2 syntax: no look-around, no back-references).')
    .optional(),
  longest: z.int().min(1).max(LONGEST_TEXT).describe('Text: in characters; 1000 unless said.').optional(),
  min: z.number().describe('Number: the least.').optional(),
  max: z.number().describe('Number: the greatest.').optional(),
  whole: z.boolean().describe('Number: without a fraction.').optional(),
  options: options.describe('Choice and several: what can be chosen; without commas.').optional(),
  default: z
    .union([z.string(), z.number(), z.boolean(), z.array(z.string())], { error: 'must be a value of the field' })
    .describe('Stands where an approval says nothing of the field.')
    .optional(),
})
export type FormField = z.infer<typeof FormField>

const Environment = z.strictObject({
  url: httpUrl.describe('Where it answers; jobs that exercise it get it as `<NAME>_URL`.').optional(),
  target: z
    .strictObject({
      swarm: z.strictObject({
        service: name.describe('The Swarm service that is updated to the deliverable.'),
        env: variables.describe('Variables of the service.').default({}),
        command: z.array(z.string()).min(1).max(64).describe('Instead of the command of the image.').optional(),
        network: name
          .describe('A network that is there already: an overlay of yours, or `host` (then nothing is published).')
          .optional(),
        publish: z
          .array(z.strictObject({ host: Port, container: Port }))
          .max(32)
          .describe('Ports of the node that lead to ports of the container.')
          .default([]),
      }),
    })
    .describe('What Penstock updates by itself when it deploys here.')
    .optional(),
  approvers: z
    .array(approver)
    .min(1, 'must name at least one approver')
    .max(100)
    .describe(
      'One group, in short: people by name, `team:NAME`, `role:NAME`, `forge:write`, `forge:maintain`, `forge:admin`. Present: nothing goes here before they approved.',
    )
    .optional(),
  quorum: z
    .int()
    .min(1)
    .max(100)
    .describe('How many different people of `approvers` must approve; 1 unless said.')
    .optional(),
  approvals: z
    .array(
      z.strictObject({
        from: z.array(approver).min(1, 'must name at least one approver').max(100).describe('As `approvers`.'),
        count: z.int().min(1).max(100).describe('How many of them must approve.').default(1),
      }),
    )
    .min(1, 'must have at least one group')
    .max(20)
    .describe(
      'Groups, instead of `approvers` and `quorum`: all of them are needed, and a person counts for one. See [approvals](approvals.md).',
    )
    .optional(),
  expires: duration.describe('How long the gate waits for its answer; `7d` unless said.').optional(),
  form: z
    .strictObject({
      instructions: z.string().max(20_000).describe('Markdown, shown to whoever approves.').optional(),
      fields: z
        .record(name, FormField)
        .describe('By name. What is filled in reaches later jobs as `CI_GATE_<NAME>`.')
        .default({}),
    })
    .describe('What whoever approves fills in: see [approvals](approvals.md#form).')
    .optional(),
  break_glass_by_author: z
    .boolean()
    .describe(
      'Operators who wrote or pushed a change may themselves pass its gate by break-glass; else another operator must.',
    )
    .optional(),
  on_expiry: z
    .enum(EXPIRIES, { error: `must be ${EXPIRIES.map((one) => `\`${one}\``).join(', ')}` })
    .describe(
      'What then becomes of the run: it has failed (unless said), is canceled, or skips what the gate guards. It is never approved.',
    )
    .optional(),
  reminders: z
    .array(duration)
    .max(20)
    .describe('When who is still asked is reminded: so long after the gate was opened.')
    .optional(),
  hours: z
    .strictObject({
      zone: z.string().describe('An IANA time zone, such as `Europe/Berlin`.'),
      days: z.array(z.enum(DAYS, { error: `must be one of ${DAYS.join(', ')}` })).min(1, 'must name at least one day'),
      from: time.describe('`"09:00"`: from then on.'),
      to: time.describe('`"17:00"`, at most `"24:00"`: not from then on.'),
    })
    .describe(
      'When something may go here, by the clock on the wall of that zone. What is approved at another time waits.',
    )
    .optional(),
  freezes: z
    .array(
      z.strictObject({
        from: moment.describe('`"2026-12-20"`, from its first moment, or `"2026-12-20T18:00"`.'),
        to: moment.describe('`"2027-01-02"`, to its last moment, or `"2027-01-02T08:00"`.'),
        reason: z.string().min(1).max(200).describe('What people who wait are told.'),
        zone: z.string().describe('That of `hours` unless said.').optional(),
      }),
    )
    .max(100)
    .describe('When nothing goes here. What is approved meanwhile waits.')
    .optional(),
})

/** Of a forge that knows one kind of credential. */
function byToken(api: z.ZodType<string>, token: string) {
  return z.strictObject({ api, token: SecretReference.describe(token).optional() })
}

const Repository = z.strictObject({
  forge: z
    .union(
      [
        z.literal('git'),
        z.literal('github'),
        z.strictObject({
          github: z
            .strictObject({
              api: httpUrl
                .describe('Of GitHub Enterprise Server: `https://HOST/api/v3`.')
                .default('https://api.github.com'),
              token: SecretReference.describe('A personal token. Checks need an App.').optional(),
              app: z
                .strictObject({
                  id: z
                    .union(
                      [
                        z.int().positive(),
                        z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, 'must be the id of the App (or its client id)'),
                      ],
                      {
                        error: 'must be the id of the App (or its client id)',
                      },
                    )
                    .describe('App ID or client ID, as the settings of the App show it.'),
                  private_key: SecretReference.describe('In PEM form, as GitHub gives it.'),
                  installation: z.int().positive().describe('Found by the repository unless said.').optional(),
                })
                .describe('A GitHub App, instead of a token.')
                .optional(),
            })
            .refine(
              (one) => one.token === undefined || one.app === undefined,
              'must have either `token` or `app`, not both',
            ),
        }),
        z.strictObject({
          gitea: byToken(
            httpUrl.describe('`https://HOST/api/v1`, of Gitea or Forgejo.'),
            'Of an account that is an administrator of the repository: nobody else is told who may do what in it.',
          ),
        }),
        z.strictObject({
          gitlab: byToken(
            httpUrl.describe('Of one’s own: `https://HOST/api/v4`.').default('https://gitlab.com/api/v4'),
            'Of a project or a person, with the scope `api` and at least the role Maintainer.',
          ),
        }),
      ],
      {
        error:
          'must be `git`, `github`, or `{ FORGE: { api: …, token: { env: NAME } } }` where FORGE is `github` (which may have `app` instead of `token`), `gitea` (Forgejo, too; needs `api`) or `gitlab`',
      },
    )
    .describe('Where the repository is kept: `git` (a plain one), `github`, or one of the mappings.'),
  url: z.string().min(1).describe('A path, `ssh://…` or `https://…`: the only place that is ever fetched from.'),
  branches: z
    .strictObject({ candidate: branch.default('master'), production: branch.default('production') })
    .describe('The branch of release candidates and the branch of what is released.')
    .prefault({}),
  merge_label: z
    .string()
    .trim()
    .min(1)
    .max(50)
    .describe('Label of a pull request by which its merge is asked for, as by `/merge`. None unless said.')
    .optional(),
  unknown_pusher: z
    .enum(['run', 'refuse'], { error: 'must be `run` or `refuse`' })
    .describe(
      'Where no forge can be asked: whether a push by somebody whom `people` does not know starts a run. Nobody is then kept from approving it for having pushed it.',
    )
    .default('run'),
  webhook_secrets: z
    .array(SecretReference, { error: 'webhook secret missing: one is needed, two while they are rotated' })
    .min(1, 'webhook secret missing: one is needed, two while they are rotated')
    .max(2, 'at most two webhook secrets, while they are rotated')
    .describe('What signs the deliveries of this repository; at least 16 bytes each.'),
  secrets: z
    .record(z.string().regex(VARIABLE, 'must be the name of a variable'), SecretReference)
    .describe('What jobs may ask for by name; at least 8 bytes each, because shorter ones cannot be masked safely.')
    .default({}),
  environments: z.record(name, Environment).describe('Where one deploys to.').default({}),
  production_environment: name
    .describe(
      'The environment whose gate guards the production branch, and which that branch deploys, whatever a spec says. The only one that has a gate unless said; to be said where several have one.',
    )
    .optional(),
  dependents: z
    .strictObject({
      blocking: z
        .array(z.string().min(1))
        .max(100)
        .describe(
          'Repositories whose tests against a candidate must pass before it goes to production. Others are advisory.',
        )
        .default([]),
      most: z.int().min(0).max(1000).describe('Of the runs that one candidate may start; 10 unless said.').default(10),
      timeout: duration.describe('A run that takes longer is canceled; `1h` unless said.').default('1h'),
    })
    .describe('Repositories whose spec says that they follow this one: what they may cost, and which of them block.')
    .prefault({}),
})

const Person = z.strictObject({
  roles: z
    .array(z.enum(ROLES, { error: `must be one of ${ROLES.join(', ')}` }))
    .min(1, 'must have at least one role')
    .describe('What this person may do.'),
  github: z.string().min(1).describe('Login at GitHub.').optional(),
  gitea: z.string().min(1).describe('Login at Gitea or Forgejo.').optional(),
  gitlab: z.string().min(1).describe('Login at GitLab.').optional(),
  git: z.string().min(1).describe('Login at the host of a plain repository, as its hook tells it.').optional(),
  email: z
    .union([z.string(), z.array(z.string())], { error: 'must be an address or a list of addresses' })
    .describe('Addresses in commits: whoever wrote a change cannot approve it.')
    .optional(),
})

const property = z.union([z.string().max(1000), z.number(), z.boolean()], {
  error: 'must be a text, a number, or true or false',
})

const HandOverStep = z
  .strictObject({
    image: z.string().min(1).max(300).describe('The image of the container that does it, on any node.').optional(),
    run: z
      .union([z.string().min(1), z.array(z.string().min(1)).min(1).max(100)])
      .describe('Shell commands, with the variables that a job that holds the unit has, credentials included.')
      .optional(),
    constraints: z
      .array(z.string().regex(/^node\.[A-Za-z.0-9_-]+(?:==|!=).+$/, 'must be like `node.labels.site==lab`'))
      .max(20)
      .describe('Which nodes may run it, as for a job.')
      .default([]),
    http: z
      .string()
      .regex(
        /^https?:\/\/[^\s/?#@]+(?:[/?#][^\s]*)?$/,
        'must be an http:// or https:// address; `{PROPERTY}` stands for a property of the unit',
      )
      .describe('Instead of a container: an address that must answer; `{PROPERTY}` stands for a property of the unit.')
      .optional(),
    status: z.int().min(100).max(599).describe('What it must answer; any of 200 to 299 unless said.').optional(),
    timeout: duration.describe('Longer is a failure.').default('5m'),
  })
  .refine(
    (one) => (one.http === undefined) === (one.image !== undefined && one.run !== undefined),
    'must have either `image` and `run`, or `http`',
  )

export const Unit = z.strictObject({
  labels: z.array(label).max(64).default([]).describe('`key` or `key=value`; what a job may ask for.'),
  properties: z
    .record(name, property)
    .describe(
      'Texts, numbers, true or false: what `where` of a job asks for, and what a job that holds the unit is told.',
    )
    .default({}),
  notes: z.string().max(2000).describe('For people: where it stands, what is odd about it.').optional(),
  capacity: z
    .int()
    .min(1)
    .max(1000)
    .describe('How many may hold it at once, of those that ask for it with `mode: shared`; 1 unless said.')
    .default(1),
  reset_cost: duration
    .describe('What its hand-over costs: of units that serve alike the cheapest is given. Nothing unless said.')
    .optional(),
  credentials: z
    .record(z.string().regex(VARIABLE, 'must be the name of a variable'), SecretReference)
    .describe(
      'Secrets that a job gets while it holds the unit, as files `CI_POOL_<POOL>_<NAME>`; at least 8 bytes each.',
    )
    .default({}),
})

export const Pool = z.strictObject({
  privileged: z
    .boolean()
    .describe('Never given to the code of people without write access: see strangers.md.')
    .default(false),
  notes: z.string().max(2000).describe('For people.').optional(),
  share: z
    .int()
    .min(1)
    .max(1000)
    .describe('How many units of it the jobs of one repository, or one person, may hold at once. No limit unless said.')
    .optional(),
  max_hold: duration
    .describe('Whoever holds a unit longer is stopped and loses it. No limit unless said; people: `8h`.')
    .optional(),
  warn: duration
    .describe('How long before the end of `max_hold`, or of a reservation, the holder is warned.')
    .default('10m'),
  reset: HandOverStep.describe('Done with a unit before it is given on: it must succeed.').optional(),
  probe: HandOverStep.describe('Asked after that: only a unit whose probe passed is free again.').optional(),
  probe_every: duration.describe('How often a quarantined unit is tried again.').default('1m'),
  units: z.record(name, Unit).describe('The units, by name.'),
})

export const OperatorFile = z.strictObject({
  instance: z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,31}$/, 'must be lower-case letters, digits and `-`; at most 32')
    .describe('Tells installations apart that share one Docker engine. PENSTOCK_INSTANCE stands above it.')
    .default('main'),
  server: z
    .strictObject({
      listen: z.string().describe('`host:port`. PENSTOCK_LISTEN stands above it.').default('127.0.0.1:7410'),
      url: httpUrl
        .describe('How people and forges reach the server; from `listen` unless said. PENSTOCK_URL stands above it.')
        .optional(),
    })
    .prefault({}),
  database: z
    .union([z.string(), SecretReference], { error: 'must be `sqlite:PATH`, `postgres://…`, or `{ env: NAME }`' })
    .describe(
      '`sqlite:PATH` (relative to the data directory) or `postgres://…`. PENSTOCK_DATABASE_URL stands above it.',
    )
    .default('sqlite:./penstock.db'),
  temporal: z
    .strictObject({
      address: z.string().describe('PENSTOCK_TEMPORAL_ADDRESS stands above it.').default('127.0.0.1:7233'),
      namespace: z.string().min(1).default('default'),
      ui: httpUrl.describe('Address of the Temporal UI, for links.').optional(),
    })
    .prefault({}),
  trust_temporal_access: z
    .boolean()
    .describe('Signals without a vote token count: whoever reaches Temporal may vote in any name. The audit says so.')
    .default(false),
  unplaceable: z
    .enum(['fail', 'wait'], { error: 'must be `fail` or `wait`' })
    .describe('What becomes of a job whose constraints no node can meet.')
    .default('fail'),
  jobs_per_node: z
    .int()
    .min(1)
    .max(1000)
    .describe(
      'How many jobs run at once, times the number of nodes with a worker; further ones wait for a slot, oldest first.',
    )
    .default(10),
  people: z.record(name, Person).describe('Everybody who may use this installation.').default({}),
  teams: z
    .record(name, z.array(z.string().min(1)).min(1, 'must have at least one member').max(1000))
    .describe('People by team: `team:NAME` stands for its members.')
    .default({}),
  repositories: z
    .record(z.string().regex(REPOSITORY, 'must be the name of a repository, for example `acme/web`'), Repository)
    .describe('By name, for example `acme/web`.')
    .default({}),
  pools: z.record(name, Pool).describe('Scarce things that jobs check out: devices, licenses, test rigs.').default({}),
})
export type OperatorFile = z.infer<typeof OperatorFile>
