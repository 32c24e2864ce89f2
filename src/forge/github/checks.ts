import { z } from 'zod'
import { unreachable } from '../../core/unreachable.ts'
import { read } from '../answers.ts'
import type { Annotation, Check, Checks } from '../types.ts'
import type { Connection } from './connect.ts'
import type { Lacks } from './lacks.ts'

const CheckRun = z.object({
  id: z.int().positive(),
  external_id: z.string().nullish(),
  output: z.object({ annotations_count: z.int().nullish() }).nullish(),
})
const CheckRuns = z.object({ check_runs: z.array(CheckRun) })

/** GitHub takes no more in one request; those of a later request are added to the earlier. */
const BATCH = 50
const MAX_TEXT = 65_535
const MAX_TITLE = 255

/** Given to GitHub Apps only. */
export function createChecks({ octokit, at }: Connection, lacks: Lacks): Checks {
  async function find({ commit, name, key }: Check): Promise<z.infer<typeof CheckRun> | undefined> {
    const asked = { ...at, ref: commit, check_name: name, filter: 'all', per_page: 100 } as const
    const { check_runs } = read(CheckRuns, await octokit.rest.checks.listForRef(asked))
    return check_runs.find((one) => one.external_id === key)
  }

  async function put(check: Check): Promise<string> {
    const known = await find(check)
    const annotations = (check.annotations ?? []).map(toAnnotation)
    let sent = known?.output?.annotations_count ?? 0
    let id = known?.id
    do {
      const batch = annotations.slice(sent, sent + BATCH)
      sent += batch.length
      // The state that ends the check goes with the last batch: until then it is shown as running.
      const ofCheck = {
        ...toState(sent < annotations.length ? 'running' : check.state),
        output: {
          title: cut(check.title, MAX_TITLE),
          summary: cut(check.summary, MAX_TEXT),
          ...(check.text === undefined ? {} : { text: cut(check.text, MAX_TEXT) }),
          ...(batch.length === 0 ? {} : { annotations: batch }),
        },
        ...(check.url === undefined ? {} : { details_url: check.url }),
        ...(check.actions === undefined ? {} : { actions: check.actions.map(toAction) }),
      }
      const answer =
        id === undefined
          ? await octokit.rest.checks.create({
              ...at,
              ...ofCheck,
              name: check.name,
              head_sha: check.commit,
              external_id: check.key,
            })
          : await octokit.rest.checks.update({ ...at, ...ofCheck, check_run_id: id })
      id = read(CheckRun, answer).id
    } while (sent < annotations.length)
    return String(id)
  }

  return {
    async put(check) {
      const id = await lacks.unlessLacking('checks', () => put(check))
      return id === undefined ? { kind: 'absent' } : { kind: 'put', id }
    },
  }
}

function toState(state: Check['state']) {
  switch (state) {
    case 'queued':
      return { status: 'queued' } as const
    case 'running':
      return { status: 'in_progress' } as const
    case 'success':
    case 'failure':
    case 'neutral':
    case 'cancelled':
    case 'skipped':
    case 'timed_out':
      return { status: 'completed', conclusion: state } as const
    default:
      return unreachable(state)
  }
}

function toAnnotation({ path, line, endLine, level, title, message }: Annotation) {
  return {
    path,
    start_line: line,
    end_line: endLine ?? line,
    annotation_level: level,
    message: cut(message, MAX_TEXT),
    ...(title === undefined ? {} : { title: cut(title, MAX_TITLE) }),
  }
}

function toAction({ id, label, description }: NonNullable<Check['actions']>[number]) {
  // GitHub refuses the whole check if one of these is longer.
  return { identifier: id, label: cut(label, 20), description: cut(description, 40) }
}

function cut(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text
}
