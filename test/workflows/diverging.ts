import { sleep } from '@temporalio/workflow'
import type { RunInput } from '../../src/core/run-contract.ts'
import { pipelineRun as today } from '../../workflows/index.ts'

export { job } from '../../workflows/index.ts'

/** A change that histories can see, made without `patched()`: what the replay test must notice. */
export async function pipelineRun(input: RunInput): Promise<void> {
  await sleep('1 s')
  return today(input)
}
