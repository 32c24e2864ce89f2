/**
 * Writes `api.github.com.json`, which lies beside this file: of GitHub's description of its API, as the npm package
 * `@octokit/openapi` has it (MIT license; hundreds of megabytes, therefore no dependency), what the fake GitHub of
 * `src/embedded/fake-github` answers and sends. Fetches the package with `npm pack`:
 *
 *     node test/helpers/github/prune.mjs
 *
 * To be run again, and its result committed, when the fake learns a call or an event, or for a newer VERSION.
 * A call that the description does not have fails the test that makes it.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { prune } from '../prune.mjs'

const PACKAGE = '@octokit/openapi'
const VERSION = '23.0.2'
/** What the fake sends, or GitHub sends in the same matters: event and action. */
const DELIVERIES =
  /^(push|ping|pull-request-(opened|closed|reopened|synchronize|edited|(un)?labeled|ready-for-review|converted-to-draft)|pull-request-review-(submitted|edited|dismissed)|issue-comment-(created|edited|deleted)|check-run-.+|merge-group-.+)$/

const here = dirname(fileURLToPath(import.meta.url))

const description = fetchDescription()
prune({
  description,
  routes: join(here, '../../../src/embedded/fake-github/routes'),
  target: join(here, 'api.github.com.json'),
  from: `${PACKAGE} ${VERSION} (MIT)`,
  license: description.info.license,
  webhooks: DELIVERIES,
  also: ['basic-error'],
})

function fetchDescription() {
  const dir = mkdtempSync(join(tmpdir(), 'pst-openapi-'))
  try {
    const [{ filename }] = JSON.parse(
      execFileSync('npm', ['pack', `${PACKAGE}@${VERSION}`, '--json', '--pack-destination', dir], { encoding: 'utf8' }),
    )
    execFileSync('tar', ['xzf', filename, 'package/generated/api.github.com.json'], { cwd: dir })
    return JSON.parse(readFileSync(join(dir, 'package/generated/api.github.com.json'), 'utf8'))
  } finally {
    rmSync(dir, { recursive: true })
  }
}
