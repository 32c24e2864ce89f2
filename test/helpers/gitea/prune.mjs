/**
 * Writes `gitea.json`, which lies beside this file: of Gitea's description of its API, as its Go module has it (MIT
 * license), what the Gitea of the tests answers. Fetches the module with `go mod download`:
 *
 *     node test/helpers/gitea/prune.mjs
 *
 * To be run again, and its result committed, when that Gitea learns a call, or for a newer VERSION. A call that the
 * description does not have fails the test that makes it.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { prune } from '../prune.mjs'

const MODULE = 'code.gitea.io/gitea'
const VERSION = 'v1.27.3'

const here = dirname(fileURLToPath(import.meta.url))
const { Dir } = JSON.parse(
  execFileSync('go', ['mod', 'download', '-json', `${MODULE}@${VERSION}`], { encoding: 'utf8', cwd: here }),
)

prune({
  description: JSON.parse(readFileSync(join(Dir, 'templates/swagger/v1_openapi3_json.tmpl'), 'utf8')),
  routes: join(here, 'routes'),
  target: join(here, 'gitea.json'),
  from: `${MODULE} ${VERSION} (MIT)`,
  license: { name: 'MIT', url: 'https://opensource.org/license/mit' },
})
