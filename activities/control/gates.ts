import { ApplicationFailure } from '@temporalio/activity'
import { gateVariables, isBrokenNow, whyNotReleased } from '../../src/approval/released.ts'
import { peopleOf, quorumOf } from '../../src/approval/rights.ts'
import type { EnvironmentGate, RepositoryConfig } from '../../src/config/types.ts'
import { withheld } from '../../src/core/admission.ts'
import {
  brokenSentence,
  type GateRules,
  gateSentence,
  type Subject,
  standingOf,
  verdictOf,
} from '../../src/core/approval.ts'
import type { ControlActivities, GateAnswer } from '../../src/core/run-contract.ts'
import { closedAt } from '../../src/core/window.ts'
import type { GateRow, RunDetail } from '../../src/store/types.ts'
import type { ControlContext } from './context.ts'

/** While a forge cannot be asked on whom the verdict depends; at last so seldom that a run of weeks keeps its history. */
const ASK_AGAIN_MS = 5 * 60_000
const ASK_AGAIN_AT_LAST_MS = 60 * 60_000

/** Sign-off by people. */
export function createGateActivities(context: ControlContext) {
  const { config, store, log, rights, authorsOf, runOf, repositoryOf } = context

  /** Opens the gate, or looks at it as it stands: reminders that are due go out, and what waited for its window passes. */
  async function openGate(input: Parameters<ControlActivities['openGate']>[0]): Promise<GateAnswer> {
    const { run, repo, gate, environment, deliverables } = input
    const detail = await runOf(run)
    const denied = withheld(detail.secrets, { kind: 'environment', name: environment })
    if (denied !== undefined) throw ApplicationFailure.nonRetryable(denied, 'failed')
    const repository = repositoryOf(repo)
    const settings = repository?.environments[environment]?.gate
    if (!repository || !settings)
      throw ApplicationFailure.nonRetryable(`environment ${environment} has no gate any more`, 'errored')
    // A plan is made once, and may be older than the operator's word which gate guards production.
    const elsewhere = rights.notProduction(repo, environment)
    if (elsewhere !== undefined) throw ApplicationFailure.nonRetryable(`${elsewhere}; push again`, 'errored')
    const subject: Subject = {
      run,
      gate,
      environment,
      commit: detail.change.commit,
      specDigest: input.specDigest,
      deliverables: deliverables.map((one) => `${one.name}=${one.digest}`).sort(),
    }
    const row = await store.gates.open(
      run,
      gate,
      environment,
      await rulesFor(repository, detail, gate, settings, environment),
      subject,
      await whyLost(detail, gate),
    )
    const answer = await look(row)
    await store.events.append(run, `${gate}/opened/${row.id}`, [
      { type: 'gate.opened.v1', gate, environment, needs: answer.sentence },
    ])
    return answer
  }

  /** Why an approval that has moved nothing yet holds no longer, for good: then it is asked anew. */
  async function whyLost(detail: RunDetail, gate: string): Promise<string | undefined> {
    const row = await store.gates.get(detail.id, gate)
    if (row?.state !== 'approved' || (await hasMoved(row))) return undefined
    const not = await whyNotReleased(rights, detail, row, context.clock())
    return not?.isPassing === false ? not.why : undefined
  }

  /** Judged to go, which the promotion has to find out about; or gone, as an earlier version has recorded it. */
  async function hasMoved({ run, movingSince }: GateRow): Promise<boolean> {
    if (movingSince !== undefined) return true
    return (await store.events.of(run)).some(({ event }) => event.type === 'branch.promoted.v1')
  }

  async function rulesFor(
    repository: RepositoryConfig,
    detail: RunDetail,
    name: string,
    settings: EnvironmentGate,
    environment: string,
  ): Promise<GateRules> {
    const known = await store.gates.get(detail.id, name)
    const opened = known?.state === 'open' ? known.rules : undefined
    const kept = known?.state === 'approved' ? known.rules : opened
    const stage = detail.plan?.stages.find((one) => one.kind === 'gate' && one.name === name)
    const ownMs = stage?.kind === 'gate' && stage.expiresSeconds !== undefined ? stage.expiresSeconds * 1000 : Infinity
    const now = context.clock()
    const written = rights.writtenFor(detail.repo, environment, detail.plan) ?? []
    const groups = await rights.filled(detail.repo, written)
    const { window } = settings
    // Those of a gate that is open are those that it was opened with, and whom they have turned out to be; an earlier
    // version has kept none.
    const { identities = [], note } = kept?.identities === undefined ? await authorsOf(repository, detail.change) : kept
    const start = known?.state === 'open' ? known.openedAt : now
    return {
      approvers: [...new Set(groups.flatMap(({ members }) => members))].sort(),
      quorum: quorumOf(groups),
      excluded: [...new Set([...(opened?.excluded ?? []), ...peopleOf(config, identities)])].sort(),
      identities,
      ...(note === undefined ? {} : { note }),
      expiresAt: opened ? (opened.expiresAt ?? 0) : now + Math.min(settings.expiresMs, ownMs),
      groups,
      onExpiry: settings.onExpiry,
      reminders: settings.remindersMs.map((after) => start + after),
      ...(window === undefined ? {} : { window }),
      ...(settings.form === undefined ? {} : { form: settings.form }),
      ...(settings.breakGlassByAuthor ? { breakGlassByAuthor: true } : {}),
    }
  }

  async function look(row: GateRow): Promise<GateAnswer> {
    if (row.state === 'approved') return (await heldByWindow(row)) ?? toGateAnswer(row)
    if (row.state !== 'open') return toGateAnswer(row)
    const now = context.clock()
    const rules = await rulesNow(row)
    const votes = row.votes.filter((one) => one.counts)
    const { may, missing } = standingOf(rules, votes)
    for (const [index, at] of (rules.reminders ?? []).entries()) {
      if (at <= now && missing > 0) await store.gates.remind(row.id, index + 1, may)
    }
    if (votes.length > 0) await store.gates.settle({ gate: row.id, rules })
    const after = await store.gates.get(row.run, row.name)
    return after?.state === 'open' ? openAnswer(after, rules) : toGateAnswer(after ?? row)
  }

  /** Before anybody has voted, whose right it was a moment ago is right enough: no forge is asked. */
  async function rulesNow(row: GateRow): Promise<GateRules> {
    return row.votes.some((one) => one.counts) ? rights.now(row) : row.rules
  }

  /** A retry outside the hours, of what was approved before: the gate holds it until they begin. */
  async function heldByWindow(row: GateRow): Promise<GateAnswer | undefined> {
    const rules = await rights.now(row, [])
    const closed = closedAt(rules.window, context.clock())
    if (closed === undefined || isBrokenNow(rights, rules, row.votes)) return undefined
    if (await hasMoved(row)) return undefined
    const sentence = `${toGateAnswer(row).sentence}; waits ${closed.why}`
    return {
      ...{ kind: 'open', id: row.id, sentence },
      ...(closed.until === undefined ? {} : { lookInMs: Math.max(0, closed.until - context.clock()) }),
    }
  }

  async function castVote(input: Parameters<ControlActivities['castVote']>[0]): Promise<GateAnswer> {
    const { run, gate, key, answer, vote, about } = input
    const claimedBy = String(vote.who ?? '')
    const before = await store.gates.get(run, gate)
    const by = (vote.token === undefined ? undefined : await store.gates.personOfToken(vote.token)) ?? claimedBy
    const judged = await store.gates.vote({
      key,
      run,
      gate,
      answer,
      claimedBy,
      ...(before === undefined ? {} : { now: { gate: before.id, rules: await rights.now(before, [by]) } }),
      channel: vote.channel ?? 'signal',
      trustSignals: config.trustTemporalAccess,
      ...(about === undefined ? {} : { about }),
      ...(vote.token === undefined ? {} : { token: vote.token }),
      ...(vote.comment === undefined ? {} : { comment: vote.comment }),
      ...(vote.fields === undefined ? {} : { fields: vote.fields }),
      ...(vote.breakGlass ? { breakGlass: true, operators: rights.operators } : {}),
    })
    if (!judged.counts) log.info({ run, gate, who: vote.who, why: judged.why }, 'a vote did not count')
    const { by: votedBy, channel, counts, why } = judged
    const row = await store.gates.get(run, gate)
    if (row === undefined) return { kind: 'open', sentence: why ?? '' }
    const { state } = row
    // One that did not count has decided nothing, whatever the gate has come to before it.
    const decided = counts && (state === 'approved' || state === 'rejected') ? state : undefined
    const voted = {
      type: 'gate.voted.v1',
      gate,
      // Whom and what it was judged as: whoever sends a message may write any name and channel beside a token.
      by: votedBy,
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

  async function expireGate({ run, gate }: { run: string; gate: string }) {
    const row = await store.gates.get(run, gate)
    await store.gates.expire(run, gate, row && { gate: row.id, rules: await rights.now(row, []) })
    const answer = await gateAnswer(run, gate)
    if (answer.kind === 'expired' && row !== undefined) {
      await store.events.append(run, `${row.id}/decided`, [{ type: 'gate.decided.v1', gate, verdict: 'expired' }])
    }
    return answer
  }

  async function gateAnswer(run: string, gate: string): Promise<GateAnswer> {
    const row = await store.gates.get(run, gate)
    if (!row) throw ApplicationFailure.nonRetryable(`run ${run} has no gate "${gate}"`, 'errored')
    if (row.state === 'approved') return (await heldByWindow(row)) ?? toGateAnswer(row)
    return row.state === 'open' ? openAnswer(row, await rulesNow(row)) : toGateAnswer(row)
  }

  /** What it waits for, and when it is to be looked at again. */
  function openAnswer(row: GateRow, rules: GateRules): GateAnswer {
    const votes = row.votes.filter((one) => one.counts)
    const now = context.clock()
    const verdict = verdictOf(rules, votes, now, row.objections)
    const closed = verdict.kind === 'open' ? verdict.closed : undefined
    // Whose right nobody can tell now does not count, and keeps the gate from nothing but passing.
    const isUnasked = rules.groups?.some((one) => one.unasked !== undefined) ?? false
    const isAsked = verdict.kind === 'open' && verdict.missing > 0
    const reminder = isAsked ? rules.reminders?.[row.reminded?.count ?? 0] : undefined
    const looks = [reminder, closed?.until, isUnasked ? now + askAgainIn(row, now) : undefined].filter(
      (at) => at !== undefined,
    )
    return {
      ...{ kind: 'open', id: row.id },
      sentence: gateSentence({ ...row, rules, votes, ...(closed === undefined ? {} : { closed }) }),
      // Over by the clock, and not expired: held until the forge can be asked, or by the window.
      ...(rules.expiresAt === undefined || closed !== undefined || (verdict.kind === 'open' && now >= rules.expiresAt)
        ? {}
        : { expiresAt: rules.expiresAt, expiresInMs: Math.max(0, rules.expiresAt - now) }),
      ...(looks.length === 0 ? {} : { lookInMs: Math.max(0, Math.min(...looks) - now) }),
    }
  }

  return { openGate, castVote, expireGate }
}

function askAgainIn({ openedAt, votes }: GateRow, now: number): number {
  const since = Math.max(openedAt, ...votes.map(({ at }) => at))
  return Math.min(ASK_AGAIN_AT_LAST_MS, Math.max(ASK_AGAIN_MS, (now - since) / 2))
}

function variablesOf(row: GateRow): Pick<GateAnswer, 'variables'> {
  const variables = gateVariables(row)
  return Object.keys(variables).length === 0 ? {} : { variables }
}

/** Of a gate that is decided. */
function toGateAnswer(row: GateRow): GateAnswer {
  const { rules } = row
  const approvals = new Set(row.votes.filter((one) => one.counts && one.answer === 'approve').map((one) => one.by))
  switch (row.state) {
    case 'approved':
      return {
        ...{ kind: 'approved', id: row.id },
        sentence: `approved by ${[...approvals].join(', ')}`,
        ...variablesOf(row),
        ...(row.broken === undefined ? {} : { broken: brokenSentence(row.name, row.broken) }),
      }
    case 'rejected': {
      const by = row.votes.find((one) => one.counts && one.answer === 'reject')
      return { kind: 'rejected', id: row.id, sentence: `by ${by?.by ?? '?'}${by?.comment ? `: ${by.comment}` : ''}` }
    }
    case 'expired': {
      const { onExpiry } = rules
      const sentence = `without the ${rules.quorum} approval(s) it needs`
      return { kind: 'expired', id: row.id, sentence, ...(onExpiry === undefined ? {} : { onExpiry }) }
    }
    case 'voided':
    case 'open':
      return { kind: 'open', id: row.id, sentence: `the gate for ${row.environment} is ${row.state}` }
  }
}
