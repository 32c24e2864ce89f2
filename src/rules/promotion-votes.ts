import { createHash } from 'node:crypto'
import type { Answer } from '../core/approval.ts'
import { commandIn } from '../core/command.ts'
import type { Notice } from '../core/notice.ts'
import type { PullRequests, Review } from '../forge/types.ts'
import type { GateRow } from '../store/types.ts'
import type { PromotionDeps } from './promotion.ts'
import type { Kept } from './types.ts'

/** The channel that a vote is recorded with. */
const CHANNEL = 'github'
const PULL = 'pull/'

interface Said {
  readonly kept: Kept
  readonly gate: GateRow
  readonly pull: number
  /** What was said: one comment or one review is one vote. */
  readonly key: string
  /** The forge's word for who said it. */
  readonly login: string | undefined
  readonly answer: Answer
  readonly comment?: string
  /** Why it cannot count, whoever said it. */
  readonly wrong?: string
}

/** What people say on the pull request of a promotion, judged as votes of every other channel are. */
export function createPromotionVotes({
  store,
  ballots,
  personOf,
}: Pick<PromotionDeps, 'store' | 'ballots' | 'personOf'>) {
  const { promotions, gates } = store

  /** Judged once, then cast or answered; after a kill between the two, what was judged is gone on with. */
  async function take(said: Said): Promise<{ readonly counts: boolean }> {
    const { kept, gate, key, login, answer, comment } = said
    const repo = kept.repository.name
    const before = await promotions.ballot(repo, key)
    if (before?.done) return { counts: before.why === undefined }
    const by = login === undefined ? undefined : personOf(login, kept.repository)
    const ballot = { gate, answer, by: by ?? '', channel: CHANNEL, ...(comment === undefined ? {} : { comment }) }
    const { why } = before ?? (await promotions.judged(repo, key, gate.id, await whyNot(said, by)))
    if (why === undefined) await ballots.cast(ballot, `vote/${repo}/${key}`)
    else {
      if (by !== undefined) await ballots.refused(ballot, why)
      await answerTo(said, why)
    }
    await promotions.settled(repo, key)
    return { counts: why === undefined }
  }

  async function whyNot({ gate, answer, login, wrong }: Said, by: string | undefined): Promise<string | undefined> {
    if (by === undefined) return `the operator's file knows nobody with the login ${login ?? 'that wrote it'}`
    if (wrong !== undefined) return wrong
    const judged = await ballots.judge({ gate, answer, by })
    return judged.counts ? undefined : judged.why
  }

  /** Once for a person and a reason, however often it is said. */
  async function answerTo({ kept, pull, login = 'nobody', answer, gate }: Said, why: string): Promise<void> {
    const about = createHash('sha256').update(`${login}\n${why}`).digest('hex').slice(0, 16)
    const text = `${login}: your “${answer}” for commit ${gate.subject.commit} does not count: ${why}.`
    await kept.forge.comments?.upsert(pull, `vote/${about}`, text)
  }

  async function review(kept: Kept, gate: GateRow, pull: number, { by: login, state, commit }: Review): Promise<void> {
    const said = { kept, gate, pull, login }
    const key = (word: string) => `review/${pull}/${login.toLowerCase()}/${word}/${commit ?? ''}`
    const person = personOf(login, kept.repository)
    const objects = gate.objections.some(({ by }) => by === person)
    const via = `${PULL}${pull}`
    switch (state) {
      case 'approved': {
        if (person !== undefined && objects && isSatisfied(gate, commit)) await gates.withdraw(gate.id, person)
        const about = commit === undefined ? 'the forge does not say which commit it is about' : `it is about ${commit}`
        const wrong = commit === gate.subject.commit ? {} : { wrong: `${about}, and the gate about another` }
        await take({ ...said, key: key(state), answer: 'approve', ...wrong })
        return
      }
      case 'changes_requested': {
        // It holds, and does not end: whoever asks for changes may be satisfied. Only who may end it may hold it.
        const isHeard = person !== undefined && (await ballots.judge({ gate, answer: 'reject', by: person })).counts
        if (isHeard) await gates.object(gate.id, { by: person, why: `requested changes in #${pull}`, via })
        else await take({ ...said, key: key(state), answer: 'reject' })
        return
      }
      case 'dismissed': {
        const approved = await promotions.ballot(kept.repository.name, key('approved'))
        const has = gate.votes.some((one) => one.counts && one.answer === 'approve' && one.by === person)
        if (person === undefined) return
        // A vote that was given stays given; the gate is held, until the same person approves again.
        if (approved?.done && approved.why === undefined && has) {
          await gates.object(gate.id, {
            by: person,
            why: `no longer approves: the review in #${pull} was dismissed`,
            via,
          })
        } else if (objects) await gates.withdraw(gate.id, person)
        return
      }
    }
  }

  return {
    /** The word of each person that stands on the pull request. */
    async reviews(at: Kept & { readonly pulls: PullRequests }, gate: GateRow, pull: number): Promise<void> {
      for (const one of await at.pulls.reviews(pull)) await review(at, gate, pull, one)
      // What was objected on one that is closed holds until it is taken back there, or its author approves here.
      for (const { by, via } of gate.objections) {
        const other = Number(via.slice(PULL.length))
        if (other === pull) continue
        const word = (await at.pulls.reviews(other)).find((one) => personOf(one.by, at.repository) === by)
        const holds =
          word?.state === 'changes_requested' || (word?.state === 'approved' && !isSatisfied(gate, word.commit))
        if (!holds) await gates.withdraw(gate.id, by)
      }
    },

    async comment(
      kept: Kept,
      gate: GateRow,
      { pullRequest: pull, comment: id }: Extract<Notice, { kind: 'comment' }>,
    ): Promise<string | undefined> {
      const comment = await kept.forge.comments?.get(id)
      const command = comment?.pullRequest === pull ? commandIn(comment.body) : undefined
      if (comment === undefined || (command?.kind !== 'approve' && command?.kind !== 'reject')) return undefined
      const words = command.kind === 'approve' ? command.comment : command.reason
      const wrong = comment.edited
        ? 'the comment was changed after it was written; write a new one'
        : command.kind === 'reject' && words === undefined
          ? 'a rejection says why: /reject REASON'
          : undefined
      const { counts } = await take({
        ...{ kept, gate, pull, key: `comment/${id}`, login: comment.by, answer: command.kind },
        ...(words === undefined ? {} : { comment: words }),
        ...(wrong === undefined ? {} : { wrong }),
      })
      return `${command.kind} of ${comment.by ?? 'somebody'} for ${gate.id} ${counts ? 'was cast' : 'does not count'}`
    },
  }
}

/** Whoever approves another commit, say one with what was asked for, has not taken back what was held against this one. */
function isSatisfied(gate: GateRow, commit: string | undefined): boolean {
  return commit === undefined || commit === gate.subject.commit
}
