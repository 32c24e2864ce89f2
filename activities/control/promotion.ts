import { ApplicationFailure, Context } from '@temporalio/activity'
import { type NotReleased, whyNotReleased } from '../../src/approval/released.ts'
import type { RepositoryConfig } from '../../src/config/types.ts'
import { admit, ON_A_BRANCH, withheld } from '../../src/core/admission.ts'
import { dependentsOf } from '../../src/core/dependents.ts'
import { isOutcome } from '../../src/core/outcome.ts'
import type { ControlActivities } from '../../src/core/run-contract.ts'
import type { Forge } from '../../src/forge/types.ts'
import type { FastForward } from '../../src/git/mirrors.ts'
import type { RunDetail } from '../../src/store/types.ts'
import { beating } from './beating.ts'
import type { ControlContext } from './context.ts'

/** Between looks at the dependents that hold a promotion up. */
const DEPENDENTS_LOOK = '5 s'
/** Between looks at a window that is closed, or a forge that cannot be asked. */
const SHORTEST_WAIT_MS = 1_000
const LONGEST_WAIT_MS = 5 * 60_000
/** Longer than a move of a branch takes with all that it asks: only after a kill does somebody else go on sooner. */
const HOLD_MS = 5 * 60_000
/** Together a minute: as long as a status may take to be at the forge. */
const PROTECTED_TRIES = 30
const PROTECTED_PAUSE_MS = 2_000

/** The production branch moves. */
export function createPromotion(context: ControlContext) {
  const { store, mirrors, rights, runOf, repositoryOf, endedAlready } = context

  /** What the repositories that the operator named as blocking have against this candidate; undefined: nothing. */
  async function blockedBy(
    detail: RunDetail,
    { dependents: { blocking }, name }: RepositoryConfig,
  ): Promise<{ readonly sentence: string; readonly isOver: boolean } | undefined> {
    const events = (await store.events.of(detail.id)).map(({ event }) => event)
    for (const { repo, isBlocking, run: number, refused } of dependentsOf(events, { name, blocking })) {
      if (!isBlocking) continue
      if (refused !== undefined) return { sentence: `${repo} must pass before production: ${refused}`, isOver: true }
      const run = number === undefined ? undefined : await store.runs.get(repo, number)
      if (run === undefined || !isOutcome(run.status)) {
        const sentence =
          run === undefined ? `${repo} has not been started yet` : `run ${run.number} of ${repo} is ${run.status}`
        return { sentence, isOver: false }
      }
      if (run.status === 'succeeded') continue
      const sentence = `run ${run.number} of ${repo} ${run.status}${run.reason ? `: ${run.reason}` : ''}; retry it, then this one`
      return { sentence, isOver: true }
    }
    return undefined
  }

  /** The promotion is tried again, and judged again: nothing is held meanwhile. */
  async function waitFor(detail: RunDetail, { why, closed }: NotReleased): Promise<never> {
    await store.runs.setStatus(detail.id, 'waiting', {
      ...(detail.stage === undefined ? {} : { stage: detail.stage }),
      waiting: { kind: 'approval', sentence: why },
    })
    const delay = closed?.until === undefined ? LONGEST_WAIT_MS : closed.until - context.clock()
    const nextRetryDelay = Math.min(Math.max(delay, SHORTEST_WAIT_MS), LONGEST_WAIT_MS)
    throw ApplicationFailure.create({ message: why, type: 'waits', nextRetryDelay })
  }

  /** While one that blocks is not through, the promotion is tried again: nothing is held meanwhile. */
  async function heldByDependents(detail: RunDetail, repository: RepositoryConfig): Promise<string | undefined> {
    if (repository.dependents.blocking.length === 0) return undefined
    const blocked = await blockedBy(detail, repository)
    if (blocked?.isOver) return blocked.sentence
    if (blocked !== undefined) {
      const { sentence } = blocked
      await store.runs.setStatus(detail.id, 'waiting', {
        ...(detail.stage === undefined ? {} : { stage: detail.stage }),
        waiting: { kind: 'dependents', sentence },
      })
      throw ApplicationFailure.create({ message: sentence, type: 'waits', nextRetryDelay: DEPENDENTS_LOOK })
    }
    await store.runs.setStatus(detail.id, 'running', detail.stage === undefined ? {} : { stage: detail.stage })
    return undefined
  }

  async function promote({ run, gate, branch }: Parameters<ControlActivities['promote']>[0]) {
    const ended = await endedAlready(run)
    if (ended) return { outcome: 'errored', reason: ended } as const
    const detail = await runOf(run)
    const repository = repositoryOf(detail.repo)
    if (!repository)
      return { outcome: 'errored', reason: `${detail.repo} is no longer in the operator's file` } as const
    const denied = withheld(detail.secrets, { kind: 'branch', name: branch })
    if (denied !== undefined) return { outcome: 'failed', reason: denied } as const
    const held = await heldByDependents(detail, repository)
    if (held) return { outcome: 'failed', reason: held } as const
    const other = await store.promotions.hold(detail.repo, branch, run, HOLD_MS)
    if (other !== undefined) throw ApplicationFailure.retryable(`${other} is moving ${branch}`, 'branch_held')
    try {
      return await beating(() => moveBranch(repository, detail, gate, branch))
    } finally {
      await store.promotions.release(detail.repo, branch, run)
    }
  }

  /** One at a time for a branch. */
  async function moveBranch(repository: RepositoryConfig, detail: RunDetail, gate: string, branch: string) {
    const { commit } = detail.change
    const forge = context.forges(repository)
    const admitted = admit('promotion', ON_A_BRANCH)
    if (admitted.kind === 'refused') return { outcome: 'failed', reason: admitted.sentence } as const
    const events = await store.events.of(detail.id)
    const count = (type: 'promotion.judged.v1' | 'promotion.refused.v1') =>
      events.filter(({ event }) => event.type === type && event.branch === branch).length
    // One at a time, so that there is a refusal for each judgement that moved nothing.
    const refusals = count('promotion.refused.v1')
    const isJudged = count('promotion.judged.v1') > refusals
    const row = await store.gates.get(detail.id, gate)
    const refused = async (why: string) => {
      const event = { type: 'promotion.refused.v1', branch, why } as const
      if (row === undefined) await store.events.append(detail.id, `refused/${branch}/${refusals}`, [event])
      else await store.gates.stays(row.id, `refused/${branch}/${refusals}`, event)
    }
    // Moved by a try that was ended before it could say so: the judgement before that move was the one that counts.
    if (!isJudged || (await forge.branchTip(branch)) !== commit) {
      const not = await whyNotReleased(rights, detail, row, context.clock())
      if (not !== undefined && isJudged) await refused(not.why)
      if (not?.isPassing) return waitFor(detail, not)
      if (not !== undefined) return { outcome: 'failed', reason: not.why } as const
      const at = detail.stage === undefined ? {} : { stage: detail.stage }
      if (detail.status === 'waiting') await store.runs.setStatus(detail.id, 'running', at)
      const event = { type: 'promotion.judged.v1', branch, commit } as const
      const key = `judged/${branch}${refusals === 0 ? '' : `/${refusals}`}`
      // Somebody may have rejected it since it was read: whichever is recorded first stands.
      if (row === undefined || !(await store.gates.moves(row.id, key, event)))
        throw ApplicationFailure.retryable('the gate was decided otherwise meanwhile', 'decided')
    }
    const moved = await fastForward(forge, detail, branch)
    if (moved.kind === 'refused') {
      await refused(moved.why)
      return { outcome: 'failed', reason: moved.why } as const
    }
    await store.events.append(detail.id, `promoted/${branch}`, [{ type: 'branch.promoted.v1', branch, commit }])
    // The forge's webhook says the same; whichever comes first makes the run, so a lost delivery loses no release.
    await store.deliveries.record(
      { source: 'promotion', id: detail.id, bodyDigest: commit, event: 'push' },
      {
        kind: 'promotion',
        repo: detail.repo,
        requestedBy: detail.id,
        change: {
          commit,
          ref: `refs/heads/${branch}`,
          ...(moved.kind === 'moved' && moved.from ? { before: moved.from } : {}),
          ...(detail.change.author ? { author: detail.change.author } : {}),
        },
      },
      admitted,
    )
    return { outcome: 'succeeded' } as const
  }

  /**
   * A branch whose rules ask for the status of the sign-off refuses until that has come to the forge, which is a moment
   * after the approval. What is no fast-forward is refused for good.
   */
  async function fastForward(forge: Forge, { repo, change }: RunDetail, branch: string): Promise<FastForward> {
    const { commit } = change
    for (let tries = 1; ; tries++) {
      const moved = await forge.fastForward(branch, commit)
      if (moved.kind !== 'refused' || moved.at === undefined || tries >= PROTECTED_TRIES) return moved
      const source = await forge.source()
      await mirrors.ensure(repo, source, moved.at)
      await mirrors.ensure(repo, source, commit)
      if ((await mirrors.between(repo, moved.at, commit, 0)).behind > 0) return moved
      await Context.current().sleep(PROTECTED_PAUSE_MS)
    }
  }

  return { promote, blockedBy }
}
