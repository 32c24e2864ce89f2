import { ApplicationFailure } from '@temporalio/activity'
import { testersOf } from '../../src/config/people.ts'
import { jobId } from '../../src/core/ids.ts'
import { isOutcome } from '../../src/core/outcome.ts'
import type { JobInput, SessionAnswer } from '../../src/core/run-contract.ts'
import { nameList, sessionCases, sessionEnd, sessionSubject } from '../../src/core/session.ts'
import { SPEC_FILE } from '../../src/spec/parse.ts'
import type { ControlContext } from './context.ts'
import { endedSentence } from './context.ts'
import { knownEnd } from './jobs.ts'

/** Tests by people. */
export function createSessionActivities({ config, store, runOf }: ControlContext) {
  async function openSession({ key, job, environment, context, deliverables }: JobInput): Promise<SessionAnswer> {
    const { manual } = job
    if (!manual) throw ApplicationFailure.nonRetryable(`${jobId(key)} is no job for people`, 'errored')
    const { attempts, status, change, specDigest } = await runOf(key.run)
    const known = knownEnd(key, attempts)
    if (known) return known
    if (isOutcome(status)) return { kind: 'ended', outcome: 'errored', reason: endedSentence(key.run, status) }
    const testers = testersOf(config, manual.by)
    // Who could answer when it opened may be gone by now; then it is the operator's to bring somebody back.
    if (testers.length === 0 && !(await store.sessions.get(key))) {
      const reason = `nobody may test: the operator's file has no person for ${nameList(manual.by)}`
      return { kind: 'ended', outcome: 'failed', reason }
    }
    const url = environment !== undefined && own(context.environmentUrls, environment)
    const units = await store.leases.ofHolder(jobId(key))
    await store.sessions.open({
      key,
      manual,
      subject: sessionSubject(change.commit, specDigest ?? '', deliverables),
      may: testers,
      units: units.map(({ pool, unit, properties, expiresAt }) => ({ pool, unit, properties, expiresAt })),
      ...(environment === undefined ? {} : { environment }),
      ...(url ? { url } : {}),
    })
    const session = await store.sessions.expire(key, testers)
    if (!session) throw new Error(`the session ${jobId(key)} is gone`)
    const end = sessionEnd(session)
    if (!end) {
      const who = testers.length > 0 ? `may test: ${testers.join(', ')}` : 'nobody may test any more'
      const paused = session.paused ? `paused by ${session.paused.by}; ` : ''
      return { kind: 'open', sentence: `${paused}${who}`, expiresAt: session.expiresAt }
    }
    // Before the end is told: whoever reads it finds the results. Nobody was judged by what ended with its run.
    if (session.state !== 'ended') await store.results.put(key, sessionCases(session, key.job, SPEC_FILE))
    return { kind: 'ended', ...end }
  }

  return { openSession }
}

function own(record: Readonly<Record<string, string>>, name: string): string | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined
}
