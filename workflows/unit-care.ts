import {
  condition,
  continueAsNew,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow'
import { CONTROL_QUEUE } from '../src/core/ids.ts'
import type { ControlActivities, UnitKey } from '../src/core/run-contract.ts'
import { look } from './messages.ts'

/**
 * A unit on its way from one holder to the next: its reset, its probe, and both again when they fail. What is to be done
 * now is asked of the database; this only keeps at it, whatever dies meanwhile.
 */
export async function unitCare(key: UnitKey): Promise<void> {
  let looks = 0
  setHandler(look, () => {
    looks++
  })
  const { careForUnit } = proxyActivities<Pick<ControlActivities, 'careForUnit'>>({
    taskQueue: CONTROL_QUEUE,
    startToCloseTimeout: '1 day',
    heartbeatTimeout: '15 s',
    retry: { initialInterval: '1 s', maximumInterval: '30 s' },
    summary: `${key.pool}/${key.unit}`,
  })
  for (;;) {
    const seen = looks
    const next = await careForUnit(key)
    setCurrentDetails(next.sentence)
    if (next.kind === 'nothing' && looks === seen) return
    if (next.kind === 'wait') await condition(() => looks !== seen, next.ms, { summary: 'tries again' })
    if (workflowInfo().continueAsNewSuggested) await continueAsNew<typeof unitCare>(key)
  }
}
