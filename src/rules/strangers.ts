import { judgeApproval, mayWrite } from '../core/admission.ts'
import { commandIn } from '../core/command.ts'
import { toCode, toDiffFence } from '../core/report/text.ts'
import type { Comment, PullRequest } from '../forge/types.ts'
import type { RunRow, Runs } from '../store/types.ts'
import type { SpecDifference, SpecDifferenceOf } from './spec-difference.ts'
import type { Kept, Rule } from './types.ts'

const SHOWN = 'ok-to-test'
const MOST_LINES = 400
const MOST_CHARACTERS = 30_000

/** `/ok-to-test`: somebody with write access lets a commit of somebody without it run. It runs without secrets. */
export function createOkToTestRule(deps: {
  readonly runs: Runs
  readonly specDifference: SpecDifferenceOf
  /** The person of the operator's file with this login at the repository's forge. */
  readonly personOf: (login: string, repository: Kept['repository']) => string | undefined
}): Rule {
  async function attend(kept: Kept, pullRequest: number, id: string): Promise<string | undefined> {
    const comment = await kept.forge.comments?.get(id)
    const command = comment && commandIn(comment.body)
    if (comment?.by === undefined || command?.kind !== 'ok_to_test' || comment.pullRequest !== pullRequest) return
    if (comment.edited) return 'a comment that was changed lets nothing run'
    const access = (await kept.forge.people?.access(comment.by)) ?? 'none'
    if (!mayWrite(access)) return `${comment.by} may not write here, and so let nothing run`
    const pull = await kept.forge.pullRequests?.get(pullRequest)
    if (pull === undefined || pull.state === 'closed') return `pull request ${pullRequest} is not open`
    const answer = await judge(kept, pull, comment, command.commit)
    // In its own comment: what was asked is answered once, however often it is looked at.
    await kept.forge.comments?.upsert(pullRequest, `answer/${id}`, `@${comment.by} ${answer}.`)
    return answer

    async function judge({ repository }: Kept, pull: PullRequest, { by = '', at }: Comment, named?: string) {
      const head = pull.head.commit
      const [run] = await deps.runs.list({
        ...{ repo: repository.name, ref: refOf(pullRequest), commit: head, limit: 1 },
      })
      if (run === undefined) return `the head is ${head.slice(0, 12)} now, which nobody has looked at`
      if (run.approval?.channel === `comment/${id}`) return `${head.slice(0, 12)} runs, as run ${run.number}`
      if (run.held === undefined) return `${head.slice(0, 12)} waits for nobody to let it run`
      const shown = await showHeld(kept, pull, run, deps.specDifference)
      const judged = judgeApproval({
        ...{ asker: access, head },
        ...(named === undefined ? {} : { named }),
        ...(at === undefined ? {} : { at }),
        ...(shown?.changedAt === undefined ? {} : { shownAt: shown.changedAt }),
      })
      if (judged.kind === 'refused') return judged.sentence
      await deps.runs.admit(run.id, head, deps.personOf(by, kept.repository) ?? by, `comment/${id}`)
      return `${head.slice(0, 12)} runs, as run ${run.number}`
    }
  }

  return {
    name: 'ok to test',
    attend: async (kept, notice) =>
      notice.kind === 'comment' ? attend(kept, notice.pullRequest, notice.comment) : undefined,
  }
}

/** Not the branch: a pull request from the candidate branch is no push to it. */
export function refOf(pullRequest: number): string {
  return `refs/pull/${pullRequest}/head`
}

/** A run whose commit has to be let in, or was. */
type HeldRun = Pick<RunRow, 'number' | 'change' | 'held' | 'approval'>

/**
 * One comment on the pull request, brought up to date: what the head changes of the spec, and how to let it run. Answers
 * the comment, for the time since when it shows this.
 */
export async function showHeld(
  kept: Kept,
  pull: PullRequest,
  run: HeldRun,
  specDifference: SpecDifferenceOf,
): Promise<Comment | undefined> {
  const { comments } = kept.forge
  if (comments === undefined || run.change.commit !== pull.head.commit) return undefined
  const { name } = kept.repository
  const difference = await specDifference({ name, forge: kept.forge }, pull.head.commit, pull.base.branch)
  const { id } = await comments.upsert(pull.number, SHOWN, run.held ? waitingText(run, difference) : admittedText(run))
  return comments.get(id)
}

function waitingText({ number, change, held }: HeldRun, difference: SpecDifference): string {
  const commit = change.commit.slice(0, 12)
  const { base, tip } = difference
  return [
    `🟡 Run ${number} of ${toCode(commit)} waits: ${held}.`,
    tip === undefined
      ? `There is no branch ${toCode(base)} to compare its spec with.`
      : `What it changes of the spec, against ${toCode(base)} at ${toCode(tip.slice(0, 12))}:`,
    ...(tip === undefined ? [] : [differenceText(difference)]),
    'Look at the whole change: its tests run whatever it says, without secrets and privileged pools. To let exactly this ' +
      `commit run, somebody with write access comments \`/ok-to-test ${commit}\`, or says ` +
      `\`penstock run admit ${number} --commit ${change.commit}\`. A new commit waits again.`,
  ].join('\n\n')
}

function differenceText({ text }: SpecDifference): string {
  if (text === undefined) return 'It is too large to be shown here. **Do not let it run unread.**'
  const lines = text.trimEnd().split('\n')
  const shown: string[] = []
  let room = MOST_CHARACTERS
  for (const line of lines.slice(0, MOST_LINES)) {
    room -= line.length
    if (room < 0) break
    shown.push(line)
  }
  const more = lines.length - shown.length
  return [
    ...(shown.length === 0 ? [] : [toDiffFence(shown)]),
    ...(more > 0 ? [`**${more} more lines are not shown here.** Read them before you let it run.`] : []),
  ].join('\n\n')
}

function admittedText({ number, change, approval }: HeldRun): string {
  const commit = toCode(change.commit.slice(0, 12))
  return `Run ${number} of ${commit} was let in by ${toCode(approval?.by ?? '?')}. It runs without secrets.`
}
