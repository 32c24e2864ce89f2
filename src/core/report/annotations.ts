import type { FailedTest, ReportedRun } from './run.ts'
import { cut, oneLine } from './text.ts'
import type { Annotation } from './types.ts'

/** GitHub takes this many with one call. */
export const MAX_ANNOTATIONS = 50
const WORKSPACE = '/workspace/'
const TITLE_CHARACTERS = 200
const MESSAGE_CHARACTERS = 4_000

/** Where to look: errors of the spec, and failed tests whose report names a file of the repository. */
export function toAnnotations(run: ReportedRun): readonly Annotation[] {
  return [
    ...run.diagnostics.map(({ file, line, message, suggestion }) => ({
      path: file,
      line,
      title: cut(oneLine(message), TITLE_CHARACTERS),
      message: cut(suggestion === undefined ? message : `${message}; ${suggestion}`, MESSAGE_CHARACTERS),
    })),
    ...run.tests.shown.flatMap((test) => {
      const path = pathInRepository(test.file)
      return path === undefined ? [] : [ofTest(test, path)]
    }),
  ]
}

function ofTest({ name, job, line, message }: FailedTest, path: string): Annotation {
  return {
    path,
    line: line === undefined || line < 1 ? 1 : line,
    title: cut(oneLine(`${job}: ${name}`), TITLE_CHARACTERS),
    message: cut(message ?? 'failed', MESSAGE_CHARACTERS),
  }
}

/** Reports are written by the tests: what leads out of the workspace, or nowhere, is no place to point at. */
function pathInRepository(file: string | undefined): string | undefined {
  if (file === undefined) return undefined
  const inside = file.startsWith(WORKSPACE) ? file.slice(WORKSPACE.length) : file
  const parts = inside.split('/').filter((part) => part !== '.' && part !== '')
  if (inside.startsWith('/') || parts.length === 0 || parts.includes('..') || inside.includes('\0')) return undefined
  return parts.join('/')
}
