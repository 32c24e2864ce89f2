import { ApplicationFailure, Context } from '@temporalio/activity'
import { credentialsOf } from '../../src/config/credentials.ts'
import { leaseEnvironment } from '../../src/core/pool/lease-environment.ts'
import type { HandOverStep, Properties } from '../../src/core/pool/settings.ts'
import type { CareStep, ControlActivities } from '../../src/core/run-contract.ts'
import { EngineRefused } from '../../src/engine/types.ts'
import type { CareTask } from '../../src/store/types.ts'
import { beating } from './beating.ts'
import type { ControlContext } from './context.ts'

/** Units between two holders: reset and probe. */
export function createUnitCare(context: ControlContext): Pick<ControlActivities, 'careForUnit'> {
  const { config, store, errands, log } = context

  async function careForUnit({ pool, unit }: Parameters<ControlActivities['careForUnit']>[0]): Promise<CareStep> {
    const care = await store.units.care(pool, unit)
    const name = `${pool}/${unit}`
    if (care.kind === 'nothing') return { kind: 'nothing', sentence: `${name} is ready` }
    if (care.kind === 'wait') {
      return { kind: 'wait', ms: care.ms, sentence: `${name} is tried again in ${Math.ceil(care.ms / 1000)} s` }
    }
    const step = care.phase === 'resetting' ? care.settings.reset : care.settings.probe
    const failure = step === undefined ? undefined : await beating(() => tryStep(care, step))
    if (failure !== undefined) log.warn({ pool, unit, phase: care.phase, failure }, 'a unit is not ready')
    await store.units.cared(care, failure)
    const how = failure === undefined ? 'succeeded' : `failed: ${failure}`
    return { kind: 'again', sentence: `${name}: ${care.phase} ${how}` }
  }

  /** Undefined: it succeeded. */
  async function tryStep(task: CareTask, step: HandOverStep): Promise<string | undefined> {
    if (step.kind === 'http') return ask(step, task.properties)
    const { pool, unit, properties, fence } = task
    const held = [{ pool, unit, fence, properties }]
    const id = `${pool}/${unit}/${task.phase}/${task.number}`
    try {
      // What earlier tries have left behind; their containers have ended.
      for (const other of await errands.owned()) {
        if (other !== id && other.startsWith(`${pool}/${unit}/`)) await errands.remove(other)
      }
      const end = await errands.run(
        {
          id,
          image: step.image,
          run: step.run,
          env: { ...leaseEnvironment(held), CI_HAND_OVER: task.phase === 'resetting' ? 'reset' : 'probe' },
          secrets: credentialsOf(config, held).map(({ name, secret }) => ({ name, value: secret.reveal() })),
          constraints: step.constraints,
          timeoutMs: step.timeoutMs,
        },
        Context.current().cancellationSignal,
      )
      return end.kind === 'done' ? undefined : end.why
    } catch (err) {
      if (err instanceof EngineRefused) return err.message
      throw ApplicationFailure.fromError(err, { message: `the ${task.phase} of ${pool}/${unit} could not be done` })
    }
  }

  return { careForUnit }
}

async function ask(
  { url, status, timeoutMs }: Extract<HandOverStep, { kind: 'http' }>,
  properties: Properties,
): Promise<string | undefined> {
  const address = url.replace(/\{([^{}]*)\}/g, (_whole, name: string) =>
    Object.hasOwn(properties, name) ? String(properties[name]) : '',
  )
  try {
    const answer = await fetch(address, { signal: AbortSignal.timeout(timeoutMs) })
    await answer.body?.cancel()
    const isRight = status === undefined ? answer.ok : answer.status === status
    return isRight ? undefined : `${address} answered ${answer.status}`
  } catch (err) {
    const cause = err instanceof Error && err.cause instanceof Error ? err.cause : err
    return `${address} did not answer: ${cause instanceof Error ? cause.message : String(cause)}`
  }
}
