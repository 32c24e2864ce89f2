import { branchName } from '../core/change.ts'
import type { RunRow } from '../store/types.ts'

/** Temporal refuses longer summaries (400 bytes); a title may be anything. */
const LONGEST_TITLE = 80
const KINDS = {
  push: 'push to',
  pull_request: 'pull request from',
  manual: 'asked for on',
  promotion: 'promotion to',
  upstream: 'against a candidate,',
}

/**
 * What the Temporal UI shows beside a run's id: a line, and Markdown. Titles and names of branches are anybody's text, so
 * they stand in code spans, where no link and no picture begins.
 */
export function describeRun(run: RunRow, url: string): { readonly summary: string; readonly details: string } {
  const { change, trigger, number } = run
  const branch = branchName(change.ref)
  const reason = `${KINDS[trigger.kind]} ${branch} by ${change.pusher ?? change.author ?? trigger.requestedBy}`
  const again = run.try > 1 ? ` (try ${run.try})` : ''
  const title = change.title === undefined ? [] : [`- title: ${code(change.title.slice(0, LONGEST_TITLE))}`]
  return {
    summary: oneLine(`${reason}${again}`).slice(0, 2 * LONGEST_TITLE),
    details: [
      `**${code(run.id)}**: ${code(reason)}`,
      '',
      `- commit: ${code(change.commit)}`,
      ...title,
      `- state and events: [${url}/api/v1/runs/${number}](${url}/api/v1/runs/${number})`,
      `- in a terminal: \`penstock run view ${number}\`, \`penstock run logs ${number}\``,
    ].join('\n'),
  }
}

function code(text: string): string {
  return `\`${oneLine(text).replaceAll('`', "'")}\``
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ')
}
