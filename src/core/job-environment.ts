import { branchName } from './change.ts'
import { parseRunId } from './ids.ts'
import type { JobInput } from './run-contract.ts'

/**
 * The variables every step gets. Values that strangers may choose (branch, title, author) reach a step only here, never
 * as text of a script.
 */
export function jobEnvironment(input: JobInput): Record<string, string> {
  const { key, context } = input
  const { change } = context
  const env: Record<string, string> = {
    CI: 'true',
    CI_REPO: input.repo,
    CI_RUN: key.run,
    CI_RUN_NUMBER: String(parseRunId(key.run)?.number ?? ''),
    CI_STAGE: key.stage,
    CI_JOB: key.job,
    CI_ATTEMPT: String(key.attempt),
    CI_EVENT: context.trigger,
    CI_COMMIT: change.commit,
    CI_REF: change.ref,
    CI_BRANCH: branchName(change.ref),
    CI_TITLE: change.title ?? '',
    CI_AUTHOR: change.author ?? '',
    // The checkout belongs to the worker's user: git in the image would refuse it otherwise.
    GIT_CONFIG_COUNT: '1',
    GIT_CONFIG_KEY_0: 'safe.directory',
    GIT_CONFIG_VALUE_0: '*',
  }
  if (change.before) env.CI_COMMIT_BEFORE = change.before
  if (change.pullRequest) {
    env.CI_PULL_REQUEST = String(change.pullRequest.number)
    env.CI_BASE_BRANCH = change.pullRequest.base
  }
  if (change.upstream) {
    const { repo, run, commit, url, deliverables } = change.upstream
    Object.assign(env, { CI_UPSTREAM_REPO: repo, CI_UPSTREAM_RUN: run, CI_UPSTREAM_COMMIT: commit })
    if (url !== undefined) env.CI_UPSTREAM_URL = url
    for (const { name, reference } of deliverables) env[`CI_UPSTREAM_DELIVERABLE_${variableName(name)}`] = reference
  }
  for (const [name, url] of Object.entries(context.environmentUrls)) env[`${variableName(name)}_URL`] = url
  Object.assign(env, context.gateVariables)
  if (input.environment) env.CI_ENVIRONMENT = input.environment
  for (const one of input.deliverables) env[`CI_DELIVERABLE_${variableName(one.name)}`] = one.reference
  return env
}

export function variableName(name: string): string {
  return name.toUpperCase().replace(/[^A-Z0-9]+/g, '_')
}
