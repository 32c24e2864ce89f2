import type { CheckReport, CheckState, DeploymentReport, ReportPort } from '../core/report/types.ts'
import { unreachable } from '../core/unreachable.ts'
import { within } from './deadline.ts'
import type { Check, DeploymentState, Deployments, Forge, Put } from './types.ts'

/** As the port promises: whoever sends waits a little longer, and then sends what is newer. */
const ANSWER_MS = 15_000

/** What a forge has to show runs with, as the reporter and the sender ask for it; what it lacks is absent. */
export function createReportPort({
  forge: { statuses, checks, comments, deployments },
  isProduction,
}: {
  readonly forge: Pick<Forge, 'statuses' | 'checks' | 'comments' | 'deployments'>
  readonly isProduction: (environment: string) => boolean
}): ReportPort {
  return {
    ...(statuses && { setStatus: (status) => within(ANSWER_MS, () => statuses.set(status)) }),
    ...(checks && { setCheck: (check) => within(ANSWER_MS, async () => idOf(await checks.put(toCheck(check)))) }),
    ...(comments && {
      upsertComment: ({ pullRequest, marker, body }) =>
        within(ANSWER_MS, async () => (await comments.upsert(pullRequest, marker, body)).id),
    }),
    ...(deployments && {
      setDeployment: (report) => within(ANSWER_MS, () => deploy(deployments, report, isProduction)),
    }),
  }
}

async function deploy(
  deployments: Deployments,
  { commit, environment, identity, description, url, address, state }: DeploymentReport,
  isProduction: (environment: string) => boolean,
): Promise<string | undefined> {
  // Made once, and its description stays: what happens is told by its states.
  const made = { commit, environment, key: identity, description: identity, production: isProduction(environment) }
  const id = idOf(await deployments.put(made))
  if (id === undefined) return undefined
  const now = { state: toDeploymentState(state), description, logUrl: url }
  await deployments.setState(id, address === undefined ? now : { ...now, url: address })
  return id
}

/** What is not to be had counts as taken: the adapter has said so, and asks again later. */
function idOf(put: Put): string | undefined {
  return put.kind === 'put' ? put.id : undefined
}

function toCheck({
  commit,
  name,
  identity,
  state,
  title,
  summary,
  text,
  annotations,
  actions,
  url,
}: CheckReport): Check {
  return {
    commit,
    name,
    key: identity,
    state: toCheckState(state),
    title,
    summary,
    url,
    annotations: annotations.map((one) => ({ ...one, level: 'failure' })),
    actions: actions.map(({ identifier, label, description }) => ({ id: identifier, label, description })),
    ...(text === undefined ? {} : { text }),
  }
}

function toCheckState(state: CheckState): Check['state'] {
  if (state.kind !== 'ended') return state.kind
  return state.conclusion === 'canceled' ? 'cancelled' : state.conclusion
}

function toDeploymentState(state: DeploymentReport['state']): DeploymentState {
  switch (state) {
    case 'running':
      return 'in_progress'
    case 'queued':
    case 'success':
    case 'failure':
    case 'error':
      return state
    default:
      return unreachable(state)
  }
}
