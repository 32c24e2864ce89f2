import { ApplicationFailure } from '@temporalio/activity'
import { gateVariables, peopleOf } from '../../src/approval/released.ts'
import { approversOf, excludedOf, operatorsOf } from '../../src/config/people.ts'
import { withheld } from '../../src/core/admission.ts'
import { brokenSentence, gateSentence, type Subject } from '../../src/core/approval.ts'
import type { ControlActivities, GateAnswer } from '../../src/core/run-contract.ts'
import type { Commit } from '../../src/git/mirrors.ts'
import type { GateRow, RunDetail } from '../../src/store/types.ts'
import type { ControlContext } from './context.ts'

/** Further back nobody is looked for: an installation that has released nothing for so long has other troubles. */
const COMMITS_OF_A_RELEASE = 1_000

/** Sign-off by people. */
export function createGateActivities(context: ControlContext) {
  const { config, store, mirrors, log, runOf, repositoryOf } = context

  async function openGate(input: Parameters<ControlActivities['openGate']>[0]): Promise<GateAnswer> {
    const { run, repo, gate, environment, deliverables } = input
    const detail = await runOf(run)
    const denied = withheld(detail.secrets, { kind: 'environment', name: environment })
    if (denied !== undefined) throw ApplicationFailure.nonRetryable(denied, 'failed')
    const settings = repositoryOf(repo)?.environments[environment]?.gate
    if (!settings) throw ApplicationFailure.nonRetryable(`environment ${environment} has no gate any more`, 'errored')
    const subject: Subject = {
      run,
      gate,
      environment,
      commit: detail.change.commit,
      specDigest: input.specDigest,
      deliverables: deliverables.map((one) => `${one.name}=${one.digest}`).sort(),
    }
    const known = await store.gates.get(run, gate)
    const rules = {
      approvers: approversOf(config, repo, environment),
      quorum: settings.quorum,
      // The rules of a gate that is open are those that it was opened with.
      excluded: known?.state === 'open' ? known.rules.excluded : await excludedFrom(detail),
      expiresAt: known?.state === 'open' ? (known.rules.expiresAt ?? 0) : context.clock() + settings.expiresMs,
      ...(settings.form === undefined ? {} : { form: settings.form }),
      ...(settings.breakGlassByAuthor ? { breakGlassByAuthor: true } : {}),
    }
    const row = await store.gates.open(run, gate, environment, rules, subject)
    const answer = toGateAnswer(row, context.clock())
    await store.events.append(run, `${gate}/opened/${row.id}`, [
      { type: 'gate.opened.v1', gate, environment, needs: answer.sentence },
    ])
    return answer
  }

  /**
   * Who wrote or pushed anything since the last release, as the commits say (which may only take a vote away), as the
   * forge has authenticated them, and as was told when it came: not every forge can be asked later.
   */
  async function excludedFrom(detail: RunDetail): Promise<readonly string[]> {
    const { repo, change } = detail
    const repository = repositoryOf(repo)
    const forge = repository && context.forges(repository)
    const source = await forge?.source()
    const tip = repository && (await forge?.branchTip(repository.branches.production))
    if (source !== undefined) await mirrors.ensure(repo, source, change.commit)
    // Before the first release there is no last one: then it is this change alone.
    let commits: readonly Commit[] = [{ commit: change.commit, ...(await mirrors.commitInfo(repo, change.commit)) }]
    if (source !== undefined && tip !== undefined) {
      await mirrors.ensure(repo, source, tip)
      commits = [...commits, ...(await mirrors.between(repo, tip, change.commit, COMMITS_OF_A_RELEASE)).commits]
    }
    const ids = commits.map(({ commit }) => commit)
    const pushers = (await forge?.pushes?.pushersOf(ids)) ?? []
    const authors = commits.map(({ author, authorEmail }) => `${author} <${authorEmail}>`)
    const told = await store.runs.peopleBehind(repo, ids)
    const people = [change, ...told].flatMap((one) => excludedOf(config, one))
    return [...new Set([...people, ...peopleOf(config, [...pushers, ...authors])])].sort()
  }

  async function castVote({ run, gate, key, answer, vote }: Parameters<ControlActivities['castVote']>[0]) {
    const channel = vote.channel ?? 'signal'
    const judged = await store.gates.vote({
      key,
      run,
      gate,
      answer,
      claimedBy: String(vote.who ?? ''),
      channel,
      trustSignals: config.trustTemporalAccess,
      ...(vote.token === undefined ? {} : { token: vote.token }),
      ...(vote.comment === undefined ? {} : { comment: vote.comment }),
      ...(vote.fields === undefined ? {} : { fields: vote.fields }),
      ...(vote.breakGlass ? { breakGlass: true, operators: operatorsOf(config) } : {}),
    })
    if (!judged.counts) log.info({ run, gate, who: vote.who, why: judged.why }, 'a vote did not count')
    const { counts, why } = judged
    // The gate's own state: by this clock it may be over before anybody has closed it.
    const row = await store.gates.get(run, gate)
    const decided = row === undefined || row.state === 'open' || row.state === 'voided' ? undefined : row.state
    const voted = {
      type: 'gate.voted.v1',
      gate,
      by: String(vote.who ?? ''),
      answer,
      channel,
      counts,
      ...(vote.comment === undefined ? {} : { comment: vote.comment }),
      ...(why === undefined ? {} : { why }),
      ...(vote.fields === undefined ? {} : { fields: vote.fields }),
      ...(vote.breakGlass ? { breakGlass: true as const } : {}),
    } as const
    await store.events.append(run, `${gate}/vote/${key}`, [
      voted,
      ...(decided === undefined ? [] : [{ type: 'gate.decided.v1', gate, verdict: decided } as const]),
    ])
    return gateAnswer(run, gate)
  }

  async function gateAnswer(run: string, gate: string): Promise<GateAnswer> {
    const row = await store.gates.get(run, gate)
    if (!row) throw ApplicationFailure.nonRetryable(`run ${run} has no gate "${gate}"`, 'errored')
    return toGateAnswer(row, context.clock())
  }

  async function expireGate({ run, gate }: { run: string; gate: string }) {
    await store.gates.expire(run, gate)
    return gateAnswer(run, gate)
  }

  return { openGate, castVote, expireGate }
}

function variablesOf(row: GateRow): Pick<GateAnswer, 'variables'> {
  const variables = gateVariables(row)
  return Object.keys(variables).length === 0 ? {} : { variables }
}

function toGateAnswer(row: GateRow, now: number): GateAnswer {
  const { rules } = row
  const approvals = new Set(row.votes.filter((one) => one.counts && one.answer === 'approve').map((one) => one.by))
  switch (row.state) {
    case 'approved':
      return {
        kind: 'approved',
        sentence: `approved by ${[...approvals].join(', ')}`,
        ...variablesOf(row),
        ...(row.broken === undefined ? {} : { broken: brokenSentence(row.name, row.broken) }),
      }
    case 'rejected': {
      const by = row.votes.find((one) => one.counts && one.answer === 'reject')
      return { kind: 'rejected', sentence: `by ${by?.by ?? '?'}${by?.comment ? `: ${by.comment}` : ''}` }
    }
    case 'expired':
      return { kind: 'expired', sentence: `without the ${rules.quorum} approval(s) it needs` }
    case 'voided':
    case 'open':
      return {
        kind: 'open',
        sentence: gateSentence({ ...row, votes: row.votes.filter((one) => one.counts) }),
        ...(rules.expiresAt === undefined
          ? {}
          : { expiresAt: rules.expiresAt, expiresInMs: Math.max(0, rules.expiresAt - now) }),
      }
  }
}
