import { excludedOf } from '../../src/config/people.ts'
import type { GateRules, Subject } from '../../src/core/approval.ts'
import type { VoteSignal } from '../../src/core/run-contract.ts'
import type { Running } from './server.ts'

/** A new run that waits at its gate. */
export async function gateOn(server: Running, over: Partial<GateRules> & { pusher?: string } = {}) {
  const { pusher, ...rules } = over
  const run = await server.run(pusher === undefined ? {} : { pusher })
  const subject: Subject = {
    run: run.id,
    gate: 'approval',
    environment: 'production',
    commit: run.change.commit,
    specDigest: 'd'.repeat(64),
    deliverables: ['image=sha256:aa'],
  }
  const excluded = excludedOf(server.config, run.change)
  await server.store.gates.open(
    run.id,
    'approval',
    'production',
    { approvers: ['ada', 'ben', 'cyd'], quorum: 1, excluded, ...rules },
    subject,
  )
  return { run, subject, path: `/api/v1/runs/${run.number}/gates/approval` }
}

/** Votes in the outbox come to their gates, as the workflow brings them there. */
export async function sendVotes(server: Running, operators: readonly string[] = ['ada', 'ops']) {
  const answers: { readonly counts: boolean; readonly why?: string }[] = []
  for (const { id, message } of await server.store.outbox.take(100, 60_000)) {
    if (message.kind !== 'signal' || (message.signal !== 'approve' && message.signal !== 'reject')) continue
    await server.store.outbox.done(id)
    const { who, ...rest } = message.args[0] as VoteSignal & { channel: string; key: string }
    answers.push(
      await server.store.gates.vote({
        ...rest,
        run: message.workflowId,
        gate: 'approval',
        answer: message.signal,
        claimedBy: who,
        trustSignals: false,
        operators,
      }),
    )
  }
  return answers
}
