import { ApplicationFailure, Context } from '@temporalio/activity'
import { credentialsOf } from '../../src/config/credentials.ts'
import { leaseEnvironment } from '../../src/core/pool/lease-environment.ts'
import type { HandOverStep, Properties } from '../../src/core/pool/settings.ts'
import type { CareStep, ControlActivities } from '../../src/core/run-contract.ts'
import { EngineRefused, type ErrandEnd } from '../../src/engine/types.ts'
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
    const tried = await beating(() => untilPutOff(care, (signal) => attempt(care, signal)))
    const said = (how: string) => ({ kind: 'again', sentence: `${name}: ${care.phase} ${how}` }) as const
    switch (tried.kind) {
      case 'done':
        await store.units.cared(care, undefined)
        return said('succeeded')
      case 'failed':
        log.warn({ pool, unit, phase: care.phase, failure: tried.why }, 'a unit is not ready')
        await store.units.cared(care, tried.why)
        return said(`failed: ${tried.why}`)
      case 'unreachable':
        log.warn({ pool, unit, phase: care.phase, why: tried.why }, 'what makes a unit ready is out of reach')
        await store.units.strand(care, tried.why)
        return said(`goes on when it is known: ${tried.why}`)
      case 'put-off':
        return said('was put off')
    }
  }

  /**
   * A person may clear the unit, take it out or have it in maintenance while its reset is at work: then that is ended. Only
   * what has ended is left alone.
   */
  async function untilPutOff(
    task: CareTask,
    act: (signal: AbortSignal) => Promise<ErrandEnd>,
  ): Promise<ErrandEnd | { readonly kind: 'put-off' }> {
    const putOff = new AbortController()
    let turn: Promise<void> = Promise.resolve()
    const look = setInterval(() => {
      turn = turn.then(async () => {
        try {
          if (!(await store.units.isWanted(task))) putOff.abort(new PutOff())
        } catch (err) {
          log.warn(
            { err, pool: task.pool, unit: task.unit },
            'it is not known whether a unit is still to be made ready',
          )
        }
      })
    }, LOOK_MS)
    try {
      return await act(AbortSignal.any([putOff.signal, Context.current().cancellationSignal]))
    } catch (err) {
      if (!putOff.signal.aborted) throw err
      // Where it cannot be reached, whoever goes on with the unit says so.
      await errands.remove(idOf(task))
      return { kind: 'put-off' }
    } finally {
      clearInterval(look)
      await turn
    }
  }

  async function attempt(task: CareTask, signal: AbortSignal): Promise<ErrandEnd> {
    const { pool, unit, phase, settings } = task
    const step = phase === 'clearing' ? undefined : phase === 'resetting' ? settings.reset : settings.probe
    try {
      // What earlier tries have left may still be at work: two at once would be against each other. So may this one, if
      // settings have changed since it was begun.
      const own = step?.kind === 'container' ? idOf(task) : undefined
      for (const other of await errands.owned()) {
        if (other === own || !other.startsWith(`${pool}/${unit}/`)) continue
        const left = await errands.remove(other)
        if (left !== undefined) return left
      }
      if (step === undefined) return { kind: 'done' }
      return step.kind === 'http' ? await ask(step, task.properties, signal) : await runStep(task, step, signal)
    } catch (err) {
      if (err instanceof EngineRefused) return { kind: 'failed', why: err.message }
      throw ApplicationFailure.fromError(err, { message: `the ${phase} of ${pool}/${unit} could not be done` })
    }
  }

  function runStep(
    task: CareTask,
    step: Extract<HandOverStep, { kind: 'container' }>,
    signal: AbortSignal,
  ): Promise<ErrandEnd> {
    const { pool, unit, properties, fence } = task
    const held = [{ pool, unit, fence, properties }]
    return errands.run(
      {
        id: idOf(task),
        image: step.image,
        run: step.run,
        env: { ...leaseEnvironment(held), CI_HAND_OVER: task.phase === 'resetting' ? 'reset' : 'probe' },
        secrets: credentialsOf(config, held).map(({ name, secret }) => ({ name, value: secret.reveal() })),
        constraints: step.constraints,
        timeoutMs: step.timeoutMs,
      },
      signal,
    )
  }

  return { careForUnit }
}

/** Between looks whether what is being done is still wanted. */
const LOOK_MS = 1_000

class PutOff extends Error {
  override readonly name = 'PutOff'
}

function idOf({ pool, unit, phase, number }: CareTask): string {
  return `${pool}/${unit}/${phase}/${number}`
}

async function ask(
  { url, status, timeoutMs }: Extract<HandOverStep, { kind: 'http' }>,
  properties: Properties,
  putOff: AbortSignal,
): Promise<ErrandEnd> {
  const address = url.replace(/\{([^{}]*)\}/g, (_whole, name: string) =>
    Object.hasOwn(properties, name) ? String(properties[name]) : '',
  )
  try {
    const answer = await fetch(address, { signal: AbortSignal.any([putOff, AbortSignal.timeout(timeoutMs)]) })
    await answer.body?.cancel()
    const isRight = status === undefined ? answer.ok : answer.status === status
    return isRight ? { kind: 'done' } : { kind: 'failed', why: `it answered ${answer.status}` }
  } catch (err) {
    if (putOff.aborted) throw err
    // Not the address, which the reason would show to everybody.
    const cause = err instanceof Error && err.cause instanceof Error ? err.cause : err
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
    const how = typeof code === 'string' ? code : cause instanceof Error ? cause.name : 'for a reason not known'
    return { kind: 'failed', why: `it did not answer: ${how}` }
  }
}
