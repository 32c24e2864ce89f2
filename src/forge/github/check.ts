import { z } from 'zod'
import { found, isStatus, read } from '../answers.ts'
import type { Finding, Forge } from '../types.ts'
import type { Connection } from './connect.ts'
import { sendsTo } from './deliveries.ts'
import { covers, EVENTS, PERMISSIONS } from './permissions.ts'

const Repository = z.object({
  html_url: z.string().nullish(),
  permissions: z.object({ push: z.boolean().nullish(), admin: z.boolean().nullish() }).nullish(),
})
const Installation = z.object({
  html_url: z.string().nullish(),
  permissions: z.record(z.string(), z.string()),
  events: z.array(z.string()),
})
const HookConfig = z.object({
  url: z.string().nullish(),
  content_type: z.string().nullish(),
  insecure_ssl: z.union([z.string(), z.number()]).nullish(),
})
const Hook = z.object({
  active: z.boolean().nullish(),
  events: z.array(z.string()),
  config: HookConfig,
  last_response: z.object({ code: z.int().nullish(), message: z.string().nullish() }).nullish(),
})
type Hook = z.infer<typeof Hook>

const Switch = z.object({ enabled: z.boolean() }).nullish()
const Protection = z.object({
  required_status_checks: z
    .object({
      strict: z.boolean().nullish(),
      contexts: z.array(z.string()).nullish(),
    })
    .nullish(),
  required_pull_request_reviews: z.object({ required_approving_review_count: z.int().nullish() }).nullish(),
  restrictions: z.object({}).nullish(),
  enforce_admins: Switch,
  required_linear_history: Switch,
  allow_force_pushes: Switch,
  allow_deletions: Switch,
})
const BranchRule = z.object({
  type: z.string(),
  parameters: z
    .object({
      required_approving_review_count: z.int().nullish(),
      required_status_checks: z.array(z.object({ context: z.string() })).nullish(),
    })
    .nullish(),
})

export interface CheckOptions {
  readonly hook: string
  readonly branches: { readonly candidate: string; readonly production: string }
  readonly branchTip: Forge['branchTip']
}

/** Reads only. What one account may not see is `unknown`, and says how to look. */
export function createCheck(connection: Connection, { hook, branches, branchTip }: CheckOptions) {
  const { octokit, app, at } = connection
  const name = `${at.owner}/${at.repo}`

  return async function check(): Promise<readonly Finding[]> {
    const access = await lookAtRepository()
    if (access.kind === 'refused') return [access.finding]
    return [
      access.finding,
      ...(await permissions(access)),
      ...(await webhook(access.settings)),
      ...(await branch(branches.candidate, 'candidate', access)),
      ...(await branch(branches.production, 'production', access)),
    ]
  }

  type Seen = {
    readonly kind: 'seen'
    readonly finding: Finding
    /** Address of the repository's settings, for people. */
    readonly settings: string
    readonly mayPush: boolean
    readonly isAdmin: boolean
    /** Of a classic token; GitHub does not tell those of others. */
    readonly scopes?: readonly string[]
  }

  async function lookAtRepository(): Promise<Seen | { readonly kind: 'refused'; readonly finding: Finding }> {
    const finding = { about: 'access', name, weight: 'needed', why: 'to do anything at all' } as const
    try {
      const answer = await octokit.rest.repos.get(at)
      const { html_url, permissions } = read(Repository, answer)
      const scopes = answer.headers['x-oauth-scopes']
      return {
        kind: 'seen',
        finding: { ...finding, state: 'present' },
        settings: `${html_url ?? name}/settings`,
        mayPush: permissions?.push === true,
        isAdmin: permissions?.admin === true,
        ...(typeof scopes === 'string' ? { scopes: scopes.split(/,\s*/).filter(Boolean) } : {}),
      }
    } catch (err) {
      if (!isStatus(err, 401, 403, 404)) throw err
      const mend = isStatus(err, 401)
        ? app === undefined
          ? 'the token is wrong or has ended: make another, and name it in the operator’s file'
          : 'GitHub does not know the App by this id and private key: compare both with the App’s settings'
        : app === undefined
          ? `the token’s account does not see ${name}: add the account to the repository, and the repository to the token`
          : `install the App on ${name}`
      return { kind: 'refused', finding: { ...finding, state: 'missing', mend } }
    }
  }

  async function permissions(seen: Seen): Promise<readonly Finding[]> {
    if (app === undefined) return PERMISSIONS.map((one) => ofToken(one, seen))
    const granted = read(Installation, await app.rest.apps.getRepoInstallation(at))
    return PERMISSIONS.map(({ name, level, weight, why }) => {
      const finding = { about: 'permission', name: `${name}: ${level}`, weight, why } as const
      if (covers(granted.permissions[name], level)) return { ...finding, state: 'present' }
      const mend = `in the App’s settings, under “Permissions”, set ${spoken(name)} to ${level}; then accept the change at ${granted.html_url ?? 'the installation'}`
      return { ...finding, state: 'missing', mend }
    })
  }

  function ofToken({ name, level, weight, why, scopes }: (typeof PERMISSIONS)[number], seen: Seen): Finding {
    const finding = { about: 'permission', name: `${name}: ${level}`, weight, why } as const
    if (scopes.length === 0) {
      return {
        ...finding,
        state: 'missing',
        mend: `${spoken(name)} are for GitHub Apps only: use one instead of a token`,
      }
    }
    if (level === 'write' && !seen.mayPush) {
      return { ...finding, state: 'missing', mend: 'give the token’s account the role “write” in the repository' }
    }
    if (name === 'metadata') return { ...finding, state: 'present' }
    if (seen.scopes === undefined) {
      const mend = `GitHub does not tell what a fine-grained token may: see that it has ${spoken(name)}: ${level}`
      return { ...finding, state: 'unknown', mend }
    }
    if (scopes.some((one) => seen.scopes?.includes(one))) return { ...finding, state: 'present' }
    return { ...finding, state: 'missing', mend: `give the token the scope ${scopes.join(' or ')}` }
  }

  async function webhook(settings: string): Promise<readonly Finding[]> {
    const where = app === undefined ? `${settings}/hooks` : 'the App’s settings, under “Webhook”'
    const finding = { about: 'webhook', name: hook, weight: 'needed', why: 'without deliveries no run starts' } as const
    const found = await findHook()
    if (found.kind === 'unseen') {
      const mend = `this account may not read webhooks: look at ${where}, and give a classic token the scope read:repo_hook (a fine-grained one “Webhooks: read”)`
      return [{ ...finding, state: 'unknown', mend }]
    }
    if (found.kind === 'none') {
      const mend = `add a webhook at ${where}: payload URL ${hook}, content type application/json, the webhook secret of the operator’s file, events ${EVENTS.map((one) => one.name).join(', ')}`
      return [{ ...finding, state: 'missing', mend }]
    }
    const { config, active, events, last_response } = found.hook
    const of = (
      name: string,
      isThere: boolean,
      why: string,
      mend: string,
      weight: Finding['weight'] = 'needed',
    ): Finding => ({
      about: 'webhook',
      name,
      weight,
      why,
      ...(isThere ? { state: 'present' } : { state: 'missing', mend }),
    })
    const code = last_response?.code
    return [
      of(hook, active !== false, finding.why, `the webhook is switched off: make it active at ${where}`),
      of(
        'content type',
        config.content_type === 'json',
        'deliveries are read as JSON only',
        `set the content type to application/json at ${where}`,
      ),
      of(
        'certificates',
        String(config.insecure_ssl ?? '0') === '0',
        'so that nobody else can take deliveries in our name',
        `switch SSL verification on at ${where}`,
      ),
      ...(code == null
        ? []
        : [
            of(
              'last delivery',
              code >= 200 && code < 300,
              'what we answered to the newest delivery',
              `the answer was ${code}${code === 401 ? ': the webhook secret at GitHub is not the one of the operator’s file' : ''}; see the deliveries at ${where}`,
            ),
          ]),
      ...EVENTS.map((one) =>
        of(
          `event ${one.name}`,
          events.includes(one.name) || events.includes('*'),
          one.why,
          `tick the event ${one.name} at ${app === undefined ? where : 'the App’s settings, under “Permissions & events”'}`,
          one.weight,
        ),
      ),
    ]
  }

  type FoundHook =
    | { readonly kind: 'found'; readonly hook: Hook }
    | { readonly kind: 'none' }
    | { readonly kind: 'unseen' }

  async function findHook(): Promise<FoundHook> {
    try {
      if (app !== undefined) {
        const config = read(HookConfig, await app.rest.apps.getWebhookConfigForApp())
        if (!sendsTo(config.url, hook)) return { kind: 'none' }
        const { events } = read(Installation, await app.rest.apps.getRepoInstallation(at))
        return { kind: 'found', hook: { events, config } }
      }
      const hooks = read(z.array(Hook), await octokit.rest.repos.listWebhooks({ ...at, per_page: 100 }))
      const ours = hooks.find((one) => sendsTo(one.config.url, hook))
      return ours === undefined ? { kind: 'none' } : { kind: 'found', hook: ours }
    } catch (err) {
      // 404 stands for "not yours to see" here.
      if (isStatus(err, 403, 404)) return { kind: 'unseen' }
      throw err
    }
  }

  async function branch(name: string, role: 'candidate' | 'production', seen: Seen): Promise<readonly Finding[]> {
    const where = `${seen.settings}/branches`
    const exists = (await branchTip(name)) !== undefined
    const finding = { about: 'branch', name, weight: 'needed', why: `the branch of ${role}` } as const
    if (!exists) {
      const mend =
        role === 'candidate'
          ? `push ${name}, or name the right branch in the operator’s file`
          : `nothing to do: the first promotion makes it; protect ${name} before, at ${where}`
      const weight = role === 'candidate' ? 'needed' : 'advised'
      return [{ ...finding, weight, state: 'missing', mend }]
    }
    const rules = await rulesOf(name, seen)
    const state = (holds: boolean): Finding['state'] => (holds ? 'present' : rules.complete ? 'missing' : 'unknown')
    const of = (what: string, holds: boolean, weight: Finding['weight'], why: string, mend: string): Finding => ({
      about: 'branch',
      name: `${name}: ${what}`,
      weight,
      why,
      state: state(holds),
      ...(holds ? {} : { mend: `${mend}, at ${where}${rules.complete ? '' : ' (this account may not read it)'}` }),
    })
    const context = role === 'candidate' ? 'penstock/test' : 'penstock/signoff'
    return [
      { ...finding, state: 'present' },
      of(
        'no force pushes',
        rules.noForce,
        'needed',
        'what was tested must stay what is there',
        `protect ${name} and do not allow force pushes`,
      ),
      of(
        'no deletion',
        rules.noDeletion,
        'needed',
        'the branch must stay',
        `protect ${name} and do not allow deletions`,
      ),
      of(
        'linear history',
        rules.linear,
        'advised',
        'a merge commit would be one that nobody tested',
        'require linear history',
      ),
      ...(role === 'candidate'
        ? [
            of(
              'review',
              rules.reviews > 0,
              'needed',
              'nothing is merged that only its author has seen',
              'require a pull request with at least one approval',
            ),
          ]
        : [
            of(
              'only Penstock pushes',
              rules.restricted,
              'advised',
              'what goes to production has passed the gate',
              `restrict who can push to ${name}, to Penstock’s ${app === undefined ? 'account' : 'App'}`,
            ),
          ]),
      of(
        `status ${context}`,
        rules.contexts.includes(context),
        'needed',
        'GitHub itself refuses what Penstock has not passed',
        `require the status check ${context}`,
      ),
    ]
  }

  async function rulesOf(branch: string, seen: Seen) {
    const classic = await protectionOf(branch, seen)
    const asked = { ...at, branch, per_page: 100 }
    // Older servers have no rulesets.
    const answer = await found(octokit.rest.repos.getBranchRules(asked))
    const ruleset = answer === undefined ? [] : read(z.array(BranchRule), answer)
    const has = (type: string) => ruleset.some((one) => one.type === type)
    const { protection } = classic
    return {
      /** Both ways to protect a branch could be read. */
      complete: classic.kind !== 'unseen',
      noForce: has('non_fast_forward') || (protection !== undefined && protection.allow_force_pushes?.enabled !== true),
      noDeletion: has('deletion') || (protection !== undefined && protection.allow_deletions?.enabled !== true),
      linear: has('required_linear_history') || protection?.required_linear_history?.enabled === true,
      restricted: has('update') || (protection?.restrictions !== undefined && protection.restrictions !== null),
      reviews: Math.max(
        protection?.required_pull_request_reviews?.required_approving_review_count ?? 0,
        ...ruleset.map((one) => one.parameters?.required_approving_review_count ?? 0),
      ),
      contexts: [
        ...(protection?.required_status_checks?.contexts ?? []),
        ...ruleset.flatMap((one) => (one.parameters?.required_status_checks ?? []).map((check) => check.context)),
      ],
    }
  }

  async function protectionOf(
    branch: string,
    seen: Seen,
  ): Promise<{
    readonly kind: 'read' | 'none' | 'unseen'
    readonly protection?: z.infer<typeof Protection>
  }> {
    try {
      const answer = await octokit.rest.repos.getBranchProtection({ ...at, branch })
      return { kind: 'read', protection: read(Protection, answer) }
    } catch (err) {
      if (isStatus(err, 403)) return { kind: 'unseen' }
      // Without an administrator's role a person gets the same 404 for a branch that is protected.
      if (isStatus(err, 404)) return { kind: app !== undefined || seen.isAdmin ? 'none' : 'unseen' }
      throw err
    }
  }
}

/** As GitHub's pages write it. */
function spoken(permission: string): string {
  const words = permission.replaceAll('_', ' ')
  return words.charAt(0).toUpperCase() + words.slice(1)
}
