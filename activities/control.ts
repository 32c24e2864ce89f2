import type { ControlActivities } from '../src/core/run-contract.ts'
import { PENSTOCK, supersededReason } from '../src/core/superseded.ts'
import { type ControlDeps, createContext } from './control/context.ts'
import { createDeployments } from './control/deployments.ts'
import { createGateActivities } from './control/gates.ts'
import { createJobs } from './control/jobs.ts'
import { createLeasing } from './control/leases.ts'
import { createPromotion } from './control/promotion.ts'
import { createSessionActivities } from './control/sessions.ts'
import { createTries } from './control/tries.ts'
import { createUnitCare } from './control/units.ts'

/** The activities of the control queue: they decide by core, and act through store, cluster, git. */
export function createControlActivities(deps: ControlDeps): ControlActivities {
  const context = createContext(deps)
  const { store, cluster, runOf } = context
  const { promote, blockedBy } = createPromotion(context)
  const { acquireEnvironment, acquirePools, acquireSlot } = createLeasing(context)

  return {
    ...createTries(context, { blockedBy }),
    append: ({ run, key, events }) => store.events.append(run, key, events),
    showWaiting: ({ run, stage, waiting }) =>
      store.runs.setStatus(run, waiting ? 'waiting' : 'running', {
        ...(stage === undefined ? {} : { stage }),
        ...(waiting === undefined ? {} : { waiting }),
      }),
    async cancelReason({ run }) {
      const { cancel } = await runOf(run)
      return cancel ? `canceled by ${cancel.by}: ${cancel.reason}` : 'canceled in Temporal'
    },
    acquireEnvironment,
    acquirePools,
    async supersede({ run, by }) {
      // Who waits for an environment is its run, at that environment.
      const [newer = by] = by.split('@')
      await store.runs.requestCancel(run, PENSTOCK, supersededReason(newer))
    },
    ...createJobs(context, { acquireSlot }),
    removeJob: ({ key }) => cluster.removeJob(key),
    removeNetwork: ({ run }) => cluster.removeNetwork(run),
    ...createSessionActivities(context),
    ...createDeployments(context),
    ...createGateActivities(context),
    promote,
    ...createUnitCare(context),
  }
}
