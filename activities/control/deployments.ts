import { withheld } from '../../src/core/admission.ts'
import type { ControlActivities } from '../../src/core/run-contract.ts'
import { beating } from './beating.ts'
import type { ControlContext } from './context.ts'

/** What goes to environments, by the ledger. */
export function createDeployments(context: ControlContext) {
  const { store, runOf, repositoryOf, whyGated } = context

  async function isDeployed({ run, repo, environment, deliverable }: Parameters<ControlActivities['isDeployed']>[0]) {
    const current = await store.deployments.current(repo, environment)
    return current?.run === run && current.deliverable === deliverable
  }

  async function deploy(input: Parameters<ControlActivities['deploy']>[0]) {
    const { run, repo, commit, environment, deliverable } = input
    const detail = await runOf(run)
    const denied = withheld(detail.secrets, { kind: 'environment', name: environment }) ?? whyGated(detail, environment)
    if (denied !== undefined) return { outcome: 'failed', reason: denied } as const
    const target = repositoryOf(repo)?.environments[environment]?.target?.swarm
    if (!target) {
      const reason = `environment ${environment} has no target in the operator's file, so nothing can be put there`
      return { outcome: 'failed', reason } as const
    }
    const [lease] = await store.leases.ofHolder(`${run}@${environment}`)
    if (!lease) return { outcome: 'errored', reason: `run ${run} does not hold ${environment}` } as const
    const { name, digest } = deliverable
    const intent = await store.deployments.intend({
      repo,
      environment,
      run,
      try: input.try,
      commit,
      deliverable: name,
      digest,
      fence: lease.fence,
    })
    if (intent.kind === 'stale') {
      return { outcome: 'errored', reason: `${intent.current.run} has taken ${environment} meanwhile` } as const
    }
    const event = (state: 'intended' | 'done' | 'failed' | 'unknown') =>
      store.events.append(run, `${environment}/${intent.row.id}/${state}`, [
        { type: 'deployment.recorded.v1', environment, digest, state },
      ])
    await event('intended')
    return beating(async () => {
      const result = await context.deployer.deploy({ target, deliverable, repo, environment, commit })
      await store.deployments.finish(intent.row.id, result.kind, result.detail)
      await event(result.kind)
      if (result.kind === 'done') return { outcome: 'succeeded' } as const
      if (result.kind === 'failed') return { outcome: 'failed', reason: result.detail } as const
      return { outcome: 'errored', reason: `unknown whether it was deployed: ${result.detail}` } as const
    })
  }

  return { isDeployed, deploy }
}
