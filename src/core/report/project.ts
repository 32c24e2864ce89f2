import type { Upstream } from '../change.ts'
import { parseRunId } from '../ids.ts'
import { isOutcome } from '../outcome.ts'
import { supersededBy } from '../superseded.ts'
import { MAX_ANNOTATIONS, toAnnotations } from './annotations.ts'
import type { ReportedRun, ReportedSession } from './run.ts'
import { count, runView, stageViews, type View } from './stages.ts'
import { cut, oneLine, toCode, toDescription, toFence } from './text.ts'
import type {
  CheckAction,
  CheckReport,
  CheckState,
  CommentReport,
  DeploymentReport,
  DesiredState,
  StatusReport,
} from './types.ts'

/** A stage that the trigger leaves out, one that the run has, a run with a sign-off: who of two is believed. */
const OMITTED = 1
const PLANNED = 2
const SIGNED_OFF = 3

/** The contexts `penstock/run` and `penstock/<stage>`. */
const CONTEXT = 'penstock'
const CHECK = 'penstock'
const TEST = 'test'
const COMMENT = 'run'
const TITLE_CHARACTERS = 200
const FAILED_TESTS_SHOWN = 20
/** GitHub takes 65,535 characters; what the text is made of stays far below. */
const LINE_CHARACTERS = 500
const LINES_SHOWN = 20

const MARKS = { pending: '🟡', success: '✅', failure: '❌', error: '⚠️' } as const

/** All that forges are to show of a run: whole states, the same for the same run. */
export function projectRun(run: ReportedRun): readonly DesiredState[] {
  const stages = stageViews(run)
  const whole = runView(run, stages)
  // Nothing is said about the dependent's own commit: it is released, and what fails may be the candidate's fault.
  if (run.change.upstream !== undefined) return [toUpstreamStatus(run, run.change.upstream, whole)]
  const { commit, pullRequest } = run.change
  // A run without a sign-off, for the same commit, must not turn the whole green while a sign-off is open.
  const weight = run.plan?.stages.some(({ kind }) => kind === 'gate') ? SIGNED_OFF : PLANNED
  const check = toCheck(run, whole, stages)
  const status = (content: StatusReport, weight: number): DesiredState => ({
    kind: 'status',
    subject: commit,
    name: content.context,
    weight,
    content,
  })
  return [
    status(toStatus(run, whole), weight),
    ...stages.map((one) => status(toStatus(run, one), PLANNED)),
    // Of a run that is held no stage is known yet, and the one that merging asks for must say why it is not green.
    ...(run.plan === undefined && run.admission !== undefined
      ? [status(toStatus(run, { ...whole, name: TEST }), PLANNED)]
      : []),
    ...(run.plan?.omitted ?? []).map(({ name, reason }) =>
      status(toStatus(run, { name, state: 'success', text: reason, started: false }), OMITTED),
    ),
    { kind: 'check', subject: commit, name: check.name, weight, content: check },
    ...(pullRequest === undefined
      ? []
      : [
          {
            kind: 'comment',
            subject: `pull/${pullRequest.number}`,
            name: CONTEXT,
            weight: PLANNED,
            content: toComment(run, pullRequest.number, whole, stages),
          } as const,
        ]),
    ...toDeployments(run, stages).map(
      (content): DesiredState => ({
        kind: 'deployment',
        subject: commit,
        name: content.environment,
        weight: PLANNED,
        content,
      }),
    ),
  ]
}

function toStatus(run: ReportedRun, { name, state, text }: View): StatusReport {
  const { change, url } = run
  return { commit: change.commit, context: `${CONTEXT}/${name}`, state, description: toDescription(text), url }
}

function toUpstreamStatus(run: ReportedRun, upstream: Upstream, whole: View): DesiredState {
  const repo = parseRunId(run.id)?.repo ?? ''
  const context = dependentContext(repo)
  const description = toDescription(`run ${run.number} of ${repo}: ${whole.text}`)
  const content = { commit: upstream.commit, context, state: whole.state, description, url: run.url }
  return { kind: 'status', repo: upstream.repo, subject: upstream.commit, name: context, weight: PLANNED, content }
}

/** Under which the outcome of a dependent repository stands on the commit of the candidate. */
export function dependentContext(repo: string): string {
  return `${CONTEXT}/dependents/${repo}`
}

function toDeployments(run: ReportedRun, stages: readonly View[]): readonly DeploymentReport[] {
  return (run.plan?.stages ?? []).flatMap((stage) => {
    const view = stages.find(({ name }) => name === stage.name)
    if (stage.kind !== 'deploy' || !view?.started) return []
    const { environment } = stage
    const address = Object.hasOwn(run.addresses, environment) ? run.addresses[environment] : undefined
    const pending = run.waiting?.kind === 'environment' ? 'queued' : 'running'
    return [
      {
        commit: run.change.commit,
        environment,
        identity: `${run.id}/${environment}`,
        state: view.state === 'pending' ? pending : view.state,
        description: toDescription(view.text),
        url: run.url,
        ...(address === undefined ? {} : { address }),
      },
    ]
  })
}

function toCheck(run: ReportedRun, whole: View, stages: readonly View[]): CheckReport {
  const annotations = toAnnotations(run)
  const shown = annotations.slice(0, MAX_ANNOTATIONS)
  const more = annotations.length - shown.length
  const notes = more > 0 ? [`${count(more, 'annotation')} more, not shown.`] : []
  const text = failureText(run)
  return {
    commit: run.change.commit,
    name: checkName(run),
    identity: `${run.id}/${run.try}`,
    state: toCheckState(run, whole),
    title: cut(oneLine(whole.text), TITLE_CHARACTERS),
    summary: paragraphs(stageTable(run, stages), failedTests(run), notes, nextSteps(run, whole)),
    ...(text.length === 0 ? {} : { text: paragraphs(text) }),
    annotations: shown,
    actions: toActions(run),
    url: run.url,
  }
}

/** The release of a commit is another matter than its candidate run: it does not hide behind that run's check. */
function checkName({ plan }: ReportedRun): string {
  const [first] = plan?.stages ?? []
  const isRelease = first !== undefined && plan?.stages.every(({ kind }) => kind === 'deploy')
  return isRelease ? `${CHECK}/${first.name}` : CHECK
}

function toCheckState(run: ReportedRun, whole: View): CheckState {
  if (run.status === 'queued') return { kind: 'queued' }
  if (whole.state === 'pending') return { kind: 'running' }
  const conclusion = run.status === 'canceled' ? 'canceled' : whole.state === 'success' ? 'success' : 'failure'
  return { kind: 'ended', conclusion }
}

/** What a commit's own spec forbids stays forbidden: only what may end otherwise can be tried again. */
function toActions(run: ReportedRun): readonly CheckAction[] {
  if (run.admission === 'held') return []
  const again = run.status === 'failed' || run.status === 'errored' || run.status === 'canceled'
  if (!again || run.diagnostics.length > 0 || supersededBy(run.cancel) !== undefined) return []
  return [{ label: 'Re-run', description: 'Runs the failed stage again', identifier: 'retry' }]
}

function toComment(run: ReportedRun, pullRequest: number, whole: View, stages: readonly View[]): CommentReport {
  const attempt = run.try > 1 ? `, try ${run.try}` : ''
  const heading = [
    `${MARKS[whole.state]} **[Run ${run.number}](${run.url})**${attempt} of ${toCode(run.change.commit.slice(0, 12))}: ${toCode(cut(whole.text, TITLE_CHARACTERS))}`,
  ]
  const body = paragraphs(
    heading,
    stageTable(run, stages),
    failedTests(run),
    problems(run),
    failureText(run),
    nextSteps(run, whole),
  )
  return { pullRequest, marker: COMMENT, body }
}

function paragraphs(...parts: readonly (readonly string[])[]): string {
  return parts
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join('\n'))
    .join('\n\n')
}

function stageTable(run: ReportedRun, stages: readonly View[]): readonly string[] {
  const omitted = run.plan?.omitted ?? []
  if (stages.length + omitted.length === 0) return []
  return [
    '| | stage | |',
    '| --- | --- | --- |',
    ...stages.map(
      (one) => `| ${MARKS[one.state]} | ${toCode(one.name)} | ${toCode(cut(one.text, TITLE_CHARACTERS))} |`,
    ),
    ...omitted.map((one) => `| ➖ | ${toCode(one.name)} | ${toCode(one.reason)} |`),
  ]
}

function failedTests(run: ReportedRun): readonly string[] {
  const { total, failed, shown } = run.tests
  if (shown.length === 0) return []
  const first = shown.slice(0, FAILED_TESTS_SHOWN)
  const more = failed - first.length
  return [
    `**${failed} of ${count(total, 'test')} failed**`,
    '',
    ...first.map((one) => {
      const place = one.file === undefined ? '' : ` at ${toCode(cut(placeOf(one), TITLE_CHARACTERS))}`
      const name = one.className ? `${one.className} ${one.name}` : one.name
      return `- ${toCode(cut(name, TITLE_CHARACTERS))}${place}`
    }),
    ...(more > 0 ? [`- and ${more} more`] : []),
  ]
}

function placeOf({ file = '', line }: { readonly file?: string; readonly line?: number }): string {
  return line === undefined ? file : `${file}:${line}`
}

function problems(run: ReportedRun): readonly string[] {
  return run.diagnostics
    .slice(0, FAILED_TESTS_SHOWN)
    .map((one) => `- ${toCode(`${one.file}:${one.line}:${one.column}`)} ${toCode(cut(one.message, LINE_CHARACTERS))}`)
}

function failureText({ failure }: ReportedRun): readonly string[] {
  if (failure === undefined || failure.lines.length === 0) return []
  const { stage, job, step } = failure
  const lines = failure.lines.slice(-LINES_SHOWN).map((line) => cut(line, LINE_CHARACTERS))
  return [`The end of ${toCode(`${stage} / ${job} / ${step}`)}:`, '', toFence(lines)]
}

/** What whoever may test does now, as it is typed. */
function testersStep({ number, url, sessions }: ReportedRun, session: ReportedSession): string {
  const { stage, job, attempt, address, mayTest, paused } = session
  const which = sessions.length > 1 ? ` --job ${job}` : ''
  const order = (name: string, more = '') => toCode(`penstock session ${name} ${number}${more}${which}`)
  const where = address === undefined ? '' : ` against ${toCode(address)}`
  const resume = paused ? `resume the test with ${order('resume')}, ` : ''
  const who = mayTest.length === 0 ? 'nobody may any more: the operator’s file names none of them' : mayTest.join(', ')
  return [
    `Next: ${resume}look at the [checklist](${url}/sessions/${stage}/${job}/${attempt}) with ${order('show')}, try it${where},`,
    `answer with ${order('answer', ' ITEM passed')} (or failed, blocked), and end with ${order('finish')}.`,
    `May test: ${toCode(who)}.`,
  ].join(' ')
}

function nextSteps(run: ReportedRun, whole: View): readonly string[] {
  const retry = `\`penstock run retry ${run.number}\` runs the failed stage again, and nothing that has passed.`
  if (!isOutcome(run.status)) {
    if (run.admission === 'held') {
      const commit = run.change.commit.slice(0, 12)
      return [`Next: somebody with write access looks at the change and comments \`/ok-to-test ${commit}\`.`]
    }
    if (run.sessions.length > 0) return run.sessions.map((one) => testersStep(run, one))
    if (run.waiting?.kind !== 'approval') return []
    return [`Next: look at it and answer with \`penstock approve ${run.number}\` or \`penstock reject ${run.number}\`.`]
  }
  if (run.diagnostics.length > 0) return ['Next: mend the spec and push; `penstock lint` shows the same before you do.']
  switch (run.status) {
    case 'failed':
      return [`Next: mend it and push. If the change is not to blame: ${retry}`]
    case 'errored':
      return [`Next: nothing says that the change is wrong. ${retry}`]
    case 'canceled': {
      const by = supersededBy(run.cancel)
      return by === undefined ? [`Next: ${retry}`] : [`Next: nothing; run ${by} goes on with a newer commit.`]
    }
    default:
      return whole.state === 'success' ? ['Every stage of this run has passed.'] : []
  }
}
